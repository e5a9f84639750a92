"""The Fenchel-Young loss on JAX: its derivative is entmax less the target, whatever its value took."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from softly._arrays import Array
from softly._expressions.groups import shifted
from softly._rows import Rows
from softly.jax.maps import moved
from softly.losses.fenchel_young import values
from softly.losses.rows import slopes
from softly.maps import entmax


def fenchel_young(rows: Rows, y: Array, alpha: float) -> Array:
    """The loss of each row, with derivatives of every order in its scores and temperature."""
    return _compiled(alpha, rows, jax.lax.stop_gradient(y))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _losses(alpha: float, rows: Rows, y: Array) -> Array:
    return values(rows, y, alpha)


_compiled = jax.jit(_losses, static_argnums=0)


@partial(_losses.defjvp, symbolic_zeros=True)
def _losses_jvp(alpha: float, primals: Any, tangents: Any) -> tuple[Array, Array]:
    (rows, y), (d_rows, _) = primals, tangents
    result = _losses(alpha, rows, y)
    if rows.scores.shape[-1] == 0:
        return result, jnp.zeros_like(result)
    in_scores = slopes(rows, entmax(rows.scores, alpha=alpha, temperature=rows.temperature), y)
    dz, dt = moved(d_rows.scores), moved(d_rows.temperature)
    change = jnp.zeros_like(result) if dz is None else (in_scores * dz).sum(-1)
    if dt is not None and not isinstance(rows.temperature, float):
        heights, _ = shifted(rows)
        change = change - jnp.where(in_scores == 0, 0, in_scores * heights).sum(-1) * dt
    return result, change
