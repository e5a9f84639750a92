"""How far the leader is ahead, in units of the temperature, and what it needs for its share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softly._arrays import Array, Axis, plain_reals
from softly._errors import InputError
from softly._records import Record
from softly._rows import Rows, as_rows
from softly.maps import softmax

_MOST_STEPS = 100  # of Newton's method on a convex function, which takes about 6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EnergyGap(Record):
    """What `energy_gap` found, one entry a row; n is the number of possible entries.

    gap: from the largest score to the next, 0 at a tie. gap_over_temperature: gap / T. leader_share: the largest
    probability. competitors: how many entries at the next one's score would weigh as much as all others do, from 1 to
    n - 1. sufficient_gap: T ln((n - 1) s / (1 - s)), enough for the share s whatever the other scores are.
    share_temperature: the T at which the leader has the share exactly; below, it has more. inf: it has at any T. NaN:
    leaders tie, and share among them what no T gives to one.
    """

    share: float
    gap: Any
    gap_over_temperature: Any
    leader_share: Any
    competitors: Any
    sufficient_gap: Any
    share_temperature: Any


def energy_gap(
    scores: Array, axis: Axis = -1, *, temperature: Any = 1.0, share: float = 0.99, where: Array | None = None
) -> EnergyGap:
    """Whether the leader's score, or the ground state's energy, is far enough ahead for a share of the probability.

    p_1 = 1 / (1 + sum_j exp(-gap_j / T)) >= s holds if gap >= T ln((n - 1) s / (1 - s)): at s = .99 that is 4.6 T for
    two entries, 9.2 T for a hundred. For energies pass scores = -energies and temperature = kT.

    - share: s in (0, 1). Other arguments as `softmax`; the fields have the scores' shape without `axis`.

    ValueError for NaN or +inf scores, for rows with nothing possible, for T = 0 or inf, and for what `softmax` refuses.

    >>> told = energy_gap([5.0, 0.0, 0.0])
    >>> round(float(told.sufficient_gap), 3), round(float(told.share_temperature), 3), float(told.competitors)
    (5.288, 0.945, 2.0)
    """
    if not 0 < share < 1:
        raise InputError(f"share={share} is not a share: pass a number in (0, 1), such as 0.99")
    rows = as_rows(
        plain_reals(scores, "scores").astype(np.float64), axis, temperature, where, "raise", None, reduces=True
    )
    z, t = rows.scores, finite_temperatures(rows)
    if z.shape[-1] == 0 or np.isnan(z).any() or np.isposinf(z).any():
        raise InputError(
            "scores contain NaN or +inf, or a row has none: gaps need finite scores, or -inf if impossible"
        )
    leader = z.argmax(axis=-1)
    with np.errstate(all="ignore"):
        gaps = np.take_along_axis(z, leader[..., None], axis=-1) - z
        np.put_along_axis(gaps, leader[..., None], math.inf, axis=-1)
        gap, others = gaps.min(axis=-1), np.isfinite(z).sum(axis=-1) - 1
        relative = np.where(np.isfinite(gaps), gaps, math.inf) - np.where(np.isfinite(gap), gap, 0)[..., None]
        competitors = np.exp(-relative / t[..., None]).sum(axis=-1)
        sufficient = np.maximum(t * np.log(others * (share / (1 - share))), 0.0)
        found = {
            "gap": gap,
            "gap_over_temperature": gap / t,
            "leader_share": np.asarray(softmax(z, temperature=t)).max(axis=-1),
            "competitors": competitors,
            "sufficient_gap": sufficient,
            "share_temperature": _share_temperature(gaps, gap, others, share),
        }
    return EnergyGap(share=share, **{name: np.asarray(value)[()] for name, value in found.items()})


def finite_temperatures(rows: Rows) -> NDArray[np.float64]:
    """One a row; ValueError for 0 and inf."""
    t = np.broadcast_to(np.asarray(rows.temperature, np.float64), rows.scores.shape[:-1])
    if not ((t > 0) & (t < math.inf)).all():
        raise InputError("temperature is 0 or inf, where gaps have no scale: pass finite ones > 0")
    return t


def _share_temperature(
    gaps: NDArray[np.float64], gap: NDArray[np.float64], others: NDArray[np.intp], share: float
) -> NDArray[np.float64]:
    """T = 1/b with sum_j exp(-b gap_j) = (1 - s) / s: its logarithm is convex in b and falls.

    Newton's steps from the left rise to the root; there the others at the smallest gap alone weigh as much. In units
    of the smallest gap above 0, so that nothing overflows; ties for the lead weigh the same at every b.
    """
    above = np.where(gaps > 0, gaps, math.inf)
    unit = above.min(axis=-1)
    u = np.where(np.isfinite(above), above / unit[..., None], math.inf)
    ties = ((gaps == 0).sum(axis=-1)).astype(np.float64)
    room = (1 - share) / share - ties  # what the others may weigh
    target = np.log(room)
    b = np.maximum(-target, 0.0)
    for _ in range(_MOST_STEPS):
        weights = np.where(u < math.inf, np.exp(-b[..., None] * u), 0.0)
        total = weights.sum(axis=-1)
        slope = (weights * np.where(weights > 0, u, 0.0)).sum(axis=-1) / total
        following = b + (np.log(total) - target) / slope
        if not (following > b).any():
            break
        b = np.where(following > b, following, b)
    always = others <= (1 - share) / share  # even when all are alike
    return np.where(always, math.inf, np.where(room > 0, unit / b, math.nan))
