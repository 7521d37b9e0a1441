"""Decoding with a forward and a backward sequence model, or a joint one: BSCD, beam search, Gibbs, exact search."""

from birnn_decode.constraints import (
    AllowAt,
    BanAt,
    BanWords,
    Diversity,
    MustAppear,
    NoRepeatedNgram,
    WordCount,
)
from birnn_decode.decoding import bscd_decode, compare, decode, score_sentences
from birnn_decode.methods import BSCD, BeamSearch, Exact, Gibbs, Rerank
from birnn_decode.objective import Objective
from birnn_decode.posterior import Posterior, Probability, SpanProbability, WordProbability
from birnn_decode.record import Record
from birnn_decode.request import Options
from birnn_decode.result import Compared, DecodeResult, Hypothesis, Round, StopReason
from birnn_decode.scorers import Pair, PrefixScorer, Scorer, StepScorer, as_scorer, check_scorer
from birnn_decode.scorers.joint import JointModel, JointScorer
from birnn_decode.template import Template, read_templates
from birnn_decode.version import __version__

__all__ = [
    "BSCD",
    "AllowAt",
    "BanAt",
    "BanWords",
    "BeamSearch",
    "Compared",
    "DecodeResult",
    "Diversity",
    "Exact",
    "Gibbs",
    "Hypothesis",
    "JointModel",
    "JointScorer",
    "MustAppear",
    "NoRepeatedNgram",
    "Objective",
    "Options",
    "Pair",
    "Posterior",
    "PrefixScorer",
    "Probability",
    "Record",
    "Rerank",
    "Round",
    "Scorer",
    "SpanProbability",
    "StepScorer",
    "StopReason",
    "Template",
    "WordCount",
    "WordProbability",
    "__version__",
    "as_scorer",
    "bscd_decode",
    "check_scorer",
    "compare",
    "decode",
    "read_templates",
    "score_sentences",
]
