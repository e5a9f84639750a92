"""The fused kernel of cross-entropy: its bounds, its bits over batches, threads and targets, what it must not touch."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import semantics

import softly
from softly import _kernels

core = _kernels.core
pytestmark = pytest.mark.skipif(core is None, reason="no compiled core")

COLUMNS = (1, 2, 10, 16, 17, 64, 100, 512, 513, 1000, 20000)
SPREADS = (1, 5, 30, 200, 5000)
HALVES = ("float16", "bfloat16")


def draw(columns, spread, dtype, seed=0):
    """Scores, labels (often the leader, one ignored) and a scale a row."""
    rng = np.random.default_rng(seed)
    rows = 37 if columns < 5000 else 3
    z = (rng.normal(size=(rows, columns)) * spread).astype(semantics.to_dtype(dtype))
    labels = rng.integers(0, columns, rows)
    labels[::2] = z.argmax(-1)[::2]
    labels[1] = -1
    return z, labels, rng.random(rows)


def losses_and_gradient(z, labels, temperature, scale, gradient=True):
    losses = np.empty(len(z), z.dtype if z.dtype == np.float64 else np.float32)
    out = np.empty_like(z) if gradient else None
    core.cross_entropy(z, labels, temperature, scale, losses, out)
    return losses, out


def truth(z, labels, temperature, scale):
    """In 80 bits, shifted before dividing; the entry of the label as minus the sum of the others."""
    x = z.astype(np.longdouble)
    x = (x - x.max(-1, keepdims=True)) / np.longdouble(temperature)
    every, e = np.arange(len(z)), np.exp(x)
    rest = e.copy()
    rest[every, x.argmax(-1)] = 0
    losses = np.where(labels < 0, 0, np.log1p(rest.sum(-1)) - x[every, labels])
    gradient = e / e.sum(-1, keepdims=True)
    gradient[every, labels] = 0
    gradient[every, labels] = -gradient.sum(-1)
    return losses, np.where(labels[:, None] < 0, 0, gradient * (scale / np.longdouble(temperature))[:, None])


def ulps(result, expected):
    limits = np.finfo(result.dtype)
    return float(np.max(np.abs(result - expected) / (limits.eps * np.maximum(np.abs(expected), limits.tiny))))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("columns", COLUMNS)
def test_within_the_bounds(columns, dtype):
    for spread in SPREADS:
        for temperature in (1.0, 0.7):
            z, labels, scale = draw(columns, spread, dtype)
            found = losses_and_gradient(z, labels, temperature, scale)
            expected = truth(z, labels, temperature, scale)
            for name, got, right in zip(("cross_entropy", "cross_entropy_gradient"), found, expected, strict=True):
                assert ulps(got, right) <= _kernels.BOUNDS[name], (name, spread, temperature)
            alone, _ = losses_and_gradient(z, labels, temperature, scale, gradient=False)
            assert ulps(alone, expected[0]) <= _kernels.BOUNDS["cross_entropy"], (spread, temperature)


def test_the_truth_can_fail():
    z, labels, scale = draw(10, 1, "float32")
    losses, gradient = losses_and_gradient(z, labels, 1.0, scale)
    right = truth(z, labels, 1.0, scale)
    assert ulps(losses * np.float32(1 + 1e-6), right[0]) > 3
    assert ulps(gradient * np.float32(1 + 1e-6), right[1]) > 3


def bits(dtype):
    """Every result of the draws, over ways of cutting the rows; they must agree."""
    found = hashlib.sha256()
    for columns in COLUMNS:
        for spread in SPREADS:
            for temperature in (1.0, 0.7):
                z, labels, scale = draw(columns, spread, dtype)
                whole = losses_and_gradient(z, labels, temperature, scale)
                for part in whole:
                    found.update(np.ascontiguousarray(part).tobytes())
                in_place = z.copy()
                losses = np.empty_like(whole[0])
                core.cross_entropy(in_place, labels, temperature, scale, losses, in_place)
                assert in_place.tobytes() == whole[1].tobytes()
                assert losses.tobytes() == whole[0].tobytes()
                each = [
                    losses_and_gradient(z[i : i + 1], labels[i : i + 1], np.full(1, temperature), scale[i : i + 1])
                    for i in range(len(z))
                ]
                for part, rows in zip(whole, zip(*each, strict=True), strict=True):
                    assert np.concatenate(rows).tobytes() == part.tobytes(), (columns, spread, temperature)
    return found.hexdigest()


@pytest.mark.parametrize("dtype", ["float32", "float64", *HALVES])
def test_same_bits_alone_in_place_and_with_a_temperature_a_row(dtype):
    bits(dtype)


def test_same_bits_on_every_target_with_fma_and_any_threads():
    code = "import test_cross_entropy_kernel as t; print(t.bits('float32'), t.bits('float64'))"
    with_fma = [target for target in semantics.targets() if target != "baseline"]
    found = {
        semantics.python("-c", code, target=target, threads=threads).stdout for target in with_fma for threads in (1, 2)
    }
    assert len(found) <= 1
    assert all(len(line.split()) == 2 for line in found)


def test_threads_cut_a_large_array_anywhere():
    rng = np.random.default_rng(3)
    z = rng.normal(size=(40000, 10)).astype(np.float32)
    labels = rng.integers(0, 10, len(z))
    losses, gradient = losses_and_gradient(z, labels, 1.0, 0.5)
    for begin, end in ((0, 5), (19990, 20020), (39999, 40000)):
        part = losses_and_gradient(z[begin:end], labels[begin:end], 1.0, 0.5)
        assert part[0].tobytes() == losses[begin:end].tobytes()
        assert part[1].tobytes() == gradient[begin:end].tobytes()


@pytest.mark.parametrize("dtype", HALVES)
def test_halves_are_rounded_once(dtype):
    for columns in (2, 10, 100, 600):
        z, labels, scale = draw(columns, 3, dtype)
        losses, gradient = losses_and_gradient(z, labels, 1.0, scale)
        wide_losses, wide = losses_and_gradient(z.astype(np.float32), labels, 1.0, scale)
        assert losses.dtype == np.float32
        assert losses.tobytes() == wide_losses.tobytes()
        assert gradient.tobytes() == wide.astype(z.dtype).tobytes()


@pytest.mark.parametrize("columns", [3, 40, 700])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_special_rows(columns, dtype):
    inf, nan = np.inf, np.nan
    rest = [-inf] * (columns - 3)
    rows = [
        ([0, nan, 1], 0, nan, None),
        ([0, nan, 1], -1, 0, [0, 0, 0]),
        ([-inf, -inf, -inf], 1, inf, [0, 0, 0]),
        ([inf, 0, inf], 0, np.log(2), [0, 0, 0]),
        ([inf, 0, 1], 1, inf, [0, 0, 0]),
        ([0, 0, -inf], 2, inf, [0.5, 0.5, 0]),
        ([1e30, 0, 1e30], 0, np.log(2), [-0.5, 0, 0.5]),
        ([0, -inf, -inf], 0, 0, [0, 0, 0]),
    ] * 3
    z = np.array([[*row, *rest] for row, *_ in rows], dtype)
    labels = np.array([label for _, label, *_ in rows])
    losses, gradient = losses_and_gradient(z, labels, 1.0, 1.0)
    np.testing.assert_allclose(losses, np.array([loss for _, _, loss, _ in rows], dtype), rtol=1e-6)
    for g, (_, _, _, expected) in zip(gradient, rows, strict=True):
        if expected is None:
            assert np.isnan(g[:3]).all()
        else:
            np.testing.assert_allclose(g, [*expected, *[0] * len(rest)], rtol=1e-6)
    for temperature, losses_at_limit in ((0.0, [0, np.inf]), (np.inf, [np.log(2)] * 2)):
        z = np.array([[2, 1, -inf, *rest]] * 2, dtype)
        losses, gradient = losses_and_gradient(z, np.array([0, 1]), temperature, 1.0)
        np.testing.assert_allclose(losses, np.array(losses_at_limit, dtype), rtol=1e-6)
        assert not gradient.any()


def test_nothing_beyond_the_arrays_is_written():
    for columns in (1, 3, 8, 15, 16, 17, 33, 600):
        for rows in (1, 2, 3, 7, 8, 9, 17):
            z = np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)
            guarded = np.full(rows * columns + 64, 7, np.float32)
            losses = np.full(rows + 64, 7, np.float32)
            out = guarded[32 : 32 + z.size].reshape(z.shape)
            core.cross_entropy(z, np.zeros(rows, np.int64), 1.0, 1.0, losses[32 : 32 + rows], out)
            for array, size in ((guarded, z.size), (losses, rows)):
                assert (array[:32] == 7).all()
                assert (array[32 + size :] == 7).all()


def test_what_does_not_fit_is_refused():
    z, y = np.zeros((3, 4), np.float32), np.zeros(3, np.int64)
    losses = np.zeros(3, np.float32)
    for arguments, match in (
        ((z, np.array([0, 4, 0]), 1.0, 1.0, losses, None), "labels"),
        ((z, np.array([0, -2, 0]), 1.0, 1.0, losses, None), "labels"),
        ((z, y[:2].copy(), 1.0, 1.0, losses, None), "labels"),
        ((z, y, np.ones(2), 1.0, losses, None), "temperature"),
        ((z, y, 1.0, np.ones(4), losses, None), "scale"),
        ((z, y, 1.0, 1.0, np.zeros(2, np.float32), None), "losses"),
        ((z, y, 1.0, 1.0, losses, np.zeros((3, 5), np.float32)), "gradient"),
    ):
        with pytest.raises(ValueError, match=match):
            core.cross_entropy(*arguments)
    for arguments in ((z[:, ::2], y, 1.0, 1.0, losses, None), (z, y.astype(np.int32), 1.0, 1.0, losses, None)):
        with pytest.raises(TypeError):
            core.cross_entropy(*arguments)


def counted(monkeypatch, dtype):
    """A list that grows with each call of the kernel: its scores and its gradient."""
    key, seen = ("cross_entropy", "cpu", np.dtype(dtype)), []
    kernel = _kernels.TABLE[key]
    monkeypatch.setitem(_kernels.TABLE, key, lambda *a: seen.append((a[0], a[-1])) or kernel(*a))
    return seen


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_losses_of_labels_take_it(monkeypatch, dtype):
    seen = counted(monkeypatch, dtype)
    z, labels, _ = draw(10, 1, dtype)
    softly.cross_entropy(z, labels, ignore_index=-1, class_weight=np.arange(10), where=z < 2)
    assert len(seen) == 1
    assert seen[0][1] is None
    loss, gradient = softly.cross_entropy_and_gradient(z, labels, ignore_index=-1, temperature=np.arange(1.0, 38))
    assert len(seen) == 2
    assert seen[1][1] is gradient
    hidden, weight = z[:, :3].copy(), z[:9, :3].copy()
    found = softly.linear_cross_entropy_and_gradients(hidden, weight, labels % 9)
    assert len(seen) == 3
    assert seen[2][0] is seen[2][1]
    assert np.isfinite(found.loss)
    assert np.isfinite(loss)
    softly.cross_entropy(z, labels, ignore_index=-1, label_smoothing=0.1)
    assert len(seen) == 3


def test_tensors_take_it_and_their_second_derivatives_do_not(monkeypatch):
    torch = pytest.importorskip("torch")
    seen = counted(monkeypatch, "float64")
    z, labels, _ = draw(10, 1, "float64")
    scores, target = torch.tensor(z, requires_grad=True), torch.tensor(labels)
    loss = softly.cross_entropy(scores, target, ignore_index=-1)
    loss.backward(retain_graph=True)
    first, scores.grad = scores.grad, None
    loss.backward()
    assert len(seen) == 1
    value, expected = softly.cross_entropy_and_gradient(z, labels, ignore_index=-1)
    assert loss.item() == value
    np.testing.assert_allclose(scores.grad, expected, rtol=1e-15)
    assert torch.equal(first, scores.grad)

    def losses(x):
        return softly.cross_entropy(x, target, ignore_index=-1, class_weight=torch.arange(10.0), reduction="none")

    assert torch.autograd.gradcheck(losses, scores)
    assert torch.autograd.gradgradcheck(losses, scores)
