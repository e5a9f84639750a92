"""The estimator of kernel regression: scikit-learn's conventions, leave-one-out, standard errors, far from the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import softly

pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import parametrize_with_checks

from softly.models import NadarayaWatson


@parametrize_with_checks([NadarayaWatson(), NadarayaWatson(0.5)])
def test_scikit_learns_conventions(estimator: Any, check: Any) -> None:
    check(estimator)


def sines(n: int, seed: int = 0, noise: float = 0.3) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 6, (n, 1))
    return x, np.sin(2 * x[:, 0]) + noise * rng.normal(size=n)


def test_leave_one_out_means_are_those_of_a_fit_without_the_row() -> None:
    x, y = sines(60)
    model = NadarayaWatson().fit(x, y)
    for i in (0, 17, 59):
        others = np.arange(60) != i
        alone = softly.kernel_regression(x[others], y[others], x[i : i + 1], model.bandwidth_)
        np.testing.assert_allclose(model.leave_one_out()[i], alone[0], rtol=1e-12)
    assert model.loo_error_ == pytest.approx(np.mean((y - model.leave_one_out()) ** 2), rel=1e-12)


def test_the_ladder_finds_the_least_error_and_a_good_bandwidth() -> None:
    x, y = sines(400)
    model = NadarayaWatson().fit(x, y)
    for factor in (0.5, 0.8, 1.25, 2.0):
        assert model.loo_error_ <= NadarayaWatson(model.bandwidth_ * factor).fit(x, y).loo_error_ * (1 + 1e-9)
    new, _ = sines(1000, 1)
    new = new[(new[:, 0] > 0.3) & (new[:, 0] < 5.7)]
    assert np.sqrt(np.mean((model.predict(new) - np.sin(2 * new[:, 0])) ** 2)) < 0.1


def test_a_feature_that_says_nothing_gets_a_large_bandwidth() -> None:
    x, y = sines(200)
    both = np.column_stack([x, np.random.default_rng(3).normal(size=200)])
    common, own = (NadarayaWatson(per_feature=f).fit(both, y) for f in (False, True))
    assert own.loo_error_ < common.loo_error_
    assert own.bandwidth_[1] > 5 * both[:, 1].std()


def test_standard_errors_cover_the_mean_that_smoothing_gives() -> None:
    """Over repetitions of the noise, whose size differs from place to place: nominal 95 %."""
    rng = np.random.default_rng(4)
    x = np.sort(rng.uniform(0, 1, (300, 1)), axis=0)
    signal, spread = np.sin(4 * x[:, 0]), 0.1 + 0.5 * x[:, 0]
    at = np.linspace(0.1, 0.9, 9)[:, None]
    smooth = softly.kernel_regression(x, signal, at, 0.05)
    inside = []
    for _ in range(200):
        found = NadarayaWatson(0.05).fit(x, signal + spread * rng.normal(size=300)).estimate(at)
        inside.append(np.abs(found.mean - smooth) < 1.96 * found.standard_error)
    assert 0.92 < np.mean(inside) < 0.98
    np.testing.assert_array_less(1, found.effective_sample_size)


def test_standard_errors_are_their_formula() -> None:
    x, y = sines(50)
    model = NadarayaWatson(0.3).fit(x, y)
    at = np.array([[0.2], [3.0]])
    weights = softly.softmax(-((at - x.T) ** 2) / (2 * 0.3**2))
    found = model.estimate(at)
    np.testing.assert_allclose(found.effective_sample_size, 1 / (weights**2).sum(1), rtol=1e-12)
    residuals = y - model.leave_one_out()
    np.testing.assert_allclose(found.standard_error, np.sqrt(weights**2 @ residuals**2), rtol=1e-11)


def test_far_away_nothing_is_nan() -> None:
    x, y = sines(80)
    model = NadarayaWatson().fit(x, np.column_stack([y, 2 * y]))
    found = model.estimate([[1e6], [-1e200], [1e308]])
    assert found.mean.shape == found.standard_error.shape == (3, 2)
    ends = y[[x[:, 0].argmax(), x[:, 0].argmin(), x[:, 0].argmax()]]
    np.testing.assert_array_equal(found.mean[:, 0], ends)
    np.testing.assert_array_equal(found.effective_sample_size, [1, 1, 1])
    assert np.isfinite(found.standard_error).all()


@pytest.mark.parametrize(
    ("bandwidth", "rows", "match"),
    [
        ("scott", 5, "bandwidth='scott' is unknown"),
        (-1.0, 5, "bandwidth=-1.0"),
        ([1.0, 2.0], 5, r"bandwidth has shape \(2,\)"),
        ("loo", 1, "n_samples=1"),
    ],
)
def test_what_does_not_fit_is_named(bandwidth: Any, rows: int, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        NadarayaWatson(bandwidth).fit(np.arange(rows)[:, None], np.arange(rows))


def test_one_row_has_a_mean_but_no_errors() -> None:
    model = NadarayaWatson(1.0).fit([[0.0]], [3.0])
    assert model.predict([[5.0]]) == 3.0
    with pytest.raises(ValueError, match="fitted on one row"):
        model.estimate([[0.0]])
