"""What scores are: logits, log-probabilities or probabilities. Declared by the caller, checked here, never guessed."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from softly._arrays import plain_array
from softly._errors import InputError, RowError
from softly.maps import logsumexp

Kind = Literal["logits", "log_probabilities", "probabilities"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_SUM_TOLERANCE = 1e-3  # float16 probabilities of ten classes sum to 1 within 5e-4


def score_matrix(scores: Any) -> NDArray[Any]:
    """Scores as a float32 or float64 matrix (rows, classes >= 2); one dimension means the binary pair [0, s]."""
    matrix = plain_array(scores, "scores")
    if matrix.dtype == np.float16:
        matrix = matrix.astype(np.float32)
    elif matrix.dtype.kind in "biu":
        matrix = matrix.astype(np.float64)
    elif matrix.dtype.kind != "f":
        raise TypeError(f"scores have dtype {matrix.dtype}: convert them to real numbers, such as float64")
    if matrix.dtype.itemsize > 8:
        matrix = matrix.astype(np.float64)
    if matrix.ndim == 1:
        matrix = np.stack([np.zeros_like(matrix), matrix], axis=1)
    if matrix.ndim != 2 or matrix.shape[1] < 2:
        raise InputError(
            f"scores have shape {matrix.shape}: pass (rows, classes) with at least two classes, or (rows,) for the "
            "score of class 1 against 0"
        )
    return np.ascontiguousarray(matrix, matrix.dtype.newbyteorder("="))


def label_vector(
    labels: Any, rows: int, classes: int, first_row: int = 0, *, name: str = "labels"
) -> NDArray[np.int64]:
    """Labels as int64 (rows,) in [0, classes); ValueError names the first that is not, counted from `first_row`."""
    vector = plain_array(labels, name)
    if vector.dtype.kind not in "biu" and rows:
        raise InputError(f"{name} have dtype {vector.dtype}: pass class indices as integers")
    if vector.shape != (rows,):
        raise InputError(f"{name} have shape {vector.shape}: pass one for each of the {rows} rows of scores")
    outside = (vector < 0) | (vector >= classes)
    if outside.any():
        row = int(np.argmax(outside))
        raise InputError(f"{name}, row {first_row + row}: {vector[row]} is not a class index in 0..{classes - 1}")
    return vector.astype(np.int64, copy=False)


def to_logits(scores: NDArray[Any], kind: Kind, *, first_row: int = 0, trust: bool = False) -> NDArray[Any]:
    """Scores of the declared kind as logits of the same probabilities; ValueError where they contradict it.

    The pair [0, s] of a single column s stands for [1 - s, s] among probabilities, for their logarithms likewise: no
    other row of a kind has a 0 there. `trust` skips the question whether logits look like probabilities.
    """
    if kind not in KINDS:
        raise InputError(f"kind={kind!r} is not one of {', '.join(map(repr, KINDS))}")
    logits: NDArray[Any] = scores
    if not len(scores):
        return scores
    if kind == "logits":
        if not trust and look_like_probabilities(scores):
            raise InputError(
                "scores look like probabilities (every row lies in [0, 1] and sums to 1) but kind is 'logits': "
                "declare kind 'probabilities'; if they are logits all the same, add 1 to them: no map changes"
            )
        return scores
    with np.errstate(all="ignore"):
        if scores.shape[1] == 2 and not scores[:, 0].any():
            single = scores[:, 1]
            rest = 1 - single if kind == "probabilities" else np.log1p(-np.exp(single))
            scores = logits = np.stack([rest, single], axis=1)
        if kind == "probabilities":
            off = ~(scores >= 0).all(axis=1) | ~(np.abs(scores.sum(axis=1, dtype=np.float64) - 1) <= _SUM_TOLERANCE)
            logits, what = np.log(scores), "are not probabilities (each at least 0, sum 1)"
        else:
            off = ~np.asarray(np.abs(logsumexp(scores, axis=1)) <= _SUM_TOLERANCE)
            what = "are not log-probabilities (their exponentials sum to 1)"
    if off.any():
        row = int(np.argmax(off))
        shown = ", ".join(f"{v:.4g}" for v in scores[row, :4]) + (", ..." if scores.shape[1] > 4 else "")
        raise RowError(first_row + row, f"{shown} {what}: declare kind 'logits', or mend the row")
    return logits


def look_like_probabilities(scores: NDArray[Any]) -> bool:
    """Whether every row lies in [0, 1] and sums to 1; of single columns s, as [0, s], whether all lie in [0, 1]."""
    first = scores[0]  # most logits are told apart by one row
    if not ((first >= 0) & (first <= 1)).all() or not ((scores >= 0) & (scores <= 1)).all():
        return False
    if scores.shape[1] == 2 and not scores[:, 0].any():
        return len(scores) > 1 and bool(scores[:, 1].any())
    return bool((np.abs(scores.sum(axis=1, dtype=np.float64) - 1) <= _SUM_TOLERANCE).all())
