"""Products with the one Jacobian against differences of the maps in mpmath."""

from __future__ import annotations

import tracemalloc

import mpmath
import numpy as np
import pytest
from derivatives import cross_entropy, differences
from semantics_truth import exact

import softly

ROW = [1.3, -0.4, 0.9, 0.2, -5.0]
ALPHAS = (1.0, 1.25, 1.5, 2.0, 3.0)


def name_of(alpha):
    return "softmax" if alpha == 1 else "entmax"


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
