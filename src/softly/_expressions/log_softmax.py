"""log_softmax as an array expression."""

from __future__ import annotations

import math

from softly._arrays import Array
from softly._expressions.groups import Groups, fill_empty, log_of_sum, shifted


def log_softmax(groups: Groups) -> Array:
    """x - log sum exp(x)."""
    if groups.scores.shape[-1] == 0:
        return groups.scores
    x, _ = shifted(groups)
    return fill_empty(groups, x - log_of_sum(groups, x), -math.inf, -groups.xp.log(groups.size))
