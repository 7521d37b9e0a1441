"""Teacher-forced scoring: the log-probability of every word of sentences that are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from birnn_decode.backend import HIGHEST_LOG_PROB, Array
from birnn_decode.scorers import Scorer
from birnn_decode.scorers.answers import backend_of, checked_pair, explain, faulty_scores


def score_given(
    scorer: Scorer,
    context: Any,
    items: Sequence[int],
    sentences: Sequence[tuple[int, ...]],
    name: str,
    gradients: bool,
) -> list[list[Any]]:
    """Read sentences from START to their end, all of them side by side.

    Args:
        scorer: the model; its ``score`` is used where it has one.
        context: what its ``encode`` returned.
        items: for each of the K sentences the number of its image, in ascending order.
        sentences: the words, in the scorer's reading order.
        name: of the direction, for error messages.
        gradients: whether the terms are tensors [] that carry PyTorch's graph, rather than numbers.

    Returns:
        K lists of [words + 1] log-probabilities in nats, the end's last.

    Raises:
        TypeError: gradients of scores that are no tensors.
        ValueError: the scorer gave NaN, +inf, a log-probability above 0, or another number of terms.
    """
    if not sentences:
        return []
    if getattr(scorer, "score", None) is None:
        return _step_by_step(scorer, context, items, sentences, name, gradients)
    try:
        arrays = scorer.score(context, np.asarray(items, dtype=np.int64), list(sentences))  # type: ignore[attr-defined]
    except (IndexError, RuntimeError) as error:
        explain(error, 1 + max(map(len, sentences)), name)
    if len(arrays) != len(sentences):
        raise ValueError(f"the {name} scorer's score gave {len(arrays)} arrays for {len(sentences)} sentences")
    lists = [_terms(terms, name, gradients) for terms in arrays]
    for item, words, terms in zip(items, sentences, lists, strict=True):
        if len(terms) != len(words) + 1:
            raise ValueError(
                f"the {name} scorer's score gave {len(terms)} terms for a sentence of {len(words)} words; "
                "it must give one per word and one for the end"
            )
        for position, term in enumerate(terms):
            if not term < HIGHEST_LOG_PROB:
                raise ValueError(
                    f"the {name} scorer's score gave {term} for item {item} at position {position} of its "
                    "reading order: log-probabilities are 0 or less, and -inf for the impossible"
                )
    return lists


def _terms(array: Array, name: str, gradients: bool) -> list[Any]:
    if not gradients:
        numbers: list[float] = array.tolist()
        return numbers
    if not hasattr(array, "requires_grad"):
        kind = f"{type(array).__module__}.{type(array).__qualname__}"
        raise TypeError(f"gradients=True needs PyTorch models; the {name} scorer's scores are {kind}")
    return list(array)


def _step_by_step(
    scorer: Scorer,
    context: Any,
    items: Sequence[int],
    sentences: Sequence[tuple[int, ...]],
    name: str,
    gradients: bool,
) -> list[list[Any]]:
    """One step per word; a sentence that has ended leaves the batch."""
    normalized = getattr(scorer, "normalized", False)
    tokens = [(*words, scorer.end_token) for words in sentences]
    terms: list[list[Any]] = [[] for _ in sentences]
    reading = list(range(len(sentences)))
    indices: Any = lambda values: np.asarray(values, dtype=np.int64)  # noqa: E731 - until the first scores are here
    state = scorer.select(scorer.start(context), indices(items))
    last = [scorer.start_token] * len(sentences)
    while reading:
        try:
            returned = scorer.step(indices(last), state)
        except (IndexError, RuntimeError) as error:
            explain(error, 1 + len(terms[reading[0]]), name)
        scores, state = checked_pair(returned, f"{name} scorer's step")
        backend = backend_of(scores, (len(reading), scorer.vocab_size), "rows, vocab_size", f"the {name} scorer")
        indices = backend.indices
        log_probs, faulty = backend.log_probs(scores, normalized)
        for row in faulty:
            raise faulty_scores(
                items[reading[row]], sentences[reading[row]][: len(terms[reading[row]])], normalized, name
            )
        follow = [tokens[number][len(terms[number])] for number in reading]
        picked: Array = log_probs[indices(range(len(reading))), indices(follow)]
        for number, term in zip(reading, _terms(picked, name, gradients), strict=True):
            terms[number].append(term)
        rows = [row for row, number in enumerate(reading) if len(terms[number]) < len(tokens[number])]
        if len(rows) < len(reading):
            reading = [reading[row] for row in rows]
            state = scorer.select(state, indices(rows)) if rows else None
        last = [tokens[number][len(terms[number]) - 1] for number in reading]
    return terms
