"""Scorers from decoders made of PyTorch's recurrent layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from birnn_decode.scorers.reader import Reader
from birnn_decode.scorers.state import Condition, check_rows
from birnn_decode.scorers.wrappers import Declared, Wrapper

if TYPE_CHECKING:
    from typing_extensions import Unpack


FEW_ROWS = 32  # of a single step on a CPU that cells take faster than a layer
CELLS: dict[str, Callable[..., Any]] = {
    "LSTM": torch.lstm_cell,
    "GRU": torch.gru_cell,
    "RNN_TANH": torch.rnn_tanh_cell,
    "RNN_RELU": torch.rnn_relu_cell,
}


def run_layers(layers: nn.RNNBase, inputs: torch.Tensor, memory: Any) -> tuple[torch.Tensor, Any]:
    """What recurrent layers of one direction make of inputs [R, t, input_size]: [R, t, hidden_size], and the memory.

    On a CPU a layer rearranges its weights in every call, which for a step of few rows takes longer than the step: it
    is then computed from the same weights by the functions behind PyTorch's cells.
    """
    rows, steps, _ = inputs.shape
    few = steps == 1 and rows <= FEW_ROWS and inputs.device.type == "cpu"
    if few and not (layers.proj_size or (layers.training and layers.dropout)):
        cell = CELLS[layers.mode]
        is_lstm = layers.mode == "LSTM"
        below, memories = inputs[:, 0], []
        for number, weights in enumerate(layers.all_weights):
            own = (memory[0][number], memory[1][number]) if is_lstm else memory[number]
            memories.append(cell(below, own, *weights))
            below = memories[-1][0] if is_lstm else memories[-1]
        if is_lstm:
            return below[:, None], tuple(torch.stack(part) for part in zip(*memories, strict=True))
        return below[:, None], torch.stack(memories)
    if layers.batch_first:
        hidden, memory = layers(inputs, memory)
        return hidden, memory
    hidden, memory = layers(inputs.transpose(0, 1), memory)
    return hidden.transpose(0, 1), memory


class RecurrentScorer(Wrapper, Reader):
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
        condition: ``context -> [N, …]``, for decoders that see the image at every step: ``embed`` is given the rows of
            it that belong to its tokens.
        declared: what every wrapper is told, ids first; see `Wrapper`. The parts that are modules are put in eval mode,
            too; where ``start`` or ``encode`` are functions, only ``model`` tells which modules they call.

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
        condition: Callable[[Any], torch.Tensor] | None = None,
        **declared: Unpack[Declared],
    ):
        super().__init__(**declared)
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
        self.project = project  # type: ignore[method-assign, assignment]
        self._embed = embed
        self._start = start
        self._condition = condition

    def modules(self) -> Iterator[nn.Module]:
        """What is put in eval mode while decoding."""
        for part in (self._model, self._embed, self.recurrent, *self._cells, self.project, self._start, self._encode):
            if isinstance(part, nn.Module):
                yield from part.modules()

    def encode(self, images: Sequence[Any]) -> tuple[int, Any]:
        """How many images there are, and whatever the decoder needs of them."""
        return len(images), super().encode(images)

    def start(self, context: tuple[int, Any]) -> tuple[Any, Condition | None]:
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
        check_rows(memory, images, self.batch_axis[0])
        if self._condition is None:
            return memory, None
        return memory, Condition.of(self._condition(encoded), images)

    def read(self, tokens: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Read ``tokens`` [R, t]."""
        memory, seen = state
        inputs = self._embed(tokens) if seen is None else self._embed(tokens, seen.rows())
        if isinstance(self.recurrent, nn.RNNBase):
            hidden, memory = run_layers(self.recurrent, inputs, memory)
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
