"""Confidence against correctness: cells of rows, the bins made of them, and what chance does to both.

Rows are reduced to cells (mean confidence, rows, hits) in ascending order of confidence; every bin is a union
of consecutive cells, so rows of equal confidence are never parted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from softly.calibration.evaluation import Estimate, ReliabilityBin
from softly.calibration.statistics import NORMAL_975
from softly.calibration.tallies import FloatArray, IntArray, Losses

# Resampling draws groups of neighbouring cells, each within one bin. What is lost, the spread of confidence
# among a thousandth of the rows, is small beside the chance of a hit.
GROUPS = 1024


class Cells(NamedTuple):
    """Rows grouped by confidence, ascending: mean confidence, number of rows, number of hits."""

    confidence: FloatArray
    rows: IntArray
    hits: IntArray


class Binning(NamedTuple):
    """The first cell of each bin that has rows, and the edges of that bin."""

    starts: npt.NDArray[np.intp]
    low: FloatArray
    high: FloatArray


class CalibrationErrors(NamedTuple):
    """What `calibration_errors` measures; fields as in `Evaluation`."""

    accuracy: Estimate
    ece: Estimate
    ece_equal_width: Estimate
    squared_calibration_error: Estimate
    ece_by_chance: float
    ece_by_chance_high: float


def distinct_cells(confidence: FloatArray, hit: npt.NDArray[np.bool_]) -> Cells:
    """One cell for each distinct confidence; both arguments have one entry a row."""
    order = np.argsort(confidence)
    ordered = confidence[order]
    starts = _first_of_runs(ordered)
    rows = np.diff(starts, append=len(ordered)).astype(np.int64)
    return Cells(ordered[starts], rows, np.add.reduceat(hit[order].astype(np.int64), starts))


def join(cells: Cells, starts: npt.NDArray[np.intp]) -> Cells:
    """Unions of consecutive cells, each beginning at one of `starts`."""
    rows = np.add.reduceat(cells.rows, starts)
    claimed = np.add.reduceat(cells.confidence * cells.rows, starts)
    return Cells(claimed / rows, rows, np.add.reduceat(cells.hits, starts))


def equal_mass(cells: Cells, bins: int) -> Binning:
    """At most `bins` bins of about as many rows each: a cell goes where the middle of its ranks falls."""
    twice_middle = 2 * np.cumsum(cells.rows) - cells.rows
    starts = _first_of_runs(twice_middle * bins // (2 * cells.rows.sum()))
    low = cells.confidence[starts]
    return Binning(starts, low, np.append(low[1:], cells.confidence[-1]))


def equal_width(cells: Cells, bins: int) -> Binning:
    """Bins [i/bins, (i+1)/bins), the last one closed; those without rows are left out."""
    edges = width_edges(bins)
    # Searched among the very edges that are reported: floor(confidence * bins) may round to the other side.
    index = np.searchsorted(edges[1:-1], cells.confidence, side="right")
    starts = _first_of_runs(index)
    return Binning(starts, edges[index[starts]], edges[index[starts] + 1])


def width_edges(bins: int) -> FloatArray:
    """Edges of equal parts of [0, 1], each correctly rounded."""
    return np.arange(bins + 1) / bins


def wilson(hits: IntArray, count: IntArray) -> tuple[FloatArray, FloatArray]:
    """Wilson's 95 % interval for a proportion (Wilson 1927); it stays inside [0, 1] and is never empty."""
    rate, z2 = hits / count, NORMAL_975**2
    centre = rate + z2 / (2 * count)
    half = NORMAL_975 * np.sqrt(rate * (1 - rate) / count + z2 / count / (4 * count))
    scale = 1 + z2 / count
    return np.maximum((centre - half) / scale, 0.0), np.minimum((centre + half) / scale, 1.0)


def reliability_table(cells: Cells, binning: Binning) -> tuple[ReliabilityBin, ...]:
    """One row for each bin of `binning`."""
    bins = join(cells, binning.starts)
    accuracy_low, accuracy_high = wilson(bins.hits, bins.rows)
    columns = {
        "low": binning.low,
        "high": binning.high,
        "count": bins.rows,
        "confidence": bins.confidence,
        "accuracy": bins.hits / bins.rows,
        "accuracy_low": accuracy_low,
        "accuracy_high": accuracy_high,
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return tuple(ReliabilityBin(**dict(zip(columns, row, strict=True))) for row in rows)


def expected_error(rows: npt.NDArray[Any], claimed: npt.NDArray[Any], hits: npt.NDArray[Any]) -> FloatArray:
    """ECE: sum_b |claimed_b - hits_b| / rows, `claimed` the sums of confidence; the last axis is the bins."""
    error: FloatArray = np.abs(claimed - hits).sum(axis=-1) / rows.sum(axis=-1)
    return error


def squared_error(
    rows: npt.NDArray[Any], claimed: npt.NDArray[Any], hits: npt.NDArray[Any], *, debiased: bool = True
) -> FloatArray:
    """Mean over rows of (confidence_b - accuracy_b)^2 - accuracy_b (1 - accuracy_b) / (rows_b - 1).

    The second term removes the bias of the first (Kumar, Liang, Ma 2019), so the result may be negative.
    The last axis is the bins. One row tells nothing of variance: bins of one are left out, NaN if all are.
    """
    weight = np.where(rows >= 2, rows, 0)
    divisor = np.maximum(rows, 2)
    accuracy = hits / divisor
    term = (claimed / divisor - accuracy) ** 2
    if debiased:
        term -= accuracy * (1 - accuracy) / (divisor - 1)
    error: FloatArray = (weight * term).sum(axis=-1) / weight.sum(axis=-1)
    return error


def calibration_errors(
    cells: Cells, mass: Binning, width: Binning, *, seed: np.random.SeedSequence, resamples: int
) -> CalibrationErrors:
    """Accuracy and calibration errors with bootstrap intervals, and the ECE that chance alone would show.

    The bootstrap is multinomial over (group, hit or miss); the bins stay those of the data.
    """
    fine = equal_mass(cells, GROUPS)
    starts = np.unique(np.concatenate((fine.starts, mass.starts, width.starts)))
    groups = join(cells, starts)
    total = int(groups.rows.sum())
    bootstrap, chance = (np.random.default_rng(child) for child in seed.spawn(2))

    shares = np.column_stack((groups.hits, groups.rows - groups.hits)).ravel() / total
    drawn = bootstrap.multinomial(total, shares, size=resamples).reshape(resamples, -1, 2)
    drawn_rows, drawn_hits = drawn.sum(axis=2), drawn[:, :, 0]
    chance_hits = chance.binomial(groups.rows, groups.confidence, size=(resamples, len(starts)))

    def binned(binning: Binning, rows: IntArray, hits: IntArray) -> tuple[npt.NDArray[Any], ...]:
        """(rows, claimed, hits) by bin."""
        first = np.searchsorted(starts, binning.starts)
        columns = (rows, groups.confidence * rows, hits)
        return tuple(np.add.reduceat(column, first, axis=-1) for column in columns)

    in_mass, drawn_mass = binned(mass, groups.rows, groups.hits), binned(mass, drawn_rows, drawn_hits)
    in_width, drawn_width = binned(width, groups.rows, groups.hits), binned(width, drawn_rows, drawn_hits)
    low, high = np.quantile(drawn_hits.sum(axis=1) / total, (0.025, 0.975)).tolist()
    by_chance = expected_error(*binned(mass, groups.rows, chance_hits))
    by_chance_width = expected_error(*binned(width, groups.rows, chance_hits))
    return CalibrationErrors(
        accuracy=_around(int(groups.hits.sum()) / total, low, high),
        ece=_ece_estimate(expected_error(*in_mass), expected_error(*drawn_mass), by_chance),
        ece_equal_width=_ece_estimate(expected_error(*in_width), expected_error(*drawn_width), by_chance_width),
        squared_calibration_error=_basic(
            squared_error(*in_mass),
            squared_error(*drawn_mass),
            bias=squared_error(*in_mass, debiased=False) - squared_error(*in_mass),
        ),
        ece_by_chance=float(by_chance.mean()),
        ece_by_chance_high=float(np.quantile(by_chance, 0.95)),
    )


def mean_estimate(losses: Losses, *, seed: np.random.SeedSequence, resamples: int) -> Estimate:
    """A mean with its percentile interval, resampling cells of like losses; infinite if any loss is.

    A cell stands for its losses by its middle; what that shifts is taken back by the exact mean.
    """
    rows = int(losses.count.sum())
    value = losses.total() / rows
    if np.isinf(value):
        return Estimate(value=value, low=value, high=value)
    used = np.flatnonzero(losses.count)
    share, middle = losses.count[used] / rows, losses.middle(used)
    drawn = np.random.default_rng(seed).multinomial(rows, share, size=resamples) / rows
    low, high = (value + np.quantile((drawn - share) @ middle, (0.025, 0.975))).tolist()
    return _around(value, max(low, 0.0), high)


def _ece_estimate(estimate: FloatArray, drawn: FloatArray, by_chance: FloatArray) -> Estimate:
    """The basic interval, inside [0, 1]; it reaches down to 0 unless chance alone rarely shows as much."""
    basic = _basic(estimate, drawn)
    low = 0.0 if basic.value <= np.quantile(by_chance, 0.95) else max(basic.low, 0.0)
    return Estimate(value=basic.value, low=low, high=min(basic.high, 1.0))


def _basic(estimate: FloatArray, drawn: FloatArray, *, bias: FloatArray | float = 0.0) -> Estimate:
    """The basic bootstrap interval: estimate - (drawn - truth), a resample's truth being estimate + bias.

    A plug-in calibration error is biased up, in a resample as in the data; subtracting takes the bias away,
    while quantiles of `drawn` would double it. The truth of resampling is always a plug-in, hence `bias`.
    """
    value, drawn = float(estimate), drawn[~np.isnan(drawn)]
    if np.isnan(value) or not len(drawn):
        return Estimate(value=value, low=value, high=value)
    error = drawn - (value + bias)
    low, high = (value - np.quantile(error, (0.975, 0.025))).tolist()
    return _around(value, low, high)


def _around(value: float, low: float, high: float) -> Estimate:
    """An interval never leaves out its own estimate."""
    return Estimate(value=value, low=min(low, value), high=max(high, value))


def _first_of_runs(ascending: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Where each run of equal values begins."""
    return np.flatnonzero(np.append(True, ascending[1:] != ascending[:-1]))
