"""Scores that lie in memory in every way, and the bits of what a map makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import semantics

DTYPES = ["float32", "float64"] if semantics.FORCED else ["float32", "float64", "float16", "bfloat16"]
FMA = tuple(name for name in semantics.targets() if name in ("avx2", "avx512", "neon"))
Array = np.ndarray[Any, Any]


def rows(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Array:
    """Scores with ties, impossible entries, one row of NaN and one with nothing possible."""
    rng = np.random.default_rng([seed, *shape])
    scores = rng.normal(size=shape) * 10
    scores[rng.random(shape) < 0.1] = -np.inf
    scores[rng.random(shape) < 0.1] = 1.5
    if shape[0] > 4:
        scores[1, -1], scores[2], scores[3, 0] = np.nan, -np.inf, np.inf
    return scores.astype(semantics.to_dtype(dtype))


def bits(result: Any) -> bytes:
    """The bits of a result in C order and native byte order; every NaN counts as the same."""
    result = np.asarray(result)
    native = np.array(result, dtype=result.dtype.newbyteorder("="), order="C")
    native[np.isnan(native)] = np.nan
    return native.tobytes()


def layouts(a: Array) -> Iterator[tuple[str, Array]]:
    """Arrays equal to `a` that lie differently in memory."""
    yield "every other column", np.repeat(a, 2, axis=1)[:, ::2]
    yield "every third row", np.repeat(a, 3, axis=0)[::3]
    yield "part of wider rows", np.pad(a, ((1, 1), (3, 2)))[1:-1, 3:-2]
    yield "Fortran", np.asfortranarray(a)
    yield "negative column stride", a[:, ::-1].copy()[:, ::-1]
    yield "negative row stride", a[::-1].copy()[::-1]
    yield "both negative", a[::-1, ::-1].copy()[::-1, ::-1]
    yield "read-only", semantics.read_only(a.copy())
    yield "unaligned", semantics.unaligned(a)
    yield "unaligned Fortran", semantics.unaligned(np.ascontiguousarray(a.T)).T
    if a.dtype.kind == "f":
        swapped = a.astype(a.dtype.newbyteorder(">" if np.little_endian else "<"))
        yield "byte-swapped", swapped
        yield "byte-swapped Fortran", np.asfortranarray(swapped)
        yield "unaligned byte-swapped", semantics.unaligned(swapped)


def to_torch(torch: Any, a: Array) -> Any:
    """A tensor over the same memory."""
    if a.dtype.name == "bfloat16":
        return torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(a)


def from_torch(torch: Any, tensor: Any) -> Array:
    """A NumPy array over the same memory."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(semantics.to_dtype("bfloat16"))
    return tensor.numpy()


def fingerprints_elsewhere(module: str) -> dict[tuple[str, int], list[str]]:
    """What `fingerprints()` of a test file yields in new processes, by target and number of threads.

    Every target with FMA is there, and one of them with two threads.
    """
    printed = {}
    for target, threads in ((FMA[0], 1), (FMA[0], 2), *((target, 1) for target in FMA[1:])):
        code = (
            f"import softly._core as core, {module}; assert core.active_target() == {target!r}; "
            f"print(*{module}.fingerprints(), sep='\\n')"
        )
        done = semantics.python("-c", code, target=target, threads=threads)
        assert done.returncode == 0, done.stderr[-3000:]
        printed[target, threads] = done.stdout.splitlines()
    return printed
