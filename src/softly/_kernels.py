"""The table (operation, device, dtype) -> compiled kernel, and what is in use.

A kernel replaces the array expression of its operation where the table has one; everything else runs the expression.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from softly._arrays import EMPTY_CODES, Array, is_tensor, jax_of

if TYPE_CHECKING:
    from softly._rows import Rows
    from softly._segments import Segments


def _load() -> tuple[ModuleType | None, str]:
    if os.environ.get("SOFTLY_TARGET") == "none":
        return None, "switched off by SOFTLY_TARGET=none"
    try:
        return importlib.import_module("softly._core"), ""
    except ModuleNotFoundError as error:
        if error.name != "softly._core":
            raise
        return None, "softly was installed without it: install a C++ compiler, then reinstall softly"


core, why_no_core = _load()

ELEMENTWISE = ("sigmoid", "log_sigmoid")
_WITH_OTHERS = ("temperature_statistics", "cross_entropy", "attention")  # take more than scores
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_KERNELS = {  # operation -> name in the core
    **{name: name for name in ("softmax", "log_softmax", "logsumexp", "entmax", *ELEMENTWISE)},
    "sparsemax": "entmax",
    **{name: name for name in _WITH_OTHERS},
}
TABLE: dict[tuple[str, str, np.dtype[Any]], Callable[..., Any]] = (
    {(operation, "cpu", dtype): getattr(core, name) for operation, name in _KERNELS.items() for dtype in _FLOATS}
    if core is not None
    else {}
)
# operation -> kernel(scores, temperature, out, alpha) of calls that need no preparation; None of those that do
DIRECT: dict[str, Callable[..., Array | None]] = {
    name: getattr(core, f"{kernel}_direct") if core is not None else lambda *_: None
    for name, kernel in _KERNELS.items()
    if name not in _WITH_OTHERS
}
# operation or derivative -> kernel on memory of others, by its addresses (csrc/python_addresses.hpp)
AT: dict[str, Callable[..., Any]] = {
    name.removesuffix("_at"): getattr(core, name) for name in dir(core) if core is not None and name.endswith("_at")
}
BOUNDS: dict[str, float] = core.bounds() if core is not None else {}  # operation -> largest error in ULPs (kernels.hpp)


empty_like: Callable[[Array], Array] = np.empty_like if core is None else core.empty_like


def release_memory() -> None:
    """Give the memory of dropped results, kept for the next ones, back to the system.

    New results of 1 to 64 MB are written where dropped ones were, for fresh pages cost more than a softmax. At most
    64 MB wait for that in a process. Arrays are as any other: writable, owners of their memory.

    >>> release_memory()
    """
    if core is not None:
        core.release_memory()


def find(operation: str, scores: Array) -> Callable[..., Any] | None:
    """The kernel for these scores (a NumPy array), or None where the expression runs."""
    if type(scores) is not np.ndarray or not scores.shape[-1:] or scores.shape[-1] == 0:
        return None
    return TABLE.get((operation, "cpu", scores.dtype))


def run(operation: str, groups: Rows | Segments, expression: Callable[[Any], Array], alpha: float = 1.0) -> Array:
    """The kernel on contiguous rows or segments if the table has one, else the expression.

    Where the groups' axis was brought last and the caller's array is contiguous as it stands, the kernel goes over the
    axis where it stands.
    """
    kernel = find(operation, groups.scores)
    if kernel is None:
        return expression(groups)
    scores, temperature, out = groups.scores, groups.temperature, groups.out
    axis, laid_out = scores.ndim - 1, groups.is_laid_out
    moved = not scores.flags.c_contiguous and groups.axis != axis
    if moved:
        axis, laid_out = groups.axis, groups.order is None or groups.reduces
        scores = np.moveaxis(scores, -1, axis)
        if groups.offsets is not None and not isinstance(temperature, float):
            temperature = np.moveaxis(temperature, -1, axis)
    scores = np.require(scores, requirements=["C", "A"])
    if not isinstance(temperature, float):
        temperature = np.require(temperature, np.float64, ["C", "A"])
    direct = out is not None and out.dtype == scores.dtype and out.flags.carray and laid_out
    result = kernel(
        scores, temperature, EMPTY_CODES[groups.empty], out if direct else None, groups.offsets, alpha, axis
    )
    return np.moveaxis(result, axis, -1) if moved and (groups.offsets is not None or not groups.reduces) else result


def which(operation: str, scores: Array | None = None) -> str:
    """Say what would run `operation` on `scores` (default: a float64 NumPy array).

    >>> softly.which("softmax")   # doctest: +SKIP
    'softmax float64: compiled core, avx512, 2 threads'
    """
    scores = np.empty((1, 1)) if scores is None else scores
    name = getattr(getattr(scores, "dtype", None), "name", None) or str(getattr(scores, "dtype", "float64"))
    if core is not None and (operation, "cpu", _computed_in(operation, scores)) in TABLE:
        return f"{operation} {name}: compiled core, {core.active_target()}, {core.threads()} threads"
    return f"{operation} {name}: array expression"


def _computed_in(operation: str, scores: Array) -> np.dtype[Any] | None:
    """The dtype that a kernel would see of NumPy's, torch's and JAX's arrays on the CPU; None of others."""
    if (jax := jax_of(scores)) is not None:
        is_read, default = operation not in _WITH_OTHERS and jax.calls_core(scores), jax.default_float
    elif is_tensor(scores):
        is_read, default = scores.device.type == "cpu", sys.modules["torch"].get_default_dtype
    else:
        is_read, default = type(scores) is np.ndarray, lambda: "float64"
    if not is_read or not scores.ndim or not scores.shape[-1]:
        return None
    name = str(scores.dtype).removeprefix("torch.")
    if name.startswith(("bool", "int", "uint")):
        name = str(default()).removeprefix("torch.")
    name = "float32" if "float16" in name else name
    return np.dtype(name) if name in ("float32", "float64") else None


def describe() -> dict[str, Any]:
    """The compiled core's state, for `softly doctor`."""
    if core is None:
        return {"compiled_core": False, "reason": why_no_core}
    return {
        "compiled_core": True,
        "target": core.active_target(),
        "targets": list(core.targets()),
        "threads": core.threads(),
    }
