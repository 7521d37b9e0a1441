"""Scorers: the interface between a model and a search, and wrappers that give a model this interface."""

from birnn_decode.scorers.check import check_scorer
from birnn_decode.scorers.combined import AdjustedScorer, EnsembleScorer, MappedScorer, in_vocabulary
from birnn_decode.scorers.pair import Pair
from birnn_decode.scorers.protocol import Scorer, as_scorer, boundaries_of, eval_mode, never_of, room_of, unwrapped
from birnn_decode.scorers.wrappers import PrefixScorer, StepScorer, Wrapper

__all__ = [
    "AdjustedScorer",
    "EnsembleScorer",
    "MappedScorer",
    "Pair",
    "PrefixScorer",
    "Scorer",
    "StepScorer",
    "Wrapper",
    "as_scorer",
    "boundaries_of",
    "check_scorer",
    "eval_mode",
    "in_vocabulary",
    "never_of",
    "room_of",
    "unwrapped",
]
