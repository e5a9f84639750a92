"""logsumexp as an array expression."""

from __future__ import annotations

import math

from softly._arrays import Array
from softly._expressions.groups import Groups, fill_empty, log_of_sum, shifted


def logsumexp(groups: Groups) -> Array:
    """max z/T + log sum exp(x), one a group."""
    nothing = math.nan if groups.empty == "nan" else -math.inf
    if groups.scores.shape[-1] == 0:
        return groups.each(groups.scores, nothing)
    x, top = shifted(groups)
    potential = fill_empty(groups, top + log_of_sum(groups, x), -math.inf, -math.inf)
    return groups.each(potential, nothing)
