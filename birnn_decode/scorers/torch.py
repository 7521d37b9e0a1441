"""Scorers for PyTorch decoders whose state is made of tensors and caches, or is kept in buffers of the decoder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch

from birnn_decode.backend import Array
from birnn_decode.scorers.answers import checked_pair
from birnn_decode.scorers.state import Condition, TensorScorer, first_tensor, has_cache, rows_of, taken_out
from birnn_decode.scorers.wrappers import OPTIONS


class TorchScorer(TensorScorer):
    """Make a `Scorer` from a step function and a state of tensors.

    The state is any nesting of tuples, named tuples, lists and dicts of tensors and caches. ``batch_axis`` declares
    which axis of each tensor counts the rows. ``select`` and ``join`` follow from it. ``batch_axis`` is one of:

    - a number, the axis of every tensor;
    - the same nesting as the state, with a number for each tensor;
    - None, in the place of a part that all rows share;
    - the name of a method, in the place of a cache that reorders itself. The method takes the rows as a tensor. It may
      change the cache or return a new one, because it is called on a copy. The step function gets a copy as well.

    Put what changes from step to step into the state. Put what the decoder looks at in every step, such as the regions
    of the image, into ``condition``. A condition is copied once per beam, and not again when beams change places.

    Args:
        step: Function ``(tokens [R], state) -> (scores [R, vocab_size], state)``. With ``condition`` it is called as
            ``step(tokens, state, condition_of_the_rows)``. Tokens are on the device of the state, or else of the model.
            The function must not change the tensors of the state.
        start: Function ``context -> state`` with one row per image.
        batch_axis: Axes that count the rows, as above.
        condition: Function ``context -> nested tensors`` with the images on axis 0. Parts may be None.
            (default: None, no condition)
        normalized: True if ``step`` returns log-probabilities, False if it returns logits. (default: False)
        aligned: True if all rows of a call must have read the same number of tokens, as with caches. Set it to False
            for plain recurrent states. (default: True)
        **declared: Arguments of every wrapper; see `Wrapper`. ``vocab_size``, ``start_token`` and ``end_token`` are
            required.

    Example:
        The rows of the state (h, c) of a ``torch.nn.LSTM`` are on axis 1.

        >>> import torch
        >>> from birnn_decode import BeamSearch, Pair, Template, decode
        >>> from birnn_decode.scorers.torch import TorchScorer
        >>> embedding, lstm = torch.nn.Embedding(9, 4), torch.nn.LSTM(4, 4, batch_first=True)
        >>> project = torch.nn.Linear(4, 9)
        >>> def start(features):
        ...     return features[None], torch.zeros_like(features)[None]
        >>> def step(tokens, state):
        ...     output, state = lstm(embedding(tokens)[:, None], state)
        ...     return project(output[:, 0]), state
        >>> scorer = TorchScorer(
        ...     step, start, batch_axis=1, encode=torch.stack, aligned=False,
        ...     vocab_size=9, start_token=0, end_token=1, model=torch.nn.ModuleList([embedding, lstm, project]),
        ... )
        >>> result = decode(Pair(scorer, None), torch.ones(4), Template.blank([5], 2), BeamSearch("forward"))
        >>> len(result.best.tokens)
        3
    """

    def __init__(
        self,
        step: Callable[..., tuple[torch.Tensor, Any]],
        start: Callable[[Any], Any],
        *,
        batch_axis: Any,
        condition: Callable[[Any], Any] | None = None,
        normalized: bool = False,
        aligned: bool = True,
        **declared: Any,
    ):
        super().__init__(start, batch_axis, condition, **declared)
        self.normalized = normalized
        self.aligned = aligned
        self._step = step
        if has_cache(batch_axis):
            self.join = None  # type: ignore[assignment]

    def step(self, tokens: Array, state: tuple[Any, Condition | None]) -> tuple[torch.Tensor, Any]:
        """Read one token per row; see `Scorer.step`.

        Raises:
            TypeError: The step function does not return a pair, or the declared axes do not fit the new state.
            ValueError: A tensor of the new state has the wrong number of rows.
        """
        tokens = torch.as_tensor(tokens, device=self._device(state))
        own, condition = taken_out(state[0], self.batch_axis[0]), state[1]
        returned = self._step(tokens, own) if condition is None else self._step(tokens, own, condition.rows())
        scores, own = checked_pair(returned, "TorchScorer's step")
        return scores, (self._checked(own, len(tokens)), condition)

    def select(self, state: tuple[Any, Condition | None], rows: Array) -> Any:
        """Make a state from some rows of another state; see `Scorer.select`."""
        return super().select(state, torch.as_tensor(rows, device=self._device(state)))  # for the method of a cache

    def _device(self, state: tuple[Any, Condition | None]) -> torch.device | None:
        """Return the device of the first tensor of the state, or else of the condition or of the model."""
        tensor = first_tensor((state[0], None if state[1] is None else state[1].known))
        if tensor is None and self._model is not None:
            tensor = next(self._model.parameters(), None)
        return None if tensor is None else tensor.device


class LogprobsStateScorer(TorchScorer):
    """Make a `Scorer` from a model that is stepped by ``get_logprobs_state(it, *features, state)``.

    The models fc, att2in, up-down, AoA and transformer belong to this family. They use id 0 for START, END and PAD,
    have one id more than words, and return log-probabilities. The rows are on axis 1 of every tensor of the state. The
    state of a transformer is an empty list at first, and then holds all tokens that were read. Some models treat a row
    of zeros as the first step: every row gets exactly the state that the model returned for it.

    Args:
        model: Model with ``get_logprobs_state`` and ``init_hidden(rows)``.
        features: Function from a list of images to a tuple of tensors with one row per image, or None in places. If the
            model has ``_prepare_feature``, the function returns its arguments ``(fc_feats, att_feats, att_masks)``.
            Otherwise it returns the arguments of ``get_logprobs_state`` between tokens and state.
        **declared: Arguments of every wrapper; see `Wrapper`. By default the ids and the size of the vocabulary are
            those of the model.

    Example:
        >>> import torch
        >>> from birnn_decode import as_scorer
        >>> class Model(torch.nn.Module):
        ...     vocab_size = 5  # words
        ...
        ...     def init_hidden(self, rows):
        ...         return (torch.zeros(1, rows, 3),)
        ...
        ...     def get_logprobs_state(self, it, features, state):
        ...         return torch.zeros(len(it), 6).log_softmax(dim=-1), state
        >>> scorer = as_scorer(Model(), features=lambda images: (torch.stack(images),))
        >>> scorer.vocab_size, scorer.start_token, scorer.end_token
        (6, 0, 0)
    """

    OPTIONS: ClassVar[frozenset[str]] = OPTIONS - {"model", "encode"} | {"features"}
    NEEDED: ClassVar[dict[str, str]] = {
        "features": "a function from a list of images to the tensors that get_logprobs_state takes between tokens and "
        "state"
    }

    def __init__(
        self,
        model: Any,
        *,
        features: Callable[[Sequence[Any]], Sequence[torch.Tensor | None]],
        **declared: Any,
    ):
        def encode(images: Sequence[Any]) -> Any:
            given = features(images)
            prepares = hasattr(model, "_prepare_feature")
            if not isinstance(given, (tuple, list)) or not all(
                feature is None or isinstance(feature, torch.Tensor) for feature in given
            ):
                raise TypeError(
                    f"features returned a {type(given).__name__}; it must return a tuple of tensors, or None in "
                    f"places: the arguments of {'_prepare_feature' if prepares else 'get_logprobs_state'}"
                )
            return model._prepare_feature(*given) if prepares else given

        settings = {
            "vocab_size": model.vocab_size + 1,
            "start_token": getattr(model, "bos_idx", 0),
            "end_token": getattr(model, "eos_idx", 0),
            "never": {getattr(model, "pad_idx", 0)},
            **declared,
        }
        super().__init__(
            lambda tokens, state, prepared: model.get_logprobs_state(tokens, *prepared, state),
            lambda prepared: model.init_hidden(rows_of(prepared)),
            batch_axis=1,
            condition=tuple,
            normalized=True,
            encode=encode,
            model=model,
            **settings,
        )


class BufferScorer(TorchScorer):
    """Make a `Scorer` from a decoder that keeps its state in its own buffers.

    The Meshed-Memory Transformer is such a decoder. After each call, the buffers are taken out of the decoder and the
    previous ones are put back. Before the next call, copies of the buffers of the right rows are put in. One decoder
    can therefore serve several searches, and both directions.

    Args:
        step: Function ``(tokens [R], memory) -> scores [R, vocab_size]``. ``memory`` has the rows of what ``encode``
            returned.
        buffers: Names of the buffers that are the state, as in ``model.named_buffers()``.
        stateful: Function ``rows -> context manager``. Inside, the decoder keeps a state for this number of rows, which
            begins empty.
        model: The decoder, or a module that contains it.
        batch_axis: Axis of the buffers that counts the rows, or a dict from name to axis. (default: 0)
        normalized: True if ``step`` returns log-probabilities, False if it returns logits. (default: False)
        **declared: Arguments of every wrapper; see `Wrapper`. ``vocab_size``, ``start_token`` and ``end_token`` are
            required. ``encode`` must return tensors with the images on axis 0, in any nesting.

    Raises:
        ValueError: The model has no buffer of a given name.

    Example:
        >>> import contextlib, torch
        >>> from birnn_decode import BeamSearch, Pair, Template, decode
        >>> from birnn_decode.scorers.torch import BufferScorer
        >>> class Adder(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.register_buffer("total", torch.zeros(0, dtype=torch.int64))
        ...
        ...     @contextlib.contextmanager
        ...     def stateful(self, rows):
        ...         self.total = torch.zeros(rows, dtype=torch.int64)
        ...         yield
        ...
        ...     def step(self, tokens, memory):
        ...         self.total += tokens
        ...         return torch.nn.functional.one_hot((self.total + memory) % 12, 12).double()
        >>> model = Adder()
        >>> scorer = BufferScorer(
        ...     model.step, ["total"], model.stateful, model=model, encode=torch.tensor,
        ...     vocab_size=12, start_token=1, end_token=2,
        ... )
        >>> decode(Pair(scorer, None), 4, Template.blank([3], 2), BeamSearch("forward")).best.tokens
        (3, 8, 4)
    """

    def __init__(
        self,
        step: Callable[[torch.Tensor, Any], torch.Tensor],
        buffers: Sequence[str],
        stateful: Callable[[int], contextlib.AbstractContextManager[Any]],
        *,
        model: torch.nn.Module,
        batch_axis: Any = 0,
        normalized: bool = False,
        **declared: Any,
    ):
        modules = dict(model.named_modules())
        self._places: dict[str, tuple[dict[str, Any], str]] = {}
        for name in buffers:
            path, _, own = name.rpartition(".")
            if path not in modules or own not in modules[path]._buffers:
                raise ValueError(
                    f"{type(model).__name__} has no buffer {name!r}; its buffers are "
                    f"{', '.join(dict(model.named_buffers())) or 'none'}"
                )
            self._places[name] = modules[path]._buffers, own

        def begin(memory: Any) -> Any:
            with self._kept(), stateful(rows_of(memory)):
                return self._taken()

        def advance(tokens: torch.Tensor, own: Any, memory: Any) -> tuple[torch.Tensor, Any]:
            with self._kept(), stateful(len(tokens)):
                # Copies, because a decoder may count in place.
                self._put({name: buffer.clone() for name, buffer in own.items()})
                return step(tokens, memory), self._taken()

        super().__init__(
            advance,
            begin,
            batch_axis=batch_axis,
            condition=lambda memory: memory,
            normalized=normalized,
            aligned=True,
            model=model,
            **declared,
        )

    def _taken(self) -> dict[str, torch.Tensor]:
        return {name: buffers[own] for name, (buffers, own) in self._places.items()}

    def _put(self, state: Mapping[str, torch.Tensor]) -> None:
        for name, (buffers, own) in self._places.items():
            buffers[own] = state[name]

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        before = self._taken()
        try:
            yield
        finally:
            self._put(before)
