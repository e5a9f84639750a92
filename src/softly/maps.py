"""Scores to probabilities: the maps of the family, each written once as an array expression.

The expression is the definition. `_kernels.run` replaces it by a compiled kernel where there is one. All take
`f(scores, axis=-1, *, temperature=1.0, where=None, empty="zero", out=None)`:

- scores: real numbers of any dtype, array of any namespace (the result stays in it); a score of -inf means impossible.
- axis: an integer, several, or None for all.
- temperature: divides the scores; a number >= 0 or one a row (broadcast against the shape without `axis`); 0 and
  inf give the limits.
- where: boolean mask, broadcast to the scores; True = possible. What it hides never matters, NaN included.
- empty: what a row with nothing possible gives: "zero" (log: -inf), "nan", "uniform" or "raise".
- out: NumPy only: where to write, the scores themselves or an array apart from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from softly import _kernels
from softly._arrays import EMPTY_CODES, Array, Axis, Empty, Rows, as_rows


def softmax(
    scores: Array,
    axis: Axis = -1,
    *,
    temperature: Any = 1.0,
    where: Array | None = None,
    empty: Empty = "zero",
    out: Array | None = None,
) -> Array:
    """Probabilities proportional to the exponentials of the scores.

    p_i = exp(z_i / T) / sum_j exp(z_j / T), computed after subtracting the largest score: exact under any shift.

    Arguments are described at the top of `softly.maps`. Returns an array of the scores' shape and floating dtype
    (integers: float64 in NumPy). The compiled core is within 2 ULP.

    Edge rows: ties at +inf share; NaN gives NaN in its row only; T = 0 puts all on the largest, ties sharing;
    T = inf is uniform over the possible entries; a row with nothing possible gives zeros.

    Raises ValueError (negative or NaN temperature, shapes that do not fit), TypeError (dtypes that are not real
    numbers), AxisError.

    >>> softmax([2.0, 1.0, -1.0]).round(4)
    array([0.7054, 0.2595, 0.0351])
    """
    return _apply("softmax", _softmax, scores, axis, temperature, where, empty, out)


def log_softmax(
    scores: Array,
    axis: Axis = -1,
    *,
    temperature: Any = 1.0,
    where: Array | None = None,
    empty: Empty = "zero",
    out: Array | None = None,
) -> Array:
    """Logarithms of the softmax probabilities, exact also where a probability is near 0 or 1.

    log p_i = z_i / T - log sum_j exp(z_j / T), the sum without its leader through log1p.

    Arguments, shapes and errors as `softmax`. Edge rows: impossible entries give -inf; a row with nothing possible
    gives -inf (`empty="uniform"`: -log n).

    >>> float(log_softmax([0.0, -40.0])[0])
    -4.248354255291589e-18
    """
    return _apply("log_softmax", _log_softmax, scores, axis, temperature, where, empty, out)


def logsumexp(
    scores: Array,
    axis: Axis = -1,
    *,
    temperature: Any = 1.0,
    where: Array | None = None,
    empty: Empty = "zero",
    out: Array | None = None,
) -> Array:
    """The logarithm of the sum of exponentials, log sum_j exp(z_j / T), without overflow.

    Arguments and errors as `softmax`; the result has the scores' shape without `axis`. Edge rows: +inf if any score
    is; NaN if any is NaN; -inf if nothing is possible (`empty="nan"`: NaN); an empty axis gives -inf. As T -> 0 it
    goes to +-inf with the sign of the largest score (0: log of the number of ties); T = inf: log of the number of
    possible entries.

    >>> float(logsumexp([1000.0, 1000.0]))
    1000.6931471805599
    """
    return _apply("logsumexp", _logsumexp, scores, axis, temperature, where, empty, out, reduces=True)


def sparsemax(
    scores: Array,
    axis: Axis = -1,
    *,
    temperature: Any = 1.0,
    where: Array | None = None,
    empty: Empty = "zero",
    out: Array | None = None,
) -> Array:
    """The point of the simplex nearest to the scores: probabilities with exact zeros.

    p_i = max(z_i / T - tau, 0) with tau such that they sum to 1: (sum of the k largest - 1) / k for the support size k
    (Martins and Astudillo, 2016). alpha = 2 of the entmax family.

    Arguments, shapes, edge rows and errors as `softmax`.

    >>> sparsemax([2.0, 1.0, -1.0])
    array([1., 0., 0.])
    """
    return _apply("sparsemax", _sparsemax, scores, axis, temperature, where, empty, out, half_in="float64")


def _apply(
    operation: str,
    expression: Callable[[Rows], Array],
    scores: Array,
    axis: Axis,
    temperature: Any,
    where: Array | None,
    empty: Empty,
    out: Array | None,
    **options: Any,
) -> Array:
    """Straight to the kernel where nothing is to prepare; else checks, kernel or expression, the caller's layout."""
    if axis == -1 and where is None and empty == "zero" and (out is None or not options):
        kernel = _kernels.find_direct(operation, scores, temperature, out)
        if kernel is not None:
            result = kernel(scores, temperature, EMPTY_CODES[empty], out)
            return result if result.ndim else result[()]
    with np.errstate(all="ignore"):
        rows = as_rows(scores, axis, temperature, where, empty, out, **options)
        return rows.restore(_kernels.run(operation, rows, expression))


def _shifted(rows: Rows) -> tuple[Array, Array]:
    """x = (z - max z) / T with every limit in place, and max z / T, both with a last axis.

    Rows whose largest score is +inf become 0 at those and -inf elsewhere. Above T = 1 scores and temperature are halved
    first, so that a difference which overflows does not hide a quotient that does not.
    """
    xp, z = rows.xp, rows.scores
    if isinstance(rows.temperature, float):
        t = xp.asarray(rows.temperature, dtype=z.dtype)
    else:
        t = xp.expand_dims(xp.astype(xp.asarray(rows.temperature), z.dtype, copy=False), axis=-1)
    top = xp.max(z, axis=-1, keepdims=True)
    at_infinity = top == math.inf
    z = xp.where(at_infinity, xp.where(z == math.inf, xp.zeros_like(z), xp.full_like(z, -math.inf)), z)
    finite_top = xp.where(xp.abs(top) == math.inf, xp.zeros_like(top), top)
    scale = xp.where(t > 1, xp.full_like(t, 0.5), xp.ones_like(t))
    d = z * scale - finite_top * scale
    x = xp.where((d == 0) & (t >= 0), xp.zeros_like(d), d / (t * scale))  # a NaN temperature, unread, stays NaN
    x = xp.where(z == -math.inf, z, x)
    quotient = xp.where(top == 0, xp.zeros_like(top), top / t)
    return x, xp.where(at_infinity, top, quotient)


def _log_of_sum(xp: ModuleType, x: Array) -> Array:
    """log sum exp(x) for rows whose largest entry is 0: the leaders are counted, the rest summed, log1p of both."""
    leader = x == 0
    count = xp.sum(xp.astype(leader, x.dtype), axis=-1, keepdims=True)
    rest = xp.sum(xp.where(leader, xp.zeros_like(x), xp.exp(x)), axis=-1, keepdims=True)
    return xp.log1p(rest + (count - 1))


def _fill_empty(rows: Rows, result: Array, empty_values: dict[str, float]) -> Array:
    xp = rows.xp
    nothing = xp.all(rows.scores == -math.inf, axis=-1, keepdims=True)
    value = empty_values["zero" if rows.empty == "raise" else rows.empty]
    return xp.where(nothing, xp.full_like(result, value), result)


def _softmax(rows: Rows) -> Array:
    xp, n = rows.xp, rows.scores.shape[-1]
    if n == 0:
        return rows.scores
    x, _ = _shifted(rows)
    e = xp.exp(x)
    return _fill_empty(rows, e / xp.sum(e, axis=-1, keepdims=True), {"zero": 0.0, "nan": math.nan, "uniform": 1 / n})


def _log_softmax(rows: Rows) -> Array:
    xp, n = rows.xp, rows.scores.shape[-1]
    if n == 0:
        return rows.scores
    x, _ = _shifted(rows)
    values = {"zero": -math.inf, "nan": math.nan, "uniform": -math.log(n)}
    return _fill_empty(rows, x - _log_of_sum(xp, x), values)


def _logsumexp(rows: Rows) -> Array:
    xp, values = rows.xp, {"zero": -math.inf, "nan": math.nan, "uniform": -math.inf}
    if rows.scores.shape[-1] == 0:
        return xp.full(rows.scores.shape[:-1], values.get(rows.empty, -math.inf), dtype=rows.scores.dtype)
    x, top = _shifted(rows)
    return xp.squeeze(_fill_empty(rows, top + _log_of_sum(xp, x), values), axis=-1)


def _sparsemax(rows: Rows) -> Array:
    xp, n = rows.xp, rows.scores.shape[-1]
    if n == 0:
        return rows.scores
    x, _ = _shifted(rows)
    descending = -xp.sort(-x, axis=-1)
    rank = xp.arange(1, n + 1, dtype=x.dtype)
    sums = xp.cumulative_sum(descending, axis=-1)
    in_support = 1 + rank * descending > sums
    size = xp.sum(xp.astype(in_support, x.dtype), axis=-1, keepdims=True)
    total = xp.sum(xp.where(in_support, descending, xp.zeros_like(x)), axis=-1, keepdims=True)
    p = xp.maximum(x - (total - 1) / size, xp.zeros_like(x))
    return _fill_empty(rows, p, {"zero": 0.0, "nan": math.nan, "uniform": 1 / n})
