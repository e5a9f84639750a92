"""The Fenchel-Young loss of each member of the family, from cross-entropy (alpha 1) to that of sparsemax (2) and on."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from softly._arrays import Array, Axis, check_alpha, is_tensor, jax_of, quiet
from softly._errors import InputError
from softly._expressions.groups import shifted
from softly._rows import Rows
from softly.losses.cross_entropy import rows_value_and_gradient
from softly.losses.rows import differences, rows_and_targets, without_dropped
from softly.losses.targets import Reduction, check_reduction, wide
from softly.maps import entmax

_LEAST_DELTA = 1e-25  # alpha = 1 is computed as 1 + this, which alters no bit of a result
_TERMS = 18  # of the series in s^2 <= 1/9: exact to 2^-53


def fenchel_young_loss(
    scores: Array,
    target: Array,
    axis: Axis = -1,
    *,
    alpha: float = 1.5,
    temperature: Any = 1.0,
    where: Array | None = None,
    class_weight: Array | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Array:
    """The loss whose gradient is entmax less the target: exactly 0 where entmax is sure and right.

        L = max_p (<p, z/T> + H(p)) - H(t) - <t, z/T>,   H(p) = sum_c (p_c - p_c^alpha) / (alpha (alpha - 1))

    with H the Tsallis entropy (Shannon's at alpha 1) and p = entmax(z / T). L >= 0, and 0 where p = t: with a label,
    from a gap of T / (alpha - 1) to every other score on, the margin; never at alpha 1. The gradient is (p - t) / T.

    alpha = 1 gives `cross_entropy` with labels, and with soft targets the Kullback-Leibler divergence of p from t:
    cross-entropy less the entropy of t; alpha = 2 the loss of sparsemax (Martins and Astudillo, 2016); alpha = inf
    the perceptron's, max z/T - <t, z/T>. Soft targets that do not sum to 1 give s L(t / s), with s their sum and the
    gradient (s p - t) / T.

    - alpha: a number >= 1.
    - class_weight: one weight >= 0 a class, for labels only.

    Other arguments, shapes, denominators, edge rows and errors as `cross_entropy`. Derivatives (torch, JAX) are in
    scores and temperature; alpha and the target are constants. Source: Blondel, Martins and Niculae, 2020.

    >>> fenchel_young_loss([[2.0, 0.0], [1.0, 0.0], [0.0, 2.0]], [0, 0, 0], reduction="none").round(4)
    array([0.    , 0.0617, 2.    ])
    >>> float(fenchel_young_loss([1.0, 0.0], [0.75, 0.25], alpha=1).round(4))
    0.0009
    """
    reduction = check_reduction(reduction)
    if not isinstance(alpha, float):
        alpha = check_alpha(alpha, None)
    if not isinstance(alpha, float):
        raise TypeError(f"alpha must be a number, got {type(alpha).__name__}: the loss has no derivative in it")
    with quiet(scores):
        rows, targets = rows_and_targets(
            scores, target, axis, temperature, where,
            half_in="float64", class_weight=class_weight, ignore_index=ignore_index,
        )  # fmt: skip
        if targets.labels is None and class_weight is not None:
            raise InputError("class_weight is for labels: the loss of a soft target is no sum over its classes")
        if alpha == 1 and targets.labels is not None:
            losses, _ = rows_value_and_gradient(rows, targets, None)
        else:
            y = replace(targets, class_weight=None, counts=None).each_class()
            losses = _losses(without_dropped(rows, targets.dropped), y, check_alpha(alpha, None))
            if targets.weight is not None:
                losses = rows.xp.where(targets.weight == 0, 0.0, targets.weight * wide(rows.xp, losses))
        return rows.restore(targets.reduced(losses, reduction))


def _losses(rows: Rows, y: Array, alpha: float) -> Array:
    if is_tensor(rows.scores):
        from softly.torch.losses import fenchel_young

        return fenchel_young(rows, y, alpha)
    if (jax := jax_of(rows.scores)) is not None:
        return jax.fenchel_young(rows, y, alpha)
    return values(rows, y, alpha)


def values(rows: Rows, y: Array, alpha: float) -> Array:
    """The loss of each row, (*batch), from its divergences at each class.

    On the support p^b = b z/T - tau with b = alpha - 1: the loss is Bregman's divergence of the target from p,

        sum_c d(y_c, p_c),   d(y, p) = (y^alpha - alpha y p^b + b p^alpha) / (alpha b) >= 0,

    plus y_c times the distance of z_c/T below the support. With y = 0, d = p^alpha / alpha; where p is far above y

        d = (y p^b expm1(b log(y/p)) / b + p^b (p - y)) / alpha,

    elsewhere, with x = 1 - p/y of which the first order cancels, and f(x) = log1p(x) - x,

        d = y^alpha (1 - (1 - x)^b (1 + b x)) / (alpha b) = -y^alpha expm1(b f(-x) + f(b x)) / (alpha b).

    No term is negative and none cancels, so that a small loss keeps its digits.
    """
    xp, z = rows.xp, rows.scores
    if z.shape[-1] == 0:
        return xp.sum(z, axis=-1)
    x, _ = shifted(rows)
    gap = xp.where(z == -math.inf, math.inf, -x)
    size = rows.total(y)
    q = y / xp.where(size == 0, 1.0, size)
    if alpha == math.inf:
        each = xp.where(q == 0, 0.0, q * gap)
    else:
        p = entmax(z, alpha=alpha, temperature=rows.temperature)
        b = max(alpha - 1, _LEAST_DELTA)
        some = xp.where(q == 0, 1.0, q)
        off = -differences(rows, p, q) / some
        far = off < -0.5 / max(1.0, b)
        near = xp.where(far, 0.0, off)
        ratio = xp.log(xp.where(p == 0, some, p) / some)
        first = xp.where(near > 0.5, ratio + near, _log1p_less_x(xp, -near))  # 1 - x may be 0, p/y is not
        inside = -(some**alpha) * xp.expm1(b * first + _log1p_less_x(xp, b * near)) / (alpha * b)
        above = (some * xp.expm1(xp.where(far, -b * ratio, 0.0)) / b + (p - some)) * p**b / alpha
        each = xp.where(q == 0, p**alpha / alpha, xp.where(far, above, inside))
        each = xp.where((p == 0) & (q > 0), _outside(rows, some, p, gap, b), each)
    return xp.sum(each * size, axis=-1) + 0.0


def _outside(rows: Rows, y: Array, p: Array, gap: Array, b: float) -> Array:
    """y gap + (y^alpha - alpha y u) / (alpha b), u = p^b of the leader: d(y, 0) and the distance below the support."""
    xp = rows.xp
    lead = rows.largest(p)
    lead = xp.where(lead == 0, 1.0, lead)
    gained = (y**b - lead**b) / b if b > 1 else lead**b * xp.expm1(b * xp.log(y / lead)) / b
    return y * (gap + (gained - lead**b) / (1 + b))


def _log1p_less_x(xp: Any, x: Array) -> Array:
    """log(1 + x) - x, to its last digits near 0 too: with s = x / (2 + x), log(1 + x) = 2 (s + s^3 / 3 + ...)."""
    near = xp.where(xp.abs(x) < 0.5, x, 0.0)
    s = near / (2 + near)
    total = xp.zeros_like(s)
    for k in reversed(range(_TERMS)):
        total = total * s * s + 1 / (2 * k + 3)
    return xp.where(xp.abs(x) < 0.5, s * (2 * s * s * total - near), xp.log1p(x) - x)
