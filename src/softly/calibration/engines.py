"""Who runs the reduction: this process over arrays, or over a stream of batches.

A source is re-iterable: every scan passes over its batches once and merges their statistics. Folds are drawn by a hash
of the row's number and the seed, so that they do not depend on how rows are batched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from softly._errors import InputError
from softly.calibration.statistics import TemperatureStatistics
from softly.calibration.temperature import TemperatureFit, fit_temperatures

# A fit on a sample gives the starting point of a long one; it pays when the rows are many times the sample.
_SAMPLE_ELEMENTS = 1 << 20
_SAMPLE_PAYS_FROM = 8


class ScoreBatch(NamedTuple):
    """Logits (rows, classes), labels, weights, and the numbers of the rows in their source."""

    scores: NDArray[Any]
    labels: NDArray[np.int64]
    weights: NDArray[np.float64] | None
    numbers: NDArray[np.int64]

    def take(self, kept: NDArray[np.bool_]) -> ScoreBatch:
        """Some of the rows."""
        weights = None if self.weights is None else self.weights[kept]
        return ScoreBatch(self.scores[kept], self.labels[kept], weights, self.numbers[kept])


class ScoreStream(Protocol):
    """Anything that can be scanned several times."""

    @property
    def rows(self) -> int | None:
        """Number of rows, if known without a scan."""

    def scan(self, stage: str) -> Iterator[ScoreBatch]:
        """All batches in row order."""


class ArrayStream(NamedTuple):
    """Arrays in memory, as one batch."""

    scores: NDArray[Any]
    labels: NDArray[np.int64]
    weights: NDArray[np.float64] | None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.scores)

    def scan(self, stage: str) -> Iterator[ScoreBatch]:
        """The one batch."""
        yield ScoreBatch(self.scores, self.labels, self.weights, np.arange(len(self.scores)))


def hashed_rows(numbers: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """A uniform 64-bit number for each row, from its number and the seed (splitmix64; Steele et al., 2014)."""
    with np.errstate(over="ignore"):
        x = numbers.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + 1) % 2**64)
        x *= np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def fold_of_rows(numbers: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.uint8]:
    """The fold of each row, 0 to folds - 1."""
    return (hashed_rows(numbers, seed) % np.uint64(folds)).astype(np.uint8)


class _Sample:
    """A uniform sample of one to two times `_SAMPLE_ELEMENTS` scores, the same however the rows are batched."""

    def __init__(self, seed: int, rows: int | None) -> None:
        self.seed, self.rows, self.threshold, self.seen = seed + 1, rows, 2**64 - 1, 0
        self.parts: list[ScoreBatch] = []

    def add(self, batch: ScoreBatch) -> None:
        if self.rows is not None and self.rows * batch.scores.shape[1] <= _SAMPLE_PAYS_FROM * _SAMPLE_ELEMENTS:
            return
        limit = max(256, _SAMPLE_ELEMENTS // batch.scores.shape[1])
        self.seen += len(batch.numbers)
        while self.seen * (self.threshold / 2**64) > 2 * limit:
            self.threshold //= 2
            self.parts = [self._kept(part) for part in self.parts]
        self.parts.append(self._kept(batch))

    def _kept(self, batch: ScoreBatch) -> ScoreBatch:
        return batch.take(hashed_rows(batch.numbers, self.seed) <= np.uint64(self.threshold))

    @property
    def pays(self) -> bool:
        return self.seen > _SAMPLE_PAYS_FROM * sum(len(part.numbers) for part in self.parts)


def _statistics(
    batches: Iterable[ScoreBatch], betas: tuple[float, ...], folds: int, seed: int
) -> TemperatureStatistics:
    total: TemperatureStatistics | None = None
    for batch in batches:
        part = TemperatureStatistics.from_scores(
            batch.scores,
            batch.labels,
            betas,
            weights=batch.weights,
            folds=fold_of_rows(batch.numbers, folds, seed) if folds else None,
            fold_count=max(1, folds),
            numbers=batch.numbers,
        )
        total = part if total is None else total.merge(part)
    if total is None or not total.total_rows():
        raise InputError("there are no rows to fit: give at least one row of scores and its label")
    return total


def fit_stream(stream: ScoreStream, *, folds: int = 0, seed: int = 0) -> tuple[TemperatureFit, ...]:
    """Temperatures fitted on all rows, then without each fold in turn, from a few scans of the stream."""
    sample = _Sample(seed, stream.rows)
    scans = 0

    def batches() -> Iterator[ScoreBatch]:
        nonlocal scans
        scans += 1
        for batch in stream.scan(f"fitting, scan {scans}"):
            if scans == 1:
                sample.add(batch)
            yield batch

    def starts() -> list[float | None]:
        if not sample.pays:
            return [None] * (1 + folds)
        fits = fit_temperatures(lambda betas: _statistics(sample.parts, betas, folds, seed), fold_count=folds)
        return [1 / fit.temperature if fit.status == "ok" else None for fit in fits]

    return fit_temperatures(lambda betas: _statistics(batches(), betas, folds, seed), fold_count=folds, starts=starts)
