"""Attention as an array expression: its definition on any array library, and its derivative where one is traced.

Keys and values that are not finite must not reach a query that they are hidden from, neither in value nor in gradient,
though 0 * NaN is NaN. So products are taken of what is finite, and the rest is put in beside them, as a constant.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from softly._arrays import Array, beside, is_readable, is_tensor, jax_of
from softly._errors import InputError
from softly.dot_product_attention.problem import Problem
from softly.maps import entmax, logsumexp

_SCORES_AT_ONCE = 1 << 21  # of a block of queries, in all leading axes


def _averages(problem: Problem, scores: Array) -> Array:
    """sum_j p_ij v_j."""
    if problem.empty == "nan":  # put in as a constant: values are not to blame
        xp, averages = problem.xp, _averages(replace(problem, empty="zero"), scores)
        nothing = xp.all(scores == -math.inf, axis=-1, keepdims=True)
        return xp.where(nothing, xp.full_like(averages, math.nan), averages)
    weights = weights_of(problem, scores)
    xp, value = problem.xp, problem.value
    assert value is not None
    finite = _finite(problem, value)
    result = product(xp, weights, finite)
    if finite is value:
        return result
    # every possible key has a share of softmax, however small; of sparse maps those that have one
    counts = (scores != -math.inf) if is_softmax(problem.alpha) else (weights != 0)
    if problem.empty == "uniform":
        counts = counts | (weights != 0)
    return result + _beyond(problem, xp.astype(counts, value.dtype))


def in_blocks(problem: Problem, wants_logsumexp: bool) -> tuple[Array, Array | None]:
    """The averages and, if wanted, each query's logsumexp, of one block of queries after the other."""
    xp, found = problem.xp, [whole(part, wants_logsumexp) for _, part in blocks(problem)]
    results = xp.concat([result for result, _ in found], axis=-2)
    return results, xp.concat([potential for _, potential in found], axis=-1) if wants_logsumexp else None


def whole(problem: Problem, wants_logsumexp: bool) -> tuple[Array, Array | None]:
    """The same of all queries at once."""
    scores = scores_of(problem)
    potential = None
    if wants_logsumexp:
        potential = logsumexp(scores, temperature=problem.temperature, empty=problem.empty)
    return _averages(problem, scores), potential


def scores_of(problem: Problem) -> Array:
    """scale q k + bias, -inf where impossible."""
    xp, query, key = problem.xp, problem.query, problem.key
    z = product(xp, query * problem.scale, _transposed(xp, key))
    clean_query, clean_key = _finite(problem, query), _finite(problem, key)
    if clean_query is not query or clean_key is not key:
        clean = product(xp, clean_query * problem.scale, _transposed(xp, clean_key))
        z = xp.where(xp.isfinite(z), clean, _constant(z))
    impossible = xp.full_like(z, -math.inf)
    if problem.bias is not None:
        bias = xp.broadcast_to(problem.bias, tuple(z.shape))
        z = xp.where(bias == -math.inf, impossible, z + bias)
    if problem.where is not None:
        z = xp.where(xp.broadcast_to(problem.where, tuple(z.shape)), z, impossible)
    if problem.visible is not None:
        z = xp.where(_seen(problem, z), z, impossible)
    return xp.broadcast_to(z, problem.shape)


def weights_of(problem: Problem, scores: Array) -> Array:
    """The map of each query's scores."""
    weights: Array = entmax(scores, alpha=problem.alpha, temperature=problem.temperature, empty=problem.empty)
    return weights


def check_softmax(alpha: Any) -> None:
    """ValueError where a logsumexp is asked for that is not the potential of the map."""
    if not is_softmax(alpha):
        raise InputError(f"alpha={alpha} has no logsumexp: return_logsumexp=True needs alpha=1")


def product(xp: Any, rows: Array, matrix: Array) -> Array:
    """rows @ matrix, where a matrix may serve a group of heads."""
    if rows.ndim > 2 and matrix.ndim > 2:
        heads, groups = rows.shape[-3], matrix.shape[-3]
        if 1 < groups < heads:
            stacked = (*rows.shape[:-3], groups, heads // groups * rows.shape[-2], rows.shape[-1])
            result = xp.reshape(rows, stacked) @ matrix
            return xp.reshape(result, (*result.shape[:-3], heads, rows.shape[-2], matrix.shape[-1]))
    return rows @ matrix


def blocks(problem: Problem) -> Iterator[tuple[slice, Problem]]:
    """The queries in blocks whose scores fit in bounded memory."""
    queries, keys = problem.shape[-2:]
    size = max(1, _SCORES_AT_ONCE // max(1, math.prod(problem.lead) * keys))
    for begin in range(0, max(1, queries), size):
        part = slice(begin, min(queries, begin + size))
        yield part, queries_of(problem, part)


def queries_of(problem: Problem, part: slice) -> Problem:
    """The problem of some of the queries."""
    temperature = problem.temperature
    return replace(
        problem,
        query=problem.query[..., part, :],
        where=_rows_of(problem.where, part),
        bias=_rows_of(problem.bias, part),
        visible=None if problem.visible is None else problem.visible + part.start,
        temperature=temperature if isinstance(temperature, float) else temperature[..., part],
    )


def _rows_of(plane: Array | None, part: slice) -> Array | None:
    return plane if plane is None or plane.ndim < 2 or plane.shape[-2] == 1 else plane[..., part, :]


def _seen(problem: Problem, scores: Array) -> Array:
    xp, (queries, keys) = problem.xp, scores.shape[-2:]
    places = beside(xp, xp.arange(max(queries, keys)), "places", scores)
    last = xp.expand_dims(places[:queries], axis=-1) + problem.visible
    seen: Array = places[:keys] <= last
    return seen


def is_softmax(alpha: Any) -> bool:
    """Whether alpha is known to be 1."""
    return isinstance(alpha, float) and alpha == 1


def _finite(problem: Problem, array: Array) -> Array:
    """The array itself if all of it is finite, where that can be looked at; else with 0 for what is not."""
    xp, finite = problem.xp, problem.xp.isfinite(array)
    if is_readable(array) and bool(xp.all(finite)):
        return array
    return xp.where(finite, array, xp.zeros_like(array))


def _beyond(problem: Problem, counts: Array) -> Array:
    """What values that are not finite add to those that count them: inf, -inf, or NaN, which is both."""
    xp, value, counts = problem.xp, _constant(problem.value), _constant(counts)
    up, down = (
        product(xp, counts, xp.astype((value == sign * math.inf) | xp.isnan(value), value.dtype)) > 0
        for sign in (1, -1)
    )
    zero = xp.zeros_like(xp.astype(up, value.dtype))
    return xp.where(up, zero + math.inf, zero) + xp.where(down, zero - math.inf, zero)


def _transposed(xp: Any, matrix: Array) -> Array:
    return xp.permute_dims(matrix, (*range(matrix.ndim - 2), matrix.ndim - 1, matrix.ndim - 2))


def _constant(array: Array) -> Array:
    """Without derivatives."""
    if is_tensor(array):
        return array.detach()
    return jax.constant(array) if (jax := jax_of(array)) is not None else array
