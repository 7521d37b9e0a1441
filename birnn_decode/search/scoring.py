"""Teacher-forced scoring: the log-probability of every word of given sentences."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from birnn_decode.backend import HIGHEST_LOG_PROB, Array
from birnn_decode.scorers.answers import backend_of, explain, faulty_scores
from birnn_decode.search.tree import PrefixTree, ask


def score_given(
    tree: PrefixTree, items: Sequence[int], sentences: Sequence[tuple[int, ...]], gradients: bool
) -> list[list[Any]]:
    """Read sentences from START to their end, all of them side by side.

    Args:
        tree: the tree of the direction: its scorer, whose ``score`` is used if it has one, and the encoded sources.
        items: for each of the K sentences the number of its item, in ascending order.
        sentences: the words, in the scorer's reading order.
        gradients: whether the terms are tensors [] with PyTorch's graph instead of numbers.

    Returns:
        K lists of [words + 1] log-probabilities in nats; the last is the term of the end.

    Raises:
        TypeError: ``gradients`` is True, but the scores are not tensors.
        ValueError: the scorer returned NaN, +inf, a log-probability above 0, or a wrong number of terms.
    """
    if not sentences:
        return []
    scorer, name = tree.scorer, tree.name
    sources = np.array([tree.encoded.sources[item] for item in items])
    calls = tree.calls(len(sentences))
    if getattr(scorer, "score", None) is None:
        parts = [_step_by_step(tree, items[some], sources[some], sentences[some], gradients) for some in calls]
        return list(itertools.chain(*parts))
    try:
        asked = [(tree.encoded.context, sources[some], list(sentences[some])) for some in calls]
        arrays = [terms for one in asked for terms in scorer.score(*one)]  # type: ignore[attr-defined]
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
        return array.tolist()
    if not hasattr(array, "requires_grad"):
        kind = f"{type(array).__module__}.{type(array).__qualname__}"
        raise TypeError(f"gradients=True needs PyTorch models; the {name} scorer's scores are {kind}")
    return list(array)


def _step_by_step(
    tree: PrefixTree,
    items: Sequence[int],
    sources: np.ndarray,
    sentences: Sequence[tuple[int, ...]],
    gradients: bool,
) -> list[list[Any]]:
    """Read one word per step. A sentence that has ended leaves the batch."""
    scorer, name = tree.scorer, tree.name
    tokens = [(*words, scorer.end_token) for words in sentences]
    terms: list[list[Any]] = [[] for _ in sentences]
    reading = list(range(len(sentences)))
    state = scorer.select(scorer.start(tree.encoded.context), sources)
    last: Array = np.full(len(sentences), scorer.start_token)
    for place in range(max(map(len, tokens))):
        scores, state = ask(scorer, name, "step", (last, state), 1 + place)
        backend = backend_of(scores, (len(reading), scorer.vocab_size), "rows, vocab_size", f"the {name} scorer")
        log_probs, faulty = backend.log_probs(scores, tree.normalized)
        for row in faulty:
            number = reading[row]
            raise faulty_scores(items[number], sentences[number][:place], tree.normalized, name)
        follow = backend.indices([tokens[number][place] for number in reading])
        picked = log_probs[backend.indices(range(len(reading))), follow]
        for number, term in zip(reading, _terms(picked, name, gradients), strict=True):
            terms[number].append(term)
        going = [row for row, number in enumerate(reading) if place + 1 < len(tokens[number])]
        if len(going) < len(reading):
            state = scorer.select(state, backend.indices(going)) if going else None
        last = follow[backend.indices(going)]
        reading = [reading[row] for row in going]
    return terms
