"""Evaluation against tables worked out by hand, scikit-learn, published figures, and itself in any order."""

import json
import math
import pickle
import subprocess
import sys
from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
from draws import random_case
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, precision_recall_fscore_support

from softly.calibration import metrics
from softly.calibration.metrics import EvaluationStatistics, evaluate, outcomes
from softly.calibration.reliability import wilson

NAN = float("nan")


def from_confidence(confidence, hit):
    """Two classes: the first is predicted, with this confidence, and is right where `hit`."""
    confidence = np.asarray(confidence, dtype=np.float64)
    return np.stack((confidence, 1 - confidence), axis=1), np.where(hit, 0, 1)


def calibrated(rows, rng, excess=0.0):
    """Confidence uniform on [.5, 1]; right with that probability, less `excess`."""
    confidence = rng.uniform(0.5, 1, rows)
    return from_confidence(confidence, rng.random(rows) < confidence - excess)


# --- values ---


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 1e-3), (np.float32, 1e-6), (np.float64, 1e-13)])
@pytest.mark.parametrize("classes", [2, 5, 40])
def test_losses_and_shares_equal_scikit_learns(dtype, tolerance, classes):
    probabilities, labels = random_case(classes=classes, dtype=dtype)
    found = evaluate(probabilities, labels)
    every = range(classes)
    wide = probabilities.astype(np.float64)
    wide /= wide.sum(axis=1, keepdims=True)  # scikit-learn insists
    assert found.log_loss.value == pytest.approx(log_loss(labels, wide, labels=every), rel=tolerance)
    whole = brier_score_loss(labels, wide, labels=every, scale_by_half=False)
    assert found.brier.value == pytest.approx(whole, rel=tolerance)
    predicted = probabilities.argmax(axis=1)
    assert found.accuracy.value == accuracy_score(labels, predicted)
    precision, recall, _, support = precision_recall_fscore_support(labels, predicted, labels=every, zero_division=NAN)
    rows = {int(row.name): row for row in found.per_class}
    assert [rows[i].recall for i in every] == pytest.approx(list(recall), nan_ok=True)
    assert [rows[i].precision for i in every] == pytest.approx(list(precision), nan_ok=True)
    assert [rows[i].count for i in every] == list(support)


def test_the_equal_width_table_equals_scikit_learns_calibration_curve():
    probabilities, labels = random_case()
    confidence, hit = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    accuracy, mean = calibration_curve(hit, confidence, n_bins=15)
    table = evaluate(probabilities, labels).reliability_equal_width
    assert [row.accuracy for row in table] == pytest.approx(list(accuracy), rel=1e-12)
    assert [row.confidence for row in table] == pytest.approx(list(mean), rel=1e-12)


def test_a_table_worked_out_by_hand():
    # confidence  .5 .6 .6 | .8 .9 .9   three rows a bin of equal mass; width: [.5, .75) and [.75, 1]
    # hit          1  0  1 |  1  0  1
    found = evaluate(*from_confidence([0.9, 0.6, 0.8, 0.5, 0.9, 0.6], [0, 1, 1, 1, 1, 0]), bins=2)
    low, high = found.reliability
    assert (low.low, low.high, low.count) == (0.5, 0.8, 3)
    assert (high.low, high.high, high.count) == (0.8, 0.9, 3)
    assert (low.confidence, low.accuracy) == pytest.approx((1.7 / 3, 2 / 3))
    assert (high.confidence, high.accuracy) == pytest.approx((2.6 / 3, 2 / 3))
    assert found.ece.value == pytest.approx((0.3 + 0.6) / 6)
    # (.1)^2 and (.2)^2, less (2/3)(1/3)/2 each
    assert found.squared_calibration_error.value == pytest.approx((0.01 + 0.04) / 2 - 1 / 9)
    assert found.mean_confidence == pytest.approx(4.3 / 6)
    assert found.accuracy.value == pytest.approx(4 / 6)
    assert found.brier.value == pytest.approx(2 * (0.81 + 0.16 + 0.04 + 0.25 + 0.01 + 0.36) / 6)
    logs = [math.log(p) for p in (0.1, 0.6, 0.8, 0.5, 0.9, 0.4)]
    assert found.log_loss.value == pytest.approx(-sum(logs) / 6)
    # the only bin of equal width with rows is [.5, 1]: |4.3 - 4| / 6
    (half,) = found.reliability_equal_width
    assert (half.low, half.high, half.count) == (0.5, 1.0, 6)
    assert found.ece_equal_width.value == pytest.approx(0.3 / 6)
    assert (found.claims.count, found.claims.correct) == (2, 0.5)
    assert found.claims.claimed == pytest.approx(0.9)
    histogram = dict(enumerate(found.confidence_histogram))
    assert {place: count for place, count in histogram.items() if count} == {25: 1, 30: 2, 40: 1, 45: 2}


def test_classes_come_worst_first_and_absent_ones_are_nan():
    probabilities = [[0.6, 0.4, 0, 0], [0.8, 0.2, 0, 0], [0, 0.9, 0.1, 0], [0, 0.9, 0.1, 0], [0, 1, 0, 0]]
    found = evaluate(probabilities, [0, 1, 1, 2, 1], classes=["a", "b", "c", "d"])
    # a: two given with mean confidence .7, half right: .2 * 2. b: three, mean 2.8/3, two right: .8/3 * 3.
    b, a, c, d = found.per_class
    assert [row.name for row in (b, a, c, d)] == ["b", "a", "c", "d"]
    assert (b.count, b.predicted, b.recall, b.precision) == (3, 3, pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert (a.confidence, a.precision, a.gap) == pytest.approx((0.7, 0.5, 0.2))
    assert b.gap == pytest.approx(0.8 / 3)
    assert (c.recall, c.count, c.predicted) == (0.0, 1, 0)
    assert all(math.isnan(share) for share in (c.precision, c.gap, d.recall))
    assert [row.mean_probability for row in (a, b, c, d)] == pytest.approx([0.28, 0.68, 0.04, 0.0])
    assert [row.frequency for row in (a, b, c, d)] == [0.2, 0.6, 0.2, 0.0]
    assert found.to_dict()["per_class"][2]["gap"] is None


def test_wilson_intervals_are_the_published_ones():
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3
    low, high = wilson(np.array([81, 15, 0, 1]), np.array([263, 148, 20, 29]))
    assert low == pytest.approx([0.2553, 0.0624, 0.0000, 0.0061], abs=5e-5)
    assert high == pytest.approx([0.3662, 0.1605, 0.1611, 0.1718], abs=5e-5)


def test_one_dimension_is_the_probability_of_class_one():
    second = np.array([0.2, 0.5, 0.7, 1.0, 0.25], dtype=np.float32)
    pair = np.stack((1 - second.astype(np.float64), second), axis=1)
    labels = [0, 1, 1, 0, 1]
    assert evaluate(second, labels).to_dict() == evaluate(pair, labels).to_dict()


def test_of_equal_probabilities_the_first_class_is_predicted():
    assert evaluate([[0.5, 0.5], [0.25, 0.75]], [0, 1]).accuracy.value == 1.0


def test_a_label_of_probability_zero_makes_the_log_loss_infinite_and_nothing_else():
    found = evaluate([[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]], [1, 0, 0])
    assert (found.log_loss.value, found.log_loss.low, found.log_loss.high) == (np.inf, np.inf, np.inf)
    assert found.brier.value == (2 + 0.5 + 0) / 3
    plain = json.loads(found.to_json())
    assert plain["log_loss"]["value"] == "inf"
    assert plain["brier"]["value"] == found.brier.value


def test_one_row_has_no_variance_to_debias_with():
    found = evaluate([[0.75, 0.25]], [0])
    assert (found.accuracy.value, found.ece.value) == (1.0, 0.25)
    assert math.isnan(found.squared_calibration_error.value)
    assert found.to_dict()["squared_calibration_error"] == {"value": None, "low": None, "high": None}


# --- bins ---


def test_rows_of_equal_confidence_are_never_parted():
    confidence = np.repeat([0.55, 0.6, 0.7, 0.95], [10, 500, 300, 190])
    table = evaluate(*from_confidence(confidence, np.ones(1000)), bins=15).reliability
    assert [row.count for row in table] == [10, 500, 300, 190]
    assert [row.confidence for row in table] == pytest.approx([0.55, 0.6, 0.7, 0.95])


def test_bins_of_equal_mass_have_equal_mass():
    table = evaluate(*calibrated(1003, np.random.default_rng(0)), bins=10).reliability
    assert {row.count for row in table} == {100, 101}
    assert all(one.high == two.low for one, two in pairwise(table))


@pytest.mark.parametrize("bins", [7, 10, 15, 49])
def test_an_edge_belongs_to_the_bin_above_and_the_last_bin_is_closed(bins):
    edges = np.arange(bins + 1) / bins
    edges = edges[edges >= 0.5]
    table = evaluate(*from_confidence(edges, np.ones(len(edges))), bins=bins).reliability_equal_width
    inner = edges[:-1]
    assert [row.low for row in table] == list(inner)
    assert [row.count for row in table] == [1] * (len(inner) - 1) + [2]  # the last one also holds 1.0
    assert table[-1].high == 1.0


def test_a_float32_confidence_of_nine_tenths_is_a_claim_of_nine_tenths():
    probabilities = np.array([[0.9, 0.1], [0.5, 0.5]])
    assert [evaluate(probabilities.astype(t), [0, 0]).claims.count for t in ("f2", "f4", "f8")] == [1, 1, 1]


# --- chance and intervals ---


@pytest.mark.parametrize(("rows", "published"), [(100, 0.11), (1000, 0.035), (10_000, 0.011)])
def test_calibrated_data_shows_the_ece_that_chance_explains(rows, published):
    rng = np.random.default_rng(7)
    found = [evaluate(*calibrated(rows, rng), seed=seed, resamples=100) for seed in range(25)]
    mean = np.mean([one.ece.value for one in found])
    assert mean == pytest.approx(published, rel=0.16)
    # Mean |N(0, v)| is sqrt(2 v / pi), and E sqrt(c (1 - c)) = pi / 8 for c uniform on [.5, 1].
    assert mean == pytest.approx(math.sqrt(2 / math.pi * 15 / rows) * math.pi / 8, rel=0.1)
    assert np.mean([one.ece_by_chance for one in found]) == pytest.approx(mean, rel=0.1)
    assert np.mean([one.ece.value > one.ece_by_chance_high for one in found]) <= 0.2  # 5 % expected
    assert np.mean([one.ece.low == 0 for one in found]) >= 0.8
    squared = [one.squared_calibration_error.value for one in found]
    assert abs(np.mean(squared)) < 4 * np.std(squared) / 5 + 1e-12  # debiased: no bias left
    plug_in = [sum(row.count * (row.confidence - row.accuracy) ** 2 for row in one.reliability) / rows for one in found]
    assert np.mean(plug_in) > 8 * np.std(squared) / 5  # and there was one


def test_intervals_hold_a_known_calibration_error():
    rng = np.random.default_rng(3)
    found = [evaluate(*calibrated(600, rng, excess=0.15), seed=seed) for seed in range(40)]
    for name, truth in (("ece", 0.15), ("squared_calibration_error", 0.15**2), ("accuracy", 0.6)):
        figures = [getattr(one, name) for one in found]
        assert all(figure.low <= figure.value <= figure.high for figure in figures)
        assert np.mean([figure.low <= truth <= figure.high for figure in figures]) >= 0.8
        assert np.mean([figure.low <= truth + 0.1 <= figure.high for figure in figures]) <= 0.2


def test_intervals_have_the_width_of_the_standard_error():
    probabilities, labels = random_case(rows=5000)
    found = evaluate(probabilities, labels, resamples=2000)
    onehot = np.eye(5)[labels]
    per_row = {
        "accuracy": probabilities.argmax(axis=1) == labels,
        "log_loss": -np.log(probabilities[np.arange(5000), labels]),
        "brier": ((probabilities - onehot) ** 2).sum(axis=1),
    }
    for name, values in per_row.items():
        figure = getattr(found, name)
        error = values.std() / math.sqrt(5000)
        assert figure.value == pytest.approx(values.mean(), rel=1e-12)
        assert figure.high - figure.low == pytest.approx(2 * 1.96 * error, rel=0.08)
        assert figure.low == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)


def test_a_seed_gives_the_same_evaluation_and_another_moves_only_what_is_drawn():
    case = random_case()
    one, same, other = (evaluate(*case, seed=seed).to_dict() for seed in (5, 5, 6))
    assert one == same
    for name in ("accuracy", "log_loss", "brier", "ece", "ece_equal_width", "squared_calibration_error"):
        assert one[name]["value"] == other[name]["value"]
        assert one[name] != other[name]
    drawn = {"ece_by_chance", "ece_by_chance_high"}
    assert all(one[name] != other[name] for name in drawn)
    plain = set(one) - drawn - {name for name in one if isinstance(one[name], dict)}
    assert {"reliability", "per_class", "mean_confidence"} <= plain
    assert all(one[name] == other[name] for name in plain)


# --- the same bits ---


def in_batches(probabilities, labels, ends):
    """Statistics of each batch alone."""
    parts = []
    for start, end in pairwise((0, *ends, len(labels))):
        part = EvaluationStatistics.empty(probabilities.shape[1])
        part.update(probabilities[start:end], labels[start:end])
        parts.append(part)
    return parts


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batches_merges_and_orders_change_no_bit(monkeypatch, exact, dtype):
    monkeypatch.setattr(metrics, "EXACT_ROWS", 10_000 if exact else 1500)
    probabilities, labels = random_case(rows=3000, classes=7, dtype=dtype)
    probabilities[5, :] = np.eye(7)[labels[5]]  # losses of exactly 0
    whole = evaluate(probabilities, labels).to_dict()
    assert whole["exact"] is exact

    ends = (1, 2, 9, 700, 703, 1499, 1500, 1501, 2999)
    streamed = EvaluationStatistics.empty(7)
    for start, end in pairwise((0, *ends, 3000)):
        streamed.update(probabilities[start:end], labels[start:end])
    assert streamed.evaluation().to_dict() == whole

    parts = in_batches(probabilities, labels, ends)
    left = reduce(lambda a, b: a.merge(b), parts)
    right = reduce(lambda a, b: b.merge(a), reversed(parts))
    assert left.evaluation().to_dict() == whole
    assert right.evaluation().to_dict() == whole
    assert [part.rows for part in parts] == [1, 1, 7, 691, 3, 796, 1, 1, 1498, 1]  # merging left them alone

    order = np.random.default_rng(0).permutation(3000)
    assert evaluate(probabilities[order], labels[order]).to_dict() == whole
    losses = -np.log(probabilities[np.arange(3000), labels].astype(np.float64))
    assert len({losses.cumsum()[-1], losses[order].cumsum()[-1], losses[::-1].cumsum()[-1]}) > 1  # plain sums do


def test_what_a_row_gives_does_not_depend_on_its_neighbours():
    probabilities, labels = random_case(rows=999, classes=11)
    whole = outcomes(probabilities, labels)
    for step in (1, 7, 64):
        parts = [outcomes(probabilities[i : i + step], labels[i : i + step]) for i in range(0, 999, step)]
        for column, pieces in zip(whole, zip(*parts, strict=True), strict=True):
            np.testing.assert_array_equal(column, np.concatenate(pieces))


def test_the_logarithm_of_an_underflown_probability_counts():
    statistics = metrics.EvaluationStatistics.empty(2)
    statistics.update([[1.0, 0.0], [0.0, 1.0]], [1, 1], label_log_probability=np.array([-3000.0, 1e-17]))
    assert statistics.evaluation().log_loss.value == 1500.0
    for wrong in ([-1.0], [np.nan, -1.0]):
        with pytest.raises(ValueError, match="label_log_probability"):
            statistics.update([[1.0, 0.0], [0.0, 1.0]], [1, 1], label_log_probability=np.array(wrong))
    assert statistics.rows == 2


def test_means_are_correctly_rounded_sums():
    probabilities, labels = random_case(rows=5000)
    losses = -np.log(probabilities[np.arange(5000), labels])
    found = evaluate(probabilities, labels)
    assert found.log_loss.value == pytest.approx(math.fsum(losses) / 5000, rel=3e-16)
    assert found.mean_confidence == pytest.approx(math.fsum(probabilities.max(axis=1)) / 5000, rel=3e-16)
    tiny = evaluate([[1 - 1e-15, 1e-15]] * 1000, [0] * 1000).log_loss.value
    assert tiny == pytest.approx(-math.log(1 - 1e-15), rel=1e-2)  # one part in 1e18 of a unit is kept
    huge = evaluate([[1.0, 5e-324]] * 70_000, [1] * 70_000)
    assert huge.log_loss.value == pytest.approx(-math.log(5e-324), rel=3e-16)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layouts_change_no_bit(dtype):
    probabilities, labels = random_case(rows=500, dtype=dtype)
    whole = evaluate(probabilities, labels).to_dict()
    spread = np.zeros((1000, 10), dtype)
    spread[::2, ::2] = probabilities
    for other in (
        np.asfortranarray(probabilities),
        spread[::2, ::2],
        np.ascontiguousarray(probabilities[::-1])[::-1],
    ):
        assert evaluate(other, labels).to_dict() == whole
    swapped = probabilities.astype(np.dtype(dtype).newbyteorder())
    assert evaluate(swapped, labels).to_dict()["log_loss"] == whole["log_loss"]


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4", ">u8"])
def test_every_integer_dtype_of_labels_is_accepted(dtype):
    probabilities, labels = random_case(rows=100)
    assert evaluate(probabilities, labels.astype(dtype)).to_dict() == evaluate(probabilities, labels).to_dict()


def test_statistics_survive_a_trip_between_processes():
    probabilities, labels = random_case(rows=300)
    statistics = in_batches(probabilities, labels, ())[0]
    back = pickle.loads(pickle.dumps(statistics))
    assert back.evaluation().to_dict() == statistics.evaluation().to_dict()


def test_fixed_cells_agree_with_every_confidence_kept(monkeypatch):
    rng = np.random.default_rng(11)
    second = rng.beta(0.6, 0.6, 1_200_000)
    labels = rng.random(1_200_000) < second**1.3
    cells = evaluate(second, labels)
    monkeypatch.setattr(metrics, "EXACT_ROWS", 2_000_000)
    exact = evaluate(second, labels)
    assert (cells.exact, exact.exact) == (False, True)
    for name in ("accuracy", "log_loss", "brier"):
        assert getattr(cells, name).value == getattr(exact, name).value
    assert cells.mean_confidence == exact.mean_confidence
    assert (cells.claims, cells.per_class) == (exact.claims, exact.per_class)
    for name in ("ece", "ece_equal_width", "squared_calibration_error"):
        assert getattr(cells, name).value == pytest.approx(getattr(exact, name).value, rel=2e-3)
        assert getattr(cells, name).high == pytest.approx(getattr(exact, name).high, rel=2e-2)
    for one, two in zip(cells.reliability, exact.reliability, strict=True):
        assert (one.low, one.high) == pytest.approx((two.low, two.high), abs=2**-15)
        assert one.count == pytest.approx(two.count, abs=100)
        assert one.accuracy == pytest.approx(two.accuracy, abs=1e-3)
    assert sum(cells.confidence_histogram) == 1_200_000
    assert cells.ece_by_chance == pytest.approx(exact.ece_by_chance, rel=0.2)


# --- input ---


def test_only_numpy_is_imported():
    code = "import sys, softly.calibration.metrics; print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "numpy" in loaded
    assert not loaded & {"scipy", "sklearn", "pandas", "pyarrow", "torch", "jax", "click", "rich", "jinja2"}
