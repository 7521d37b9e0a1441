"""How well methods do: the same questions put to each of them, and figures with intervals of their answers."""

from birnn_decode.evaluation.blanks import Question, ask, blank_questions, caption_questions, with_both_scores
from birnn_decode.evaluation.bootstrap import Interval, interval, paired_difference
from birnn_decode.evaluation.metrics import Metric, caption_metrics, mean_metric
from birnn_decode.evaluation.report import Report, report, reports_csv, reports_json

__all__ = [
    "Interval",
    "Metric",
    "Question",
    "Report",
    "ask",
    "blank_questions",
    "caption_metrics",
    "caption_questions",
    "interval",
    "mean_metric",
    "paired_difference",
    "report",
    "reports_csv",
    "reports_json",
    "with_both_scores",
]
