"""Probabilities and labels, checked, and what each row of them is reduced to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from softly._arrays import plain_array
from softly._errors import InputError
from softly.calibration.tallies import BATCH, FloatArray, pieces

BLOCK_VALUES = 1 << 22  # bounds temporary memory when there are many classes


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
    squared_norm = np.concatenate([np.einsum("ij,ij->i", part, part) for part in pieces(probabilities)])
    return Outcomes(flat[first + predicted], predicted, flat[first + labels], squared_norm)


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
    array = plain_array(probabilities, "probabilities")
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
