"""The same bits whatever the memory looks like, however the rows are batched, on every instruction set with FMA."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import semantics

import softly

FUNCTIONS = [getattr(softly, name) for name in semantics.FUNCTIONS]
DTYPES = ["float32", "float64"] if semantics.FORCED else ["float32", "float64", "float16", "bfloat16"]
EXPRESSION = "torch tensors run the array expression so far"
LENGTHS = (1, 2, 3, 7, 10, 15, 16, 17, 31, 33, 64, 100, 128, 129, 257, 1000)
SHAPES = [(37, n) for n in (LENGTHS[::3] if semantics.FORCED else LENGTHS)]
SHARED = [(1200, 1000), (50021, 10), (1, 200003)]  # enough work for several threads
LARGE = [(3, 4099), (3000, 1000), (100003, 10), (2, 300007)]
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


def unaligned(a: Array) -> Array:
    """The same numbers one byte off their natural boundary."""
    buffer = np.zeros(a.nbytes + 1, np.uint8)
    view = buffer[1:].view(a.dtype).reshape(a.shape) if a.nbytes else a
    view[...] = a
    assert not a.size or not view.flags.aligned
    return view


def read_only(a: Array) -> Array:
    copy = a.copy()
    copy.flags.writeable = False
    return copy


def layouts(a: Array) -> Iterator[tuple[str, Array]]:
    """Arrays equal to `a` that lie differently in memory."""
    yield "every other column", np.repeat(a, 2, axis=1)[:, ::2]
    yield "every third row", np.repeat(a, 3, axis=0)[::3]
    yield "part of wider rows", np.pad(a, ((1, 1), (3, 2)))[1:-1, 3:-2]
    yield "Fortran", np.asfortranarray(a)
    yield "negative column stride", a[:, ::-1].copy()[:, ::-1]
    yield "negative row stride", a[::-1].copy()[::-1]
    yield "both negative", a[::-1, ::-1].copy()[::-1, ::-1]
    yield "read-only", read_only(a)
    yield "unaligned", unaligned(a)
    yield "unaligned Fortran", unaligned(np.ascontiguousarray(a.T)).T
    if a.dtype.kind == "f":
        swapped = a.astype(a.dtype.newbyteorder(">" if np.little_endian else "<"))
        yield "byte-swapped", swapped
        yield "byte-swapped Fortran", np.asfortranarray(swapped)
        yield "unaligned byte-swapped", unaligned(swapped)


# ---------------------------------------------------------------- layouts


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", FUNCTIONS, ids=semantics.FUNCTIONS)
class TestLayouts:
    def test_strides_alignment_and_byte_order(self, function: Any, dtype: str) -> None:
        for shape in SHAPES:
            a = rows(shape, dtype)
            expected = bits(function(a))
            for name, view in layouts(a):
                assert bits(function(view)) == expected, (name, shape)

    def test_axis_0_is_the_transposed_last_axis(self, function: Any, dtype: str) -> None:
        for shape in (*SHAPES, (1, 16), (2, 5000), (1000, 3), (300, 300)):
            a = rows(shape, dtype)
            expected = bits(function(a))
            for columns in (np.ascontiguousarray(a.T), a.T, np.repeat(a.T, 2, axis=1)[:, ::2]):
                assert bits(np.asarray(function(columns, axis=0)).T) == expected, shape

    def test_stride_0(self, function: Any, dtype: str) -> None:
        for shape in SHAPES:
            a = rows(shape, dtype)
            for view in (
                np.broadcast_to(a[0], shape),
                np.broadcast_to(a[:, :1], shape),
                np.broadcast_to(a[0, 0], shape),
            ):
                assert bits(function(view)) == bits(function(view.copy())), shape
                assert bits(function(view, axis=0)) == bits(function(view.copy(), axis=0)), shape

    def test_other_axes(self, function: Any, dtype: str) -> None:
        a = rows((6, 5, 17), dtype)
        reduces = function is softly.logsumexp
        moved = np.ascontiguousarray(np.moveaxis(a, 1, -1))
        middle = np.asarray(function(moved))
        assert bits(function(a, axis=1)) == bits(middle if reduces else np.moveaxis(middle, -1, 1))
        flat = np.asarray(function(a.reshape(-1)))
        assert bits(function(a, axis=None)) == bits(flat if reduces else flat.reshape(a.shape))
        assert bits(function(a, axis=(0, 1, 2))) == bits(function(a, axis=None))
        pairs = np.asarray(function(a.reshape(6, 85)))
        assert bits(function(a, axis=(1, 2))) == bits(pairs if reduces else pairs.reshape(a.shape))
        assert bits(function(a, axis=(-1, -2))) == bits(function(a, axis=(1, 2)))

    def test_masks_and_temperatures(self, function: Any, dtype: str) -> None:
        """The options have layouts too."""
        for n in (3, 16, 33, 200):
            a = rows((37, n), dtype)
            rng = np.random.default_rng(n)
            where, temperature = rng.random(a.shape) < 0.7, rng.uniform(0.1, 5, size=37)
            expected = bits(function(a, where=where, temperature=temperature))
            repeated = np.repeat(where, 2, axis=1)[:, ::2]
            swapped = temperature.astype(temperature.dtype.newbyteorder())
            assert bits(function(a, where=np.asfortranarray(where), temperature=temperature)) == expected
            assert bits(function(a, where=repeated, temperature=swapped)) == expected
            assert (
                bits(function(a[::-1].copy()[::-1], where=where, temperature=np.repeat(temperature, 2)[::2]))
                == expected
            )
            assert bits(np.asarray(function(a.T, axis=0, where=where.T, temperature=temperature)).T) == expected
            assert bits(function(np.where(where, a, np.array(-np.inf, a.dtype)), temperature=temperature)) == expected
            alone = [function(a[i], where=where[i], temperature=float(temperature[i])) for i in range(37)]
            assert b"".join(map(bits, alone)) == expected

    def test_into_out(self, function: Any, dtype: str) -> None:
        for shape in ((37, 10), (5, 1000)):
            a = rows(shape, dtype)
            expected = function(a)
            for name, out in layouts(np.zeros_like(expected).reshape(expected.shape[0], -1)):
                if out.flags.writeable and out.dtype.isnative:
                    out = out.reshape(expected.shape) if expected.ndim == 2 else out[:, 0]
                    function(a, out=out)
                    assert bits(out) == bits(expected), (name, shape)

    def test_batches(self, function: Any, dtype: str) -> None:
        """A row comes out the same alone, in any batch, and at any place in it."""
        for shape in SHAPES:
            a = rows(shape, dtype)
            whole = bits(function(a))
            for step in (1, 2, 5, 16, 36):
                parts = [bits(function(a[i : i + step])) for i in range(0, len(a), step)]
                assert b"".join(parts) == whole, (shape, step)
            assert bits(function(np.concatenate([a] * 9))) == whole * 9
            assert b"".join(bits(function(row)) for row in a) == whole


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", FUNCTIONS, ids=semantics.FUNCTIONS)
def test_large_calls_give_the_bits_of_small_ones(function: Any, dtype: str) -> None:
    """Work that threads share, against the same rows a few at a time and against the transposed array."""
    for shape in LARGE:
        a = rows(shape, dtype)
        whole, step = np.asarray(function(a)), max(1, shape[0] // 50)
        for i in range(0, shape[0], 7 * step):
            assert bits(function(a[i : i + step])) == bits(whole[i : i + step]), (shape, i)
        if shape[1] <= 4099:
            assert bits(np.asarray(function(np.ascontiguousarray(a.T), axis=0)).T) == bits(whole), shape


# ---------------------------------------------------------------- targets, threads, callers


def fingerprints() -> Iterator[str]:
    """One line for each function, dtype and shape: a hash of the bits of its results."""
    for dtype in ("float32", "float64", "float16", "bfloat16"):
        for shape in (*((37, n) for n in LENGTHS), (3, 4099), *(SHARED if dtype in ("float32", "float64") else ())):
            a = rows(shape, dtype)
            temperature = np.random.default_rng(1).uniform(0.1, 5, size=shape[0])
            for name, function in zip(semantics.FUNCTIONS, FUNCTIONS, strict=True):
                found = hashlib.sha256()
                for result in (function(a), function(a, temperature=0.7), function(a, temperature=temperature)):
                    found.update(bits(result))
                found.update(bits(function(a, axis=0)))
                yield f"{name} {dtype} {shape} {found.hexdigest()[:16]}"


def test_same_bits_on_every_target_with_fma_and_any_threads() -> None:
    if not FMA or semantics.FORCED:
        pytest.skip("no target with FMA here, or one was forced")
    printed = {}
    for target, threads in ((FMA[0], 1), (FMA[0], 2), (FMA[-1], 1)):
        code = (
            f"import softly._core as core, test_layouts; assert core.active_target() == {target!r}; "
            "print(*test_layouts.fingerprints(), sep='\\n')"
        )
        done = semantics.python("-c", code, target=target, threads=threads)
        assert done.returncode == 0, done.stderr[-3000:]
        printed[target, threads] = done.stdout.splitlines()
    reference = printed[FMA[0], 1]
    assert len(reference) > 4 * len(LENGTHS) * len(FUNCTIONS)
    for run, lines in printed.items():
        assert [pair for pair in zip(lines, reference, strict=True) if pair[0] != pair[1]] == [], run


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "name",
    [
        name if name == "sparsemax" else pytest.param(name, marks=pytest.mark.xfail(strict=True, reason=EXPRESSION))
        for name in semantics.FUNCTIONS
    ],
)
def test_torch_tensors_on_cpu_give_the_bits_of_numpy(name: str, dtype: str) -> None:
    if semantics.FORCED:
        pytest.skip("told for the default target")
    torch = pytest.importorskip("torch", exc_type=ImportError)
    for shape in SHAPES:
        a = rows(shape, dtype)
        expected = bits(getattr(softly, name)(a))
        for tensor in (torch.from_numpy(a), torch.from_numpy(np.asfortranarray(a))):
            assert bits(getattr(softly, name)(tensor).numpy()) == expected, shape


@pytest.mark.parametrize("target", semantics.other_targets())
def test_under_every_target(target: str) -> None:
    semantics.run_again(__file__, target)
