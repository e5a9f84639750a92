"""The expressions compiled by XLA, with the derivatives of the family.

With x = z / T, and q = p^(2 - alpha) on the support, one Jacobian

    J v = q (v - <q, v> / sum q)

serves scores, temperature and alpha: dp = J (dx - g dalpha), where dx = (dz - x dT) / T and g is the derivative in
alpha of the deformed logarithm (p^(alpha - 1) - 1) / (alpha - 1) (after Correia, Niculae and Martins, 2019). At
alpha = 1, where q = p, d log p = dx - <p, dx> and d logsumexp = <p, dx>. Impossible entries, scores of +inf and rows
with nothing possible have the derivative 0, and so has every score at the limits T = 0 and T = inf.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softly import _expressions
from softly._arrays import Array, as_array
from softly._expressions.entmax import (
    entmax_by_last,
    leaders_at_any_temperature,
    log_leader,
    normalised,
    ratio_to_leader,
)
from softly._expressions.groups import Groups, shifted, temperature_of
from softly._rows import Rows
from softly.jax.segments import SegmentsInAnyOrder

_SERIES = [1 / (math.factorial(k) * (k + 2)) for k in range(20)]  # beyond: less than an ULP for |u| <= 1
_STATIC = (1.5, 2.0, math.inf)  # values of alpha with an expression of their own; one program serves all others
_LEAST_DELTA = 1e-25  # alpha = 1 is computed as 1 + this: log1p(delta x) / delta is x in every bit


def asarray(scores: Array) -> jax.Array:
    """The scores as a JAX array; TypeError for masked arrays."""
    return scores if isinstance(scores, jax.Array) else jnp.asarray(as_array(scores, "scores")[1])


def constant(array: jax.Array) -> jax.Array:
    """The array without derivatives."""
    return jax.lax.stop_gradient(array)


def until_still(step: Callable[..., Any], state: tuple[Array, ...], most: int) -> tuple[Array, ...]:
    """The state after so many steps, at most `most`, that none moves: softly._expressions.entmax as a loop of XLA's."""

    def following(carry: Any) -> Any:
        steps, state, _ = carry
        state, moves = step(*state)
        return steps + 1, state, jnp.any(moves)

    _, state, _ = jax.lax.while_loop(lambda carry: (carry[0] < most) & carry[2], following, (0, state, True))
    return state


def run(operation: str, groups: Groups, alpha: Any) -> Array:
    """The compiled map of the groups; temperatures but 1 and most alphas are arguments of the program."""
    if operation != "entmax":
        return _compiled(operation, None, groups, None)
    if isinstance(alpha, float) and alpha in _STATIC:
        return _compiled(operation, alpha, groups, None)
    delta = alpha - 1.0
    return _compiled(operation, None, groups, delta if isinstance(delta, float) else delta.astype(groups.scores.dtype))


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _map(operation: str, alpha: float | None, groups: Groups, delta: Any) -> Array:
    if operation != "entmax":
        return getattr(_expressions, operation)(groups)
    return _entmax(groups, delta) if alpha is None else _expressions.entmax(groups, alpha)


_compiled = jax.jit(_map, static_argnums=(0, 1))


def _entmax(groups: Groups, delta: Any) -> Array:
    """entmax at an alpha = 1 + delta that is not known while tracing: NaN below 1."""
    if groups.scores.shape[-1] == 0:
        return groups.scores
    x, _ = shifted(groups)
    below, above = jnp.clip(delta, _LEAST_DELTA, 1.0), jnp.clip(delta, 1.0, np.finfo(x.dtype).max)

    def of_leader() -> Array:
        return ratio_to_leader(groups, x, log_leader(groups, x, below), below)[0]

    p = jax.lax.cond(delta > 1, lambda: entmax_by_last(groups, x, above), of_leader)
    p = jnp.where(delta == math.inf, leaders_at_any_temperature(groups, x), p)
    return normalised(groups, x, jnp.where(delta >= 0, p, math.nan))


# ---------------------------------------------------------------- derivatives


@partial(_map.defjvp, symbolic_zeros=True)
def _map_jvp(operation: str, alpha: float | None, primals: Any, tangents: Any) -> tuple[Array, Array]:
    (groups, delta), (d_groups, d_delta) = primals, tangents
    result = _map(operation, alpha, groups, delta)
    if groups.scores.shape[-1] == 0 or alpha == math.inf:  # constant, or so almost everywhere
        return result, jnp.zeros_like(result)
    groups = replace(groups, empty="zero")
    p = _map("softmax" if operation == "logsumexp" else operation, alpha, groups, delta)
    if operation in ("softmax", "entmax", "log_softmax"):  # J of a constant is 0: x may be off by one
        pivot = jax.lax.stop_gradient(groups.largest(jax.lax.stop_gradient(groups.scores)))
        dx = _d_quotient(groups, d_groups, jnp.where(jnp.abs(pivot) == math.inf, 0, pivot))
    else:
        dx = _d_quotient(groups, d_groups, 0)
    if operation == "softmax":
        return result, _jacobian(groups, p, p, dx)
    if operation == "log_softmax":
        return result, _d_log_softmax(groups, p, jnp.where(pivot == math.inf, 0, dx))
    if operation == "logsumexp":
        return result, groups.sum(p * dx)
    if operation == "entmax":
        return result, _d_entmax(groups, p, dx, alpha - 1 if alpha else delta, moved(d_delta))
    complement = _map("sigmoid", None, replace(groups, scores=-groups.scores), None)
    return result, complement * dx if operation == "log_sigmoid" else p * complement * dx


def moved(tangent: Any) -> Any:
    """The tangent, or None where it is known to be 0."""
    return None if isinstance(tangent, jax.custom_derivatives.SymbolicZero) else tangent


def inverse(t: Array) -> Array:
    """1 / T, and 0 at the limits of T, where no score has an effect."""
    usual = (t >= np.finfo(t.dtype).tiny) & (t < math.inf)
    return jnp.where(usual, 1 / jnp.where(usual, t, 1), 0)


def _d_quotient(groups: Groups, d_groups: Groups, pivot: Any) -> Array:
    """dx = (dz - (x - pivot / T) dT) / T, 0 for infinite scores and at the limits of T."""
    z, t = groups.scores, temperature_of(groups)
    rate = inverse(t)
    finite = jnp.abs(z) != math.inf  # or NaN, which must be seen
    dz, dt = moved(d_groups.scores), moved(d_groups.temperature)
    change = jnp.zeros_like(z) if dz is None else dz
    if dt is not None and not isinstance(groups.temperature, float):
        change = change - jnp.where(finite, z - pivot, 0) * rate * groups.spread(dt)
    return jnp.where(finite, change, 0) * rate


def _jacobian(groups: Groups, q: Array, share: Array, v: Array) -> Array:
    """J v with share = q / sum q.

    Adding a constant to v changes nothing: subtracted is the v of an entry with more than half of the share, if there
    is one. So <share, v> has no large term, and the leader's change, minus the sum of the others', keeps its digits.
    """
    v = jnp.where(q == 0, 0, v)
    v = v - groups.total(jnp.where(share > 0.5, v, 0))
    return jnp.where(q == 0, 0, q * (v - groups.total(share * v)))


def _d_log_softmax(groups: Groups, log_p: Array, v: Array) -> Array:
    p = jnp.exp(log_p)
    v = v - groups.total(jnp.where(p > 0.5, v, 0))
    return v - groups.total(p * v)


def _d_entmax(groups: Groups, p: Array, v: Array, delta: Any, d_delta: Any) -> Array:
    """J (v - g ddelta): dp = q (v - dtau - g ddelta) by (p^delta - 1) / delta = x - tau, and dtau by sum dp = 0.

    g = log(p)^2 f(delta log p) with f(u) = (1 + (u - 1) e^u) / u^2 = sum_k u^k / (k! (k + 2)), 1/2 at alpha = 1.
    """
    delta = jnp.where(delta < math.inf, delta, 1.0)
    inside = jnp.where(p == 0, 1, p)
    q = jnp.where(p == 0, 0, jnp.where(jnp.isnan(p), p, inside ** (1 - delta)))
    if d_delta is not None:
        u = delta * jnp.log(inside)
        near, far = jnp.where(u > -1, u, 0), jnp.where(u > -1, -1, u)
        series = jnp.polyval(jnp.asarray(_SERIES[::-1], u.dtype), near)
        f = jnp.where(u > -1, series, (1 + (far - 1) * jnp.exp(far)) / far**2)
        v = v - jnp.log(inside) ** 2 * f * d_delta
    total = groups.total(q)
    return _jacobian(groups, q, q / jnp.where(total == 0, 1, total), v)


def _flatten_rows(rows: Rows) -> tuple[tuple[Any, Any], tuple[Any, ...]]:
    t, is_one = _as_leaf(rows.temperature)
    return (rows.scores, t), (rows.xp, rows.empty, is_one)


def _unflatten_rows(known: tuple[Any, ...], arrays: tuple[Any, Any]) -> Rows:
    xp, empty, is_one = known
    scores, t = arrays
    return Rows(xp, scores, 1.0 if is_one else t, empty, None, (), (), False, False, None)


def _flatten_segments(groups: SegmentsInAnyOrder) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    t, is_one = _as_leaf(groups.temperature)
    return (groups.scores, t, groups.offsets, groups.index), (groups.xp, groups.empty, groups.count, is_one)


def _unflatten_segments(known: tuple[Any, ...], arrays: tuple[Any, ...]) -> SegmentsInAnyOrder:
    xp, empty, count, is_one = known
    scores, t, offsets, index = arrays
    return SegmentsInAnyOrder(xp, scores, 1.0 if is_one else t, empty, None, offsets, None, False, None, count, index)


def _as_leaf(temperature: Any) -> tuple[Any, bool]:
    """A temperature as an argument of the compiled program, but 1, which is known to it."""
    is_one = isinstance(temperature, float) and temperature == 1
    return None if is_one else temperature, is_one


jax.tree_util.register_pytree_node(Rows, _flatten_rows, _unflatten_rows)
jax.tree_util.register_pytree_node(SegmentsInAnyOrder, _flatten_segments, _unflatten_segments)
