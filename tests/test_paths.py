"""Each way through the compiled core is taken where it should be, and gives what the general way gives, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

import softly
from softly import _kernels

pytestmark = pytest.mark.skipif(_kernels.core is None, reason="no compiled core")

MAPS = ("softmax", "log_softmax", "logsumexp", "sparsemax", "entmax")
HALF_MAPS = ("softmax", "log_softmax", "logsumexp", "sigmoid", "log_sigmoid")


def same(a, b):
    """The same dtype, shape and bits, whatever bits NaN has."""
    a, b = np.asarray(a), np.asarray(b)
    bits = f"u{a.dtype.itemsize}"
    equal = a.view(bits) == b.view(bits)
    both_nan = np.isnan(a.astype(np.float64)) & np.isnan(b.astype(np.float64))
    return a.dtype == b.dtype and a.shape == b.shape and bool(np.all(equal | both_nan))


def test_same_tells_zeros_apart_and_nan_together():
    assert same(np.array([np.nan, 1.0]), np.array([-np.nan, 1.0]))
    assert not same(np.array([0.0]), np.array([-0.0]))
    assert not same(np.float32([1.0]), np.float64([1.0]))


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_axis_gives_the_bits_of_the_last(name, dtype, monkeypatch):
    rng = np.random.default_rng(0)
    function, operation = getattr(softly, name), "entmax" if name == "sparsemax" else name
    key, axes = (operation, "cpu", np.dtype(dtype)), []
    kernel = _kernels.TABLE[key]
    for named in (key, ("sparsemax", "cpu", np.dtype(dtype))):
        monkeypatch.setitem(_kernels.TABLE, named, lambda *a: axes.append(a[-1]) or kernel(*a))
    sizes = [1, 2, 3, 7, 8, 9, 16, 17, 24, 33, 70]
    for trial in range(60):
        shape = tuple(int(n) for n in rng.choice(sizes, rng.integers(2, 5)))
        if trial % 20 == 0:
            shape = (int(rng.integers(1, 20)), 700, int(rng.integers(2, 300)))
        axis = int(rng.integers(0, len(shape) - 1))
        z = (rng.normal(size=shape) * rng.choice([1, 30, 1e4])).astype(dtype)
        z[rng.random(shape) < rng.choice([0, 0.3])] = -np.inf
        z.flat[rng.integers(z.size)] = rng.choice([0, np.nan, np.inf])
        kept = shape[:axis] + shape[axis + 1 :]
        temperature = (1.0, 0.7, rng.uniform(0.1, 3, kept))[trial % 3]
        where = rng.random(shape) < 0.7 if trial % 4 == 0 else None
        last = np.ascontiguousarray(np.moveaxis(z, axis, -1))
        mask = None if where is None else np.moveaxis(where, axis, -1)
        expected = function(last, temperature=temperature, where=mask)
        expected = expected if name == "logsumexp" else np.moveaxis(expected, -1, axis)
        axes.clear()
        assert same(function(z, axis, temperature=temperature, where=where), np.ascontiguousarray(expected))
        if min(n for i, n in enumerate(shape) if i >= axis) > 1:
            assert axes == [axis]
        if name != "logsumexp":
            out = z.copy()
            assert function(out, axis, temperature=temperature, where=where, out=out) is out
            assert same(out, np.ascontiguousarray(expected))


def half_dtypes():
    found = [np.dtype(np.float16)]
    try:
        import ml_dtypes
    except ImportError:
        return found
    return [*found, np.dtype(ml_dtypes.bfloat16)]


@pytest.mark.parametrize("dtype", half_dtypes(), ids=str)
@pytest.mark.parametrize("name", HALF_MAPS)
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_half_precisions_are_widened_in_the_core_as_numpy_does(name, dtype, temperature, monkeypatch):
    every = np.arange(2**16, dtype=np.uint16).view(dtype)
    moderate = (np.random.default_rng(0).normal(size=2**16) * 5).astype(dtype)
    function, direct = getattr(softly, name), _kernels.DIRECT[name]
    for scores in (every, np.random.default_rng(1).permutation(every), moderate):
        for shape in ((2**15, 2), (2**12, 16), (5041, 13), (3, 21845), (1, 2**16)):
            z = scores[: np.prod(shape)].reshape(shape)
            taken = direct(z, temperature, None, 1.0)
            assert taken is not None
            with monkeypatch.context() as patch:
                patch.setitem(_kernels.DIRECT, name, lambda *_: None)
                assert same(function(z, temperature=temperature), taken)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_long_rows_give_the_same_bits_wherever_they_begin_in_a_line(name, dtype):
    """Their maximum and their last pass begin with the entries before a line's end."""
    rng = np.random.default_rng(0)
    function = getattr(softly, name)
    for n in (512, 513, 530, 1000, 16391):
        z = rng.normal(size=(3, n)).astype(dtype)
        z[1, :5] = 9, -np.inf, 40, 41, -40  # the largest among the first entries
        expected = function(z)
        scores, out = np.empty(z.size + 32, dtype), np.empty(expected.size + 32, dtype)
        for begin, to in [(i, (7 * i) % 16) for i in range(17)]:
            moved = scores[begin : begin + z.size].reshape(z.shape)
            moved[:] = z
            into = out[to : to + expected.size].reshape(expected.shape)
            assert same(function(moved, out=into), expected)
