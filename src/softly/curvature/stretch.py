"""How far the softmax can stretch: the norm of its Jacobian, at given scores and over all of them.

J = (diag p - p p^T) / T. From l_a to l_b its largest stretch over all scores is 1/(2T) for a = b, any a >= 1, and 1/T
from l_inf to l_1; all are reached at a two-way tie. Source: arXiv 2510.23012 for all l_p.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from softly._arrays import Array, Axis, check_temperature, is_readable, quiet
from softly._errors import InputError
from softly._expressions.groups import temperature_of
from softly._records import Record
from softly._rows import Rows, as_rows
from softly.curvature.products import first_largest
from softly.maps import softmax

Norm = float | Literal["inf->1"]
_MOST_STEPS = 60  # of Newton's method, which takes about 6; and all of them where values cannot be read


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lipschitz(Record):
    """|softmax(a / T) - softmax(b / T)| <= constant |a - b|, and nothing smaller will do.

    At `scores` the Jacobian stretches `direction` by the constant: a = scores + h direction and b = scores - h
    direction come as close to equality as wanted when h -> 0. (T = 0: inf; T = inf: 0.)
    """

    norm: Norm
    temperature: Any
    constant: Any
    scores: tuple[float, float] = (0.0, 0.0)
    direction: tuple[float, float] = (1.0, -1.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sensitivity(Record):
    """The norm of the Jacobian at given scores, one a row, beside its bound over all scores; share = local / bound."""

    norm: Norm
    temperature: Any
    local: Any
    bound: Any
    share: Any


class SpectrumBounds(NamedTuple):
    """Bounds of the largest eigenvalue of the Jacobian, one a row."""

    lower: Array
    upper: Array


def lipschitz(temperature: Any = 1.0, norm: Norm = 2.0) -> Lipschitz:
    """The Lipschitz constant of the softmax in its scores: 1/(2T), from l_inf to l_1 1/T. Often quoted as 1/T.

    - temperature: a number >= 0, or an array of them; the constant has its shape.
    - norm: p >= 1 or inf, the same norm on scores and probabilities; "inf->1": the largest change of a score against
      the sum of the changes of probabilities, twice their total variation.

    ValueError for another norm or temperature.

    >>> lipschitz(temperature=0.5).constant
    1.0
    """
    width = 1.0 if _checked(norm) == "inf->1" else 0.5
    given = np.asarray(temperature, np.float64) if not isinstance(temperature, int | float) else temperature
    t = check_temperature(given, np, np.empty(0), np.shape(given), "entry")
    with np.errstate(divide="ignore"):
        constant = width / np.float64(t) if isinstance(t, float) else width / t
    return Lipschitz(norm=norm, temperature=t, constant=float(constant) if isinstance(t, float) else constant)


def sensitivity(
    scores: Array, axis: Axis = -1, *, temperature: Any = 1.0, norm: Norm = 2.0, where: Array | None = None
) -> Sensitivity:
    """The norm of the softmax's Jacobian at these scores, beside the bound that holds at all.

    As T falls it grows without bound where scores tie and vanishes elsewhere. Arguments as `softmax`, and

    - norm: 2, the largest eigenvalue; 1 or inf, max 2 p (1 - p) / T; "inf->1", max 4 A (1 - A) / T over the masses A
      of all sets of entries. The last is a partition problem: the value is the best set of the most probable ones,
      exact where one entry has half the mass, else too small by at most a share of p_max^2.

    The fields `local`, `bound` and `share` have the scores' shape without `axis`. ValueError for another norm.

    >>> sensitivity([0.0, 0.0], temperature=0.5).local, sensitivity([9.0, 0.0]).share.round(6)
    (np.float64(1.0), np.float64(0.000494))
    """
    if _checked(norm) not in (1, 2, math.inf, "inf->1"):
        raise InputError(
            f"norm={norm!r} has no local form here: pass 1, 2, inf or 'inf->1' (lipschitz bounds them all)"
        )
    rows, p = _probabilities(scores, axis, temperature, where)
    xp = rows.xp
    with quiet(p):
        if p.shape[-1] == 0:
            width = rows.each(p, 0.0)
        elif norm == 2:
            width = _largest_eigenvalue(rows, p)
        elif norm == "inf->1":
            mass = xp.cumulative_sum(-xp.sort(-p, axis=-1), axis=-1)
            width = xp.max(4 * mass * (1 - mass), axis=-1)
            width = xp.where(xp.max(p, axis=-1) >= 0.5, 4 * _spread(rows, p), width)
        else:
            width = 2 * _spread(rows, p)
        t = temperature_of(rows)
        t = t if isinstance(rows.temperature, float) else t[..., 0]
        local, bound = (_stretch(xp, x, t) for x in (width, xp.full_like(width, 1.0 if norm == "inf->1" else 0.5)))
        share = width / (1.0 if norm == "inf->1" else 0.5)
    local, bound, share = (rows.restore(x) for x in (local, bound, share))
    return Sensitivity(norm=norm, temperature=rows.temperature, local=local, bound=bound, share=share)


def spectrum_bounds(
    scores: Array, axis: Axis = -1, *, temperature: Any = 1.0, where: Array | None = None
) -> SpectrumBounds:
    """Bounds of the largest eigenvalue of the Jacobian: max p (1 - p) <= T lambda <= min(2 max p (1 - p), max p).

    They are within a factor of 2 of each other; `sensitivity` gives the eigenvalue. The smallest eigenvalue is 0, of
    the ones (`null_direction`). Arguments as `softmax`; returns (lower, upper), each of the scores' shape without
    `axis`.

    >>> spectrum_bounds([0.0, 0.0])
    SpectrumBounds(lower=np.float64(0.25), upper=np.float64(0.5))
    """
    rows, p = _probabilities(scores, axis, temperature, where)
    xp = rows.xp
    with quiet(p):
        spread = _spread(rows, p)
        upper = xp.minimum(2 * spread, xp.max(p, axis=-1)) if p.shape[-1] else spread
        t = temperature_of(rows)
        t = t if isinstance(rows.temperature, float) else t[..., 0]
        return SpectrumBounds(*(rows.restore(_stretch(xp, x, t)) for x in (spread, upper)))


def _checked(norm: Any) -> Norm:
    if norm == "inf->1":
        return "inf->1"
    if isinstance(norm, int | float) and not isinstance(norm, bool) and norm >= 1:
        return float(norm)
    raise InputError(f"norm={norm!r} is not a norm: pass a number >= 1, inf, or 'inf->1'")


def _probabilities(scores: Array, axis: Axis, temperature: Any, where: Array | None) -> tuple[Rows, Array]:
    rows = as_rows(scores, axis, temperature, where, "zero", None, reduces=True)
    return rows, softmax(rows.scores, temperature=rows.temperature)


def _stretch(xp: Any, width: Array, t: Array) -> Array:
    """width / T, where no width stays none in the limit."""
    return xp.where((width == 0) & (t >= 0), width, width / t)


def _rest(rows: Rows, p: Array) -> Array:
    """1 - max p, summed from the others: it keeps its digits after max p rounds to 1."""
    xp = rows.xp
    return rows.total(xp.where(first_largest(xp, p), xp.zeros_like(p), p))


def _spread(rows: Rows, p: Array) -> Array:
    """max p (1 - p), one a row. p (1 - p) increases up to 1/2, and 1 - p of the leader bounds p of the others."""
    if p.shape[-1] == 0:
        return rows.each(p, 0.0)
    return (rows.largest(p) * _rest(rows, p))[..., 0]


def _largest_eigenvalue(rows: Rows, p: Array) -> Array:
    """The largest eigenvalue of diag p - p p^T, one a row.

    The eigenvalues other than 0 solve sum p_i / (p_i - x) = 0; the largest lies between the two largest p. With
    psi(x) = sum_{i > 1} p_i / (x - p_i) that is f(x) = p_1 - x - p_1 / psi(x) = 0. 1/psi is concave, so f is convex,
    and falls: Newton's steps from the left of the root rise towards it. The start is the larger of the bounds
    p_1 (1 - p_1) (all other p_i set to 0 in psi) and 2 p_1 p_2 / (p_1 + p_2) (all but the second left out).
    """
    xp = rows.xp
    leader = first_largest(xp, p)
    others = xp.where(leader, xp.zeros_like(p), p)
    first, second = rows.largest(p), rows.largest(others)
    upper = xp.minimum(first, first * (rows.total(others) + second))  # all other p_i set to p_2
    x = xp.maximum(first * rows.total(others), 2 * first * (second / (first + second)))
    x = xp.where(first > 0, x, first)
    for _ in range(_MOST_STEPS):
        ratio = xp.where(others > 0, others / (x - others), others)
        psi = rows.total(ratio)
        slope = -1 - first * rows.total(ratio / (x - others)) / psi**2
        following = xp.minimum(x - (first - x - first / psi) / slope, upper)
        rises = following > x
        x = xp.where(rises, following, x)
        if is_readable(x) and not bool(xp.any(rises)):
            break
    return x[..., 0]
