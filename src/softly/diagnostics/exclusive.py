"""Exclusive classes or overlapping labels: softmax and sigmoids judged on one outcome space."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from softly._arrays import plain_array, plain_reals
from softly._errors import InputError
from softly._records import Record
from softly.calibration.engines import fold_of_rows
from softly.calibration.evaluation import Estimate
from softly.calibration.kinds import label_vector
from softly.calibration.statistics import NORMAL_975
from softly.maps import log_sigmoid, log_softmax, logsumexp, sigmoid, softmax

Fits = Literal["exclusive", "overlapping", "correlated", "undecided"]
FloatArray = NDArray[np.float64]
_STEPS = 60  # of Newton's method in one or two parameters, which takes about 8
_LEAST_ROWS = 10

REFUSED = (
    "softmax is refused: {count} of {rows} rows (the first is row {row}) have {labels} labels, not one, and softmax "
    "gives such a row the probability 0. For rows with at most one, add a column for 'none'."
)
VERDICTS: dict[Fits, str] = {
    "exclusive": "The labels exclude each other: softmax explains them better than sigmoids, beyond chance.",
    "overlapping": "The labels overlap, and are independent given the scores as far as these rows tell: sigmoids.",
    "correlated": "The labels overlap and are not independent given the scores: sigmoids give each label its "
    "probability, but sets of labels need a model of how they go together.",
    "undecided": "Undecided: the interval of the difference spans 0. Either will do here, or more rows are needed.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftmaxOrSigmoids(Record):
    """What `softmax_or_sigmoids` found; log-likelihoods are held-out means over rows, in nats.

    advantage: of softmax over sigmoids, on the space of all label sets; None where softmax is refused.
    log_likelihood_if_one: of the sigmoids given that exactly one label is present, by which they are a softmax of their
    scores; None where softmax is refused. exactly_one: the mean probability under the sigmoids that a row has exactly
    one label; exactly_one_observed: the share of rows that have. excess_variance: of the number of labels in a row over
    what independent labels have, twice the sum of their covariances: above 0 they come together, below they exclude.
    temperature_softmax, temperature_sigmoids, bias_sigmoids: fitted to all rows.
    """

    fits: Fits
    verdict: str
    rows: int
    labels: int
    folds: int
    log_likelihood_softmax: Estimate | None
    log_likelihood_sigmoids: Estimate
    log_likelihood_if_one: Estimate | None
    advantage: Estimate | None
    exactly_one: float
    exactly_one_observed: float
    excess_variance: Estimate
    temperature_softmax: float | None
    temperature_sigmoids: float
    bias_sigmoids: float
    refused: str | None


def softmax_or_sigmoids(scores: Any, labels: Any, *, folds: int = 5, seed: int = 0) -> SoftmaxOrSigmoids:
    """Whether exclusive classes (softmax) or overlapping labels (independent sigmoids) fit what was observed.

    Both are models of the set of labels of a row, of 2^labels possible ones: softmax gives all probability to the sets
    of one, sigmoids give P = prod p^y (1 - p)^(1 - y). Given exactly one label, sigmoids are the softmax of the same
    scores; they differ in what they leave to other sets, P(exactly one) = prod (1 - p) sum p / (1 - p).

    Scores of a model trained one way have no meaning yet for the other. So each is given what it can see: softmax a
    temperature; sigmoids a temperature and one bias, as softmax ignores a shift. Both are fitted by likelihood on the
    other folds (cross-fitting), to labels smoothed by one part in n + 1 that keeps separable ones finite (Platt, 1999).

    - scores: (rows, labels >= 2), at least 10 rows, finite or -inf where impossible. labels: of the same shape, 0 and 1
      or bool; or (rows,) integers, the one class of each row. folds, seed: of the cross-fitting.

    fits: "exclusive" or "overlapping" if the 95 % interval of the mean difference excludes 0, else "undecided". The
    interval is the normal one over independent rows, and no narrower than the likelihood-ratio interval of one
    parameter, 1.92 nats in all: sigmoids have one more to fit. Rows without exactly one label refuse the softmax and
    say why; labels are then "overlapping", or "correlated" if the number of labels in a row varies clearly more or less
    than independent ones do. Scores that are off by label, so that one temperature and bias do not mend them, look
    correlated too.

    ValueError for NaN or +inf, labels that are not 0 or 1, labels at impossible scores, or shapes that do not fit.
    """
    z, y = _checked(scores, labels)
    rows, count = z.shape
    if not 2 <= folds <= 255:
        raise InputError(f"folds={folds}: pass 2 to 255")
    fold = fold_of_rows(np.arange(rows), folds, seed)
    per_row = y.sum(axis=1)
    exclusive = bool((per_row == 1).all())
    softmax_rows, sigmoid_rows, given_one, one, excess = np.empty((5, rows))
    for held in np.unique(fold):
        test, train = fold == held, fold != held
        b, c = _fit_sigmoids(z[train], y[train])
        s = _scaled(z[test], b, c)
        p = sigmoid(s)
        sigmoid_rows[test] = log_sigmoid(np.where(y[test], s, -s)).sum(axis=1)
        one[test] = np.exp(log_sigmoid(-s).sum(axis=1) + logsumexp(s))
        excess[test] = (per_row[test] - p.sum(axis=1)) ** 2 - (p * (1 - p)).sum(axis=1)
        if exclusive:
            given_one[test] = log_softmax(s)[y[test]]
            softmax_rows[test] = log_softmax(_scaled(z[test], _fit_softmax(z[train], y[train])))[y[test]]
    advantage = _mean(softmax_rows - sigmoid_rows, least=NORMAL_975**2 / 2 / rows) if exclusive else None
    beyond = _mean(excess)
    fits = _decide(advantage, beyond)
    b, c = _fit_sigmoids(z, y)
    refused = None
    if not exclusive:
        first = int(np.argmax(per_row != 1))
        refused = REFUSED.format(count=int((per_row != 1).sum()), rows=rows, row=first, labels=int(per_row[first]))
    return SoftmaxOrSigmoids(
        fits=fits,
        verdict=VERDICTS[fits],
        rows=rows,
        labels=count,
        folds=folds,
        log_likelihood_softmax=_mean(softmax_rows) if exclusive else None,
        log_likelihood_sigmoids=_mean(sigmoid_rows),
        log_likelihood_if_one=_mean(given_one) if exclusive else None,
        advantage=advantage,
        exactly_one=float(one.mean()),
        exactly_one_observed=float((per_row == 1).mean()),
        excess_variance=beyond,
        temperature_softmax=_inverse(_fit_softmax(z, y)) if exclusive else None,
        temperature_sigmoids=_inverse(b),
        bias_sigmoids=c,
        refused=refused,
    )


def _decide(advantage: Estimate | None, excess: Estimate) -> Fits:
    if advantage is None:
        return "overlapping" if excess.low <= 0 <= excess.high else "correlated"
    if advantage.low <= 0 <= advantage.high:
        return "undecided"
    return "exclusive" if advantage.value > 0 else "overlapping"


def _checked(scores: Any, labels: Any) -> tuple[FloatArray, NDArray[np.bool_]]:
    z, y = plain_reals(scores, "scores"), plain_array(labels, "labels")
    if z.ndim != 2 or z.shape[1] < 2 or len(z) < _LEAST_ROWS:
        raise InputError(
            f"scores have shape {z.shape}: pass (rows, labels), at least {_LEAST_ROWS} rows and two labels"
        )
    z = z.astype(np.float64)
    if not (z < math.inf).all():
        raise InputError(f"scores, row {int(np.argmax(~(z < math.inf).all(axis=1)))}: NaN or +inf; pass finite scores")
    if y.shape == z.shape[:1] and y.dtype.kind in "iu":
        y = label_vector(y, *z.shape)[:, None] == np.arange(z.shape[1])
    if y.shape != z.shape or y.dtype.kind not in "biuf" or not ((y == 0) | (y == 1)).all():
        raise InputError(
            f"labels have shape {y.shape} and dtype {y.dtype}: pass 0 and 1 in the scores' shape, {z.shape}, or one "
            "class index a row"
        )
    y = y.astype(bool)
    if (y & (z == -math.inf)).any():
        row = int(np.argmax((y & (z == -math.inf)).any(axis=1)))
        raise InputError(f"labels, row {row}: a label is present whose score is -inf, impossible")
    return z, y


def _scaled(z: FloatArray, b: float, c: float = 0.0) -> FloatArray:
    """b z + c, where -inf stays impossible."""
    return np.where(z == -math.inf, z, b * np.where(z == -math.inf, 0.0, z) + c)


def _inverse(b: float) -> float:
    return 1 / b if b else math.inf


def _mean(values: FloatArray, least: float = 0.0) -> Estimate:
    """A mean over rows with its normal 95 % interval, at least so wide on each side."""
    mean = float(values.mean())
    half = max(NORMAL_975 * float(values.std(ddof=1)) / math.sqrt(len(values)), least)
    return Estimate(value=mean, low=mean - half, high=mean + half)


class _Slope(NamedTuple):
    """A loss at some parameters, with its derivatives."""

    loss: float
    gradient: FloatArray
    hessian: FloatArray


def _fit_softmax(z: FloatArray, y: NDArray[np.bool_]) -> float:
    """The b = 1/T at which softmax(b z) has the largest likelihood; negative if scores are worse than a guess."""
    possible = z > -math.inf
    top = z.max(axis=1, keepdims=True)
    x = np.where(possible, z - top, 0.0)
    smooth = np.where(possible, _smoothed(y, 1 / np.maximum(possible.sum(axis=1, keepdims=True), 1)), 0.0)

    def at(parameters: FloatArray) -> _Slope:
        s = _scaled(np.where(possible, x, -math.inf), float(parameters[0]))
        p = softmax(s)
        mean = (p * x).sum(axis=1)
        log_p = np.where(possible, log_softmax(s), 0.0)
        gradient = (mean * smooth.sum(axis=1) - (smooth * x).sum(axis=1)).sum()
        bend = (smooth.sum(axis=1) * (p * (x - mean[:, None]) ** 2).sum(axis=1)).sum()
        return _Slope(-float((smooth * log_p).sum()), np.array([gradient]), np.array([[bend]]))

    return float(_minimum(at, np.zeros(1))[0])


def _fit_sigmoids(z: FloatArray, y: NDArray[np.bool_]) -> tuple[float, float]:
    """The b and c at which sigmoid(b z + c) has the largest likelihood."""
    x, t = z[z > -math.inf], _smoothed(y, 0.5)[z > -math.inf]

    def at(parameters: FloatArray) -> _Slope:
        s = parameters[0] * x + parameters[1]
        p = sigmoid(s)
        w = p * (1 - p)
        loss = -float((t * log_sigmoid(s) + (1 - t) * log_sigmoid(-s)).sum())
        cross = (w * x).sum()
        return _Slope(
            loss,
            np.array([((p - t) * x).sum(), (p - t).sum()]),
            np.array([[(w * x * x).sum(), cross], [cross, w.sum()]]),
        )

    b, c = _minimum(at, np.zeros(2)).tolist()
    return b, c


def _smoothed(y: NDArray[np.bool_], share: Any) -> FloatArray:
    """One part in rows + 1 of each label given to all possible values."""
    part = 1 / (len(y) + 1)
    return np.asarray((1 - part) * y + part * share)


def _minimum(at: Callable[[FloatArray], _Slope], start: FloatArray) -> FloatArray:
    """Newton's method with halved steps on a convex function; a direction without curvature is left alone."""
    parameters, here = start, at(start)
    for _ in range(_STEPS):
        step = np.linalg.lstsq(here.hessian, here.gradient, rcond=1e-12)[0]
        fall = float(here.gradient @ step)
        if not fall > 1e-14 * max(1.0, abs(here.loss)):
            break
        size = 1.0
        while (there := at(parameters - size * step)).loss > here.loss - 1e-4 * size * fall and size > 1e-9:
            size /= 2
        if there.loss >= here.loss:
            break
        parameters, here = parameters - size * step, there
    return parameters
