"""Attention of NumPy arrays by the compiled core: stacked matrices, each told which others serve it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from softly import _kernels
from softly._arrays import EMPTY_CODES, Array
from softly._errors import InputError
from softly.dot_product_attention.problem import Problem


def find(problem: Problem) -> Any:
    """The kernel, or None where the expression runs."""
    fits = problem.xp is np and isinstance(problem.alpha, float)
    return _kernels.TABLE.get(("attention", "cpu", problem.query.dtype)) if fits else None


def averages(kernel: Any, problem: Problem, wants_logsumexp: bool = False) -> tuple[Array, Array | None]:
    """The averages and, if wanted, each query's logsumexp, in the dtype computed in."""
    assert problem.value is not None
    lead, (queries, keys) = problem.lead, problem.shape[-2:]
    query = np.broadcast_to(problem.query, (*lead, *problem.query.shape[-2:]))
    key, key_of = _matrices(problem.key, lead)
    value, value_of = _matrices(problem.value, lead)
    where, where_of = _plane(problem.where, lead)
    bias, bias_of = _plane(problem.bias, lead)
    temperature = problem.temperature
    if not isinstance(temperature, float):
        temperature = np.require(temperature, np.float64, ["C", "A"])
    result = np.empty((*lead, queries, value.shape[-1]), query.dtype)
    logsumexp = np.empty((*lead, queries), query.dtype) if wants_logsumexp else None
    nothing = kernel(
        _stacked(query), key, value, key_of, value_of, where, where_of, bias, bias_of,
        keys if problem.visible is None else problem.visible,
        problem.scale, problem.alpha, temperature, EMPTY_CODES[problem.empty], result, logsumexp,
    )  # fmt: skip
    if problem.empty == "raise" and nothing >= 0:
        raise InputError(
            f'query {nothing} has nothing possible (all -inf or masked) and empty="raise": choose empty="zero", "nan" '
            'or "uniform", or leave such queries out'
        )
    return result, logsumexp


def _stacked(array: Array) -> Array:
    """(matrices, rows, columns), contiguous."""
    rows, columns = array.shape[-2:]
    stacked = np.reshape(array, (math.prod(array.shape[:-2]), rows, columns))
    return np.require(stacked, stacked.dtype.newbyteorder("="), ["C", "A"])


def _matrices(array: Array, lead: tuple[int, ...]) -> tuple[Array, Array]:
    """Stacked, and which of them serves each matrix of the result; a head serves a group of heads."""
    leading = array.shape[:-2]
    index = np.arange(math.prod(leading), dtype=np.int64).reshape(leading)
    if leading and leading[-1] not in (1, lead[-1]):
        index = np.repeat(index, lead[-1] // leading[-1], axis=-1)
    return _stacked(array), np.ascontiguousarray(np.broadcast_to(index, lead).ravel())


def _plane(array: Array | None, lead: tuple[int, ...]) -> tuple[Array | None, Array | None]:
    """A mask or bias with at least two axes, not broadcast, and which of its matrices serves each of the result."""
    return (None, None) if array is None else _matrices(array[(None,) * max(0, 2 - array.ndim)], lead)
