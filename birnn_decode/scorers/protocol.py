"""The Scorer protocol: the attributes and methods that a search needs from a model."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol, cast, runtime_checkable

from birnn_decode.backend import Array
from birnn_decode.checks import type_name
from birnn_decode.scorers.answers import whole_number
from birnn_decode.scorers.wrappers import PrefixScorer

REQUIRED = ("vocab_size", "start_token", "end_token", "encode", "start", "step", "select")


@runtime_checkable
class Scorer(Protocol):
    """Model of one reading direction, as a search sees it.

    A scorer reads one token after another and gives a score to every possible next token. It does not know its
    direction. A backward model is a scorer that reads sentences from right to left. If the model was trained on
    sentences that were reversed together with START and END, its ``start_token`` is the END of the sentence and its
    ``end_token`` is the START.

    In the shapes below, N is the number of images and R is the number of rows. A row is one hypothesis. All rows of an
    image stand next to each other. Tokens and row numbers are int64 arrays. In the first call of a search they are
    NumPy arrays. In later calls they belong to the library and the device of the scores.

    A method must not change the scores and states that it or another method returned earlier. In particular, `step` and
    `select` must not change the state that they are given. A search keeps scores and states without a copy, and it does
    not change them.

    Attributes:
        vocab_size (int): Number of ids.
        start_token (int): Id that begins a sentence, in the reading order of the model.
        end_token (int): Id that ends a sentence, in the reading order of the model.
        normalized (bool): Optional. True: `step` returns log-probabilities, in nats. False: `step` returns logits, and
            the search normalises them over the whole vocabulary. (default: False)
        aligned (bool): Optional. True: all rows of a call must have read the same number of tokens, as with a cache.
            False: rows are independent, as in a plain RNN, and the search may make larger batches. A row that
            reads START shares a call only with others that do. (default: True)
        never (frozenset[int]): Optional. Ids that are not words, such as PAD and UNK. A blank is never filled with an
            id that is in the ``never`` of either model. START and END always count as members. (default: empty)
        boundaries (frozenset[int]): Optional. Ids besides START and END that are read before or after the words of
            every sentence, such as the language of a translation. A template that has one is refused.
        vocabulary: Optional. Object with ``encode(text) -> ids`` and ``decode(ids) -> text``. It is used if the caller
            passes no vocabulary.
        direction (str): Optional. "forward" or "backward", the direction in which the model reads. A model that is
            given for the other direction is then refused.
        max_tokens (int): Optional. Largest number of tokens of a sentence that the model can read, START included.

    Optional methods, which a search calls if they exist:

    - ``room(context) -> int | None``: the same limit as ``max_tokens``, if it depends on the images.
    - ``join(states) -> state``: the rows of several states, one state after the other. With ``join``, rows whose
      prefixes were read at different times can share one step.
    - ``steps(tokens, state) -> (scores, state)``: the same as `step` for several tokens per row. ``tokens`` has shape
      [R, t]. ``scores`` [R, t, vocab_size] are the scores of the token after each token that was read, and the new
      state is the one after the last token. A search reads known words and candidates in this way, in fewer and larger
      calls. Rows of different lengths are padded with ``end_token`` at their ends. The scores and states of padding are
      not used, and a row with its padding never has more than ``max_tokens`` tokens.
    - ``score(context, items, sentences) -> arrays``: log-probabilities of K whole sentences, in nats. A sentence is a
      tuple of ids in the reading order of the scorer, without START. The result is K arrays [words + 1]: one value per
      word and a last value for the end.
    - ``state_bytes(state) -> int``: memory that the state takes, in bytes, for ``memory_limit``. Without it, states
      count as 0 bytes.
    - ``modules()``: all PyTorch modules of the model. They are put in eval mode while decoding, and restored. A scorer
      that is a ``torch.nn.Module`` has this method already.

    Example:
        A bigram model, whose next word depends on the last word only. It needs no state.

        >>> import numpy as np
        >>> from birnn_decode import Scorer
        >>> class Bigrams:
        ...     vocab_size, start_token, end_token = 5, 0, 1
        ...     logits = np.arange(25.0).reshape(5, 5)
        ...
        ...     def encode(self, images):
        ...         return None
        ...
        ...     def start(self, context):
        ...         return None
        ...
        ...     def step(self, tokens, state):
        ...         return self.logits[tokens], state
        ...
        ...     def select(self, state, rows):
        ...         return state
        >>> isinstance(Bigrams(), Scorer)
        True
    """

    vocab_size: int
    start_token: int
    end_token: int

    def encode(self, images: Sequence[Any]) -> Any:
        """Compute what the model needs to know about the images.

        A search calls this method once.

        Args:
            images: List of N images, or of other inputs of the model.

        Returns:
            Context, which may be any object. It is given to `start`.
        """
        ...

    def start(self, context: Any) -> Any:
        """Make the state in which no token has been read.

        Args:
            context: Result of `encode` for N images.

        Returns:
            A state of N rows, one per image.
        """
        ...

    def step(self, tokens: Array, state: Any) -> tuple[Array, Any]:
        """Read one token per row and score every possible next token.

        Args:
            tokens: Ids, shape [R].
            state: State of R rows.

        Returns:
            Pair of the scores of the next token, shape [R, vocab_size], and the state after reading.
        """
        ...

    def select(self, state: Any, rows: Array) -> Any:
        """Make a state from some rows of another state.

        Args:
            state: State of any number of rows.
            rows: Row numbers, shape [R]. A row may be missing, repeated or moved.

        Returns:
            A new state of R rows.
        """
        ...


def as_scorer(model: Any, /, direction: str = "given", **options: Any) -> Scorer:
    """Wrap a model as a `Scorer`; return a scorer as it is.

    These models are recognised:

    - every model of Hugging Face that has ``generate``: encoder-decoders such as T5, BART, Marian and Whisper,
      captioners such as BLIP, and language models, also those that see pictures;
    - models with ``get_logprobs_state``, with the option ``features``;
    - functions ``(images, prefixes) -> scores``, with the options ``vocab_size``, ``start_token`` and ``end_token``.
      The result is a `PrefixScorer`.

    A model inside of ``DataParallel``, ``DistributedDataParallel``, ``torch.compile`` or PEFT is taken out first.
    `decode` and the other functions of the package wrap their models in this way. Call `as_scorer` yourself only to
    give options.

    Args:
        model: A scorer, or one of the models above.
        direction: "forward" or "backward", if known: the direction in which the model is going to read. It is also the
            name of the model in error messages. (default: "given")
        **options: Arguments of the wrapper, such as ``start_token``, ``vocabulary`` or ``encode``; see `Wrapper`.

    Returns:
        The scorer.

    Raises:
        TypeError: The model is not recognised, an option is missing or unknown, or an id is not an integer.
        ValueError: An id is outside the vocabulary, or the model reads in the other direction.

    Example:
        >>> import numpy as np
        >>> from birnn_decode import as_scorer
        >>> def uniform(images, prefixes):
        ...     return np.zeros((len(prefixes), 6))
        >>> scorer = as_scorer(uniform, vocab_size=6, start_token=0, end_token=1)
        >>> scorer.vocab_size
        6
        >>> as_scorer(scorer) is scorer
        True
    """
    model = unwrapped(model)
    if all(hasattr(model, name) for name in REQUIRED):
        if options:
            raise TypeError(
                f"the {direction} model is a scorer already, which {', '.join(options)} cannot change. Give these "
                "options to the wrapper that made the scorer"
            )
    else:
        if direction in ("forward", "backward"):
            options = {"direction": direction, **options}
        model = _wrapped(model, direction, options)
    return _checked(model, direction)


def unwrapped(model: Any) -> Any:
    """Return the model inside of PyTorch's and PEFT's wrappers.

    ``DataParallel``, ``DistributedDataParallel``, a module of ``torch.compile`` and a ``PeftModel`` decode as the model
    inside. The weights that PEFT puts into the layers of this model, such as LoRA, take part.

    Args:
        model: Any model.

    Returns:
        The innermost model; ``model`` itself if it is not wrapped.

    Raises:
        TypeError: PEFT adds a prompt in front of the model, which the model inside does not have.

    Example:
        >>> import torch
        >>> from birnn_decode.scorers import unwrapped
        >>> model = torch.nn.Linear(2, 2)
        >>> unwrapped(torch.nn.DataParallel(model)) is model
        True
    """
    torch, peft = sys.modules.get("torch"), sys.modules.get("peft")
    while torch is not None:
        if isinstance(model, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
            model = model.module
        elif isinstance(model, torch.nn.Module) and "_orig_mod" in model._modules:
            model = model._orig_mod
        elif peft is not None and isinstance(model, peft.PeftModel):
            if model.active_peft_config.is_prompt_learning:
                raise TypeError(
                    f"{type_name(model)} puts a learnt prompt in front of the model, which decoding would leave out. "
                    "Wrap it with PrefixScorer"
                )
            model = model.get_base_model()
        else:
            break
    return model


def _wrapped(model: Any, direction: str, options: dict[str, Any]) -> Any:
    """Wrap a model that is recognised."""
    given = f"the {direction} model is {type_name(model)}"
    wrapper = _wrapper_for(model)
    if wrapper is None and hasattr(model, "forward_half") and hasattr(model, "backward_half"):
        raise TypeError(
            f"{given}, whose two halves have one softmax. Give it to decode in place of a Pair: "
            "decode(model, image, template)"
        )
    if wrapper is None:
        no_head = ", and has no language-modeling head for generate" if hasattr(model, "can_generate") else ""
        raise TypeError(
            f"{given}, which is not a Scorer{no_head}: it lacks "
            f"{', '.join(name for name in REQUIRED if not hasattr(model, name))}. Wrap a decoder of recurrent layers "
            "with birnn_decode.scorers.recurrent.RecurrentScorer, a step function with StepScorer or "
            "birnn_decode.scorers.torch.TorchScorer, a function of (images, prefixes) with PrefixScorer"
        )
    if missing := [f"{name}= ({what})" for name, what in wrapper.NEEDED.items() if name not in options]:
        raise TypeError(f"{given}: as_scorer needs {', '.join(missing)} to make a {wrapper.__name__} of it")
    if unknown := sorted(options.keys() - wrapper.OPTIONS):
        raise TypeError(
            f"as_scorer has no option {', '.join(unknown)} for {type_name(model)}. The options are "
            f"{', '.join(sorted(wrapper.OPTIONS))}"
        )
    return wrapper(model, **options)


def _wrapper_for(model: Any) -> Any:
    """Find the wrapper class for a model, or None."""
    transformers = sys.modules.get("transformers")
    if transformers is not None and isinstance(model, transformers.PreTrainedModel):
        from birnn_decode.scorers.huggingface import HuggingFaceScorer

        return HuggingFaceScorer if model.can_generate() else None
    if hasattr(model, "get_logprobs_state"):
        from birnn_decode.scorers.torch import LogprobsStateScorer

        return LogprobsStateScorer
    is_function = callable(model) and not hasattr(model, "modules") and not isinstance(model, type)
    return PrefixScorer if is_function else None


def _checked(model: Any, direction: str) -> Scorer:
    """Check the ids and the direction of a scorer.

    Raises:
        TypeError, ValueError: See `as_scorer`.
    """
    reads = getattr(model, "direction", None) or direction
    if {reads, direction} == {"forward", "backward"}:
        raise ValueError(f"the model given as the {direction} one reads {reads}: are the two models swapped?")
    scorer = f"the {direction} scorer's"
    vocab_size = whole_number(model.vocab_size, f"{scorer} vocab_size")
    if getattr(model, "max_tokens", None) is not None:
        whole_number(model.max_tokens, f"{scorer} max_tokens")
    if not isinstance(getattr(model, "never", None) or (), Collection):
        raise TypeError(f"{scorer} never must be a set of ids, got {model.never!r}")
    for name, ids in (
        ("start_token", {model.start_token}),
        ("end_token", {model.end_token}),
        ("never", never_of(model)),
    ):
        for token in ids:
            if not 0 <= whole_number(token, f"{scorer} {name}: an id") < vocab_size:
                raise ValueError(f"{scorer} {name} has id {token}, outside of its vocabulary of {vocab_size} ids")
    return cast(Scorer, model)


@contextlib.contextmanager
def eval_mode(scorers: Iterable[Any]) -> Iterator[None]:
    """Put the PyTorch modules of scorers in eval mode, and restore them at the end.

    Args:
        scorers: scorers, or PyTorch modules. A scorer without a method ``modules`` is left as it is.

    Example:
        >>> import torch
        >>> from birnn_decode.scorers import as_scorer, eval_mode
        >>> model = torch.nn.Embedding(6, 6)
        >>> scorer = as_scorer(
        ...     lambda images, prefixes: model(prefixes[:, -1]),
        ...     vocab_size=6, start_token=0, end_token=1, model=model,
        ... )
        >>> with eval_mode([scorer]):
        ...     model.training
        False
        >>> model.training
        True
    """
    modules = (module for scorer in scorers if hasattr(scorer, "modules") for module in scorer.modules())
    before = [(module, module.training) for module in modules]
    try:
        for module, _ in before:
            module.training = False
        yield
    finally:
        for module, training in before:
            module.training = training


def never_of(scorer: Scorer) -> frozenset[int]:
    """Return the ids that are not words for a scorer: its ``never``, START and END.

    Args:
        scorer: Scorer.

    Returns:
        A set of ids.

    Example:
        >>> from birnn_decode import PrefixScorer
        >>> from birnn_decode.scorers import never_of
        >>> scorer = PrefixScorer(None, vocab_size=6, start_token=0, end_token=1, never={3})
        >>> sorted(never_of(scorer))
        [0, 1, 3]
    """
    return frozenset(getattr(scorer, "never", None) or ()) | {scorer.start_token, scorer.end_token}


def boundaries_of(scorer: Scorer) -> frozenset[int]:
    """Return the ids that are read before or after the words of a sentence.

    These are START, END and the ``boundaries`` of the scorer.

    Args:
        scorer: Scorer.

    Returns:
        A set of ids.

    Example:
        >>> from birnn_decode import PrefixScorer
        >>> from birnn_decode.scorers import boundaries_of
        >>> sorted(boundaries_of(PrefixScorer(None, vocab_size=6, start_token=0, end_token=1)))
        [0, 1]
    """
    return frozenset(getattr(scorer, "boundaries", None) or ()) | {scorer.start_token, scorer.end_token}


def room_of(scorer: Scorer, context: Any) -> float:
    """Return the largest number of tokens of a sentence that a scorer can read.

    Args:
        scorer: Scorer.
        context: Result of ``scorer.encode`` for the images of a search.

    Returns:
        A number of tokens, START included; infinity if there is no limit.

    Example:
        >>> from birnn_decode import PrefixScorer
        >>> from birnn_decode.scorers import room_of
        >>> ids = {"vocab_size": 6, "start_token": 0, "end_token": 1}
        >>> room_of(PrefixScorer(None, max_tokens=20, **ids), context=[None])
        20
        >>> room_of(PrefixScorer(None, **ids), context=[None])
        inf
    """
    limits = [getattr(scorer, "max_tokens", None), scorer.room(context) if hasattr(scorer, "room") else None]
    return min((limit for limit in limits if limit is not None), default=math.inf)
