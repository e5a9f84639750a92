"""Errors in ULPs against the exact maps of scores/T: at most 2 in float32 and float64, rounded once below.

The truth comes from 80-bit arithmetic with an exact shift and an exact quotient, and is itself held to mpmath.
"""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
import semantics

import softly

LIMIT = 2.0
ROUNDED_ONCE = 0.51
SIZES = (3, 10, 33, 1000, 131072) if semantics.FORCED else (2, 3, 10, 16, 33, 64, 100, 257, 1000, 4096, 131072)
TEMPERATURES = (0.1, 0.3, 1.0, 1.7, 10.0)
Array = np.ndarray[Any, Any]

narrow = np.finfo(np.longdouble).nmant < 63
extended = pytest.mark.skipif(narrow, reason="long double is hardly wider than double here")


# ---------------------------------------------------------------- the truth


def split(a: Array) -> tuple[Array, Array]:
    """The upper and lower half of the bits of a long double (Veltkamp)."""
    c = a * (np.longdouble(2) ** ((np.finfo(np.longdouble).nmant + 2) // 2) + 1)
    high = c - (c - a)
    return high, a - high


def product_error(a: Array, b: Array) -> Array:
    """a*b - round(a*b), exactly (Dekker)."""
    (a1, a0), (b1, b0) = split(a), split(b)
    return ((a1 * b1 - a * b) + a1 * b0 + a0 * b1) + a0 * b0


def truths(scores: Array, temperature: float = 1.0, *, sparse: bool = False) -> dict[str, Array]:
    """Each map over the last axis of finite or -inf scores, to about 0.01 ULP of float64; sparsemax if asked."""
    z, t = scores.astype(np.float64).astype(np.longdouble), np.longdouble(temperature)
    possible, leader = np.isfinite(z), z.argmax(axis=-1, keepdims=True)
    largest = np.take_along_axis(z, leader, axis=-1)
    z = np.where(possible, z, largest)
    gap = z - largest
    v = gap - z
    gap_error = (z - (gap - v)) - (largest + v)  # TwoSum: gap + gap_error is the exact shift
    quotient = gap / t
    rest = ((gap - quotient * t) - product_error(quotient, t) + gap_error) / t
    shifted = np.where(possible, quotient + rest, -np.inf)
    powers = np.where(possible, np.exp(quotient) * (1 + rest), 0)
    others = powers.copy()
    np.put_along_axis(others, leader, 0, axis=-1)
    sum_of_others = others.sum(axis=-1, keepdims=True)
    potential = np.log1p(sum_of_others)
    found = {
        "softmax": powers / (1 + sum_of_others),
        "log_softmax": shifted - potential,
        "logsumexp": (largest / t + potential)[..., 0],
    }
    if sparse:
        ordered = -np.sort(-shifted, axis=-1)
        count = np.arange(1, z.shape[-1] + 1)
        total = np.cumsum(ordered, axis=-1)
        support = (1 + count * ordered > total).sum(axis=-1, keepdims=True)
        threshold = (np.take_along_axis(total, support - 1, axis=-1) - 1) / support
        probabilities = np.maximum(shifted - threshold, 0)
        found["sparsemax"] = np.where(probabilities < 2.0**-58, 0, probabilities)  # less is rounding
    return found


# ---------------------------------------------------------------- scores


def step(dtype: Any) -> float:
    """The spacing of the numbers of a dtype at 1e30."""
    return float(np.spacing(np.array(1e30, dtype)))


def scores(kind: str, dtype: Any, n: int, rng: np.random.Generator) -> tuple[Array, tuple[float, ...]]:
    """Rows of n scores of one kind, about 8,000 numbers, and the temperatures to try them at."""
    rows = max(2 if n < 100000 else 1, 8000 // n)
    normal, info = rng.normal(size=(rows, n)), np.finfo(dtype)
    if kind.startswith("N(0,"):
        return (normal * float(kind[4:-1])).astype(dtype), TEMPERATURES
    if kind == "1e30 offset":
        return (1e30 + step(dtype) * np.rint(4 * normal)).astype(dtype), (1.0, step(dtype), 0.3 * step(dtype))
    if kind == "-inf mixture":
        impossible = rng.random((rows, n)) < np.linspace(0.05, 0.95, rows)[:, None]
        impossible[:, rng.integers(n)] = False
        return np.where(impossible, -np.inf, 10 * normal).astype(dtype), (1.0, 0.7)
    if kind == "leader":
        gaps = np.linspace(0, 600, rows)[:, None] if rows > 1 else np.full((1, 1), 15.0)
        lower = -gaps - rng.random((rows, n))
        lower[np.arange(rows), rng.integers(n, size=rows)] = 0
        return lower.astype(dtype), (1.0, 1.7)
    if kind == "subnormal results":
        deepest = -np.log(float(info.smallest_subnormal))
        normal = -deepest + rng.random((rows, n)) * 0.2 * deepest
        normal[:, rng.integers(n)] = 0
        return normal.astype(dtype), (1.0,)
    if kind == "subnormal scores":
        scale = float(info.smallest_subnormal) * 2.0**6
        return (scale * normal).astype(dtype), (scale, scale * 0.75)
    if kind == "huge scores":
        scale = float(info.max) / 8
        return (scale * np.clip(normal, -8, 8) * 0.999).astype(dtype), (scale, 0.3 * scale, 1.0)
    if kind == "nearly equal":
        return (5 + 1e-3 * normal).astype(dtype), (1.0, 0.1)
    assert kind == "cancelling"
    return (normal - np.log(np.exp(normal).sum(axis=-1, keepdims=True))).astype(dtype), (1.0,)


KINDS = (
    "N(0,1)", "N(0,10)", "N(0,100)", "1e30 offset", "-inf mixture", "leader", "subnormal results",
    "subnormal scores", "huge scores", "nearly equal", "cancelling",
)  # fmt: skip


def errors(z: Array, temperature: float = 1.0, *, sparse: bool = False, axis: int = -1) -> dict[str, Array]:
    """Errors of each map in ULPs; of logsumexp in ULPs of max(|result|, |largest score/T|)."""
    with np.errstate(all="ignore"):
        exact = truths(z, temperature, sparse=sparse)
        largest = np.abs(z.max(axis=-1).astype(np.longdouble) / temperature)
    given, found = np.ascontiguousarray(np.moveaxis(z, -1, axis)), {}
    for name, truth in exact.items():
        result = np.asarray(getattr(softly, name)(given, axis, temperature=temperature))
        result = result if name == "logsumexp" else np.moveaxis(result, axis, -1)
        found[name] = semantics.error(result, truth, scale=largest if name == "logsumexp" else 0.0)
    return found


def beyond(limit: float, kind: str, dtype: Any, *, halves: bool = False) -> list[str]:
    """Which maps exceed a limit on scores of one kind, each with its worst place over sizes and temperatures."""
    worst: dict[str, tuple[float, str]] = {}
    for n in SIZES:
        z, temperatures = scores(kind, np.float32 if halves else dtype, n, np.random.default_rng([n, len(kind)]))
        for temperature in temperatures if n <= 4096 else temperatures[:1]:
            for name, ulps in errors(z.astype(dtype), temperature, sparse=halves).items():
                if not ulps.max() <= worst.get(name, (limit, ""))[0]:
                    place = tuple(int(i) for i in np.unravel_index(ulps.argmax(), ulps.shape))
                    worst[name] = (float(ulps.max()), f"{n} columns, T = {temperature}, at {place}")
    return [f"{name} {kind} {np.dtype(dtype)}: {ulps:.3g} ULP, {at}" for name, (ulps, at) in worst.items()]


# ---------------------------------------------------------------- tests


@extended
@pytest.mark.skipif(semantics.FORCED, reason="the truth does not depend on the target")
def test_truth_agrees_with_mpmath() -> None:
    """0.02 ULP of float64, a hundredth of what is asked of the maps."""
    for kind in KINDS:
        z, temperatures = scores(kind, np.float64, 10, np.random.default_rng(5))
        for row in z[:: max(1, len(z) // 3)][:3]:
            for temperature in temperatures[:3]:
                for name, computed in truths(row[None], temperature, sparse=True).items():
                    with mpmath.workdps(40):
                        check_row(semantics.exact(name, row, temperature), computed[0], name, row, temperature)


def check_row(exact: list[Any], computed: Array, name: str, row: Array, temperature: float) -> None:
    """One row of long doubles against mpf numbers."""
    scale = {"logsumexp": abs(float(row.max())) / temperature, "sparsemax": 1.0}.get(name, 0.0)
    for a, b in zip(exact, np.atleast_1d(computed), strict=True):
        if not mpmath.isfinite(a):
            assert np.isneginf(b)
            continue
        fraction, exponent = np.frexp(b)
        high = float(fraction)
        wide = mpmath.ldexp(mpmath.mpf(high) + float(fraction - np.longdouble(high)), int(exponent))
        unit = max(max(abs(float(a)), scale) * 2.0**-53, 5e-324)
        assert abs(wide - a) / unit < 0.02, (name, temperature, row)


@extended
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_two_ulp(dtype: Any, kind: str) -> None:
    assert beyond(LIMIT, kind, dtype) == []


@extended
@pytest.mark.parametrize("kind", ["N(0,1)", "N(0,10)", "-inf mixture", "leader", "nearly equal", "cancelling"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_rounded_once(dtype: str, kind: str) -> None:
    """Correctly rounded, ties aside: scores and results in half precision, everything between wider."""
    assert beyond(ROUNDED_ONCE, kind, semantics.to_dtype(dtype), halves=True) == []


@extended
@pytest.mark.parametrize("kind", ["N(0,1)", "N(0,10)", "1e30 offset", "-inf mixture", "nearly equal"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sparsemax(dtype: Any, kind: str) -> None:
    """Within 2 ULPs of 1."""
    for n in SIZES[:-1]:
        z, temperatures = scores(kind, dtype, n, np.random.default_rng(n))
        for temperature in temperatures[:3]:
            result = softly.sparsemax(z, temperature=temperature)
            off = np.abs(result.astype(np.longdouble) - truths(z, temperature, sparse=True)["sparsemax"])
            assert off.max() <= LIMIT * np.finfo(dtype).eps, (n, temperature, float(off.max()))
            assert (result >= 0).all()


@extended
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_other_axes_are_as_accurate(dtype: Any) -> None:
    z = (np.random.default_rng(0).normal(size=(70, 1000)) * 10).astype(dtype)
    for name, ulps in errors(z, axis=0).items():
        assert ulps.max() <= LIMIT, name


@extended
def test_this_ruler_can_fail() -> None:
    """The naive forms are too long for it."""
    z = np.random.default_rng(0).normal(size=(20, 1000)) * 10
    powers = np.exp(z - z.max(axis=-1, keepdims=True))
    naive = powers / powers.sum(axis=-1, keepdims=True)
    assert semantics.error(naive, truths(z)["softmax"]).max() > LIMIT
    pair = np.array([[0.0, -40.0]])
    naive = np.log(np.exp(pair) / np.exp(pair).sum())
    assert semantics.error(naive, truths(pair)["log_softmax"]).max() > 1e15


@pytest.mark.parametrize("target", semantics.other_targets())
def test_under_every_target(target: str) -> None:
    semantics.run_again(__file__, target)
