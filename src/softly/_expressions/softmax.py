"""softmax as an array expression."""

from __future__ import annotations

import math

from softly._arrays import Array
from softly._expressions.groups import Groups, fill_empty, shifted


def softmax(groups: Groups) -> Array:
    """exp(x) / sum exp(x)."""
    if groups.scores.shape[-1] == 0:
        return groups.scores
    x, _ = shifted(groups)
    e = groups.xp.exp(x)  # 1 throughout where nothing is possible
    return e / fill_empty(groups, groups.total(e), math.inf, groups.size)
