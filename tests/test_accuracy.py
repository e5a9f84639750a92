"""Errors in ULPs against the exact maps of scores/T: within the bounds that the core states, rounded once in halves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import accuracy
import mpmath
import numpy as np
import pytest
import semantics
from accuracy import ALPHAS, KINDS, Array, errors, extended, scores, sigmoids, truths

import softly
from softly._kernels import BOUNDS

ROUNDED_ONCE = 0.51
SIZES = (3, 10, 33, 1000, 131072) if semantics.FORCED else (2, 3, 10, 16, 33, 64, 100, 257, 1000, 4096, 131072)
FLOATS = [np.float32, np.float64]
HALVES = ["float16", "bfloat16"]
HALF_KINDS = ["N(0,1)", "N(0,10)", "-inf mixture", "leader", "nearly equal", "cancelling"]
Measure = Callable[[Array, float], dict[str, Array]]  # scores, temperature -> errors of each operation

bounded = pytest.mark.skipif(not BOUNDS, reason="no compiled core, which alone states bounds")


# ---------------------------------------------------------------- errors


def of_rows(z: Array, temperature: float = 1.0, *, axis: int = -1) -> dict[str, Array]:
    """Of softmax and its logarithms."""
    given, found = np.ascontiguousarray(np.moveaxis(z, -1, axis)), {}
    with np.errstate(all="ignore"):
        exact = truths(z, temperature)
    for name, truth in exact.items():
        result = np.asarray(getattr(softly, name)(given, axis, temperature=temperature))
        result = result if name == "logsumexp" else np.moveaxis(result, axis, -1)
        found[name] = errors(name, result, truth, z, temperature)
    return found


def of_sparse_maps(z: Array, temperature: float = 1.0) -> dict[str, Array]:
    """Of sparsemax and of entmax at several alphas."""
    if z.shape[-1] > 4096:
        return {}
    found = {}
    for alpha in (2.0, *ALPHAS):
        name = "sparsemax" if alpha == 2 else "entmax"
        options = {} if alpha == 2 else {"alpha": alpha}
        result = getattr(softly, name)(z, temperature=temperature, **options)
        assert (result >= 0).all(), alpha
        found[f"{name} at {alpha}"] = errors(name, result, accuracy.entmax(z, temperature, alpha), z)
    return found


def of_sigmoids(z: Array, temperature: float = 1.0) -> dict[str, Array]:
    """Of sigmoid and log_sigmoid, for the scores and their negatives."""
    z = z[np.isfinite(z)]
    z = np.concatenate([z, -z])
    return {
        name: errors(name, getattr(softly, name)(z, temperature=temperature), truth, z)
        for name, truth in sigmoids(z, temperature).items()
    }


MEASURES = (of_rows, of_sparse_maps, of_sigmoids)


def beyond(measure: Measure, kind: str, dtype: Any, limit: float | None = None) -> list[str]:
    """What exceeds the limit (default: the bound of its operation) on scores of one kind, each with its worst place."""
    worst: dict[str, tuple[float, str]] = {}
    half = dtype not in FLOATS
    for n in SIZES:
        z, temperatures = scores(kind, np.float32 if half else dtype, n, np.random.default_rng([n, len(kind)]))
        for temperature in temperatures if measure is of_rows and n <= 4096 else temperatures[:2]:
            for name, ulps in measure(z.astype(dtype), temperature).items():
                allowed = BOUNDS[name.split()[0]] if limit is None else limit
                if not ulps.max() <= worst.get(name, (allowed, ""))[0]:
                    place = tuple(int(i) for i in np.unravel_index(ulps.argmax(), ulps.shape))
                    worst[name] = (float(ulps.max()), f"{n} columns, T = {temperature}, at {place}")
    return [f"{name} {kind} {np.dtype(dtype)}: {ulps:.3g} ULP, {at}" for name, (ulps, at) in worst.items()]


# ---------------------------------------------------------------- the truth


@extended
@pytest.mark.skipif(semantics.FORCED, reason="the truth does not depend on the target")
@pytest.mark.parametrize("kind", KINDS)
def test_truth_agrees_with_mpmath(kind: str) -> None:
    """0.02 ULP of float64, a hundredth of what is asked of the maps."""
    z, temperatures = scores(kind, np.float64, 10, np.random.default_rng(5))
    for row in z[:: max(1, len(z) // 3)][:3]:
        for temperature in temperatures[:3]:
            with mpmath.workdps(40):
                for name, computed in truths(row[None], temperature).items():
                    scale = abs(float(row.max())) / temperature if name == "logsumexp" else 0.0
                    hold(computed[0], semantics.exact(name, row, temperature), scale, (name, temperature, row))
                for name, computed in sigmoids(row[np.isfinite(row)], temperature).items():
                    exact = semantics.exact(name, row[np.isfinite(row)], temperature)
                    hold(computed, exact, 0.0, (name, temperature, row))
                for alpha in (2.0, *ALPHAS):
                    computed = accuracy.entmax(row[None], temperature, alpha)[0]
                    exact = semantics.exact("entmax", row, temperature, alpha)
                    hold(computed, exact, 1.0, (alpha, temperature, row))


def hold(computed: Array, exact: list[Any], scale: float, case: Any) -> None:
    """Long doubles against mpf numbers, in ULPs of max(|number|, scale) in float64."""
    for a, b in zip(exact, np.atleast_1d(computed), strict=True):
        if not mpmath.isfinite(a):
            assert np.isneginf(b)
            continue
        fraction, exponent = np.frexp(b)
        high = float(fraction)
        wide = mpmath.ldexp(mpmath.mpf(high) + float(fraction - np.longdouble(high)), int(exponent))
        unit = max(mpmath.mpf(5e-324), max(abs(a), scale) * mpmath.mpf(2) ** -53)
        assert abs(wide - a) / unit < 0.02, case


# ---------------------------------------------------------------- the maps


@extended
@bounded
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("measure", MEASURES)
def test_within_the_bounds(measure: Measure, dtype: Any, kind: str) -> None:
    assert beyond(measure, kind, dtype) == []


@extended
@pytest.mark.parametrize("kind", HALF_KINDS)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("measure", MEASURES)
def test_halves_are_rounded_once(measure: Measure, dtype: str, kind: str) -> None:
    """Correctly rounded, ties aside: scores and results in half precision, everything between wider."""
    assert beyond(measure, kind, semantics.to_dtype(dtype), ROUNDED_ONCE) == []


@extended
@bounded
@pytest.mark.parametrize("dtype", FLOATS)
def test_other_axes_are_as_accurate(dtype: Any) -> None:
    z = (np.random.default_rng(0).normal(size=(70, 1000)) * 10).astype(dtype)
    for name, ulps in of_rows(z, axis=0).items():
        assert ulps.max() <= BOUNDS[name], name


@extended
@bounded
@pytest.mark.parametrize("alpha", [1.0000001, 1.001, 1.1, 1.7, 2.5, 5.0, 20.0, 1000.0])
@pytest.mark.parametrize("dtype", FLOATS)
def test_entmax_at_other_alphas(dtype: Any, alpha: float) -> None:
    for kind in ("N(0,1)", "-inf mixture", "nearly equal", "cancelling"):
        for n in (2, 10, 33, 1000):
            z, _ = scores(kind, dtype, n, np.random.default_rng(n))
            ulps = errors("entmax", softly.entmax(z, alpha=alpha), accuracy.entmax(z, 1.0, alpha), z)
            assert ulps.max() <= BOUNDS["entmax"], (kind, n, float(ulps.max()))


@bounded
def test_the_bounds_are_those_promised() -> None:
    operations = {"softmax", "log_softmax", "logsumexp", "sparsemax", "entmax", "sigmoid", "log_sigmoid"}
    assert set(BOUNDS) >= operations
    assert {name: BOUNDS[name] for name in operations - {"entmax"}} == dict.fromkeys(operations - {"entmax"}, 2.0)
    assert BOUNDS["entmax"] <= 4


@extended
def test_this_ruler_can_fail() -> None:
    """The naive forms are too long for it."""
    z = np.random.default_rng(0).normal(size=(20, 1000)) * 10
    powers = np.exp(z - z.max(axis=-1, keepdims=True))
    naive = powers / powers.sum(axis=-1, keepdims=True)
    assert semantics.error(naive, truths(z)["softmax"]).max() > 2
    pair = np.array([[0.0, -40.0]])
    naive = np.log(np.exp(pair) / np.exp(pair).sum())
    assert semantics.error(naive, truths(pair)["log_softmax"]).max() > 1e15
    naive = np.log(1 / (1 + np.exp(pair)))
    assert semantics.error(naive, sigmoids(-pair)["log_sigmoid"]).max() > 1e15
    z = np.sort(np.random.default_rng(1).normal(size=(20, 10)).astype(np.float32), axis=-1)[:, ::-1] / 2 + 100
    rank = np.arange(1, 11, dtype=np.float32)
    mean, square = np.cumsum(z, axis=-1) / rank, np.cumsum(z * z, axis=-1) / rank  # entmax15 without the shift
    tau = mean - np.sqrt(np.maximum((1 - rank * (square - mean**2)) / rank, 0))
    size = (tau <= z).sum(axis=-1, keepdims=True)
    naive = np.maximum(z - np.take_along_axis(tau, size - 1, axis=-1), 0) ** 2
    assert np.abs(naive - accuracy.entmax((2 * z).astype(np.float64))).max() > 4 * np.finfo(np.float32).eps


@pytest.mark.parametrize("target", semantics.other_targets())
def test_under_every_target(target: str) -> None:
    semantics.run_again(__file__, target)
