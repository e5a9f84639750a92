"""What callers of kernel regression pass, checked: a `Problem`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softly._arrays import Array, as_array, beside, float_dtypes, is_readable, is_tensor, jax_of
from softly._errors import InputError
from softly._rows import give_back

Progress = Callable[[int, int], None]

PAIRS_AT_A_TIME = {"core": 1 << 28, "scores": 1 << 20}  # between two calls of progress; of scores in memory


@dataclass(frozen=True, slots=True)
class Problem:
    """The arguments, checked; points that do not count are left out or, where that cannot be looked at, hidden."""

    xp: ModuleType
    x: Array  # (points, d)
    y: Array  # (points, outputs)
    query: Array  # (queries, d)
    bandwidth: NDArray[np.float64]  # (d,)
    outputs: tuple[int, ...]  # the caller's
    dtype: Any  # of the result
    where: Array | None  # (points,), unless they are left out; hidden points lie where one lies that counts

    def given_back(self, result: Array) -> Array:
        """(queries, outputs) as the caller's outputs, in their dtype."""
        return give_back(self.xp, self.xp.reshape(result, (result.shape[0], *self.outputs)), self.dtype, None)

    def blocks(self, pairs: int, progress: Progress | None) -> Iterator[tuple[int, int]]:
        """Queries [begin, end) of so many pairs with the points, in a traced program all; tells progress."""
        queries = self.query.shape[0]
        if _in_program(self.query):  # which is for any number of them
            yield 0, queries
            return
        step = max(1, pairs // max(1, self.x.shape[0]))
        for begin in range(0, queries, step):
            end = min(begin + step, queries)
            yield begin, end
            if progress is not None:
                progress(end, queries)


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
    width = x.shape[1]
    if _in_program(x) and (is_tensor(bandwidth) or isinstance(bandwidth, (np.ndarray, np.generic))):
        raise InputError("bandwidth is an array, whose numbers a traced program does not know: pass Python's numbers")
    if where is not None:
        where = beside(xp, where, "where", x)
        if "bool" not in str(where.dtype) or tuple(where.shape) != (x.shape[0],):
            raise InputError(
                f"where has dtype {where.dtype} and shape {tuple(where.shape)}: pass a boolean for each point"
            )
        if is_readable(where):
            x, y, where = x[where], y[where], None
        else:
            x = _beside_one_that_counts(xp, x, where)
    return Problem(xp, x, y, query, check_bandwidth(bandwidth, width), outputs, dtype, where)


def _in_program(array: Array) -> bool:
    """Whether torch writes down what is done with it."""
    if not is_tensor(array):
        return False
    from softly.torch.operators import is_traced

    return is_traced(array)


def _beside_one_that_counts(xp: ModuleType, x: Array, where: Array) -> Array:
    """Points that do not count moved to one that does, so that they are nowhere near when it is far; 0 if none does."""
    where = where[:, None]
    counted = xp.where(where, x, xp.zeros_like(x))
    one = xp.argmax(xp.astype(where, x.dtype), axis=0)
    return xp.where(where, x, xp.take(counted, one, axis=0))


def check_bandwidth(bandwidth: Any, width: int) -> NDArray[np.float64]:
    """One a feature; ValueError unless all are above 0 and finite.

    Only what is no Python number goes through NumPy, whose numbers torch.compile does not look at.
    """
    if bandwidth is None:
        raise InputError("bandwidth=None is for the kernel 'exponential_dot' alone: pass a number above 0")
    try:
        h = bandwidth
        if not isinstance(h, int | float | list | tuple):
            h = np.asarray(h, np.float64).tolist()
        numbers = [float(each) for each in h] if isinstance(h, list | tuple) else [float(h)] * width
    except (ValueError, RuntimeError, TypeError) as error:  # words, a recorded gradient, a trace
        raise InputError(
            f"bandwidth={bandwidth} is no number: pass one above 0, or one a feature; to learn it divide x and query "
            "by it and pass 1"
        ) from error
    if len(numbers) != width:
        raise InputError(f"bandwidth has shape {(len(numbers),)}: pass a number, or one for each of {width} features")
    if not all(0 < each < math.inf for each in numbers):
        raise InputError(f"bandwidth={bandwidth} is no bandwidth: it must be above 0 and finite")
    return np.array(numbers)
