"""The truth in mpmath: every function from its definition, on exact fractions, independent of the code tested.

Each takes the working precision from the caller (`mpmath.workdps(40)`) and returns mpf numbers.
"""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np


def exact(name: str, row: Any, temperature: float = 1.0, alpha: float = 1.5) -> list[Any]:
    """One row of scores < inf, not all -inf, at 0 < T < inf; of sigmoids any row without NaN and +inf."""
    z = [to_fraction(v) if np.isfinite(v) else None for v in row]
    t = to_fraction(temperature)
    if name in ("sigmoid", "log_sigmoid"):
        logarithms = [mpmath.mpf("-inf") if v is None else -log1p_exp(to_mpf(-v / t)) for v in z]
        return logarithms if name == "log_sigmoid" else [mpmath.exp(v) for v in logarithms]
    most = max(v for v in z if v is not None)
    shifted = tuple(None if v is None else (v - most) / t for v in z)
    if name == "sparsemax":
        return sparsemax(shifted)
    if name == "entmax" and alpha > 1:
        return entmax(shifted, to_fraction(alpha) - 1)
    powers = [mpmath.mpf(0) if s is None or s < -20000 else mpmath.exp(to_mpf(s)) for s in shifted]
    leader = shifted.index(Fraction(0))
    rest = mpmath.fsum(powers[:leader] + powers[leader + 1 :])
    if name in ("softmax", "entmax"):
        return [p / (1 + rest) for p in powers]
    potential = mpmath.log1p(rest)
    if name == "logsumexp":
        return [to_mpf(most / t) + potential]
    return [mpmath.mpf("-inf") if s is None else to_mpf(s) - potential for s in shifted]


def sparsemax(shifted: tuple[Fraction | None, ...]) -> list[Any]:
    """[s - tau]_+ with tau = (sum of the k largest - 1) / k, in exact fractions."""
    total = threshold = Fraction(0)
    for k, s in enumerate(sorted((s for s in shifted if s is not None), reverse=True), 1):
        total += s
        if 1 + k * s > total:
            threshold = (total - 1) / k
    return [mpmath.mpf(0) if s is None else to_mpf(max(Fraction(0), s - threshold)) for s in shifted]


@functools.cache
def entmax(shifted: tuple[Fraction | None, ...], slope: Fraction) -> list[Any]:
    """[slope s - tau]_+ ** (1 / slope) with slope = alpha - 1, where the sum is 1: the root by bisection.

    -tau is written as q ** slope, so that q is the probability of the leader, whose s is 0: it lies in [1/n, 1], and
    the sum grows with it.
    """
    digits = mpmath.mp.dps
    with mpmath.extradps(30):
        d = to_mpf(slope)
        x = [None if s is None else d * to_mpf(s) for s in shifted]

        def probabilities(q: Any) -> list[Any]:
            threshold = q**d
            return [(v + threshold) ** (1 / d) if v is not None and v > -threshold else mpmath.mpf(0) for v in x]

        low, high = mpmath.mpf(1) / len(x), mpmath.mpf(1)
        for _ in range(4 * digits):
            middle = (low + high) / 2
            low, high = (low, middle) if mpmath.fsum(probabilities(middle)) >= 1 else (middle, high)
        return probabilities(high)


def signed_sum(row: Any, temperature: float, weights: Any) -> tuple[Any, Any]:
    """log |S| and the sign of S (for complex scores its phase) for S = sum w exp(z/T); 0 has the sign 0."""
    t, total = to_mpf(to_fraction(temperature)), mpmath.mpc(0)
    for z, w in zip(row, weights, strict=True):
        if w != 0 and np.real(z) != -np.inf:
            power = mpmath.exp(mpmath.mpc(float(np.real(z)), float(np.imag(z))) / t)
            total += to_mpf(to_fraction(w)) * power
    if not np.iscomplexobj(row):
        total = total.real
    if total == 0:
        return mpmath.mpf("-inf"), mpmath.mpf(0)
    return mpmath.log(abs(total)), total / abs(total)


def fenchel_young(row: Any, target: Any, temperature: float = 1.0, alpha: float = 1.5) -> Any:
    """<p, z/T> + H(p) - <t, z/T> - H(t) of finite scores and a target that sums to 1, from the definition."""
    p = exact("softmax" if alpha == 1 else "entmax", row, temperature, alpha)
    a = to_mpf(to_fraction(alpha))
    entropies = [
        mpmath.fsum((x - x**a) / (a * (a - 1)) if a != 1 else -x * mpmath.log(x) for x in share if x > 0)
        for share in (p, [mpmath.mpf(t) for t in target])
    ]
    heights = [to_mpf(to_fraction(z) / to_fraction(temperature)) for z in row]
    moved = mpmath.fsum((x - t) * h for x, t, h in zip(p, target, heights, strict=True))
    return moved + entropies[0] - entropies[1]


def fitted_temperature(scores: Any, labels: Any, weights: Any = None) -> tuple[Any, Any]:
    """The root T of sum w (<z, p> - z_y) by bisection in log(1/T), and its standard error from the information in 1/T.

    The search starts from brackets around the scale of the scores and asks nothing of the code tested.
    """
    weights = [1] * len(labels) if weights is None else weights
    rows = [
        ([mpmath.mpf(float(v) - float(max(row))) for v in row if v > -np.inf], mpmath.mpf(float(row[y] - max(row))), w)
        for row, y, w in zip(np.asarray(scores, np.float64), labels, weights, strict=True)
        if w
    ]

    def slopes(b: Any) -> tuple[Any, Any]:
        """Gradient and curvature of the negative log-likelihood in b = 1/T."""
        gradient = curvature = mpmath.mpf(0)
        for row, label, weight in rows:
            powers = [mpmath.exp(b * d) for d in row]
            total = mpmath.fsum(powers)
            mean = mpmath.fdot(powers, row) / total
            gradient += weight * (mean - label)
            curvature += weight * mpmath.fdot(powers, [(d - mean) ** 2 for d in row]) / total
        return gradient, curvature

    scale = max(abs(d) for row, _, _ in rows for d in row)
    low, high = -10 - mpmath.log(scale), 10 - mpmath.log(scale)
    assert slopes(mpmath.exp(low))[0] < 0 < slopes(mpmath.exp(high))[0]
    for _ in range(4 * mpmath.mp.dps):
        middle = (low + high) / 2
        low, high = (middle, high) if slopes(mpmath.exp(middle))[0] < 0 else (low, middle)
    b = mpmath.exp(low)
    return 1 / b, 1 / (b * b * mpmath.sqrt(slopes(b)[1]))


def log1p_exp(x: Any) -> Any:
    """log(1 + exp(x)) for any size of x."""
    return x + mpmath.log1p(mpmath.exp(-x)) if x > 0 else mpmath.log1p(mpmath.exp(x))


def to_fraction(value: Any) -> Fraction:
    """The number that a float is."""
    return Fraction(float(value))


def to_mpf(value: Fraction) -> Any:
    """A fraction as mpf, rounded once in the working precision."""
    return mpmath.mpf(value.numerator) / value.denominator
