"""Scorers: all that a search knows of a model."""

from birnn_decode.scorers.protocol import Scorer, as_scorer, eval_mode, never_of
from birnn_decode.scorers.wrappers import PrefixScorer, StepScorer

__all__ = ["PrefixScorer", "Scorer", "StepScorer", "as_scorer", "eval_mode", "never_of"]
