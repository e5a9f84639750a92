"""What probabilities cannot say about scores: the shift that no map sees, and targets that no finite scores reach."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from softly._arrays import Array, Axis, plain_array, quiet
from softly._errors import InputError
from softly._records import Record
from softly._rows import as_rows
from softly.calibration.kinds import label_vector

LINE = (
    "every class has a target above 0: the cross-entropy is least along a line of scores, log(targets) + c for any "
    "number c. Fix c, for example by center(scores); parameters behind the scores need such a convention too."
)
NO_FINITE = (
    "classes with target 0 want the score -inf: the cross-entropy falls for ever as these scores do, and no finite "
    "scores are best. Smooth the targets, penalise the scores, or stop early."
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Identifiability(Record):
    """Which scores minimise the cross-entropy of given targets, one vector of scores a row.

    status: "line" if every row has optima, which differ by a shift; "no finite optimum" if some row has none.
    unreachable: (row, class) of each target 0. optimum: the optimal scores, of mean 0 over the classes with targets
    above 0, -inf at the others. direction: the null direction, along which nothing changes.
    """

    status: Literal["line", "no finite optimum"]
    reason: str
    rows_without_optimum: tuple[int, ...]
    unreachable: tuple[tuple[int, int], ...]
    optimum: Any
    direction: Any


def center(scores: Array, axis: Axis = -1, *, where: Array | None = None) -> Array:
    """The scores of the same probabilities, at every temperature, whose mean over the possible entries is 0.

    z - mean z: of all the shifts of z that no map of the family sees, the one without a part along `null_direction`.
    Arguments as `softmax`. Impossible entries stay -inf; infinite scores are left out of the mean.

    >>> center([5.0, 3.0, 1.0])
    array([ 2.,  0., -2.])
    """
    rows = as_rows(scores, axis, 1.0, where, "zero", None)
    xp, z = rows.xp, rows.scores
    with quiet(z):
        finite = xp.abs(z) < math.inf
        count = rows.total(xp.astype(finite, z.dtype))
        for _ in range(2):  # once more for what the rounding of a large mean has left
            part = xp.where(finite, z / count, xp.zeros_like(z))
            z = z - rows.total(part)
        return rows.restore(z)


def null_direction(scores: Array, axis: Axis = -1, *, where: Array | None = None) -> Array:
    """The direction in which scores may move without any effect: 1 at the possible entries, 0 at the others.

    J 1 = 0, at every alpha and temperature. Arguments and shape as `softmax`.

    >>> null_direction([2.0, -np.inf, 0.0])
    array([1., 0., 1.])
    """
    rows = as_rows(scores, axis, 1.0, where, "zero", None)
    z = rows.scores
    return rows.restore(rows.xp.where(z == -math.inf, rows.xp.zeros_like(z), rows.xp.ones_like(z)))


def identifiable(targets: Any, *, classes: int | None = None) -> Identifiability:
    """Whether free scores have an optimum for these targets, and how much of it the targets pin down.

    The cross-entropy -sum t log softmax(z) is least where softmax(z) = t / sum t: along a line if all t > 0, at no
    finite z if some t is 0.

    - targets: (rows, classes) or (classes,) numbers >= 0 with a positive sum; or class indices (rows,), integers, with
      `classes`, how many there are.

    ValueError for targets that are negative, not finite, 0 throughout a row, or no class index.

    >>> identifiable([0.5, 0.25, 0.25]).status
    'line'
    >>> identifiable([2], classes=3).unreachable
    ((0, 0), (0, 1))
    """
    given = plain_array(targets, "targets")
    if classes is not None:
        given = label_vector(given, len(np.atleast_1d(given)), classes, name="targets")
        given = given[:, None] == np.arange(classes)
    if given.ndim not in (1, 2) or given.dtype.kind not in "biuf":
        raise InputError(
            f"targets have shape {given.shape} and dtype {given.dtype}: pass numbers of shape (rows, classes), or "
            "class indices together with classes="
        )
    t = np.atleast_2d(given.astype(np.float64))
    total = t.sum(axis=1)
    off = ~(t >= 0).all(axis=1) | ~((total > 0) & (total < math.inf))
    if off.any():
        row = int(np.argmax(off))
        raise InputError(f"targets, row {row}: {t[row][:4]} are not shares: pass numbers >= 0 with a positive sum")
    with np.errstate(divide="ignore"):
        optimum = np.asarray(center(np.log(t / total[:, None]))).reshape(given.shape)
    unreachable = tuple((int(row), int(place)) for row, place in np.argwhere(t == 0))
    without = tuple(sorted({row for row, _ in unreachable}))
    return Identifiability(
        status="no finite optimum" if without else "line",
        reason=f"{len(without)} of {len(t)} rows: {NO_FINITE}" if without else LINE,
        rows_without_optimum=without,
        unreachable=unreachable,
        optimum=optimum,
        direction=np.ones(t.shape[1]),
    )
