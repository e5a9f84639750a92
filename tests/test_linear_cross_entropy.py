"""Linear cross-entropy in NumPy: against the whole scores in float64, in any chunks, at the edges, and its memory."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

import softly
from softly.losses import cross_entropy_and_gradient, linear_chunks

N, WIDTH, CLASSES = 37, 6, 23
INF, NAN = math.inf, math.nan
REDUCTIONS = ("mean", "sum", "none")


@pytest.fixture(params=["one chunk", "chunks of 16 rows", "a row at a time"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks and blocks of several sizes, none of which divides the rows or classes."""
    if request.param != "one chunk":
        rows, classes = (16, 5) if "16" in request.param else (1, 1)
        monkeypatch.setattr(linear_chunks, "SCORES_BYTES", rows * CLASSES * 8)
        monkeypatch.setattr(linear_chunks, "BLOCK_BYTES", classes * WIDTH * 8)


def arguments(seed: int = 0, dtype: Any = np.float64) -> dict[str, Any]:
    """Rows of which two are ignored."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, CLASSES, N)
    target[[3, N - 1]] = -100
    shapes = {"hidden": (N, WIDTH), "weight": (CLASSES, WIDTH), "bias": (CLASSES,)}
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()} | {"target": target}


def dense(
    hidden: Any, weight: Any, target: Any, bias: Any = None, temperature: Any = 1.0, class_weight: Any = None,
    label_smoothing: float = 0.0, reduction: str = "mean",
) -> tuple[Any, ...]:  # fmt: skip
    """The loss and its gradients by the formulas of the whole target matrix, in float64."""
    hidden, weight = hidden.astype(np.float64), weight.astype(np.float64)
    w = np.ones(len(weight)) if class_weight is None else class_weight
    t = np.broadcast_to(temperature, len(hidden))[:, None]
    log_p = log_softmax((hidden @ weight.T + (0.0 if bias is None else bias)) / t, axis=-1)
    counted = target != -100
    hot = np.zeros_like(log_p)
    hot[counted, target[counted]] = 1 - label_smoothing
    a = (hot + label_smoothing / len(weight)) * w * counted[:, None]
    losses = -(a * log_p).sum(-1)
    denominator = w[target[counted]].sum() if reduction == "mean" else 1.0
    g = (np.exp(log_p) * a.sum(-1, keepdims=True) - a) / t / denominator
    loss = losses if reduction == "none" else losses.sum() / denominator
    return loss, g @ weight, g.T @ hidden, g.sum(0)


# ---------------------------------------------------------------- values and gradients


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.usefixtures("chunks")
def test_value_and_gradients_are_those_of_the_whole_scores(reduction: Any) -> None:
    rng = np.random.default_rng(1)
    weights, temperatures = (None, rng.random(CLASSES)), (1.0, 0.7, rng.random(N) + 0.5)
    for seed, (w, t, smoothing, biased) in enumerate(itertools.product(weights, temperatures, (0.0, 0.1), (0, 1))):
        given = arguments(seed)
        if not biased:
            del given["bias"]
        options = {"class_weight": w, "temperature": t, "label_smoothing": smoothing, "reduction": reduction}
        truth = dense(**given, **options)
        found = softly.linear_cross_entropy_and_gradients(**given, **options)
        for x, y in zip(found, truth, strict=True):
            if x is not None:
                np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-14)
        assert (found.bias is None) == (not biased)
        assert np.array_equal(softly.linear_cross_entropy(**given, **options), found.loss)


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 2e-6), ("float16", 2e-3), ("bfloat16", 1.6e-2)])
@pytest.mark.usefixtures("chunks")
def test_narrow_dtypes_are_computed_in_float32_and_rounded_once(dtype: str, bound: float) -> None:
    kind = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    given = arguments(2, kind)
    found = softly.linear_cross_entropy_and_gradients(**given)
    for x, y in zip(found, dense(**given), strict=True):
        assert x.dtype == kind
        y = np.asarray(y)
        spacing = np.finfo(np.float16).smallest_subnormal if dtype == "float16" else 0.0
        assert np.abs(x.astype(np.float64) - y).max() <= bound / 2 * np.abs(y).max() + spacing


def test_integers_lists_layouts_and_batches() -> None:
    given = arguments(3)
    found = softly.linear_cross_entropy_and_gradients(**given)
    strided = given | {"weight": np.asfortranarray(given["weight"]), "hidden": given["hidden"][::-1][::-1]}
    for x, y in zip(softly.linear_cross_entropy_and_gradients(**strided), found, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-13)
    shaped = given | {
        "hidden": given["hidden"][:36].reshape(2, 18, WIDTH),
        "target": given["target"][:36].reshape(2, 18),
    }
    flat = given | {"hidden": given["hidden"][:36], "target": given["target"][:36]}
    losses = softly.linear_cross_entropy(**shaped, reduction="none")
    assert losses.shape == (2, 18)
    assert np.array_equal(losses.ravel(), softly.linear_cross_entropy(**flat, reduction="none"))
    assert softly.linear_cross_entropy_and_gradients(**shaped).hidden.shape == (2, 18, WIDTH)
    one = softly.linear_cross_entropy([1, 2], [[2, 0], [0, 1]], 1)
    assert isinstance(one, np.float64)
    assert one == pytest.approx(math.log(2), rel=1e-15)


def test_the_loss_keeps_its_digits_near_0_and_far_from_it() -> None:
    """-log p of a label whose p has rounded to 1 or to 0: log1p(exp(-gap)) and gap, and p - 1 in the gradient."""
    for gap, dtype in itertools.product((0.5, 10.0, 40.0, 500.0), (np.float32, np.float64)):
        weight = np.array([[0.0], [-gap]], dtype)
        hidden = np.ones((1, 1), dtype)
        for label, truth, slope in ((0, math.log1p(math.exp(-gap)), -1), (1, gap + math.log1p(math.exp(-gap)), 1)):
            found = softly.linear_cross_entropy_and_gradients(hidden, weight, [label], bias=np.zeros(2, dtype))
            assert found.loss == pytest.approx(truth, rel=4 * float(np.finfo(dtype).eps), abs=0)
            share = dtype(1 / (1 + math.exp(gap)) if label == 0 else 1 / (1 + math.exp(-gap)))
            np.testing.assert_allclose(found.bias[0] * slope, share, rtol=4 * np.finfo(dtype).eps)
            np.testing.assert_allclose(found.bias[0] + found.bias[1], 0, atol=2 * np.finfo(dtype).eps * share)


def test_long_sums_of_losses_are_added_in_float64() -> None:
    n = 2**17
    found = softly.linear_cross_entropy(np.zeros((n, 1), np.float32), np.zeros((10, 1), np.float32), np.arange(n) % 10)
    assert found == np.float32(math.log(10))


# ---------------------------------------------------------------- at the edges

ROWS = {
    "ordinary": [0.5, -1.0, 2.0, 0.0],
    "impossible classes": [0.5, -INF, 2.0, -INF],
    "nothing possible": [-INF] * 4,
    "one at inf": [0.0, INF, 1.0, -INF],
    "ties at inf": [INF, 0.0, INF, 1.0],
    "NaN": [0.0, NAN, 1.0, 2.0],
    "huge": [1e300, -1e300, 1e300, 0.0],
    "an offset": [1e8, 1e8 + 1, 1e8, 1e8 - 1],
    "far apart": [0.0, -800.0, 1.0, -1e6],
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_special_scores_are_as_in_cross_entropy(row: list[float]) -> None:
    """Scores given as a bias, whose gradient is theirs."""
    zeros, weights = (np.zeros((1, 1)), np.zeros((4, 1))), np.array([1.0, 0.0, 0.5, 2.0])
    every = itertools.product(range(4), (1.0, 0.5, 0.0, INF, 1e-30), (0.0, 0.2), (None, weights))
    for label, t, smoothing, w in every:
        if any(map(math.isnan, row)) and t in (0.0, INF):
            continue  # cross_entropy gives 0 for the gradient there, whatever the scores; of NaN here it is NaN
        options = {"temperature": t, "label_smoothing": smoothing, "class_weight": w, "reduction": "sum"}
        loss, gradient = cross_entropy_and_gradient([row], [label], **options)
        found = softly.linear_cross_entropy_and_gradients(*zeros, [label], bias=np.array(row), **options)
        np.testing.assert_allclose(found.loss, loss, rtol=1e-13, err_msg=str((label, options)))
        largest = np.nanmax(np.abs(gradient), initial=0.0)
        np.testing.assert_allclose(
            found.bias, gradient[0], rtol=1e-12, atol=1e-14 * largest, err_msg=str((label, options))
        )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_nothing_of_an_ignored_row_gets_anywhere(smoothing: float) -> None:
    given = arguments(4)
    clean = softly.linear_cross_entropy_and_gradients(**given, label_smoothing=smoothing)
    given["hidden"][3] = NAN
    given["hidden"][N - 1] = INF
    found = softly.linear_cross_entropy_and_gradients(**given, label_smoothing=smoothing)
    for x, y in zip(found, clean, strict=True):
        assert np.array_equal(x, y)
    assert not found.hidden[[3, N - 1]].any()


def test_all_ignored_empty_batch_one_class_no_width() -> None:
    given = arguments(5) | {"target": np.full(N, -100)}
    for rows in (N, 0):
        some = given | {name: given[name][:rows] for name in ("hidden", "target")}
        for reduction, expected in (("mean", NAN), ("sum", 0.0), ("none", np.zeros(rows))):
            found = softly.linear_cross_entropy_and_gradients(**some, reduction=reduction)
            assert np.array_equal(found.loss, expected, equal_nan=True)
            assert not any(g.any() for g in found[1:])
            assert found.hidden.shape == (rows, WIDTH)
    one = softly.linear_cross_entropy_and_gradients(given["hidden"], given["weight"][:1], np.zeros(N, int))
    assert math.copysign(1, one.loss) == 1
    assert one.loss == 0
    assert not one.hidden.any()
    assert not one.weight.any()
    flat = softly.linear_cross_entropy(np.zeros((2, 0)), np.zeros((5, 0)), [0, 4])
    assert flat == pytest.approx(math.log(5), rel=1e-15)


BAD = {
    "a label beyond": ({"target": [0, CLASSES]}, ValueError, f"label {CLASSES}"),
    "a negative label": ({"target": [0, -1]}, ValueError, "label -1"),
    "float labels": ({"target": [0.0, 1.0]}, ValueError, "target"),
    "too many labels": ({"target": [0, 1, 2]}, ValueError, "target"),
    "soft targets": ({"target": np.ones((2, CLASSES)) / CLASSES}, ValueError, "soft targets are as large"),
    "another width": ({"weight": np.zeros((CLASSES, WIDTH + 1))}, ValueError, r"hidden has shape \(2, 6\)"),
    "weights of one class": ({"weight": np.zeros(WIDTH)}, ValueError, r"weight \(6,\)"),
    "a number for hidden": ({"hidden": 1.0}, ValueError, "hidden"),
    "a short bias": ({"bias": np.zeros(2)}, ValueError, r"bias has shape \(2,\)"),
    "a temperature below 0": ({"temperature": -1.0}, ValueError, "temperature=-1"),
    "three temperatures": ({"temperature": np.ones(3)}, ValueError, "temperature has shape"),
    "a negative weight": ({"class_weight": -np.ones(CLASSES)}, ValueError, "class_weight"),
    "smoothing above 1": ({"label_smoothing": 1.5}, ValueError, "label_smoothing"),
    "an unknown reduction": ({"reduction": "max"}, ValueError, "reduction='max'"),
    "complex weights": ({"weight": np.zeros((CLASSES, WIDTH), complex)}, TypeError, "weight have dtype complex"),
    "text": ({"hidden": np.array([["a"] * WIDTH] * 2)}, TypeError, "hidden have dtype"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_named(case: str) -> None:
    wrong, error, match = BAD[case]
    given: dict[str, Any] = {"hidden": np.zeros((2, WIDTH)), "weight": np.zeros((CLASSES, WIDTH)), "target": [0, 1]}
    for function in (softly.linear_cross_entropy, softly.linear_cross_entropy_and_gradients):
        with pytest.raises(error, match=match):
            function(**given | wrong)


# ---------------------------------------------------------------- memory

# What a call takes beyond its arguments and gradients: VmHWM, set back by clear_refs, over VmRSS before.
MEASURE = """
import json, pathlib, sys
import numpy as np
import softly
def memory(name):
    status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
    return int(status[name].split()[0]) / 1024
backend, n, width, classes = sys.argv[1], *map(int, sys.argv[2:])
rng = np.random.default_rng(0)
hidden, weight = (rng.standard_normal((rows, width), np.float32) / width**0.5 for rows in (n, classes))
target = rng.integers(0, classes, n)
if backend == "torch":
    import torch
    hidden, weight, target = torch.from_numpy(hidden), torch.from_numpy(weight), torch.from_numpy(target)
    def call(hidden, weight, target):
        hidden, weight = hidden.detach().requires_grad_(), weight.detach().requires_grad_()
        (softly.linear_cross_entropy(hidden, weight, target) / 4).backward()
        return hidden.grad, weight.grad
else:
    call = softly.linear_cross_entropy_and_gradients
call(hidden[:20], weight[:50], target[:20] % 50)
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
found = call(hidden, weight, target)
print(json.dumps(memory("VmHWM") - before - 4 * (n + classes) * width / 2**20))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize(
    ("n", "width", "classes"), [(2048, 768, 32000), (2048, 32, 128256)], ids=["32000 classes", "128256 classes"]
)
def test_value_and_gradients_take_64_megabytes(backend: str, n: int, width: int, classes: int) -> None:
    """The scores alone would be 250 MB and a gigabyte."""
    if backend == "torch":
        pytest.importorskip("torch", exc_type=ImportError)
    command = [sys.executable, "-c", MEASURE, backend, *map(str, (n, width, classes))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 16 < json.loads(done.stdout) <= 64
