"""A Fisher information to the covariance of what it tells about, or to the names of what it does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from softly._errors import InputError
from softly.models.losses import Floats

_SINGULAR = 1e-11  # of the eigenvalues of an information whose diagonal is 1
_TAKES_PART = 0.05  # of the largest entry of a direction that the data say nothing about


def inverse_information(information: Floats, names: Sequence[str]) -> Floats:
    """The covariance; InputError that names the coefficients between which the data cannot tell.

    names: one for each coefficient.
    """
    diagonal = np.diagonal(information)
    silent = ~(diagonal > 0)
    if silent.any():
        raise _singular([name for name, is_silent in zip(names, silent, strict=True) if is_silent])
    root = np.sqrt(diagonal)
    values, vectors = np.linalg.eigh(information / np.multiply.outer(root, root))
    if values[0] <= _SINGULAR:
        taking_part = np.abs(vectors[:, 0]) > _TAKES_PART * np.abs(vectors[:, 0]).max()
        raise _singular([name for name, part in zip(names, taking_part, strict=True) if part])
    scaled = vectors / root[:, None]
    return np.asarray((scaled / values) @ scaled.T)


def _singular(names: Sequence[str]) -> InputError:
    which = ", ".join(sorted(set(names)))  # a feature has one coefficient a class, and is named once
    return InputError(
        f"singular design: the data cannot tell the coefficients of {which} apart or from 0; leave one out, or pass "
        "l2 > 0"
    )
