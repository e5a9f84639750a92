"""entmax as an array expression: thresholds, found by steps that need no sorting."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from softly._arrays import Array, device, is_readable, jax_of
from softly._expressions.groups import Groups, fill_empty, gap, shifted

_MOST_STEPS = 200  # of the search for a threshold: bisection alone needs about 60


def entmax(groups: Groups, alpha: float) -> Array:
    """[(alpha - 1) x + s]_+^(1 / (alpha - 1)) with the s in (0, 1] at which the entries sum to 1."""
    if groups.scores.shape[-1] == 0:
        return groups.scores
    x, _ = shifted(groups)
    if alpha == math.inf:
        p = leaders_at_any_temperature(groups, x)
    elif alpha == 2:
        p = _threshold(groups, x, power=1)
    elif alpha == 1.5:
        p = _threshold(groups, x / 2, power=2) ** 2
    elif alpha < 2:
        p, _ = ratio_to_leader(groups, x, log_leader(groups, x, alpha - 1), alpha - 1)
    else:
        p = entmax_by_last(groups, x, alpha - 1)
    return normalised(groups, x, p)


def normalised(groups: Groups, x: Array, p: Array) -> Array:
    """The probabilities in proportion to p, NaN in groups where x is, with groups filled where nothing is possible."""
    p = groups.xp.where(groups.xp.isnan(x), x, p)
    p = p / groups.largest(p)  # first, so that k ties and no others get 1/k to the bit
    return fill_empty(groups, p / groups.total(p), 0.0, 1 / groups.size)


def _threshold(groups: Groups, x: Array, power: int) -> Array:
    """u = [x + s]_+ with sum u^power = 1, for power 1 (sparsemax) or 2 (entmax at 1.5).

    The power-norm of u is convex in s and at least 1 at s = 1: Newton's steps on it fall towards the root and do not
    pass it, and once no more entries leave the support they are the closed form's.
    """
    xp = groups.xp

    def newton(s: Array) -> tuple[tuple[Array], Array]:
        if power == 1:  # the closed form for the support so far, all of whose terms have one sign
            inside = x > -s
            count = groups.total(xp.astype(inside, x.dtype))
            lower = (1 - groups.total(xp.where(inside, x, xp.zeros_like(x)))) / count
        else:
            u = xp.maximum(x + s, xp.zeros_like(x))
            square = groups.total(u * u)
            lower = s - (square - xp.sqrt(square)) / groups.total(u)
        moves = lower < s
        return (xp.where(moves, lower, s),), moves

    (s,) = _until_still(groups, newton, xp.ones_like(groups.largest(x)))
    return xp.maximum(x + s, xp.zeros_like(x))


def leaders_at_any_temperature(groups: Groups, x: Array) -> Array:
    """1 for the largest scores, at T = inf for all possible ones; a finite T may be infinite in the scores' dtype."""
    xp, t, z = groups.xp, groups.temperature, _scores_of_limit(groups)
    flat = xp.asarray(t == math.inf, device=device(x)) if isinstance(t, float) else groups.spread(t == math.inf)
    return xp.astype(xp.where(flat, x == 0, z == groups.largest(z)), x.dtype)


def _scores_of_limit(groups: Groups) -> Array:
    """The scores, but where +inf is among them: 0 for each +inf and -inf for all others."""
    xp, z = groups.xp, groups.scores
    ties = xp.where(z == math.inf, xp.zeros_like(z), xp.full_like(z, -math.inf))
    return xp.where(groups.largest(z) == math.inf, ties, z)


def log_leader(groups: Groups, x: Array, delta: Any) -> Array:
    """The logarithm m of the leader's probability at alpha = 1 + delta: s = exp(delta m).

    p = exp(m) q with q = [1 + delta x / s]^(1/delta), which is exp(x) at delta = 0: continuous. m solves
    m + log sum q = 0, whose left side has the slope r = sum(q / y) / sum q >= 1 with y = q^delta. For delta <= 1 the
    Newton steps, taken on exp(delta (m + log sum q)), convex in s, do not pass the root; beyond, bisection guards.
    """
    xp = groups.xp
    high = xp.zeros_like(groups.largest(x))
    low = -xp.log(groups.total(xp.astype(x > -math.inf, x.dtype)))
    small = float(xp.finfo(x.dtype).eps)

    def guarded_newton(m: Array, low: Array, high: Array, last_step: Array) -> tuple[tuple[Array, ...], Array]:
        q, y = ratio_to_leader(groups, x, m, delta)
        total = groups.total(q)
        slope = groups.total(xp.where(y > 0, q / y, xp.zeros_like(q))) / total
        excess = m + xp.log(total)
        high, low = xp.where(excess >= 0, m, high), xp.where(excess <= 0, m, low)
        newton = m + xp.log1p(xp.expm1(-delta * excess) / slope) / delta
        slow = (xp.abs(newton - m) > last_step / 2) & (delta > 1)
        following = xp.where((newton >= low) & (newton <= high) & ~slow, newton, (low + high) / 2)
        last_step = xp.abs(following - m)
        return (following, low, high, last_step), last_step > small * xp.abs(m)

    return _until_still(groups, guarded_newton, high, low, high, xp.full_like(high, math.inf))[0]


def ratio_to_leader(groups: Groups, x: Array, m: Array, delta: Any) -> tuple[Array, Array]:
    """q = p / exp(m) and y = q^delta = [1 + delta x exp(-delta m)]_+."""
    xp = groups.xp
    w = delta * x * xp.minimum(xp.exp(-delta * m), xp.full_like(m, 1e30))
    y = xp.maximum(1 + w, xp.zeros_like(w))
    return xp.where(y > 0, xp.exp(xp.log1p(xp.where(y > 0, w, xp.zeros_like(w))) / delta), xp.zeros_like(y)), y


def entmax_by_last(groups: Groups, x: Array, delta: Any) -> Array:
    """entmax at alpha = 1 + delta > 2, by the last probability t of the support, that of the score z_r.

    p = (t^delta + delta (z - z_r) / T)^(1/delta). The power 1/delta < 1 is steep at 0: through s small probabilities
    would lose most digits, while none changes faster than t. The sum is convex in t; t <= 1/k for k in the support.
    """
    xp, z = groups.xp, _scores_of_limit(groups)
    unit, nought = xp.ones_like(x), xp.zeros_like(x)
    near = 1 + 16 * float(xp.finfo(x.dtype).eps)
    support = (x == 0) | (delta * x > -near * xp.exp(delta * log_leader(groups, x, delta)))

    def above_last(support: Array) -> tuple[Array, Array]:
        """The support without its last scores, and (p^delta - t^delta) there."""
        last = -groups.largest(xp.where(support, -z, -math.inf * unit))
        above = support & (z > last)
        return above, xp.where(above, delta * gap(groups, z, last), nought)

    def shrink(support: Array) -> tuple[tuple[Array], Array]:
        above, base = above_last(support)
        outside = groups.total(xp.where(above, base ** (1 / delta), nought)) >= 1
        return (xp.where(outside, above, support),), outside

    (support,) = _until_still(groups, shrink, support)
    above, base = above_last(support)

    def probabilities(t: Array) -> Array:
        return xp.where(above, (t**delta + base) ** (1 / delta), xp.where(support, t * unit, nought))

    def newton(t: Array) -> tuple[tuple[Array], Array]:
        p = probabilities(t)
        slope = groups.total(xp.where(support, (t / xp.where(support, p, unit)) ** (delta - 1), nought))
        step = (groups.total(p) - 1) / slope
        lower = xp.where(step > 0, t - step, t)
        return (lower,), lower < t

    return probabilities(*_until_still(groups, newton, 1 / groups.total(xp.where(support, unit, nought))))


def _until_still(groups: Groups, step: Callable[..., tuple[tuple[Array, ...], Array]], *state: Array) -> Any:
    """The state after so many steps that none moves; a step returns the next state and where it moved."""
    if (jax := jax_of(*state)) is not None:
        return jax.until_still(step, state, _MOST_STEPS)
    for _ in range(_MOST_STEPS):
        state, moves = step(*state)
        if is_readable(moves) and not bool(groups.xp.any(moves)):
            break
    return state
