"""Sums and counts of many values, at places, that come out with the same bits in any order and grouping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from softly.calibration.statistics import EXACT_CHUNKS, exact_sums, exact_value

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

BATCH = 65_536  # rows in a block, and values that a `Tally` takes at once
PIECE_VALUES = 1 << 15  # 256 KB of float64
TALLIED = 2.0**11
LOW_BITS = (1 << 36) - 1  # 58 - 22 bits, see `Tally`


class Pairs(NamedTuple):
    """A paired tally with misses and hits together: how many rows and hits at each place, and sums."""

    rows: IntArray
    hits: IntArray
    sums: FloatArray


@dataclass(eq=False, slots=True)
class Tally:
    """How many values in [0, 2**11) came to each place, and their sums: the same bits in any order, grouping.

    A value is split into a multiple of 2**-22 and one of 2**-58; what is smaller is rounded off. Any sum of
    2**16 such parts is exact in float64, and totals are integers, so that addition is associative.
    """

    count: IntArray
    high: IntArray  # in units of 2**-22
    low: IntArray  # in units of 2**-58, below one unit of `high`

    @classmethod
    def empty(cls, places: int) -> Tally:
        """No values at any place."""
        return cls(np.zeros(places, np.int64), np.zeros(places, np.int64), np.zeros(places, np.int64))

    def add(self, place: npt.NDArray[np.intp], value: npt.NDArray[Any]) -> None:
        """Adds each value at its place; at most BATCH values."""
        high, low = _split(value)
        places = len(self.count)
        self.count += np.bincount(place, minlength=places)
        self._add_parts(np.bincount(place, high, places), np.bincount(place, low, places))

    def add_columns(self, values: npt.NDArray[Any]) -> None:
        """Adds column i of `values` at place i."""
        self.count += len(values)
        for piece in pieces(values):
            high, low = _split(piece)
            ones = np.ones(len(piece))
            self._add_parts(ones @ high, ones @ low)

    def _add_parts(self, high: npt.NDArray[Any], low: npt.NDArray[Any]) -> None:
        self.low += (low * 2.0**58).astype(np.int64)
        self.high += (high * 2.0**22).astype(np.int64) + (self.low >> 36)
        self.low &= LOW_BITS

    def __add__(self, other: Tally) -> Tally:
        low = self.low + other.low
        return Tally(self.count + other.count, self.high + other.high + (low >> 36), low & LOW_BITS)

    def sums(self) -> FloatArray:
        """The sum at each place."""
        return self.high * 2.0**-22 + self.low * 2.0**-58

    def total(self) -> float:
        """The sum over all places, correctly rounded."""
        return ((int(self.high.sum()) << 36) + int(self.low.sum())) / (1 << 58)

    def pairs(self) -> Pairs:
        """Of places 2 i (misses) and 2 i + 1 (hits), i in order."""
        whole = Tally(*(part[::2] for part in (self.count, self.high, self.low)))
        hits = Tally(*(part[1::2] for part in (self.count, self.high, self.low)))
        both = whole + hits
        return Pairs(both.count, hits.count, both.sums())


@dataclass(eq=False, slots=True)
class Losses:
    """Losses from 0 to inf: their exact sum, and how many fell into each of 65,536 fixed cells.

    A cell holds numbers of like size, to a relative 2**-8: the 16 bits that follow the sign of a float32.
    """

    count: IntArray  # by cell
    small: Tally  # at one place
    large: IntArray  # an exact sum, of losses that a `Tally` does not take

    @classmethod
    def empty(cls) -> Losses:
        """No losses."""
        return cls(np.zeros(1 << 16, np.int64), Tally.empty(1), np.zeros(EXACT_CHUNKS, np.int64))

    def add(self, loss: FloatArray) -> None:
        """Adds at most BATCH losses, one a row."""
        # Losses beyond float32 stay finite, in the last finite cell; 0.0 + x because -0 has another cell.
        narrow = np.where(loss < np.inf, np.minimum(loss, np.finfo(np.float32).max), np.inf).astype(np.float32) + 0
        self.count += np.bincount(narrow.view(np.uint32) >> 15, minlength=1 << 16)
        small = loss < TALLIED
        self.small.add(np.zeros(np.count_nonzero(small), np.intp), loss[small])
        large = loss[~small & (loss < np.inf)]
        if len(large):
            self.large += exact_sums(large[:, None], np.zeros(len(large), np.uint8), 1)[0, 0]

    def __add__(self, other: Losses) -> Losses:
        return Losses(self.count + other.count, self.small + other.small, self.large + other.large)

    def total(self) -> float:
        """The sum of all."""
        if self.count[_INFINITE_CELL]:
            return np.inf
        return self.small.total() + exact_value(self.large)

    def middle(self, cell: npt.NDArray[np.intp]) -> FloatArray:
        """The number in the middle of each cell."""
        return ((cell.astype(np.uint32) << 15) + (1 << 14)).view(np.float32).astype(np.float64)


_INFINITE_CELL = 0x7F800000 >> 15


def _split(value: npt.NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """`value` as a multiple of 2**-22 plus a multiple of 2**-58."""
    # Adding 1.5 * 2**(52 - b) and taking it away rounds to a multiple of 2**-b.
    high: FloatArray = np.add(value, 1.5 * 2**30, dtype=np.float64)
    high -= 1.5 * 2**30
    low: FloatArray = value - high
    low += 1.5 * 2**-6
    low -= 1.5 * 2**-6
    return high, low


def pieces(block: npt.NDArray[Any]) -> Iterator[FloatArray]:
    """The rows of a block, as many at a time as stay in cache, in float64."""
    step = max(1, PIECE_VALUES // block.shape[1])
    for start in range(0, len(block), step):
        yield block[start : start + step].astype(np.float64)
