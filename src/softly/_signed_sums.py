"""logsumexp of sums that can be negative or complex: with weights, or of complex scores.

S = sum f exp(a / T) with real scores a and factors f: the weight, times exp(i b / T) for a score a + i b. With the
pivot j, whose |f exp(a / T)| is the largest, S = f_j exp(a_j / T) (1 + rest), where rest sums
f_i / f_j exp((a_i - a_j) / T): nothing overflows, and what cancels is the sum itself.
"""

from __future__ import annotations

import math
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from softly._arrays import Array, Axis, Empty, as_array, as_mask, beside, device, in_shape_of, is_tensor, jax_of
from softly._errors import InputError
from softly._expressions.groups import fill_empty, shifted, temperature_of
from softly._rows import Rows, as_rows


def is_complex_array(numbers: Array) -> bool:
    """Whether the numbers are complex."""
    dtype = getattr(numbers, "dtype", None)
    if dtype is None:
        return np.iscomplexobj(numbers)
    return dtype.kind == "c" if isinstance(dtype, np.dtype) else "complex" in str(dtype)


def signed_logsumexp(
    scores: Array,
    axis: Axis,
    temperature: Any,
    where: Array | None,
    empty: Empty,
    out: Array | None,
    weights: Array | None,
    return_sign: bool,
    keepdims: bool,
) -> Array | tuple[Array, Array]:
    """`softly.logsumexp` with weights, return_sign or complex scores."""
    arguments = scores, axis, temperature, where, empty, out, weights, return_sign, keepdims
    if is_tensor(scores):
        from softly.torch import signed_sums

        return signed_sums.signed_logsumexp(*arguments)
    if (jax := jax_of(scores, temperature, where, weights)) is not None:
        found = jax.signed_logsumexp(*arguments)
        return tuple(found) if return_sign else found[0]
    with np.errstate(all="ignore"):
        return evaluate(*arguments)


def evaluate(
    scores: Array,
    axis: Axis,
    temperature: Any,
    where: Array | None,
    empty: Empty,
    out: Array | None,
    weights: Array | None,
    return_sign: bool,
    keepdims: bool,
) -> Array | tuple[Array, Array]:
    """The value, in array operations."""
    xp, scores = as_array(scores, "scores")
    has_phase = is_complex_array(scores)
    is_complex = has_phase or is_complex_array(weights)
    if out is not None and (return_sign or is_complex):
        raise InputError("out takes one real array: leave it out with return_sign=True or complex numbers")
    if weights is not None:
        weights = weights_like(xp, weights, scores)
        used = weights != 0
        where = used if where is None else used & as_mask(xp, where, scores)
    real = xp.real(scores) if has_phase else scores
    rows = as_rows(real, axis, temperature, where, empty, out, reduces=True, keepdims=keepdims, half_in="float64")
    if xp is np and rows.scores.dtype == np.float32:
        rows.scores = rows.scores.astype(np.float64)
    factors = _factors(rows, weights, xp.imag(scores) if has_phase else None)
    if not is_complex:  # an infinite weight is the weight 1 or -1 of an infinite score
        endless = (xp.abs(factors) == math.inf) & (rows.scores > -math.inf)
        rows.scores = xp.where(endless, xp.full_like(factors, math.inf), rows.scores)
        factors = xp.where(endless, xp.sign(factors), factors)
    size, sign = _log_and_sign(rows, factors)
    if is_complex:
        results = _complex_results(rows, rows.arrange(scores), weights, size, sign, return_sign)
    elif return_sign:
        results = [size, sign]
    else:
        results = [xp.where(sign < 0, xp.full_like(size, math.nan), size)]
    results = [_restored(rows, result[..., 0]) for result in results]
    return (results[0], results[1]) if return_sign else results[0]


def _restored(rows: Rows, result: Array) -> Array:
    xp = rows.xp
    if "complex" in str(result.dtype):
        rows = replace(rows, dtype=xp.complex64 if rows.dtype == xp.float32 else xp.complex128)
    return rows.restore(result)


def weights_like(xp: ModuleType, weights: Array, scores: Array) -> Array:
    """Weights in the scores' shape; TypeError where they are no numbers."""
    array = beside(xp, weights, "weights", scores)
    if xp is np and array.dtype.kind not in "biufc":
        raise TypeError(f"weights have dtype {array.dtype}: convert them to numbers, such as float64")
    return in_shape_of(scores, xp, array, "weights")


def _factors(rows: Rows, weights: Array | None, imaginary: Array | None) -> Array:
    """f, as rows: the weight times the phase of the score, 1 where the entry is impossible."""
    xp, possible = rows.xp, rows.scores > -math.inf
    real = rows.scores.dtype
    f = xp.ones_like(rows.scores)
    if weights is not None:
        f = rows.arrange(weights)
        if "complex" not in str(f.dtype):
            f = xp.astype(f, real)
    if imaginary is not None:
        phase = xp.astype(rows.arrange(imaginary), real) / temperature_of(rows)
        f = f * _complex(xp, xp.cos(phase), xp.sin(phase))
    return xp.where(possible | xp.isnan(rows.scores), f, xp.ones_like(f))


def _log_and_sign(rows: Rows, factors: Array) -> tuple[Array, Array]:
    """log |S| and S / |S| of each row, with a last axis of 1."""
    xp, n = rows.xp, rows.scores.shape[-1]
    if n == 0:
        value = math.nan if rows.empty == "nan" else -math.inf
        empty = xp.full((*rows.scores.shape[:-1], 1), value, dtype=rows.scores.dtype, device=device(rows.scores))
        return empty, xp.zeros_like(empty)
    top_score = rows.largest(rows.scores)
    x, top = shifted(rows)
    logs = xp.where(x > -math.inf, x + xp.log(xp.abs(factors)), x)
    pivot = xp.arange(n, device=device(logs)) == xp.argmax(logs, axis=-1, keepdims=True)
    x_pivot, log_pivot, f_pivot = (rows.total(xp.where(pivot, a, xp.zeros_like(a))) for a in (x, logs, factors))
    ratio, gap, weight = factors / f_pivot, x - x_pivot, xp.abs(f_pivot)
    extreme = (xp.abs(gap) > 600) | (xp.abs(ratio) > 1e30) | (xp.abs(ratio) < 1e-30)
    phase = factors / xp.abs(factors) * (weight / f_pivot)
    terms = xp.where(extreme, phase * xp.exp(logs - log_pivot), ratio * xp.exp(gap))
    apart = pivot | (x == -math.inf)
    rest = rows.total(xp.where(apart, xp.zeros_like(terms), terms))
    others = xp.where(extreme, weight * terms, factors * (weight / f_pivot) * xp.exp(gap))
    log_sum = _log_size(xp, weight, rest, rows.total(xp.where(apart, xp.zeros_like(others), others)))
    size = xp.where((log_sum == -math.inf) & (top_score < math.inf), log_sum, top + x_pivot + log_sum)
    size = fill_empty(rows, size, -math.inf, -math.inf)
    sum_sign = 1 + rest
    sign = f_pivot / weight * xp.where(sum_sign == 0, xp.zeros_like(sum_sign), sum_sign / xp.abs(sum_sign))
    sign = xp.where(top_score == -math.inf, xp.zeros_like(sign), sign)
    return size[..., :1], xp.where(xp.isnan(size[..., :1]), xp.full_like(sign, math.nan), sign)


def _log_size(xp: ModuleType, weight: Array, rest: Array, others: Array) -> Array:
    """log |weight (1 + rest)|, through log1p where that is near 0.

    `others` is weight * rest, summed without dividing by the weight first: exact where the weights are.
    """
    if "complex" in str(rest.dtype):
        a, b = xp.real(rest), xp.imag(rest)
        small = (xp.abs(a) < 0.5) & (xp.abs(b) < 0.5)
        of_sum = xp.where(small, xp.log1p(a * (2 + a) + b * b) / 2, xp.log(xp.abs(1 + rest)))
        return xp.where(weight == 1, of_sum, xp.log(weight) + of_sum)
    product = weight * xp.abs(1 + rest)
    excess = (weight - 1) + others  # of the signed product over 1
    near = xp.log1p(xp.where(rest > -1, excess, -excess - 2))
    far = xp.log(xp.where(xp.isfinite(product) & (product > 1e-30), product, xp.ones_like(product)))
    split = xp.log(weight) + xp.log(xp.abs(1 + rest))
    unusual = ~(xp.isfinite(product) & (product > 1e-30))
    return xp.where(unusual, split, xp.where((product > 0.5) & (product < 2), near, far))


def _complex_results(
    rows: Rows, scores: Array, weights: Array | None, size: Array, sign: Array, return_sign: bool
) -> list[Array]:
    """log|S| and S/|S|, or log S with its imaginary part in (-pi, pi].

    Rows with an infinite real part follow C99's complex exponential and logarithm, as SciPy's do.
    """
    xp = rows.xp
    angle = xp.atan2(xp.imag(sign), xp.real(sign))
    angle = xp.where(angle == -math.pi, xp.full_like(angle, math.pi), angle)
    log = _complex(xp, size, angle)
    if scores.shape[-1]:
        t = temperature_of(rows)
        scores = xp.astype(scores, log.dtype, copy=False)
        real, imaginary = xp.real(scores) / t, xp.imag(scores) / t
        powers = xp.exp(_complex(xp, real, xp.where(real == -math.inf, xp.zeros_like(real), imaginary)))
        direct = xp.log(rows.total(powers if weights is None else rows.arrange(weights) * powers))
        largest = rows.largest(rows.scores)
        log = xp.where((largest == math.inf) | xp.isnan(largest), direct, log)
    if not return_sign:
        return [log]
    angle = xp.imag(log)
    unit = _complex(xp, xp.cos(angle), xp.sin(angle))
    return [xp.real(log), xp.where(sign == 0, sign, unit)]


def _complex(xp: ModuleType, real: Array, imaginary: Array) -> Array:
    dtype = xp.complex64 if real.dtype == xp.float32 else xp.complex128
    return xp.astype(real, dtype) + xp.astype(imaginary, dtype) * 1j
