"""Segments on JAX, told by the segment of each entry."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import jax.numpy as jnp

from softly._arrays import Array
from softly._segments import Segments


@dataclass
class SegmentsInAnyOrder(Segments):
    """Segments told by the segment of each entry, which sums and maxima are scattered to: nothing is sorted."""

    sorts: ClassVar[bool] = False

    @cached_property
    def _segment(self) -> Array:
        """The segment of each entry; beyond the last, where the results are NaN, if what was told is no grouping."""
        n = self.scores.shape[-1]
        if self.index is not None:
            return jnp.where((self.index >= 0) & (self.index < self.count), self.index, self.count)
        bounds = self.offsets
        ids = jnp.cumsum(jnp.zeros(n, bounds.dtype).at[bounds[1:]].add(1, mode="drop"))
        fits = (bounds[0] == 0) & (bounds[-1] == n) & jnp.all(bounds[1:] >= bounds[:-1])
        return jnp.where(fits, ids, self.count)

    def _per_segment(self, x: Array, value: float) -> Array:
        return jnp.full((*x.shape[:-1], self.count), value, x.dtype)

    @property
    def _options(self) -> dict[str, Any]:
        return {"mode": "drop", "indices_are_sorted": self.index is None}

    def largest(self, x: Array) -> Array:  # noqa: D102 (as in Segments)
        lowest = self._per_segment(x, -math.inf)
        return self.spread(lowest.at[..., self._segment].max(x, **self._options))

    def sum(self, x: Array) -> Array:  # noqa: D102
        return self._per_segment(x, 0.0).at[..., self._segment].add(x, **self._options)

    def total(self, x: Array) -> Array:  # noqa: D102
        return self.spread(self.sum(x))

    def spread(self, per_segment: Array) -> Array:  # noqa: D102
        return jnp.take(per_segment, self._segment, axis=-1, mode="fill") if per_segment.ndim else per_segment

    def each(self, x: Array, when_empty: float) -> Array:  # noqa: D102
        return self._per_segment(x, when_empty).at[..., self._segment].set(x, **self._options)

    @cached_property
    def size(self) -> Array:  # noqa: D102
        return self.total(jnp.ones(self.scores.shape[-1:], self.scores.dtype))
