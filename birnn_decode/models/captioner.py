"""The reference captioners: Karpathy and Fei-Fei's multimodal RNN, an LSTM and a GRU, forward or backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from birnn_decode.checks import check_choice
from birnn_decode.models.encoder import ImageEncoder
from birnn_decode.scorers.reader import Reader
from birnn_decode.scorers.recurrent import run_layers
from birnn_decode.vocabularies import END, PAD, START, UNK

PICTURES_AT_A_TIME = 256


class Captioner(Reader, nn.Module):
    """The base class of the reference captioners.

    A captioner reads in one direction and is a `Scorer`. Dropout is applied to the image's features, the word vectors
    and the output, not inside the recurrence (Karpathy and Fei-Fei, CVPR 2015, section 3.2). Features are scaled first,
    see `Captioner.standardise`. Use a subclass: `LSTMCaptioner`, `GRUCaptioner` or `MultimodalRNN`.

    Args:
        vocabulary: the words that the captioner can write: one of the vocabularies of ``birnn_decode.vocabularies``.
        direction: ``"forward"`` to read START, first word, …; ``"backward"`` to read END, last word, ….
        feature_size: size of the images' feature vectors. 0: a language model, which takes None as the image.
        embedding_size: size of the word vectors (default: 256).
        hidden_size: size of the recurrent state (default: 512).
        dropout: share of values that are dropped in training (default: 0).
        encoder: turns pictures into feature vectors. None: images are given as feature vectors (default: None).

    Raises:
        ValueError: ``direction`` is neither of the two, or ``feature_size`` is not that of the encoder.

    Example:
        >>> import torch
        >>> from birnn_decode.captions import WordVocabulary
        >>> from birnn_decode.models import GRUCaptioner
        >>> words = WordVocabulary(["a", "cat"])
        >>> model = GRUCaptioner(words, direction="forward", feature_size=3, embedding_size=4, hidden_size=8)
        >>> model(torch.zeros(1, 3), torch.tensor([[model.start_token, *words.encode("a cat")]])).shape
        torch.Size([1, 3, 6])
    """

    kind: ClassVar[str]
    source_vocabulary: Any = None  # a captioner has no words but those that it writes

    def __init__(
        self,
        vocabulary: Any,
        *,
        direction: str,
        feature_size: int,
        embedding_size: int = 256,
        hidden_size: int = 512,
        dropout: float = 0.0,
        encoder: ImageEncoder | None = None,
    ):
        super().__init__()
        check_choice("direction", direction, ("forward", "backward"))
        if encoder is not None and encoder.feature_size != feature_size:
            raise ValueError(
                f"feature_size must be that of the encoder, {encoder.feature_size} numbers, got {feature_size}"
            )
        self.config = {
            "kind": self.kind,
            "direction": direction,
            "feature_size": feature_size,
            "embedding_size": embedding_size,
            "hidden_size": hidden_size,
            "dropout": dropout,
        }
        self.vocabulary = vocabulary
        self.vocab_size = len(vocabulary)
        self.direction = direction
        self.start_token, self.end_token = (START, END) if direction == "forward" else (END, START)
        self.never = frozenset({PAD, START, END, UNK})
        self.feature_size = feature_size
        self.encoder = encoder
        self.feature_mean: torch.Tensor
        self.feature_scale: torch.Tensor
        self.register_buffer("feature_mean", torch.zeros(feature_size))
        self.register_buffer("feature_scale", torch.ones(feature_size))
        self.embedding = nn.Embedding(self.vocab_size, embedding_size)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, self.vocab_size)

    def standardise(self, features: torch.Tensor) -> None:
        """Scale all later features by the mean and the standard deviation of these.

        Call this before the training: what a captioner learns depends on the scale.

        Args:
            features: feature vectors of the training images, [images, feature_size]. Afterwards they have mean 0 and
                standard deviation 1. A feature that does not vary becomes 0.
        """
        self.feature_mean.copy_(features.mean(dim=0))
        scale = features.std(dim=0, unbiased=False)
        # A feature that never varies is divided by infinity: dividing by nearly 0 would amplify rounding errors.
        self.feature_scale.copy_(torch.where(scale > 1e-6 * scale.max(), scale, torch.inf))

    def begin(self, features: torch.Tensor) -> Any:
        """Return the state before START is read.

        Args:
            features: scaled feature vectors of the images, [N, feature_size].

        Returns:
            The state of one row per image.
        """
        raise NotImplementedError

    def recur(self, vectors: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Read word vectors.

        Args:
            vectors: word vectors, [R, t, embedding_size].
            state: the state before the first of them.

        Returns:
            The hidden states [R, t, hidden_size], and the state after the last word.
        """
        raise NotImplementedError

    def forward(self, features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Compute the logits of the next token after each token.

        Args:
            features: feature vectors of the images, [N, feature_size].
            tokens: token ids in reading order that begin with ``start_token``, [N, t].

        Returns:
            Logits [N, t, vocab_size].
        """
        hidden, _ = self.read(tokens, self.start(features))
        return self.project(hidden)

    def encode(self, images: Sequence[Any]) -> torch.Tensor:
        """Turn images into feature vectors.

        Args:
            images: for each image a feature vector (array or tensor [feature_size]) or a picture that `open_picture`
                takes; if ``feature_size`` is 0, None for each image.

        Returns:
            Feature vectors [N, feature_size], not yet scaled.

        Raises:
            OSError: a picture cannot be read.
            TypeError: an image is neither a vector nor a picture.
            ValueError: a vector has the wrong size or values that are not finite; there is a picture and no encoder; or
                there is an image and the captioner takes none.
        """
        weight = self.output.weight
        features = weight.new_zeros(len(images), self.feature_size)
        if not self.feature_size:
            if any(image is not None for image in images):
                raise ValueError("this captioner was trained without images: give None as the image")
            return features
        pictures = {}
        for number, image in enumerate(images):
            if isinstance(image, (np.ndarray, torch.Tensor)) and image.ndim == 1:
                features[number] = self._vector(image)
            elif self.encoder is not None:
                pictures[number] = self.encoder.prepare(image)
            else:
                given = f"an array of shape {tuple(image.shape)}" if hasattr(image, "shape") else repr(image)
                raise ValueError(
                    f"this captioner has no image encoder: give one feature vector of {self.feature_size} numbers per "
                    f"image, several in a list; got {given}"
                )
        if self.encoder is not None and pictures:
            prepared = torch.stack(list(pictures.values())).to(weight.device)
            encoded = torch.cat([self.encoder(some) for some in torch.split(prepared, PICTURES_AT_A_TIME)])
            features = features.index_copy(0, self.tokens(list(pictures)), encoded.to(weight))
        return features

    def start(self, context: torch.Tensor) -> Any:
        """Return the state before anything is read, one row per image.

        Args:
            context: feature vectors that `Captioner.encode` returned, [N, feature_size].

        Returns:
            The state.
        """
        return self.begin(self.dropout((context - self.feature_mean) / self.feature_scale))

    def read(self, tokens: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Read tokens.

        Args:
            tokens: token ids, [R, t].
            state: the state before the first of them.

        Returns:
            The hidden states [R, t, hidden_size], and the state after the last token.
        """
        return self.recur(self.dropout(self.embedding(tokens)), state)

    def project(self, hidden: torch.Tensor) -> torch.Tensor:
        """Compute the logits of the next token.

        Args:
            hidden: hidden states, [..., hidden_size].

        Returns:
            Logits [..., vocab_size].
        """
        return self.output(self.dropout(hidden))

    def tokens(self, tokens: Any) -> torch.Tensor:
        """Return token ids as a tensor on the captioner's device.

        Args:
            tokens: token ids: nested lists, an array or a tensor.

        Returns:
            The ids, int64.
        """
        return torch.as_tensor(tokens, dtype=torch.int64, device=self.output.weight.device)

    def padded(self, captions: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return captions as rows of one length, in reading order.

        Args:
            captions: the ids of the words of each caption, in sentence order.

        Returns:
            Token ids [captions, longest + 2]: ``start_token``, the words, ``end_token``, and PAD to the end.
        """
        words = captions if self.direction == "forward" else [caption[::-1] for caption in captions]
        longest = max(map(len, captions), default=0)
        return self.tokens([[self.start_token, *ids, self.end_token, *[PAD] * (longest - len(ids))] for ids in words])

    def _vector(self, vector: np.ndarray | torch.Tensor) -> torch.Tensor:
        if len(vector) != self.feature_size:
            raise ValueError(f"a feature vector of this captioner has {self.feature_size} numbers; got {len(vector)}")
        given = torch.from_numpy(vector.copy()) if isinstance(vector, np.ndarray) else vector
        numbers = given.to(self.output.weight)
        if not numbers.isfinite().all():
            raise ValueError(f"the image's feature vector has NaN or infinite values (as {numbers.dtype})")
        return numbers


def check_together(forward: Captioner, backward: Captioner, what: str) -> None:
    """Check that two captioners can be used together.

    Args:
        forward: the captioner that reads forward.
        backward: the captioner that reads backward.
        what: what they are, for the message.

    Raises:
        ValueError: they have other directions, different words of the target or of the source, or different encoders.
    """
    if (forward.direction, backward.direction) != ("forward", "backward"):
        raise ValueError(
            f"{what} must read forward and backward, but they read {forward.direction} and {backward.direction}"
        )
    if forward.vocabulary != backward.vocabulary:
        raise ValueError(f"{what} must have the same words at the same ids")
    if forward.source_vocabulary != backward.source_vocabulary:
        raise ValueError(f"{what} must have the same source vocabulary")
    if forward.encoder is not backward.encoder:
        raise ValueError(f"{what} must share one image encoder, but each has its own")


class MultimodalRNN(Captioner):
    """The multimodal recurrent neural network of Karpathy and Fei-Fei (CVPR 2015).

    The model is given by equations 13 to 15 of the paper, with h_0 = 0, x_1 = START and f = max(0, ·)::

        b_v = W_hi · CNN(I)                                              (13)
        h_t = f(W_hx x_t + W_hh h_{t-1} + b_h + 1(t = 1) ⊙ b_v)          (14)
        y_t = softmax(W_oh h_t + b_o)                                    (15)

    The network sees the image at the first step only. Its state is the term that is added to W_hx x_t + b_h at the next
    token: b_v before START is read, and W_hh h_{t-1} afterwards.

    Args:
        vocabulary: see `Captioner`.
        **settings: the other arguments of `Captioner`.

    Example:
        >>> from birnn_decode.captions import WordVocabulary
        >>> from birnn_decode.models import MultimodalRNN
        >>> MultimodalRNN(WordVocabulary(["a", "cat"]), direction="backward", feature_size=3).start_token
        2
    """

    kind = "multimodal-rnn"
    batch_axis = 0

    def __init__(self, vocabulary: Any, **settings: Any):
        super().__init__(vocabulary, **settings)
        embedding_size, hidden_size = self.embedding.embedding_dim, self.output.in_features
        if self.feature_size:
            self.image_to_hidden = nn.Linear(self.feature_size, hidden_size, bias=False)  # W_hi
        self.word_to_hidden = nn.Linear(embedding_size, hidden_size)  # W_hx, b_h
        self.hidden_to_hidden = nn.Linear(hidden_size, hidden_size, bias=False)  # W_hh

    def begin(self, features: torch.Tensor) -> torch.Tensor:
        """Return b_v of Eq. 13, or 0 if there is no image.

        Args:
            features: scaled feature vectors of the images, [N, feature_size].

        Returns:
            The state [N, hidden_size].
        """
        no_image = features.new_zeros(len(features), self.output.in_features)
        return self.image_to_hidden(features) if self.feature_size else no_image

    def recur(self, vectors: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute Eq. 14 for each word vector.

        Args:
            vectors: word vectors, [R, t, embedding_size].
            state: the state before the first of them, [R, hidden_size].

        Returns:
            The hidden states [R, t, hidden_size], and the state after the last word.
        """
        hidden = []
        for word in self.word_to_hidden(vectors).unbind(1):
            hidden.append(torch.relu(word + state))
            state = self.hidden_to_hidden(hidden[-1])
        return torch.stack(hidden, dim=1), state


class _SeesAlways(Captioner):
    """A captioner around a recurrent layer of PyTorch, given the image with every word."""

    layer: ClassVar[type[nn.LSTM] | type[nn.GRU]]
    batch_axis = (1, 0)  # of the layer's memory, and of the image

    def __init__(self, vocabulary: Any, **settings: Any):
        super().__init__(vocabulary, **settings)
        embedding_size = self.embedding.embedding_dim
        if self.feature_size:
            self.image_to_input = nn.Linear(self.feature_size, embedding_size)
        inputs = 2 if self.feature_size else 1  # the word, and the image
        self.recurrent = self.layer(inputs * embedding_size, self.output.in_features, batch_first=True)

    def begin(self, features: torch.Tensor) -> Any:
        """Return an empty memory, and the image.

        Args:
            features: scaled feature vectors of the images, [N, feature_size].

        Returns:
            The memory, zeros [1, N, hidden_size] or a pair of them, and the image, [N, embedding_size].
        """
        seen = torch.tanh(self.image_to_input(features)) if self.feature_size else features
        zeros = seen.new_zeros(1, len(seen), self.output.in_features)
        return (zeros, zeros) if self.layer is nn.LSTM else zeros, seen

    def recur(self, vectors: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Read word vectors in one call of the recurrent layer, see `Captioner.recur`."""
        memory, seen = state
        if self.feature_size:
            vectors = torch.cat([vectors, seen[:, None].expand(-1, vectors.shape[1], -1)], dim=-1)
        hidden, memory = run_layers(self.recurrent, vectors, memory)
        return hidden, (memory, seen)


class LSTMCaptioner(_SeesAlways):
    """A captioner around a ``torch.nn.LSTM``, given the image with every word.

    Args:
        vocabulary: see `Captioner`.
        **settings: the other arguments of `Captioner`.

    Example:
        >>> from birnn_decode.captions import WordVocabulary
        >>> from birnn_decode.models import LSTMCaptioner
        >>> LSTMCaptioner(WordVocabulary(["a", "cat"]), direction="forward", feature_size=3).vocab_size
        6
    """

    kind = "lstm"
    layer = nn.LSTM


class GRUCaptioner(_SeesAlways):
    """A captioner around a ``torch.nn.GRU``, given the image with every word.

    Args:
        vocabulary: see `Captioner`.
        **settings: the other arguments of `Captioner`.

    Example:
        >>> from birnn_decode.captions import WordVocabulary
        >>> from birnn_decode.models import GRUCaptioner
        >>> language_model = GRUCaptioner(WordVocabulary(["a", "cat"]), direction="forward", feature_size=0)
        >>> language_model.encode([None]).shape  # a language model takes None as the image
        torch.Size([1, 0])
    """

    kind = "gru"
    layer = nn.GRU
