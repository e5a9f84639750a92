"""The fitted object: what it takes, what it refuses, and its JSON."""

import json

import numpy as np
import pytest
from draws import draw

import softly


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
