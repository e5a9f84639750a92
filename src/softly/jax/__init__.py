"""The maps on JAX arrays and tracers: under jit, grad, jvp, vmap, hessian and scan.

`softly.maps` and `softly.segments` come here where an argument is JAX's; the arithmetic is that of softly._expressions,
compiled by XLA (softly.jax.maps).
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from softly._arrays import Array, Axis, Empty, jax_of
from softly._rows import as_rows
from softly._segments import as_segments, group
from softly.jax.kernels import calls_core as calls_core
from softly.jax.losses import fenchel_young as fenchel_young
from softly.jax.maps import asarray, run
from softly.jax.maps import constant as constant
from softly.jax.maps import until_still as until_still
from softly.jax.segments import SegmentsInAnyOrder
from softly.jax.signed_sums import signed_logsumexp as signed_logsumexp


def default_float() -> str:
    """What integers become."""
    return str(jnp.zeros(0).dtype)


def apply(
    operation: str,
    scores: Array,
    axis: Axis,
    temperature: Any,
    where: Array | None,
    empty: Empty,
    out: Array | None,
    *,
    alpha: Any,
    reduces: bool,
    keepdims: bool,
) -> Array:
    """A map of `softly.maps` over an axis."""
    rows = as_rows(asarray(scores), axis, temperature, where, empty, out, reduces=reduces, keepdims=keepdims)
    return rows.restore(run(operation, rows, alpha))


def apply_segments(
    operation: str,
    scores: Array,
    offsets: Array | None,
    index: Array | None,
    num_segments: int | None,
    temperature: Any,
    where: Array | None,
    empty: Empty,
    out: Array | None,
    *,
    alpha: Any,
    reduces: bool,
) -> Array:
    """A map of `softly.segments`."""
    scores = asarray(scores)
    if scores.ndim and jax_of(offsets, index) is None:  # not to be traced: values are checked, segments counted
        _, offsets, index, count = group(np, scores, offsets, index, num_segments, sorts=False)
        num_segments = None if index is None else count
    segments = as_segments(
        scores, offsets, index, num_segments, temperature, where, empty, out,
        reduces=reduces, kind=SegmentsInAnyOrder,
    )  # fmt: skip
    return segments.restore(run(operation, segments, alpha))
