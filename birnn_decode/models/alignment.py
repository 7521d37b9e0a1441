"""The alignment model of Karpathy and Fei-Fei: which region of a picture does each word of a sentence belong to?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from birnn_decode.checks import check_choice
from birnn_decode.models.encoder import ImageEncoder
from birnn_decode.models.regions import KINDS
from birnn_decode.scorers.protocol import eval_mode
from birnn_decode.vocabularies import PAD

REGIONS = ("given", *KINDS)
LOSSES = ("margin", "softmax")
LARGEST_BLOCK = 2**20  # similarities of regions and words that are held at a time: 4 MB, which a cache holds
SENTENCES_AT_A_TIME = 500  # that the recurrence reads


class AlignmentModel(nn.Module):
    """The alignment model of Karpathy and Fei-Fei (CVPR 2015, section 3.1).

    The model scores how well a sentence describes a picture. It turns the regions of the picture and the words of the
    sentence into vectors of the same size, with f = max(0, ·)::

        v_i = W_m · CNN(region i) + b_m                                  (1)
        x_t = W_w 1_t,  e_t = f(W_e x_t + b_e)                           (2, 3)
        h_t^f = f(e_t + W_f h_{t-1}^f + b_f)                             (4)
        h_t^b = f(e_t + W_b h_{t+1}^b + b_b)                             (5)
        s_t = f(W_d (h_t^f + h_t^b) + b_d)                               (6)
        S = sum over words t of the maximum over regions i of v_i · s_t  (8)

    The whole picture is one of its regions, and comes first. All pictures have the same number of regions: if a picture
    has fewer, its first region is repeated, which changes no score.

    Args:
        vocabulary: the words that the model knows: one of the vocabularies of ``birnn_decode.vocabularies``.
        feature_size: size of the feature vector CNN(region) of a region.
        embedding_size: size of the word vectors x_t (default: 300).
        hidden_size: size of v_i and of s_t (default: 1000; the paper uses 1,000 to 1,600).
        dropout: share of values that are dropped in training, everywhere but in the recurrence (default: 0).
        regions: what the regions are: ``"whole"``, ``"grid"`` or ``"boxes"`` if `region_features` makes them of
            pictures, or ``"given"`` if their feature vectors come from elsewhere (default: "given").
        unit_regions: whether each v_i is divided by its length. In the paper it is not. Without it, a picture with long
            v_i gets high scores with every sentence (default: False).
        encoder: the image encoder that makes the feature vectors of pictures (default: None).
        word_vectors: word vectors that are not trained, [vocab_size, embedding_size]. None: they are learned
            (default: None).

    Raises:
        ValueError: ``regions`` is not one of these names, or ``word_vectors`` has another shape.

    Example:
        >>> import torch
        >>> from birnn_decode.captions import WordVocabulary
        >>> from birnn_decode.models import AlignmentModel
        >>> words = WordVocabulary(["a", "cat"])
        >>> model = AlignmentModel(words, feature_size=3, embedding_size=4, hidden_size=8)
        >>> pictures = torch.zeros(5, 2, 3)  # five pictures with two regions each
        >>> model(pictures, [words.encode("a cat"), words.encode("cat")]).shape
        torch.Size([5, 2])
    """

    kind: ClassVar[str] = "alignment"
    source_vocabulary: Any = None  # its sources are pictures

    def __init__(
        self,
        vocabulary: Any,
        *,
        feature_size: int,
        embedding_size: int = 300,
        hidden_size: int = 1000,
        dropout: float = 0.0,
        regions: str = "given",
        unit_regions: bool = False,
        encoder: ImageEncoder | None = None,
        word_vectors: torch.Tensor | None = None,
    ):
        super().__init__()
        check_choice("regions", regions, REGIONS)
        if word_vectors is not None and tuple(word_vectors.shape) != (len(vocabulary), embedding_size):
            raise ValueError(
                f"word_vectors must have the shape [vocab_size, embedding_size], ({len(vocabulary)}, {embedding_size}),"
                f" got {tuple(word_vectors.shape)}"
            )
        self.config = {
            "kind": self.kind,
            "feature_size": feature_size,
            "embedding_size": embedding_size,
            "hidden_size": hidden_size,
            "dropout": dropout,
            "regions": regions,
            "unit_regions": unit_regions,
        }
        self.vocabulary = vocabulary
        self.feature_size = feature_size
        self.unit_regions = unit_regions
        self.encoder = encoder
        self.feature_mean: torch.Tensor
        self.feature_scale: torch.Tensor
        self.register_buffer("feature_mean", torch.zeros(feature_size))
        self.register_buffer("feature_scale", torch.ones(feature_size))
        self.embedding = nn.Embedding(len(vocabulary), embedding_size)  # W_w
        if word_vectors is not None:
            self.embedding.weight.data.copy_(word_vectors)
            self.embedding.weight.requires_grad_(False)
        self.word_to_hidden = nn.Linear(embedding_size, hidden_size)  # W_e, b_e
        self.forward_to_hidden = nn.Linear(hidden_size, hidden_size)  # W_f, b_f
        self.backward_to_hidden = nn.Linear(hidden_size, hidden_size)  # W_b, b_b
        self.output = nn.Linear(hidden_size, hidden_size)  # W_d, b_d
        self.region_to_hidden = nn.Linear(feature_size, hidden_size)  # W_m, b_m
        # So that the first scores are not large against the margin of 1. A training that begins with steps that are too
        # large makes every s_t zero, and with plain gradient descent it never gets out of that.
        self.region_to_hidden.weight.data /= hidden_size**0.5
        self.dropout = nn.Dropout(dropout)

    def standardise(self, features: torch.Tensor) -> None:
        """Scale all later features by the mean and the standard deviation of these.

        Call this before the training: what the model learns depends on the scale.

        Args:
            features: feature vectors of the regions of the training pictures, [..., feature_size]. A feature that does
                not vary becomes 0.
        """
        rows = features.flatten(0, -2)
        self.feature_mean.copy_(rows.mean(dim=0))
        scale = rows.std(dim=0, unbiased=False)
        # As of a captioner: dividing by nearly 0 would amplify rounding errors.
        self.feature_scale.copy_(torch.where(scale > 1e-6 * scale.max(), scale, torch.inf))

    def regions(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the vectors v_i of regions, Eq. 1; of length 1 with ``unit_regions``.

        Args:
            features: feature vectors of regions, [..., feature_size].

        Returns:
            The vectors, [..., hidden_size].

        Raises:
            ValueError: the feature vectors have another size.
        """
        vectors = self.region_to_hidden(self.dropout(self._scaled(features)))
        return nn.functional.normalize(vectors, dim=-1) if self.unit_regions else vectors

    def words(self, sentences: Sequence[Sequence[int]]) -> torch.Tensor:
        """Compute the vectors s_t of words, Eq. 2 to 6.

        Args:
            sentences: the ids of the words of each sentence.

        Returns:
            The vectors of all words, sentence after sentence, [words, hidden_size].

        Raises:
            ValueError: there is no sentence, or a sentence without words.
        """
        lengths = [len(words) for words in sentences]
        if not lengths or not min(lengths):
            raise ValueError("give at least one sentence, and only sentences with at least one word")
        longest = max(lengths)
        device = self.output.weight.device
        padded = torch.tensor([[*words, *[PAD] * (longest - len(words))] for words in sentences], device=device)
        there = torch.arange(longest, device=device) < torch.tensor(lengths, device=device)[:, None]
        read = torch.relu(self.word_to_hidden(self.dropout(self.embedding(padded))))  # e_t: [sentences, longest, h]
        beginning = read.new_zeros(len(lengths), read.shape[-1])
        forward, backward = beginning, beginning
        left: list[torch.Tensor] = []
        right: list[torch.Tensor] = []
        for at in range(longest):
            forward = torch.relu(read[:, at] + self.forward_to_hidden(forward))
            left.append(forward)
        for at in reversed(range(longest)):
            # Behind the last word the state is 0, as before the first word.
            backward = torch.relu(read[:, at] + self.backward_to_hidden(backward)) * there[:, at, None]
            right.append(backward)
        both = torch.stack(left, dim=1) + torch.stack(right[::-1], dim=1)
        return torch.relu(self.output(self.dropout(both[there])))

    def forward(self, features: torch.Tensor, sentences: Sequence[Sequence[int]]) -> torch.Tensor:
        """Compute the scores S of all pictures and sentences, Eq. 8.

        Args:
            features: feature vectors of the regions of each picture, [pictures, regions, feature_size].
            sentences: the ids of the words of each sentence.

        Returns:
            The scores, [pictures, sentences].

        Raises:
            ValueError: the features have another shape, or there is no sentence, or one without words.
        """
        self._check(features, "pictures", "regions")
        return _sums(self.regions(features), self.words(sentences), sentences)

    @torch.no_grad()
    def score(self, features: torch.Tensor, sentences: Sequence[Sequence[int]]) -> torch.Tensor:
        """Compute the scores of many pictures and sentences, in parts of bounded memory.

        A sentence that occurs several times is read once. If features have fewer numbers than v_i, word vectors are
        mapped to the size of the features, because v_i · s_t = CNN(region i) · (W_m^T s_t) + b_m · s_t. The scores are
        those of `AlignmentModel.forward` in eval mode, up to rounding.

        Args:
            features: as for `AlignmentModel.forward`.
            sentences: as for `AlignmentModel.forward`.

        Returns:
            The scores, [pictures, sentences].

        Raises:
            ValueError: as for `AlignmentModel.forward`.

        Example:
            >>> import torch
            >>> from birnn_decode.captions import WordVocabulary
            >>> from birnn_decode.models import AlignmentModel
            >>> model = AlignmentModel(WordVocabulary(["a", "cat"]), feature_size=3, embedding_size=4, hidden_size=8)
            >>> pictures, sentences = torch.ones(5, 2, 3), [[4, 5], [4], [4, 5]]
            >>> torch.allclose(model.score(pictures, sentences), model(pictures, sentences), atol=1e-5)
            True
        """
        self._check(features, "pictures", "regions")
        numbers = {words: number for number, words in enumerate(dict.fromkeys(map(tuple, sentences)))}
        distinct = list(numbers)
        short = self.feature_size < self.output.out_features
        parts = torch.split(features, max(1, LARGEST_BLOCK // (features.shape[1] * self.output.out_features)))
        matrix = torch.cat([self.region_to_hidden.weight, self.region_to_hidden.bias[:, None]], dim=1)
        columns = []
        with eval_mode([self]):
            vectors = torch.cat([self._short(part) if short else self.regions(part) for part in parts])
            for begin in range(0, max(1, len(distinct)), SENTENCES_AT_A_TIME):
                some = distinct[begin : begin + SENTENCES_AT_A_TIME]
                words = self.words(some)
                if short:
                    words = words @ matrix
                at_a_time = max(1, LARGEST_BLOCK // (len(words) * vectors.shape[1]))
                columns.append(torch.cat([_sums(own, words, some) for own in torch.split(vectors, at_a_time)]))
        places = torch.tensor([numbers[tuple(words)] for words in sentences], device=vectors.device)
        return torch.cat(columns, dim=1)[:, places]

    @torch.no_grad()
    def align(self, features: torch.Tensor, sentence: Sequence[int], smoothing: float = 0.0) -> list[int]:
        """Find the region that each word belongs to.

        Without smoothing, each word goes to the region with the largest v_i · s_t. With smoothing, neighbouring words
        tend to the same region: the alignment maximises the sum of v_i · s_t over words, plus ``smoothing`` for each
        pair of neighbouring words with the same region (the Markov chain of Eq. 10 to 12). The maximum is exact.

        Args:
            features: feature vectors of the regions of one picture, [regions, feature_size].
            sentence: the ids of the words.
            smoothing: the weight β of equal neighbours, at least 0 (default: 0).

        Returns:
            For each word the number of its region. Without smoothing, this is the first one of equally good regions.

        Raises:
            ValueError: ``smoothing`` is negative, the features have another shape, or the sentence has no word.

        Example:
            >>> import torch
            >>> from birnn_decode.captions import WordVocabulary
            >>> from birnn_decode.models import AlignmentModel
            >>> model = AlignmentModel(WordVocabulary(["a", "cat"]), feature_size=3, embedding_size=4, hidden_size=8)
            >>> len(model.align(torch.ones(2, 3), [4, 5]))
            2
        """
        if not smoothing >= 0:
            raise ValueError(f"smoothing must be at least 0, got {smoothing}")
        self._check(features, "regions")
        with eval_mode([self]):
            similarities = (self.words([sentence]) @ self.regions(features).T).double().cpu().numpy()
        return best_chain(similarities, smoothing)

    def _short(self, features: torch.Tensor) -> torch.Tensor:
        """The vectors c of regions with v_i = (W_m, b_m) c, [..., feature_size + 1]."""
        scaled = self._scaled(features)
        vectors = torch.cat([scaled, torch.ones_like(scaled[..., :1])], dim=-1)
        if not self.unit_regions:
            return vectors
        return vectors / self.region_to_hidden(scaled).norm(dim=-1, keepdim=True).clamp_min(1e-12)

    @staticmethod
    def _check(features: torch.Tensor, *axes: str) -> None:
        if features.ndim != len(axes) + 1 or not features.shape[-2]:
            raise ValueError(
                f"features must have the shape [{', '.join(axes)}, feature_size], with at least one region, got "
                f"{list(features.shape)}"
            )

    def _scaled(self, features: torch.Tensor) -> torch.Tensor:
        if features.shape[-1] != self.feature_size:
            raise ValueError(
                f"regions of this model have feature vectors of {self.feature_size} numbers, got {features.shape[-1]}"
            )
        return (features.to(self.output.weight) - self.feature_mean) / self.feature_scale


def _sums(regions: torch.Tensor, words: torch.Tensor, sentences: Sequence[Sequence[int]]) -> torch.Tensor:
    """The scores [pictures, sentences] of vectors of regions [pictures, regions, h] and of words [words, h]."""
    similarities = regions @ words.T  # [pictures, regions, words]
    best = similarities.amax(dim=1)  # [pictures, words]
    lengths = torch.tensor([len(own) for own in sentences], device=best.device)
    owner = torch.repeat_interleave(lengths)
    return best.new_zeros(len(best), len(lengths)).index_add(1, owner, best)


def best_chain(similarities: np.ndarray, smoothing: float) -> list[int]:
    """Find the best path through a Markov chain by dynamic programming (Viterbi).

    Args:
        similarities: what each word gains in each region, [words, regions].
        smoothing: what a pair of neighbouring words gains if both are in the same region, at least 0.

    Returns:
        The number of the region of each word.
    """
    best = similarities[0]
    came: list[np.ndarray] = []
    here = np.arange(similarities.shape[1])
    for gains in similarities[1:]:
        # A word stays in the region of the word before, or comes from the best region of all.
        source = int(best.argmax())
        stays = best + smoothing > best[source]
        came.append(np.where(stays, here, source))
        best = np.where(stays, best + smoothing, best[source]) + gains
    path = [int(best.argmax())]
    for before in reversed(came):
        path.append(int(before[path[-1]]))
    return path[::-1]


def ranking_loss(
    scores: torch.Tensor, owner: Sequence[int], right: torch.Tensor | None = None, kind: str = "margin"
) -> torch.Tensor:
    """Compute the ranking loss of a batch, for each sentence.

    ``"margin"`` is the structured loss of Karpathy and Fei-Fei (Eq. 9): a sentence must have a score with its own
    picture that is higher, by 1, than with any other picture, and than the score of any other sentence with this
    picture. The loss is the sum of the amounts by which the margins are missed. The paper's sums include each right
    pair as well, which adds a constant; here it is left out.

    ``"softmax"`` is the negative log-probability of the own picture among all pictures, plus that of the own sentence
    among all sentences, each under a softmax of the scores. It does not insist on a margin between pictures that no
    sentence can tell apart.

    Args:
        scores: scores of all pictures and sentences of the batch, [pictures, sentences].
        owner: for each sentence the row of its picture.
        right: further pairs that are right, such as two pictures with the same sentence; they are left out of the loss.
            bool [pictures, sentences]. None: a sentence is right for its own picture alone (default: None).
        kind: ``"margin"`` or ``"softmax"`` (default: "margin").

    Returns:
        The loss of each sentence, [sentences].

    Raises:
        ValueError: ``kind`` is neither of the two.

    Example:
        >>> import torch
        >>> from birnn_decode.models import ranking_loss
        >>> ranking_loss(torch.tensor([[3.0, 2.5], [1.0, 4.0]]), owner=[0, 1]).tolist()
        [0.5, 0.0]
    """
    check_choice("kind", kind, LOSSES)
    rows = torch.as_tensor(owner, device=scores.device)
    columns = torch.arange(len(rows), device=scores.device)
    wrong = torch.ones_like(scores, dtype=torch.bool) if right is None else ~right.to(scores.device)
    wrong = wrong & (rows != torch.arange(len(scores), device=scores.device)[:, None])
    own = scores[rows, columns]
    if kind == "margin":
        of_pictures = torch.relu(scores - own + 1) * wrong  # [pictures, sentences]: other pictures, the same sentence
        of_sentences = torch.relu(scores[rows] - own[:, None] + 1) * wrong[rows]  # [sentences, other sentences]
        return of_pictures.sum(dim=0) + of_sentences.sum(dim=1)
    others = scores.masked_fill(~wrong, -torch.inf)
    of_pictures = torch.logaddexp(others.logsumexp(dim=0), own)
    of_sentences = torch.logaddexp(others[rows].logsumexp(dim=1), own)
    return of_pictures + of_sentences - 2 * own
