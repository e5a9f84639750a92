"""Sure rows: which of them have stopped learning, and what their dtype can still tell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from softly._arrays import Array, plain_array, plain_reals
from softly._errors import InputError
from softly._records import Record
from softly._rows import as_rows
from softly._targets import as_targets
from softly.curvature import sensitivity
from softly.diagnostics.gaps import finite_temperatures
from softly.maps import log_softmax, softmax

Name = Literal["sure and right", "sure and wrong", "learning", "rounded to 1"]
FORMATS = {"float16": (11, -24), "bfloat16": (8, -133), "float32": (24, -149), "float64": (53, -1074)}
"""dtype -> binary digits of a number, exponent of the smallest positive one."""
_MANY = 0.05  # the share of rows from which a group is worth advice

ADVICE: dict[Name, str] = {
    "sure and right": "{share:.0%} of rows are sure and right: their gradient is almost 0, and they have stopped "
    "learning. That is well at the end of training; before it, smooth the labels or raise the temperature.",
    "sure and wrong": "{share:.1%} of rows are sure and wrong: their gradient is the largest there is and their "
    "curvature almost 0, so that second-order steps overshoot. Look at their labels first; clip gradients, smooth "
    "labels, or fit a temperature on rows not trained on.",
    "rounded to 1": "{share:.0%} of rows have a probability that rounds to 1 in {dtype}: 1 - p is 0, so take losses "
    "from log_softmax (never the logarithm of p), and gradients from the scores.",
    "learning": "{share:.0%} of rows are still learning: nothing to do.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SaturationGroup(Record):
    """Rows in one state; means over them, NaN if there are none. The gradient's norm is at most sqrt(2) / T."""

    name: Name
    rows: int
    share: float
    accuracy: float
    mean_loss: float
    mean_gradient_norm: float
    mean_curvature: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Saturation(Record):
    """What `saturation` found; arrays have one entry a row.

    confidence: the largest probability. entropy: in nats. gap: from the largest score to the next. curvature: the
    largest eigenvalue of the cross-entropy's Hessian in the scores. rounds_to_one_at, underflows_at: the gap from
    which a probability of two classes is 1, or 0, in `dtype` (at this temperature; NaN where temperatures differ).
    underflowed: possible entries whose probability is 0 all the same, by rounding, unlike the zeros of a sparse map.
    rows_rounded: rows with a probability of 1. groups, with targets: each row is in one.
    """

    rows: int
    classes: int
    dtype: str
    sure: float
    confidence: Any
    entropy: Any
    gap: Any
    curvature: Any
    rounds_to_one_at: float
    underflows_at: float
    rows_rounded: int
    underflowed: int
    groups: tuple[SaturationGroup, ...]
    advice: tuple[str, ...]


def rounding_gaps(dtype: str) -> tuple[float, float]:
    """The gaps of two scores at which the larger probability rounds to 1 and the smaller underflows to 0.

    Correctly rounded: 1 - p is less than half of the spacing below 1, 2^-(digits + 1); p of half the least number.

    >>> [round(gap, 2) for gap in rounding_gaps("float32")]
    [17.33, 103.97]
    """
    digits, least = FORMATS[dtype]
    return math.log(2.0 ** (digits + 1) - 1), (1 - least) * math.log(2)


def saturation(
    scores: Array,
    targets: Array | None = None,
    *,
    temperature: Any = 1.0,
    where: Array | None = None,
    sure: float = 0.99,
) -> Saturation:
    """How sure the rows are, and with targets which of them have stopped learning.

    The cross-entropy's gradient is (p - y) / T and its Hessian (diag p - p p^T) / T^2, whatever the label: a sure and
    right row has neither, a sure and wrong one the largest gradient and no Hessian.

    - scores: (rows, classes) or (classes,). Rounding is judged in their dtype, all else is computed in float64.
    - targets: class indices, one a row, or probabilities in the scores' shape. A row is right if its largest score is
      at its (first) largest target.
    - temperature, where: as in `softmax`. sure: the confidence from which a row is sure.

    With targets each row is in one of four groups: rounded to 1 (in this dtype), sure and right, sure and wrong,
    learning; `advice` says what to do about those that are many. ValueError for rows with nothing possible, and what
    `softmax` refuses.

    >>> [group.rows for group in saturation([[9.0, 0.0], [9.0, 0.0], [1.0, 0.0], [50.0, 0.0]], [0, 1, 0, 0]).groups]
    [1, 1, 1, 1]
    """
    if not 0 < sure <= 1:
        raise InputError(f"sure={sure} is not a confidence: pass a number in (0, 1], such as 0.99")
    name = str(getattr(scores, "dtype", "float64")).removeprefix("torch.")
    dtype = name if name in FORMATS else "float64"
    z = plain_reals(scores, "scores").astype(np.float64)
    if z.ndim == 1:
        z, targets = z[None], None if targets is None else np.asarray(targets)[None]
    if z.ndim != 2 or 0 in z.shape:
        raise InputError(f"scores have shape {z.shape}: pass (rows, classes), or (classes,), and at least one of both")
    options = {"temperature": temperature, "where": where}
    rows = as_rows(z, -1, temperature, where, "raise", None)
    p = softmax(z, **options)
    rounded = np.atleast_2d(plain_array(softmax(scores, **options), "probabilities")).astype(np.float64)
    t = finite_temperatures(rows)
    scale = float(t[0]) if (t == t[0]).all() else math.nan
    least = rounding_gaps(dtype)
    top_two = np.sort(rows.scores, axis=-1)[:, -2:]
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = top_two[:, 1] - top_two[:, 0] if z.shape[1] > 1 else np.full(len(z), math.inf)
        curvature = np.asarray(sensitivity(z, **options).local) / t
    log_p = log_softmax(z, **options)
    is_rounded = rounded.max(axis=-1) == 1
    groups: tuple[SaturationGroup, ...] = ()
    if targets is not None:
        y = np.asarray(as_targets(targets, rows))
        groups = _groups(p, log_p, y, t, curvature, is_rounded, sure)
    return Saturation(
        rows=len(z),
        classes=z.shape[1],
        dtype=dtype,
        sure=sure,
        confidence=p.max(axis=-1),
        entropy=-np.where(p > 0, p * np.where(p > 0, log_p, 0), 0).sum(axis=-1),
        gap=gap,
        curvature=curvature,
        rounds_to_one_at=least[0] * scale,
        underflows_at=least[1] * scale,
        rows_rounded=int(is_rounded.sum()),
        underflowed=int(((rounded == 0) & (rows.scores > -math.inf)).sum()),
        groups=groups,
        advice=_advice(groups, float(is_rounded.mean()), float((p.max(axis=-1) >= sure).mean()), dtype),
    )


def _groups(
    p: NDArray[Any],
    log_p: NDArray[Any],
    y: NDArray[Any],
    t: NDArray[Any],
    curvature: NDArray[Any],
    is_rounded: NDArray[Any],
    sure: float,
) -> tuple[SaturationGroup, ...]:
    leader = p.argmax(axis=-1)
    gradient = p * y.sum(axis=-1, keepdims=True) - y
    # a gradient's row sums to 0: the leader's entry from the others keeps its digits after p rounds to 1
    np.put_along_axis(gradient, leader[:, None], 0.0, axis=-1)
    np.put_along_axis(gradient, leader[:, None], -gradient.sum(axis=-1, keepdims=True), axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        norm = np.linalg.norm(gradient, axis=-1) / t
    loss = -np.where(y == 0, 0.0, y * np.where(y == 0, 0.0, log_p)).sum(axis=-1)
    right, is_sure = leader == y.argmax(axis=-1), p.max(axis=-1) >= sure
    members: dict[Name, NDArray[Any]] = {
        "sure and right": is_sure & right & ~is_rounded,
        "sure and wrong": is_sure & ~right & ~is_rounded,
        "learning": ~is_sure & ~is_rounded,
        "rounded to 1": is_rounded,
    }

    def mean(values: NDArray[Any], kept: NDArray[Any]) -> float:
        return float(values[kept].mean()) if kept.any() else math.nan

    return tuple(
        SaturationGroup(
            name=name,
            rows=int(kept.sum()),
            share=float(kept.mean()),
            accuracy=mean(right, kept),
            mean_loss=mean(loss, kept),
            mean_gradient_norm=mean(norm, kept),
            mean_curvature=mean(curvature, kept),
        )
        for name, kept in members.items()
    )


def _advice(groups: tuple[SaturationGroup, ...], rounded: float, sure: float, dtype: str) -> tuple[str, ...]:
    if not groups:
        said = [ADVICE["rounded to 1"].format(share=rounded, dtype=dtype)] if rounded >= _MANY else []
        said.append(
            f"{sure:.0%} of rows are sure. Pass targets to tell those that are right from those that are wrong."
        )
        return tuple(said)
    worth = {"sure and wrong": 0.0, "sure and right": 0.5, "rounded to 1": _MANY, "learning": 0.5}
    said = [ADVICE[g.name].format(share=g.share, dtype=dtype) for g in groups if g.rows and g.share >= worth[g.name]]
    lost = next(g for g in groups if g.name == "rounded to 1")
    if lost.rows and lost.accuracy < 1:
        said.append(f"{(1 - lost.accuracy):.1%} of the rows rounded to 1 are wrong: they are sure and wrong besides.")
    return tuple(said)
