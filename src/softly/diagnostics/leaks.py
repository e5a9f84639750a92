"""Whether what a callable says of a position depends on what comes later."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from softly._arrays import as_array, device, plain_array
from softly._errors import InputError
from softly._records import Record

_MOST_CUTS = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LeakReport(Record):
    """What `leak_test` found.

    status: "causal": no output changed with its future; "leaks"; "random": the same sequence gave two outputs, and
    nothing is said. cuts: after how many positions the future was changed. reads_ahead: for each position how far
    ahead it was seen to read, 0 if not at all. change: the largest change of an output by its future; inf for NaN.
    """

    length: int
    status: Literal["causal", "leaks", "random"]
    cuts: int
    reads_ahead: Any
    change: float
    advice: tuple[str, ...]


def leak_test(f: Callable[[Any], Any], sequence: Any, *, axis: int = 0, seed: int = 0) -> LeakReport:
    """Does f look ahead? Changes all that follows a position, position by position, and compares outputs up to it.

    The future is replaced by zeros, by random values of the sequence's own spread, and by values 1e12 times as large,
    which beat a finite mask such as -1e9. Tokens (integers) are replaced by others of the sequence. Outputs up
    to the cut must keep their bits; what they do not is a leak: a mask that is off by one, a finite mask on a row in
    which nothing is possible, a normalisation over time.

    - f: from a sequence to outputs, one a position along the same axis; called without gradients.
    - sequence: an array or tensor of at least two positions along `axis`. Up to 64 cuts are tried.

    ValueError for less than two positions, or an output of another length.

    >>> told = leak_test(lambda x: np.cumsum(x), np.arange(6.0))
    >>> told.status, leak_test(lambda x: x - x.mean(), np.arange(6.0)).status
    ('causal', 'leaks')
    """
    xp, given = as_array(sequence, "sequence")
    plain = plain_array(given, "sequence")
    if not plain.ndim or not -plain.ndim <= axis < plain.ndim or plain.shape[axis] < 2:
        raise InputError(f"sequence has shape {plain.shape}: pass at least two positions along axis={axis}")
    length = plain.shape[axis]
    torch = sys.modules.get("torch")

    def call(values: NDArray[Any]) -> NDArray[Any]:
        argument = values if xp is np else xp.astype(xp.asarray(values, device=device(given)), given.dtype)
        with np.errstate(all="ignore"), torch.no_grad() if torch is not None else nullcontext():
            output = plain_array(f(argument), "what f returned")
        if output.ndim <= axis % plain.ndim or output.shape[axis] != length:
            raise InputError(f"f returned shape {output.shape} for a sequence of {length}: it must give one a position")
        return np.moveaxis(output, axis, 0).reshape(length, -1)

    first = call(plain)
    ahead, change = np.zeros(length, np.int64), 0.0
    if (_changes(first, call(plain)) > 0).any():
        return _report("random", 0, ahead, math.nan)
    cuts = np.unique(np.linspace(1, length - 1, min(_MOST_CUTS, length - 1)).astype(int))
    rng = np.random.default_rng(seed)
    moved = np.moveaxis(plain, axis, 0)
    for cut in cuts.tolist():
        for future in _futures(moved, cut, rng):
            changed = np.concatenate([moved[:cut], future.astype(moved.dtype)])
            changes = _changes(first[:cut], call(np.moveaxis(changed, 0, axis))[:cut])
            change = max(change, float(changes.max(initial=0)))
            # a position that changes with what is after the cut reads at least so far
            reads = np.where(changes > 0, cut - np.arange(cut), 0)
            ahead[:cut] = np.maximum(ahead[:cut], reads)
    return _report("leaks" if ahead.any() else "causal", len(cuts), ahead, change)


def _futures(moved: NDArray[Any], cut: int, rng: np.random.Generator) -> list[NDArray[Any]]:
    """What may follow instead."""
    shape = (len(moved) - cut, *moved.shape[1:])
    if moved.dtype.kind not in "fc":
        return [rng.choice(moved.ravel(), shape), rng.choice(moved.ravel(), shape), np.full(shape, moved.flat[0])]
    finite = moved[np.isfinite(moved)].astype(np.float64)
    noise = rng.standard_normal(shape) * ((float(finite.std()) if finite.size else 0.0) or 1.0)
    largest = float(np.finfo(moved.dtype).max) / 4
    return [np.zeros(shape), noise, np.clip(1e12 * noise, -largest, largest)]


def _changes(before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.float64]:
    """The largest change at each position; inf between NaN and a number."""
    same = (before == after) | (np.isnan(before) & np.isnan(after)) if before.dtype.kind in "fc" else before == after
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(before.astype(np.float64) - after.astype(np.float64))
    return np.asarray(np.where(same, 0.0, np.nan_to_num(apart, nan=math.inf, posinf=math.inf)).max(axis=1, initial=0))


def _report(status: Literal["causal", "leaks", "random"], cuts: int, ahead: NDArray[Any], change: float) -> LeakReport:
    leaking = np.flatnonzero(ahead)
    before_last = len(ahead) - 1  # the last position has no future
    if status == "random":
        advice = "The same sequence gave two outputs (dropout?): fix its randomness and test again."
    elif status == "causal":
        advice = f"No output changed with its future, after {cuts} cuts."
    elif ahead.max() == 1:
        advice = f"{len(leaking)} of {before_last} positions read one position ahead: the mask is off by one."
    elif len(leaking) < before_last:
        shown = ", ".join(map(str, leaking[:5])) + (", ..." if len(leaking) > 5 else "")
        advice = (
            f"Positions {shown} read ahead, others do not: rows in which nothing is possible, under a finite mask? "
            "Use a boolean mask (where), for which they give zeros. Or something is normalised over time."
        )
    else:
        advice = (
            f"All positions read ahead, up to {ahead.max()}: there is no mask, a large score beats a finite one, or "
            "something is normalised over time."
        )
    return LeakReport(length=len(ahead), status=status, cuts=cuts, reads_ahead=ahead, change=change, advice=(advice,))
