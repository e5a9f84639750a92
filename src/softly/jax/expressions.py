"""What XLA computes where no kernel does: the maps, at an alpha that is traced too, and products with Jacobians.

`groups` holds, of a product, what the map gave in place of the scores (of sigmoids the scores), and temperatures at
which the derivative is taken, infinite where it is 0.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softly import _expressions
from softly._arrays import Array
from softly._expressions.entmax import (
    entmax_by_last,
    leaders_at_any_temperature,
    log_leader,
    normalised,
    ratio_to_leader,
)
from softly._expressions.groups import Groups, shifted, temperature_of

_LEAST_DELTA = 1e-25  # alpha = 1 is computed as 1 + this: log1p(delta x) / delta is x in every bit


_MORE_THAN_HALF = -0.69  # of log p: two that share alike stay below it, however their logarithms are rounded
_SERIES = [1 / (math.factorial(k) * (k + 2)) for k in range(20)]  # beyond: less than an ULP for |u| <= 1


def evaluate(operation: str, groups: Groups, delta: Any, alpha: float | None, *others: Array) -> Array:
    """A map, or the product of `others` with its Jacobian, at alpha = 1 + delta; alpha is given if it is known.

    `constant_rows` takes for delta what the map gives where there is no share, and for `others` what it gave.
    """
    if operation in _DERIVATIVES:
        return _DERIVATIVES[operation](groups, delta, alpha, *others)
    if operation != "entmax":
        return getattr(_expressions, operation)(groups)
    return _entmax(groups, delta) if alpha is None else _expressions.entmax(groups, alpha)


def inverse(t: Array) -> Array:
    """1 / T, and 0 at the limits of T, where no score has an effect."""
    usual = (t >= np.finfo(t.dtype).tiny) & (t < math.inf)
    return jnp.where(usual, 1 / jnp.where(usual, t, 1), 0)


def _entmax(groups: Groups, delta: Any) -> Array:
    """entmax at an alpha = 1 + delta that is not known while tracing: NaN below 1."""
    if groups.scores.shape[-1] == 0:
        return groups.scores
    delta = _spread(groups, delta)
    x, _ = shifted(groups)
    below, above = jnp.clip(delta, _LEAST_DELTA, 1.0), jnp.clip(delta, 1.0, np.finfo(x.dtype).max)

    def of_leader() -> Array:
        return ratio_to_leader(groups, x, log_leader(groups, x, below), below)[0]

    def of_last() -> Array:
        return entmax_by_last(groups, x, above)

    p = jnp.where(delta > 1, of_last(), of_leader()) if delta.ndim else jax.lax.cond(delta > 1, of_last, of_leader)
    p = jnp.where(delta == math.inf, leaders_at_any_temperature(groups, x), p)
    return normalised(groups, x, jnp.where(delta >= 0, p, math.nan))


def _spread(groups: Groups, delta: Any) -> Array:
    """One number for all, or one a row with a last axis."""
    delta = jnp.asarray(delta, groups.scores.dtype)
    return groups.spread(delta) if delta.ndim else delta


# ---------------------------------------------------------------- derivatives


def _jacobian_product(groups: Groups, delta: Any, alpha: float | None, v: Array) -> Array:
    """J v / T.

    Adding a constant to v changes nothing: subtracted is the v of an entry with more than half of the share, if there
    is one. So <share, v> has no large term, and the leader's change, minus the sum of the others', keeps its digits.
    """
    p = groups.scores
    if alpha == math.inf:  # constant almost everywhere
        return jnp.zeros_like(p)
    q = share = p
    if alpha != 1:
        q = weights(p, _spread(groups, delta))
        total = groups.total(q)
        share = q / jnp.where(total == 0, 1, total)
    v = jnp.where(q == 0, 0, v)
    v = v - groups.total(jnp.where(share > 0.5, v, 0))
    product = jnp.where(q == 0, 0, q * (v - groups.total(share * v)))
    return jnp.where(jnp.isnan(p), p, _over_temperature(groups, product))


def weights(p: Array, delta: Array) -> Array:
    """q = p^(1 - delta) on the support."""
    inside = jnp.where(p == 0, 1, p)
    return jnp.where(p == 0, 0, jnp.where(jnp.isnan(p), p, inside ** (1 - jnp.where(delta < math.inf, delta, 1.0))))


def slope_in_alpha(p: Array, delta: Array) -> Array:
    """d ((p^delta - 1) / delta) / d delta on the support.

    It is log(p)^2 f(delta log p) with f(u) = (1 + (u - 1) e^u) / u^2 = sum_k u^k / (k! (k + 2)), 1/2 at alpha = 1.
    """
    logs = jnp.log(jnp.where(p == 0, 1, p))
    u = jnp.where(delta < math.inf, delta, 1.0) * logs
    near, far = jnp.where(u > -1, u, 0), jnp.where(u > -1, -1, u)
    series = jnp.polyval(jnp.asarray(_SERIES[::-1], u.dtype), near)
    return logs**2 * jnp.where(u > -1, series, (1 + (far - 1) * jnp.exp(far)) / far**2)


def _log_jacobian_product(groups: Groups, delta: Any, alpha: float | None, v: Array) -> Array:
    """(v - p sum v) / T, the transposed Jacobian of log_softmax, without cancelling where p is almost 1."""
    log_p, total = groups.scores, groups.total(v)
    leads = log_p > _MORE_THAN_HALF
    others = groups.total(jnp.where(leads, 0, v))
    product = jnp.where(leads, -others - jnp.expm1(log_p) * total, v - jnp.exp(log_p) * total)
    product = _over_temperature(groups, jnp.where(log_p == -math.inf, 0, product))
    return jnp.where(jnp.isnan(log_p), log_p, product)


def _log_tangent(groups: Groups, delta: Any, alpha: float | None, v: Array) -> Array:
    """(v - <p, v>) / T, the Jacobian of log_softmax times v."""
    p = jnp.exp(groups.scores)
    v = jnp.where(groups.scores == -math.inf, 0, v)
    v = v - groups.total(jnp.where(groups.scores > _MORE_THAN_HALF, v, 0))
    return jnp.where(jnp.isnan(p), p, _over_temperature(groups, v - groups.total(p * v)))


def _sigmoid_gradient(groups: Groups, delta: Any, alpha: float | None, v: Array) -> Array:
    """p (1 - p) v / T."""
    return _log_sigmoid_gradient(groups, delta, alpha, v * jax.lax.logistic(_quotient(groups)))


def _log_sigmoid_gradient(groups: Groups, delta: Any, alpha: float | None, v: Array) -> Array:
    """(1 - p) v / T."""
    slope = jnp.where(jnp.isinf(groups.scores), 0, jax.lax.logistic(-_quotient(groups)))
    return _over_temperature(groups, slope * v)


def _quotient(groups: Groups) -> Array:
    """z / T with derivatives that are finite everywhere: 0 where z or T is a limit."""
    z = groups.scores
    return jnp.where(jnp.isinf(z), 0, z) * inverse(temperature_of(groups))


def _over_temperature(groups: Groups, x: Array) -> Array:
    """x / T, 0 at the limits of T, NaN where it is no temperature."""
    t = temperature_of(groups)
    rate = inverse(t)
    return jnp.where(t >= 0, jnp.where(rate == 0, 0, x * rate), math.nan)


def _constant_rows(groups: Groups, delta: Any, alpha: float | None, result: Array) -> Array:
    """1 for groups that do not move with their scores, for the largest is infinite; else, and where it is NaN, 0."""
    is_number = ~jnp.isnan(groups.total(result))
    found = jnp.isinf(groups.largest(groups.scores)) & is_number
    return groups.each(found.astype(groups.scores.dtype), 0.0)


_DERIVATIVES = {
    "jacobian_product": _jacobian_product,
    "log_jacobian_product": _log_jacobian_product,
    "log_tangent": _log_tangent,
    "sigmoid_gradient": _sigmoid_gradient,
    "log_sigmoid_gradient": _log_sigmoid_gradient,
    "constant_rows": _constant_rows,
}
