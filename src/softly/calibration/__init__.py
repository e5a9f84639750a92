"""Scores and labels to honest probabilities: fits, the statistics they are made of, and their evaluation."""

from softly.calibration.calibrator import Calibrator, fit_calibrator
from softly.calibration.evaluation import Evaluation
from softly.calibration.metrics import EvaluationStatistics, evaluate
from softly.calibration.statistics import TemperatureStatistics

__all__ = [
    "Calibrator",
    "Evaluation",
    "EvaluationStatistics",
    "TemperatureStatistics",
    "evaluate",
    "fit_calibrator",
]
