"""Decode whole data sets: questions from a file, answers to a file, with one process or many."""

from birnn_decode.datasets.answers import read_answers
from birnn_decode.datasets.run import DatasetRun, decode_dataset

__all__ = ["DatasetRun", "decode_dataset", "read_answers"]
