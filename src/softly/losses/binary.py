"""Cross-entropy of labels that do not exclude each other: one yes or no for every score."""

from __future__ import annotations

import math
from typing import Any

from softly._arrays import Array, device, in_shape_of, jax_of, quiet
from softly._errors import InputError
from softly._rows import Rows, as_rows
from softly.losses.targets import Reduction, as_probabilities, check_reduction, check_weights, read, reduced, wide
from softly.maps import log_sigmoid


def binary_cross_entropy(
    scores: Array,
    target: Array,
    *,
    temperature: Any = 1.0,
    where: Array | None = None,
    class_weight: Array | None = None,
    pos_weight: Array | None = None,
    reduction: Reduction = "mean",
) -> Array:
    """The negative log-probability of yes or no at every score, for labels that do not exclude each other.

    With p = sigmoid(z / T), weights w and u, and a target t from 0 to 1, each score's loss is

        w (u t (-log p) + (1 - t) (-log(1 - p))),

    accurate near 0 too. "mean" divides the sum by the number of scores, whatever the weights, as torch does. The
    gradient is w ((1 - t) p - u t (1 - p)) / T. It is `cross_entropy` of the pair of scores (0, z).

    - scores, temperature, where: as `sigmoid`. What is masked has the probability 0: no costs nothing, yes costs inf.
    - target: True and False, or numbers from 0 to 1, in the scores' shape.
    - class_weight, pos_weight: w and u, >= 0, broadcast to the scores, as one a class, shape (classes,), does. A score
      with the weight 0 never matters, NaN included: to leave scores out, divide the sum by the number of the others.

    Returns a number, or for "none" the scores' shape, in their floating dtype. Raises ValueError (targets outside
    [0, 1], negative weights, shapes that do not fit, and as `sigmoid`), TypeError.
    Source: torch.nn.functional.binary_cross_entropy_with_logits, whose weight is `class_weight`.

    >>> binary_cross_entropy([0.0, 40.0, -2.0], [1, 1, 0], reduction="none")
    array([6.93147181e-01, 4.24835426e-18, 1.26928011e-01])
    """
    reduction = check_reduction(reduction)
    if (jax := jax_of(scores, target, temperature, where, class_weight, pos_weight)) is not None:
        scores = jax.asarray(scores)
    with quiet(scores):
        rows = as_rows(scores, (), temperature, where, "zero", None, reduces=True)
        xp, z = rows.xp, rows.scores[..., 0]
        _, array = read(target, "target", xp)
        if tuple(array.shape) != rows.shape:
            raise InputError(
                f"target has shape {tuple(array.shape)}: pass a yes or no for every score, in their shape, {rows.shape}"
            )
        t = as_probabilities(array, xp, z, 1.0, "from 0 to 1")
        yes, no = t, 1 - t
        if pos_weight is not None:
            yes = yes * _broadcast(pos_weight, rows, z, "pos_weight")
        if class_weight is None:
            losses = _losses(rows, z, yes, no)
        else:
            weight = _broadcast(class_weight, rows, z, "class_weight")
            each = _losses(rows, xp.where(weight == 0, 0.0, z), yes, no)
            losses = xp.where(weight == 0, 0.0, weight * each)
        number = xp.full((), math.prod(rows.shape), dtype=z.dtype, device=device(z))
        return rows.restore(reduced(xp, losses, wide(xp, number), reduction))


def _losses(rows: Rows, z: Array, yes: Array, no: Array) -> Array:
    xp = rows.xp
    log_p, log_q = (log_sigmoid(x, temperature=rows.temperature) for x in (z, -z))
    log_p, log_q = (xp.where((a == 0) & (x == -math.inf), 0.0, x) for a, x in ((yes, log_p), (no, log_q)))
    return 0 - (yes * log_p + no * log_q)


def _broadcast(values: Any, rows: Rows, z: Array, name: str) -> Array:
    weights = check_weights(values, rows.xp, z, name)
    return in_shape_of(z, rows.xp, weights, name)
