"""What scores are held against: class indices or probabilities, as one distribution a row."""

from __future__ import annotations

from typing import Any

import numpy as np

from softly._arrays import Array, beside, in_shape_of, is_readable
from softly._errors import InputError
from softly._rows import Rows


def as_targets(targets: Any, rows: Rows) -> Array:
    """Targets in the layout and dtype of the rows' scores: one-hot for integers, one a row; else as they are.

    ValueError for other shapes, class indices that are none, or targets that are negative or NaN.
    """
    xp, scores = rows.xp, rows.scores
    batch, n = tuple(scores.shape[:-1]), scores.shape[-1]
    array = beside(xp, targets, "targets", scores)
    if xp.isdtype(array.dtype, "integral") and tuple(array.shape) == batch:
        _refuse(xp, array, (array < 0) | (array >= n), f"a class index in 0..{n - 1}")
        return xp.astype(xp.expand_dims(array, axis=-1) == beside(xp, np.arange(n), "targets", scores), scores.dtype)
    if array.ndim != len(rows.shape):
        raise InputError(
            f"targets have shape {tuple(array.shape)} and dtype {array.dtype}: pass class indices as integers of shape "
            f"{batch}, or probabilities of the scores' shape, {rows.shape}"
        )
    spread = in_shape_of(rows, xp, xp.astype(array, scores.dtype), "targets")
    _refuse(xp, spread, ~(spread >= 0), "a probability, which is at least 0")
    return rows.arrange(spread)


def _refuse(xp: Any, array: Array, bad: Array, wanted: str) -> None:
    """InputError that names the first bad value, where values can be read."""
    if is_readable(array) and bool(xp.any(bad)):
        flat = xp.reshape(bad, (-1,))
        first = xp.reshape(array, (-1,))[int(xp.argmax(xp.astype(flat, xp.int32)))]
        raise InputError(f"targets contain {first}, which is not {wanted}")
