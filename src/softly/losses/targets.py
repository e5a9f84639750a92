"""What a loss holds scores against: labels or soft targets with their options, checked once for every loss.

The loss of row i is sum_c a_ic (-log p_ic). With weights w of the classes and a smoothing e

    a_ic = w_c ((1 - e) [c = y_i] + e / K)   for a label y_i; 0 where the row is ignored
    a_ic = w_c ((1 - e) t_ic + e / K)        for a soft target t_i

where K counts the classes that are possible, which alone share in e. The mean is the sum over the rows divided by

    the sum of w_(y_i) over the rows that are not ignored   for labels
    the number of rows                                      for soft targets

as in torch. `Targets` holds this for any array library, whether or not there is an array of all scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np

from softly._arrays import Array, as_array, beside, device, is_readable, jax_of, plain_array
from softly._errors import InputError

Reduction = Literal["mean", "sum", "none"]
REDUCTIONS = ("mean", "sum", "none")


@dataclass(slots=True)
class Targets:
    """Labels or soft targets of rows, and what each row counts; made by `as_targets`."""

    xp: ModuleType
    like: Array  # an array on the device and of the dtype to compute in
    classes: int
    labels: Array | None  # (*batch) of the default integer, 0 where the row is ignored; None: soft
    soft: Array | None  # (*batch, classes); None: labels
    counts: Array | None  # (*batch): 1, 0 where ignored, NaN where no label but not readable; None: 1 everywhere
    weight: Array | None  # (*batch), of labels: the counts times the weight of the label's class; None: 1 everywhere
    class_weight: Array | None  # (classes,)
    smoothing: float
    denominator: Array  # of the mean, 0-d

    @property
    def is_plain(self) -> bool:
        """Whether a row's loss is `weight` times -log p of its label."""
        return self.labels is not None and not self.smoothing

    @property
    def dropped(self) -> Array | None:
        """(*batch): rows whose scores never matter; None if none is known to be one."""
        counts = self.weight if self.is_plain else self.counts
        return None if counts is None else counts == 0

    def labels_or(self, none: int) -> Array:
        """The labels, and `none` where the row is dropped."""
        dropped = self.dropped
        return self.labels if dropped is None else self.xp.where(dropped, none, self.labels)

    def weighted(self, losses: Array) -> Array:
        """Losses of labels times their weights."""
        if self.weight is None:
            return losses
        return self.xp.where(self.weight == 0, 0.0, self.weight * wide(self.xp, losses))

    def scale(self, share: Array | float) -> Array | float:
        """What the gradient of -log p of a row's label is multiplied by."""
        return share if self.weight is None else self.weight * share

    def share(self, reduction: Reduction) -> Array | float:
        """The factor of each row's loss in the result: 1, or one over the denominator, 0 where that is 0."""
        if reduction != "mean":
            return 1.0
        nothing = self.denominator == 0
        return self.xp.where(nothing, 0.0, 1 / self.xp.where(nothing, 1.0, self.denominator))

    def each_class(self, possible: Array | None = None, rows: Any = ...) -> Array:
        """The weights a, (*batch, classes), or those of `rows`; smoothing goes to `possible` classes (default: all)."""
        xp, dtype = self.xp, self.like.dtype
        if self.labels is None:
            assert self.soft is not None
            a = self.soft[rows]
        else:
            every = xp.arange(self.classes, dtype=self.labels.dtype, device=device(self.like))
            a = xp.astype(xp.expand_dims(self.labels[rows], axis=-1) == every, dtype)
        if self.smoothing:
            each = xp.ones_like(a) if possible is None else xp.astype(possible, dtype)
            number = xp.sum(each, axis=-1, keepdims=True)
            a = (1 - self.smoothing) * a + self.smoothing * each / xp.where(number == 0, 1.0, number)
        if self.class_weight is not None:
            a = a * xp.astype(self.class_weight, dtype)
        return a if self.counts is None else a * xp.expand_dims(xp.astype(self.counts[rows], dtype), axis=-1)

    def reduced(self, losses: Array, reduction: Reduction) -> Array:
        """`reduced` with the denominator of these targets."""
        return reduced(self.xp, losses, self.denominator, reduction)


def as_targets(
    target: Any,
    xp: ModuleType,
    like: Array,
    batch: tuple[int, ...],
    classes: int,
    *,
    class_weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    shape: tuple[int, ...] | None = None,
    arrange: Callable[[Array], Array] = lambda entries: entries,
) -> Targets:
    """A target and its options, checked against rows of shape `batch` with so many classes.

    like: an array on the device and of the dtype to compute in. shape: of the caller's scores, and so of soft targets,
    which `arrange` brings to (*batch, classes). InputError, before anything serves as an index, for what does not fit.
    """
    shape = (*batch, classes) if shape is None else shape
    smoothing, ignored = check_smoothing(label_smoothing), check_ignore_index(ignore_index)
    weights = None if class_weight is None else check_class_weight(class_weight, xp, like, classes)
    own, array = read(target, "target", xp)
    given = tuple(array.shape)
    soft = counts = weight = None
    if given == batch and _is_integer(own, array):
        labels, counts = _labels(own, array, classes, ignored)
        labels, counts = (None if x is None else beside(xp, x, "target", like) for x in (labels, counts))
        counts = weight = None if counts is None else wide(xp, counts)
        if weights is not None and classes:
            weight = xp.reshape(xp.take(weights, xp.reshape(labels, (-1,)), axis=0), batch)
            weight = weight if counts is None else weight * counts
    else:
        labels, soft = None, _soft(array, batch, shape, ignored, xp, like, arrange)
    if weight is None:
        denominator = wide(xp, xp.full((), math.prod(batch), dtype=like.dtype, device=device(like)))
    else:
        denominator = fixed_sum(xp, xp.where(xp.isnan(weight), 0.0, weight))
    return Targets(xp, like, classes, labels, soft, counts, weight, weights, smoothing, denominator)


def reduced(xp: ModuleType, losses: Array, denominator: Array, reduction: Reduction) -> Array:
    """Losses as they are, their sum or their mean, which is NaN with the gradient 0 if the denominator is 0."""
    if reduction == "none":
        return losses
    total = fixed_sum(xp, wide(xp, losses))
    if reduction == "sum":
        return total
    nothing = denominator == 0
    return xp.where(nothing, math.nan, total / xp.where(nothing, 1.0, denominator))


def read(value: Any, name: str, xp: ModuleType) -> tuple[ModuleType, Array]:
    """An argument as an array of its own library, where its values may be read; NumPy's beside NumPy."""
    own, array = as_array(value, name)
    return (np, plain_array(array, name)) if np in (own, xp) else (own, array)


def as_probabilities(array: Array, xp: ModuleType, like: Array, most: float, wanted: str) -> Array:
    """Numbers from 0 to `most` beside the scores; others are a ValueError, or NaN where they cannot be read."""
    numbers = xp.astype(_reals(array, "target", xp, like), like.dtype, copy=False)
    bad = ~((numbers >= 0) & (numbers <= most))
    refuse(xp, numbers, bad, "target contains", wanted)
    return numbers if is_readable(numbers) else xp.where(bad, math.nan, numbers)


def check_reduction(reduction: Any) -> Reduction:
    """ValueError for an unknown `reduction`."""
    if reduction not in REDUCTIONS:
        raise InputError(f"reduction={reduction!r} is not one of {', '.join(map(repr, REDUCTIONS))}")
    return reduction  # type: ignore[no-any-return]


def check_smoothing(label_smoothing: Any) -> float:
    """A number from 0 to 1."""
    if isinstance(label_smoothing, bool) or not isinstance(label_smoothing, int | float | np.floating):
        raise TypeError(f"label_smoothing must be a number, got {type(label_smoothing).__name__}")
    if not 0 <= label_smoothing <= 1:
        raise InputError(f"label_smoothing={label_smoothing} is not a share: it must be from 0 to 1")
    return float(label_smoothing)


def check_ignore_index(ignore_index: Any) -> int:
    """An integer."""
    if isinstance(ignore_index, bool) or not hasattr(ignore_index, "__index__"):
        raise TypeError(f"ignore_index must be an integer, got {type(ignore_index).__name__}")
    return int(ignore_index)


def check_class_weight(class_weight: Any, xp: ModuleType, like: Array, classes: int) -> Array:
    """One weight a class, wide; ValueError for another number of them, and for one that is negative or not finite."""
    weights = check_weights(class_weight, xp, like, "class_weight")
    if tuple(weights.shape) != (classes,):
        raise InputError(
            f"class_weight has shape {tuple(weights.shape)}: pass one weight for each of {classes} classes"
        )
    return weights


def check_weights(values: Any, xp: ModuleType, like: Array, name: str) -> Array:
    """Weights as wide floats, NaN where one is negative or not finite but cannot be read; ValueError where it can."""
    weights = wide(xp, _reals(values, name, xp, like))
    bad = ~((weights >= 0) & (weights < math.inf))
    refuse(xp, weights, bad, f"{name} contains", "finite and at least 0")
    return weights if is_readable(weights) else xp.where(bad, math.nan, weights)


def refuse(xp: ModuleType, array: Array, bad: Array, contains: str, wanted: str) -> None:
    """InputError that names the first bad value, where values can be read."""
    if is_readable(array) and bool(xp.any(bad)):
        place = int(xp.argmax(xp.astype(xp.reshape(bad, (-1,)), xp.int32)))
        where = tuple(int(i) for i in np.unravel_index(place, tuple(array.shape)))
        at = ", ".join(map(str, where))
        number = int if _is_integer(xp, array) else float
        raise InputError(f"{contains} {number(array[where])}{f' at [{at}]' if at else ''}: it must be {wanted}")


def wide(xp: ModuleType, x: Array) -> Array:
    """As float64 (JAX: as its default float), in which few things per row are computed."""
    return xp.astype(x, xp.zeros(0).dtype if jax_of(x) is not None else xp.float64, copy=False)


def fixed_sum(xp: ModuleType, x: Array) -> Array:
    """The sum of all entries by halving: one order, and so the same bits, in NumPy and torch; any order when traced."""
    x = xp.reshape(x, (-1,))
    if jax_of(x) is not None or not is_readable(x):
        return xp.sum(x)
    while (n := x.shape[0]) > 1:
        even = x if n % 2 == 0 else xp.concat([x, xp.zeros_like(x[:1])])
        x = xp.sum(xp.reshape(even, (2, -1)), axis=0)
    return xp.sum(x)


def _reals(value: Any, name: str, xp: ModuleType, like: Array) -> Array:
    own, array = read(value, name, xp)
    if array.dtype.kind not in "biuf" if own is np else own.isdtype(array.dtype, "complex floating"):
        raise TypeError(f"{name} has dtype {array.dtype}: pass real numbers")
    return beside(xp, array, name, like)


def _is_integer(xp: ModuleType, array: Array) -> bool:
    if xp is np:
        return array.dtype.kind in "iu" or (array.size == 0 and array.dtype.kind == "f")
    return bool(xp.isdtype(array.dtype, "integral"))


def _labels(xp: ModuleType, array: Array, classes: int, ignored: int) -> tuple[Array, Array | None]:
    """Labels with 0 where there is none, and which count: 1, 0 if ignored, NaN if wrong and not readable; None: all."""
    labels = xp.astype(array, xp.asarray(0).dtype)
    if is_readable(array):
        if not array.size if xp is np else 0 in array.shape:
            return labels, None
        if not 0 <= ignored < classes and int(xp.min(labels)) >= 0 and int(xp.max(labels)) < classes:
            return labels, None
    is_ignored = labels == ignored
    if xp.isdtype(array.dtype, "unsigned integer") if xp is not np else array.dtype.kind == "u":
        is_ignored = is_ignored & (labels >= 0)  # what does not fit has become negative
    wrong = ~is_ignored & ((labels < 0) | (labels >= classes))
    refuse(xp, array, wrong, "target contains the label", f"one of 0..{classes - 1}, or ignore_index={ignored}")
    one = xp.ones_like(labels, dtype=xp.float32)
    counts = xp.where(wrong, math.nan, xp.where(is_ignored, 0.0, one))
    return xp.where(is_ignored | wrong, xp.zeros_like(labels), labels), counts


def _soft(
    array: Array,
    batch: tuple[int, ...],
    shape: tuple[int, ...],
    ignored: int,
    xp: ModuleType,
    like: Array,
    arrange: Callable[[Array], Array],
) -> Array:
    if tuple(array.shape) != shape or shape == batch:
        raise InputError(
            f"target has shape {tuple(array.shape)} and dtype {array.dtype}: pass labels, an integer for each row, of "
            f"shape {batch}, or soft targets, a probability for each class, in the shape of the scores, {shape}"
        )
    if ignored >= 0:
        raise InputError(f"ignore_index={ignored} is for labels: give the row of a soft target zeros to ignore it")
    return arrange(as_probabilities(array, xp, like, float(xp.finfo(like.dtype).max), "finite and at least 0"))
