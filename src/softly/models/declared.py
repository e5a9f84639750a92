"""Does a specimen fit what it is declared to be?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softly._arrays import plain_array, plain_reals
from softly._errors import InputError
from softly._records import Record
from softly.calibration.kinds import label_vector

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredCheck(Record):
    """What `check_declared` found, an entry a specimen.

    flagged: does not fit its declaration. unknown: declared as a class that the model has not seen, of which nothing
    can be said; never flagged, p_values NaN. p_values: how rare so small a probability is among specimens that are what
    they are declared to be. likeliest: the class of the largest probability.
    """

    flagged: NDArray[np.bool_]
    unknown: NDArray[np.bool_]
    p_values: FloatArray
    likeliest: NDArray[np.int64]
    false_alarm: float
    held_out_rows: int


def check_declared(
    probabilities: Any,
    declared: Any,
    *,
    held_out: Any,
    held_out_labels: Any,
    false_alarm: float = 0.05,
    classes: Sequence[Any] | None = None,
) -> DeclaredCheck:
    """Flag specimens whose declared class is improbable, at a rate of false alarms that holds for any model.

    A specimen with the probability p of its declared class has the conformal p-value

        (1 + #{held-out rows whose probability of their own label is at most p}) / (held-out rows + 1)

    and is flagged where that is at most `false_alarm`. If honest specimens and held-out rows come from one source, in
    any order alike (exchangeable), the chance that an honest one is flagged is at most `false_alarm`, however bad the
    probabilities are; good ones catch more of the others. It holds for all specimens together, not within each class.

    - probabilities: (rows, classes), calibrated or at least comparable between rows. declared: (rows,) class indices,
      -1 for a class that the model has not seen; with `classes`, names, of which those not among them are unseen.
    - held_out, held_out_labels: rows that the model was not fitted on, with their true classes, in the same terms;
      those of unseen classes are left out. At least 1 / false_alarm - 1 of them.

    Raises ValueError: shapes that do not fit, entries outside [0, 1], too few held-out rows. Source: Vovk, Gammerman
    and Shafer, 2005.

    >>> import numpy as np
    >>> held_out = np.column_stack([np.linspace(0.5, 1, 99), 1 - np.linspace(0.5, 1, 99)])
    >>> found = check_declared(
    ...     [[0.9, 0.1], [0.9, 0.1], [0.9, 0.1]], [0, 1, -1], held_out=held_out, held_out_labels=[0] * 99
    ... )
    >>> found.flagged, found.unknown, found.p_values
    (array([False,  True, False]), array([False, False,  True]), array([0.8 , 0.01,  nan]))
    """
    p, reference = _probabilities(probabilities, "probabilities"), _probabilities(held_out, "held_out")
    if p.shape[1] != reference.shape[1]:
        raise InputError(
            f"held_out has {reference.shape[1]} classes, probabilities {p.shape[1]}: pass the same model's"
        )
    names = None if classes is None else {name: i for i, name in enumerate(classes)}
    if names is not None and len(names) != p.shape[1]:
        raise InputError(f"classes has {len(names)} different names: pass one for each of {p.shape[1]} classes")
    claimed = _claims(p, _indices(declared, names, p, "declared"))
    honest = _claims(reference, _indices(held_out_labels, names, reference, "held_out_labels"))
    honest = honest[~np.isnan(honest)]
    p_values = conformal_p_values(claimed, honest, false_alarm)
    with np.errstate(invalid="ignore"):
        flagged = p_values <= false_alarm
    return DeclaredCheck(
        flagged=flagged,
        unknown=np.isnan(claimed),
        p_values=p_values,
        likeliest=p.argmax(axis=1),
        false_alarm=float(false_alarm),
        held_out_rows=len(honest),
    )


def conformal_p_values(claimed: FloatArray, honest: FloatArray, false_alarm: float) -> FloatArray:
    """The p-value of each claimed probability among those of honest rows; NaN stays."""
    if isinstance(false_alarm, bool) or not isinstance(false_alarm, int | float | np.floating):
        raise InputError(f"false_alarm={false_alarm!r} is not a number between 0 and 1")
    if not 0 < false_alarm < 1:
        raise InputError(f"false_alarm={false_alarm} is not between 0 and 1")
    least = math.ceil(1 / false_alarm - 1e-9) - 1
    if len(honest) < least:
        raise InputError(
            f"held_out has {len(honest)} rows: to flag anything at false_alarm={false_alarm} takes at least {least}"
        )
    below = np.searchsorted(np.sort(honest), claimed, side="right")
    return np.where(np.isnan(claimed), np.nan, (1 + below) / (len(honest) + 1))


def _probabilities(values: Any, name: str) -> FloatArray:
    p = plain_reals(values, name).astype(np.float64)
    if p.ndim != 2 or p.shape[1] < 2:
        raise InputError(f"{name} has shape {p.shape}: pass (rows, classes), at least two classes")
    bad = ~((p >= 0) & (p <= 1))
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise InputError(f"{name}, row {row}, class {column}: {p[row, column]} is not a probability")
    return p


def _indices(labels: Any, names: dict[Any, int] | None, p: FloatArray, name: str) -> NDArray[np.int64]:
    """Class indices, -1 where unseen."""
    if names is not None:
        labels = np.array([names.get(label, -1) for label in np.asarray(labels).tolist()], np.int64)
    vector = plain_array(labels, name)
    if vector.dtype.kind not in "biu" and vector.size:
        raise InputError(f"{name} have dtype {vector.dtype}: pass class indices, or names along with classes")
    seen = vector != -1
    label_vector(np.where(seen, vector, 0), *p.shape, name=name)
    return vector.astype(np.int64)


def _claims(p: FloatArray, labels: NDArray[np.int64]) -> FloatArray:
    """The probability of each row's label, NaN where unseen."""
    return np.where(labels < 0, np.nan, p[np.arange(len(p)), labels])
