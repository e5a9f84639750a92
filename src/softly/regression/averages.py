"""kernel_regression, as users call it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from softly._arrays import Array, Empty, check_empty, is_tensor
from softly._errors import InputError
from softly.regression.expression import by_attention, by_scores, log_gaussian, of_nothing
from softly.regression.gaussian import gaussian_averages
from softly.regression.problem import Problem, Progress, prepare

Kernel = Literal["gaussian", "exponential_dot"] | Callable[[Array, Array], Array]


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
    - empty: what a query gives that no point counts for: "zero", "nan", "uniform" (the mean of the y that count, of all
      where none does) or "raise".
    - progress: called as progress(queries done, queries) while it runs, but not by a program that torch traced.

    Returns (queries, *outputs) in the dtype of all three; half precisions are computed in float32. NumPy arrays and
    plain CPU tensors go to the compiled core for "gaussian": nothing of size queries x points is made. Other backends
    and kernels take blocks of scores; tensors and JAX arrays have derivatives there, and may be traced.
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
        return problem.given_back(of_nothing(problem, prepare(x, y, query, h, None), empty))
    if kernel == "exponential_dot":
        return problem.given_back(by_attention(problem, scale, empty, progress))
    if callable(kernel):
        return problem.given_back(by_scores(problem, kernel, empty, progress))
    lent = _lent(problem)
    if lent is None:
        return problem.given_back(by_scores(problem, log_gaussian, empty, progress))
    found = gaussian_averages(lent, progress=progress).mean
    return problem.given_back(found if problem.xp is np else problem.xp.asarray(found))


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
    return replace(problem, xp=np, x=x, y=y, query=query)
