"""The cross-entropy of scores = hidden @ weight.T + bias, chunk by chunk of rows: the scores are never whole in memory.

The scores s of a chunk are computed once, become their own gradient g = dL/ds where they lie, and give g @ weight to
the gradient of hidden and g.T @ hidden to that of weight: three products in all, as without chunks. Products go over
blocks of classes, so that weights of another dtype are converted, and products added, a block at a time.

Whoever calls has checked. The products of NumPy are here, those of torch in softly.torch.linear_cross_entropy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from softly._arrays import Array
from softly.losses.fused import label_losses
from softly.maps import log_softmax, softmax

# A chunk's scores take so much, or an eighth of what the weights take: with fewer rows to a chunk, reading the weights
# would cost as much as multiplying them.
SCORES_BYTES = 2**25
BLOCK_BYTES = 2**23  # of the weights of a block of classes, and of a product to be added


@dataclass(frozen=True, slots=True)
class Loss:
    """What is asked of each row: arrays of NumPy, or of torch on a device; numbers in float64.

    The gradients are those of sum(scale * losses). kept: the rows that count, None for all; others are not looked at.
    """

    labels: Array  # (n,)
    kept: Array | None
    scale: Array  # (n,)
    temperature: float | Array  # or (n,)
    class_weight: Array | None  # (classes,)
    label_smoothing: float

    def of_rows(self, rows: Any) -> Loss:
        """The same for some rows, all of them kept."""
        t = self.temperature if isinstance(self.temperature, float) else self.temperature[rows]
        return Loss(self.labels[rows], None, self.scale[rows], t, self.class_weight, self.label_smoothing)


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
            into.temperature[rows] = -_over_temperature(products.xp, height, of_rows.temperature)
    return losses


def scores_to_gradient(xp: Any, scores: Array, loss: Loss, with_gradient: bool) -> Array:
    """The losses of a chunk's rows; their scores become the gradient in them, if one is needed.

    With v the share of the label in the target and u w_c what smoothing gives to each possible class, the loss is
    -v log p_label - u sum w log p and its gradient p (v + u sum w) - u w, less v at the label, all over T.

    Where the largest score is infinite nothing moves with it, and impossible classes do not move: gradients are 0.
    """
    if not loss.label_smoothing and (losses := _fused(scores, loss, with_gradient)) is not None:
        return losses
    leader = xp.argmax(scores, -1)
    top, own = _pick(xp, scores, leader, loss), _pick(xp, scores, loss.labels, loss)
    even = None
    if loss.label_smoothing:
        even = _Smoothing.with_logs(xp, scores, loss)
        log_p = _pick(xp, scores, loss.labels, loss)
        less = xp.expm1(log_p)
        xp.exp(scores, out=scores)
    else:
        log_p, less = _softmax_at_labels(xp, scores, leader, top - own, loss)
    share = xp.full_like(log_p, 1 - loss.label_smoothing)
    if loss.class_weight is not None:
        share *= loss.class_weight[loss.labels]
    losses = xp.where(share == 0, 0.0, 0.0 - share * log_p)
    if even is not None:
        losses -= even.share * even.sum_of_logs
    if not with_gradient:
        return losses
    factor = xp.where(xp.isinf(top), 0.0, _over_temperature(xp, loss.scale, loss.temperature))
    at_label = share * less
    if even is None:
        scores *= _factors(xp, factor * share, scores)[:, None]
    else:
        at_label += even.share * ((1 + less) * even.total - even.class_weight[loss.labels])
        scores *= _factors(xp, share + even.share * even.total, scores)[:, None]
        scores -= even.of_classes(xp, scores)
        scores *= _factors(xp, factor, scores)[:, None]
    at_label = xp.where(xp.isinf(own), 0.0, factor * at_label)
    scores[_entries(xp, loss.labels)] = _factors(xp, at_label, scores)
    return losses


def _fused(scores: Array, loss: Loss, with_gradient: bool) -> Array | None:
    """The same without smoothing, by the compiled core; None where it cannot."""
    weight = None if loss.class_weight is None else loss.class_weight[loss.labels]
    scale = loss.scale if weight is None else loss.scale * weight
    losses = label_losses(scores, loss.labels, loss.temperature, scale, scores if with_gradient else None)
    if losses is None or weight is None:
        return losses
    return np.where(weight == 0, 0.0, weight * losses)


def _softmax_at_labels(xp: Any, scores: Array, leader: Array, gap: Array, loss: Loss) -> tuple[Array, Array]:
    """log p and p - 1 of the labels; the scores become p, but 0 at the labels. gap: by which the leader's is higher.

    Above 1/2, where p has lost digits of 1 - p, they come of the sum of the others; where p may have underflown, log p
    is that of the leader less gap / T.
    """
    _in_place(xp, softmax, scores, loss)
    p_top, p = _pick(xp, scores, leader, loss), _pick(xp, scores, loss.labels, loss)
    scores[_entries(xp, loss.labels)] = 0
    others = xp.astype(scores.sum(-1), p.dtype)
    gap = xp.where((gap > 0) & (gap < math.inf), gap / loss.temperature, xp.where(gap == 0, 0.0, math.inf))
    log_p = xp.where(p > 0.5, xp.log1p(-others), xp.where(p > 1e-30, xp.log(p), xp.log(p_top) - gap))
    return log_p, xp.where(p > 0.5, -others, p - 1)


def _entries(xp: Any, columns: Array) -> tuple[Array, Array]:
    return xp.arange(columns.shape[0], device=columns.device), columns


def _pick(xp: Any, scores: Array, columns: Array, loss: Loss) -> Array:
    """One entry of each row, in float64."""
    return xp.astype(scores[_entries(xp, columns)], loss.scale.dtype)


def _in_place(xp: Any, function: Callable[..., Array], scores: Array, loss: Loss) -> None:
    if xp is np:
        function(scores, temperature=loss.temperature, out=scores)
    else:
        scores[...] = function(scores, temperature=loss.temperature)


@dataclass(slots=True)
class _Smoothing:
    """What the possible classes of each row share evenly."""

    class_weight: Array  # (classes,)
    impossible: Array  # (n, classes)
    share: Array  # (n,): smoothing over the number of possible classes
    total: Array  # (n,): of their weights
    sum_of_logs: Array  # (n,): of weight times log p

    @staticmethod
    def with_logs(xp: Any, scores: Array, loss: Loss) -> _Smoothing:
        """Of scores, which become log p."""
        classes, like = scores.shape[1], loss.scale
        weight = loss.class_weight
        if weight is None:
            weight = xp.ones(classes, dtype=like.dtype, device=like.device)
        narrow, share = xp.astype(weight, scores.dtype), xp.full_like(like, loss.label_smoothing / classes)
        total, impossible = xp.full_like(like, 1.0) * weight.sum(), scores == -math.inf
        if xp.any(impossible):
            possible = xp.astype(~impossible, scores.dtype)
            share = loss.label_smoothing / xp.clip(xp.astype(possible.sum(-1), like.dtype), 1, None)
            total = xp.astype(possible @ narrow, like.dtype)
        _in_place(xp, log_softmax, scores, loss)
        sums = scores @ narrow
        if not xp.all(xp.isfinite(sums)):  # 0 * -inf is 0
            sums = xp.where(impossible | (weight == 0), 0.0, scores) @ narrow
        return _Smoothing(weight, impossible, share, total, xp.astype(sums, like.dtype))

    def of_classes(self, xp: Any, scores: Array) -> Array:
        """The share of each class, for every row or, where some are impossible, for each."""
        weight = xp.astype(self.class_weight, scores.dtype)
        if not xp.any(self.impossible):
            return weight * self.share[0]
        return xp.where(self.impossible, 0.0, _factors(xp, self.share, scores)[:, None] * weight)


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


def _over_temperature(xp: Any, x: Array, temperature: float | Array) -> Array:
    """x / T, and 0 in the limits T = 0 and inf, where nothing moves."""
    if isinstance(temperature, float):
        return x / temperature if 0 < temperature < math.inf else 0.0 * x
    limit = (temperature == 0) | (temperature == math.inf)
    return xp.where(limit, 0.0, x / xp.where(limit, 1.0, temperature))


def _factors(xp: Any, numbers: Array, scores: Array) -> Array:
    """In the scores' dtype, and finite: a probability of 0 stays so."""
    largest = float(xp.finfo(scores.dtype).max)
    return xp.astype(xp.clip(numbers, -largest, largest), scores.dtype)
