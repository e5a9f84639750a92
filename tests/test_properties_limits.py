"""Temperatures near their limits, and sigmoids of any scores."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import semantics
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from properties import Array, bound, dtypes, grids, rows, temperatures

import softly

COLD = st.floats(-300, -1).map(lambda e: 10.0**e)
HOT = st.floats(4, 300).map(lambda e: 10.0**e)
GAP = 0.125  # the least between different scores of a grid


def rounding(name: str, z: Array) -> float:
    return 2 * bound(name) * float(np.finfo(z.dtype).eps)


# ---------------------------------------------------------------- temperatures


@pytest.mark.parametrize("name", ["softmax", "sparsemax", "entmax"])
@given(z=grids(), temperature=COLD)
def test_cold_probabilities(name: str, z: Array, temperature: float) -> None:
    """They approach those of T = 0 as exp(-gap/T); sparse ones are there once the gap is T / (alpha - 1)."""
    limit = getattr(softly, name)(z, temperature=0.0)
    leading = z == z.max()
    np.testing.assert_array_equal(limit, (leading / leading.sum()).astype(z.dtype))
    p = getattr(softly, name)(z, temperature=temperature)
    ratio = GAP / temperature
    away = z.size * np.exp(-ratio) if name == "softmax" else float(ratio < {"sparsemax": 1, "entmax": 2}[name])
    assert np.abs(p.astype(np.float64) - limit).max() <= away + rounding(name, z)


@pytest.mark.parametrize("name", ["softmax", "sparsemax", "entmax"])
@given(z=grids(), temperature=HOT)
def test_hot_probabilities(name: str, z: Array, temperature: float) -> None:
    """They approach 1/n by less than the largest difference over T."""
    limit = getattr(softly, name)(z, temperature=np.inf)
    np.testing.assert_array_equal(limit, np.full_like(z, 1 / z.size))
    p = getattr(softly, name)(z, temperature=temperature).astype(np.float64)
    assert np.abs(p - 1 / z.size).max() <= float(np.ptp(z)) / temperature + rounding(name, z)


@given(z=grids(), temperature=COLD)
def test_cold_logarithms(z: Array, temperature: float) -> None:
    """log p is -log(ties) or goes as -gap/T; logsumexp goes to the sign of the largest score times infinity."""
    gaps, ties = (z - z.max()).astype(np.longdouble), np.count_nonzero(z == z.max())
    limit = np.where(gaps < 0, -np.inf, -np.log(ties)).astype(z.dtype)
    np.testing.assert_allclose(softly.log_softmax(z, temperature=0.0), limit, rtol=rounding("log_softmax", z))
    result = softly.log_softmax(z, temperature=temperature)
    slack = rounding("log_softmax", z) + np.log1p(z.size * np.exp(-GAP / temperature))
    with np.errstate(over="ignore"):
        expected = (gaps / temperature - np.log(ties)).astype(z.dtype)
    np.testing.assert_allclose(result, expected, rtol=slack, atol=slack)
    top = float(z.max())
    assert softly.logsumexp(z, temperature=5e-324) == (np.sign(top) * np.inf if top else z.dtype.type(np.log(ties)))


@given(z=grids(), temperature=HOT)
def test_hot_logarithms(z: Array, temperature: float) -> None:
    n, size = z.size, float(np.abs(z).max()) / temperature
    for name, sign in (("log_softmax", -1), ("logsumexp", 1)):
        function, slack = getattr(softly, name), rounding(name, z) * max(np.log(n), size)
        assert (np.abs(function(z, temperature=np.inf) - sign * np.log(n)) <= slack).all()
        away = np.abs(function(z, temperature=temperature).astype(np.float64) - sign * np.log(n))
        assert (away <= 2 * size + slack).all()


# ---------------------------------------------------------------- sigmoids


@given(z=rows(), temperature=temperatures)
def test_sigmoid_is_softmax_against_0(z: Array, temperature: float) -> None:
    pairs = np.stack([np.zeros_like(z), z], axis=-1)
    for name, row_name in (("sigmoid", "softmax"), ("log_sigmoid", "log_softmax")):
        result = getattr(softly, name)(z, temperature=temperature)
        of_pairs = getattr(softly, row_name)(pairs, temperature=temperature)[:, 1]
        ulps = semantics.error(result, of_pairs.astype(np.longdouble))
        assert (ulps <= bound(name) + bound(row_name)).all(), name


@given(z=rows(), temperature=temperatures)
def test_a_score_and_its_negative(z: Array, temperature: float) -> None:
    """Probabilities sum to one, and the logarithms differ by the score."""
    z = z[np.isfinite(z)]
    p, q = (softly.sigmoid(s, temperature=temperature).astype(np.longdouble) for s in (z, -z))
    assert (np.abs(p + q - 1) <= rounding("sigmoid", z)).all()
    p, q = (softly.log_sigmoid(s, temperature=temperature).astype(np.longdouble) for s in (z, -z))
    scaled = z.astype(np.longdouble) / np.longdouble(temperature)
    assert (np.abs(p - q - scaled) <= rounding("log_sigmoid", z) * np.maximum(np.abs(scaled), np.log(2))).all()


@given(z=rows(), temperature=temperatures)
def test_sigmoids_grow_with_the_score(z: Array, temperature: float) -> None:
    z = np.sort(z)
    for name in semantics.ELEMENTWISE:
        result = getattr(softly, name)(z, temperature=temperature)
        falls = result[1:] < result[:-1]
        ulps = semantics.error(result[1:][falls], result[:-1][falls].astype(np.longdouble))
        assert (ulps <= 2 * bound(name)).all(), name
        equal = z[1:] == z[:-1]
        assert (result[1:][equal] == result[:-1][equal]).all(), name


@given(z=rows(), temperature=COLD | HOT)
def test_sigmoids_near_the_limits(z: Array, temperature: float) -> None:
    step = np.where(z > 0, 1, np.where(z < 0, 0, 0.5)).astype(z.dtype)
    np.testing.assert_array_equal(softly.sigmoid(z, temperature=0.0), step)
    flat = np.where(z > -np.inf, 0.5, 0).astype(z.dtype)
    np.testing.assert_array_equal(softly.sigmoid(z, temperature=np.inf), flat)
    scaled = np.abs(z.astype(np.longdouble)) / np.longdouble(temperature)
    p = softly.sigmoid(z, temperature=temperature).astype(np.longdouble)
    assert (np.abs(p - step) <= np.exp(-scaled) + rounding("sigmoid", z)).all()
    finite = np.isfinite(z)
    assert (np.abs(p[finite] - 0.5) <= scaled[finite] + rounding("sigmoid", z)).all()


@pytest.mark.parametrize("name", semantics.ELEMENTWISE)
@given(
    z=arrays(
        dtypes, array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4), elements=st.floats(-99, 99, width=32)
    ),
    data=st.data(),
)
def test_sigmoids_of_any_shape(name: str, z: Array, data: st.DataObject) -> None:
    """As many calls on single scores, to the bit, with masks and temperatures that broadcast."""
    function = getattr(softly, name)
    kept = tuple(n if data.draw(st.booleans()) else 1 for n in z.shape)
    where = data.draw(arrays(bool, kept))
    temperature = data.draw(arrays(np.float64, kept, elements=st.sampled_from([0.0, 0.3, 1.0, 2.5, np.inf])))
    hidden = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    masks, ts = np.broadcast_to(where, z.shape), np.broadcast_to(temperature, z.shape)
    expected = np.empty_like(z)
    for i in np.ndindex(z.shape):
        expected[i] = function(z[i] if masks[i] else z.dtype.type(-np.inf), temperature=float(ts[i]))
    for scores in (z, np.where(masks, z, z.dtype.type(hidden))):
        result = function(scores, temperature=temperature, where=where)
        np.testing.assert_array_equal(np.asarray(result), expected, strict=True)


@pytest.mark.parametrize("target", semantics.other_targets())
def test_under_every_target(target: str) -> None:
    semantics.run_again(__file__, target)
