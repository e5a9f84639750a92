"""The one Jacobian against differences of the maps in mpmath, and what the facts say of it."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import hypothesis.strategies as st
import mpmath
import numpy as np
import properties  # noqa: F401  its hypothesis profile
import pytest
from hypothesis import given
from semantics_truth import exact

import softly

ROW = [1.3, -0.4, 0.9, 0.2, -5.0]
ALPHAS = (1.0, 1.25, 1.5, 2.0, 3.0)
STEP = 2.0**-30


def name_of(alpha):
    return "softmax" if alpha == 1 else "entmax"


def differences(function, at):
    """Columns d function / d at_j in mpmath, by central differences."""
    columns = []
    with mpmath.workdps(50):
        for j in range(len(at)):
            sides = []
            for step in (STEP, -STEP):
                moved = list(at)
                moved[j] += step
                sides.append(function(moved))
            columns.append([float((a - b) / (2 * STEP)) for a, b in zip(*sides, strict=True)])
    return np.array(columns).T


def cross_entropy(scores, target, temperature):
    """-sum t log softmax(z / T) in mpmath, which asks for more digits where it differentiates."""
    with mpmath.workdps(max(50, mpmath.mp.dps)):
        s = [mpmath.mpf(float(z)) / temperature for z in scores]
        potential = mpmath.log(mpmath.fsum(map(mpmath.exp, s)))
        return mpmath.fsum(float(t) * (potential - v) for t, v in zip(target, s, strict=True))


# ---------------------------------------------------------------- products


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_jacobian_is_that_of_the_map_fact_11(alpha, temperature):
    truth = differences(lambda row: exact(name_of(alpha), row, temperature, alpha), ROW)
    found = softly.jacobian(ROW, alpha=alpha, temperature=temperature)
    np.testing.assert_allclose(found, truth, rtol=1e-9, atol=1e-13)
    vector = np.array([0.3, -2.0, 1.0, 0.7, 4.0])
    product = softly.jacobian_product(ROW, vector, alpha=alpha, temperature=temperature)
    np.testing.assert_allclose(product, truth @ vector, rtol=1e-9, atol=1e-13)


def test_the_hessian_of_logsumexp_is_the_jacobian_over_the_temperature_fact_2():
    temperature = 0.7
    gradient = lambda row: [v / temperature for v in exact("softmax", row, temperature)]  # noqa: E731
    hessian = differences(gradient, ROW)
    vector = np.arange(5.0)
    np.testing.assert_allclose(
        softly.hessian_product(ROW, vector, temperature=temperature), hessian @ vector, rtol=1e-9
    )
    np.testing.assert_allclose(softly.jacobian(ROW, temperature=temperature) / temperature, hessian, rtol=1e-9)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_shifts_do_nothing_fact_2(alpha):
    z = np.random.default_rng(0).normal(size=(6, 9)) * 3
    for c in (1.0, 1e9):
        assert not softly.jacobian_product(z, np.full(9, c), alpha=alpha).any()
    product = softly.jacobian_product(z, softly.null_direction(z), alpha=alpha)
    assert not product.any()
    moved = softly.jacobian_product(z, np.random.default_rng(1).normal(size=9), alpha=alpha)
    np.testing.assert_allclose(moved.sum(axis=1), 0, atol=1e-15)


@pytest.mark.parametrize(("dtype", "gap"), [("float32", 20.0), ("float64", 60.0)])
def test_a_sure_leader_keeps_its_digits_fact_16(dtype, gap):
    """p rounds to 1, and 1 - p to 0; the derivative does not."""
    z = np.array([gap, 0.0, 0.0], dtype)
    assert softly.softmax(z)[0] == 1
    with mpmath.workdps(60):
        p = exact("softmax", z)
        truth = [float(p[0] * (1 - p[0])), float(-p[0] * p[1]), float(-p[0] * p[2])]
        whole = [[float(p[i] * ((i == j) - p[j])) for j in range(3)] for i in range(3)]
    rtol = 8 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(softly.jacobian_product(z, [1, 0, 0]), truth, rtol=rtol)
    np.testing.assert_allclose(softly.jacobian(z), whole, rtol=rtol)
    np.testing.assert_allclose(softly.covariance(z, [1, 0, 0]), truth[0], rtol=rtol)
    np.testing.assert_allclose(softly.sensitivity(z).local, np.linalg.eigvalsh(np.array(whole))[-1], rtol=rtol)


def test_axes_dtypes_and_masks_are_those_of_the_maps():
    rng = np.random.default_rng(0)
    z, v, t = rng.normal(size=(3, 4, 5)), rng.normal(size=(4, 5)), rng.uniform(0.5, 2, size=(3, 5))
    found = softly.jacobian_product(z, v, 1, temperature=t)
    for i, k in np.ndindex(3, 5):
        alone = softly.jacobian(z[i, :, k], temperature=float(t[i, k])) @ v[:, k]
        np.testing.assert_allclose(found[i, :, k], alone, rtol=1e-13, atol=1e-16)
    both = softly.jacobian_product(z, z, (0, 2))
    np.testing.assert_allclose(both[:, 1].ravel(), softly.jacobian(z[:, 1].ravel()) @ z[:, 1].ravel(), rtol=1e-12)
    assert softly.jacobian_product(z.astype(np.float16), v).dtype == np.float16
    assert softly.jacobian(z.astype(np.float32), 1).shape == (3, 5, 4, 4)
    assert softly.jacobian(np.zeros((2, 0))).shape == (2, 0, 0)
    assert softly.covariance(z, v, axis=1).shape == (3, 5)
    none, nothing = np.zeros((2, 0)), [0.0, 0.0]
    for found in (
        softly.covariance(none, none),
        softly.temperature_hessian(none, none),
        *(softly.sensitivity(none, norm=norm).local for norm in (1, 2, "inf->1")),
        *softly.spectrum_bounds(none),
    ):
        np.testing.assert_array_equal(found, nothing)
    assert softly.jacobian_product(none, none).shape == softly.center(none).shape == (2, 0)
    assert (softly.jacobian(3.0), softly.center(3.0), softly.sensitivity(3.0).local) == (0, 0, 0)

    where = rng.random(z.shape) < 0.7
    where[0, :, 0] = False
    hidden = np.where(where, z, np.nan)
    spoilt = np.where(where, v, np.inf)
    for function in (softly.jacobian_product, softly.hessian_product, softly.covariance):
        expected = function(np.where(where, z, -np.inf), np.broadcast_to(v, z.shape), axis=1)
        np.testing.assert_array_equal(function(hidden, spoilt, axis=1, where=where), expected)
        assert not expected[0, ..., 0].any()  # nothing possible
        assert np.isfinite(expected).all()
    z[1, 2, 3] = np.nan
    alone = np.isnan(softly.jacobian_product(z, v, 1))
    assert alone[1, :, 3].all()
    assert alone.sum() == 4


def test_limits_of_the_temperature():
    z = [2.0, 2.0, 1.0]
    np.testing.assert_array_equal(softly.jacobian_product(z, [1, 0, 7], temperature=0.0), [np.inf, -np.inf, 0])
    np.testing.assert_array_equal(softly.jacobian_product(z, [3, 3, 7], temperature=0.0), [0, 0, 0])
    np.testing.assert_array_equal(softly.jacobian([2.0, 1.0], temperature=0.0), np.zeros((2, 2)))
    np.testing.assert_array_equal(softly.jacobian_product(z, [1, 0, 7], temperature=np.inf), [0, 0, 0])
    assert softly.covariance(z, [1, 0, 7], temperature=0.0) == 0.25
    assert softly.covariance(z, [1, 0, 7], temperature=np.inf) == pytest.approx(np.var([1, 0, 7]))


@pytest.mark.parametrize("library", ["array_api_strict", "torch", "jax.numpy"])
def test_other_array_libraries(library):
    xp = pytest.importorskip(library, exc_type=ImportError)
    rng = np.random.default_rng(3)
    z, v = (rng.normal(size=(3, 4)).astype(np.float32) for _ in range(2))
    for name, options in (
        ("jacobian_product", {"alpha": 1.5}),
        ("hessian_product", {"temperature": 0.5}),
        ("covariance", {}),
        ("fisher_information", {"temperature": 2.0}),
    ):
        function = getattr(softly, name)
        found = function(xp.asarray(z), xp.asarray(v), **options)
        assert type(found) is type(xp.asarray(z))
        np.testing.assert_allclose(np.asarray(found), function(z, v, **options), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
        np.asarray(softly.sensitivity(xp.asarray(z)).local), softly.sensitivity(z).local, rtol=1e-5
    )
    np.testing.assert_allclose(np.asarray(softly.center(xp.asarray(z))), softly.center(z), atol=1e-6)
    labels = np.array([0, 3, 1])
    np.testing.assert_allclose(
        np.asarray(softly.temperature_hessian(xp.asarray(z), xp.asarray(labels))),
        softly.temperature_hessian(z, labels),
        rtol=1e-4,
    )


def test_torch_differentiates_the_products():
    """The expressions carry gradients: a third derivative of the loss, against differences."""
    torch = pytest.importorskip("torch", exc_type=ImportError)
    z = torch.tensor(ROW, dtype=torch.float64, requires_grad=True)
    vector = torch.arange(5.0, dtype=torch.float64)
    for alpha in (1.0, 1.5):
        (found,) = torch.autograd.grad((softly.jacobian_product(z, vector, alpha=alpha) ** 2).sum(), z)

        def squared(at, alpha=alpha):
            return (softly.jacobian_product(at, vector.numpy(), alpha=alpha) ** 2).sum()

        sides = [(squared(np.add(ROW, e)), squared(np.subtract(ROW, e))) for e in 1e-5 * np.eye(5)]
        np.testing.assert_allclose(found.numpy(), [(a - b) / 2e-5 for a, b in sides], rtol=1e-7, atol=1e-9)


def test_through_a_linear_layer():
    rng = np.random.default_rng(1)
    hidden, weight, direction = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    labels, temperature = [0, 4, 2, 2], 0.6

    def gradient(flat):
        scores = [
            [mpmath.fsum(mpmath.mpf(a) * float(b) for a, b in zip(w, h, strict=True)) for w in _rows(flat, 3)]
            for h in hidden
        ]
        pulls = []
        for row, label in zip(scores, labels, strict=True):
            powers = [mpmath.exp(s / temperature) for s in row]
            p = [v / mpmath.fsum(powers) for v in powers]
            pulls.append([(v - (k == label)) / temperature for k, v in enumerate(p)])
        return [mpmath.fsum(pulls[r][k] * float(hidden[r, d]) for r in range(4)) for k in range(5) for d in range(3)]

    truth = differences(gradient, weight.ravel().tolist()) @ direction.ravel()
    found = softly.linear_hessian_product(hidden, weight, direction, temperature=temperature)
    np.testing.assert_allclose(found.ravel(), truth, rtol=1e-8, atol=1e-12)
    with pytest.raises(ValueError, match=r"\(4, 3\), \(5, 2\), \(5, 3\): pass"):
        softly.linear_hessian_product(hidden, weight[:, :2], direction)


def _rows(flat, width):
    return [flat[i : i + width] for i in range(0, len(flat), width)]


@pytest.mark.parametrize("target", [0, 2, [0.1, 0.5, 0.2, 0.0, 0.2], [0.3, 0.0, 0.0, 0.4, 0.0]])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_through_the_temperature(target, temperature):
    soft = np.eye(5)[target] if isinstance(target, int) else np.array(target)
    with mpmath.workdps(50):
        truth = mpmath.diff(lambda t: cross_entropy(ROW, soft, t), temperature, 2)
        in_inverse = mpmath.diff(lambda b: cross_entropy(ROW, soft, 1 / b), 1 / temperature, 2)
    found = softly.temperature_hessian(ROW, target, temperature=temperature)
    assert found == pytest.approx(float(truth), rel=1e-10)
    variance = softly.covariance(ROW, ROW, temperature=temperature)
    assert variance * soft.sum() == pytest.approx(float(in_inverse), rel=1e-10)
    information = softly.fisher_information(ROW, ROW, temperature=temperature) / temperature**2
    assert information == pytest.approx(variance / temperature**4)
    assert softly.temperature_hessian(np.add(ROW, 1e6), target, temperature=temperature) == pytest.approx(
        float(truth), rel=1e-8
    )


def test_limits_of_the_hessian_in_the_temperature():
    assert softly.temperature_hessian([1.0, 0.0], 0, temperature=0.0) == 0
    assert softly.temperature_hessian([1.0, 0.0], 1, temperature=0.0) == np.inf
    assert softly.temperature_hessian([1.0, 0.0], 1, temperature=np.inf) == 0
    assert np.isfinite(softly.temperature_hessian([1.0, -np.inf], 0))


def test_fisher_information_is_the_mean_square_of_the_score():
    z, v, t = np.array(ROW), np.array([0.5, -1.0, 2.0, 0.0, 3.0]), 0.8
    p = softly.softmax(z, temperature=t)
    gradients = (np.eye(5) - p) / t  # of log p_k in the scores, k in rows
    assert softly.fisher_information(z, v, temperature=t) == pytest.approx(float(p @ (gradients @ v) ** 2))
    assert softly.fisher_information(z, v, temperature=t) == pytest.approx(
        float(v @ softly.hessian_product(z, v, temperature=t))
    )


def test_covariance():
    rng = np.random.default_rng(2)
    z, a, b = rng.normal(size=(4, 6)), rng.normal(size=6) + 1e6, rng.normal(size=(4, 6))
    p = softly.softmax(z)
    expected = [np.cov(a, row, aweights=w, ddof=0)[0, 1] for row, w in zip(b, p, strict=True)]
    np.testing.assert_allclose(softly.covariance(z, a, b), expected, rtol=1e-9)
    sparse = softly.entmax(z, alpha=2)
    expected = [np.cov(row, aweights=w, ddof=0) for row, w in zip(b, sparse, strict=True)]
    np.testing.assert_allclose(softly.covariance(z, b, alpha=2), expected, rtol=1e-9, atol=1e-15)
    bent = softly.jacobian_product(z, b, temperature=2.0)
    np.testing.assert_allclose(2 * (a * bent).sum(axis=1), softly.covariance(z, a, b, temperature=2.0), rtol=1e-6)


def test_nothing_quadratic_is_made_unless_asked():
    z, v = np.zeros(100_000), np.arange(100_000.0)
    hidden, weight = np.ones((2, 3)), np.zeros((100_000, 3))
    tracemalloc.start()
    for call in (
        lambda: softly.jacobian_product(z, v),
        lambda: softly.hessian_product(z, v),
        lambda: softly.covariance(z, v),
        lambda: softly.sensitivity(z),
        lambda: softly.linear_hessian_product(hidden, weight, weight),
    ):
        call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * z.nbytes  # the matrix would take 100000 times that


# ---------------------------------------------------------------- how far it stretches


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


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: softly.jacobian_product([1.0, 2.0], [1.0, 2.0, 3.0]), "vector has shape .3,., which does not"),
        (lambda: softly.jacobian_product([1.0, 2.0], [1.0, 2.0], alpha=np.inf), "alpha=inf has no Jacobian"),
        (lambda: softly.jacobian_product([1.0, 2.0], [1.0, 2.0], temperature=-1), "must be >= 0"),
        (lambda: softly.lipschitz(1.0, 0.5), "norm=0.5 is not a norm"),
        (lambda: softly.lipschitz(-1.0), "must be >= 0"),
        (lambda: softly.lipschitz(np.nan), "must be >= 0"),
        (lambda: softly.sensitivity([1.0], norm=3), "norm=3 has no local form"),
        (lambda: softly.temperature_hessian([1.0, 2.0], 2), "targets contain 2, which is not a class index in 0..1"),
        (lambda: softly.temperature_hessian([1.0, 2.0], [-0.5, 1.5]), "targets contain -0.5"),
        (lambda: softly.temperature_hessian([[1.0, 2.0]], [1.0]), "targets have shape .1,. and dtype float64"),
        (lambda: softly.identifiable([0.0, 0.0]), "targets, row 0: .* are not shares"),
        (lambda: softly.identifiable([3], classes=3), "targets, row 0: 3 is not a class index in 0..2"),
        (lambda: softly.identifiable([0.5], classes=3), "targets have dtype float64: pass class indices as integers"),
        (lambda: softly.identifiable("a"), "targets have shape"),
    ],
)
def test_what_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
