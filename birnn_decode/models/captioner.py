"""The reference captioners: Karpathy and Fei-Fei's multimodal RNN, an LSTM and a GRU, forward or backward."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import nn

from birnn_decode.captions.vocabulary import END, PAD, START, UNK, WordVocabulary
from birnn_decode.models.encoder import ImageEncoder
from birnn_decode.scorers.reader import Reader
from birnn_decode.scorers.recurrent import run_layers

PICTURES_AT_A_TIME = 256


class Captioner(Reader, nn.Module):
    """A captioner of one reading direction, and a `Scorer`; the base of the three below.

    Dropout is on the image's features, the word vectors and the output, not inside the recurrence (as Karpathy and
    Fei-Fei, CVPR 2015, section 3.2). Features are brought to a common scale first, see `standardise`.

    Args:
        vocabulary: its words are what the captioner can write.
        direction: ``"forward"``: reads START, first word, …; ``"backward"``: END, last word, ….
        feature_size: of the images' feature vectors; 0: a language model, which knows no images and is given None for
            each.
        embedding_size: of the word vectors.
        hidden_size: of the recurrent state.
        dropout: share of values left out while training.
        encoder: makes feature vectors of pictures; None: images come as feature vectors.

    Raises:
        ValueError: the direction is neither, or the encoder's vectors have another size.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        vocabulary: WordVocabulary,
        *,
        direction: str,
        feature_size: int,
        embedding_size: int = 256,
        hidden_size: int = 512,
        dropout: float = 0.0,
        encoder: ImageEncoder | None = None,
    ):
        super().__init__()
        if direction not in ("forward", "backward"):
            raise ValueError(f'direction={direction!r}: use "forward" or "backward", the way it reads sentences')
        if encoder is not None and encoder.feature_size != feature_size:
            raise ValueError(
                f"the encoder makes vectors of {encoder.feature_size} features, and feature_size is {feature_size}"
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
        """From now on features are brought to mean 0 and standard deviation 1 over these [images, feature_size].

        What a trained captioner has learnt depends on it, so this comes before the training.
        """
        self.feature_mean.copy_(features.mean(dim=0))
        scale = features.std(dim=0, unbiased=False)
        # What never varies tells nothing; divided by nearly 0, a rounding error would be all there is to see.
        self.feature_scale.copy_(torch.where(scale > 1e-6 * scale.max(), scale, torch.inf))

    def begin(self, features: torch.Tensor) -> Any:
        """The state in which START is read, from the images' features [N, feature_size]."""
        raise NotImplementedError

    def recur(self, vectors: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Read word vectors [R, t, embedding_size]: hidden states [R, t, hidden_size], and the last state."""
        raise NotImplementedError

    def forward(self, features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """The logits [N, t, vocab_size] after each of the ``tokens`` [N, t], for images of features [N, feature_size].

        ``tokens`` are in reading order and begin with ``start_token``.
        """
        hidden, _ = self.read(tokens, self.start(features))
        return self.project(hidden)

    def encode(self, images: Sequence[Any]) -> torch.Tensor:
        """Feature vectors [N, feature_size] of images: feature vectors as they are, pictures through the encoder.

        Args:
            images: each a vector (array or tensor [feature_size]), or a picture (see `open_picture`); None, all of
                them, where ``feature_size`` is 0.

        Raises:
            OSError: a picture cannot be read.
            TypeError: an image is neither.
            ValueError: a vector of the wrong size or with NaN, a picture where there is no encoder, or any image where
                the captioner knows none.
        """
        if not self.feature_size:
            if any(image is not None for image in images):
                raise ValueError("this captioner was trained without images: give None as the image")
            return self.output.weight.new_zeros(len(images), 0)
        vectors = {}
        pictures = {}
        for number, image in enumerate(images):
            if isinstance(image, (np.ndarray, torch.Tensor)) and image.ndim == 1:
                vectors[number] = self._vector(image)
            elif self.encoder is None:
                given = f"the picture {image}" if isinstance(image, (str, os.PathLike)) else f"a {type(image).__name__}"
                if isinstance(image, (np.ndarray, torch.Tensor)):
                    given = f"an array of shape {tuple(image.shape)}"
                raise ValueError(
                    f"this captioner has no image encoder and takes feature vectors of {self.feature_size} numbers, "
                    f"one per image, several in a list; got {given}"
                )
            else:
                pictures[number] = self.encoder.prepare(image)
        if self.encoder is not None and pictures:
            prepared = torch.stack(list(pictures.values()))
            begins = range(0, len(prepared), PICTURES_AT_A_TIME)
            features = torch.cat([self.encoder(prepared[at : at + PICTURES_AT_A_TIME]) for at in begins])
            vectors.update(zip(pictures, features.to(self.output.weight), strict=True))
        if not images:
            return self.output.weight.new_zeros(0, self.feature_size)
        return torch.stack([vectors[number] for number in range(len(images))])

    def start(self, context: torch.Tensor) -> Any:
        """The state of one row per image, nothing read yet."""
        return self.begin(self.dropout((context - self.feature_mean) / self.feature_scale))

    def read(self, tokens: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Read ``tokens`` [R, t]."""
        return self.recur(self.dropout(self.embedding(tokens)), state)

    def project(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of the next token."""
        return cast(torch.Tensor, self.output(self.dropout(hidden)))

    def tokens(self, tokens: Any) -> torch.Tensor:
        """Token ids on the model's device."""
        return torch.as_tensor(tokens, dtype=torch.int64, device=self.output.weight.device)

    def _vector(self, vector: np.ndarray | torch.Tensor) -> torch.Tensor:
        if len(vector) != self.feature_size:
            raise ValueError(f"a feature vector of this captioner has {self.feature_size} numbers; got {len(vector)}")
        weight = self.output.weight
        numbers = torch.from_numpy(vector.copy()) if isinstance(vector, np.ndarray) else vector
        numbers = numbers.to(weight.device, weight.dtype)
        if not numbers.isfinite().all():
            raise ValueError(f"the image's feature vector has NaN or infinite values (as {weight.dtype})")
        return numbers


class MultimodalRNN(Captioner):
    """The multimodal recurrent neural network of Karpathy and Fei-Fei (CVPR 2015).

    Their equations 13 to 15, with h_0 = 0, x_1 = START and f = max(0, ·)::

        b_v = W_hi · CNN(I)                                              (13)
        h_t = f(W_hx x_t + W_hh h_{t-1} + b_h + 1(t = 1) ⊙ b_v)          (14)
        y_t = softmax(W_oh h_t + b_o)                                    (15)

    The image is seen at the first step only. The state is what is added to W_hx x_t + b_h at the next token: b_v before
    START is read, and W_hh h_{t-1} from then on.
    """

    kind = "multimodal-rnn"
    batch_axis = 0

    def __init__(self, vocabulary: WordVocabulary, **settings: Any):
        super().__init__(vocabulary, **settings)
        embedding_size, hidden_size = self.embedding.embedding_dim, self.output.in_features
        if self.feature_size:
            self.image_to_hidden = nn.Linear(self.feature_size, hidden_size, bias=False)  # W_hi
        self.word_to_hidden = nn.Linear(embedding_size, hidden_size)  # W_hx, b_h
        self.hidden_to_hidden = nn.Linear(hidden_size, hidden_size, bias=False)  # W_hh

    def begin(self, features: torch.Tensor) -> torch.Tensor:
        """b_v, Eq. 13; 0 where there is no image."""
        if not self.feature_size:
            return features.new_zeros(len(features), self.output.in_features)
        return cast(torch.Tensor, self.image_to_hidden(features))

    def recur(self, vectors: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Eq. 14."""
        hidden = []
        for word in self.word_to_hidden(vectors).unbind(1):
            hidden.append(torch.relu(word + state))
            state = self.hidden_to_hidden(hidden[-1])
        return torch.stack(hidden, dim=1), state


class _SeesAlways(Captioner):
    """A captioner around a `torch.nn.LSTM` or `GRU` that is given the image along with every word."""

    recurrent: nn.LSTM | nn.GRU
    batch_axis = (1, 0)  # of what the layer remembers, and of what is seen

    def __init__(self, vocabulary: WordVocabulary, **settings: Any):
        super().__init__(vocabulary, **settings)
        embedding_size = self.embedding.embedding_dim
        if self.feature_size:
            self.image_to_input = nn.Linear(self.feature_size, embedding_size)
        self.input_size = 2 * embedding_size if self.feature_size else embedding_size

    def see(self, features: torch.Tensor) -> torch.Tensor:
        """What comes along with every word, [N, embedding_size]; nothing, [N, 0], where there is no image."""
        return torch.tanh(self.image_to_input(features)) if self.feature_size else features

    def recur(self, vectors: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """One call of the recurrent layer."""
        memory, seen = state
        if self.feature_size:
            vectors = torch.cat([vectors, seen[:, None].expand(-1, vectors.shape[1], -1)], dim=-1)
        hidden, memory = run_layers(self.recurrent, vectors, memory)
        return hidden, (memory, seen)


class LSTMCaptioner(_SeesAlways):
    """A captioner around a `torch.nn.LSTM` that is given the image along with every word."""

    kind = "lstm"

    def __init__(self, vocabulary: WordVocabulary, **settings: Any):
        super().__init__(vocabulary, **settings)
        self.recurrent = nn.LSTM(self.input_size, self.output.in_features, batch_first=True)

    def begin(self, features: torch.Tensor) -> Any:
        """((h, c), what is seen): zeros [1, N, hidden_size], and [N, embedding_size]."""
        seen = self.see(features)
        zeros = seen.new_zeros(1, len(seen), self.output.in_features)
        return (zeros, zeros), seen


class GRUCaptioner(_SeesAlways):
    """A captioner around a `torch.nn.GRU` that is given the image along with every word."""

    kind = "gru"

    def __init__(self, vocabulary: WordVocabulary, **settings: Any):
        super().__init__(vocabulary, **settings)
        self.recurrent = nn.GRU(self.input_size, self.output.in_features, batch_first=True)

    def begin(self, features: torch.Tensor) -> Any:
        """(h, what is seen): zeros [1, N, hidden_size], and [N, embedding_size]."""
        seen = self.see(features)
        return seen.new_zeros(1, len(seen), self.output.in_features), seen
