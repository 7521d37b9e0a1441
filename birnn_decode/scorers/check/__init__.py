"""Check that a scorer does what a search relies on; a wrong wrapping gives plausible but wrong sentences."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from birnn_decode.backend import no_graph
from birnn_decode.scorers.check.basics import Broken, Fault, Skip, first_line
from birnn_decode.scorers.check.report import FAULT, OK, SKIPPED, Finding, Report
from birnn_decode.scorers.check.running import Running
from birnn_decode.scorers.check.told import Told
from birnn_decode.scorers.protocol import REQUIRED, Scorer, as_scorer, eval_mode
from birnn_decode.template import Vocabulary
from birnn_decode.tokenizers import as_vocabulary

__all__ = ["Finding", "Report", "check_scorer"]

OPTIONAL = ("join", "steps", "score")  # checks of a method of the same name, which a scorer may lack
_OTHER = {"forward": "backward", "backward": "forward"}


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
    """Check that a scorer does what a search relies on, and name its faults.

    The checks compare every way in which a search calls the scorer with the simplest one: a single image, one token
    after another, no ``select``. They cover batches, rows that are repeated, dropped and reordered, states that are
    used twice, and prefixes and sentences that are read in one call.

    Only ``captions`` and ``reference`` can show that the simplest way itself is wrong. With captions, the checks find a
    model that is read in the wrong direction, swapped START and END, and scores that are off by one token, if the model
    is trained.

    Modules of PyTorch are in eval mode during the checks and return to their previous mode afterwards.

    Args:
        model: A `Scorer`, or any model that `as_scorer` can wrap without options.
        images: At least two different inputs, as the scorer's ``encode`` takes them. With three or more, the report
            names faults more precisely.
        direction: "forward" or "backward", the order in which the model reads (default: the ``direction`` of the
            scorer). If neither is known, the checks with captions are skipped.
        captions: A true sentence for each image, as text or as ids in the order of the sentence, without START and END
            (default: none).
        vocabulary: The vocabulary that encodes captions given as text (default: the vocabulary of the scorer).
        reference: A scorer of the same model that is known to be right, such as a `PrefixScorer` around the forward
            pass that the model was trained with (default: none).
        other: The scorer of the other direction, to check that both have the same words (default: none).
        seed: Seed of the random prefixes (default: 0).

    Returns:
        A `Report`. ``print(report)`` shows it, and ``report.ok`` is True if there are no faults.

    Raises:
        TypeError: If the model is not a scorer and cannot be wrapped, or if ``images`` is not a list.
        ValueError: If there are fewer than two images, if ``direction`` has another value, or if the captions do not
            fit the images or the vocabulary.

    Example:
        >>> import numpy as np
        >>> from birnn_decode import StepScorer, check_scorer
        >>> logits = np.random.default_rng(0).normal(size=(5, 5))
        >>> def bigrams(normalized):
        ...     return StepScorer(
        ...         step=lambda tokens, state: (logits[tokens], state),
        ...         start=lambda context: None,
        ...         select=lambda state, rows: None,
        ...         normalized=normalized, vocab_size=5, start_token=0, end_token=1, direction="forward",
        ...     )
        >>> check_scorer(bigrams(normalized=False), ["image 1", "image 2"])
        <forward scorer: no fault found>
        >>> report = check_scorer(bigrams(normalized=True), ["image 1", "image 2"])
        >>> report.ok
        False
        >>> report.faults[0].fault, report.faults[0].cure
        ('normalisation', 'leave out normalized=True, or return their log_softmax')
    """
    if isinstance(images, (str, bytes)) or not hasattr(images, "__len__"):
        raise TypeError(f"images is a {type(images).__name__}; give a list of images")
    if len(images) < 2:
        raise ValueError(f"images has {len(images)} entries; give at least 2 different images")
    if direction not in (None, *_OTHER):
        raise ValueError(f'direction must be "forward" or "backward", the way the model reads, got {direction!r}')
    try:
        scorer = as_scorer(model, direction or "given")
    except ValueError as error:
        if not all(hasattr(model, member) for member in REQUIRED):
            raise  # the wrapping failed, so there is no scorer to report on
        return _refused(error, direction, _declared(model))
    way = direction or _declared(scorer)
    vocabulary = as_vocabulary(getattr(scorer, "vocabulary", None) if vocabulary is None else vocabulary)
    ids = None if captions is None else _ids_of(captions, images, scorer, vocabulary)
    sure = None if reference is None else as_scorer(reference, "reference")
    if other is not None and not all(hasattr(other, member) for member in REQUIRED):
        other = as_scorer(other, _OTHER.get(way or "", "given"))
    with no_graph(), eval_mode([scorer] if sure is None else [scorer, sure]):
        checks = _Checks(scorer, list(images), way, ids, vocabulary, sure, other, seed)
        return Report(_name(way), tuple(checks.findings()))


def _declared(model: Any) -> str | None:
    """Return the direction that a model declares, if it is one."""
    declared = getattr(model, "direction", None)
    return declared if isinstance(declared, str) and declared in _OTHER else None


def _name(direction: str | None) -> str:
    return f"{direction} scorer" if direction else "scorer"


def _refused(error: ValueError, direction: str | None, declared: str | None) -> Report:
    """Return the report on a scorer with wrong ids or with another direction than the given one."""
    if direction and declared and direction != declared:
        found = Finding("direction", FAULT, "direction", str(error), f"pass direction={declared!r}, or the other model")
    else:
        found = Finding("vocabulary", FAULT, "vocabulary", str(error), "correct the ids, or vocab_size")
    skipped = f"because {found.check} failed"
    findings = (found if check == found.check else Finding(check, SKIPPED, "", skipped) for check, *_ in CHECKS)
    return Report(_name(direction or declared), tuple(findings))


def _ids_of(
    captions: Sequence[str | Sequence[int]], images: Sequence[Any], scorer: Scorer, vocabulary: Vocabulary | None
) -> list[tuple[int, ...]]:
    """Return the ids of each caption.

    Raises:
        ValueError: If there is not one caption per image, or if a caption does not fit the vocabulary.
    """
    if isinstance(captions, str) or len(captions) != len(images):
        raise ValueError(
            f"captions must be a list of one caption per image: {len(images)} images, {len(captions)} captions"
        )
    encode: Any = getattr(vocabulary, "encode", None)
    found = []
    for number, caption in enumerate(captions):
        if isinstance(caption, str) and encode is None:
            raise ValueError(
                "captions given as text need a vocabulary with encode(text); pass vocabulary=, or give ids"
            )
        try:
            words = tuple(map(operator.index, encode(caption) if isinstance(caption, str) else caption))
        except Exception as error:
            raise ValueError(
                f"caption {number}, {caption!r}, must be a text of known words or a list of ids: {first_line(error)}"
            ) from None
        if any(not 0 <= word < scorer.vocab_size for word in words):
            raise ValueError(f"caption {number} has ids outside the vocabulary of {scorer.vocab_size}: {words}")
        if {scorer.start_token, scorer.end_token} & set(words):
            raise ValueError(f"caption {number} contains START or END: {words}; give only the ids of the words")
        found.append(words)
    return found


class _Checks(Running, Told):
    """All checks of a scorer, in their order."""

    def findings(self) -> Iterator[Finding]:
        """Yield the result of each check; a check is skipped if one that it needs has failed."""
        causes: dict[str, str] = {}  # of each check that failed, or was skipped for that reason, the one that failed
        for check, method, needs in CHECKS:
            cause = next((causes[need] for need in needs if need in causes), None)
            if cause is None:
                finding = self._finding(check, method)
            else:
                finding = Finding(check, SKIPPED, "", f"because {cause} failed")
            if cause is not None or finding.status == FAULT:
                causes[check] = cause or check
            yield finding

    def _finding(self, check: str, method: Callable[[_Checks], None]) -> Finding:
        """Return the result of one check."""
        if check in OPTIONAL and getattr(self.scorer, check, None) is None:
            return Finding(check, SKIPPED, "", f"the scorer has no {check}")
        try:
            method(self)
            return Finding(check, OK)
        except Skip as skip:
            return Finding(check, SKIPPED, "", str(skip))
        except Fault as error:
            fault = error
        except Broken as broken:
            fault = self.blame(broken, check)
        except Exception as error:  # a scorer, a state or a vocabulary may be anything
            fault = Fault(
                check,
                f"a returned value cannot be used: {type(error).__name__}: {first_line(error)}",
                "see birnn_decode.Scorer",
            )
        return Finding(check, FAULT, fault.fault, str(fault), fault.cure)


CHECKS: tuple[tuple[str, Callable[[_Checks], None], tuple[str, ...]], ...] = (
    # name, method, checks that must not have failed
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
    ("steps", _Checks.steps, ("select",)),
    ("score", _Checks.score, ("select",)),
    ("reference", _Checks.compared, ("batch",)),
    ("alignment", _Checks.alignment, ("reference", "steps", "score")),
    ("start and end", _Checks.start_and_end, ("alignment",)),
    ("direction", _Checks.reading_order, ("start and end",)),
    ("start", _Checks.start, ("direction",)),
    ("never", _Checks.not_words, ("vocabulary",)),
    ("special tokens", _Checks.special_tokens, ("never", "direction")),
)
