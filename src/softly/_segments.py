"""Scores in groups of different lengths, with the face of `softly._rows.Rows`.

The entries of a group are neighbours along the last axis; further axes (heads) come before it. In array-API terms a
reduction is a segmented scan: after step d an entry holds the sum (or maximum) of the last 2d entries of its group up
to itself, so log2(longest) steps are enough, and the group's last entry holds the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from softly import _kernels
from softly._arrays import (
    Array,
    Empty,
    as_array,
    as_floats,
    beside,
    check_empty,
    check_out,
    check_temperature,
    device,
    hide,
    is_readable,
)
from softly._errors import InputError
from softly._rows import give_back, raise_if_empty


@dataclass
class Segments:
    """Groups along the last axis, and how their results go back to the caller's order, shape and dtype."""

    sorts: ClassVar[bool] = True  # whether entries of a segment must be neighbours

    xp: ModuleType
    scores: Array  # (*heads, n), float32 or wider, -inf where impossible
    temperature: Any  # float, or array of shape (*heads, segments)
    empty: Empty
    dtype: Any  # of the result
    offsets: Any  # (segments + 1,): segment i is [offsets[i], offsets[i + 1])
    order: Array | None  # where each entry stood in the caller's scores; None: here
    reduces: bool
    out: Array | None
    count: int  # of segments
    index: Array | None = None  # the segment of each entry, where entries stay in an order of their own: no offsets

    axis = 0  # of the caller's scores

    @property
    def is_laid_out(self) -> bool:
        """Whether results stand as the caller's: no further axes, and no other order unless there is one a segment."""
        return self.scores.ndim == 1 and (self.reduces or self.order is None)

    def largest(self, x: Array) -> Array:
        """The largest entry of each entry's segment."""
        return self._scan(x, self.xp.maximum)

    def total(self, x: Array) -> Array:
        """The sum of each entry's segment."""
        return self._scan(x, lambda a, b: a + b)

    def sum(self, x: Array) -> Array:
        """The sum of each segment, one number a segment."""
        return self.each(self.total(x), 0.0)

    def spread(self, per_segment: Array) -> Array:
        """One number a segment, at each of its entries."""
        return self.xp.take(per_segment, self._segment, axis=-1)

    def each(self, x: Array, when_empty: float) -> Array:
        """One number a segment, of what `largest` and `total` return; segments without entries get `when_empty`."""
        xp, sizes = self.xp, self.offsets[1:] - self.offsets[:-1]
        if x.shape[-1] == 0:
            return xp.full((*x.shape[:-1], sizes.shape[0]), when_empty, dtype=x.dtype, device=device(x))
        last = xp.where(sizes > 0, self.offsets[1:] - 1, xp.zeros_like(sizes))
        ends = xp.take(x, last, axis=-1)
        return xp.where(sizes > 0, ends, xp.full_like(ends, when_empty))

    @cached_property
    def size(self) -> Array:
        """How many entries each entry's segment has."""
        sizes = self.xp.astype(self.offsets[1:] - self.offsets[:-1], self.scores.dtype)
        return self.xp.take(sizes, self._segment, axis=-1)

    def restore(self, result: Array) -> Array:
        """The result, (*heads, n) or reduced (*heads, segments), in the caller's order, shape and dtype."""
        xp, result = self.xp, _last_axis_first(self.xp, result)
        if self.order is not None and not self.reduces:
            result = xp.take(result, _inverse(xp, self.order), axis=0)
        return give_back(xp, result, self.dtype, self.out)

    @cached_property
    def _segment(self) -> Array:
        entries = self.xp.arange(self.scores.shape[-1], dtype=self.offsets.dtype, device=device(self.scores))
        return self.xp.searchsorted(self.offsets[1:], entries, side="right")

    @cached_property
    def _position(self) -> Array:
        entries = self.xp.arange(self.scores.shape[-1], dtype=self.offsets.dtype, device=device(self.scores))
        return entries - self.xp.take(self.offsets, self._segment, axis=0)

    @cached_property
    def _last(self) -> Array:
        return self.xp.take(self.offsets, self._segment + 1, axis=0) - 1

    def _scan(self, x: Array, combine: Callable[[Array, Array], Array]) -> Array:
        xp, n = self.xp, x.shape[-1]
        longest = n
        if n and is_readable(self.offsets):
            longest = int(xp.max(self.offsets[1:] - self.offsets[:-1]))
        step = 1
        while step < longest:
            x = xp.where(self._position >= step, combine(x, xp.roll(x, step, axis=-1)), x)
            step *= 2
        return xp.take(x, self._last, axis=-1)


def as_segments(
    scores: Array,
    offsets: Array | None,
    index: Array | None,
    num_segments: int | None,
    temperature: Any,
    where: Array | None,
    empty: Empty,
    out: Array | None,
    *,
    reduces: bool = False,
    half_in: str = "float32",
    kind: type[Segments] = Segments,
) -> Segments:
    """Check every argument of a segment map; bring the entries of each segment together along the last axis.

    Kinds of Segments that take entries in any order have them as they are.
    """
    xp, given, scores, dtype = as_floats(scores, half_in)
    check_empty(empty)
    shape = tuple(scores.shape)
    if not shape:
        raise InputError("scores is a single number: segments need an axis of entries, such as [1.0, 2.0]")
    order, bounds, ids, count = group(xp, scores, offsets, index, num_segments, kind.sorts)
    arranged = hide(xp, scores, where)
    arranged = _first_axis_last(xp, arranged if order is None else xp.take(arranged, order, axis=0))
    kept = (count, *shape[1:])
    checked = check_temperature(temperature, xp, scores, kept, "segment")
    if not isinstance(checked, float):
        checked = _first_axis_last(xp, checked)
    if out is not None:
        check_out(out, xp, given, kept if reduces else shape, dtype)
    segments = kind(xp, arranged, checked, empty, dtype, bounds, order, reduces, out, count, ids)
    if empty == "raise":
        impossible = segments.each(segments.largest(arranged), -math.inf) == -math.inf
        raise_if_empty(xp, xp.any(xp.reshape(impossible, (math.prod(kept[1:]), kept[0])), axis=0), "segment")
    return segments


def group(
    xp: ModuleType, scores: Array, offsets: Array | None, index: Array | None, num_segments: int | None, sorts: bool
) -> tuple[Array | None, Array | None, Array | None, int]:
    """The order that brings segments together (None: they stand so), the bounds between them, and how many there are.

    Without `sorts` an index comes back as it is, third, in place of order and bounds.
    """
    n = int(scores.shape[0])
    if (offsets is None) == (index is None):
        raise InputError(f"{'neither' if index is None else 'both'} of offsets and index given: pass one of them")
    if offsets is not None:
        if num_segments is not None:
            raise InputError(f"num_segments={num_segments} goes with index; offsets tell how many segments there are")
        bounds = _integers(xp, scores, offsets, "offsets")
        _check_offsets(xp, bounds, n)
        return None, bounds, None, int(bounds.shape[0]) - 1
    ids = _integers(xp, scores, index, "index")
    if tuple(ids.shape) != (n,):
        raise InputError(f"index has shape {tuple(ids.shape)}: pass one integer for each of the {n} rows of scores")
    count = _count_segments(xp, ids, num_segments)
    if not sorts:
        return None, None, ids, count
    if xp is np and _kernels.core is not None:
        bounds, order = _kernels.core.group(ids, count)
        return order, bounds, None, count
    is_sorted = is_readable(ids) and (n < 2 or bool(xp.all(ids[1:] >= ids[:-1])))
    order = None if is_sorted else xp.argsort(ids, stable=True)
    ids = ids if order is None else xp.take(ids, order, axis=0)
    bounds = xp.searchsorted(ids, xp.arange(count + 1, dtype=ids.dtype, device=device(ids)), side="left")
    return order, bounds, None, count


def _integers(xp: ModuleType, scores: Array, values: Array, name: str) -> Array:
    array = as_array(values, name)[1]
    if xp is np:
        if array.size == 0 and not isinstance(values, np.ndarray):
            array = array.astype(np.int64)
        if array.dtype.kind not in "iu":
            raise TypeError(f"{name} has dtype {array.dtype}: pass integers")
        if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
            raise InputError(f"{name} contains {array.max()}, which is no position in the scores")
        return np.require(array, np.int64, ["C", "A"])
    array = beside(xp, array, name, scores)
    if not xp.isdtype(array.dtype, "integral"):
        raise TypeError(f"{name} has dtype {array.dtype}: pass integers")
    return xp.astype(array, xp.asarray(0).dtype, copy=False)


def _check_offsets(xp: ModuleType, offsets: Array, n: int) -> None:
    if offsets.ndim != 1 or offsets.shape[0] == 0:
        raise InputError(f"offsets has shape {tuple(offsets.shape)}: pass the segments' bounds, such as [0, 2, 5]")
    if not is_readable(offsets):
        return
    if int(offsets[0]) != 0 or int(offsets[-1]) != n:
        raise InputError(
            f"offsets run from {int(offsets[0])} to {int(offsets[-1])}: they must run from 0 to {n}, the rows of scores"
        )
    falls = offsets[1:] < offsets[:-1]
    if bool(xp.any(falls)):
        at = int(xp.argmax(xp.astype(falls, xp.int32)))
        raise InputError(
            f"offsets fall from {int(offsets[at])} to {int(offsets[at + 1])} at {at + 1}: they must not decrease"
        )


def _count_segments(xp: ModuleType, ids: Array, num_segments: int | None) -> int:
    readable = is_readable(ids)
    if num_segments is None:
        if not readable:
            raise InputError("num_segments=None cannot be read off an index inside a trace or on a device: pass it")
        largest = int(xp.max(ids)) if ids.shape[0] else -1
        num_segments = max(largest + 1, 0)
    elif isinstance(num_segments, bool) or not hasattr(num_segments, "__index__"):
        raise TypeError(f"num_segments must be an integer, got {type(num_segments).__name__}")
    count = int(num_segments)
    if count < 0:
        raise InputError(f"num_segments={count} is negative")
    if readable and ids.shape[0]:
        outside = (ids < 0) | (ids >= count)
        if bool(xp.any(outside)):
            at = int(xp.argmax(xp.astype(outside, xp.int32)))
            raise InputError(f"index[{at}] is {int(ids[at])}: it must lie in [0, {count}), the segments there are")
    return count


def _inverse(xp: ModuleType, order: Array) -> Array:
    if xp is np:
        inverse = np.empty_like(order)
        inverse[order] = np.arange(order.size)
        return inverse
    return xp.argsort(order)


def _first_axis_last(xp: ModuleType, x: Array) -> Array:
    return x if x.ndim == 1 else xp.permute_dims(x, (*range(1, x.ndim), 0))


def _last_axis_first(xp: ModuleType, x: Array) -> Array:
    return x if x.ndim == 1 else xp.permute_dims(x, (x.ndim - 1, *range(x.ndim - 1)))
