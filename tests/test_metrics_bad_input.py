"""Evaluation refuses what it cannot use, in one line, and keeps nothing of it."""

import numpy as np
import pytest
from draws import random_case

from softly._errors import InputError
from softly.calibration.metrics import EvaluationStatistics, evaluate

NAN = float("nan")


GOOD = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])


def changed(row, column, value):
    array = GOOD.copy()
    array[row, column] = value
    return array


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (changed(1, 2, NAN), [0, 1, 2], "row 1, class 2 is nan"),
        (changed(2, 0, -0.25), [0, 1, 2], "row 2, class 0 is -0.25; give numbers in [0, 1]"),
        (changed(0, 1, 1.5), [0, 1, 2], "row 0, class 1 is 1.5"),
        (changed(1, 1, 0.75), [0, 1, 2], "row 1 sums to 0.95, not 1"),
        (changed(1, 1, 0.8002), [0, 1, 2], "row 1 sums to 1.0002, not 1"),
        ([0.5, 1.5], [0, 1], "row 1, class 1 is 1.5"),
        ([NAN, 0.5], [0, 1], "row 0, class 1 is nan"),
        (GOOD, [0, 1], "labels have shape (2,): pass one for each of the 3 rows"),
        (GOOD, [[0], [1], [2]], "labels have shape (3, 1): pass one for each of the 3 rows"),
        (GOOD, [0, 1, 3], "labels, row 2: 3 is not a class index in 0..2"),
        (GOOD, [0, -1, 2], "labels, row 1: -1 is not"),
        (GOOD, np.array([0, 2**64 - 1, 2], np.uint64), "labels, row 1: 18446744073709551615 is not"),
        (GOOD, [0.0, 1.0, 2.0], "labels have dtype float64: pass class indices as integers"),
        (GOOD, ["0", "1", "2"], "labels have dtype <U1: pass class indices"),
        (GOOD[:, :1], [0, 0, 0], "1 columns given; give two or more"),
        (GOOD[None], [0, 1, 2], "shape (1, 3, 3) given"),
        (0.5, 0, "shape () given"),
        (GOOD[:0], [], "no rows given"),
        ([], [], "no rows given"),
    ],
)
def test_bad_input_is_named_in_one_line(probabilities, labels, message):
    with pytest.raises(InputError) as caught:
        evaluate(probabilities, labels)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 0}, "bins: 0 given"),
        ({"seed": -1}, "seed: -1 given"),
        ({"resamples": 0}, "resamples: 0 given"),
        ({"classes": ["a", "b"]}, "classes: 2 names given for 3 classes"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        evaluate(GOOD, [0, 1, 2], **options)


@pytest.mark.parametrize(
    "probabilities", [GOOD.astype(object), GOOD.astype(str), GOOD.astype(complex), np.ma.masked_array(GOOD)]
)
def test_what_is_not_plain_numbers_is_a_type_error(probabilities):
    with pytest.raises(TypeError, match="probabilities"):
        evaluate(probabilities, [0, 1, 2])
    with pytest.raises(TypeError, match="labels is a masked array"):
        evaluate(GOOD, np.ma.masked_array([0, 1, 2]))


def test_rounding_of_the_dtype_is_forgiven():
    probabilities, labels = random_case(rows=2000, classes=40)
    narrow = probabilities.astype(np.float16)
    assert np.abs(narrow.astype(float).sum(axis=1) - 1).max() > 1e-4  # it would fail as float64
    assert evaluate(narrow, labels).rows == 2000
    with pytest.raises(InputError, match="sums to"):
        evaluate(narrow.astype(np.float64), labels)


def test_a_bad_batch_leaves_no_trace_and_rows_are_counted_from_the_first_batch():
    statistics = EvaluationStatistics.empty(3)
    statistics.update(GOOD, [0, 1, 2])
    before = statistics.evaluation().to_dict()
    for probabilities, labels, message in (
        (changed(2, 0, 0.9), [0, 1, 2], "row 5 sums to 1.6"),
        (GOOD, [0, 9, 2], "row 4: 9 is not"),
        (GOOD[:, :2], [0, 1, 1], "2 classes given; give 3"),
    ):
        with pytest.raises(InputError, match=message):
            statistics.update(probabilities, labels)
    assert statistics.evaluation().to_dict() == before
    with pytest.raises(InputError, match="other: 2 classes given"):
        statistics.merge(EvaluationStatistics.empty(2))


def test_error_states_of_numpy_have_no_effect():
    probabilities, labels = random_case(rows=200)
    probabilities[0] = np.eye(5)[(labels[0] + 1) % 5]
    probabilities[1] = [1.0, 1e-320, 0, 0, 0]
    with np.errstate(all="raise"):
        raised = evaluate(probabilities, labels).to_dict()
    assert raised == evaluate(probabilities, labels).to_dict()
