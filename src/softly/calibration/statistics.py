"""What a temperature fit is made of: statistics that merge exactly.

Sums are kept as fixed-point integers (67 chunks of 32 bits, chunk i in units of 2**(32 i - 1075)), the layout of
csrc/exact_sum.hpp. Integer addition is associative, so a merged statistic has the same bits in any order and over any
split of the rows: batches, files, threads, machines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from softly import _kernels
from softly._errors import InputError, RowError

EXACT_CHUNKS = 67
_UNIT_EXPONENT = 1075  # chunk 0 counts units of 2**-1075
NORMAL_975 = 1.959963984540054  # 97.5 % quantile of the normal distribution, for 95 % intervals
QUANTITIES = ("log_likelihood", "gradient", "curvature")


def exact_sums(values: NDArray[np.float64], groups: NDArray[np.uint8], group_count: int) -> NDArray[np.int64]:
    """Exact sums over rows of `values` (rows, quantities) in each group: int64 (group_count, quantities, chunks)."""
    sums = np.zeros((group_count, values.shape[1], EXACT_CHUNKS), np.int64)
    mantissa, exponent = np.frexp(values)
    whole = np.ldexp(mantissa, 53).astype(np.int64)  # value = whole * 2**(exponent - 53)
    position = exponent - 53 + _UNIT_EXPONENT
    tiny = position < 1  # subnormals: the units' last bit is bit 1
    whole = np.where(tiny, whole >> np.minimum(1 - position, 63), whole)
    position = np.where(tiny, 1, position)
    sign, magnitude = np.sign(whole), np.abs(whole).astype(np.uint64)
    shift, first = (position & 31).astype(np.uint64), position >> 5
    low_half, high_half = magnitude & np.uint64(0xFFFFFFFF), magnitude >> np.uint64(32)
    for half, at in ((low_half, first), (high_half, first + 1)):
        moved = half << shift
        for piece, chunk in ((moved & np.uint64(0xFFFFFFFF), at), (moved >> np.uint64(32), at + 1)):
            for q in range(values.shape[1]):
                np.add.at(sums[:, q], (groups, chunk[:, q]), piece[:, q].astype(np.int64) * sign[:, q])
    return sums


_ONE = exact_sums(np.ones((1, 1)), np.zeros(1, np.uint8), 1)[0]


def exact_value(chunks: NDArray[np.int64]) -> float:
    """The sum that the chunks hold, rounded once; infinite beyond the range of a double."""
    # Chunks of merged sums overflow 32 bits: what is above them is added apart, and is mostly 0.
    total = int.from_bytes((chunks & 0xFFFFFFFF).astype("<u4").tobytes(), "little")
    above = chunks >> 32
    total += sum(int(above[i]) << (32 * (i + 1)) for i in np.flatnonzero(above).tolist())
    try:
        return total / (1 << _UNIT_EXPONENT)
    except OverflowError:
        return math.inf if total > 0 else -math.inf


class Point(NamedTuple):
    """The likelihood of a temperature fit at one inverse temperature, summed over rows."""

    beta: float
    log_likelihood: float
    gradient: float  # of the negative log-likelihood, in beta
    curvature: float  # its second derivative: the observed information


@dataclass(frozen=True, slots=True)
class TemperatureStatistics:
    """Sums over rows, by fold, of the temperature likelihood and its derivatives at several b = 1/T.

    With d = z - max z and p = softmax(b d), each row adds, times its weight: b d_y - log sum exp(b d);
    <d, p> - d_y; <d^2, p> - <d, p>^2; and once, whatever b, its regret max z - z_y.
    """

    betas: tuple[float, ...]
    rows: NDArray[np.int64]  # (folds,)
    label_counts: NDArray[np.int64]  # (folds, classes)
    weight: NDArray[np.int64]  # (folds, chunks): exact sums of the weights
    sums: NDArray[np.int64]  # (folds, 1 + 3 len(betas), chunks): exact sums

    @classmethod
    def from_scores(
        cls,
        scores: NDArray[Any],
        labels: NDArray[np.int64],
        betas: tuple[float, ...],
        *,
        weights: NDArray[np.float64] | None = None,
        folds: NDArray[np.uint8] | None = None,
        fold_count: int = 1,
        numbers: NDArray[np.int64] | None = None,
    ) -> TemperatureStatistics:
        """Statistics of scores (rows, classes), float32 or float64, with labels in [0, classes).

        ValueError names the first row that has no likelihood: NaN, +inf, or -inf at its label.
        """
        scores = np.ascontiguousarray(scores)
        if scores.dtype.name not in ("float32", "float64"):
            scores = scores.astype(np.float64)
        if labels.dtype.kind not in "iu":
            raise InputError(f"labels have dtype {labels.dtype}: pass class indices as integers")
        labels = np.ascontiguousarray(labels, np.int64)
        rows, classes = scores.shape
        arguments = (scores, labels, weights, folds, np.asarray(betas, np.float64), fold_count)
        kernel = _kernels.find("temperature_statistics", scores)
        sums, bad_row = kernel(*arguments) if kernel else _statistics_expression(*arguments)
        if bad_row >= 0:
            number = bad_row if numbers is None else int(numbers[bad_row])
            raise RowError(number, _explain_bad_row(scores[bad_row], int(labels[bad_row])))
        fold_rows = np.array([rows]) if folds is None else np.bincount(folds, minlength=fold_count)
        if weights is None:
            weight = _ONE * fold_rows[:, None]
        else:
            fold = np.zeros(rows, np.uint8) if folds is None else folds
            weight = exact_sums(weights[:, None], fold, fold_count)[:, 0]
        group = labels if folds is None else folds.astype(np.int64) * classes + labels
        counts = np.bincount(group, minlength=fold_count * classes)
        return cls(
            betas=tuple(betas),
            rows=fold_rows,
            label_counts=counts.reshape(fold_count, classes),
            weight=weight,
            sums=sums,
        )

    def merge(self, other: TemperatureStatistics) -> TemperatureStatistics:
        """The statistics of both sets of rows, the same bits in any order and grouping."""
        if self.betas != other.betas or self.label_counts.shape != other.label_counts.shape:
            raise InputError("statistics merge only at the same betas, folds and classes")
        return TemperatureStatistics(
            self.betas,
            self.rows + other.rows,
            self.label_counts + other.label_counts,
            self.weight + other.weight,
            self.sums + other.sums,
        )

    def _chosen(self, without_fold: int | None) -> slice | NDArray[np.bool_]:
        return slice(None) if without_fold is None else np.arange(len(self.rows)) != without_fold

    def point(self, index: int, without_fold: int | None = None) -> Point:
        """The likelihood at betas[index], over all rows or without those of one fold."""
        first = 1 + len(QUANTITIES) * index
        chunks = self.sums[self._chosen(without_fold), first : first + len(QUANTITIES)].sum(axis=0)
        return Point(self.betas[index], *(exact_value(c) for c in chunks))

    def regret(self, without_fold: int | None = None) -> float:
        """Sum of max z - z_y: 0 exactly when every label has the largest score of its row."""
        return exact_value(self.sums[self._chosen(without_fold), 0].sum(axis=0))

    def total_weight(self, without_fold: int | None = None) -> float:
        """Sum of the weights (rows, where there are none)."""
        return exact_value(self.weight[self._chosen(without_fold)].sum(axis=0))

    def total_rows(self, without_fold: int | None = None) -> int:
        """Number of rows."""
        return int(self.rows[self._chosen(without_fold)].sum())

    def classes_seen(self, without_fold: int | None = None) -> int:
        """How many classes occur among the labels."""
        return int(np.count_nonzero(self.label_counts[self._chosen(without_fold)].sum(axis=0)))


def _statistics_expression(
    scores: NDArray[Any],
    labels: NDArray[np.int64],
    weights: NDArray[np.float64] | None,
    folds: NDArray[np.uint8] | None,
    betas: NDArray[np.float64],
    fold_count: int,
) -> tuple[NDArray[np.int64], int]:
    """What the kernel computes, as NumPy expressions."""
    z = scores.astype(np.float64)
    label_score = np.take_along_axis(z, labels[:, None], axis=1)
    with np.errstate(all="ignore"):
        d = z - z.max(axis=1, keepdims=True)
        d_label = np.take_along_axis(d, labels[:, None], axis=1)
        possible = d != -np.inf
        gap = np.where(possible, d, 0.0)
        columns = [-d_label]
        for beta in betas:
            e = np.where(possible, np.exp(gap * beta), 0.0)
            total = e.sum(axis=1, keepdims=True)
            mean = (e * gap).sum(axis=1, keepdims=True) / total
            second = (e * gap * gap).sum(axis=1, keepdims=True) / total
            columns += [d_label * beta - np.log(total), mean - d_label, second - mean * mean]
        values = np.concatenate(columns, axis=1) * (1.0 if weights is None else weights[:, None])
    unusable = ~np.isfinite(values).all(axis=1) | np.isnan(z).any(axis=1) | ~np.isfinite(label_score[:, 0])
    fold = np.zeros(len(z), np.uint8) if folds is None else folds
    if unusable.any():
        return exact_sums(values[:0], fold[:0], fold_count), int(np.argmax(unusable))
    return exact_sums(values, fold, fold_count), -1


def _explain_bad_row(row: NDArray[Any], label: int) -> str:
    if not 0 <= label < len(row):
        return f"its label changed to {label} during the fit: leave the arrays alone until it ends"
    for found, remedy in (
        (np.isnan(row), "leave the row out or mend it"),
        (row == np.inf, "use finite scores"),
    ):
        if found.any():
            column = int(np.argmax(found))
            return f"column {column} is {row[column]}, which has no likelihood: {remedy}"
    if row[label] == -np.inf:
        return f"the score of its label {label} is -inf, an outcome said to be impossible: mend the label or the score"
    finite = row[np.isfinite(row)]
    return (
        f"scores from {finite.min():.3g} to {finite.max():.3g}, times the row's weight, overflow the likelihood: "
        "scale them down"
    )
