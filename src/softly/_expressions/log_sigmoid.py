"""log_sigmoid as an array expression."""

from __future__ import annotations

from softly._arrays import Array
from softly._expressions.groups import Groups, quotient


def log_sigmoid(groups: Groups) -> Array:
    """min(x, 0) - log(1 + exp(-|x|))."""
    xp, x = groups.xp, quotient(groups)
    return xp.where(x > 0, xp.zeros_like(x), x) - xp.log1p(xp.exp(-xp.abs(x)))
