"""The maps in programs of JAX, with the derivatives of the family.

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

from softly._arrays import Array, as_array
from softly._expressions.groups import Groups, temperature_of
from softly._kernels import ELEMENTWISE
from softly._rows import Rows
from softly.jax import expressions, kernels
from softly.jax.expressions import inverse, slope_in_alpha
from softly.jax.segments import SegmentsInAnyOrder

_STATIC = (1.5, 2.0, math.inf)  # values of alpha with an expression of their own; one program serves all others


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
        return _compiled(operation, 1.0, groups, 0.0)
    delta = alpha - 1.0
    known = alpha if isinstance(alpha, float) and alpha in _STATIC else None
    return _compiled(operation, known, groups, delta if isinstance(delta, float) else delta.astype(groups.scores.dtype))


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _map(operation: str, alpha: float | None, groups: Groups, delta: Any) -> Array:
    return _evaluate(operation, groups, delta, alpha)


_compiled = jax.jit(_map, static_argnums=(0, 1))


def _evaluate(operation: str, groups: Groups, delta: Any, alpha: float | None, *others: Array) -> Array:
    """An operation of softly.jax.expressions; of rows as a primitive, which a kernel may stand for."""
    if isinstance(groups, Rows) and groups.scores.shape[-1]:
        return kernels.run(operation, groups, delta, alpha, *others)
    return expressions.evaluate(operation, groups, delta, alpha, *others)


# ---------------------------------------------------------------- derivatives


@partial(_map.defjvp, symbolic_zeros=True)
def _map_jvp(operation: str, alpha: float | None, primals: Any, tangents: Any) -> tuple[Array, Array]:
    (groups, delta), (d_groups, d_delta) = primals, tangents
    result = _map(operation, alpha, groups, delta)
    if groups.scores.shape[-1] == 0 or alpha == math.inf:  # constant, or so almost everywhere
        return result, jnp.zeros_like(result)
    if operation in ELEMENTWISE:
        return result, _evaluate(f"{operation}_gradient", groups, delta, alpha, _change(groups, d_groups, 0))
    with_zeros = replace(groups, empty="zero")
    if operation == "logsumexp":
        shares = jnp.where(jnp.isinf(groups.scores), 0, _map("softmax", alpha, with_zeros, delta))
        return result, groups.sum(shares * _change(groups, d_groups, 0) * inverse(temperature_of(groups)))
    p = result if groups.empty == "zero" else _map(operation, alpha, with_zeros, delta)
    pivot = jax.lax.stop_gradient(groups.largest(jax.lax.stop_gradient(groups.scores)))
    v = _change(groups, d_groups, jnp.where(jnp.isinf(pivot), 0, pivot))  # J of a constant is 0
    if operation == "entmax" and (d_alpha := moved(d_delta)) is not None:
        v = v - slope_in_alpha(p, delta) * d_alpha.astype(p.dtype) * _zero_at_limits(temperature_of(groups))
    product = "log_tangent" if operation == "log_softmax" else "jacobian_product"
    at = replace(groups, scores=p, temperature=_moving_temperature(operation, groups, p))
    return result, _evaluate(product, at, delta, alpha, v)


def moved(tangent: Any) -> Any:
    """The tangent, or None where it is known to be 0."""
    return None if isinstance(tangent, jax.custom_derivatives.SymbolicZero) else tangent


def _change(groups: Groups, d_groups: Groups, pivot: Any) -> Array:
    """T d((z - pivot) / T) = dz - (z - pivot) dT / T, without dT where z is infinite or T at a limit."""
    z, t = groups.scores, temperature_of(groups)
    dz, dt = moved(d_groups.scores), moved(d_groups.temperature)
    change = jnp.zeros_like(z) if dz is None else dz
    if dt is not None and not isinstance(groups.temperature, float):
        rate = inverse(t) * groups.spread(dt).astype(z.dtype)
        change = change - jnp.where(jnp.isinf(z), 0, z - pivot) * rate
    return change


def _moving_temperature(operation: str, groups: Groups, p: Array) -> Array:
    """The temperature of each group, infinite where it does not move with its scores."""
    z, result = jax.lax.stop_gradient((groups.scores, p))
    nothing = -math.inf if operation == "log_softmax" else 0.0
    at = replace(groups, scores=z, temperature=1.0)
    is_constant = _evaluate("constant_rows", at, nothing, None, result) == 1
    return jnp.where(is_constant, math.inf, jnp.asarray(groups.temperature, z.dtype))


def _zero_at_limits(t: Array) -> Array:
    return jnp.where(inverse(t) == 0, 0, t)


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
