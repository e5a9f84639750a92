"""Kernel regression: values in 80 bits, attention's bits, the limits far away, bits over targets, bad input, memory."""

from __future__ import annotations

import hashlib
import itertools
import math
from typing import Any

import numpy as np
import pytest
import semantics

import softly
from softly import _kernels, regression

INF, NAN = math.inf, math.nan


def draw(points: int, queries: int, width: int, dtype: Any = np.float64, outputs: tuple[int, ...] = ()) -> list[Any]:
    rng = np.random.default_rng(points + width)
    x, query = rng.normal(size=(points, width)), rng.normal(size=(queries, width)) * 1.5
    return [a.astype(dtype) for a in (x, rng.normal(size=(points, *outputs)), query)]


def truth(x: Any, y: Any, query: Any, bandwidth: Any) -> Any:
    x, y, query = (a.astype(np.longdouble) for a in (x, y, query))
    u = (query[:, None, :] - x[None]) / np.asarray(bandwidth, np.longdouble)
    score = -(u * u).sum(-1) / 2
    weights = np.exp(score - score.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    return np.tensordot(weights, y, 1)


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-14), (np.float32, 2e-5)])
def test_the_mean_is_that_of_80_bits(dtype: Any, bound: float) -> None:
    for points, queries, width in ((1, 1, 1), (7, 3, 2), (128, 65, 1), (129, 64, 3), (700, 200, 8)):
        for outputs, bandwidth in itertools.product(((), (3,), (2, 2)), (0.4, np.linspace(0.3, 1.0, width))):
            x, y, query = draw(points, queries, width, dtype, outputs)
            found = softly.kernel_regression(x, y, query, bandwidth)
            assert found.dtype == dtype
            assert found.shape == (queries, *outputs)
            np.testing.assert_allclose(found, truth(x, y, query, bandwidth), rtol=0, atol=bound)


def test_the_expression_agrees_with_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, query = draw(300, 90, 3)
    problems = [regression.prepare(x, y, at, 0.5, None) for at in (query, x)]
    with_core = [regression.gaussian_averages(p, leave_out=p.query is p.x) for p in problems]
    of_points = regression.gaussian_averages(problems[1], leave_out=True)
    monkeypatch.setattr(_kernels, "core", None)
    without = [regression.gaussian_averages(p, leave_out=p.query is p.x) for p in problems]
    for mine, theirs in zip(with_core, without, strict=True):
        np.testing.assert_allclose(mine.mean, theirs.mean, rtol=1e-12)
        np.testing.assert_allclose(mine.sharing, theirs.sharing, rtol=1e-12)
    for i in (0, 64, 299):
        others = np.arange(300) != i
        alone = truth(x[others], y[others], x[i : i + 1], 0.5)
        np.testing.assert_allclose(of_points.mean[i, 0], alone[0], rtol=1e-12)


def test_exponential_dot_has_the_bits_of_attention() -> None:
    for dtype in (np.float32, np.float64):
        x, y, query = draw(300, 70, 5, dtype, (4,))
        found = softly.kernel_regression(x, y, query, kernel="exponential_dot")
        assert found.tobytes() == softly.attention(query, x, y).tobytes()
        with_bandwidth = softly.kernel_regression(x, y, query, 5**0.25, "exponential_dot")
        np.testing.assert_allclose(with_bandwidth, found, rtol=0, atol=1e-5 if dtype == np.float32 else 1e-13)


def test_keys_of_one_length_make_the_gaussian_dot_products() -> None:
    """h^2 = sqrt(d): exp(-|q - k|^2 / 2 h^2) is exp(<q, k> / sqrt(d)) times what is the same for all keys."""
    x, y, query = draw(200, 50, 4)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(
        softly.kernel_regression(x, y, query, 4**0.25), softly.attention(query, x, y[:, None])[:, 0], atol=1e-13
    )


def test_a_function_as_kernel() -> None:
    x, y, query = draw(300, 70, 2)
    found = softly.kernel_regression(x, y, query, 0.5, lambda q, x: -0.5 * ((q[:, None] - x[None]) ** 2).sum(-1))
    np.testing.assert_allclose(found, softly.kernel_regression(x, y, query, 0.5), rtol=1e-12, atol=1e-13)

    def window(q: Any, x: Any) -> Any:
        return np.where(np.abs(q[:, None] - x[None]).max(-1) < 1, 0.0, -INF)

    far = np.array([[9.0, 9.0]])
    assert softly.kernel_regression(x, y, far, 0.5, window) == 0
    assert np.isnan(softly.kernel_regression(x, y, far, 0.5, window, empty="nan"))
    np.testing.assert_allclose(softly.kernel_regression(x, y, far, 0.5, window, empty="uniform"), y.mean())
    with pytest.raises(ValueError, match=r"kernel returned shape \(300,\) for 70 queries and 300 points"):
        softly.kernel_regression(x, y, query, 0.5, lambda q, x: x[:, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_away_the_nearest_share(dtype: Any) -> None:
    x = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.5, 2.0]], dtype)
    y = np.array([1.0, 2.0, 4.0, 8.0], dtype)
    largest = float(np.finfo(dtype).max)
    for distance in (1e3, 1e15, largest / 4, largest):
        far = np.array([[distance, 0.0], [-distance, 0.0], [0.0, distance]], dtype)
        np.testing.assert_array_equal(softly.kernel_regression(x, y, far, 1e-3), [3.0, 1.0, 8.0])
    tiny = softly.kernel_regression(x, y, x, float(np.finfo(dtype).tiny))
    np.testing.assert_array_equal(tiny, [1.0, 3.0, 3.0, 8.0])
    np.testing.assert_allclose(softly.kernel_regression(x, y, x, 1e30), np.full(4, y.mean()), rtol=1e-6)
    for wrong in (NAN, INF):
        assert np.isnan(softly.kernel_regression(x, y, np.array([[wrong, 0.0]], dtype), 1.0)).all()


def test_what_does_not_count_never_leaks() -> None:
    x, y, query = draw(300, 40, 2)
    where = np.random.default_rng(0).random(300) < 0.5
    right = softly.kernel_regression(x[where], y[where], query, 0.5)
    for poison in (NAN, INF):
        dirty = np.where(where[:, None], x, poison), np.where(where, y, poison)
        for kernel in ("gaussian", "exponential_dot"):
            found = softly.kernel_regression(*dirty, query, 0.5, kernel, where=where)
            assert np.array_equal(found, softly.kernel_regression(x[where], y[where], query, 0.5, kernel))
    assert np.array_equal(softly.kernel_regression(*dirty, query, 0.5, where=where), right)
    assert not softly.kernel_regression(x, y, query, 0.5, where=np.zeros(300, bool)).any()


def test_progress_is_told_and_memory_is_bounded() -> None:
    x, y, query = draw(1 << 20, 600, 1, np.float32)
    seen: list[tuple[int, int]] = []
    found = softly.kernel_regression(x, y, query, 0.5, progress=lambda done, total: seen.append((done, total)))
    assert len(seen) > 1
    assert [total for _, total in seen] == [600] * len(seen)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (600, 600)
    np.testing.assert_allclose(found[:3], truth(x, y, query[:3], 0.5), atol=2e-5)


def test_torch_and_jax() -> None:
    x, y, query = draw(50, 20, 3, outputs=(2,))
    right = softly.kernel_regression(x, y, query, 0.7)
    torch = pytest.importorskip("torch", exc_type=ImportError)
    tensors = [torch.from_numpy(a) for a in (x, y, query)]
    found = softly.kernel_regression(*tensors, 0.7)
    assert np.array_equal(found.numpy(), right)
    for tensor in tensors:
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(lambda *a: softly.kernel_regression(*a, 0.7), tensors)
    learned = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match="to learn it divide x and query by it and pass 1"):
        softly.kernel_regression(*tensors, learned)
    assert torch.autograd.gradcheck(
        lambda h: softly.kernel_regression(tensors[0] / h, tensors[1], tensors[2] / h, 1.0), [learned]
    )
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        arrays = [jax.numpy.asarray(a) for a in (x, y, query)]
        np.testing.assert_allclose(softly.kernel_regression(*arrays, 0.7), right, rtol=1e-12)


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a negative bandwidth": ({"bandwidth": -1.0}, ValueError, "bandwidth=-1.0 is no bandwidth: it must be above 0"),
    "no bandwidth": ({"bandwidth": 0.0}, ValueError, "bandwidth=0.0"),
    "a bandwidth of NaN": ({"bandwidth": NAN}, ValueError, "bandwidth=nan"),
    "a word": ({"bandwidth": "wide"}, ValueError, "bandwidth=wide is no number: pass one above 0"),
    "none given": ({"bandwidth": None}, ValueError, "bandwidth=None is for the kernel 'exponential_dot'"),
    "three bandwidths": ({"bandwidth": np.ones(3)}, ValueError, r"bandwidth has shape \(3,\)"),
    "no data": ({"x": np.ones((0, 2)), "y": np.ones(0)}, ValueError, "x has no points"),
    "a short y": ({"y": np.ones(3)}, ValueError, r"y has shape \(3,\): pass one for each of the 4 points"),
    "another width": ({"query": np.ones((5, 3))}, ValueError, r"x has shape \(4, 2\) and query \(5, 3\)"),
    "an unknown kernel": ({"kernel": "box"}, ValueError, "kernel='box' is unknown"),
    "a short mask": ({"where": np.ones(3, bool)}, ValueError, "pass a boolean for each point"),
    "an unknown empty": ({"empty": "none"}, ValueError, "empty='none'"),
    "text": ({"x": np.array([["a", "b"]] * 4)}, TypeError, "x have dtype"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_named(case: str) -> None:
    wrong, error, match = BAD[case]
    given = {"x": np.ones((4, 2)), "y": np.ones(4), "query": np.ones((5, 2)), "bandwidth": 1.0}
    with pytest.raises(error, match=match):
        softly.kernel_regression(**given | wrong)


def test_the_core_refuses_what_would_be_unsafe() -> None:
    if _kernels.core is None:
        pytest.skip("no compiled core")
    core, x, y = _kernels.core, np.ones((4, 2)), np.ones((4, 1))
    for rate, out in ((np.ones(1), np.ones((4, 1))), (np.ones(2), np.ones((3, 1)))):
        with pytest.raises(ValueError):  # noqa: PT011
            core.kernel_regression(x, x, y, rate, False, out, np.ones(4), np.ones(4))


def bits(dtype: str) -> str:
    found = hashlib.sha256()
    for points, queries, width, outputs in ((1, 5, 1, 1), (500, 100, 1, 1), (400, 90, 8, 2), (130, 65, 3, 1)):
        x, y, query = draw(points, queries, width, dtype, (outputs,))
        for bandwidth in (0.3, 5.0, np.linspace(0.2, 3, width)):
            averages = regression.gaussian_averages(regression.prepare(x, y, query * 3, bandwidth, None))
            own = regression.gaussian_averages(regression.prepare(x, y, x, bandwidth, None), leave_out=points > 1)
            for part in (averages.mean, averages.sharing, own.mean, own.sharing):
                found.update(part.tobytes())
    return found.hexdigest()


@pytest.mark.skipif(_kernels.core is None, reason="no compiled core")
def test_same_bits_on_every_target_with_fma_and_any_threads() -> None:
    code = "import test_kernel_regression as t; print(t.bits('float32'), t.bits('float64'))"
    with_fma = [target for target in semantics.targets() if target != "baseline"]
    found = {
        semantics.python("-c", code, target=target, threads=threads).stdout for target in with_fma for threads in (1, 2)
    }
    assert len(found) <= 1
    assert all(len(line.split()) == 2 for line in found)
