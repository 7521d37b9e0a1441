"""The base of scorers whose decoder reads several tokens in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from birnn_decode.backend import Array
from birnn_decode.scorers.state import join_rows, select_rows, state_bytes

LARGEST_BLOCK = 2**24  # of scores that `score` holds at a time, rows * vocab_size


class Reader:
    """What a `Scorer` needs beyond a decoder that reads several tokens in one call.

    A subclass has ``vocab_size``, ``start_token``, ``end_token``, ``encode``, and what is left open here. Rows are
    independent of each other, as those of recurrent layers are; a subclass with caches says ``aligned = True``.

    Attributes:
        batch_axis: the axis of the state's tensors that counts the rows, as `TorchScorer`'s.
    """

    aligned = False
    normalized = False
    batch_axis: Any
    start_token: int
    end_token: int
    vocab_size: int

    def start(self, context: Any) -> Any:
        """The state of one row per image, nothing read yet."""
        raise NotImplementedError

    def read(self, tokens: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Read ``tokens`` [R, t]: what the decoder puts out after each, [R, t, hidden], and the last state."""
        raise NotImplementedError

    def project(self, hidden: torch.Tensor) -> torch.Tensor:
        """From [..., hidden] to the logits of the next token, [..., vocab_size]."""
        raise NotImplementedError

    def tokens(self, tokens: Any) -> torch.Tensor:
        """Token ids as a tensor on the decoder's device."""
        raise NotImplementedError

    def step(self, tokens: Array, state: Any) -> tuple[torch.Tensor, Any]:
        """Read one token a row: logits [R, vocab_size], and the new state."""
        hidden, state = self.read(self.tokens(tokens)[:, None], state)
        return self.project(hidden[:, 0]), state

    def select(self, state: Any, rows: Array) -> Any:
        """Gather rows."""
        return select_rows(state, rows, self.batch_axis)

    def join(self, states: Sequence[Any]) -> Any:
        """The rows of several states."""
        return join_rows(states, self.batch_axis)

    def state_bytes(self, state: Any) -> int:
        """The memory that a state takes."""
        return state_bytes(state)

    def prefill(self, context: Any, items: Array, prefixes: Array) -> tuple[torch.Tensor, Any]:
        """Read whole prefixes [R, t] in one call: logits [R, t, vocab_size], and the state after the last token."""
        hidden, state = self.read(self.tokens(prefixes), self.select(self.start(context), items))
        return self.project(hidden), state

    def score(self, context: Any, items: Array, sentences: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
        """The log-probabilities of sentences, in reading order, in one call: K tensors [words + 1], the end's last."""
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
        """As `score`, of sentences that are read together, one row of the state each."""
        longest = max(len(words) for words in sentences)
        # What stands behind the end is read and not scored: it comes too late to change anything.
        padded = [[self.start_token, *words] + [self.end_token] * (longest - len(words)) for words in sentences]
        hidden, _ = self.read(self.tokens(padded), state)
        lengths = [len(words) + 1 for words in sentences]
        rows = self.tokens([row for row, length in enumerate(lengths) for _ in range(length)])
        places = self.tokens([place for length in lengths for place in range(length)])
        targets = self.tokens([token for words in sentences for token in (*words, self.end_token)])
        logits = self.project(hidden[rows, places])
        single = torch.promote_types(logits.dtype, torch.float32)  # half precision is too coarse for sums of logs
        log_probs = torch.log_softmax(logits, dim=-1, dtype=single)
        return list(torch.split_with_sizes(log_probs.gather(1, targets[:, None])[:, 0], lengths))
