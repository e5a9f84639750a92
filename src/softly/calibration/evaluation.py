"""The records that an evaluation returns: plain frozen numbers, ready for JSON."""

from __future__ import annotations

from dataclasses import dataclass

from softly._records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate(Record):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.6g} (95 % interval {self.low:.6g} to {self.high:.6g})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin(Record):
    """Rows with confidence in [low, high), the last bin closed; accuracy has its Wilson 95 % interval."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRow(Record):
    """One class: `count` rows have it; `predicted` rows were given it, with this mean confidence.

    gap = confidence - precision. A share of no rows is NaN: recall of an absent class, precision of one never
    predicted.
    """

    name: str
    count: int
    predicted: int
    recall: float
    precision: float
    mean_probability: float
    frequency: float
    confidence: float
    gap: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims(Record):
    """Rows with confidence >= threshold: how many, their mean confidence and accuracy (NaN without rows)."""

    threshold: float
    count: int
    claimed: float
    correct: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation(Record):
    """What `evaluate` found; confidence is the largest probability of a row, the prediction its first class.

    log_loss: mean of -log p[label], in nats. brier: mean of sum_j (p_j - y_j)^2, in [0, 2].
    ece: sum_b |confidence_b - accuracy_b| rows_b / rows over bins of equal mass; ece_equal_width: of equal
    width. squared_calibration_error: debiased mean of (confidence_b - accuracy_b)^2 over the bins of equal
    mass; may be negative, and is NaN if every bin has one row.
    ece_by_chance, ece_by_chance_high: mean and 95 % quantile of the `ece` that a perfectly calibrated model
    with these confidences would show on as many rows.
    reliability, reliability_equal_width: the bins that have rows. per_class: largest |gap| * predicted first.
    confidence_histogram: rows in each of 50 equal parts of [0, 1].
    exact: False if there were so many rows that confidences were put into fixed cells.
    """

    rows: int
    classes: int
    accuracy: Estimate
    log_loss: Estimate
    brier: Estimate
    mean_confidence: float
    ece: Estimate
    ece_equal_width: Estimate
    squared_calibration_error: Estimate
    ece_by_chance: float
    ece_by_chance_high: float
    reliability: tuple[ReliabilityBin, ...]
    reliability_equal_width: tuple[ReliabilityBin, ...]
    per_class: tuple[ClassRow, ...]
    claims: Claims
    confidence_histogram: tuple[int, ...]
    exact: bool
