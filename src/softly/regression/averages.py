"""Kernel regression (Nadaraya-Watson): averages of what was seen, by the softmax of scores between queries and data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from softly import _kernels
from softly._arrays import Array, Empty, as_array, beside, check_empty, device, float_dtypes, is_tensor, jax_of, quiet
from softly._errors import InputError
from softly._rows import give_back
from softly.dot_product_attention import attention
from softly.maps import softmax

Kernel = Literal["gaussian", "exponential_dot"] | Callable[[Array, Array], Array]
Progress = Callable[[int, int], None]

_PAIRS_AT_A_TIME = {"core": 1 << 28, "scores": 1 << 20}  # between two calls of progress; of scores in memory
_FAR = 2.0**-14  # what rounding a squared distance may change in the logarithm of a weight


def kernel_regression(
    x: Array,
    y: Array,
    query: Array,
    bandwidth: Any = None,
    kernel: Kernel = "gaussian",
    *,
    where: Array | None = None,
    empty: Empty = "zero",
    progress: Progress | None = None,
) -> Array:
    """The average of y weighted by a kernel around each query: sum_j K(query, x_j) y_j / sum_j K(query, x_j).

    It is softmax(log K) @ y, computed as such: far from all data the nearest share, where K itself would be 0.

    - x: (points, d), or (points,) for d = 1; y: (points, *outputs), one or more numbers a point.
    - query: (queries, d), or (queries,).
    - bandwidth: h > 0, a number or one a feature (d,).
    - kernel: "gaussian", exp(-|query - x|^2 / 2 h^2); "exponential_dot", exp(<query, x> / h^2), which is `attention`
      (bandwidth None: its scale 1/sqrt(d)); or a function of (queries / h, x / h), arrays (m, d) and (n, d), that
      returns log K, (m, n), -inf where a point has no share.
    - where: booleans (points,); True = the point counts.
    - empty: what a query gives that no point counts for: "zero", "nan", "uniform" (the mean of all y) or "raise".
    - progress: called as progress(queries done, queries) while it runs.

    Returns (queries, *outputs) in the dtype of all three; half precisions are computed in float32. NumPy arrays and
    plain CPU tensors go to the compiled core for "gaussian": nothing of size queries x points is made. Other backends
    and kernels take blocks of scores; tensors and JAX arrays have derivatives there.
    Weights keep their digits but for the rounding of squared distances, at most 2^-14 of a weight in the core.

    Raises ValueError (shapes that do not fit, no data, a bandwidth that is not above 0), TypeError. Source: Nadaraya
    1964; Watson 1964.

    >>> kernel_regression([0.0, 1.0, 2.0], [0.0, 1.0, 4.0], [1.0, 1e9], bandwidth=0.5).round(3)
    array([1.213, 4.   ])
    """
    check_empty(empty)
    if not callable(kernel) and kernel not in ("gaussian", "exponential_dot"):
        raise InputError(f"kernel={kernel!r} is unknown: pass 'gaussian', 'exponential_dot' or a function")
    scale = None if bandwidth is None else 1.0
    h = 1.0 if bandwidth is None and kernel == "exponential_dot" else bandwidth
    problem = prepare(x, y, query, h, where)
    if not problem.x.shape[0]:
        return problem.given_back(_of_nothing(problem, prepare(x, y, query, h, None), empty))
    if kernel == "exponential_dot":
        return problem.given_back(_by_attention(problem, scale, empty, progress))
    if callable(kernel):
        return problem.given_back(_by_scores(problem, kernel, empty, progress))
    lent = _lent(problem)
    if lent is None:
        return problem.given_back(_by_scores(problem, _log_gaussian, empty, progress))
    found = gaussian_averages(lent, progress=progress).mean
    return problem.given_back(found if problem.xp is np else problem.xp.asarray(found))


@dataclass(frozen=True, slots=True)
class Problem:
    """The arguments, checked; points that do not count are left out."""

    xp: ModuleType
    x: Array  # (points, d)
    y: Array  # (points, outputs)
    query: Array  # (queries, d)
    bandwidth: NDArray[np.float64]  # (d,)
    outputs: tuple[int, ...]  # the caller's
    dtype: Any  # of the result

    def given_back(self, result: Array) -> Array:
        """(queries, outputs) as the caller's outputs, in their dtype."""
        return give_back(self.xp, self.xp.reshape(result, (result.shape[0], *self.outputs)), self.dtype, None)

    def blocks(self, pairs: int, progress: Progress | None) -> Iterator[tuple[int, int]]:
        """Queries [begin, end) of so many pairs with the points; tells progress."""
        queries = self.query.shape[0]
        step = max(1, pairs // max(1, self.x.shape[0]))
        for begin in range(0, queries, step):
            end = min(begin + step, queries)
            yield begin, end
            if progress is not None:
                progress(end, queries)


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
    pairs = queries * problem.x.shape[0] if leave_out else _PAIRS_AT_A_TIME["core"]
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
    step = max(1, _PAIRS_AT_A_TIME["scores"] // x.shape[0])
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


def _log_gaussian(query: Array, x: Array) -> Array:
    """-(|q - x|^2 - |q - c|^2) / 2 for the point c nearest to each query: far away the squares alone would not differ.

    Written <c - x, (q - x) + (q - c)>. Points that are infinitely far have no share.
    """
    (xp, query), features = as_array(query, "query"), range(x.shape[1])
    if not features:
        return xp.zeros((query.shape[0], x.shape[0]), dtype=x.dtype, device=device(x))
    apart = [query[:, None, f] - x[None, :, f] for f in features]
    lengths = [xp.where(xp.isfinite(d), xp.abs(d), xp.zeros_like(d)) for d in apart]
    largest = xp.max(xp.stack([xp.max(n, axis=1) for n in lengths]), axis=0)[:, None]
    largest = xp.where(largest > 0, largest, xp.ones_like(largest))  # squares of ratios do not overflow
    near = xp.argmin(sum((d / largest) ** 2 for d in apart), axis=1)
    nearest = xp.take(x, near, axis=0)
    total: Array = 0.0
    for f, d in zip(features, apart, strict=True):
        c = nearest[:, None, f]
        total = total - (c - x[None, :, f]) * (0.5 * d + 0.5 * (query[:, None, f] - c))
    return total


def _of_nothing(problem: Problem, everything: Problem, empty: Empty) -> Array:
    """What `empty` says, where no point counts: all queries alike."""
    xp, y, queries = problem.xp, everything.y, problem.query.shape[0]
    if empty == "raise" and queries:
        raise InputError('no point counts (where) and empty="raise": choose empty="zero", "nan" or "uniform"')
    one = xp.mean(y, axis=0) if empty == "uniform" else xp.zeros_like(y[0, ...])
    if empty == "nan":
        one = one + math.nan
    return xp.broadcast_to(one, (queries, y.shape[1])) + 0.0  # memory of its own


def _by_attention(problem: Problem, scale: float | None, empty: Empty, progress: Progress | None) -> Array:
    """exponential_dot: attention with the data for keys."""
    with quiet(problem.query):
        query = problem.query if scale is None else problem.query / _in_their_place(problem, problem.bandwidth**2)
    found = []
    for begin, end in problem.blocks(_PAIRS_AT_A_TIME["core"], progress):
        found.append(attention(query[begin:end, ...], problem.x, problem.y, scale=scale, empty=empty))
    return _joined(problem, found)


def _by_scores(
    problem: Problem, kernel: Callable[[Array, Array], Array], empty: Empty, progress: Progress | None
) -> Array:
    """Any kernel on any library, a block of scores at a time."""
    xp, bandwidth, found = problem.xp, _in_their_place(problem, problem.bandwidth), []
    points = problem.x.shape[0]
    with quiet(problem.query):
        x = problem.x / bandwidth
    for begin, end in problem.blocks(_PAIRS_AT_A_TIME["scores"], progress):
        with quiet(problem.query):
            scores = kernel(problem.query[begin:end, ...] / bandwidth, x)
        if tuple(getattr(scores, "shape", ())) != (end - begin, points):
            raise InputError(
                f"kernel returned shape {tuple(getattr(scores, 'shape', ()))} for {end - begin} queries and {points} "
                f"points: it must return log K, {(end - begin, points)}"
            )
        weights = softmax(scores, empty=empty)
        found.append(xp.astype(weights, problem.y.dtype, copy=False) @ problem.y)
    return _joined(problem, found)


def _joined(problem: Problem, parts: list[Array]) -> Array:
    if not parts:
        return problem.y[:0, ...]
    return parts[0] if len(parts) == 1 else problem.xp.concat(parts, axis=0)


def _in_their_place(problem: Problem, numbers: Any) -> Array:
    return problem.xp.astype(beside(problem.xp, numbers, "bandwidth", problem.x), problem.x.dtype, copy=False)


def _lent(problem: Problem) -> Problem | None:
    """In NumPy's arrays, if they are or are plain tensors with the same memory."""
    if problem.xp is np:
        return problem
    if not is_tensor(problem.x):
        return None
    from softly.torch import memory

    lent = memory.lend(problem.x, problem.y, problem.query)
    if lent is None:
        return None
    x, y, query = lent
    return Problem(np, x, y, query, problem.bandwidth, problem.outputs, x.dtype)


def prepare(x: Any, y: Any, query: Any, bandwidth: Any, where: Any) -> Problem:
    """Everything checked."""
    if (jax := jax_of(x, y, query)) is not None:
        x = jax.asarray(x)
    xp, x = as_array(x, "x")
    y, query = beside(xp, y, "y", x), beside(xp, query, "query", x)
    kinds = [float_dtypes(xp, a.dtype, name=name)[0] for name, a in (("x", x), ("y", y), ("query", query))]
    dtype, compute = float_dtypes(xp, xp.result_type(*kinds))
    x, y, query = (xp.astype(a, compute, copy=False) for a in (x, y, query))
    x, query = (a[:, None] if a.ndim == 1 else a for a in (x, query))
    if x.ndim != 2 or query.ndim != 2 or x.shape[1] != query.shape[1]:
        raise InputError(
            f"x has shape {tuple(x.shape)} and query {tuple(query.shape)}: pass (points, d) and (queries, d)"
        )
    if not y.ndim or y.shape[0] != x.shape[0]:
        raise InputError(f"y has shape {tuple(y.shape)}: pass one for each of the {x.shape[0]} points of x")
    outputs = tuple(y.shape[1:])
    y = xp.reshape(y, (y.shape[0], math.prod(outputs)))
    if not x.shape[0]:
        raise InputError("x has no points: there is nothing to average")
    if where is not None:
        mask = beside(xp, where, "where", x)
        if "bool" not in str(mask.dtype) or tuple(mask.shape) != (x.shape[0],):
            raise InputError(
                f"where has dtype {mask.dtype} and shape {tuple(mask.shape)}: pass a boolean for each point"
            )
        x, y = x[mask], y[mask]
    return Problem(xp, x, y, query, check_bandwidth(bandwidth, x.shape[1]), outputs, dtype)


def check_bandwidth(bandwidth: Any, width: int) -> NDArray[np.float64]:
    """One a feature; ValueError unless all are above 0 and finite."""
    if bandwidth is None:
        raise InputError("bandwidth=None is for the kernel 'exponential_dot' alone: pass a number above 0")
    try:
        h = np.asarray(bandwidth, np.float64)
    except (ValueError, RuntimeError, TypeError) as error:  # words, a recorded gradient, a trace
        raise InputError(
            f"bandwidth={bandwidth} is no number: pass one above 0, or one a feature; to learn it divide x and query "
            "by it and pass 1"
        ) from error
    if h.ndim and h.shape != (width,):
        raise InputError(f"bandwidth has shape {h.shape}: pass a number, or one for each of {width} features")
    if not (np.isfinite(h) & (h > 0)).all():
        raise InputError(f"bandwidth={bandwidth} is no bandwidth: it must be above 0 and finite")
    return np.broadcast_to(h, (width,)).copy()
