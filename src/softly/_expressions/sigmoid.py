"""sigmoid as an array expression."""

from __future__ import annotations

from softly._arrays import Array
from softly._expressions.groups import Groups, quotient


def sigmoid(groups: Groups) -> Array:
    """1 / (1 + exp(-x)); below 0 exp(x) / (1 + exp(x)), which keeps every bit of a small result."""
    xp, x = groups.xp, quotient(groups)
    e = xp.exp(-xp.abs(x))
    return xp.where(x < 0, e, xp.ones_like(e)) / (1 + e)
