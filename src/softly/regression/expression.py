"""Kernel regression on any array library, with derivatives: attention, whose scores are log K."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from softly._arrays import Array, Empty, as_array, beside, device, quiet, without_autocast
from softly._errors import InputError
from softly.dot_product_attention import attention
from softly.regression.problem import PAIRS_AT_A_TIME, Problem, Progress


def log_gaussian(query: Array, x: Array) -> Array:
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


def of_nothing(problem: Problem, everything: Problem, empty: Empty) -> Array:
    """What `empty` says, where no point counts: all queries alike."""
    xp, y, queries = problem.xp, everything.y, problem.query.shape[0]
    if empty == "raise" and queries:
        raise InputError('no point counts (where) and empty="raise": choose empty="zero", "nan" or "uniform"')
    one = xp.mean(y, axis=0) if empty == "uniform" else xp.zeros_like(y[0, ...])
    if empty == "nan":
        one = xp.full_like(one, math.nan)
    zero = sum(xp.sum(none) for none in (problem.x, problem.y, problem.query[:0, ...]))  # their derivatives are 0
    return xp.broadcast_to(one + zero, (queries, y.shape[1])) + 0.0  # memory of its own


def by_attention(problem: Problem, scale: float | None, empty: Empty, progress: Progress | None) -> Array:
    """exponential_dot: attention with the data for keys."""
    with quiet(problem.query):
        query = problem.query if scale is None else problem.query / _in_their_place(problem, problem.bandwidth**2)
    found = []
    for begin, end in problem.blocks(PAIRS_AT_A_TIME["core"], progress):
        rows = query[begin:end, ...]
        found.append(attention(rows, problem.x, problem.y, scale=scale, where=problem.where, empty=empty))
    return _joined(problem, found)


def by_scores(
    problem: Problem, kernel: Callable[[Array, Array], Array], empty: Empty, progress: Progress | None
) -> Array:
    """Any kernel on any library, a block of scores at a time: attention whose queries and keys have no width."""
    bandwidth, found = _in_their_place(problem, problem.bandwidth), []
    with quiet(problem.query):
        query, x = (a / bandwidth for a in (problem.query, problem.x))
    for begin, end in problem.blocks(PAIRS_AT_A_TIME["scores"], progress):
        with quiet(problem.query), without_autocast(problem.query):
            scores = _shared_anyway(problem, _checked(kernel(query[begin:end, ...], x), end - begin, x), empty)
        no_width = query[begin:end, :0], x[:, :0]
        y = problem.xp.astype(problem.y, problem.xp.result_type(problem.y, scores), copy=False)
        found.append(attention(*no_width, y, scale=1.0, bias=scores, where=problem.where, empty=empty))
    return _joined(problem, found)


def _checked(scores: Array, queries: int, x: Array) -> Array:
    expected, shape = (queries, x.shape[0]), tuple(getattr(scores, "shape", ()))
    if shape != expected:
        raise InputError(
            f"kernel returned shape {shape} for {queries} queries and {x.shape[0]} points: it must return log K, "
            f"{expected}"
        )
    return scores


def _shared_anyway(problem: Problem, scores: Array, empty: Empty) -> Array:
    """Scores of 0 where no point counts: those that may shall share; attention's "uniform" is over hidden ones too."""
    if problem.where is None or empty != "uniform":
        return scores
    xp = problem.xp
    nothing = xp.all(~problem.where | (scores == -math.inf), axis=1, keepdims=True)
    return xp.where(nothing, xp.zeros_like(scores), scores)


def _joined(problem: Problem, parts: list[Array]) -> Array:
    if not parts:
        return problem.y[:0, ...]
    return parts[0] if len(parts) == 1 else problem.xp.concat(parts, axis=0)


def _in_their_place(problem: Problem, numbers: Any) -> Array:
    return problem.xp.astype(beside(problem.xp, numbers, "bandwidth", problem.x), problem.x.dtype, copy=False)
