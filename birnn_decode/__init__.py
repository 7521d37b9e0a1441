"""Decoding with a forward and a backward sequence model, or one of both: beam search, BSCD, Gibbs, exact search."""

from birnn_decode.constraints import (
    AllowAt,
    BanAt,
    BanWords,
    Diversity,
    MustAppear,
    NoRepeatedNgram,
    WordCount,
)
from birnn_decode.decode import (
    beam_decode,
    bscd_decode,
    compare,
    exact_decode,
    gibbs_decode,
    rerank_decode,
    score_sentences,
)
from birnn_decode.joint import (
    joint_compare,
    joint_cycles,
    joint_decode,
    joint_gibbs_decode,
    joint_score_sentences,
)
from birnn_decode.objective import Objective
from birnn_decode.result import DecodeResult, Hypothesis, Round, StopReason
from birnn_decode.scorers import PrefixScorer, Scorer, StepScorer, as_scorer, check_scorer
from birnn_decode.scorers.joint import JointModel, JointScorer
from birnn_decode.template import Template
from birnn_decode.version import __version__

__all__ = [
    "AllowAt",
    "BanAt",
    "BanWords",
    "DecodeResult",
    "Diversity",
    "Hypothesis",
    "JointModel",
    "JointScorer",
    "MustAppear",
    "NoRepeatedNgram",
    "Objective",
    "PrefixScorer",
    "Round",
    "Scorer",
    "StepScorer",
    "StopReason",
    "Template",
    "WordCount",
    "__version__",
    "as_scorer",
    "beam_decode",
    "bscd_decode",
    "check_scorer",
    "compare",
    "exact_decode",
    "gibbs_decode",
    "joint_compare",
    "joint_cycles",
    "joint_decode",
    "joint_gibbs_decode",
    "joint_score_sentences",
    "rerank_decode",
    "score_sentences",
]
