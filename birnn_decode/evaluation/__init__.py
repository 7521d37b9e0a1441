"""Evaluation: the same questions to several methods, and figures with intervals of their answers."""

from birnn_decode.evaluation.asking import ask, asked, with_both_scores
from birnn_decode.evaluation.blanks import Question, blank_questions, caption_questions
from birnn_decode.evaluation.bootstrap import Interval, interval, paired_difference
from birnn_decode.evaluation.cycles import Cycle, joint_cycles
from birnn_decode.evaluation.metrics import Metric, caption_metrics, mean_metric
from birnn_decode.evaluation.report import Report, report, reports_csv, reports_json

__all__ = [
    "Cycle",
    "Interval",
    "Metric",
    "Question",
    "Report",
    "ask",
    "asked",
    "blank_questions",
    "caption_metrics",
    "caption_questions",
    "interval",
    "joint_cycles",
    "mean_metric",
    "paired_difference",
    "report",
    "reports_csv",
    "reports_json",
    "with_both_scores",
]
