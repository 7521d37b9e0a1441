"""Does a scorer do what a search relies on? Faults in a wrapping give plausible, wrong sentences; this names them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from birnn_decode.backend import no_graph
from birnn_decode.scorers.check.reading import Broken, Fault, Skip, first_line
from birnn_decode.scorers.check.report import FAULT, OK, SKIPPED, Finding, Report
from birnn_decode.scorers.check.rows import Rows
from birnn_decode.scorers.check.running import Running
from birnn_decode.scorers.check.told import Told
from birnn_decode.scorers.protocol import REQUIRED, Scorer, as_scorer, eval_mode
from birnn_decode.template import Vocabulary
from birnn_decode.tokenizers import as_vocabulary


def check_scorer(
    model: Any,
    images: Sequence[Any],
    *,
    direction: str | None = None,
    captions: Sequence[str | Sequence[int]] | None = None,
    vocabulary: Vocabulary | None = None,
    reference: Any = None,
    other: Any = None,
    seed: int = 0,
) -> Report:
    """Check that a scorer does what a search relies on, and name the fault where it does not.

    What is expected comes from the plainest use there is: one image, one token after another, no `select`. All else,
    batches, rows that are repeated and moved, states that are used twice, prefixes read in one call, must agree with
    it. Whether that plainest use is itself right, only captions and a ``reference`` can tell.

    Args:
        model: the scorer.
        images: at least two different ones; three or more tell faults apart better.
        direction: "forward" or "backward", the way it reads; its own ``direction`` if not given.
        captions: a true sentence for each image, in text or as ids in the sentence's order, without START and END.
            They tell a model that is read the wrong way, has START and END swapped, or is a token off, if it was
            trained at all.
        vocabulary: for captions in text; the scorer's if not given.
        reference: a scorer of the same model that is surely right, such as a `PrefixScorer` around the forward pass
            that it was trained with.
        other: the scorer of the other direction, which must have the same vocabulary.
        seed: of the random prefixes.

    Returns:
        a `Report`: ``assert report.ok``, ``print(report)``.

    Raises:
        TypeError: the model is not a scorer at all.
        ValueError: fewer than two images, or captions that do not go with them or the vocabulary.
    """
    if isinstance(images, (str, bytes)) or not hasattr(images, "__len__"):
        raise TypeError(f"images is a {type(images).__name__}; give a list of images")
    if len(images) < 2:
        raise ValueError(f"give at least 2 different images, so that rows can be told apart; got {len(images)}")
    if direction not in (None, "forward", "backward"):
        raise ValueError(f'direction={direction!r}: use "forward" or "backward", the way the model reads')
    reads = getattr(model, "direction", None)
    way = direction or (reads if reads in ("forward", "backward") else None)
    name = f"{way} scorer" if way else "scorer"
    try:
        scorer = as_scorer(model, way or "given")
    except ValueError as error:
        if not all(hasattr(model, member) for member in REQUIRED):
            raise  # it is the wrapping that failed
        swapped = "swapped" in str(error)
        fault = "direction" if swapped else "vocabulary"
        cure = f"pass direction={reads!r}, or the other model" if swapped else "correct the ids, or vocab_size"
        skipped = {check: Finding(check, SKIPPED, "", f"because {fault} failed") for check, *_ in CHECKS}
        findings = [*{**skipped, fault: Finding(fault, FAULT, fault, str(error), cure)}.values()]
        return Report(name, tuple(findings))
    if way is None and getattr(scorer, "direction", None) in ("forward", "backward"):
        way = scorer.direction  # type: ignore[attr-defined]
        name = f"{way} scorer"
    vocabulary = as_vocabulary(getattr(scorer, "vocabulary", None) if vocabulary is None else vocabulary)
    ids = None if captions is None else _ids_of(captions, images, scorer, vocabulary)
    sure = None if reference is None else as_scorer(reference, "reference")
    if other is not None and not all(hasattr(other, member) for member in REQUIRED):
        other = as_scorer(other, {"forward": "backward", "backward": "forward"}.get(way or "", "given"))
    with no_graph(), eval_mode([scorer] if sure is None else [scorer, sure]):
        checks = _Checks(scorer, list(images), way, ids, vocabulary, sure, other, seed)
        return Report(name, tuple(checks.findings()))


def _ids_of(
    captions: Sequence[str | Sequence[int]], images: Sequence[Any], scorer: Scorer, vocabulary: Vocabulary | None
) -> list[tuple[int, ...]]:
    if isinstance(captions, str) or len(captions) != len(images):
        raise ValueError(f"give a list of one caption per image: {len(images)} images, {len(captions)} captions")
    found = []
    for number, caption in enumerate(captions):
        if isinstance(caption, str):
            if vocabulary is None:
                raise ValueError("captions in text need a vocabulary with encode(text): pass vocabulary=, or ids")
            try:
                words = tuple(map(operator.index, vocabulary.encode(caption)))
            except Exception as error:
                raise ValueError(f"caption {number}, {caption!r}: {first_line(error)}") from None
        else:
            try:
                words = tuple(map(operator.index, caption))
            except TypeError:
                raise ValueError(f"caption {number} is {caption!r}: give a text or a list of ids") from None
        if any(not 0 <= word < scorer.vocab_size for word in words):
            raise ValueError(f"caption {number} has ids outside of the vocabulary of {scorer.vocab_size}: {words}")
        if {scorer.start_token, scorer.end_token} & set(words):
            raise ValueError(f"caption {number} has START or END among its ids, {words}: give the words alone")
        found.append(words)
    return found


class _Checks(Running, Rows, Told):
    """All checks of a scorer, in their order."""

    def findings(self) -> Iterator[Finding]:
        blocked: dict[str, str] = {}
        for check, method, needs in CHECKS:
            root = next((blocked[need] for need in needs if need in blocked), None)
            if root is not None:
                blocked[check] = root
                yield Finding(check, SKIPPED, "", f"because {root} failed")
                continue
            try:
                method(self)
            except Skip as skip:
                yield Finding(check, SKIPPED, "", str(skip))
            except Fault as fault:
                blocked[check] = check
                yield Finding(check, FAULT, fault.fault, fault.message, fault.cure)
            except Broken as broken:
                blocked[check] = check
                blamed = self.blame(broken, check)
                yield Finding(check, FAULT, blamed.fault, blamed.message, blamed.cure)
            except Exception as error:  # what a scorer, a state or a vocabulary may be is up to their authors
                blocked[check] = check
                told = f"{type(error).__name__}: {first_line(error)}"
                yield Finding(
                    check, FAULT, check, f"what it returned cannot be used, {told}", "see birnn_decode.Scorer"
                )
            else:
                yield Finding(check, OK)


CHECKS: tuple[tuple[str, Callable[[_Checks], None], tuple[str, ...]], ...] = (
    # name, method, the checks that must not have failed
    ("vocabulary", _Checks.vocabulary, ()),
    ("shapes", _Checks.shapes, ("vocabulary",)),
    ("finite", _Checks.finite, ("shapes",)),
    ("randomness", _Checks.randomness, ("finite",)),
    ("normalisation", _Checks.normalisation, ("randomness",)),
    ("batch", _Checks.batch, ("normalisation",)),
    ("mutation", _Checks.mutation, ("batch",)),
    ("batch axis", _Checks.batch_axis, ("mutation",)),
    ("features", _Checks.features, ("batch axis",)),
    ("select", _Checks.select, ("features",)),
    ("views", _Checks.views, ("select",)),
    ("scores", _Checks.scores, ("mutation",)),
    ("join", _Checks.join, ("views",)),
    ("prefill", _Checks.prefill, ("select",)),
    ("score", _Checks.score, ("select",)),
    ("reference", _Checks.compared, ("batch",)),
    ("alignment", _Checks.alignment, ("reference", "prefill", "score")),
    ("start and end", _Checks.start_and_end, ("alignment",)),
    ("direction", _Checks.reading_order, ("start and end",)),
    ("start", _Checks.start, ("direction",)),
    ("never", _Checks.not_words, ("vocabulary",)),
    ("special tokens", _Checks.special_tokens, ("never", "direction")),
)
