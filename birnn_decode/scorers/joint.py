"""Joint models: models with one softmax over both sides of a word."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from birnn_decode.backend import Array
from birnn_decode.scorers.protocol import Scorer, as_scorer


@runtime_checkable
class JointScorer(Protocol):
    """A model with one softmax over both sides of a word.

    It gives p(w_t | all other words) with two halves. Each half is a `Scorer`, or a model that `as_scorer` can wrap,
    over the same vocabulary. The forward half has read START and the words before a position, the backward half END and
    the words after it. Their scores for the position are added, and one softmax is taken over the sum. `BiRNN` is a
    `JointScorer`, and `JointModel` makes one of any two halves.

    A `JointScorer` may have these members, too:

    - ``combine(left, right) -> scores [R, vocab_size]``, if the halves' scores are not simply added. It returns the
      scores, unnormalised, for R pairs of a state of the forward half and a state of the backward half. States are
      those that the halves' ``step`` returns, and both halves need ``join``. A search then calls ``combine`` for every
      pair of beams, instead of one matrix product. The first beams still come from the halves' own scores: if a half
      finds known words impossible, the search ends with ``"dead_end"``.
    - ``modules()``, its PyTorch modules, including those of the halves. They are in eval mode while decoding.
    - ``vocabulary``, as for a `Scorer`.

    Attributes:
        forward_half: the half that reads left to right.
        backward_half: the half that reads right to left.

    Example:
        >>> from birnn_decode import JointModel, JointScorer
        >>> isinstance(JointModel(object(), object()), JointScorer)
        True
    """

    forward_half: Any
    backward_half: Any


@dataclass(frozen=True)
class JointModel:
    """A `JointScorer` made of two halves.

    Args:
        forward_half: a `Scorer` that reads left to right.
        backward_half: a `Scorer` that reads right to left.
        combine: see `JointScorer`. Default: None, the halves' scores are added. With two models of a pair, each
            normalised by itself, this gives the product of their conditionals, normalised again. If ``combine`` is a
            PyTorch module or a method of one, the module is in eval mode while decoding. The library cannot see the
            modules that a function uses: make them part of a half.

    Example:
        >>> from birnn_decode import JointModel, decode
        >>> from birnn_decode.captions import make_scene
        >>> from birnn_decode.models import default_pair
        >>> pair, picture = default_pair(), make_scene(seed=2, number=4).picture()
        >>> decode(JointModel(pair.forward, pair.backward), picture, "a small _ circle").best.text
        'a small green circle'
    """

    forward_half: Any
    backward_half: Any
    combine: Callable[[Any, Any], Array] | None = None

    def modules(self) -> Iterator[Any]:
        """Return the PyTorch modules of ``combine``. The halves bring their own.

        Returns:
            an iterator over the modules; empty if ``combine`` is not a module or a method of one.
        """
        owner: Any = getattr(self.combine, "__self__", self.combine)
        return owner.modules() if hasattr(owner, "modules") else iter(())


def halves_of(model: JointScorer) -> tuple[Scorer, Scorer]:
    """Wrap the halves of a joint model.

    Returns:
        the scorers of the forward and the backward half.

    Raises:
        TypeError: a half cannot be wrapped, ``combine`` cannot be called, or a half lacks the ``join`` for it.
        ValueError: a half reads the other way.
    """
    combine = getattr(model, "combine", None)
    if combine is not None and not callable(combine):
        raise TypeError(f"combine must be a function (left, right) -> scores, or None, got {combine!r}.")
    forward, backward = as_scorer(model.forward_half, "forward"), as_scorer(model.backward_half, "backward")
    for name, half in (("forward", forward), ("backward", backward)):
        if combine is not None and getattr(half, "join", None) is None:
            raise TypeError(f"combine needs join(states) -> state of both halves, and the {name} half has none.")
    return forward, backward
