"""logsumexp with weights, return_sign or complex scores on JAX arrays, and its derivatives.

With S = sum w exp(z / T) and e_i = exp(z_i / T) / S, dS / S = sum e_i (dw_i + w_i d(z_i / T)). That is the derivative
of log S; of log |S| its real part, and the phase turns by its imaginary part. A weight of 0 has the derivative e_i too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from softly import _signed_sums
from softly._arrays import Array, Axis, Empty, as_mask, beside, normalise_axes
from softly.jax.expressions import inverse
from softly.jax.maps import asarray, moved


class _Options(NamedTuple):
    axis: Axis
    temperature: Any  # a number; None where an array of them is among the arguments
    empty: Empty
    return_sign: bool
    keepdims: bool


def signed_logsumexp(
    scores: Array,
    axis: Axis,
    temperature: Any,
    where: Array | None,
    empty: Empty,
    out: Array | None,
    weights: Array | None,
    return_sign: bool,
    keepdims: bool,
) -> tuple[Array, ...]:
    """log |S|, and the sign of S with `return_sign`."""
    if out is not None:
        _signed_sums.evaluate(scores, axis, temperature, where, empty, out, weights, return_sign, keepdims)
    scores = asarray(scores)
    if is_half := scores.dtype in (jnp.float16, jnp.bfloat16):
        dtype, scores = scores.dtype, scores.astype(jnp.float32)
    weights = None if weights is None else beside(jnp, weights, "weights", scores)
    where = None if where is None else as_mask(jnp, where, scores)
    varies = isinstance(temperature, jax.Array | Sequence) or (hasattr(temperature, "shape") and temperature.shape)
    options = _Options(
        axis if axis is None or isinstance(axis, int) else tuple(axis),
        None if varies else temperature, empty, return_sign, keepdims,
    )  # fmt: skip
    call = _results if empty == "raise" else _compiled  # where rows must be looked at
    found = call(options, scores, jnp.asarray(temperature) if varies else None, where, weights)
    return tuple(part.astype(dtype) for part in found) if is_half else found


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _results(options: _Options, scores: Array, temperature: Any, where: Any, weights: Any) -> tuple[Array, ...]:
    t = options.temperature if temperature is None else temperature
    found = _signed_sums.evaluate(
        scores, options.axis, t, where, options.empty, None, weights, options.return_sign, options.keepdims
    )
    return found if isinstance(found, tuple) else (found,)


_compiled = jax.jit(_results, static_argnums=0)


@partial(_results.defjvp, symbolic_zeros=True)
def _results_jvp(options: _Options, primals: Any, tangents: Any) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    found = _results(options, *primals)
    scores, temperature, where, weights = primals
    d_scores, d_temperature, _, d_weights = map(moved, tangents)
    if scores.size == 0:
        return found, tuple(jnp.zeros_like(part) for part in found)
    axes = normalise_axes(options.axis, scores.ndim)
    kept = tuple(n for i, n in enumerate(scores.shape) if i not in axes)
    t, dt = (
        None if a is None else jnp.expand_dims(jnp.broadcast_to(jnp.asarray(a, scores.real.dtype), kept), axes)
        for a in (options.temperature if temperature is None else temperature, d_temperature)
    )
    rate = inverse(t)
    w = 1.0 if weights is None else weights
    possible = (jnp.abs(scores.real) < math.inf) & (True if where is None else where)
    z = jnp.where(possible, scores, 0)
    top = jnp.max(jnp.where(possible & (w != 0), z.real, -math.inf), axis=axes, keepdims=True)
    top = jax.lax.stop_gradient(jnp.where(top == -math.inf, 0, top))
    powers = jnp.where(possible, jnp.exp((z - top) * rate), 0)
    total = jnp.sum(w * powers, axis=axes, keepdims=True)
    share = jnp.where(total == 0, 0, powers / jnp.where(total == 0, 1, total))
    dx = jnp.zeros_like(z) if d_scores is None else jnp.where(possible, d_scores, 0) * rate
    if dt is not None:
        dx = dx - z * rate * rate * dt
    change = w * dx if d_weights is None else w * dx + d_weights
    relative = jnp.sum(share * change, axis=axes, keepdims=options.keepdims)
    log = found[0].real
    relative = jnp.where(jnp.isinf(log), 0, relative) * jnp.where(jnp.isnan(log), math.nan, 1)
    if not options.return_sign:
        return found, (relative.astype(found[0].dtype),)
    turn = found[1] * 1j * relative.imag if jnp.iscomplexobj(relative) else jnp.zeros_like(found[1])
    return found, (relative.real.astype(log.dtype), turn.astype(found[1].dtype))
