"""What holds for any scores: probabilities sum to one, keep the order, ignore shifts, and follow permutations."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import semantics
from hypothesis import HealthCheck, assume, given, settings
from hypothesis.extra.numpy import array_shapes, arrays

import softly

EXAMPLES = 20 if semantics.FORCED else 80
settings.register_profile(
    "softly", max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
settings.load_profile("softly")

LIMIT = 2.0  # ULPs of one call; two calls on the same truth differ by twice that
MAPS = ("softmax", "sparsemax")
Array = np.ndarray[Any, Any]

dtypes = st.sampled_from([np.float32, np.float64])
temperatures = st.one_of(st.just(1.0), st.floats(0.05, 20.0))


@st.composite
def rows(draw: st.DrawFn, impossible: bool = True, largest: float = 1e4) -> Array:
    """One row of 1 to 40 scores, with ties and, if asked for, impossible entries; something is possible."""
    dtype = draw(dtypes)
    width = 8 * np.dtype(dtype).itemsize
    scores = st.floats(-largest, largest, width=32) | st.floats(-3, 3, width=width) | st.sampled_from([0.0, 1.0, 7.5])
    z = draw(arrays(dtype, st.integers(1, 40), elements=scores))
    if impossible:
        z[draw(arrays(bool, z.shape))] = -np.inf
        assume(np.isfinite(z).any())
    return z


@st.composite
def grids(draw: st.DrawFn) -> Array:
    """Rows of multiples of 1/8 up to 1000: shifts by whole numbers are exact."""
    z = draw(arrays(np.int64, st.integers(1, 40), elements=st.integers(-8000, 8000)))
    return (z / 8).astype(draw(dtypes))


def close(name: str, a: Any, b: Any, z: Array, temperature: float = 1.0, calls: int = 2) -> None:
    """a equals b within the errors of so many calls: ULPs of each entry, of 1 for sparsemax, of the score for lse."""
    scale = 0.0
    if name == "sparsemax":
        scale = 0.75  # in the binade below 1, where 2 ULPs of 1 are 4
    elif name == "logsumexp":
        scale = float(np.max(np.abs(z[np.isfinite(z)]))) / temperature
    a, b = np.asarray(a), np.asarray(b)
    ulps = semantics.error(a, b.astype(np.longdouble), scale=scale)
    assert (ulps <= calls * LIMIT * (2 if name == "sparsemax" else 1)).all(), f"{ulps.max():.3g} ULP: {a}, {b}"


@given(z=rows(), temperature=temperatures)
def test_probabilities_sum_to_one(z: Array, temperature: float) -> None:
    eps, least = float(np.finfo(z.dtype).eps), float(np.finfo(z.dtype).smallest_subnormal)
    p = softly.softmax(z, temperature=temperature)
    assert ((p >= 0) & (p <= 1)).all()
    assert abs(math.fsum(p.tolist()) - 1) <= LIMIT * (eps + z.size * least)
    p = softly.sparsemax(z, temperature=temperature)
    assert ((p >= 0) & (p <= 1)).all()
    assert abs(math.fsum(p.tolist()) - 1) <= LIMIT * eps * max(1, np.count_nonzero(p))


@pytest.mark.parametrize("name", semantics.FUNCTIONS[:2] + semantics.FUNCTIONS[3:])
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
        assert semantics.error(moved, expected, scale=max(float(scale), abs(float(result)))) <= 2 * LIMIT
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
@given(z=rows(), data=st.data(), temperature=temperatures, empty=st.sampled_from(["zero", "nan", "uniform"]))
def test_where_is_minus_infinity(name: str, z: Array, data: st.DataObject, temperature: float, empty: str) -> None:
    """To the bit; what the mask hides may be anything."""
    where = data.draw(arrays(bool, z.shape))
    hidden = data.draw(arrays(z.dtype, z.shape, elements=st.sampled_from([np.nan, np.inf, -np.inf, 3e38, 0.0])))
    function = getattr(softly, name)
    expected = function(np.where(where, z, z.dtype.type(-np.inf)), temperature=temperature, empty=empty)
    for scores in (z, np.where(where, z, hidden)):
        result = function(scores, temperature=temperature, empty=empty, where=where)
        np.testing.assert_array_equal(result, expected, strict=True)


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
    eps = float(np.finfo(z.dtype).eps)
    assert (np.isneginf(logs) == np.isneginf(z)).all()
    normal = p > float(np.finfo(z.dtype).smallest_normal)
    np.testing.assert_allclose(np.log(p[normal]), logs[normal], rtol=4 * eps, atol=4 * eps)
    finite = np.isfinite(z)
    scaled = z[finite].astype(np.longdouble) / np.longdouble(temperature)
    size = max(float(np.abs(scaled).max()), abs(float(potential)), 1e-300)
    np.testing.assert_allclose(scaled - potential, logs[finite], rtol=4 * eps, atol=4 * eps * size)


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


@given(z=rows(impossible=False), temperature=temperatures)
def test_sparsemax_is_the_projection(z: Array, temperature: float) -> None:
    """On the support probabilities are scores/T less one threshold; off it no score is above the threshold."""
    p = softly.sparsemax(z, temperature=temperature).astype(np.longdouble)
    shifted = (z.astype(np.longdouble) - z.max()) / np.longdouble(temperature)
    slack = 4 * float(np.finfo(z.dtype).eps)
    thresholds = (shifted - p)[p > 0]
    assert thresholds.max() - thresholds.min() <= slack
    assert (shifted[p == 0] <= thresholds.max() + slack).all()


@pytest.mark.parametrize("target", semantics.other_targets())
def test_under_every_target(target: str) -> None:
    semantics.run_again(__file__, target)
