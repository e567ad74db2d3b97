"""Evaluation: metrics with intervals and paired tests, from predictions alone."""

from medsgssl.evaluation.metrics import evaluate
from medsgssl.evaluation.paired import compare
from medsgssl.evaluation.predictions import COLUMNS, Predictions, Split
from medsgssl.evaluation.ranking import RankedScores
from medsgssl.evaluation.seeds import compare_methods, summarise

__all__ = [
    "COLUMNS",
    "Predictions",
    "RankedScores",
    "Split",
    "compare",
    "compare_methods",
    "evaluate",
    "summarise",
]
