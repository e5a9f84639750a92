"""What the expressions share: the shift by the largest score, quotients by temperatures, what empty groups give.

`groups` is a `Rows` or a `Segments`: it holds the scores, the temperatures, and reductions within each group.
"""

from __future__ import annotations

import math
from typing import Any

from softly._arrays import Array, device
from softly._rows import Rows
from softly._segments import Segments

Groups = Rows | Segments


def temperature_of(groups: Groups) -> Array:
    """With the last axis of the scores, and in their dtype."""
    xp, t = groups.xp, groups.temperature
    if isinstance(t, float):
        return xp.asarray(t, dtype=groups.scores.dtype, device=device(groups.scores))
    return groups.spread(xp.astype(t, groups.scores.dtype, copy=False))


def quotient(groups: Groups) -> Array:
    """x = z / T: infinite scores stay so at every T, and 0 / 0 is 0."""
    xp, z, t = groups.xp, groups.scores, temperature_of(groups)
    finite = xp.where(xp.abs(z) == math.inf, xp.zeros_like(z), z)
    x = xp.where((finite == 0) & (t >= 0), finite, finite / t)  # a NaN temperature, unread, stays NaN
    return xp.where(xp.abs(z) == math.inf, z, x)


def shifted(groups: Groups) -> tuple[Array, Array]:
    """x = (z - max z) / T with every limit in place, and max z / T, both with a last axis.

    Groups whose largest score is +inf become 0 at those and -inf elsewhere, groups with nothing possible 0.
    """
    xp, z, t = groups.xp, groups.scores, temperature_of(groups)
    top = groups.largest(z)
    leader = xp.zeros_like(z) if isinstance(groups.temperature, float) else _nan_unless(xp, t >= 0, xp.zeros_like(z))
    x = xp.where(z == top, leader, gap(groups, z, top))
    quotient = xp.where(top == 0, xp.zeros_like(top), top / t)
    return x, xp.where(xp.abs(top) == math.inf, top, quotient)


def gap(groups: Groups, z: Array, pivot: Array) -> Array:
    """(z - pivot) / T; above T = 1 all are halved first, for a difference may overflow where the quotient does not."""
    if isinstance(groups.temperature, float) and groups.temperature == 1:
        return z - pivot
    xp, t = groups.xp, temperature_of(groups)
    scale = xp.where(t > 1, xp.full_like(t, 0.5), xp.ones_like(t))
    d = z * scale - pivot * scale
    gap = xp.where((d == 0) & (t >= 0), xp.zeros_like(d), d / (t * scale))  # a NaN temperature, unread, stays NaN
    return xp.where(d == -math.inf, d, gap)


def _nan_unless(xp: Any, condition: Array, x: Array) -> Array:
    return xp.where(condition, x, xp.full_like(x, math.nan))


def log_of_sum(groups: Groups, x: Array) -> Array:
    """log sum exp(x) where the largest entry is 0: the leaders are counted, the rest summed, log1p of both."""
    xp, leader = groups.xp, x == 0
    count = groups.total(xp.astype(leader, x.dtype))
    rest = groups.total(xp.where(leader, xp.zeros_like(x), xp.exp(x)))
    return xp.log1p(rest + (count - 1))


def fill_empty(groups: Groups, result: Array, zero: float, uniform: Array | float) -> Array:
    """What a group with nothing possible gives, as `empty` says.

    The result tells which groups hold a NaN: the largest score may be -inf beside one, as XLA's is in large arrays.
    """
    xp = groups.xp
    value = {"zero": zero, "raise": zero, "nan": math.nan, "uniform": uniform}[groups.empty]
    nothing = (groups.largest(groups.scores) == -math.inf) & ~xp.isnan(result)
    return xp.where(nothing, value + xp.zeros_like(result), result)
