"""Scorers: all that a search knows of a model."""

from birnn_decode.scorers.check import check_scorer
from birnn_decode.scorers.combined import AdjustedScorer, EnsembleScorer, MappedScorer, in_vocabulary
from birnn_decode.scorers.protocol import Scorer, as_scorer, eval_mode, never_of, room_of
from birnn_decode.scorers.wrappers import PrefixScorer, StepScorer

__all__ = [
    "AdjustedScorer",
    "EnsembleScorer",
    "MappedScorer",
    "PrefixScorer",
    "Scorer",
    "StepScorer",
    "as_scorer",
    "check_scorer",
    "eval_mode",
    "in_vocabulary",
    "never_of",
    "room_of",
]
