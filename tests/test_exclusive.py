"""Softmax or sigmoids: the truth of simulated labels is found, and both are judged on one outcome space."""

from __future__ import annotations

import itertools
import json
import math

import mpmath
import numpy as np
import pytest
from draws import draw

import softly
from softly import softmax_or_sigmoids
from softly.diagnostics.exclusive import _fit_sigmoids, _fit_softmax


def scores(rows, labels=5, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, labels)) * 2 - 1


def independent(z, seed=1):
    return np.random.default_rng(seed).random(z.shape) < softly.sigmoid(z)


def correlated(z, sign=1, seed=2):
    """Labels with the same probabilities as `independent`, thrown by one number a row: together, or apart."""
    u = np.random.default_rng(seed).random((len(z), 1))
    turned = np.where(np.arange(z.shape[1]) % 2, 1 - u, u) if sign < 0 else u
    return turned < softly.sigmoid(z)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_exclusive_classes_are_found(temperature, seed):
    z, y = draw(1500, 5, temperature, seed=seed)
    told = softmax_or_sigmoids(z + 7, y)  # a shift means nothing to softmax, and the sigmoids' bias takes it
    assert told.fits == "exclusive"
    assert told.advantage.low > 0
    assert told.temperature_softmax == pytest.approx(temperature, rel=0.1)
    assert told.exactly_one < told.exactly_one_observed == 1
    assert told.refused is None
    assert told.excess_variance.high < 0
    again = softmax_or_sigmoids(z, np.eye(5)[y])
    assert again.advantage.value == pytest.approx(told.advantage.value, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_overlapping_labels_are_found(seed):
    z = scores(2000, seed=seed)
    told = softmax_or_sigmoids(z * 3 + 1, independent(z, seed + 10))
    assert told.fits == "overlapping"
    assert told.temperature_sigmoids == pytest.approx(3, rel=0.1)
    assert told.exactly_one == pytest.approx(told.exactly_one_observed, abs=0.04)
    assert told.log_likelihood_softmax is None
    assert told.advantage is None
    assert "softmax is refused: " in told.refused
    assert "have" in told.refused and "labels, not one" in told.refused  # noqa: PT018


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sign", [1, -1])
def test_correlated_labels_are_found(seed, sign):
    z = scores(2000, seed=seed)
    told = softmax_or_sigmoids(z, correlated(z, sign, seed + 10))
    assert told.fits == "correlated"
    assert told.excess_variance.value * sign > 0
    assert told.temperature_sigmoids == pytest.approx(1, rel=0.15)  # each label alone is well described


def test_it_is_undecided_where_the_interval_spans_0():
    """Scores far apart: sigmoids too are sure that one label is present, and leave nothing to other sets."""
    y = np.random.default_rng(0).integers(0, 3, 40)
    told = softmax_or_sigmoids(np.where(np.eye(3)[y] > 0, 20.0, -20.0), y)
    assert told.fits == "undecided"
    assert told.advantage.low <= 0 <= told.advantage.high
    assert told.exactly_one > 0.9
    assert "Undecided" in told.verdict


def test_given_exactly_one_label_sigmoids_are_the_softmax_fact_18():
    """By enumeration of all sets of labels, in mpmath; and P(exactly one) is what `exactly_one` averages."""
    z = np.array([0.3, -1.2, 2.0, -0.5])
    with mpmath.workdps(40):
        p = [1 / (1 + mpmath.exp(-mpmath.mpf(float(v)))) for v in z]
        ones = [
            mpmath.fprod(v if bit else 1 - v for v, bit in zip(p, bits, strict=True))
            for bits in itertools.product((0, 1), repeat=4)
            if sum(bits) == 1
        ][::-1]  # label 0 first
        total = mpmath.fsum(ones)
        given_one = [float(v / total) for v in ones]
    np.testing.assert_allclose(softly.softmax(z), given_one, rtol=1e-14)
    rows = np.tile(z, (400, 1))
    labels = np.random.default_rng(0).choice(4, 400, p=given_one)
    told = softmax_or_sigmoids(rows, labels)
    b, c = 1 / told.temperature_sigmoids, told.bias_sigmoids
    s = b * z + c
    one = math.exp(float(softly.log_sigmoid(-s).sum() + softly.logsumexp(s)))
    assert told.exactly_one == pytest.approx(one, rel=0.02)  # folds were fitted apart
    apart = told.log_likelihood_if_one.value - told.log_likelihood_sigmoids.value
    assert apart == pytest.approx(-math.log(one), rel=0.02)


def test_fits_are_at_the_optimum():
    """The derivatives of the smoothed likelihood, by differences, vanish there."""
    z, y = draw(300, 4, 2.0)
    z[y != 0, 0] = np.where(np.arange((y != 0).sum()) % 3 == 0, -np.inf, z[y != 0, 0])
    labels = np.eye(4)[y] > 0
    n = len(z)

    def softmax_loss(b):
        possible = np.isfinite(z)
        t = np.where(possible, (1 - 1 / (n + 1)) * labels + 1 / (n + 1) / possible.sum(axis=1, keepdims=True), 0)
        log_p = softly.log_softmax(np.where(possible, b * np.where(possible, z, 0), -np.inf))
        return -(t * np.where(possible, log_p, 0)).sum()

    def sigmoid_loss(b, c):
        x, t = z[np.isfinite(z)], ((1 - 1 / (n + 1)) * labels + 0.5 / (n + 1))[np.isfinite(z)]
        return -(t * softly.log_sigmoid(b * x + c) + (1 - t) * softly.log_sigmoid(-b * x - c)).sum()

    b = _fit_softmax(z, labels)
    assert abs(softmax_loss(b + 1e-5) - softmax_loss(b - 1e-5)) / 2e-5 < 1e-3
    assert 1 / b == pytest.approx(2, rel=0.2)
    b, c = _fit_sigmoids(z, labels)
    for step in ((1e-5, 0), (0, 1e-5)):
        sides = [sigmoid_loss(b + s * step[0], c + s * step[1]) for s in (1, -1)]
        assert abs(sides[0] - sides[1]) / 2e-5 < 1e-3


def test_a_real_language_identifier_is_exclusive(langid60):
    scores, labels = langid60
    told = softmax_or_sigmoids(scores[:2000], labels[:2000])
    assert told.fits == "exclusive"
    assert json.loads(told.to_json())["fits"] == "exclusive"
    assert "advantage" in str(told)


def test_scores_in_the_wrong_direction_are_fitted_all_the_same():
    z, y = draw(1000, 4, 1.0)
    told = softmax_or_sigmoids(-z, y)
    assert told.temperature_softmax == pytest.approx(-1, rel=0.15)
    assert told.fits == "exclusive"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (([[0.0, 1.0]], [0]), r"scores have shape \(1, 2\)"),
        ((np.full((20, 2), np.nan), np.zeros(20, int)), "scores, row 0: NaN"),
        ((np.zeros((20, 2)), np.full(20, 2)), "labels, row 0: 2 is not a class index"),
        ((np.zeros((20, 2)), np.full((20, 2), 0.5)), "labels have shape .20, 2. and dtype float64: pass 0 and 1"),
        ((np.full((20, 2), -np.inf), np.zeros(20, int)), "labels, row 0: a label is present whose score is -inf"),
    ],
)
def test_what_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        softmax_or_sigmoids(*arguments)
    with pytest.raises(ValueError, match="folds=1"):
        softmax_or_sigmoids(np.zeros((20, 2)), np.zeros(20, int), folds=1)
