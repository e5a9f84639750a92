"""Averages by a Gaussian kernel on NumPy's arrays: the compiled core, the same by blocks without it, and far away."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softly import _kernels
from softly.maps import softmax
from softly.regression.problem import PAIRS_AT_A_TIME, Problem, Progress

_FAR = 2.0**-14  # what rounding a squared distance may change in the logarithm of a weight


@dataclass(frozen=True, slots=True)
class Averages:
    """Of each query: the mean of y, and the sum of the squared weights, 1 / effective sample size."""

    mean: NDArray[Any]  # (queries, outputs)
    sharing: NDArray[Any]  # (queries,)


def gaussian_averages(problem: Problem, *, leave_out: bool = False, progress: Progress | None = None) -> Averages:
    """Of NumPy arrays with at least one point; with `leave_out`, query i does not see point i.

    Each feature is divided by a power of two first, which is exact, so that bandwidths lie in [1, 2).
    """
    mantissa, exponent = np.frexp(problem.bandwidth)
    rate, by = 1 / (2 * mantissa * math.sqrt(2)), (1 - exponent).astype(np.int32)
    y = np.require(problem.y, requirements=["C", "A"])
    queries, dtype = problem.query.shape[0], y.dtype
    mean, sharing, nearest = (np.empty(shape, dtype) for shape in ((queries, y.shape[1]), queries, queries))
    has_kernel = _kernels.core is not None and dtype in (np.float32, np.float64)
    pairs = queries * problem.x.shape[0] if leave_out else PAIRS_AT_A_TIME["core"]
    with np.errstate(all="ignore"):
        x, query = (np.ascontiguousarray(np.ldexp(a, by)) for a in (problem.x, problem.query))
        for begin, end in problem.blocks(pairs, progress):
            part = slice(begin, end)
            into = mean[part], sharing[part], nearest[part]
            if has_kernel and _kernels.core is not None:
                _kernels.core.kernel_regression(query[part], x, y, rate, leave_out, *into)
            else:
                _by_expression(query[part], x, y, rate, leave_out, into)
        _mend_far(problem, leave_out, mean, sharing, nearest)
    return Averages(mean, sharing)


def _mend_far(problem: Problem, leave_out: bool, mean: Any, sharing: Any, nearest: Any) -> None:
    """Queries so far off that the rounding of squared distances, or their overflow, would tell in the weights."""
    far = ~(nearest <= _FAR / np.finfo(mean.dtype).eps)
    if np.isnan(sharing).any() and np.isfinite(problem.x).all():
        far |= np.isnan(sharing) & np.isfinite(problem.query).all(1)
    rows = np.flatnonzero(far)
    if not rows.size:
        return
    if mean.dtype == np.float32 and not leave_out:
        x, y, query = (a.astype(np.float64) for a in (problem.x, problem.y, problem.query[rows]))
        found = gaussian_averages(replace(problem, x=x, y=y, query=query))
        mean[rows], sharing[rows] = found.mean, found.sharing
        return
    for i in rows:
        weights = _weights_from_afar(problem.query[i], problem.x, problem.bandwidth, int(i) if leave_out else None)
        shares = weights > 0
        mean[i] = weights[shares] @ problem.y[shares] if shares.any() else math.nan
        sharing[i] = (weights * weights).sum()


def _weights_from_afar(query: Any, x: Any, bandwidth: Any, own: int | None) -> Any:
    """softmax(-|query - x_j|^2 / 2 h^2) by |q - x_j|^2 - |q - c|^2 = <c - x_j, 2 q - c - x_j> for a point c."""
    query, x, h = query.astype(np.longdouble), x.astype(np.longdouble), bandwidth.astype(np.longdouble)
    near = x[np.argmin((((query - x) / h) ** 2).sum(1))]
    gaps = ((near - x) / h * ((2 * query - near - x) / h)).sum(1) / 2
    if own is not None:
        gaps[own] = math.inf
    return softmax(-(gaps - gaps.min()))


def _by_expression(query: Any, x: Any, y: Any, rate: Any, leave_out: bool, into: tuple[Any, Any, Any]) -> None:
    """What the kernel computes, by blocks of squared distances."""
    mean, sharing, nearest = into
    step = max(1, PAIRS_AT_A_TIME["scores"] // x.shape[0])
    for begin in range(0, query.shape[0], step):
        part = slice(begin, begin + step)
        square = _squared_distances(query[part], x, rate.astype(x.dtype))
        if leave_out:
            own = np.arange(square.shape[0])
            square[own, begin + own] = math.inf
        nearest[part] = square.min(1, initial=math.inf)
        weights = softmax(-square)
        mean[part], sharing[part] = weights @ y, (weights * weights).sum(1)


def _squared_distances(query: Any, x: Any, rate: Any) -> Any:
    """(queries, points); one feature after the other."""
    square = 0.0
    for feature in range(x.shape[1]):
        d = (query[:, None, feature] - x[None, :, feature]) * rate[feature]
        square = square + d * d
    return square if x.shape[1] else np.zeros((query.shape[0], x.shape[0]), x.dtype)
