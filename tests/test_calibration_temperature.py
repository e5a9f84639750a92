"""Temperature fits against an independent solver in 50 digits, and in every degenerate case."""

import warnings

import mpmath
import numpy as np
import pytest
from draws import draw
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression

import softly
from softly.calibration.engines import ArrayStream, fit_stream


def exact_temperature(scores, labels, weights=None):
    """The root of sum w (<z, p_b> - z_y) by mpmath's bisection in log b, in 50 digits."""
    weights = np.ones(len(labels)) if weights is None else weights
    with mpmath.workdps(50):
        rows = [
            (
                [mpmath.mpf(float(v) - float(max(row))) for v in row if v > -np.inf],
                mpmath.mpf(float(row[y] - max(row))),
                w,
            )
            for row, y, w in zip(np.asarray(scores, np.float64), labels, weights, strict=True)
        ]

        def gradient(log_b):
            b, total = mpmath.exp(log_b), mpmath.mpf(0)
            for row, label, weight in rows:
                e = [mpmath.exp(b * d) for d in row]
                total += weight * (mpmath.fdot(e, row) / mpmath.fsum(e) - label)
            return total

        guess = float(np.log(1 / softly.fit_calibrator(scores, labels, sample_weight=weights).temperature))
        low, high = mpmath.mpf(guess - 0.01), mpmath.mpf(guess + 0.01)
        assert gradient(low) < 0 < gradient(high)
        return float(mpmath.exp(-mpmath.findroot(gradient, (low, high), solver="anderson", tol=1e-30)))


def logistic_regression_scores(load):
    x, y = load(return_X_y=True)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-9)
    half = np.random.default_rng(0).random(len(x)) < 0.3
    model = LogisticRegression(C=1e3, max_iter=2000).fit(x[half], y[half])
    return model.decision_function(x[~half]), y[~half]


def near_separable():
    """One row in 400 is wrong, by a hair: the optimum lies at a very small temperature."""
    z, _ = draw(400, 4, 1.0)
    y = z.argmax(axis=1)
    z[7, (y[7] + 1) % 4] = z[7, y[7]] - 1e-7
    y[7] = (y[7] + 1) % 4
    return z, y


def near_useless():
    """Labels almost independent of the scores: the optimum lies at a very large temperature."""
    return draw(4000, 3, 40.0, scale=1.0, seed=3)


CASES = {
    "overconfident": lambda: draw(500, 10, 2.5),
    "underconfident": lambda: draw(500, 3, 0.2),
    "binary": lambda: draw(500, 2, 1.0),
    "many classes": lambda: draw(60, 300, 1.5),
    "digits": lambda: logistic_regression_scores(load_digits),
    "wine": lambda: logistic_regression_scores(load_wine),
    "iris": lambda: logistic_regression_scores(load_iris),
    "near separable": near_separable,
    "near useless": near_useless,
}


@pytest.mark.parametrize("name", CASES)
def test_temperature_agrees_with_an_independent_solver_to_1e_6(name):
    scores, labels = CASES[name]()
    fitted = softly.fit_calibrator(scores, labels)
    assert fitted.status == "ok"
    assert fitted.temperature == pytest.approx(exact_temperature(scores, labels), rel=1e-6)


def test_temperature_agrees_on_the_bundled_data(usps):
    scores, labels = usps[0][:400].astype(np.float32), usps[1][:400]
    assert softly.fit_calibrator(scores, labels).temperature == pytest.approx(
        exact_temperature(scores, labels), rel=1e-6
    )


def test_temperature_agrees_on_langid60(langid60):
    scores, labels = langid60[0][::50].astype(np.float32), langid60[1][::50]
    assert softly.fit_calibrator(scores, labels).temperature == pytest.approx(
        exact_temperature(scores, labels), rel=1e-6
    )


def test_the_demo_data_give_the_known_temperature(usps):
    fitted = softly.fit_calibrator(*usps)
    assert fitted.temperature == pytest.approx(5.02, abs=0.01)
    assert fitted.interval[0] < fitted.temperature < fitted.interval[1]
    assert fitted.log_loss_before == pytest.approx(2.495, abs=1e-3)


def test_weights_count_repetitions():
    scores, labels = draw(300, 5, 2.0)
    weights = np.random.default_rng(1).integers(0, 4, 300)
    repeated = softly.fit_calibrator(np.repeat(scores, weights, axis=0), np.repeat(labels, weights))
    weighted = softly.fit_calibrator(scores, labels, sample_weight=weights)
    assert weighted.temperature == repeated.temperature
    assert weighted.standard_error == repeated.standard_error
    assert weighted.log_loss == repeated.log_loss
    assert weighted.temperature == pytest.approx(exact_temperature(scores, labels, weights.astype(float)), rel=1e-6)


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1e3, 1e6])
def test_temperature_scales_with_the_scores(factor):
    scores, labels = draw(300, 5, 2.0)
    one, other = softly.fit_calibrator(scores, labels), softly.fit_calibrator(scores * factor, labels)
    assert other.status == "ok"
    assert other.temperature == pytest.approx(one.temperature * factor, rel=1e-9)
    assert other.standard_error == pytest.approx(one.standard_error * factor, rel=1e-4)


def test_temperature_ignores_a_shift_of_each_row():
    scores, labels = draw(300, 5, 2.0)
    scores = np.round(scores * 256) / 256  # so that the shift is exact
    shifted = scores + np.random.default_rng(2).integers(-1000, 1000, (300, 1)) * 2.0**20
    assert softly.fit_calibrator(shifted, labels) == softly.fit_calibrator(scores, labels)


def test_standard_error_is_the_observed_information_and_the_interval_symmetric_in_log():
    scores, labels = draw(2000, 4, 1.7)
    fitted = softly.fit_calibrator(scores, labels)

    def negative_log_likelihood(b):
        return -float(np.sum(softly.log_softmax(scores * b)[np.arange(len(labels)), labels]))

    b, h = 1 / fitted.temperature, 1e-3
    information = (
        negative_log_likelihood(b + h) - 2 * negative_log_likelihood(b) + negative_log_likelihood(b - h)
    ) / h**2
    assert fitted.standard_error == pytest.approx(fitted.temperature**2 / np.sqrt(information), rel=1e-4)
    low, high = fitted.interval
    assert low * high == pytest.approx(fitted.temperature**2, rel=1e-12)
    assert np.log(high / low) / 2 == pytest.approx(1.959963984540054 * fitted.standard_error / fitted.temperature)


def test_interval_covers_the_truth_about_95_times_in_100():
    covered = 0
    for seed in range(200):
        low, high = softly.fit_calibrator(*draw(300, 4, 1.6, seed=seed)).interval
        covered += low <= 1.6 <= high
    assert 180 <= covered <= 198


@pytest.mark.parametrize(
    ("status", "scores", "labels"),
    [
        ("separable", [[3.0, 1.0], [0.0, 2.0]], [0, 1]),
        ("separable", [[3.0, 1.0, 3.0], [0.0, 2.0, 1.0]], [2, 1]),  # a tie for the largest is right too
        ("anti_correlated", [[3.0, 1.0], [0.0, 2.0]], [1, 0]),
        ("anti_correlated", [[1.0, 0.0, -1.0], [1.0, 0.0, -1.0]], [1, 1]),  # exactly a guess: g(0) = 0
        ("constant", [[1.0, 1.0], [2.0, 2.0]], [0, 1]),
        ("constant", [[1.0, -np.inf, 1.0]], [0]),
    ],
)
def test_degenerate_fits_keep_one_and_say_so(status, scores, labels):
    with pytest.warns(softly.DegenerateFitWarning, match="T = 1 is kept"):
        fitted = softly.fit_calibrator(scores, labels)
    assert (fitted.status, fitted.temperature, fitted.standard_error, fitted.interval) == (status, 1.0, None, None)
    assert softly.Calibrator.from_json(fitted.to_json()) == fitted


def test_a_single_row_is_a_fit_or_a_status_never_a_crash():
    with pytest.warns(softly.DegenerateFitWarning):
        assert softly.fit_calibrator([[2.0, 1.0]], [0]).status == "separable"


def test_labels_of_one_class_are_fitted_with_a_warning():
    with pytest.warns(softly.DegenerateFitWarning, match="one class"):
        fitted = softly.fit_calibrator([[2.0, 0.0], [1.0, 0.0], [-0.5, 0.0]], [0, 0, 0])
    assert fitted.status == "ok"


def test_a_class_never_seen_and_impossible_scores_are_fine():
    scores, labels = draw(200, 4, 1.5)
    wide = np.concatenate([scores, np.full((200, 1), -np.inf)], axis=1)
    assert softly.fit_calibrator(wide, labels).temperature == softly.fit_calibrator(scores, labels).temperature


def test_fold_fits_equal_fits_without_the_fold():
    from softly.calibration.engines import fold_of_rows

    scores, labels = draw(600, 5, 2.0)
    fits = fit_stream(ArrayStream(scores, labels, None), folds=4, seed=7)
    folds = fold_of_rows(np.arange(600), 4, 7)
    assert np.bincount(folds).min() > 100
    assert fits[0].temperature == pytest.approx(softly.fit_calibrator(scores, labels).temperature, rel=1e-9)
    for fold in range(4):
        kept = folds != fold
        assert fits[1 + fold].temperature == pytest.approx(
            softly.fit_calibrator(scores[kept], labels[kept]).temperature, rel=1e-9
        )


def test_a_sampled_start_leads_to_the_same_temperature(monkeypatch):
    scores, labels = draw(5000, 5, 2.0)
    direct = fit_stream(ArrayStream(scores, labels, None))[0]
    monkeypatch.setattr("softly.calibration.engines._SAMPLE_ELEMENTS", 1500)
    sampled = fit_stream(ArrayStream(scores, labels, None))[0]
    assert sampled.temperature == pytest.approx(direct.temperature, rel=1e-9)


def test_no_warning_without_reason():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        softly.fit_calibrator(*draw(100, 4, 1.5))
