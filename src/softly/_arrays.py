"""What callers pass, made uniform: namespace, dtype, axis, mask and temperature checks, and their error texts.

What comes of them is `Rows` (softly._rows) or `Segments` (softly._segments).
"""

from __future__ import annotations

import contextlib
import importlib
import math
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Literal

import array_api_compat
import numpy as np
from array_api_compat import array_namespace, is_array_api_obj, size

from softly._errors import InputError

Array = Any  # an array of any namespace; the backend follows the data
Axis = int | Sequence[int] | None
Empty = Literal["zero", "nan", "uniform", "raise"]
EMPTY_CODES = {"zero": 0, "nan": 1, "uniform": 2, "raise": 0}

_NUMPY_KINDS = "biuf"


def is_tensor(value: Any) -> bool:
    """Whether it is a tensor of torch, which only a caller can have imported."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def quiet(scores: Array) -> contextlib.AbstractContextManager[Any]:
    """Without NumPy's floating-point warnings; torch.compile takes no other context than none."""
    return contextlib.nullcontext() if is_tensor(scores) else np.errstate(all="ignore")


def without_autocast(array: Array) -> contextlib.AbstractContextManager[Any]:
    """Products in the arrays' own dtype: torch's autocast would round them to half precision."""
    if not is_autocast(array):
        return contextlib.nullcontext()
    return sys.modules["torch"].autocast(array.device.type, enabled=False)  # type: ignore[no-any-return]


def is_autocast(array: Array) -> bool:
    """Whether torch's autocast is on where it lies."""
    if not is_tensor(array):
        return False
    torch, kind = sys.modules["torch"], array.device.type
    return bool(torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind))


def device(array: Array) -> Any:
    """Where an array lies; torch.compile warns of the cache in array_api_compat's."""
    return array.device if is_tensor(array) else array_api_compat.device(array)


def as_floats(scores: Array, half_in: str = "float32") -> tuple[ModuleType, Array, Array, Any]:
    """Namespace, the scores as given, the scores as the floats to compute in, and the result's dtype.

    Half precisions are computed in `half_in`; integers become the default float.
    """
    xp, given = as_array(scores, "scores")
    dtype, compute = float_dtypes(xp, given.dtype, half_in)
    return xp, given, given if given.dtype == compute else xp.astype(given, compute), dtype


def plain_array(value: Any, name: str) -> np.ndarray[Any, Any]:
    """A NumPy array of what the caller passed; bfloat16 as float32, torch tensors without their graph.

    TypeError for masked arrays, whose mask would be lost.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array x, whose mask would be ignored: pass x.data and where=~x.mask")
    if is_tensor(value):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":
            value = value.float()
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def plain_reals(value: Any, name: str) -> np.ndarray[Any, Any]:
    """A `plain_array` of floats, integers as float64; TypeError for what are not real numbers."""
    array = plain_array(value, name)
    if array.dtype.kind not in _NUMPY_KINDS:
        raise TypeError(f"{name} have dtype {array.dtype}: convert them to real numbers, such as float64")
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def as_array(value: Any, name: str) -> tuple[ModuleType, Array]:
    if is_tensor(value):  # torch.compile warns of the cache in array_namespace
        from array_api_compat import torch as xp

        return xp, value
    if is_array_api_obj(value) and not isinstance(value, np.ndarray | np.generic):
        return array_namespace(value), value
    return np, plain_array(value, name) if isinstance(value, np.ma.MaskedArray) else np.asarray(value)


def beside(xp: ModuleType, value: Any, name: str, scores: Array) -> Array:
    """Another argument as an array of the scores' namespace, on their device."""
    if xp is np:
        if is_tensor(value):
            raise TypeError(f"{name} is a tensor beside an array of NumPy: pass arrays of one library")
        return as_array(value, name)[1]
    if is_tensor(value):  # asarray would warn of one that records a gradient
        return value.to(scores.device)
    if _is_jax_trace(value):  # has no device yet
        return value
    return xp.asarray(value, device=device(scores))


def float_dtypes(xp: ModuleType, dtype: Any, half_in: str = "float32", name: str = "scores") -> tuple[Any, Any]:
    """The result's dtype and the one to compute in, of arrays of a dtype; integers become the default float."""
    known_as = getattr(dtype, "name", None) or str(dtype)
    if "float16" in known_as:  # bfloat16 too, which namespaces know under this name only
        return dtype, np.dtype(half_in) if xp is np else getattr(xp, half_in)
    if xp is np:
        if dtype.kind not in _NUMPY_KINDS:
            raise TypeError(f"{name} have dtype {dtype}: convert them to real numbers, such as float64")
        native = dtype.newbyteorder("=") if dtype.kind == "f" else np.dtype(np.float64)
        return native, native
    if xp.isdtype(dtype, "real floating"):
        return dtype, dtype
    if xp.isdtype(dtype, ("bool", "integral")):
        default = xp.zeros(0).dtype
        return default, default
    raise TypeError(f"{name} have dtype {dtype}: convert them to real numbers, such as float64")


def normalise_axes(axis: Axis, ndim: int) -> tuple[int, ...]:
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


def hide(xp: ModuleType, scores: Array, where: Array | None) -> Array:
    """Scores with -inf, impossible, wherever the mask is False."""
    if where is None:
        return scores
    return xp.where(as_mask(xp, where, scores), scores, xp.full_like(scores, -math.inf))


def as_mask(xp: ModuleType, where: Array, scores: Array) -> Array:
    """The mask in the scores' shape; TypeError if it is not boolean."""
    return in_shape_of(scores, xp, as_boolean(xp, where, scores), "where")


def as_boolean(xp: ModuleType, where: Array, scores: Array) -> Array:
    """The mask beside the scores, in its own shape; TypeError if it is not boolean."""
    mask = beside(xp, where, "where", scores)
    if mask.dtype != (np.dtype(bool) if xp is np else xp.bool):
        raise TypeError(f"where has dtype {mask.dtype}: pass a boolean mask, True = possible")
    return mask


def in_shape_of(scores: Array, xp: ModuleType, array: Array, name: str) -> Array:
    """The array broadcast to the scores' shape; ValueError if it does not."""
    shape = tuple(scores.shape)
    try:
        return xp.broadcast_to(array, shape)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"{name} has shape {tuple(array.shape)}, which does not broadcast to that of scores, {shape}"
        ) from error


def check_empty(empty: str) -> None:
    """ValueError for an unknown `empty`."""
    if empty not in EMPTY_CODES:
        raise InputError(f"empty={empty!r} is not one of {', '.join(map(repr, EMPTY_CODES))}")


def check_temperature(temperature: Any, xp: ModuleType, scores: Array, batch: tuple[int, ...], each: str) -> Any:
    """A float, or an array of the batch's shape; ValueError for a negative or NaN temperature or another shape."""
    if isinstance(temperature, int | float | np.floating | np.integer) and not isinstance(temperature, bool):
        value = _as_float(temperature)
        if not value >= 0:
            raise InputError(f"temperature={value} is not a temperature: it must be >= 0 (0 and inf are limits)")
        return value + 0.0  # -0 is 0
    given_xp, array = as_array(temperature, "temperature")
    if xp is np:
        if given_xp is not np or array.dtype.kind not in _NUMPY_KINDS or array.dtype.kind == "b":
            raise TypeError(f"temperature must be a number or an array of numbers, got {type(temperature).__name__}")
        array = array.astype(np.float64, copy=False)
    else:
        array = beside(xp, array, "temperature", scores)
        if not xp.isdtype(array.dtype, "real floating"):
            array = xp.astype(array, scores.dtype)
    if not is_readable(array):
        array = xp.where(array >= 0, xp.abs(array), xp.full_like(array, math.nan))  # compilers drop a + 0.0
    elif bool(xp.any(~(array >= 0))):
        array = array.detach() if is_tensor(array) else array
        bad = float(xp.reshape(array, (-1,))[xp.argmax(xp.astype(xp.reshape(~(array >= 0), (-1,)), xp.int32))])
        raise InputError(f"temperature contains {bad}: every temperature must be >= 0 (0 and inf are limits)")
    try:
        return xp.broadcast_to(array + 0.0, batch)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"temperature has shape {tuple(array.shape)}, which does not broadcast to one for each {each}, {batch}"
        ) from error


def _as_float(number: Any) -> float:
    try:
        return float(number)
    except OverflowError:  # an integer beyond the floats
        return math.inf if number > 0 else -math.inf


def check_alpha(alpha: Any, scores: Array) -> Any:
    """The family's number as a float, one of torch or JAX as it is; ValueError below 1 or for NaN."""
    if is_tensor(alpha) and is_tensor(scores):
        if alpha.ndim:
            raise InputError(f"alpha has shape {tuple(alpha.shape)}: pass one number, or a tensor without axes")
        return alpha
    if jax_of(alpha) is not None:
        if alpha.ndim or not array_namespace(alpha).isdtype(alpha.dtype, ("integral", "real floating")):
            raise InputError(
                f"alpha is an array of shape {alpha.shape} and dtype {alpha.dtype}: pass one real number, or jax.vmap"
            )
        if is_readable(alpha):
            check_alpha(alpha.item(), scores)
        return alpha
    if isinstance(alpha, bool) or not isinstance(alpha, int | float | np.floating | np.integer):
        raise TypeError(f"alpha must be a number, got {type(alpha).__name__}")
    value = _as_float(alpha)
    if not value >= 1:
        raise InputError(f"alpha={value} is not in the family: it must be >= 1 (1 is softmax, 2 sparsemax)")
    return value


def jax_of(*values: Any) -> Any:
    """softly.jax if one of the values is a JAX array or tracer, else None; nothing is imported that is not yet."""
    jax = sys.modules.get("jax")
    if jax is None or not any(isinstance(value, jax.Array) for value in values):
        return None
    return importlib.import_module("softly.jax")


def _is_jax_trace(value: Any) -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(value, jax.core.Tracer)


def is_readable(array: Array) -> bool:
    """Whether values can be looked at without tracing, transforming or waiting for a device."""
    if is_tensor(array):
        torch = sys.modules["torch"]
        if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
            return False
        if isinstance(array, torch._subclasses.FakeTensor) or not array.is_cpu:
            return False
        return torch._C._functorch.peek_interpreter_stack() is None
    return not _is_jax_trace(array) and "cuda" not in str(getattr(array, "device", "cpu"))


def check_out(out: Any, xp: ModuleType, scores: Array, shape: tuple[int, ...], dtype: Any) -> None:
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
