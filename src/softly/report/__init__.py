"""What a calibration did: a frozen summary of numbers, and one self-contained HTML page drawn from it."""

from softly.report.figures import reliability_pair
from softly.report.summary import CalibrationReport

__all__ = ["CalibrationReport", "reliability_pair"]
