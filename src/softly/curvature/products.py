"""Products with the Jacobian of the map, and with the Hessian of its loss: no matrix is made unless asked for.

Of p = entmax(z / T) at any alpha, with q = p^(2 - alpha) on the support (alpha 1: q = p):

    J = dp/dz = (diag q - q q^T / sum q) / T,    J v = q (v - <q, v> / sum q) / T

symmetric, positive semi-definite, J 1 = 0. The loss (cross-entropy; Fenchel-Young at other alpha) has the gradient
(p - y) / T and hence the Hessian J / T, whatever the label. Source: Martins and Astudillo, 2016; Blondel et al., 2020.

Arguments are those of `softly.maps`. A vector is broadcast to the scores' shape; at entries without probability it
never matters, NaN included. T = 0 and T = inf give the limits: infinite among ties that the vector parts, else 0.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from softly._arrays import Array, Axis, as_array, beside, check_alpha, in_shape_of, quiet
from softly._errors import InputError
from softly._expressions.groups import shifted, temperature_of
from softly._rows import Rows, as_rows
from softly._targets import as_targets
from softly.maps import entmax


def jacobian_product(
    scores: Array,
    vector: Array,
    axis: Axis = -1,
    *,
    alpha: float = 1.0,
    temperature: Any = 1.0,
    where: Array | None = None,
) -> Array:
    """The change of the probabilities as the scores move along a vector: J v.

    J v = q (v - <q, v> / sum q) / T. J is symmetric: this is forward and reverse mode in one. Returns the scores'
    shape; arguments at the top of `softly.curvature.products`. The entries sum to 0, and those of a sole leader keep
    their digits after its probability rounds to 1.

    Raises what `entmax` does, and ValueError for alpha = inf, a step function, or a vector of another shape.

    >>> jacobian_product([0.0, 0.0], [1.0, -1.0])
    array([ 0.5, -0.5])
    """
    at = _weighted(scores, axis, alpha, temperature, where)
    with quiet(at.p):
        return at.rows.restore(_over_temperature(at, _bent(at, _entries(at, vector, "vector"))))


def jacobian(
    scores: Array, axis: int = -1, *, alpha: float = 1.0, temperature: Any = 1.0, where: Array | None = None
) -> Array:
    """The whole Jacobian, n x n for each row: J_ij = dp_i / dz_j = (q_i delta_ij - q_i q_j / sum q) / T.

    Returns (*shape without `axis`, n, n); other arguments and errors as `jacobian_product`.

    >>> jacobian([0.0, 0.0], temperature=0.5)
    array([[ 0.5, -0.5],
           [-0.5,  0.5]])
    """
    at = _weighted(scores, axis, alpha, temperature, where)
    xp, n = at.xp, at.p.shape[-1]
    with quiet(at.p):
        diagonal = beside(xp, np.eye(n, dtype=bool), "diagonal", at.p)
        products = xp.expand_dims(at.q, axis=-1) * xp.expand_dims(at.q / at.rows.total(at.q), axis=-2)
        apart = xp.where(diagonal, xp.zeros_like(products), products)
        # J 1 = 0, so that an entry of the diagonal is a sum without cancellation
        whole = xp.where(diagonal, xp.sum(apart, axis=-1, keepdims=True), 0 - apart)
        whole = _quotient(xp, whole, xp.expand_dims(temperature_of(at.rows) + 0 * at.p[..., :1], axis=-1))
        return xp.astype(whole, at.rows.dtype, copy=False)


def covariance(
    scores: Array,
    values: Array,
    other: Array | None = None,
    axis: Axis = -1,
    *,
    alpha: float = 1.0,
    temperature: Any = 1.0,
    where: Array | None = None,
) -> Array:
    """Covariance, under the probabilities, of two quantities that every entry has; of one, its variance.

    Cov(a, b) = sum_i p_i (a_i - <p, a>) (b_i - <p, b>) = T <a, J b> at alpha = 1. Returns the scores' shape without
    `axis`. values, other (default: values): broadcast to the scores' shape. Other arguments and errors as
    `jacobian_product`; T = 0 gives the covariance among ties.

    >>> float(covariance([0.0, 0.0], [1.0, 3.0]))
    1.0
    """
    at = _weighted(scores, axis, alpha, temperature, where, reduces=True)
    with quiet(at.p):
        first = _entries(at, values, "values")
        second = first if other is None else _entries(at, other, "other")
        first, second = (_about_mean(at, v) for v in (first, second))
        return _per_row(at, at.p * first * second)


def hessian_product(
    scores: Array,
    direction: Array,
    axis: Axis = -1,
    *,
    alpha: float = 1.0,
    temperature: Any = 1.0,
    where: Array | None = None,
) -> Array:
    """The Hessian of each row's cross-entropy in the scores times a direction: H v = J v / T, whatever the label.

    H is that of logsumexp(z / T) too; at other alpha, of the Fenchel-Young loss. It vanishes as a row becomes sure,
    right or wrong. Shapes, arguments and errors as `jacobian_product`.

    >>> hessian_product([0.0, 0.0], [1.0, -1.0], temperature=0.5)
    array([ 2., -2.])
    """
    at = _weighted(scores, axis, alpha, temperature, where)
    with quiet(at.p):
        product = _over_temperature(at, _bent(at, _entries(at, direction, "direction")))
        return at.rows.restore(_over_temperature(at, product))


def linear_hessian_product(
    hidden: Array,
    weight: Array,
    direction: Array,
    *,
    alpha: float = 1.0,
    temperature: float = 1.0,
    where: Array | None = None,
) -> Array:
    """The Hessian, in the weight of a linear layer, of the sum of cross-entropies, times a direction.

    scores = hidden @ weight.T; (H V) = sum over rows of H_row (V h) h^T, with H_row as in `hessian_product`.

    hidden: (rows, features). weight, direction: (classes, features); the result has their shape. Temporary memory is
    a few times (rows, classes). Divide by the rows for the Hessian of the mean. Errors as `jacobian_product`.

    >>> linear_hessian_product([[2.0]], [[0.0], [0.0]], [[1.0], [-1.0]])
    array([[ 2.],
           [-2.]])
    """
    xp, hidden = as_array(hidden, "hidden")
    weight, direction = beside(xp, weight, "weight", hidden), beside(xp, direction, "direction", hidden)
    shapes = [tuple(a.shape) for a in (hidden, weight, direction)]
    if [len(shape) for shape in shapes] != [2, 2, 2] or shapes[1] != shapes[2] or shapes[0][1] != shapes[1][1]:
        raise InputError(
            f"hidden, weight and direction have shapes {', '.join(map(str, shapes))}: pass (rows, features), "
            "(classes, features) and (classes, features)"
        )
    scores, moved = hidden @ weight.T, hidden @ direction.T
    return hessian_product(scores, moved, alpha=alpha, temperature=temperature, where=where).T @ hidden


def temperature_hessian(
    scores: Array,
    targets: Array,
    axis: int = -1,
    *,
    alpha: float = 1.0,
    temperature: Any = 1.0,
    where: Array | None = None,
) -> Array:
    """The second derivative of each row's cross-entropy in the temperature: <s, H s> / T^2 + 2 <p - y, s> / T^2.

    s = z / T and H = dp/ds = T J. In b = 1/T it is <z, H z>, the variance of the scores (`covariance(scores, scores)`)
    at any target and never negative; in T the target counts, and it may be negative.

    targets: class indices, one a row, or probabilities in the scores' shape. Returns the scores' shape without `axis`.
    Other arguments and errors as `jacobian_product`.

    >>> round(float(temperature_hessian([1.0, 0.0], 0)), 6)  # of log(1 + exp(-1 / T)) at T = 1
    -0.341271
    """
    at = _weighted(scores, axis, alpha, temperature, where, reduces=True)
    xp = at.xp
    if at.p.shape[-1] == 0:
        return _per_row(at, at.p)
    with quiet(at.p):
        y = as_targets(targets, at.rows)
        slope = at.p * at.rows.total(y) - y
        s, _ = shifted(at.rows)  # shifted scores do as well: slopes and bends ignore what is common to all
        finite = xp.where(at.q == 0, xp.zeros_like(s), s)
        pulled = xp.where(slope == 0, slope, slope * s)
        each = at.rows.total(y) * finite * _bent(at, finite) + 2 * pulled
        return _per_row(at, _over_temperature(at, _over_temperature(at, each)))


def fisher_information(
    scores: Array, direction: Array, axis: Axis = -1, *, temperature: Any = 1.0, where: Array | None = None
) -> Array:
    """The Fisher information that one draw from the softmax carries about a move of the scores along a direction.

    <v, F v> = Var_p(v) / T^2, with F = E[(y - p) (y - p)^T] / T^2 = J / T: the Hessian of the cross-entropy, so that
    F v is `hessian_product`. Along the scores themselves, divided by T^2, it is the information about T.

    Returns the scores' shape without `axis`; other arguments and errors as `jacobian_product`.

    >>> float(fisher_information([0.0, 0.0], [1.0, 0.0]))
    0.25
    """
    at = _weighted(scores, axis, 1.0, temperature, where, reduces=True)
    with quiet(at.p):
        v = _about_mean(at, _entries(at, direction, "direction"))
        root = _over_temperature(at, v)
        return _per_row(at, at.p * root * root)


class _Weighted(NamedTuple):
    """Rows with their probabilities p and the weights q of the Jacobian."""

    xp: ModuleType
    rows: Rows
    p: Array
    q: Array


def _weighted(
    scores: Array, axis: Axis, alpha: float, temperature: Any, where: Array | None, *, reduces: bool = False
) -> _Weighted:
    alpha = check_alpha(alpha, None)
    if alpha == math.inf:
        raise InputError("alpha=inf has no Jacobian, it is a step function: pass a finite alpha")
    with quiet(scores):
        rows = as_rows(scores, axis, temperature, where, "zero", None, reduces=reduces)
        p = entmax(rows.scores, alpha=alpha, temperature=rows.temperature)
        q = p if alpha == 1 else rows.xp.where(p == 0, p, rows.xp.where(p == 0, p + 1, p) ** (2 - alpha))
    return _Weighted(rows.xp, rows, p, q)


def _entries(at: _Weighted, values: Array, name: str) -> Array:
    """An argument in the rows' layout and dtype."""
    array = at.xp.astype(beside(at.xp, values, name, at.p), at.p.dtype, copy=False)
    return at.rows.arrange(in_shape_of(at.rows, at.xp, array, name))


def _about_mean(at: _Weighted, v: Array, weights: Array | None = None) -> Array:
    """v less its weighted mean (default: under p), 0 where there is no weight, whatever v is.

    First its entry at the leader is taken from all: the mean of what is left has the small weights' digits.
    """
    xp, weights = at.xp, at.p if weights is None else weights
    if weights.shape[-1] == 0:
        return v
    v = v - at.rows.total(xp.where(first_largest(xp, weights), v, xp.zeros_like(v)))
    mean = at.rows.total(xp.where(weights == 0, weights, weights * v)) / at.rows.total(weights)
    return xp.where(weights == 0, weights, v - mean)


def first_largest(xp: ModuleType, x: Array) -> Array:
    """True at the first of the largest entries of each row."""
    return xp.expand_dims(xp.argmax(x, axis=-1), axis=-1) == beside(xp, np.arange(x.shape[-1]), "places", x)


def _bent(at: _Weighted, v: Array) -> Array:
    """T J v = q (v - <q, v> / sum q)."""
    return at.q * _about_mean(at, v, at.q)


def _over_temperature(at: _Weighted, x: Array) -> Array:
    return _quotient(at.xp, x, temperature_of(at.rows))


def _quotient(xp: ModuleType, x: Array, t: Array) -> Array:
    """x / t, where 0 / 0 is 0: what does not move stays so in the limit."""
    return xp.where((x == 0) & (t >= 0), x, x / t)


def _per_row(at: _Weighted, x: Array) -> Array:
    return at.rows.restore(at.xp.sum(x, axis=-1))
