"""Models with one softmax over both sides of a word, as a search sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from birnn_decode.backend import Array
from birnn_decode.scorers.protocol import Scorer, as_scorer


@runtime_checkable
class JointScorer(Protocol):
    """A model that tells a word from all others of its sentence: p(w_t | w_<t, w_>t).

    It has two halves, each a `Scorer` (or what `as_scorer` makes one of) over the same vocabulary: one has read START
    and the words before a position, the other END and the words behind it. Their scores for the position are added, and
    one softmax is taken over the sum. `birnn_decode.models.BiRNN` is one, and `JointModel` makes one of any two halves.

    Methods that may be left out, and are used where present:
        combine(left, right) -> scores [R, vocab_size]: where the halves' scores are not simply added: the scores,
            unnormalised, that the softmax is taken over, for R pairs of a state of the forward half and one of the
            backward half. States are those that the halves' `step` return, and both halves need `join`. A search then
            calls it for every pair of beams, in place of one product of matrices. The halves' own scores still decide
            where the search begins: where one of them finds known words impossible, its beams end there, and with
            them the search.
        modules() -> its PyTorch modules, those of the halves included: put in eval mode while decoding, and back.
    """

    forward_half: Any
    backward_half: Any


@dataclass(frozen=True)
class JointModel:
    """A `JointScorer` of two halves.

    Attributes:
        forward_half: a `Scorer` that reads left to right.
        backward_half: one that reads right to left.
        combine: see `JointScorer`; None: the halves' scores are added. Two models of a pair, each normalised by itself,
            then give the product of their conditionals, normalised anew. A module, or a method of one, is put in eval
            mode while decoding; what a function closes over is not known, and is to be among a half's modules.
    """

    forward_half: Any
    backward_half: Any
    combine: Callable[[Any, Any], Array] | None = None

    def modules(self) -> Iterator[Any]:
        """The PyTorch modules of ``combine``, if it is a module or a method of one; the halves bring their own."""
        owner: Any = getattr(self.combine, "__self__", self.combine)
        modules: Iterator[Any] = owner.modules() if hasattr(owner, "modules") else iter(())
        return modules


def halves_of(model: Any) -> tuple[Scorer, Scorer]:
    """The scorers of a joint model's halves.

    Raises:
        TypeError: it has no halves, they are no scorers, or its ``combine`` cannot be called or lacks their ``join``.
        ValueError: a half reads the other way.
    """
    if not isinstance(model, JointScorer):
        raise TypeError(
            f"the model is a {type(model).__module__}.{type(model).__qualname__} without forward_half and "
            "backward_half; give a BiRNN, or birnn_decode.JointModel(model_f, model_b) to add the scores of two models"
        )
    combine = getattr(model, "combine", None)
    if combine is not None and not callable(combine):
        raise TypeError(f"the model's combine is {combine!r}; it is a function (left, right) -> scores, or None")
    forward, backward = as_scorer(model.forward_half, "forward"), as_scorer(model.backward_half, "backward")
    for name, half in (("forward", forward), ("backward", backward)):
        if combine is not None and getattr(half, "join", None) is None:
            raise TypeError(f"the model has a combine, and its {name} half no join(states) -> state, which that needs")
    return forward, backward
