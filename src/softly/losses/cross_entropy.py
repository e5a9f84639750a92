"""Cross-entropy of scores with labels or soft targets, and its gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from softly import _kernels
from softly._arrays import Array, Axis, is_tensor, quiet
from softly._rows import Rows
from softly.losses.fused import label_losses
from softly.losses.rows import rows_and_targets, slopes, without_dropped
from softly.losses.targets import Reduction, Targets, check_reduction
from softly.maps import log_softmax, softmax


def cross_entropy(
    scores: Array,
    target: Array,
    axis: Axis = -1,
    *,
    temperature: Any = 1.0,
    where: Array | None = None,
    class_weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Array:
    """The negative log-probability of each row's label, or of its soft target on average; accurate near 0 too.

    With p = softmax(z / T), weights w of the K classes and a smoothing e, the loss of row i is

        sum_c w_c ((1 - e) [c = y_i] + e / K) (-log p_ic)   for a label y_i
        sum_c w_c ((1 - e) t_ic + e / K) (-log p_ic)        for a soft target t_i, which need not sum to 1

    reduction="sum" adds the rows; "mean" divides that by the sum of w_(y_i) over the rows that are not ignored, for
    soft targets by the number of rows, as torch does; "none" leaves them. The gradient of a row is
    (p sum(a) - a) / T with a the factors of -log p above.

    - scores, axis, temperature, where: as `softmax`.
    - target: labels, integers of any dtype in the scores' shape without `axis` (several axes count as one, in C order),
      or soft targets, numbers >= 0 in the scores' shape.
    - class_weight: one weight >= 0 a class. A label whose class has the weight 0 is as an ignored one.
    - ignore_index: a label that leaves its row out, whatever the row holds.
    - label_smoothing: e, from 0 to 1; classes that are impossible in a row have no share, nor count in its K.

    Returns a number, or for "none" the scores' shape without `axis`, in the scores' floating dtype. Edge rows: a label
    at an impossible class gives inf (gradient: 0 there, elsewhere as above), 0 * inf is 0; NaN gives NaN in its row;
    the mean where nothing counts is NaN, with the gradient 0.

    Raises ValueError (labels out of range, floats or of another shape, negative or NaN targets and weights, a smoothing
    outside [0, 1], and as `softmax`), TypeError, AxisError. Source: torch.nn.functional.cross_entropy.

    >>> float(cross_entropy([[2.0, 1.0, -1.0], [0.0, 40.0, 0.0]], [0, 1], reduction="sum").round(6))
    0.349012
    >>> cross_entropy([[0.0, 40.0]], [1], reduction="none")
    array([4.24835426e-18])
    """
    return _cross_entropy(
        scores, target, axis, temperature, where, class_weight, ignore_index, label_smoothing, reduction
    )[0]


def cross_entropy_and_gradient(
    scores: Array,
    target: Array,
    axis: Axis = -1,
    *,
    temperature: Any = 1.0,
    where: Array | None = None,
    class_weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> tuple[Array, Array]:
    """`cross_entropy` and its gradient in the scores, (loss, gradient).

    Arguments, edge rows and errors as `cross_entropy`. The gradient has the scores' shape; with reduction="none" it is
    that of each row's own loss. Its rows sum to 0, and the entry of a class with p near 1 keeps its digits when p has
    become 1, as minus the sum of the others.

    >>> loss, gradient = cross_entropy_and_gradient([[20.0, 0.0, 0.0]], [0])
    >>> gradient
    array([[-4.12230723e-09,  2.06115361e-09,  2.06115361e-09]])
    """
    return _cross_entropy(
        scores, target, axis, temperature, where, class_weight, ignore_index, label_smoothing, reduction, True
    )


def _cross_entropy(
    scores: Array,
    target: Array,
    axis: Axis,
    temperature: Any,
    where: Array | None,
    class_weight: Array | None,
    ignore_index: int,
    label_smoothing: float,
    reduction: Reduction,
    with_gradient: bool = False,
) -> tuple[Array, Array]:
    """Checks, rows, the caller's layout; the gradient is None where it is not asked for."""
    reduction = check_reduction(reduction)
    with quiet(scores):
        rows, targets = rows_and_targets(
            scores, target, axis, temperature, where,
            class_weight=class_weight, ignore_index=ignore_index, label_smoothing=label_smoothing,
        )  # fmt: skip
        losses, gradient = rows_value_and_gradient(rows, targets, targets.share(reduction) if with_gradient else None)
        loss = rows.restore(targets.reduced(losses, reduction))
        return loss, None if gradient is None else replace(rows, reduces=False).restore(gradient)


def rows_value_and_gradient(rows: Rows, targets: Targets, share: Array | float | None) -> tuple[Array, Array | None]:
    """The weighted loss of each row and, given its share in the result, the gradient of that in the scores."""
    if targets.is_plain and (found := _fused(rows, targets, share)) is not None:
        return found
    losses, rows = _losses(rows, targets), without_dropped(rows, targets.dropped)
    if share is None:
        return losses, None
    a = targets.each_class(_possible(rows, targets))
    gradient = slopes(rows, softmax(rows.scores, temperature=rows.temperature), a)
    return losses, gradient if isinstance(share, float) else gradient * rows.xp.astype(share, gradient.dtype)


def _fused(rows: Rows, targets: Targets, share: Array | float | None) -> tuple[Array, Array | None] | None:
    """The same of labels without smoothing, from one call of the core; None where that cannot be."""
    labels = targets.labels_or(-1)
    scale = None if share is None else targets.scale(share)
    if is_tensor(rows.scores):
        from softly.torch.label_losses import value_and_gradient

        found = value_and_gradient(rows, labels, scale, lambda z: _label_losses(replace(rows, scores=z), targets))
        return None if found is None else (targets.weighted(found[0]), found[1])
    if type(rows.scores) is not np.ndarray:
        return None
    gradient = None if scale is None else _kernels.empty_like(rows.scores)
    losses = label_losses(rows.scores, labels, rows.temperature, 1.0 if scale is None else scale, gradient)
    return None if losses is None else (targets.weighted(losses), gradient)


def _losses(rows: Rows, targets: Targets) -> Array:
    """The weighted loss of each row, from the maps."""
    if not targets.classes:
        return rows.xp.sum(rows.scores, axis=-1)
    if targets.is_plain:
        return targets.weighted(_label_losses(rows, targets))
    xp, rows = rows.xp, without_dropped(rows, targets.dropped)
    log_p = log_softmax(rows.scores, temperature=rows.temperature)
    a = targets.each_class(_possible(rows, targets))
    return 0 - xp.sum(a * xp.where((a == 0) & (log_p == -np.inf), 0.0, log_p), axis=-1)


def _label_losses(rows: Rows, targets: Targets) -> Array:
    """-log p of each row's label."""
    rows = without_dropped(rows, targets.dropped)
    log_p = log_softmax(rows.scores, temperature=rows.temperature)
    return 0 - rows.xp.take_along_axis(log_p, rows.spread(targets.labels), axis=-1)[..., 0]


def _possible(rows: Rows, targets: Targets) -> Array | None:
    """The classes that share in a smoothing, if there is one."""
    return rows.scores != -np.inf if targets.smoothing else None
