"""Scorers from decoders made of PyTorch's recurrent layers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from birnn_decode.backend import Array
from birnn_decode.scorers.torch import check_rows, join_rows, select_rows
from birnn_decode.template import Vocabulary

LARGEST_BLOCK = 2**24  # of scores that `score` holds at a time, rows * vocab_size


class RecurrentReader:
    """What a `Scorer` needs beyond a decoder that reads several tokens in one call; the base of recurrent scorers.

    A subclass has ``vocab_size``, ``start_token``, ``end_token``, ``encode``, and what is left open here.

    Attributes:
        batch_axis: the axis of the state's tensors that counts the rows.
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

    def prefill(self, context: Any, items: Array, prefixes: Array) -> tuple[torch.Tensor, Any]:
        """Read whole prefixes [R, t] in one call: logits [R, t, vocab_size], and the state after the last token."""
        hidden, state = self.read(self.tokens(prefixes), self.select(self.start(context), items))
        return self.project(hidden), state

    def score(self, context: Any, items: Array, sentences: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
        """The log-probabilities of sentences, in reading order, in one call: K tensors [words + 1], the end's last."""
        if not sentences:
            return []
        longest = max(len(words) for words in sentences)
        # What stands behind the end is read and not scored: it comes too late to change anything.
        padded = [[self.start_token, *words] + [self.end_token] * (longest - len(words)) for words in sentences]
        hidden, _ = self.read(self.tokens(padded), self.select(self.start(context), items))
        lengths = [len(words) + 1 for words in sentences]
        rows = self.tokens([row for row, length in enumerate(lengths) for _ in range(length)])
        places = self.tokens([place for length in lengths for place in range(length)])
        targets = self.tokens([token for words in sentences for token in (*words, self.end_token)])
        terms = []
        at_a_time = max(1, LARGEST_BLOCK // self.vocab_size)
        for begin in range(0, len(targets), at_a_time):
            some = slice(begin, begin + at_a_time)
            logits = self.project(hidden[rows[some], places[some]])
            single = torch.promote_types(logits.dtype, torch.float32)  # half precision is too coarse for sums of logs
            log_probs = torch.log_softmax(logits, dim=-1, dtype=single)
            terms.append(log_probs.gather(1, targets[some, None])[:, 0])
        return list(torch.split_with_sizes(torch.cat(terms), lengths))


class RecurrentScorer(RecurrentReader):
    """A `Scorer` from the parts of a decoder around `torch.nn.RNN`, `GRU`, `LSTM`, or their cells.

    Rows are independent of each other, known words are read in one call, and finished sentences are scored in one.

    Example, a `torch.nn.LSTM` that begins with the image::

        scorer = RecurrentScorer(
            embed=captioner.embedding, recurrent=captioner.lstm, project=captioner.linear,
            start=lambda features: captioner.lstm(features[:, None])[1], encode=torch.stack,
            vocab_size=10_000, start_token=1, end_token=2, model=captioner,
        )

    Args:
        embed: ``tokens [R, t] -> inputs [R, t, input_size]`` of the recurrent part; with ``condition`` it is called
            with ``(tokens, rows of the condition [R, …])``.
        recurrent: a `torch.nn.RNN`, `GRU` or `LSTM`, of any number of layers, batch first or not; or a cell; or a list
            of cells, each of which reads what the one before puts out.
        project: ``hidden [..., hidden_size] -> logits [..., vocab_size]``.
        start: ``context -> state`` of one row per image, as the recurrent part takes it: h or (h, c), for a list of
            cells a list of them.
        vocab_size: number of ids.
        start_token: begins a sentence in this decoder's reading direction.
        end_token: ends it.
        encode: ``list of images -> context``; the list itself if not given.
        condition: ``context -> [N, …]``, for decoders that see the image at every step: ``embed`` is given the rows of
            it that belong to its tokens.
        never: ids that are no words; START and END always are.
        vocabulary: text to ids and back.
        model: what all of this belongs to. It is put in eval mode while decoding, and back, as are the parts that are
            modules; where ``start`` or ``encode`` are functions, only this tells which modules they call.

    Raises:
        TypeError: the recurrent part is none of these.
        ValueError: it reads in both directions at once, so it cannot write.
    """

    def __init__(
        self,
        embed: Callable[..., torch.Tensor],
        recurrent: nn.Module | Sequence[nn.Module],
        project: Callable[[torch.Tensor], torch.Tensor],
        start: Callable[[Any], Any],
        *,
        vocab_size: int,
        start_token: int,
        end_token: int,
        encode: Callable[[Sequence[Any]], Any] | None = None,
        condition: Callable[[Any], torch.Tensor] | None = None,
        never: Collection[int] = (),
        vocabulary: Vocabulary | None = None,
        model: nn.Module | None = None,
    ):
        cells: Any = [recurrent] if isinstance(recurrent, nn.RNNCellBase) else recurrent
        if isinstance(recurrent, nn.RNNBase):
            cells = []
            if recurrent.bidirectional:
                raise ValueError(
                    f"the recurrent part is {recurrent}, which reads in both directions at once; give the decoder of "
                    "one direction"
                )
        elif not (
            isinstance(cells, (Sequence, nn.ModuleList))
            and len(cells)
            and all(isinstance(cell, nn.RNNCellBase) for cell in cells)
        ):
            raise TypeError(
                f"the recurrent part is {recurrent!r}; it must be a torch.nn.RNN, GRU or LSTM, a cell, or a list of "
                "cells. Wrap any other decoder's step function with birnn_decode.scorers.torch.TorchScorer"
            )
        self.recurrent = recurrent
        self._cells: list[nn.Module] = list(cells)
        # A layer keeps its rows on axis 1 of (h, c), a cell on axis 0; what the image gives comes along on axis 0.
        self.batch_axis = (1 if isinstance(recurrent, nn.RNNBase) else 0, None if condition is None else 0)
        self.vocab_size = vocab_size
        self.start_token = start_token
        self.end_token = end_token
        self.never = frozenset(never)
        self.vocabulary = vocabulary
        self.project = project  # type: ignore[method-assign, assignment]
        self._model = model
        self._embed = embed
        self._start = start
        self._encode = encode or list
        self._condition = condition

    def modules(self) -> Iterator[nn.Module]:
        """What is put in eval mode while decoding."""
        for part in (self._model, self._embed, self.recurrent, *self._cells, self.project, self._start, self._encode):
            if isinstance(part, nn.Module):
                yield from part.modules()

    def encode(self, images: Sequence[Any]) -> tuple[int, Any]:
        """How many images there are, and whatever the decoder needs of them."""
        return len(images), self._encode(images)

    def start(self, context: tuple[int, Any]) -> tuple[Any, torch.Tensor | None]:
        """The state of one row per image, with what each step sees of the image.

        Raises:
            ValueError: the state has another number of rows than there are images, or of cells.
        """
        images, encoded = context
        memory = self._start(encoded)
        stacked = not isinstance(self.recurrent, (nn.RNNBase, nn.RNNCellBase))
        if stacked and not (isinstance(memory, (list, tuple)) and len(memory) == len(self._cells)):
            given = f"{len(memory)} states" if isinstance(memory, (list, tuple)) else f"a {type(memory).__name__}"
            raise ValueError(f"start gave {given}; it must give a list of {len(self._cells)} states, one per cell")
        state = memory, None if self._condition is None else self._condition(encoded)
        check_rows(state, images, self.batch_axis)
        return state

    def read(self, tokens: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Read ``tokens`` [R, t]."""
        memory, seen = state
        inputs = self._embed(tokens) if seen is None else self._embed(tokens, seen)
        if isinstance(self.recurrent, nn.RNNBase):
            if self.recurrent.batch_first:
                hidden, memory = self.recurrent(inputs, memory)
            else:
                hidden, memory = self.recurrent(inputs.transpose(0, 1), memory)
                hidden = hidden.transpose(0, 1)
            return hidden, (memory, seen)
        single = isinstance(self.recurrent, nn.RNNCellBase)
        memories = [memory] if single else list(memory)
        outputs = []
        for inputs_at in inputs.unbind(1):
            below = inputs_at
            for layer, cell in enumerate(self._cells):
                memories[layer] = cell(below, memories[layer])
                below = memories[layer][0] if isinstance(memories[layer], tuple) else memories[layer]
            outputs.append(below)
        return torch.stack(outputs, dim=1), (memories[0] if single else memories, seen)

    def tokens(self, tokens: Any) -> torch.Tensor:
        """Token ids on the device of the recurrent part."""
        part = self.recurrent if isinstance(self.recurrent, nn.Module) else self._cells[0]
        return torch.as_tensor(tokens, dtype=torch.int64, device=next(part.parameters()).device)
