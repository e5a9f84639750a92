"""What callers pass, made uniform: namespace, dtype, axis, mask and temperature checks, and their error texts.

Every map works on `Rows`: the reduced axes are one last axis, impossible entries are -inf, integers are floats.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj, size

from softly._errors import InputError

Array = Any  # an array of any namespace; the backend follows the data
Axis = int | Sequence[int] | None
Empty = Literal["zero", "nan", "uniform", "raise"]
EMPTY_CODES = {"zero": 0, "nan": 1, "uniform": 2, "raise": 0}

_NUMPY_KINDS = "biuf"


@dataclass(slots=True)
class Rows:
    """Scores as rows along the last axis, and how their results go back to the caller's shape and dtype."""

    xp: ModuleType
    scores: Array  # (*batch, n), float32 or wider, -inf where impossible
    temperature: Any  # float, or array of shape `batch`
    empty: Empty
    dtype: Any  # of the result
    shape: tuple[int, ...]  # of the caller's scores
    axes: tuple[int, ...]  # reduced, non-negative
    reduces: bool
    out: Array | None

    @property
    def is_numpy(self) -> bool:
        """Whether the scores are a NumPy array."""
        return self.xp is np

    @property
    def is_laid_out(self) -> bool:
        """Whether the rows stand as in the caller's scores: the last axis alone is reduced."""
        return self.axes == (len(self.shape) - 1,)

    def restore(self, result: Array) -> Array:
        """The result, (*batch, n) or reduced (*batch), in the caller's shape and dtype, in `out` if there is one."""
        axes, ndim = self.axes, len(self.shape)
        if not (self.reduces or self.is_laid_out):
            order = [i for i in range(ndim) if i not in axes] + list(axes)
            result = self.xp.reshape(result, tuple(self.shape[i] for i in order))
            result = self.xp.permute_dims(result, tuple(order.index(i) for i in range(ndim)))
        if not self.is_numpy:
            return self.xp.astype(result, self.dtype, copy=False)
        if self.out is not None:
            if self.out is not result:
                np.copyto(self.out, result, casting="unsafe")
            return self.out
        result = result.astype(self.dtype, copy=False)
        return result if result.ndim else result[()]


def as_rows(
    scores: Array,
    axis: Axis,
    temperature: Any,
    where: Array | None,
    empty: Empty,
    out: Array | None,
    *,
    reduces: bool = False,
    half_in: str = "float32",
) -> Rows:
    """Check every argument of a map and bring the scores to rows; half precisions are computed in `half_in`."""
    xp, scores = _as_array(scores, "scores")
    dtype, compute = _dtypes(xp, scores, half_in)
    given = scores
    if scores.dtype != compute:
        scores = xp.astype(scores, compute)
    if empty not in EMPTY_CODES:
        raise InputError(f"empty={empty!r} is not one of {', '.join(map(repr, EMPTY_CODES))}")
    shape = tuple(scores.shape)
    axes = _normalise_axes(axis, len(shape))
    kept = tuple(n for i, n in enumerate(shape) if i not in axes)
    if where is not None:
        scores = xp.where(_as_mask(xp, where, shape), scores, xp.asarray(-math.inf, dtype=compute))
    if axes != (len(shape) - 1,):
        order = [i for i in range(len(shape)) if i not in axes] + list(axes)
        scores = xp.reshape(xp.permute_dims(scores, tuple(order)), (*kept, math.prod(shape[i] for i in axes)))
    checked = check_temperature(temperature, xp, kept, compute)
    result_shape = kept if reduces else shape
    if out is not None:
        _check_out(out, xp, given, result_shape, dtype)
    rows = Rows(xp, scores, checked, empty, dtype, shape, axes, reduces, out)
    if empty == "raise":
        _raise_if_empty(rows)
    return rows


def plain_array(value: Any, name: str) -> np.ndarray[Any, Any]:
    """A NumPy array of what the caller passed; bfloat16 as float32, torch tensors without their graph.

    TypeError for masked arrays, whose mask would be lost.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array x, whose mask would be ignored: pass x.data and where=~x.mask")
    if "torch" in sys.modules and isinstance(value, sys.modules["torch"].Tensor):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":
            value = value.float()
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _as_array(value: Any, name: str) -> tuple[ModuleType, Array]:
    if is_array_api_obj(value) and not isinstance(value, np.ndarray | np.generic):
        return array_namespace(value), value
    return np, plain_array(value, name) if isinstance(value, np.ma.MaskedArray) else np.asarray(value)


def _dtypes(xp: ModuleType, scores: Array, half_in: str) -> tuple[Any, Any]:
    """The result's dtype and the one to compute in; integers become the default float."""
    dtype = scores.dtype
    name = getattr(dtype, "name", None) or str(dtype)
    if "float16" in name:  # bfloat16 too, which namespaces know under this name only
        return dtype, np.dtype(half_in) if xp is np else getattr(xp, half_in)
    if xp is np:
        if dtype.kind not in _NUMPY_KINDS:
            raise TypeError(f"scores have dtype {dtype}: convert them to real numbers, such as float64")
        native = dtype.newbyteorder("=") if dtype.kind == "f" else np.dtype(np.float64)
        return native, native
    if xp.isdtype(dtype, "real floating"):
        return dtype, dtype
    if xp.isdtype(dtype, ("bool", "integral")):
        default = xp.zeros(0).dtype
        return default, default
    raise TypeError(f"scores have dtype {dtype}: convert them to real numbers, such as float64")


def _normalise_axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    given = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
    if ndim == 0 and given in ((0,), (-1,)):
        return ()  # a number is its own row
    for a in given:
        if not -ndim <= a < ndim:
            raise np.exceptions.AxisError(f"axis={axis} is out of range for scores with {ndim} axes")
    axes = tuple(sorted(int(a) % ndim for a in given))
    if len(set(axes)) != len(axes):
        raise np.exceptions.AxisError(f"axis={axis} names an axis twice; name each once")
    return axes


def _as_mask(xp: ModuleType, where: Array, shape: tuple[int, ...]) -> Array:
    mask = _as_array(where, "where")[1] if xp is np else xp.asarray(where)
    if mask.dtype != (np.dtype(bool) if xp is np else xp.bool):
        raise TypeError(f"where has dtype {mask.dtype}: pass a boolean mask, True = possible")
    try:
        return xp.broadcast_to(mask, shape)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"where has shape {tuple(mask.shape)}, which does not broadcast to that of scores, {shape}"
        ) from error


def check_temperature(temperature: Any, xp: ModuleType, batch: tuple[int, ...], dtype: Any) -> Any:
    """A float, or an array of the batch's shape; ValueError for a negative or NaN temperature or another shape."""
    if isinstance(temperature, int | float | np.floating | np.integer) and not isinstance(temperature, bool):
        try:
            value = float(temperature)
        except OverflowError:  # an integer beyond the floats
            value = math.inf if temperature > 0 else -math.inf
        if not value >= 0:
            raise InputError(f"temperature={value} is not a temperature: it must be >= 0 (0 and inf are limits)")
        return value + 0.0  # -0 is 0
    given_xp, array = _as_array(temperature, "temperature")
    if xp is np:
        if given_xp is not np or array.dtype.kind not in _NUMPY_KINDS or array.dtype.kind == "b":
            raise TypeError(f"temperature must be a number or an array of numbers, got {type(temperature).__name__}")
        array = array.astype(np.float64, copy=False)
    else:
        array = xp.astype(xp.asarray(array), dtype, copy=False)
    if not _is_readable(array):
        array = xp.where(array >= 0, array, xp.asarray(math.nan, dtype=array.dtype))
    elif bool(xp.any(~(array >= 0))):
        bad = float(xp.reshape(array, (-1,))[xp.argmax(xp.astype(xp.reshape(~(array >= 0), (-1,)), xp.int32))])
        raise InputError(f"temperature contains {bad}: every temperature must be >= 0 (0 and inf are limits)")
    try:
        return xp.broadcast_to(array + 0.0, batch)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"temperature has shape {tuple(array.shape)}, which does not broadcast to one a row, {batch}"
        ) from error


def _is_readable(array: Array) -> bool:
    """Whether values can be looked at without tracing or waiting for a device."""
    jax = sys.modules.get("jax")
    if jax is not None and isinstance(array, jax.core.Tracer):
        return False
    return "cuda" not in str(getattr(array, "device", "cpu"))


def _check_out(out: Any, xp: ModuleType, scores: Array, shape: tuple[int, ...], dtype: Any) -> None:
    if xp is not np or not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise InputError(f"out is for NumPy arrays only, got {type(out).__name__} with scores of {xp.__name__}")
    if out.shape != shape or out.dtype != dtype or not out.flags.writeable:
        raise InputError(
            f"out has shape {out.shape} and dtype {out.dtype}{'' if out.flags.writeable else ', read-only'}: "
            f"the result needs a writable array of shape {shape} and dtype {dtype}"
        )
    same = out.ctypes.data == scores.ctypes.data and out.shape == scores.shape and out.strides == scores.strides
    if not same and size(out) and np.shares_memory(out, scores):
        raise InputError("out overlaps scores in part: pass the scores themselves, or an array apart from them")


def _raise_if_empty(rows: Rows) -> None:
    xp = rows.xp
    if not _is_readable(rows.scores):
        raise InputError(
            'empty="raise" cannot be answered inside a trace or on a device: choose another, or check first'
        )
    impossible = xp.all(rows.scores == -math.inf, axis=-1)
    if bool(xp.any(impossible)):
        flat = xp.astype(xp.reshape(impossible, (-1,)), xp.int32)
        raise InputError(
            f'row {int(xp.argmax(flat))} has nothing possible (all -inf or masked) and empty="raise": '
            'choose empty="zero", "nan" or "uniform", or leave such rows out'
        )
