"""Temperature fits against an independent solver in 50 digits, and in every degenerate case."""

import json
import warnings

import mpmath
import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression

import softly
from softly.calibration.engines import ArrayStream, fit_stream
from softly.calibration.statistics import TemperatureStatistics


def draw(rows, classes, temperature, *, scale=2.0, seed=0):
    """Scores whose labels follow softmax(scores / temperature)."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, classes)) * scale
    gumbel = rng.gumbel(size=z.shape)
    return z, np.argmax(z / temperature + gumbel, axis=1)


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({(5, 2): np.nan}, "row 5: column 2 is nan"),
        ({(5, 2): np.inf}, "row 5: column 2 is inf"),
        ({(7, 1): 1e308, (7, 2): -1e308}, "row 7: scores from -1e\\+308 to 1e\\+308"),
    ],
)
@pytest.mark.parametrize("where", ["core", "expression"])
def test_bad_scores_are_named(change, message, where, monkeypatch):
    scores, labels = draw(20, 4, 1.5)
    for at, value in change.items():
        scores[at] = value
    if where == "expression":
        monkeypatch.setattr("softly._kernels.TABLE", {})
    with pytest.raises(ValueError, match=message):
        softly.fit_calibrator(scores, labels)


def test_an_impossible_label_is_named():
    scores, labels = draw(20, 4, 1.5)
    scores[11, labels[11]] = -np.inf
    with pytest.raises(ValueError, match=rf"row 11: the score of its label {labels[11]} is -inf"):
        softly.fit_calibrator(scores, labels)


@pytest.mark.parametrize(
    ("scores", "labels", "options", "message"),
    [
        (np.zeros((0, 3)), [], {}, "no rows"),
        (np.zeros((2, 1)), [0, 0], {}, "at least two classes"),
        (np.zeros((2, 2, 2)), [0, 0], {}, r"shape \(2, 2, 2\)"),
        (np.eye(3), [0, 1], {}, "one for each of the 3 rows"),
        (np.eye(3) * 5, [0, 1, 3], {}, "row 2: 3 is not a class index in 0..2"),
        (np.eye(3) * 5, [0, -1, 2], {}, "row 1: -1"),
        (np.eye(3) * 5, [0.0, 1.0, 2.0], {}, "dtype float64"),
        (np.eye(3) * 5, [0, 1, 2], {"kind": "odds"}, "kind='odds'"),
        (np.eye(3) * 5, [0, 1, 2], {"method": "magic"}, "method='magic'"),
        (np.eye(3) * 5, [0, 1, 2], {"sample_weight": [1, 1]}, "one for each of the 3 rows"),
        (np.eye(3) * 5, [0, 1, 2], {"sample_weight": [1, -1, 1]}, "row 1: -1.0"),
        (np.eye(3) * 5, [0, 1, 2], {"sample_weight": [1, np.nan, 1]}, "row 1: nan"),
        (np.eye(3) * 5, [0, 1, 2], {"sample_weight": [0, 0, 0]}, "0 everywhere"),
        (np.eye(3) * 5, [0, 1, 2], {"classes": ["a", "b"]}, "2 names"),
        ([[0.2, 0.8], [0.6, 0.4]], [0, 1], {}, "look like probabilities"),
        ([[2.0, 0.8], [0.6, 0.4]], [0, 1], {"kind": "probabilities"}, "row 0: 2, 0.8 are not probabilities"),
        ([[-1.0, -1.0], [0.6, 0.4]], [0, 1], {"kind": "log_probabilities"}, "row 0: -1, -1 are not log-prob"),
    ],
)
def test_bad_input_is_named(scores, labels, options, message):
    with pytest.raises(ValueError, match=message):
        softly.fit_calibrator(scores, labels, **options)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint64, np.longlong])
def test_labels_of_every_integer_dtype(dtype):
    scores, labels = draw(100, 4, 1.5)
    assert softly.fit_calibrator(scores, labels.astype(dtype)) == softly.fit_calibrator(scores, labels)


def test_kinds_agree():
    scores, labels = draw(300, 4, 2.0)
    logits = softly.fit_calibrator(scores, labels)
    logs = softly.fit_calibrator(softly.log_softmax(scores), labels, kind="log_probabilities")
    probabilities = softly.fit_calibrator(softly.softmax(scores), labels, kind="probabilities")
    for other in (logs, probabilities):
        assert other.temperature == pytest.approx(logits.temperature, rel=1e-9)
    np.testing.assert_allclose(probabilities.apply(softly.softmax(scores)), logits.apply(scores), rtol=1e-9)


def test_one_dimension_means_the_binary_pair():
    scores, labels = draw(300, 2, 2.0)
    gap = scores[:, 1] - scores[:, 0]
    fitted = softly.fit_calibrator(gap, labels)
    assert fitted.temperature == pytest.approx(softly.fit_calibrator(scores, labels).temperature, rel=1e-9)
    np.testing.assert_allclose(fitted.apply(gap)[:, 1], 1 / (1 + np.exp(-gap / fitted.temperature)), rtol=1e-14)


def test_argmax_and_accuracy_do_not_change(usps):
    scores, labels = usps[0].astype(np.float64), usps[1]
    p = softly.fit_calibrator(scores, labels).apply(scores)
    np.testing.assert_array_equal(p.argmax(axis=1), scores.argmax(axis=1))
    assert (p.argmax(axis=1) == labels).mean() == (scores.argmax(axis=1) == labels).mean()


def test_json_round_trip_gives_the_same_bits(usps):
    fitted = softly.fit_calibrator(*usps, classes=[f"class {i} é" for i in range(10)])
    again = softly.Calibrator.from_json(fitted.to_json())
    assert again == fitted
    assert again.apply(usps[0]).tobytes() == fitted.apply(usps[0]).tobytes()


BREAKAGES = {
    "not JSON": lambda d: "{",
    "a list": lambda d: "[]",
    "another format": lambda d: json.dumps(d | {"format": "pickle"}),
    "another version": lambda d: json.dumps(d | {"version": 99}),
    "temperature 0": lambda d: json.dumps(d | {"temperature": 0}),
    "temperature text": lambda d: json.dumps(d | {"temperature": "5"}),
    "temperature NaN": lambda d: json.dumps(d | {"temperature": float("nan")}),
    "temperature true": lambda d: json.dumps(d | {"temperature": True}),
    "temperature outside its interval": lambda d: json.dumps(d | {"temperature": 100.0}),
    "interval of three": lambda d: json.dumps(d | {"interval": [1, 2, 3]}),
    "one class": lambda d: json.dumps(d | {"classes": ["a"]}),
    "classes twice": lambda d: json.dumps(d | {"classes": ["a"] * len(d["classes"])}),
    "status unknown": lambda d: json.dumps(d | {"status": "fine"}),
    "status contradicts": lambda d: json.dumps(d | {"status": "separable"}),
    "method unknown": lambda d: json.dumps(d | {"method": "magic"}),
    "extra field": lambda d: json.dumps(d | {"color": "red"}),
    "missing field": lambda d: json.dumps({k: v for k, v in d.items() if k != "rows"}),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_calibrator_edited_into_nonsense_is_refused(name):
    fitted = softly.fit_calibrator(*draw(100, 4, 1.5))
    with pytest.raises(ValueError, match="calibrator: "):
        softly.Calibrator.from_json(BREAKAGES[name](fitted.to_dict()))


def test_apply_refuses_another_number_of_classes():
    fitted = softly.fit_calibrator(*draw(100, 4, 1.5))
    with pytest.raises(ValueError, match="scores have 3 classes, but this calibrator was fitted on 4"):
        fitted.apply(np.zeros((2, 3)))


def test_apply_keeps_the_precision():
    scores, labels = draw(100, 4, 1.5)
    fitted = softly.fit_calibrator(scores, labels)
    assert fitted.apply(scores.astype(np.float32)).dtype == np.float32
    assert fitted.apply(scores.astype(np.float16)).dtype == np.float32
    assert fitted.apply(scores).dtype == np.float64


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
