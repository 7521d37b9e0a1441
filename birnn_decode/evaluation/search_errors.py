"""Search errors: how often, and by how much, a method misses the best sentence of the models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from birnn_decode.evaluation.metrics import Metric, mean_metric
from birnn_decode.objective import apply_length_rule
from birnn_decode.result import DecodeResult

EXACT = "exact"
ROUNDING = 1e-4  # relative difference of the scores of one sentence in different batches
NAMES = ("search errors", "score lost", "below the bound")


def search_errors(results: Sequence[Mapping[str, DecodeResult]]) -> dict[str, list[Metric]]:
    """Compare the best sentence of each method with the best of all sentences.

    Sentences are compared by the score of the exact search. A method has no score for a question if it found no
    sentence that satisfies the constraints.

    Args:
        results: for each question, method name to result, including the method ``"exact"``.

    Returns:
        For each method three metrics. *search errors* is the share of questions where the method's sentence is worse
        than the best one, or violates a constraint. *score lost* is how much lower its score is. Both count only
        questions whose best sentence is proved. *below the bound* is how far its score is below the upper bound, over
        all questions. The last two skip questions without a score.
    """
    found = {name: np.array([_missed(own[name], own[EXACT]) for own in results]) for name in results[0]}
    return {name: list(map(mean_metric, NAMES, own.T)) for name, own in found.items()}


def _missed(result: DecodeResult, exact: DecodeResult) -> tuple[float, float, float]:
    """Return the three metrics of one question; NaN where the question does not count."""
    assert exact.upper_bound is not None
    score = -math.inf
    for best in result.hypotheses[:1]:
        if best.joint is not None and not best.broken:
            score = apply_length_rule(best.joint + best.penalty, len(best.tokens), exact.length_rule)
    same = math.isclose(score, exact.upper_bound, rel_tol=ROUNDING)
    below = 0.0 if same else max(0.0, exact.upper_bound - score)
    lost = below if math.isfinite(below) else math.nan
    return (float(below > 0), lost, lost) if exact.gap == 0 else (math.nan, math.nan, lost)


def proofs_told(results: Sequence[Mapping[str, DecodeResult]]) -> str:
    """Describe in one line how much the exact search proved."""
    exact = [by_method[EXACT] for by_method in results]
    best, whole = np.mean([(one.gap == 0, one.proved) for one in exact], axis=0)
    rows = np.median([one.rows_evaluated for one in exact])
    return (
        f"exact: the best sentence is proved of {best:.1%} of the questions, "
        f"and all returned sentences of {whole:.1%}; {rows:.0f} rows in the median"
    )
