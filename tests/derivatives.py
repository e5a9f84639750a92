"""Derivatives in mpmath, and the loss that is differentiated most."""

from __future__ import annotations

import mpmath
import numpy as np

STEP = 2.0**-30


def differences(function, at):
    """Columns d function / d at_j in mpmath, by central differences."""
    columns = []
    with mpmath.workdps(50):
        for j in range(len(at)):
            sides = []
            for step in (STEP, -STEP):
                moved = list(at)
                moved[j] += step
                sides.append(function(moved))
            columns.append([float((a - b) / (2 * STEP)) for a, b in zip(*sides, strict=True)])
    return np.array(columns).T


def cross_entropy(scores, target, temperature):
    """-sum t log softmax(z / T) in mpmath, which asks for more digits where it differentiates."""
    with mpmath.workdps(max(50, mpmath.mp.dps)):
        s = [mpmath.mpf(z) / temperature for z in scores]
        potential = mpmath.log(mpmath.fsum(map(mpmath.exp, s)))
        return mpmath.fsum(float(t) * (potential - v) for t, v in zip(target, s, strict=True))
