"""Newton's method for convex losses of many parameters: each step by conjugate gradients on Hessian products.

A Hessian that is a mean over rows is told well by a part of them. So steps may take theirs from a sample while value
and gradient are of all rows: the optimum is the same, its price is little more than that of the gradients. Source:
Byrd, Chin, Neveitt and Nocedal, 2011.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ARMIJO, _SMALLEST_STEP = 1e-4, 1e-10
_NOISE = 1e-14  # of a sum's value: smaller changes are lost in rounding
_SEEN = 1e-12  # of the value: a fall that must show in it
_LOOSE, _TIGHT = 0.2, 1e-3  # residuals, as a share of the gradient, that end conjugate gradients
_MOST_PRODUCTS = 200
_SLOW = 0.4  # a step that leaves more of the expected fall asks for a better Hessian


class Hessian(Protocol):
    """The second derivative at one place."""

    def product(self, direction: Floats) -> Floats:
        """H v."""

    def precondition(self, gradient: Floats) -> Floats:
        """Roughly H^-1 g."""


class Objective(Protocol):
    """A convex function of an array."""

    def at(self, parameters: Floats) -> tuple[float, Floats]:
        """Value and gradient."""

    def hessian(self, parameters: Floats) -> Hessian:
        """The Hessian there."""


@dataclass(frozen=True, slots=True)
class Minimum:
    """Where the method ended. expected_fall: half of <g, H^-1 g>, about the distance of the value from its minimum."""

    parameters: Floats
    value: float
    step: Floats  # the next Newton step, not taken
    expected_fall: float
    iterations: int
    converged: bool


def minimise(
    objective: Objective, start: Floats, *, tolerance: float, most: int, curvatures: tuple[Objective, ...] = ()
) -> Minimum:
    """Newton steps with a line search until the value is expected within `tolerance` of the minimum.

    curvatures: objectives whose Hessians stand for the objective's own, coarsest first; each serves while steps with
    it go well. Of NaN and infinity there is none in convex losses of finite scores, so none is looked for.
    """
    left, pairs = [*curvatures, objective], list[tuple[Floats, Floats]]()
    parameters, (value, gradient) = start, objective.at(start)
    fall, share = math.inf, _LOOSE
    for iteration in range(most + 1):
        step = _step(left[0].hessian(parameters), -gradient, pairs, share)
        slope = -float(np.vdot(gradient, step))
        shrunk, fall = slope / 2 / fall, slope / 2
        if len(left) > 1 and shrunk > _SLOW:
            left.pop(0)
            pairs.clear()
        if fall <= tolerance or iteration == most:
            break
        found = _search(objective, parameters, value, step, slope)
        if found is None:  # sums of this size show no more
            break
        if len(left) > 1:
            pairs.append((found[0] - parameters, found[2] - gradient))
        elif iteration:  # as the steps near the minimum faster, they deserve more products
            share = max(_TIGHT, min(_LOOSE, shrunk))
        parameters, value, gradient = found
    return Minimum(parameters, value, step, fall, iteration, fall <= max(tolerance, _SEEN * abs(value)))


def _step(hessian: Hessian, downhill: Floats, pairs: list[tuple[Floats, Floats]], share: float) -> Floats:
    """About H^-1 times the negative gradient, with H mended to agree with the pairs (step, change of gradient)."""
    if not pairs:
        return _solve(hessian, downhill, share)
    move, change = pairs[-1]
    size = float(np.vdot(move, change))
    factor = float(np.vdot(move, downhill)) / size
    inner = _step(hessian, downhill - factor * change, pairs[:-1], share)
    return inner + (factor - float(np.vdot(change, inner)) / size) * move


def _solve(hessian: Hessian, right: Floats, share: float) -> Floats:
    """About H^-1 times the right side, by preconditioned conjugate gradients."""
    step = np.zeros_like(right)
    residual = right.copy()
    scaled = hessian.precondition(residual)
    direction = scaled
    size = first = float(np.vdot(residual, scaled))
    for _ in range(_MOST_PRODUCTS):
        if not size > share * share * first:
            break
        product = hessian.product(direction)
        bend = float(np.vdot(direction, product))
        if not bend > np.finfo(float).tiny:  # flat along here: nothing to gain, or separable
            break
        step += size / bend * direction
        residual -= size / bend * product
        scaled = hessian.precondition(residual)
        before, size = size, float(np.vdot(residual, scaled))
        direction = scaled + size / before * direction
    return step


def _search(
    objective: Objective, parameters: Floats, value: float, step: Floats, slope: float
) -> tuple[Floats, float, Floats] | None:
    """The first of halved steps, the whole one before them, that lowers the value enough."""
    size = 1.0
    while size >= _SMALLEST_STEP:
        there = parameters + size * step
        found, gradient = objective.at(there)
        if found <= value - _ARMIJO * size * slope:
            return there, found, gradient
        # Where the fall is lost in rounding the slope still shows it.
        if found <= value + _NOISE * abs(value) and abs(np.vdot(gradient, step)) < 0.5 * slope:
            return there, found, gradient
        bend = 2 * (found - value + size * slope) / size**2
        size *= min(max(slope / bend / size if bend > 0 else 0.5, 0.1), 0.5)
    return None
