"""Evaluation: the same questions to several methods, and figures with intervals of their answers."""

from birnn_decode.evaluation.answers import AnswersReport, describe
from birnn_decode.evaluation.asking import ask, asked, with_both_scores
from birnn_decode.evaluation.blanks import Question, blank_questions, caption_questions
from birnn_decode.evaluation.bootstrap import Interval, interval, paired_difference
from birnn_decode.evaluation.cycles import Cycle, joint_cycles
from birnn_decode.evaluation.grounding import grounded, shows, word_regions
from birnn_decode.evaluation.metrics import Metric, caption_metrics, mean_metric
from birnn_decode.evaluation.rankers import LinearCCA, caption_log_probs
from birnn_decode.evaluation.ranking import (
    Ranks,
    after_first_pass,
    best_weight,
    blended,
    rank_figures,
    recalls_lead,
    rescored,
    right_pairs,
    without_bias,
)
from birnn_decode.evaluation.report import Report, report, reports_csv, reports_json

__all__ = [
    "AnswersReport",
    "Cycle",
    "Interval",
    "LinearCCA",
    "Metric",
    "Question",
    "Ranks",
    "Report",
    "after_first_pass",
    "ask",
    "asked",
    "best_weight",
    "blank_questions",
    "blended",
    "caption_log_probs",
    "caption_metrics",
    "caption_questions",
    "describe",
    "grounded",
    "interval",
    "joint_cycles",
    "mean_metric",
    "paired_difference",
    "rank_figures",
    "recalls_lead",
    "report",
    "reports_csv",
    "reports_json",
    "rescored",
    "right_pairs",
    "shows",
    "with_both_scores",
    "without_bias",
    "word_regions",
]
