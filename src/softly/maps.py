"""Scores to probabilities: softmax and its logarithms, the sparse maps, the sigmoid.

Those over an axis take `f(scores, axis=-1, *, temperature=1.0, where=None, empty="zero", out=None)`:

- scores: real numbers of any dtype, array of any namespace (the result stays in it); a score of -inf means impossible.
- axis: an integer, several, or None for all.
- temperature: divides the scores; a number >= 0 or one a row (broadcast against the shape without `axis`); 0 and
  inf give the limits.
- where: boolean mask, broadcast to the scores; True = possible. What it hides never matters, NaN included.
- empty: what a row with nothing possible gives: "zero" (log: -inf), "nan", "uniform" or "raise".
- out: NumPy only: where to write, the scores themselves or an array apart from them.

Each is defined by an array expression (softly._expressions), which a compiled kernel replaces where there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from softly import _expressions, _kernels
from softly._arrays import Array, Axis, Empty, check_alpha, is_tensor, jax_of
from softly._rows import Rows, as_rows
from softly._signed_sums import is_complex_array, signed_logsumexp


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
    return _apply("softmax", _expressions.softmax, scores, axis, temperature, where, empty, out)


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
    return _apply("log_softmax", _expressions.log_softmax, scores, axis, temperature, where, empty, out)


def logsumexp(
    scores: Array,
    axis: Axis = -1,
    *,
    temperature: Any = 1.0,
    where: Array | None = None,
    empty: Empty = "zero",
    out: Array | None = None,
    weights: Array | None = None,
    return_sign: bool = False,
    keepdims: bool = False,
) -> Array:
    """The logarithm of the sum of exponentials, log sum_j w_j exp(z_j / T), without overflow.

    Arguments and errors as `softmax`; the result has the scores' shape without `axis`, or with 1 there (`keepdims`).

    - weights: factors w, broadcast to the scores; default 1. A weight of 0 makes an entry impossible.
    - return_sign: also return the sign of the sum, 1, 0 or -1, and the logarithm of its size. Without it the
      logarithm of a negative sum is NaN.

    Scores may be complex: the imaginary part of the result lies in (-pi, pi], the sign is a number of modulus 1.

    Edge rows: +inf if any score is; NaN if any is NaN; -inf if nothing is possible (`empty="nan"`: NaN) or the sum is
    0; an empty axis gives -inf. As T -> 0 it goes to +-inf with the sign of the largest score (0: log of the number of
    ties); T = inf: log of the number of possible entries.

    >>> float(logsumexp([1000.0, 1000.0]))
    1000.6931471805599
    >>> logsumexp([0.0, 0.0], weights=[1.0, -3.0], return_sign=True)
    (np.float64(0.6931471805599453), np.float64(-1.0))
    """
    if weights is not None or return_sign or is_complex_array(scores):
        return signed_logsumexp(scores, axis, temperature, where, empty, out, weights, return_sign, keepdims)
    return _apply(
        "logsumexp", _expressions.logsumexp, scores, axis, temperature, where, empty, out,
        reduces=True, keepdims=keepdims,
    )  # fmt: skip


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
    (Martins and Astudillo, 2016). alpha = 2 of the entmax family. The compiled core is within 2 ULP of 1.

    Arguments, shapes, edge rows and errors as `softmax`.

    >>> sparsemax([2.0, 1.0, -1.0])
    array([1., 0., 0.])
    """
    return entmax(scores, axis, alpha=2.0, temperature=temperature, where=where, empty=empty, out=out)


def entmax(
    scores: Array,
    axis: Axis = -1,
    *,
    alpha: Any = 1.5,
    temperature: Any = 1.0,
    where: Array | None = None,
    empty: Empty = "zero",
    out: Array | None = None,
) -> Array:
    """The family from softmax (alpha = 1) to sparsemax (alpha = 2) and on: the larger alpha, the more exact zeros.

    p_i = [(alpha - 1) z_i / T - tau]_+^(1 / (alpha - 1)) with tau such that they sum to 1 (Peters, Niculae and Martins,
    2019); the maximiser of <p, z/T> plus the Tsallis entropy of order alpha. A score lower than the largest by
    T / (alpha - 1) or more gets 0.

    - alpha: a number >= 1; inf is the limit, where the largest scores share.

    Other arguments, shapes, edge rows and errors as `softmax`; alpha < 1 or NaN is a ValueError. The compiled core is
    within 2 ULP of 1 at alpha 1.5 and 2, within 4 elsewhere.

    >>> entmax([2.0, 1.0, -1.0]).round(4)
    array([0.8307, 0.1693, 0.    ])
    """
    alpha = check_alpha(alpha, scores)
    if (jax := jax_of(alpha)) is not None:
        scores = jax.asarray(scores)
    elif isinstance(alpha, float) and alpha == 1:
        return softmax(scores, axis, temperature=temperature, where=where, empty=empty, out=out)
    return _apply(
        "entmax", lambda rows: _expressions.entmax(rows, alpha), scores, axis, temperature, where, empty, out,
        alpha=alpha, half_in="float64",
    )  # fmt: skip


def sigmoid(scores: Array, *, temperature: Any = 1.0, where: Array | None = None, out: Array | None = None) -> Array:
    """The probability of each score against a score of 0, on its own: 1 / (1 + exp(-z / T)).

    softmax of (0, z): for labels that do not exclude each other. Elementwise; the temperature is a number or broadcasts
    against the scores' shape. Other arguments and errors as `softmax`. The compiled core is within 2 ULP.

    Edges: -inf or a masked entry gives 0, +inf gives 1, at every T; T = 0 gives 1 above 0, 0 below and 1/2 at 0;
    T = inf gives 1/2; NaN gives NaN.

    >>> sigmoid([0.0, 2.0, -800.0]).round(4)
    array([0.5   , 0.8808, 0.    ])
    """
    return _apply("sigmoid", _expressions.sigmoid, scores, (), temperature, where, "zero", out)


def log_sigmoid(
    scores: Array, *, temperature: Any = 1.0, where: Array | None = None, out: Array | None = None
) -> Array:
    """The logarithm of `sigmoid`, -log(1 + exp(-z / T)), exact also where the probability is near 0 or 1.

    Arguments, shapes and errors as `sigmoid`. Edges: -inf or a masked entry gives -inf, +inf gives 0.

    >>> log_sigmoid([0.0, 40.0, -800.0])
    array([-6.93147181e-01, -4.24835426e-18, -8.00000000e+02])
    """
    return _apply("log_sigmoid", _expressions.log_sigmoid, scores, (), temperature, where, "zero", out)


def _apply(
    operation: str,
    expression: Callable[[Rows], Array],
    scores: Array,
    axis: Axis,
    temperature: Any,
    where: Array | None,
    empty: Empty,
    out: Array | None,
    *,
    alpha: Any = 1.0,
    reduces: bool = False,
    keepdims: bool = False,
    half_in: str = "float32",
) -> Array:
    """Straight to the kernel where nothing is to prepare; else checks, kernel or expression, the caller's layout."""
    if where is None and empty == "zero" and not keepdims and axis == (() if operation in _kernels.ELEMENTWISE else -1):
        if type(scores) is np.ndarray:
            result = _kernels.DIRECT[operation](scores, temperature, out, alpha)
        elif out is None and is_tensor(scores):
            from softly.torch import direct

            result = direct.run(operation, scores, temperature, alpha)
        else:
            result = None
        if result is not None:
            return result
    options: dict[str, Any] = {"reduces": reduces, "keepdims": keepdims, "half_in": half_in}
    if is_tensor(scores):
        from softly.torch import operators

        return operators.over_rows(operation, scores, axis, temperature, where, empty, out, alpha, **options)
    if (jax := jax_of(scores, temperature, where)) is not None:
        return jax.apply(
            operation, scores, axis, temperature, where, empty, out, alpha=alpha, reduces=reduces, keepdims=keepdims
        )
    with np.errstate(all="ignore"):
        rows = as_rows(scores, axis, temperature, where, empty, out, **options)
        return rows.restore(_kernels.run(operation, rows, expression, alpha))
