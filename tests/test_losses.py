"""Losses: values and gradients against mpmath, what must hold for any scores, and the facts that they stand on."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import mpmath
import numpy as np
import pytest
import semantics
import semantics_truth
from derivatives import cross_entropy as exact_cross_entropy
from derivatives import differences
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

import softly

ALPHAS = (1.0, 1 + 2.0**-30, 1.25, 1.5, 2.0, 3.0)
few = settings(max_examples=25, deadline=None, database=None)
scores = arrays(np.float64, st.integers(2, 6), elements=st.integers(-64, 64).map(lambda i: i / 8))
temperatures = st.sampled_from([0.5, 1.0, 2.0])


def random_batch(rows: int, classes: int, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return 2 * rng.standard_normal((rows, classes)), rng.integers(classes, size=rows)


# ---------------------------------------------------------------- against mpmath


@pytest.mark.parametrize("alpha", ALPHAS)
@few
@given(z=scores, temperature=temperatures, data=st.data())
def test_fenchel_young_losses_are_those_of_mpmath(alpha: float, z: Any, temperature: float, data: Any) -> None:
    """Of labels and of soft targets in eighths, to the error that the map's, 2 ULP of 1, brings about."""
    label = data.draw(st.integers(0, len(z) - 1))
    cuts = sorted(data.draw(st.lists(st.integers(0, 8), min_size=len(z) - 1, max_size=len(z) - 1)))
    soft = np.diff([0, *cuts, 8]) / 8
    with mpmath.workdps(60):
        for target, shares in ((label, np.eye(len(z))[label]), (soft, soft)):
            truth = float(semantics_truth.fenchel_young(z, shares, temperature, alpha))
            found = float(softly.fenchel_young_loss(z, target, alpha=alpha, temperature=temperature))
            assert found >= 0
            assert found == pytest.approx(truth, rel=1e-14 if truth > 1e-3 else 1e-10, abs=1e-18)


@few
@given(z=scores, temperature=temperatures, data=st.data())
def test_cross_entropy_and_its_gradient_are_those_of_mpmath(z: Any, temperature: float, data: Any) -> None:
    label, smoothing = data.draw(st.integers(0, len(z) - 1)), data.draw(st.sampled_from([0.0, 0.125, 1.0]))
    weight = np.array(data.draw(st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=len(z), max_size=len(z))))
    a = weight * ((1 - smoothing) * np.eye(len(z))[label] + smoothing / len(z))
    value, gradient = softly.cross_entropy_and_gradient(
        z, label, temperature=temperature, class_weight=weight, label_smoothing=smoothing, reduction="sum"
    )
    soft = softly.cross_entropy(z, a, temperature=temperature, reduction="sum")
    (slopes,) = differences(lambda s: [exact_cross_entropy(s, a, temperature)], z.tolist())
    truth = float(exact_cross_entropy(z, a, temperature))
    np.testing.assert_allclose([value, soft], truth, rtol=1e-14)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-12, atol=1e-14)


@few
@given(z=scores, temperature=temperatures)
def test_binary_cross_entropy_is_that_of_mpmath(z: Any, temperature: float) -> None:
    t = np.linspace(0, 1, len(z))
    with mpmath.workdps(50):
        terms = [
            share * semantics_truth.log1p_exp(mpmath.mpf(-x / temperature))
            + (1 - share) * semantics_truth.log1p_exp(mpmath.mpf(x / temperature))
            for x, share in zip(z.tolist(), t.tolist(), strict=True)
        ]
    found = softly.binary_cross_entropy(z, t, temperature=temperature, reduction="none")
    np.testing.assert_allclose(found, [float(term) for term in terms], rtol=1e-15)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_rounded_once(dtype: str) -> None:
    """Sums over rows too: within 0.51 ULP of float64's results for the same scores."""
    kind = semantics.to_dtype(dtype)
    z, labels = random_batch(3000, 7)
    z = z.astype(kind)
    for name in ("cross_entropy", "fenchel_young_loss"):
        for reduction in ("none", "sum", "mean"):
            function = getattr(softly, name)
            found = function(z, labels, reduction=reduction)
            truth = function(z.astype(np.float64), labels, reduction=reduction)
            assert found.dtype == kind
            assert (semantics.error(found, truth) <= 0.51).all()
    gradient = softly.cross_entropy_and_gradient(z, labels, reduction="none")[1]
    truth = softly.cross_entropy_and_gradient(z.astype(np.float64), labels, reduction="none")[1]
    assert gradient.dtype == kind
    assert (semantics.error(gradient, truth) <= 0.51).all()


# ---------------------------------------------------------------- what holds for any scores


@few
@given(z=arrays(np.float64, (4, 5), elements=st.floats(-40, 40, width=32)), lr=st.floats(0.001, 3.999))
def test_a_step_below_4_never_raises_the_loss(z: Any, lr: float) -> None:
    """The Hessian's norm is at most 1/2, so that the loss falls by lr (1 - lr / 4) |g|^2 at least."""
    labels = np.arange(4)
    before, gradient = softly.cross_entropy_and_gradient(z, labels, reduction="none")
    moved = z - lr * gradient
    after = softly.cross_entropy(moved, labels, reduction="none")
    assert (after <= before * (1 + 1e-15) + 1e-15).all()
    true = np.arange(5) == labels[:, None]
    assert (gradient[true] < 0).all()
    assert (gradient[~true] > 0).all()
    assert (moved[true] >= z[true]).all()
    assert (moved[~true] <= z[~true]).all()


@few
@given(z=arrays(np.float32, (3, 6), elements=st.floats(-20, 20, width=32)), temperature=temperatures)
def test_a_gradient_row_sums_to_0_and_keeps_its_signal_fact_16(z: Any, temperature: float) -> None:
    labels = z.argmax(axis=-1)
    for reduction in ("none", "mean"):
        gradient = softly.cross_entropy_and_gradient(z, labels, temperature=temperature, reduction=reduction)[1]
        wide = gradient.astype(np.float64)
        assert (np.abs(wide.sum(axis=-1)) <= 2e-7 * np.abs(wide).sum(axis=-1)).all()
        assert (np.take_along_axis(gradient, labels[:, None], -1) < 0).all()


def test_a_gradient_keeps_its_signal_where_p_is_1_fact_16() -> None:
    z = np.array([[20.0, 0.0, 0.0]], np.float32)
    assert softly.softmax(z)[0, 0] == 1
    loss, gradient = softly.cross_entropy_and_gradient(z, [0])
    assert loss == pytest.approx(4.1223072e-9, rel=1e-6)
    np.testing.assert_allclose(gradient[0], [-4.1223072e-9, 2.0611536e-9, 2.0611536e-9], rtol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", ["cross_entropy", "fenchel_young_loss"])
def test_an_ignored_row_equals_a_dropped_row(name: str, reduction: Any) -> None:
    z, labels = random_batch(9, 4)
    kept = np.arange(9) % 3 != 1
    spoilt = np.where(kept[:, None], z, np.nan)
    options: dict[str, Any] = {"class_weight": np.array([1.0, 0.5, 0.0, 2.0]), "reduction": reduction}
    function = getattr(softly, name)
    expected = function(z[kept], labels[kept], **options)
    found = function(spoilt, np.where(kept, labels, -100), **options)
    np.testing.assert_allclose(found, expected, rtol=1e-15)
    found = function(spoilt, np.where(kept, labels, 255).astype(np.uint8), ignore_index=255, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-15)


def test_labels_are_one_hot_soft_targets() -> None:
    z, labels = random_batch(20, 5)
    for function in (softly.cross_entropy, softly.fenchel_young_loss):
        for reduction in ("mean", "sum", "none"):
            found = function(z, np.eye(5)[labels], reduction=reduction)
            np.testing.assert_allclose(found, function(z, labels, reduction=reduction), rtol=1e-14)
    np.testing.assert_array_equal(
        softly.cross_entropy(z, np.eye(5, dtype=int)[labels]), softly.cross_entropy(z, labels)
    )


def test_the_axis_and_the_layout_change_no_bit() -> None:
    z, labels = random_batch(24, 5)
    cube, places = z.reshape(4, 6, 5), labels.reshape(4, 6)
    moved = np.moveaxis(cube, -1, 1)
    options: dict[str, Any] = {"label_smoothing": 0.1, "class_weight": np.arange(1.0, 6)}
    for given_options in ({}, options):
        value, gradient = softly.cross_entropy_and_gradient(cube, places, **given_options)
        for scores_, axis in ((moved, 1), (np.ascontiguousarray(moved), -2)):
            other, other_gradient = softly.cross_entropy_and_gradient(scores_, places, axis, **given_options)
            assert other == value
            np.testing.assert_array_equal(np.moveaxis(other_gradient, 1, -1), gradient)
    several = softly.cross_entropy(cube, np.arange(4), axis=(1, 2), reduction="none")
    np.testing.assert_array_equal(several, softly.cross_entropy(cube.reshape(4, 30), np.arange(4), reduction="none"))


def test_single_numbers_and_no_classes() -> None:
    assert softly.cross_entropy(3.0, 0) == 0
    assert softly.cross_entropy([1.0, 1.0], np.int8(1)) == pytest.approx(math.log(2))
    assert isinstance(softly.cross_entropy([[1.0, 1.0]], [0]), np.float64)
    loss, gradient = softly.cross_entropy_and_gradient(np.zeros((2, 0)), [-100, -100], reduction="none")
    np.testing.assert_array_equal(loss, [0.0, 0.0])
    assert gradient.shape == (2, 0)
    with pytest.raises(ValueError, match="label 0"):
        softly.cross_entropy(np.zeros((2, 0)), [0, 0])


@pytest.mark.parametrize("alpha", [1.25, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_loss_is_0_from_the_margin_on_and_not_before(alpha: float, temperature: float) -> None:
    margin = temperature / (alpha - 1)
    others = [0.0, -0.5]
    assert softly.fenchel_young_loss([margin, *others], 0, alpha=alpha, temperature=temperature) == 0
    assert softly.fenchel_young_loss([margin * 1.5, *others], 0, alpha=alpha, temperature=temperature) == 0
    assert softly.fenchel_young_loss([margin * 0.999, *others], 0, alpha=alpha, temperature=temperature) > 0
    assert softly.fenchel_young_loss([margin * 1.5, *others], 0, alpha=1, temperature=temperature) > 0


def test_at_alpha_1_it_is_cross_entropy_and_nearby_almost() -> None:
    z, labels = random_batch(50, 6)
    z[0] = [900.0, 0, 0, 0, 0, 0]
    labels[0] = 1
    options: dict[str, Any] = {"class_weight": np.arange(1.0, 7), "temperature": 0.7}
    expected = softly.cross_entropy(z, labels, reduction="none", **options)
    np.testing.assert_array_equal(softly.fenchel_young_loss(z, labels, alpha=1, reduction="none", **options), expected)
    near = softly.fenchel_young_loss(z, labels, alpha=1 + 1e-12, reduction="none", **options)
    np.testing.assert_allclose(near, expected, rtol=1e-8)
    soft = softly.softmax(z[::-1])
    entropy = -(soft * softly.log_softmax(z[::-1])).sum(axis=-1)
    divergence = softly.fenchel_young_loss(z, soft, alpha=1, reduction="none")
    np.testing.assert_allclose(divergence, softly.cross_entropy(z, soft, reduction="none") - entropy, atol=1e-12)


# ---------------------------------------------------------------- facts


@pytest.mark.parametrize("smoothing", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("classes", [2, 10])
def test_smoothing_has_an_optimal_gap_and_a_floor_fact_8(smoothing: float, classes: int) -> None:
    gap = math.log1p(classes * (1 - smoothing) / smoothing)
    z = np.zeros(classes)
    z[1] = gap
    loss, gradient = softly.cross_entropy_and_gradient(z, 1, label_smoothing=smoothing)
    assert np.abs(gradient).max() < 1e-15
    target = np.full(classes, smoothing / classes)
    target[1] += 1 - smoothing
    assert loss == pytest.approx(-(target * np.log(target)).sum(), rel=1e-14)
    assert loss > 0.03
    assert softly.cross_entropy(2 * z, 1, label_smoothing=smoothing) > loss


@few
@given(x=st.floats(-50, 50))
def test_two_classes_are_one_sigmoid_fact_13(x: float) -> None:
    for yes in (0, 1):
        pair = softly.cross_entropy([0.0, x], yes)
        np.testing.assert_allclose(softly.binary_cross_entropy(x, yes), pair, rtol=1e-14)
        both_ways = softly.cross_entropy([-x, x], yes)
        np.testing.assert_allclose(softly.binary_cross_entropy(2 * x, yes), both_ways, rtol=1e-14)


def test_learning_stops_when_sure_and_right_not_when_sure_and_wrong_fact_15() -> None:
    """The gradient goes to 0 and to norm sqrt 2, the Hessian to 0 for both; at alpha 1 never quite."""
    z = np.array([40.0, 0.0, 0.0])
    right, wrong = (softly.cross_entropy_and_gradient(z, y)[1] for y in (0, 1))
    bend = np.abs(softly.hessian_product(z, [1.0, 0.0, 0.0])).max()
    assert 0 < np.linalg.norm(right) < 1e-16
    assert np.linalg.norm(wrong) == pytest.approx(math.sqrt(2), rel=1e-15)
    assert 0 < bend < 1e-16
    assert 0 < softly.cross_entropy([700.0, 0.0], 0) < 1e-300


@few
@given(z=arrays(np.float64, 4, elements=st.floats(-20, 20)))
def test_one_success_among_bernoullis_is_the_softmax_fact_18(z: Any) -> None:
    """-log p(only y | exactly one) is the cross-entropy: the two losses differ by the log of the chance of one."""
    outcomes = [softly.binary_cross_entropy(z, np.eye(4)[y], reduction="sum") for y in range(4)]
    chance_of_one = softly.logsumexp(-np.array(outcomes))
    for y in range(4):
        np.testing.assert_allclose(softly.cross_entropy(z, y), outcomes[y] + chance_of_one, rtol=1e-12, atol=1e-13)


# ---------------------------------------------------------------- bad input that the table does not hold


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda z: softly.cross_entropy(z, np.ma.masked_array([0, 1], [0, 1])), TypeError, "masked array"),
        (lambda z: softly.cross_entropy(z, ["a", "b"]), ValueError, "target has shape .2,. and dtype"),
        (lambda z: softly.cross_entropy(z, [["a", "b", "c"]] * 2), TypeError, "target has dtype"),
        (lambda z: softly.cross_entropy(z, [0, 1], 2), np.exceptions.AxisError, "axis=2"),
        (lambda z: softly.cross_entropy(z, [0, 1], ignore_index=1.0), TypeError, "ignore_index must be an integer"),
        (lambda z: softly.cross_entropy(z, [0, 1], label_smoothing="a"), TypeError, "label_smoothing must be a number"),
        (lambda z: softly.cross_entropy(z, [0, 1], where=[1, 0, 1]), TypeError, "where has dtype"),
        (lambda z: softly.cross_entropy(z, [0, 1], class_weight=["a"] * 3), TypeError, "class_weight has dtype"),
        (lambda z: softly.cross_entropy(z, np.array([0, 2**64 - 100], "u8")), ValueError, "label 18446744073709551516"),
        (lambda z: softly.fenchel_young_loss(z, [0, 1], alpha="a"), TypeError, "alpha must be a number"),
        (lambda z: softly.fenchel_young_loss(z, [0, 1], alpha=np.nan), ValueError, "alpha=nan"),
        (lambda z: softly.binary_cross_entropy(z, [0, 1]), ValueError, "target has shape"),
        (lambda z: softly.binary_cross_entropy(z, z > 0, pos_weight=[1.0, 2.0]), ValueError, "pos_weight has shape"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        call(np.zeros((2, 3)))
