"""What rows are reduced to: outcomes, after checks, and tallies that add up to the same bits in any order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from softly._errors import InputError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

BATCH = 65_536  # rows in a block, and values that a `Tally` takes at once
BLOCK_VALUES = 1 << 22  # bounds temporary memory when there are many classes
PIECE_VALUES = 1 << 15  # 256 KB of float64
LOW_BITS = (1 << 36) - 1  # 58 - 22 bits, see `Tally`


class Outcomes(NamedTuple):
    """What the metrics need of each row; arrays of shape (rows,)."""

    confidence: npt.NDArray[Any]
    predicted: npt.NDArray[np.intp]
    label_probability: npt.NDArray[Any]
    squared_norm: FloatArray


def outcomes(probabilities: npt.NDArray[Any], labels: npt.NDArray[Any]) -> Outcomes:
    """Largest probability, its first class, probability of the label and sum of squares of each row.

    probabilities: a checked, C-contiguous (rows, classes) block of float32 or float64. labels: (rows,) intp.
    What a row gives does not depend on the rows beside it, to the bit.
    """
    rows, classes = probabilities.shape
    predicted = probabilities.argmax(axis=1)
    flat, first = probabilities.ravel(), np.arange(rows) * classes
    # einsum, because a matrix product would sum a row in an order that depends on the number of rows.
    squared_norm = np.concatenate([np.einsum("ij,ij->i", part, part) for part in _pieces(probabilities)])
    return Outcomes(flat[first + predicted], predicted, flat[first + labels], squared_norm)


def _pieces(block: npt.NDArray[Any]) -> Iterator[FloatArray]:
    """The rows of a block, as many at a time as stay in cache, in float64."""
    step = max(1, PIECE_VALUES // block.shape[1])
    for start in range(0, len(block), step):
        yield block[start : start + step].astype(np.float64)


def blocks(array: npt.NDArray[Any]) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Consecutive rows, as C-contiguous float32 or float64 of two dimensions, with the index of the first."""
    step = max(1, min(BATCH, BLOCK_VALUES // class_count(array)))
    for start in range(0, len(array), step):
        rows = array[start : start + step]
        if rows.ndim == 1:  # in float64, where 1 - p loses nothing of a float32
            yield start, np.stack((1.0 - rows.astype(np.float64), rows), axis=1)
        else:
            yield start, np.ascontiguousarray(rows, dtype=np.result_type(rows, np.float32))


def class_count(array: npt.NDArray[Any]) -> int:
    """Classes of an array of probabilities; one dimension is the probability of class 1 of two."""
    return int(array.shape[1]) if array.ndim == 2 else 2


def numbers(probabilities: npt.ArrayLike) -> npt.NDArray[Any]:
    """Probabilities as an array of float16, float32 or float64, of one or two dimensions."""
    if isinstance(probabilities, np.ma.MaskedArray):
        raise TypeError("probabilities: masked array given; give the rows that count, as a plain array")
    array = np.asarray(probabilities)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"probabilities: dtype {array.dtype} given; give real numbers")
    if array.ndim not in (1, 2):
        raise InputError(f"probabilities: shape {array.shape} given; give (rows, classes), or (rows,) for two classes")
    return array if array.dtype in (np.float16, np.float32, np.float64) else array.astype(np.float64)


def check_probabilities(array: npt.NDArray[Any], classes: int, first_row: int) -> None:
    """Raises InputError, counting from `first_row`, unless rows have `classes` numbers in [0, 1] of sum 1."""
    if class_count(array) != classes:
        raise InputError(f"probabilities: {class_count(array)} classes given; give {classes}, as in the rows before")
    tolerance = 1e-3 if array.dtype == np.float16 else 1e-4  # rounding to float16 moves a sum by up to 2**-11
    for start, block in blocks(array):
        if not (block.min() >= 0 and block.max() <= 1):
            bad = ~((block >= 0) & (block <= 1))
            row = bad.any(axis=1).argmax()
            column = np.flatnonzero(bad[row])[-1]  # the last: of a pair, the one that was given
            raise InputError(
                f"probabilities: row {first_row + start + row}, class {column} is {block[row, column]}; "
                "give numbers in [0, 1] (for scores, their softmax)"
            )
        sums = np.einsum("ij->i", block)
        wrong = np.abs(sums - 1) > tolerance
        if wrong.any():
            row = wrong.argmax()
            raise InputError(
                f"probabilities: row {first_row + start + row} sums to {sums[row]:.6g}, not 1; "
                "give the probabilities of all classes"
            )


def checked_labels(labels: npt.ArrayLike, rows: int, classes: int, first_row: int) -> npt.NDArray[np.intp]:
    """Labels as class indices, one for each of the `rows`; InputError otherwise."""
    if isinstance(labels, np.ma.MaskedArray):
        raise TypeError("labels: masked array given; give the rows that count, as a plain array")
    array = np.asarray(labels)
    if array.shape != (rows,):
        raise InputError(f"labels: shape {array.shape} given for {rows} rows; give one class index a row")
    if array.dtype.kind not in "biu" and rows:
        raise InputError(f"labels: dtype {array.dtype} given; give class indices of an integer dtype")
    wrong = (array < 0) | (array >= classes)
    if wrong.any():
        row = wrong.argmax()
        raise InputError(f"labels: row {first_row + row} is {array[row]}; give class indices from 0 to {classes - 1}")
    return array.astype(np.intp)


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
        for piece in _pieces(values):
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


def _split(value: npt.NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """`value` as a multiple of 2**-22 plus a multiple of 2**-58."""
    # Adding 1.5 * 2**(52 - b) and taking it away rounds to a multiple of 2**-b.
    high: FloatArray = np.add(value, 1.5 * 2**30, dtype=np.float64)
    high -= 1.5 * 2**30
    low: FloatArray = value - high
    low += 1.5 * 2**-6
    low -= 1.5 * 2**-6
    return high, low
