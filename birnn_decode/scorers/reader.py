"""Base of the scorers whose decoder reads several tokens in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from birnn_decode.backend import Array
from birnn_decode.scorers.state import RowsOfTensors

LARGEST_BLOCK = 2**24  # scores that `score` holds at a time, rows * vocab_size


class Reader(RowsOfTensors):
    """Methods of a `Scorer` for a decoder that reads several tokens in one call.

    A subclass defines ``vocab_size``, ``start_token``, ``end_token``, ``encode`` and the methods that raise
    ``NotImplementedError`` here. Rows are independent, as in recurrent layers. A subclass whose rows must have read
    equally many tokens sets ``aligned`` to True.
    """

    aligned = False
    normalized = False
    start_token: int
    end_token: int
    vocab_size: int

    def start(self, context: Any) -> Any:
        """Make the state in which no token has been read; see `Scorer.start`."""
        raise NotImplementedError

    def read(self, tokens: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Read ``tokens`` [R, t]; return the outputs [R, t, hidden] of the decoder and the last state."""
        raise NotImplementedError

    def project(self, hidden: torch.Tensor) -> torch.Tensor:
        """Compute the logits [..., vocab_size] of the next token from outputs [..., hidden]."""
        raise NotImplementedError

    def tokens(self, tokens: Any) -> torch.Tensor:
        """Return token ids as a tensor on the device of the decoder."""
        raise NotImplementedError

    def step(self, tokens: Array, state: Any) -> tuple[torch.Tensor, Any]:
        """Read one token per row; see `Scorer.step`."""
        hidden, state = self.read(self.tokens(tokens)[:, None], state)
        return self.project(hidden[:, 0]), state

    def steps(self, tokens: Array, state: Any) -> tuple[torch.Tensor, Any]:
        """Read tokens [R, t]; return logits [R, t, vocab_size] and the state after the last token."""
        hidden, state = self.read(self.tokens(tokens), state)
        return self.project(hidden), state

    def score(self, context: Any, items: Array, sentences: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
        """Compute the log-probabilities of K sentences: K tensors [words + 1], in nats, with the end as the last."""
        if not sentences:
            return []
        beginning = self.start(context)
        at_a_time = max(1, LARGEST_BLOCK // (self.vocab_size * max(len(words) + 1 for words in sentences)))
        terms: list[torch.Tensor] = []
        for begin in range(0, len(sentences), at_a_time):
            some = slice(begin, begin + at_a_time)
            terms += self._score(self.select(beginning, items[some]), sentences[some])
        return terms

    def _score(self, state: Any, sentences: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
        """Score sentences in one call; ``state`` has one row per sentence."""
        lengths = [len(words) + 1 for words in sentences]
        # Padding is read but not scored. It comes after the end and cannot change the scores before it.
        padding = [[self.end_token] * (max(lengths) - length) for length in lengths]
        padded = [[self.start_token, *words, *pad] for words, pad in zip(sentences, padding, strict=True)]
        hidden, _ = self.read(self.tokens(padded), state)
        rows = self.tokens([row for row, length in enumerate(lengths) for _ in range(length)])
        places = self.tokens([place for length in lengths for place in range(length)])
        targets = self.tokens([token for words in sentences for token in (*words, self.end_token)])
        logits = self.project(hidden[rows, places])
        single = torch.promote_types(logits.dtype, torch.float32)  # half precision is too coarse for sums of logs
        log_probs = torch.log_softmax(logits, dim=-1, dtype=single)
        return list(torch.split_with_sizes(log_probs.gather(1, targets[:, None])[:, 0], lengths))
