"""How far the softmax stretches, beside the eigenvalues of NumPy; and what no probabilities tell of scores."""

from __future__ import annotations

import itertools
import math

import hypothesis.strategies as st
import numpy as np
import properties  # noqa: F401  its hypothesis profile
import pytest
from derivatives import cross_entropy
from hypothesis import given

import softly

rows = st.lists(st.floats(-30, 30), min_size=2, max_size=12)
temperatures = st.floats(0.05, 20.0)


@given(z=rows, temperature=temperatures)
def test_bounds_of_the_largest_eigenvalue_fact_1(z, temperature):
    jacobian = softly.jacobian(z, temperature=temperature)
    largest = float(np.linalg.eigvalsh(jacobian)[-1])
    lower, upper = softly.spectrum_bounds(z, temperature=temperature)
    found = softly.sensitivity(z, temperature=temperature)
    assert lower <= found.local * (1 + 1e-14)
    assert found.local <= upper * (1 + 1e-14)
    assert upper <= 2 * lower * (1 + 1e-14)
    assert found.local == pytest.approx(largest, rel=1e-9, abs=1e-14 / temperature)
    assert found.local <= found.bound * (1 + 1e-14)
    assert found.bound == 1 / (2 * temperature)
    assert found.share == pytest.approx(found.local / found.bound)


def best_split(p):
    return max(4 * a * (1 - a) for r in range(len(p) + 1) for a in map(sum, itertools.combinations(p, r)))


@given(z=st.lists(st.floats(-3, 3), min_size=2, max_size=8), temperature=temperatures)
def test_other_norms_of_the_jacobian(z, temperature):
    jacobian = softly.jacobian(z, temperature=temperature)
    p = softly.softmax(z, temperature=temperature)
    for norm in (1, np.inf):
        found = softly.sensitivity(z, temperature=temperature, norm=norm)
        assert found.local == pytest.approx(np.linalg.norm(jacobian, norm), rel=1e-12)
        assert found.local <= found.bound * (1 + 1e-14) == 0.5 / temperature * (1 + 1e-14)
    found, truth = softly.sensitivity(z, temperature=temperature, norm="inf->1"), best_split(p.tolist()) / temperature
    assert (1 - p.max() ** 2) * truth * (1 - 1e-12) <= found.local <= truth * (1 + 1e-12)
    if p.max() >= 0.5:
        assert found.local == pytest.approx(truth, rel=1e-12)
    assert found.bound == 1 / temperature


def test_the_largest_eigenvalue_where_probabilities_tie():
    for z in ([0.0, 0.0], [0.0] * 7, [1.0, 1.0, 0.0], [2.0, 0.0, 0.0, 0.0], [0.0, -1e-16, -3.0], [5.0], [0.0, -np.inf]):
        largest = np.linalg.eigvalsh(softly.jacobian(z))[-1]
        assert softly.sensitivity(z).local == pytest.approx(max(largest, 0), rel=1e-14, abs=1e-300)


ORDERS = (1.0, 1.5, 2.0, 3.0, np.inf)


@given(a=rows, seed=st.integers(0, 2**32 - 1), size=st.floats(1e-3, 30), temperature=temperatures)
def test_no_two_scores_are_parted_by_more_than_the_constant_fact_1(a, seed, size, temperature):
    """|p(a) - p(b)| <= |a - b| / (2T) in every p-norm, and <= 1/T from the largest to the sum."""
    b = np.array(a) + size * np.random.default_rng(seed).normal(size=len(a))
    apart = softly.softmax(a, temperature=temperature) - softly.softmax(b, temperature=temperature)
    for order in ORDERS:
        bound = softly.lipschitz(temperature, order).constant * np.linalg.norm(b - a, order)
        assert np.linalg.norm(apart, order) <= bound * (1 + 1e-12) + 1e-15
    bound = softly.lipschitz(temperature, "inf->1").constant * np.abs(b - a).max()
    assert np.abs(apart).sum() <= bound * (1 + 1e-12) + 1e-15


@pytest.mark.parametrize("norm", [*ORDERS, "inf->1"])
@pytest.mark.parametrize("temperature", [0.01, 1.0, 50.0])
def test_the_constant_is_reached_at_a_two_way_tie_fact_1(norm, temperature):
    """Within 1 %: no smaller constant would do. 1/T, as often quoted, is twice too large for 2-norms."""
    told = softly.lipschitz(temperature, norm)
    step = 0.1 * temperature * np.array(told.direction)
    a, b = told.scores + step, told.scores - step
    apart = softly.softmax(a, temperature=temperature) - softly.softmax(b, temperature=temperature)
    before, after = (np.inf, 1) if norm == "inf->1" else (norm, norm)
    ratio = np.linalg.norm(apart, after) / np.linalg.norm(a - b, before)
    assert 0.99 * told.constant <= ratio <= told.constant
    assert told.constant == (1 if norm == "inf->1" else 0.5) / temperature


def test_as_the_temperature_falls_the_jacobian_diverges_at_ties_and_vanishes_elsewhere():
    ladder = [1.0, 0.1, 0.01, 0.001]
    tied, apart = [1.0, 1.0, 0.0], [1.0, 0.9, 0.0]
    at_tie = [float(softly.sensitivity(tied, temperature=t).local) for t in ladder]
    away = [float(softly.sensitivity(apart, temperature=t).local) for t in ladder]
    assert at_tie[1:] == pytest.approx([1 / (2 * t) for t in ladder[1:]], rel=1e-3)
    assert away[3] < 1e-30 < 1 < away[1]
    assert softly.sensitivity(tied, temperature=0.0).local == np.inf
    assert softly.sensitivity(apart, temperature=0.0).local == 0
    assert softly.lipschitz(0).constant == np.inf
    assert softly.lipschitz(math.inf).constant == 0
    np.testing.assert_array_equal(softly.lipschitz(np.array([0.5, 2.0])).constant, [1, 0.25])


def test_the_hessian_vanishes_when_sure_whatever_the_label_fact_15():
    """Sure and right the gradient does too; sure and wrong it is largest, of norm sqrt 2. Zero only in the limit."""
    size = [float(softly.sensitivity([gap, 0.0, 0.0]).local) for gap in (0.0, 5.0, 20.0, 100.0)]
    assert size == sorted(size, reverse=True)
    assert 0 < size[-1] < 1e-40
    p = softly.softmax([20.0, 0.0, 0.0])
    assert np.linalg.norm(p - [1, 0, 0]) < 1e-8
    assert np.linalg.norm(p - [0, 1, 0]) == pytest.approx(np.sqrt(2), rel=1e-8)


# ---------------------------------------------------------------- what it does not see


@given(z=rows, temperature=temperatures)
def test_centred_scores_give_the_same_probabilities(z, temperature):
    centred = softly.center(z)
    assert abs(math.fsum(centred.tolist())) <= 1e-14 * max(1, np.abs(centred).max()) * len(z)
    np.testing.assert_allclose(
        softly.softmax(centred, temperature=temperature), softly.softmax(z, temperature=temperature), rtol=1e-11
    )
    far = softly.center(np.array(z) + 1e8)
    np.testing.assert_allclose(far, centred, atol=1e-7)
    assert abs(math.fsum(far.tolist())) <= 1e-14 * 30 * len(z)


def test_center_at_the_edges():
    np.testing.assert_array_equal(softly.center([1e308, -1e308]), [1e308, -1e308])
    np.testing.assert_array_equal(softly.center([3.0, -np.inf, 1.0]), [1, -np.inf, -1])
    np.testing.assert_array_equal(softly.center([[3.0, 1.0]], 0), [[0, 0]])
    np.testing.assert_array_equal(softly.center([3.0, np.nan, 1.0], where=[True, False, True]), [1, -np.inf, -1])
    np.testing.assert_array_equal(softly.null_direction([[1.0, -np.inf], [0.0, 2.0]]), [[1, 0], [1, 1]])


def test_interior_targets_have_a_line_of_optima():
    targets = np.array([0.5, 0.3, 0.2])
    told = softly.identifiable(targets)
    assert told.status == "line"
    assert told.unreachable == ()
    best = cross_entropy(told.optimum, targets, 1)
    for c in (-7.0, 3.0):
        assert float(cross_entropy(told.optimum + c * told.direction, targets, 1) - best) == pytest.approx(0, abs=1e-13)
    for i in range(3):  # and nothing else is as good
        assert cross_entropy(told.optimum + 0.1 * np.eye(3)[i], targets, 1) > best + 1e-4
    np.testing.assert_allclose(softly.softmax(told.optimum), targets, rtol=1e-14)


def test_one_hot_targets_have_no_finite_optimum():
    told = softly.identifiable([[0.0, 1.0, 0.0], [0.2, 0.4, 0.4]])
    assert told.status == "no finite optimum"
    assert told.rows_without_optimum == (0,)
    assert told.unreachable == ((0, 0), (0, 2))
    assert "1 of 2 rows" in told.reason
    np.testing.assert_array_equal(told.optimum[0], [-np.inf, 0, -np.inf])
    falling = [float(cross_entropy([0, s, 0], [0, 1, 0], 1)) for s in (1.0, 10.0, 100.0)]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] > 0
    assert softly.identifiable(np.array([1]), classes=3).unreachable == ((0, 0), (0, 2))
    assert '"status": "no finite optimum"' in told.to_json()
    assert "status" in str(told)
