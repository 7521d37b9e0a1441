"""How often, and by how much, a method misses the best sentence: search errors, apart from the models' own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from birnn_decode.evaluation.metrics import Metric, mean_metric
from birnn_decode.objective import apply_length_rule
from birnn_decode.result import DecodeResult

EXACT = "exact"
ROUNDING = 1e-4  # relative: scores of one sentence that were computed in different batches
NAMES = ("search errors", "score lost", "below the bound")


def search_errors(results: Sequence[Mapping[str, DecodeResult]]) -> dict[str, list[Metric]]:
    """Each method's best sentence against the best of all, by the score that the exact search has ranked by.

    Args:
        results: for each question, method name to result, ``"exact"`` among them.

    Returns:
        for each method three metrics: over the questions whose best sentence is proved, the share where the method's is
        a worse one, or breaks a constraint, and how much lower its score is; over all, how far its score is below the
        upper bound. The last two leave out where there is no sentence that satisfies the constraints.
    """
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in results[0]}
    for by_method in results:
        exact = by_method[EXACT]
        assert exact.upper_bound is not None
        for name, result in by_method.items():
            best = result.hypotheses[0] if result.hypotheses else None
            score = -math.inf
            if best is not None and best.joint is not None and not best.broken:
                score = apply_length_rule(best.joint + best.penalty, len(best.tokens), exact.length_rule)
            below = max(0.0, exact.upper_bound - score)
            if math.isfinite(below) and below <= ROUNDING * abs(score):
                below = 0.0
            there = below if math.isfinite(below) else math.nan
            certain = exact.gap == 0
            found[name].append((float(below > 0) if certain else math.nan, there if certain else math.nan, there))
    return {
        name: [mean_metric(metric, values) for metric, values in zip(NAMES, np.array(own).T, strict=True)]
        for name, own in found.items()
    }


def proofs_told(results: Sequence[Mapping[str, DecodeResult]]) -> str:
    """How much was proved, in words."""
    exact = [by_method[EXACT] for by_method in results]
    best = np.mean([one.gap == 0 for one in exact])
    whole = np.mean([one.proved for one in exact])
    rows = np.median([one.rows_evaluated for one in exact])
    return (
        f"exact: the best sentence is proved of {best:.1%} of the questions, all that it returned of {whole:.1%}; "
        f"median of its rows {rows:.0f}"
    )
