"""Scorers for decoders made of PyTorch's recurrent layers or cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from birnn_decode.scorers.reader import Reader
from birnn_decode.scorers.state import TensorScorer

FEW_ROWS = 32  # for a single step of so many rows on a CPU, cells are faster than a layer
CELLS: dict[str, Callable[..., Any]] = {
    "LSTM": torch.lstm_cell,
    "GRU": torch.gru_cell,
    "RNN_TANH": torch.rnn_tanh_cell,
    "RNN_RELU": torch.rnn_relu_cell,
}


def run_layers(layers: nn.RNNBase, inputs: torch.Tensor, memory: Any) -> tuple[torch.Tensor, Any]:
    """Run recurrent layers of one direction on inputs [R, t, input_size].

    On a CPU a layer rearranges its weights in every call. For a step of few rows this takes longer than the step
    itself. Such a step is computed by the functions behind PyTorch's cells, from the same weights.

    Returns:
        The outputs, shape [R, t, hidden_size], and the new memory.
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
    hidden, memory = layers(inputs if layers.batch_first else inputs.transpose(0, 1), memory)
    return hidden if layers.batch_first else hidden.transpose(0, 1), memory


class RecurrentScorer(TensorScorer, Reader):
    """Make a `Scorer` from the parts of a decoder around ``torch.nn.RNN``, ``GRU``, ``LSTM`` or their cells.

    This scorer is fast: rows are independent of each other, the known words are read in one call, and finished
    sentences are scored in one call.

    Args:
        embed: Function ``tokens [R, t] -> inputs [R, t, input_size]`` of the recurrent part. With ``condition`` it is
            called as ``embed(tokens, condition_of_the_rows)``.
        recurrent: A ``torch.nn.RNN``, ``GRU`` or ``LSTM`` with any number of layers, batch first or not; or a cell; or
            a list of cells, each of which reads the output of the one before.
        project: Function ``hidden [..., hidden_size] -> logits [..., vocab_size]``.
        start: Function ``context -> state`` with one row per image. The state is what the recurrent part takes: h, or
            (h, c), or for a list of cells a list of these.
        condition: Function ``context -> tensor [N, ...]``, for decoders that see the image at every step.
            (default: None, no condition)
        **declared: Arguments of every wrapper; see `Wrapper`. ``vocab_size``, ``start_token`` and ``end_token`` are
            required. Parts that are modules are put in eval mode as well. If ``start`` or ``encode`` is a function that
            calls modules, give these modules as ``model``.

    Raises:
        TypeError: ``recurrent`` is none of the above.
        ValueError: ``recurrent`` is bidirectional.

    Example:
        A decoder whose LSTM reads the image vector before the words:

        >>> import torch
        >>> from birnn_decode import BeamSearch, Pair, Template, decode
        >>> from birnn_decode.scorers.recurrent import RecurrentScorer
        >>> lstm = torch.nn.LSTM(4, 4, batch_first=True)
        >>> scorer = RecurrentScorer(
        ...     embed=torch.nn.Embedding(9, 4),
        ...     recurrent=lstm,
        ...     project=torch.nn.Linear(4, 9),
        ...     start=lambda vectors: lstm(vectors[:, None])[1],
        ...     encode=torch.stack, vocab_size=9, start_token=0, end_token=1,
        ... )
        >>> result = decode(Pair(scorer, None), torch.ones(4), Template.blank([5], 2), BeamSearch("forward"))
        >>> len(result.best.tokens)
        3
    """

    def __init__(
        self,
        embed: Callable[..., torch.Tensor],
        recurrent: nn.Module | Sequence[nn.Module],
        project: Callable[[torch.Tensor], torch.Tensor],
        start: Callable[[Any], Any],
        *,
        condition: Callable[[Any], torch.Tensor] | None = None,
        **declared: Any,
    ):
        # The rows of h and c are on axis 1 for a layer, and on axis 0 for a cell.
        super().__init__(start, 1 if isinstance(recurrent, nn.RNNBase) else 0, condition, **declared)
        cells: Any = [recurrent] if isinstance(recurrent, nn.RNNCellBase) else recurrent
        if isinstance(recurrent, nn.RNNBase):
            cells = []
            if recurrent.bidirectional:
                raise ValueError(
                    f"the recurrent part is {recurrent}, which reads in both directions at once. Give the decoder of "
                    "one direction"
                )
        elif not (
            isinstance(cells, (Sequence, nn.ModuleList))
            and len(cells)
            and all(isinstance(cell, nn.RNNCellBase) for cell in cells)
        ):
            raise TypeError(
                f"the recurrent part is {recurrent!r}; it must be a torch.nn.RNN, GRU or LSTM, a cell, or a list of "
                "cells. Wrap the step function of any other decoder with birnn_decode.scorers.torch.TorchScorer"
            )
        self.recurrent = recurrent
        self._cells: list[nn.Module] = list(cells)
        self.project = project  # type: ignore[method-assign, assignment]
        self._embed = embed

    def modules(self) -> Iterator[nn.Module]:
        """Iterate over the modules that are put in eval mode while decoding."""
        functions = (self._embed, self.project, self._start, self._encode, self._condition)
        for part in (self._model, self.recurrent, *self._cells, *functions):
            if isinstance(part, nn.Module):
                yield from part.modules()

    def _checked(self, state: Any, rows: int) -> Any:
        stacked = not isinstance(self.recurrent, (nn.RNNBase, nn.RNNCellBase))
        if stacked and not (isinstance(state, (list, tuple)) and len(state) == len(self._cells)):
            given = f"{len(state)} states" if isinstance(state, (list, tuple)) else f"a {type(state).__name__}"
            raise ValueError(
                f"start returned {given}; it must return a list of {len(self._cells)} states, one per cell"
            )
        return super()._checked(state, rows)

    def read(self, tokens: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Read ``tokens`` [R, t]; return the outputs [R, t, hidden_size] and the last state."""
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
        """Return token ids as a tensor on the device of the recurrent part."""
        part = self.recurrent if isinstance(self.recurrent, nn.Module) else self._cells[0]
        return torch.as_tensor(tokens, dtype=torch.int64, device=next(part.parameters()).device)
