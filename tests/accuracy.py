"""What accuracy is measured with: scores of every kind, the exact maps of scores/T in 80-bit arithmetic, and the unit.

The truth is itself held to mpmath (test_accuracy.py). Needs a long double of 64 bits, which `extended` asks for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import semantics

TEMPERATURES = (0.1, 0.3, 1.0, 1.7, 10.0)
ALPHAS = (1.01, 1.25, 1.5, 3.0)
OF_ONE = ("sparsemax", "entmax")  # whose errors are in ULPs of 1
Array = np.ndarray[Any, Any]
Pair = tuple[Array, Array]  # a number as the exact sum of a long double and a much smaller one

narrow = np.finfo(np.longdouble).nmant < 63
extended = pytest.mark.skipif(narrow, reason="long double is hardly wider than double here")


# ---------------------------------------------------------------- exact sums, products and quotients


def split(a: Array) -> Pair:
    """The upper and lower half of the bits of a long double (Veltkamp)."""
    c = a * (np.longdouble(2) ** ((np.finfo(np.longdouble).nmant + 2) // 2) + 1)
    high = c - (c - a)
    return high, a - high


def product_error(a: Array, b: Array) -> Array:
    """a*b - round(a*b), exactly (Dekker)."""
    (a1, a0), (b1, b0) = split(a), split(b)
    return ((a1 * b1 - a * b) + a1 * b0 + a0 * b1) + a0 * b0


def two_sum(a: Array, b: Array) -> Pair:
    """round(a + b), and what the rounding lost (Knuth)."""
    total = a + b
    v = total - a
    return total, (a - (total - v)) + (b - v)


def divide(a: Pair, t: np.longdouble) -> Pair:
    """A pair over a number."""
    quotient = a[0] / t
    return quotient, ((a[0] - quotient * t) - product_error(quotient, t) + a[1]) / t


def shifted(scores: Array, temperature: float) -> tuple[Pair, Array, np.longdouble]:
    """(scores - largest)/T, 0 where a score is -inf; the largest score; T."""
    z, t = scores.astype(np.float64).astype(np.longdouble), np.longdouble(temperature)
    largest = z.max(axis=-1, keepdims=True)
    return divide(two_sum(np.where(np.isfinite(z), z, largest), -largest), t), largest, t


# ---------------------------------------------------------------- the truth


def truths(scores: Array, temperature: float = 1.0) -> dict[str, Array]:
    """softmax, log_softmax and logsumexp over the last axis of finite or -inf scores, to about 0.01 ULP of float64."""
    (quotient, rest), largest, t = shifted(scores, temperature)
    possible, leader = np.isfinite(scores), scores.argmax(axis=-1)[..., None]
    powers = np.where(possible, np.exp(quotient) * (1 + rest), 0)
    others = powers.copy()
    np.put_along_axis(others, leader, 0, axis=-1)
    sum_of_others = others.sum(axis=-1, keepdims=True)
    potential = np.log1p(sum_of_others)
    return {
        "softmax": powers / (1 + sum_of_others),
        "log_softmax": np.where(possible, quotient + rest, -np.inf) - potential,
        "logsumexp": (largest / t + potential)[..., 0],
    }


def entmax(scores: Array, temperature: float = 1.0, alpha: float = 1.5) -> Array:
    """entmax over the last axis of finite or -inf scores, each probability to about 0.01 ULP of 1 in float64.

    With delta = alpha - 1 every p_j of the support is (y_j - y_a + w^delta)^(1/delta), where y = delta z/T and w = p_a
    is the probability of an anchor. Their sum is convex in w with the slope sum((p_j/w)^(1 - delta)), which is at least
    1 where the anchor is the leader (delta <= 1) or the last of the support (delta > 1): Newton's steps from above fall
    to the root, and an error of the sum changes no p by more than itself.
    """
    delta = np.longdouble(alpha) - 1
    order = np.argsort(-scores, axis=-1, kind="stable")
    z = np.take_along_axis(scores, order, axis=-1)
    (gap, rest), _, _ = shifted(z, temperature)
    near = np.isfinite(z) & ((gap + rest) * delta > -1)  # others are below any threshold
    z, near = z[..., : near.sum(axis=-1).max()], near[..., : near.sum(axis=-1).max()]
    anchor = np.zeros((*z.shape[:-1], 1), int)
    if delta > 1:
        anchor = _last_of_support(z, near, np.longdouble(temperature) / delta, 1 / delta)
        near &= np.arange(z.shape[-1]) <= anchor
    (gap, rest) = divide(_differences(z, near, anchor), np.longdouble(temperature))
    d = (gap + rest) * delta
    with np.errstate(all="ignore"):
        start = _fall(d.astype(np.float64), np.ones_like(d[..., :1], np.float64), float(delta), near)
    w = _fall(d, np.minimum(start.astype(d.dtype) * (1 + 1e-10), 1), delta, near)
    p, _ = _from_anchor(d, w, delta, near)
    found = np.zeros(scores.shape, np.longdouble)
    np.put_along_axis(found, order[..., : z.shape[-1]], np.where(p < 2.0**-62, 0, p), axis=-1)  # less is rounding
    return found


def _differences(z: Array, near: Array, anchor: Array) -> Pair:
    """z - z[anchor] where `near`, else 0, exactly."""
    wide = z.astype(np.float64).astype(np.longdouble)
    there = np.take_along_axis(wide, anchor, axis=-1)
    return two_sum(np.where(near, wide, there), -there)


def _last_of_support(z: Array, near: Array, scale: Any, power: Any) -> Array:
    """The last k, by bisection, of descending z with sum_j ((z_j - z_k)/scale)^power < 1 over the larger z_j."""
    first, last = np.zeros((*z.shape[:-1], 1), int), near.sum(axis=-1, keepdims=True) - 1
    while (first < last).any():
        middle = (first + last + 1) // 2
        gap, rest = divide(_differences(z, near & (np.arange(z.shape[-1]) < middle), middle), scale)
        fits = ((gap + rest) ** power).sum(axis=-1, keepdims=True) < 1
        first, last = np.where(fits, middle, first), np.where(fits, last, middle - 1)
    return first


def _fall(d: Array, w: Array, delta: Any, near: Array) -> Array:
    """The root by Newton's steps, as far as the dtype tells."""
    for _ in range(200):
        p, slopes = _from_anchor(d, w, delta, near)
        lower = w - (p.sum(axis=-1, keepdims=True) - 1) / slopes.sum(axis=-1, keepdims=True)
        if not (lower < w * (1 - np.finfo(w.dtype).eps)).any():
            break
        w = np.minimum(w, lower)
    return w


def _from_anchor(d: Array, w: Array, delta: Any, near: Array) -> Pair:
    """p = (d + w^delta)_+^(1/delta), w where d is 0; and its slope in w, (p/w)^(1 - delta)."""
    with np.errstate(all="ignore"):
        t = np.maximum(d * w**-delta, -1)
        ratio = np.exp(np.log1p(t) / delta)
        if np.isinf(t).any():  # w^delta is nothing beside d
            ratio = np.where(np.isinf(t), np.exp(np.log(np.abs(d)) / delta) / w, ratio)
        ratio = np.where(d == 0, 1, ratio)
        inside = near & (ratio > 0)
        return np.where(inside, w * ratio, 0), np.where(inside, ratio / (1 + np.where(d == 0, 0, t)), 0)


def sigmoids(scores: Array, temperature: float = 1.0) -> dict[str, Array]:
    """sigmoid and log_sigmoid of finite scores, to about 0.01 ULP of float64."""
    z, t = scores.astype(np.float64).astype(np.longdouble), np.longdouble(temperature)
    with np.errstate(all="ignore"):
        quotient, rest = divide((-np.abs(z), np.zeros_like(z)), t)
        e = np.exp(quotient) * (1 + rest)
        return {
            "sigmoid": np.where(z < 0, e, 1) / (1 + e),
            "log_sigmoid": np.where(z < 0, quotient + rest, 0) - np.log1p(e),
        }


# ---------------------------------------------------------------- errors


def errors(name: str, result: Array, truth: Array, z: Array, temperature: float = 1.0) -> Array:
    """Errors of an operation on scores z in its unit: ULPs of the result.

    For logsumexp of max(|result|, |largest score/T|), as the largest score is a part of it; for the sparse maps in
    float32 and float64 of 1, as their probabilities are differences of such.
    """
    if name in OF_ONE and result.dtype in (np.float32, np.float64):
        return np.abs(result.astype(np.longdouble) - truth) / np.finfo(result.dtype).eps
    if name != "logsumexp":
        return semantics.error(result, truth)
    with np.errstate(all="ignore"):
        largest = np.abs(z.max(axis=-1).astype(np.longdouble) / temperature)
    return semantics.error(result, truth, scale=largest)


# ---------------------------------------------------------------- scores


KINDS = (
    "N(0,1)", "N(0,10)", "N(0,100)", "1e30 offset", "-inf mixture", "leader", "subnormal results",
    "subnormal scores", "huge scores", "nearly equal", "cancelling", "all magnitudes",
)  # fmt: skip


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
    if kind == "all magnitudes":
        exponents = rng.uniform(np.log2(float(info.smallest_subnormal)), np.log2(float(info.max)), size=(rows, n))
        return (np.sign(normal) * 2.0**exponents).astype(dtype), (1.0, 1e-3)
    assert kind == "cancelling"
    return (normal - np.log(np.exp(normal).sum(axis=-1, keepdims=True))).astype(dtype), (1.0,)
