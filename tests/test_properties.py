"""What holds for any scores: probabilities sum to one, keep the order, ignore shifts, and follow permutations."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import semantics
from hypothesis import assume, given
from hypothesis.extra.numpy import array_shapes, arrays
from properties import Array, bound, close, dtypes, grids, rows, temperatures

import softly

MAPS = ("softmax", "sparsemax", "entmax")  # whose results are probabilities


@pytest.mark.parametrize("name", MAPS)
@given(z=rows(), temperature=temperatures)
def test_probabilities_sum_to_one(name: str, z: Array, temperature: float) -> None:
    eps, least = float(np.finfo(z.dtype).eps), float(np.finfo(z.dtype).smallest_subnormal)
    p = getattr(softly, name)(z, temperature=temperature)
    assert ((p >= 0) & (p <= 1)).all()
    size = 1 if name == "softmax" else np.count_nonzero(p)  # errors are in ULPs of p, or of 1
    assert abs(math.fsum(p.tolist()) - 1) <= bound(name) * (size * eps + z.size * least)


@pytest.mark.parametrize("name", [name for name in semantics.FUNCTIONS if name != "logsumexp"])
@given(z=rows(), temperature=temperatures)
def test_order_is_kept_and_ties_are_equal(name: str, z: Array, temperature: float) -> None:
    """Equal scores get equal bits; a higher score never gets less, but for rounding."""
    p = getattr(softly, name)(z, temperature=temperature)
    order = np.argsort(z, kind="stable")
    ordered, scores = p[order], z[order]
    equal = scores[1:] == scores[:-1]
    assert (ordered[1:][equal] == ordered[:-1][equal]).all()
    falls = ordered[1:] < ordered[:-1]
    close(name, ordered[1:][falls], ordered[:-1][falls], z)
    assert p[z.argmax()] == p.max()


@pytest.mark.parametrize("name", semantics.FUNCTIONS)
@given(z=grids(), shift=st.integers(-1000, 1000), temperature=temperatures)
def test_exact_shifts_change_nothing(name: str, z: Array, shift: int, temperature: float) -> None:
    function, shifted = getattr(softly, name), z + z.dtype.type(shift)
    result, moved = function(z, temperature=temperature), function(shifted, temperature=temperature)
    if name == "logsumexp":
        expected = np.longdouble(result) + np.longdouble(shift) / np.longdouble(temperature)
        scale = max(np.abs(z).max(), np.abs(shifted).max(), 1) / temperature
        assert semantics.error(moved, expected, scale=max(float(scale), abs(float(result)))) <= 2 * bound(name)
    else:
        close(name, moved, result, z)


@pytest.mark.parametrize("name", semantics.FUNCTIONS)
@given(z=rows(), temperature=temperatures, seed=st.integers(0, 2**32 - 1))
def test_permutations_are_followed(name: str, z: Array, temperature: float, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(z.size)
    result = getattr(softly, name)(z, temperature=temperature)
    permuted = getattr(softly, name)(z[order], temperature=temperature)
    close(name, permuted, result if name == "logsumexp" else result[order], z, temperature)


@pytest.mark.parametrize("name", semantics.FUNCTIONS)
@given(z=rows(), temperature=temperatures, exponent=st.integers(-20, 20))
def test_scores_and_temperature_scale_together(name: str, z: Array, temperature: float, exponent: int) -> None:
    """Powers of two are exact, so that the quotient is the same number."""
    function, factor = getattr(softly, name), z.dtype.type(2.0**exponent)
    assume((np.abs(z[z != 0]) > 1e-30).all())
    result = function(z, temperature=temperature)
    scaled = function(z * factor, temperature=temperature * 2.0**exponent)
    close(name, scaled, result, z, temperature)


@given(z=rows(), temperature=temperatures)
def test_logarithms_agree(z: Array, temperature: float) -> None:
    """log_softmax is log(softmax) and scores/T - logsumexp, in the precision of the longer route."""
    p = softly.softmax(z, temperature=temperature).astype(np.float64)
    logs = softly.log_softmax(z, temperature=temperature)
    potential = softly.logsumexp(z, temperature=temperature)
    error = 2 * bound("logsumexp") * float(np.finfo(z.dtype).eps)
    assert (np.isneginf(logs) == np.isneginf(z)).all()
    normal = p > float(np.finfo(z.dtype).smallest_normal)
    np.testing.assert_allclose(np.log(p[normal]), logs[normal], rtol=error, atol=error)
    finite = np.isfinite(z)
    scaled = z[finite].astype(np.longdouble) / np.longdouble(temperature)
    size = max(float(np.abs(scaled).max()), abs(float(potential)), 1e-300)
    np.testing.assert_allclose(scaled - potential, logs[finite], rtol=error, atol=error * size)


# ---------------------------------------------------------------- masks


@pytest.mark.parametrize("name", semantics.FUNCTIONS)
@given(z=rows(), data=st.data(), temperature=temperatures, empty=st.sampled_from(["zero", "nan", "uniform"]))
def test_where_is_minus_infinity(name: str, z: Array, data: st.DataObject, temperature: float, empty: str) -> None:
    """To the bit; what the mask hides may be anything, and a mask over it again changes nothing."""
    where = data.draw(arrays(bool, z.shape))
    hidden = data.draw(arrays(z.dtype, z.shape, elements=st.sampled_from([np.nan, np.inf, -np.inf, 3e38, 0.0])))
    function, masked = getattr(softly, name), np.where(where, z, z.dtype.type(-np.inf))
    expected = function(masked, temperature=temperature, empty=empty)
    for scores in (z, np.where(where, z, hidden), masked):
        result = function(scores, temperature=temperature, empty=empty, where=where)
        np.testing.assert_array_equal(result, expected, strict=True)
    result = function(masked, temperature=temperature, empty=empty, where=masked > -np.inf)
    np.testing.assert_array_equal(result, expected, strict=True)


@pytest.mark.parametrize("name", semantics.FUNCTIONS)
@given(z=rows(impossible=False), temperature=temperatures, more=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_impossible_entries_change_nothing(name: str, z: Array, temperature: float, more: int, seed: int) -> None:
    place = np.sort(np.random.default_rng(seed).permutation(z.size + more)[: z.size])
    longer = np.full(z.size + more, -np.inf, z.dtype)
    longer[place] = z
    result, among = (getattr(softly, name)(scores, temperature=temperature) for scores in (z, longer))
    close(name, among if name == "logsumexp" else among[place], result, z, temperature)
    if name != "logsumexp":
        rest = np.delete(among, place)
        assert (rest == (-np.inf if name == "log_softmax" else 0)).all()


# ---------------------------------------------------------------- shapes


@pytest.mark.parametrize("name", semantics.FUNCTIONS)
@given(z=arrays(dtypes, array_shapes(min_dims=2, max_dims=3, max_side=6), elements=st.floats(-50, 50, width=32)))
def test_rows_are_independent(name: str, z: Array) -> None:
    """One spoilt row leaves every other to the bit."""
    function, flat = getattr(softly, name), z.reshape(-1, z.shape[-1])
    before = np.asarray(function(z)).reshape(len(flat), -1)
    spoilt = flat.copy()
    spoilt[0, 0] = np.nan
    after = np.asarray(function(spoilt.reshape(z.shape))).reshape(len(flat), -1)
    assert np.isnan(after[0]).all()
    assert after[1:].tobytes() == before[1:].tobytes()


@pytest.mark.parametrize("name", semantics.FUNCTIONS)
@given(
    z=arrays(dtypes, array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4), elements=st.floats(-9, 9, width=32)),
    data=st.data(),
)
def test_any_shape_and_axes(name: str, z: Array, data: st.DataObject) -> None:
    """As many calls on single rows, to the bit; arrays without entries and single numbers included.

    Over no axis every entry is its own row.
    """
    chosen = data.draw(st.integers(0, 2**z.ndim - 1))
    axes, kept = ([i for i in range(z.ndim) if (chosen >> i & 1) == wanted] for wanted in (1, 0))
    axis: Any = tuple(i - z.ndim * data.draw(st.booleans()) for i in axes)
    if len(axes) == z.ndim and data.draw(st.booleans()):
        axis = None
    elif len(axes) == 1 and data.draw(st.booleans()):
        (axis,) = axis
    result = np.asarray(getattr(softly, name)(z, axis))
    moved = z.transpose(kept + axes).reshape([z.shape[i] for i in kept] + [-1] if z.size else [0, 1])
    assert result.dtype == z.dtype
    if name == "logsumexp":
        assert result.shape == tuple(z.shape[i] for i in kept)
        expected = np.full(result.shape, -np.inf)
    else:
        assert result.shape == z.shape
        result = result.transpose(kept + axes).reshape(moved.shape)
        expected = np.zeros(moved.shape)
    for i in np.ndindex(moved.shape[:-1]):
        expected[i] = getattr(softly, name)(np.ascontiguousarray(moved[i]))
    np.testing.assert_array_equal(result, expected.astype(z.dtype))


@pytest.mark.parametrize("target", semantics.other_targets())
def test_under_every_target(target: str) -> None:
    semantics.run_again(__file__, target)
