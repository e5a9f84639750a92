"""What the losses share: scores as rows beside their targets, and the gradient that all of them have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from softly._arrays import Array, Axis, jax_of
from softly._expressions.groups import temperature_of
from softly._rows import Rows, as_rows
from softly.losses.targets import Targets, as_targets


def rows_and_targets(
    scores: Array,
    target: Array,
    axis: Axis,
    temperature: Any,
    where: Array | None,
    half_in: str = "float32",
    **options: Any,
) -> tuple[Rows, Targets]:
    """Scores and target, checked, as rows; a result of the rows is one number a row."""
    if (jax := jax_of(scores, target, temperature, where, options["class_weight"])) is not None:
        scores, half_in = jax.asarray(scores), "float32"
    rows = as_rows(scores, axis, temperature, where, "zero", None, reduces=True, half_in=half_in)
    batch, classes = tuple(rows.scores.shape[:-1]), rows.scores.shape[-1]
    return rows, as_targets(
        target, rows.xp, rows.scores, batch, classes, shape=rows.shape, arrange=rows.arrange, **options
    )  # fmt: skip


def without_dropped(rows: Rows, dropped: Array | None) -> Rows:
    """Rows of which those that do not matter hold zeros, so that nothing in them gets anywhere."""
    if dropped is None:
        return rows
    xp = rows.xp
    return replace(rows, scores=xp.where(xp.expand_dims(dropped, axis=-1), 0.0, rows.scores))


def differences(rows: Rows, p: Array, a: Array) -> Array:
    """p sum(a) - a; that of a class with more than half of p is minus the sum of the others, as p may have become 1."""
    xp = rows.xp
    e = p * rows.total(a) - a
    leads = p > 0.5
    return xp.where(leads, -rows.total(xp.where(leads, 0.0, e)), e)


def slopes(rows: Rows, p: Array, a: Array) -> Array:
    """The gradient (p sum(a) - a) / T; 0 for impossible classes, at infinite scores and at the limits of T."""
    xp, z, t = rows.xp, rows.scores, temperature_of(rows)
    if z.shape[-1] == 0:
        return z
    limit = (t == 0) | (t == np.inf)
    still = limit | (z == -np.inf) | (rows.largest(z) == np.inf)
    return xp.where(still, 0.0, differences(rows, p, a) / xp.where(limit, 1.0, t))
