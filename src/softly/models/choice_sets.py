"""Columns of a long table, one row an alternative, as choice sets."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from softly._arrays import plain_array
from softly._errors import InputError
from softly.models.losses import Floats


class ChoiceSets(NamedTuple):
    """Which rows belong together: taken in this order (None: as they stand), set i is [offsets[i], offsets[i + 1])."""

    order: NDArray[np.int64] | None
    offsets: NDArray[np.int64]
    ids: NDArray[Any]

    @classmethod
    def of(cls, sets: Any, rows: int) -> ChoiceSets:
        """Grouped by a column of numbers or names, in any order."""
        ids = column(sets, "sets", rows)
        starts = np.flatnonzero(ids[1:] != ids[:-1]) + 1
        offsets = np.concatenate([[0], starts, [rows]])
        firsts = ids[offsets[:-1]]
        if (firsts[1:] > firsts[:-1]).all():
            return cls(None, offsets, firsts)
        firsts, index, counts = np.unique(ids, return_inverse=True, return_counts=True)
        return cls(np.argsort(index, kind="stable"), np.concatenate([[0], np.cumsum(counts)]), firsts)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """How many alternatives each set has."""
        return np.diff(self.offsets)

    def arrange(self, values: NDArray[Any]) -> NDArray[Any]:
        """Rows with those of a set as neighbours."""
        return values if self.order is None else values[self.order]

    def restore(self, values: NDArray[Any]) -> NDArray[Any]:
        """Arranged rows in the caller's order."""
        if self.order is None:
            return values
        result = np.empty_like(values)
        result[self.order] = values
        return result

    def chosen(self, y: Any) -> NDArray[np.int64]:
        """The arranged row that was chosen in each set; InputError for a set with none, or with several."""
        flags = column(y, "y", self.offsets[-1])
        if flags.dtype.kind not in "biuf" or not ((flags == 0) | (flags == 1)).all():
            raise InputError(
                "y has entries other than 0 and 1: pass 1 for the chosen row of each set, 0 for the others"
            )
        flags = self.arrange(flags).astype(bool)
        places = np.flatnonzero(flags)
        starts, ends = self.offsets[:-1], self.offsets[1:]
        if len(places) != len(starts) or not ((places >= starts) & (places < ends)).all():
            counts = np.add.reduceat(flags.astype(np.int64), starts)
            i = int(np.argmax(counts != 1))
            raise InputError(f"y: set {self.ids[i]} has {counts[i]} chosen rows; every choice set needs exactly one")
        return places

    def of_each(self, values: NDArray[Any], name: str) -> NDArray[Any]:
        """One value, or row of values, a set, of a column that repeats it; InputError where it does not."""
        arranged = self.arrange(values)
        firsts = arranged[self.offsets[:-1]]
        differs = arranged != np.repeat(firsts, self.sizes, axis=0)
        if differs.any():
            row = int(np.argmax(differs.reshape(len(differs), -1).any(axis=1)))
            i = int(np.searchsorted(self.offsets, row, side="right")) - 1
            raise InputError(f"{name} differs within set {self.ids[i]}: it belongs to the chooser, so repeat it")
        return firsts


def column(values: Any, name: str, rows: int) -> NDArray[Any]:
    """A column of numbers or names (rows,), none missing."""
    array = np.asarray(values)
    if array.dtype.kind == "O":
        array = np.asarray(array.tolist())
    if array.shape != (rows,):
        raise InputError(f"{name} has shape {array.shape}: pass one entry for each of the {rows} rows of X")
    if array.dtype.kind not in "biufUS" or (array.dtype.kind == "f" and np.isnan(array).any()):
        raise InputError(f"{name} has missing entries, or dtype {array.dtype}: pass numbers or names")
    return array


def matrix(values: Any, name: str, rows: int | None = None) -> Floats:
    """Finite numbers (rows, columns) as float64; InputError names the first entry that is not."""
    array = plain_array(values, name)
    if array.ndim != 2 or array.dtype.kind not in "biuf" or (rows is not None and len(array) != rows):
        wanted = "(rows, features)" if rows is None else f"({rows}, columns), a row for each of X,"
        raise InputError(f"{name} has shape {array.shape} and dtype {array.dtype}: pass numbers {wanted}")
    array = np.ascontiguousarray(array, np.float64)
    if not np.isfinite(array.sum()) and not np.isfinite(array).all():
        row, place = (int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise InputError(f"{name}, row {row}, column {place}: {array[row, place]} is not finite; mend or drop the set")
    return array
