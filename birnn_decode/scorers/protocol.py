"""The Scorer protocol: what a model must offer to be searched."""

from __future__ import annotations

import contextlib
import math
import operator
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol, cast, runtime_checkable

from birnn_decode.backend import Array

REQUIRED = ("vocab_size", "start_token", "end_token", "encode", "start", "step", "select")


@runtime_checkable
class Scorer(Protocol):
    """A model of one reading direction, as a search sees it.

    A scorer knows nothing of directions: a backward model is a scorer that reads sentences right to left, whose
    ``start_token`` is the sentence's END and whose ``end_token`` is the sentence's START. There are N images and R
    rows (hypotheses); rows of one image stand together. Tokens and row numbers are int64 arrays: NumPy in the first
    call of a search, of the scores' library and device from then on.

    Scores and states, once returned, must not change: `step` and `select` leave the state they are given as it is, and
    later calls leave what was returned earlier as it is. A search keeps both, without a copy, for as long as it needs
    them, and changes neither.

    Attributes that may be left out:
        normalized (bool, False): True where `step` returns log-probabilities in nats; False: logits, which the search
            normalises over the whole vocabulary.
        aligned (bool, True): every row of one call must have read equally many tokens (caches, prefixes); False:
            rows are independent of each other (plain RNN states), and the search may make larger batches.
        never (frozenset[int], START and END): ids that are no words: START, END, PAD, UNK. A blank never takes an id
            that is in the ``never`` of either scorer; START and END are always in it.
        vocabulary: has ``encode(text) -> ids`` and ``decode(ids) -> text``; used where the caller passes none.
        direction (str): "forward" or "backward", which way the model reads; saves a caller who mixes the two up.
        max_tokens (int): the most tokens, START included, that the model can read of a sentence.
        room(context) -> the same where it depends on the images, or None.

    Methods that may be left out, and are used where present:
        join(states) -> state: the rows of several states, one state after another. With it, rows whose prefixes were
            read at different times ride in one step.
        prefill(context, items [R], prefixes [R, t]) -> (scores [R, t, vocab_size], state): read ``prefixes``, START in
            front, for the images numbered ``items``, in one call; the scores of the token after each one read.
        score(context, items [K], sentences) -> K arrays [words + 1]: the log-probability in nats of each word of K
            sentences (tuples of ids in this scorer's reading order, START left out) and, last, of the end.
        state_bytes(state) -> the memory that it takes, for ``memory_limit``; without it states count as nothing.
        modules() -> its PyTorch modules, all of them: put in eval mode while decoding, and back. A scorer that is a
            `torch.nn.Module` has it.
    """

    vocab_size: int
    start_token: int
    end_token: int

    def encode(self, images: Sequence[Any]) -> Any:
        """Whatever the model needs of N images, once per call."""
        ...

    def start(self, context: Any) -> Any:
        """The state of N rows, one per image, nothing read yet."""
        ...

    def step(self, tokens: Array, state: Any) -> tuple[Array, Any]:
        """Read ``tokens`` [R]: scores [R, vocab_size] of the next token, and the state after reading."""
        ...

    def select(self, state: Any, rows: Array) -> Any:
        """A new state of the given rows of ``state``: repeated, dropped, reordered."""
        ...


def as_scorer(model: Any, /, direction: str = "given", **options: Any) -> Scorer:
    """The scorer of a model; a scorer passes through.

    Recognised are Hugging Face's ``VisionEncoderDecoderModel``, BLIP, GIT and causal language models
    (`birnn_decode.scorers.huggingface`), models with ``get_logprobs_state`` (`birnn_decode.scorers.captioning`), and
    functions of (images, prefixes), which become a `PrefixScorer`. ``bscd_decode`` and its like call this for the
    models that they are given, so that it need not be called where no options are wanted.

    Args:
        model: an object with the members of `Scorer`, or one of the above.
        direction: ``"forward"`` or ``"backward"``, where known: which way it is to read; named in error messages.
        options: what the wrapper is told, such as ``start_token=``, ``vocabulary=``, ``encode=``.

    Raises:
        TypeError: the model is not a scorer and none of these; the message says what would make one of it.
        ValueError: its ids do not fit its vocabulary, or it says that it reads in the other direction.
    """
    if all(hasattr(model, name) for name in REQUIRED):
        if options:
            raise TypeError(
                f"the {direction} model is a scorer already, which {', '.join(options)} cannot change; give that to "
                "the wrapper that made it"
            )
    else:
        if direction in ("forward", "backward"):
            options = {"direction": direction, **options}
        model = _wrapped(model, direction, options)
    return _checked(model, direction)


def _wrapped(model: Any, direction: str, options: dict[str, Any]) -> Any:
    """The scorer of a model that is recognised."""
    transformers = sys.modules.get("transformers")
    if transformers is not None and isinstance(model, transformers.PreTrainedModel):
        from birnn_decode.scorers.huggingface import kind_of

        if (kind := kind_of(model)) is not None:
            _check_options(model, options, kind.OPTIONS)
            return kind(model, **options)
    elif hasattr(model, "get_logprobs_state"):
        if "features" not in options:
            raise TypeError(
                f"the {direction} model is {_kind(model)}, which has get_logprobs_state: as_scorer needs features= a "
                "function from a list of images to the tensors that stand between tokens and state there"
            )
        from birnn_decode.scorers.captioning import LogprobsStateScorer

        _check_options(model, options, LogprobsStateScorer.OPTIONS)
        return LogprobsStateScorer(model, **options)
    elif callable(model) and not hasattr(model, "modules") and not isinstance(model, type):
        if missing := [name for name in REQUIRED[:3] if name not in options]:
            raise TypeError(
                f"the {direction} model is {_kind(model)}: to make a PrefixScorer of a function (images, prefixes) -> "
                f"scores, as_scorer needs {', '.join(name + '=' for name in missing)}"
            )
        from birnn_decode.scorers.wrappers import OPTIONS, PrefixScorer

        _check_options(model, options, OPTIONS | {"normalized"})
        return PrefixScorer(model, **options)
    missing = [name for name in REQUIRED if not hasattr(model, name)]
    if hasattr(model, "forward_half") and hasattr(model, "backward_half"):
        raise TypeError(
            f"the {direction} model is {_kind(model)}, whose halves have one softmax: decode with "
            "joint_decode(model, image, template), or joint_compare for all methods"
        )
    raise TypeError(
        f"the {direction} model is {_kind(model)}, which is not a Scorer: it lacks {', '.join(missing)}. "
        "Wrap a decoder of recurrent layers with birnn_decode.scorers.recurrent.RecurrentScorer, a step function "
        "with StepScorer or birnn_decode.scorers.torch.TorchScorer, a function of (image, prefix) with PrefixScorer"
    )


def _check_options(model: Any, options: Collection[str], known: Collection[str]) -> None:
    if unknown := sorted(set(options) - set(known)):
        raise TypeError(
            f"as_scorer has no option {', '.join(unknown)} for {_kind(model)}; there are {', '.join(sorted(known))}"
        )


def _checked(model: Any, direction: str) -> Scorer:
    """A scorer whose ids fit its vocabulary, and that reads the way it is to read.

    Raises:
        TypeError, ValueError: see `as_scorer`.
    """
    reads = getattr(model, "direction", None) or direction
    if {reads, direction} == {"forward", "backward"}:
        raise ValueError(f"the model given as the {direction} one reads {reads}: are the two models swapped?")
    if not hasattr(model.vocab_size, "__index__"):
        raise TypeError(f"the {direction} scorer's vocab_size is {model.vocab_size!r}; it is a whole number")
    most = getattr(model, "max_tokens", None)
    if most is not None and not hasattr(most, "__index__"):
        raise TypeError(f"the {direction} scorer's max_tokens is {most!r}; it is a whole number, or None")
    if not isinstance(getattr(model, "never", None) or (), Collection):
        raise TypeError(f"the {direction} scorer's never is {model.never!r}; it is a set of ids")
    vocab_size = operator.index(model.vocab_size)
    named = {"start_token": {model.start_token}, "end_token": {model.end_token}, "never": never_of(model)}
    for name, ids in named.items():
        for token in ids:
            if not hasattr(token, "__index__"):
                raise TypeError(f"the {direction} scorer's {name} has {token!r}, which is no id; ids are whole numbers")
            if not 0 <= operator.index(token) < vocab_size:
                raise ValueError(
                    f"the {direction} scorer's {name} has id {token}, outside of its vocabulary of {vocab_size} ids"
                )
    return cast(Scorer, model)


@contextlib.contextmanager
def eval_mode(scorers: Iterable[Scorer]) -> Iterator[None]:
    """The scorers' modules are in eval mode inside, and each is as it was afterwards."""
    modules = [module for scorer in scorers if hasattr(scorer, "modules") for module in scorer.modules()]
    before = [(module, module.training) for module in modules]
    try:
        for module in modules:
            module.training = False
        yield
    finally:
        for module, training in before:
            module.training = training


def never_of(scorer: Scorer) -> frozenset[int]:
    """The ids that are no words for this scorer: its ``never``, START and END."""
    return frozenset(getattr(scorer, "never", None) or ()) | {scorer.start_token, scorer.end_token}


def room_of(scorer: Scorer, context: Any) -> float:
    """The most tokens, START included, that a scorer can read of a sentence about the images of a context."""
    limits = [getattr(scorer, "max_tokens", None)]
    if hasattr(scorer, "room"):
        limits.append(scorer.room(context))
    return min((limit for limit in limits if limit is not None), default=math.inf)


def _kind(model: object) -> str:
    return "None" if model is None else f"a {type(model).__module__}.{type(model).__qualname__}"
