"""The scores of a chunk of rows to the losses of its rows, and to their gradient where the scores stand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from softly._arrays import Array
from softly.losses.fused import label_losses
from softly.maps import log_softmax, softmax


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
    factor = xp.where(xp.isinf(top), 0.0, over_temperature(xp, loss.scale, loss.temperature))
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


def over_temperature(xp: Any, x: Array, temperature: float | Array) -> Array:
    """x / T, and 0 in the limits T = 0 and inf, where nothing moves."""
    if isinstance(temperature, float):
        return x / temperature if 0 < temperature < math.inf else 0.0 * x
    limit = (temperature == 0) | (temperature == math.inf)
    return xp.where(limit, 0.0, x / xp.where(limit, 1.0, temperature))


def _factors(xp: Any, numbers: Array, scores: Array) -> Array:
    """In the scores' dtype, and finite: a probability of 0 stays so."""
    largest = float(xp.finfo(scores.dtype).max)
    return xp.astype(xp.clip(numbers, -largest, largest), scores.dtype)
