"""The same bits whatever the memory looks like, however the rows are batched, on every instruction set with FMA."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import semantics
from layouts import DTYPES, FMA, bits, fingerprints_elsewhere, from_torch, layouts, rows, to_torch

import softly

MAPS = {name: getattr(softly, name) for name in semantics.FUNCTIONS} | {
    "entmax at 1.3": functools.partial(softly.entmax, alpha=1.3),
    "entmax at 3": functools.partial(softly.entmax, alpha=3.0),
}
SIGMOIDS = {name: getattr(softly, name) for name in semantics.ELEMENTWISE}
LENGTHS = (1, 2, 3, 7, 10, 15, 16, 17, 31, 33, 64, 100, 128, 129, 257, 1000)
SHAPES = [(37, n) for n in (LENGTHS[::3] if semantics.FORCED else LENGTHS)]
SHARED = [(1200, 1000), (50021, 10), (1, 200003)]  # enough work for several threads
LARGE = [(3, 4099), (3000, 1000), (100003, 10), (2, 300007)]
SHORT = [(200003, n) for n in (1, 2, 3, 4)]  # several threads' pieces, which end where a batch of rows does


# ---------------------------------------------------------------- layouts


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", MAPS.values(), ids=MAPS)
class TestLayouts:
    def test_strides_alignment_and_byte_order(self, function: Any, dtype: str) -> None:
        for shape in SHAPES:
            a = rows(shape, dtype)
            expected = bits(function(a))
            for name, view in layouts(a):
                assert bits(function(view)) == expected, (name, shape)

    def test_nothing_is_written_beyond_the_result(self, function: Any, dtype: str) -> None:
        """Into the middle of memory whose every other entry stays."""
        for shape in [(rows_, n) for rows_ in (1, 5, 37) for n in LENGTHS]:
            a = rows(shape, dtype)
            expected = function(a)
            memory = np.full(expected.size + 128, 7, a.dtype)
            function(a, out=memory[64:-64].reshape(expected.shape))
            assert bits(memory[64:-64]) == bits(expected), shape
            assert (memory[:64] == 7).all(), shape
            assert (memory[-64:] == 7).all(), shape

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
            backwards = a[::-1].copy()[::-1]
            assert bits(function(backwards, where=where, temperature=np.repeat(temperature, 2)[::2])) == expected
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
@pytest.mark.parametrize("function", MAPS.values(), ids=MAPS)
def test_large_calls_give_the_bits_of_small_ones(function: Any, dtype: str) -> None:
    """Work that threads share, against the same rows a few at a time and against the transposed array."""
    for shape in LARGE:
        a = rows(shape, dtype)
        whole, step = np.asarray(function(a)), max(1, shape[0] // 50)
        for i in range(0, shape[0], 7 * step):
            assert bits(function(a[i : i + step])) == bits(whole[i : i + step]), (shape, i)
        if shape[1] <= 4099:
            assert bits(np.asarray(function(np.ascontiguousarray(a.T), axis=0)).T) == bits(whole), shape


# ---------------------------------------------------------------- one score at a time


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", MAPS.values(), ids=MAPS)
def test_a_piece_does_not_write_into_the_next(function: Any, dtype: str) -> None:
    """As many calls too small to be shared, laid end to end."""
    for shape in SHORT:
        a = rows(shape, dtype)
        parts = [function(a[i : i + 1000]) for i in range(0, len(a), 1000)]
        assert bits(function(a)) == bits(np.concatenate(parts)), shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", SIGMOIDS.values(), ids=SIGMOIDS)
class TestSigmoids:
    def test_strides_alignment_and_byte_order(self, function: Any, dtype: str) -> None:
        for shape in SHAPES:
            a = rows(shape, dtype)
            expected = bits(function(a))
            for name, view in layouts(a):
                assert bits(function(view)) == expected, (name, shape)
            assert bits(function(a.ravel())) == expected
            assert bits(function(np.broadcast_to(a[:, :1], shape))) == bits(function(a[:, :1].repeat(shape[1], axis=1)))

    def test_alone(self, function: Any, dtype: str) -> None:
        a = rows((37, 17), dtype)
        assert b"".join(bits(function(score)) for score in a.ravel()) == bits(function(a))

    def test_masks_and_temperatures(self, function: Any, dtype: str) -> None:
        for n in (3, 16, 33, 200):
            a = rows((37, n), dtype)
            rng = np.random.default_rng(n)
            where, temperature = rng.random(a.shape) < 0.7, rng.uniform(0.1, 5, size=a.shape)
            expected = bits(function(a, where=where, temperature=temperature))
            one_a_row = function(a, temperature=temperature[:, :1])
            repeated = np.repeat(temperature, 2, axis=1)[:, ::2].astype(temperature.dtype.newbyteorder())
            assert bits(function(a, where=np.asfortranarray(where), temperature=repeated)) == expected
            assert bits(np.asarray(function(a.T, where=where.T, temperature=temperature.T)).T) == expected
            assert bits(function(np.where(where, a, np.array(-np.inf, a.dtype)), temperature=temperature)) == expected
            for i in (0, 17, 36):
                assert bits(function(a[i], temperature=float(temperature[i, 0]))) == bits(one_a_row[i])

    def test_into_out(self, function: Any, dtype: str) -> None:
        a = rows((37, 10), dtype)
        expected = function(a)
        for name, out in layouts(np.zeros_like(expected)):
            if out.flags.writeable and out.dtype.isnative:
                assert function(a, out=out) is out
                assert bits(out) == bits(expected), name


# ---------------------------------------------------------------- targets, threads, callers


def fingerprints() -> Iterator[str]:
    """One line for each function, dtype and shape: a hash of the bits of its results."""
    for dtype in ("float32", "float64", "float16", "bfloat16"):
        for shape in (*((37, n) for n in LENGTHS), (3, 4099), *(SHARED if dtype in ("float32", "float64") else ())):
            a = rows(shape, dtype)
            temperature = np.random.default_rng(1).uniform(0.1, 5, size=shape[0])
            for name, function in MAPS.items():
                found = hashlib.sha256()
                for result in (function(a), function(a, temperature=0.7), function(a, temperature=temperature)):
                    found.update(bits(result))
                found.update(bits(function(a, axis=0)))
                yield f"{name} {dtype} {shape} {found.hexdigest()[:16]}"
            for name, function in SIGMOIDS.items():
                results = function(a), function(a, temperature=0.7), function(a, temperature=temperature[:, None])
                found = hashlib.sha256(b"".join(map(bits, results)))
                yield f"{name} {dtype} {shape} {found.hexdigest()[:16]}"


def test_same_bits_on_every_target_with_fma_and_any_threads() -> None:
    if not FMA or semantics.FORCED:
        pytest.skip("no target with FMA here, or one was forced")
    printed = fingerprints_elsewhere("test_layouts")
    reference = next(iter(printed.values()))
    assert len(reference) > 4 * len(LENGTHS) * (len(MAPS) + len(SIGMOIDS))
    for run, lines in printed.items():
        assert [pair for pair in zip(lines, reference, strict=True) if pair[0] != pair[1]] == [], run


@pytest.mark.skipif(semantics.FORCED, reason="told for the default target")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*MAPS, *SIGMOIDS])
def test_torch_tensors_on_cpu_give_the_bits_of_numpy(name: str, dtype: str) -> None:
    torch = pytest.importorskip("torch", exc_type=ImportError)
    function = (MAPS | SIGMOIDS)[name]
    for shape in SHAPES:
        a = rows(shape, dtype)
        rng = np.random.default_rng(1)
        where, temperature = rng.random(shape) < 0.7, rng.uniform(0.1, 5, size=shape[0] if name in MAPS else shape)
        expected = bits(function(a, temperature=temperature, where=where))
        tensor = to_torch(torch, a)
        for given in (tensor, tensor.T.contiguous().T, tensor.repeat_interleave(2, dim=1)[:, ::2]):
            assert bits(from_torch(torch, function(given))) == bits(function(a)), shape
            options = {"temperature": torch.from_numpy(temperature), "where": torch.from_numpy(where)}
            assert bits(from_torch(torch, function(given, **options))) == expected, shape


@pytest.mark.parametrize("target", semantics.other_targets())
def test_under_every_target(target: str) -> None:
    semantics.run_again(__file__, target)
