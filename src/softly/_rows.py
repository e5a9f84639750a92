"""Scores as rows: what an expression or a kernel sees of the caller's array, and the way back.

The reduced axes are one last axis, impossible entries are -inf, integers are floats. `softly._segments.Segments` has
the same face for groups of different lengths, so that each map is written once for both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from softly._arrays import (
    Array,
    Axis,
    Empty,
    as_floats,
    check_empty,
    check_out,
    check_temperature,
    device,
    hide,
    is_readable,
    normalise_axes,
)
from softly._errors import InputError


@dataclass(slots=True)
class Rows:
    """Rows along the last axis, and how their results go back to the caller's shape and dtype."""

    xp: ModuleType
    scores: Array  # (*batch, n), float32 or wider, -inf where impossible
    temperature: Any  # float, or array of shape `batch`
    empty: Empty
    dtype: Any  # of the result
    shape: tuple[int, ...]  # of the caller's scores
    axes: tuple[int, ...]  # reduced, non-negative
    reduces: bool
    keepdims: bool
    out: Array | None

    offsets = order = None

    @property
    def axis(self) -> int:
        """The caller's axis that the rows lie along; the last one here if there were several or none."""
        return self.axes[0] if len(self.axes) == 1 else self.scores.ndim - 1

    def largest(self, x: Array) -> Array:
        """The largest entry of each row, with a last axis."""
        return self.xp.max(x, axis=-1, keepdims=True)

    def total(self, x: Array) -> Array:
        """The sum of each row, with a last axis."""
        return self.xp.sum(x, axis=-1, keepdims=True)

    def sum(self, x: Array) -> Array:
        """The sum of each row, one number a row."""
        return self.xp.sum(x, axis=-1)

    def spread(self, per_row: Array) -> Array:
        """One number a row, with a last axis."""
        return self.xp.expand_dims(per_row, axis=-1)

    def each(self, x: Array, when_empty: float) -> Array:
        """One number a row, of what `largest` and `total` return; rows without entries get `when_empty`."""
        if x.shape[-1] == 0:
            return self.xp.full(x.shape[:-1], when_empty, dtype=x.dtype, device=device(x))
        return x[..., 0]

    @property
    def size(self) -> Array:
        """How many entries a row has."""
        return self.xp.asarray(self.scores.shape[-1], dtype=self.scores.dtype, device=device(self.scores))

    @property
    def is_laid_out(self) -> bool:
        """Whether results stand as the caller's: one a row, or the last axis alone is reduced, or none."""
        return self.reduces or not self.axes or self.axes == (len(self.shape) - 1,)

    def arrange(self, entries: Array) -> Array:
        """An array of the caller's shape as rows."""
        return _as_rows(self.xp, entries, self.axes)

    def restore(self, result: Array) -> Array:
        """The result, (*batch, n) or reduced (*batch), in the caller's shape and dtype, in `out` if there is one."""
        xp, axes, ndim = self.xp, self.axes, len(self.shape)
        if self.reduces:
            if self.keepdims:
                result = xp.reshape(result, tuple(1 if i in axes else n for i, n in enumerate(self.shape)))
        elif self.is_laid_out:
            result = result if result.shape == self.shape else xp.reshape(result, self.shape)
        else:
            order = _reduced_last(axes, ndim)
            result = xp.reshape(result, tuple(self.shape[i] for i in order))
            result = xp.permute_dims(result, tuple(order.index(i) for i in range(ndim)))
        return give_back(xp, result, self.dtype, self.out)


def as_rows(
    scores: Array,
    axis: Axis,
    temperature: Any,
    where: Array | None,
    empty: Empty,
    out: Array | None,
    *,
    reduces: bool = False,
    keepdims: bool = False,
    half_in: str = "float32",
) -> Rows:
    """Check every argument of a map and bring the scores to rows; axis=() makes each entry a row of its own."""
    xp, given, scores, dtype = as_floats(scores, half_in)
    check_empty(empty)
    shape = tuple(scores.shape)
    axes = normalise_axes(axis, len(shape))
    kept = tuple(n for i, n in enumerate(shape) if i not in axes)
    arranged = _as_rows(xp, hide(xp, scores, where), axes)
    checked = check_temperature(temperature, xp, scores, kept, "row" if axes or not shape else "score")
    result_shape = tuple(1 if i in axes else n for i, n in enumerate(shape)) if keepdims else kept
    if out is not None:
        check_out(out, xp, given, result_shape if reduces else shape, dtype)
    if empty == "raise":
        raise_if_empty(xp, xp.all(arranged == -math.inf, axis=-1), "row")
    return Rows(xp, arranged, checked, empty, dtype, shape, axes, reduces, keepdims, out)


def give_back(xp: ModuleType, result: Array, dtype: Any, out: Array | None) -> Array:
    """The result in its dtype, in `out` if there is one; NumPy's 0-d arrays as scalars."""
    if xp is not np:
        return xp.astype(result, dtype, copy=False)
    if out is not None:
        if not (result.ctypes.data == out.ctypes.data and result.strides == out.strides and result.dtype == out.dtype):
            np.copyto(out, result, casting="unsafe")
        return out
    result = result.astype(dtype, copy=False)
    return result if result.ndim else result[()]


def raise_if_empty(xp: ModuleType, impossible: Array, group: str) -> None:
    """InputError that names the first row or segment with nothing possible."""
    if not is_readable(impossible):
        raise InputError(
            'empty="raise" cannot be answered inside a trace or on a device: choose another, or check first'
        )
    if bool(xp.any(impossible)):
        flat = xp.astype(xp.reshape(impossible, (-1,)), xp.int32)
        raise InputError(
            f'{group} {int(xp.argmax(flat))} has nothing possible (all -inf or masked) and empty="raise": '
            f'choose empty="zero", "nan" or "uniform", or leave such {group}s out'
        )


def _reduced_last(axes: tuple[int, ...], ndim: int) -> list[int]:
    return [i for i in range(ndim) if i not in axes] + list(axes)


def _as_rows(xp: ModuleType, entries: Array, axes: tuple[int, ...]) -> Array:
    """The named axes moved last and made one."""
    shape = tuple(entries.shape)
    if axes == (len(shape) - 1,):
        return entries
    order = _reduced_last(axes, len(shape))
    kept = tuple(n for i, n in enumerate(shape) if i not in axes)
    return xp.reshape(xp.permute_dims(entries, tuple(order)), (*kept, math.prod([shape[i] for i in axes])))
