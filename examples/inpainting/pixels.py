"""Two recurrent models of pixels: one reads a picture from the top, row by row, the other one from the bottom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from birnn_decode import Pair, Template
from birnn_decode.models import LSTMCaptioner
from birnn_decode.training import CaptionedImages
from birnn_decode.vocabularies import PAD, SPECIAL, CharacterVocabulary

REACH = 2  # rows and columns of neighbours that a model is shown


class PixelLSTM(LSTMCaptioner):
    """An LSTM that reads pixels one after the other and knows where it is.

    With each pixel it reads the place of the next pixel, a learned vector, and the neighbours of the next pixel among
    those that it has read already: two rows and two columns around it. A line of 1,024 pixels is too long for the LSTM
    alone to remember what stands one row above.

    Args:
        colours: number of colours of the palette.
        size: height and width of a picture.
        direction: "forward" to read from the first pixel, "backward" to read from the last one.
        embedding_size: size of the vectors that are read.
        hidden_size: size of the LSTM.
        dropout: see `birnn_decode.models.Captioner`.
    """

    def __init__(self, colours: int, size: tuple[int, int], direction: str, **settings: Any):
        letters = CharacterVocabulary("".join(chr(ord("a") + colour) for colour in range(colours)))
        super().__init__(letters, direction=direction, feature_size=0, **settings)
        self.size = size
        height, width = size
        # The pixel just before the next one is read anyway, as the last token.
        around = [(0, across) for across in range(-REACH, -1)]
        around += [(up, across) for up in range(1, REACH + 1) for across in range(-REACH, REACH + 1)]
        self.back = torch.tensor([up * width - across for up, across in around])  # tokens before the next pixel
        rows, columns = np.divmod(np.arange(height * width + 1), width)
        inside = [(rows >= up) & (columns + across >= 0) & (columns + across < width) for up, across in around]
        self.inside = torch.tensor(np.stack(inside, axis=-1))  # whether the neighbour is in the picture, [places, K]
        self.beside = nn.Embedding(len(around) * self.vocab_size, self.embedding.embedding_dim)
        self.place = nn.Embedding(height * width + 1, self.embedding.embedding_dim)
        self.first = torch.arange(len(around)) * self.vocab_size
        self.batch_axis = (LSTMCaptioner.batch_axis, 0, 0)
        self.config |= {"colours": colours, "size": list(size), "reach": REACH}

    def begin(self, features: torch.Tensor) -> Any:
        """Return an empty memory, no pixels read, and the place of the first pixel."""
        nothing = torch.full((len(features), int(self.back.max())), PAD)
        return super().begin(features), nothing, torch.zeros(len(features), dtype=torch.int64)

    def read(self, tokens: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Read pixels [R, t]; return the hidden states [R, t, hidden_size] and the state after the last pixel."""
        memory, before, at = state
        seen = torch.cat([before, tokens], dim=1)
        step = torch.arange(tokens.shape[1])
        places = (at[:, None] + step).clamp(max=len(self.inside) - 1)  # of the pixels that come next, [R, t]
        neighbours = seen[:, before.shape[1] + 1 + step[:, None] - self.back]  # [R, t, K]
        neighbours = torch.where(self.inside[places], neighbours, PAD)
        vectors = self.embedding(tokens) + self.place(places) + self.beside(neighbours + self.first).sum(-2)
        hidden, memory = self.recur(self.dropout(vectors), memory)
        return hidden, (memory, seen[:, -before.shape[1] :], at + tokens.shape[1])


def sentences(numbers: np.ndarray) -> list[list[int]]:
    """Return pictures [N, height, width] as lines of token ids."""
    return (numbers.reshape(len(numbers), -1) + len(SPECIAL)).tolist()


def pictures(lines: Sequence[Sequence[int]], size: tuple[int, int]) -> np.ndarray:
    """Return lines of token ids as pictures, int64 [N, height, width]."""
    return np.array(lines, dtype=np.int64).reshape(-1, *size) - len(SPECIAL)


def templates(numbers: np.ndarray, holes: np.ndarray) -> list[Template]:
    """Return pictures with holes, bool [N, height, width], as templates: every row of a hole is a blank."""
    lines = zip(sentences(numbers), holes.reshape(len(holes), -1).tolist(), strict=True)
    return [
        Template.from_tokens(Template.BLANK if missing else token for token, missing in zip(*line, strict=True))
        for line in lines
    ]


def training_data(numbers: np.ndarray) -> CaptionedImages:
    """Return pictures as lines that a `birnn_decode.training.Training` learns from."""
    return CaptionedImages(torch.zeros(len(numbers), 0), [[line] for line in sentences(numbers)])


def new_pair(colours: int, size: tuple[int, int], **settings: Any) -> Pair:
    """Return two models that have learned nothing yet."""
    return Pair(*(PixelLSTM(colours, size, direction, **settings) for direction in ("forward", "backward")))
