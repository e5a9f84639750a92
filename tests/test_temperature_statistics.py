"""The statistics of a temperature fit: exact sums that merge to the same bits."""

import mpmath
import numpy as np
import pytest
from draws import draw

from softly.calibration.statistics import TemperatureStatistics


def statistics_of(scores, labels, weights, rows):
    return TemperatureStatistics.from_scores(
        scores[rows], labels[rows], (0.0, 0.5, 3.0), weights=None if weights is None else weights[rows]
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_statistics_merge_to_the_same_bits_in_any_grouping(weighted):
    scores, labels = draw(1000, 7, 2.0)
    weights = np.random.default_rng(4).random(1000) if weighted else None
    whole = statistics_of(scores, labels, weights, slice(None))
    rng = np.random.default_rng(5)
    for _ in range(5):
        order = rng.permutation(1000)
        parts = np.split(order, np.sort(rng.integers(0, 1000, 6)))
        merged = statistics_of(scores, labels, weights, parts[0])
        for rows in parts[1:]:
            merged = merged.merge(statistics_of(scores, labels, weights, rows))
        for i in range(3):
            assert merged.point(i) == whole.point(i)
        assert merged.regret() == whole.regret()
        assert merged.total_weight() == whole.total_weight()


def test_statistics_agree_with_mpmath():
    scores, labels = draw(50, 5, 2.0)
    point = TemperatureStatistics.from_scores(scores, labels, (0.7,)).point(0)
    with mpmath.workdps(40):
        likelihood = gradient = curvature = mpmath.mpf(0)
        for row, y in zip(scores.tolist(), labels.tolist(), strict=True):
            e = [mpmath.exp(mpmath.mpf("0.7") * mpmath.mpf(v)) for v in row]
            p = [v / sum(e) for v in e]
            mean = mpmath.fdot(p, row)
            likelihood += mpmath.log(p[y])
            gradient += mean - row[y]
            curvature += mpmath.fdot(p, [(v - mean) ** 2 for v in row])
    assert point.log_likelihood == pytest.approx(float(likelihood), rel=1e-14)
    assert point.gradient == pytest.approx(float(gradient), rel=1e-13)
    assert point.curvature == pytest.approx(float(curvature), rel=1e-13)


def test_the_kernel_and_the_expression_give_the_same_statistics(monkeypatch):
    scores, labels = draw(500, 6, 2.0)
    scores[3, 2] = scores[9, 0] = -np.inf
    labels[[3, 9]] = 1
    kernel = TemperatureStatistics.from_scores(scores, labels, (0.0, 1.0, 20.0))
    monkeypatch.setattr("softly._kernels.TABLE", {})
    expression = TemperatureStatistics.from_scores(scores, labels, (0.0, 1.0, 20.0))
    for i in range(3):
        assert kernel.point(i) == pytest.approx(expression.point(i), rel=1e-12)


@pytest.mark.parametrize("neighbour", [0.0, -np.inf])
@pytest.mark.parametrize("where", ["core", "expression"])
def test_a_gap_beyond_a_double_is_impossible_whatever_the_rows_beside_it(neighbour, where, monkeypatch):
    """It is told from other impossible scores by its own row, not by those that share a vector with it."""
    if where == "expression":
        monkeypatch.setattr("softly._kernels.TABLE", {})
    scores = np.array([[1e308, -1e308, 1e308], [1.0, 2.0, neighbour]])
    point = TemperatureStatistics.from_scores(scores[:1], np.array([0]), (1e-300,)).point(0)
    assert (point.log_likelihood, point.gradient, point.curvature) == (pytest.approx(-np.log(2)), 0, 0)
    both = TemperatureStatistics.from_scores(scores, np.array([0, 1]), (1.0,)).point(0)
    parts = [TemperatureStatistics.from_scores(scores[i : i + 1], np.array([i]), (1.0,)) for i in range(2)]
    assert both == parts[0].merge(parts[1]).point(0)
