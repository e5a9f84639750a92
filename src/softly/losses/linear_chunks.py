"""The cross-entropy of scores = hidden @ weight.T + bias, chunk by chunk of rows: the scores are never whole in memory.

The scores s of a chunk are computed once, become their own gradient g = dL/ds where they lie, and give g @ weight to
the gradient of hidden and g.T @ hidden to that of weight: three products in all, as without chunks. Products go over
blocks of classes, so that weights of another dtype are converted, and products added, a block at a time.

Whoever calls has checked. The products of NumPy are here, those of torch in softly.torch.linear_cross_entropy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from softly._arrays import Array
from softly.losses.chunk_scores import Loss, over_temperature, scores_to_gradient

# A chunk's scores take so much, or an eighth of what the weights take: with fewer rows to a chunk, reading the weights
# would cost as much as multiplying them.
SCORES_BYTES = 2**25
BLOCK_BYTES = 2**23  # of the weights of a block of classes, and of a product to be added


@dataclass(slots=True)
class Gradients:
    """Each None where it was not asked for. temperature: one a row."""

    hidden: Array | None = None
    weight: Array | None = None
    bias: Array | None = None
    temperature: Array | None = None


class Products(Protocol):
    """What an array library does for the loop, in the dtype to compute in."""

    xp: Any  # the library that goes over the rows of scores
    itemsize: int

    def zeros(self, *shape: int) -> Array:
        """A new array."""

    def convert(self, x: Array) -> Array:
        """In the dtype to compute in."""

    def assign(self, out: Array, a: Array, b: Array) -> None:
        """Set out to a @ b."""

    def add(self, out: Array, a: Array, b: Array) -> None:
        """Add a @ b to out."""

    def lend(self, x: Array) -> Array:
        """The same memory as an array of `xp`."""


class NumPyProducts:
    """Sums of products by way of a scratch array: NumPy's products overwrite."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.xp: Any = np
        self.dtype, self.itemsize = dtype, dtype.itemsize
        self._scratch = np.empty(0, dtype)

    def zeros(self, *shape: int) -> Array:
        """A new array."""
        return np.zeros(shape, self.dtype)

    def convert(self, x: Array) -> Array:
        """In the dtype to compute in."""
        return x.astype(self.dtype, copy=False)

    def assign(self, out: Array, a: Array, b: Array) -> None:
        """Set out to a @ b."""
        np.matmul(a, b, out=out)

    def add(self, out: Array, a: Array, b: Array) -> None:
        """Add a @ b to out."""
        if self._scratch.size < out.size:
            self._scratch = np.empty(out.size, self.dtype)
        product = self._scratch[: out.size].reshape(out.shape)
        np.matmul(a, b, out=product)
        out += product

    def lend(self, x: Array) -> Array:
        """It is one already."""
        return x


def run(
    products: Products, hidden: Array, weight: Array, bias: Array | None, loss: Loss, into: Gradients | None = None
) -> Array:
    """The loss of each row, float64, 0 where it is not kept; adds the gradients to the arrays of `into`.

    hidden (n, d), weight (classes, d), bias (classes,), of any floating dtypes.
    """
    (n, width), classes = hidden.shape, weight.shape[0]
    size = rows_in_a_chunk(classes, width, products.itemsize)
    blocks = list(_slices(classes, _rounded(BLOCK_BYTES // max(1, width * products.itemsize), 64)))
    buffer = products.zeros(min(size, n), classes)
    losses = products.xp.zeros_like(loss.scale)
    for rows in _chunks(n, loss.kept, size):
        h = products.convert(hidden[rows])
        scores = buffer[: h.shape[0]]
        for block in blocks:
            products.assign(scores[:, block], h, products.convert(weight[block]).T)
            if bias is not None:
                scores[:, block] += products.convert(bias[block])
        of_rows = loss.of_rows(rows)
        losses[rows] = scores_to_gradient(products.xp, products.lend(scores), of_rows, into is not None)
        if into is None:
            continue
        moved = products.zeros(*h.shape)
        for block in blocks:
            if into.hidden is not None or into.temperature is not None:
                products.add(moved, scores[:, block], products.convert(weight[block]))
            if into.weight is not None:
                products.add(into.weight[block], scores[:, block].T, h)
        if into.hidden is not None:
            into.hidden[rows] = moved
        if into.bias is not None:
            into.bias += scores.sum(0)
        if into.temperature is not None:  # -<g, s> / T, where <g, s> = <g @ weight, hidden> + <g, bias>
            height = products.lend((moved * h).sum(-1))
            if bias is not None:
                b = products.lend(products.convert(bias))
                height = height + products.lend(scores) @ products.xp.where(products.xp.isfinite(b), b, 0.0)
            into.temperature[rows] = -over_temperature(products.xp, height, of_rows.temperature)
    return losses


def rows_in_a_chunk(classes: int, width: int, itemsize: int) -> int:
    """As many as SCORES_BYTES hold, and at least an eighth of the width."""
    return _rounded(max(SCORES_BYTES // (max(1, classes, width) * itemsize), width // 8), 16)


def _rounded(number: int, unit: int) -> int:
    """Down to whole units, for products are slower between; at least 1."""
    return max(1, number // unit * unit or number)


def _slices(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _chunks(n: int, kept: Array | None, size: int) -> Iterator[Any]:
    """What takes the rows of one chunk after the other."""
    if kept is None:
        return _slices(n, size)
    return (kept[part] for part in _slices(kept.shape[0], size))
