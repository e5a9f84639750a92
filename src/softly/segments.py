"""The maps over groups of different lengths: edges of a graph by node, choices by chooser, tokens by document.

Groups lie along the first axis of the scores; further axes (heads) are independent. They are told in one of two ways:

- offsets: integers, segment i is the rows [offsets[i], offsets[i + 1]); from 0 to the number of rows, not decreasing.
- index: one integer a row, the segment that it belongs to, in any order; `num_segments` says how many there are
  (default: the largest index + 1).

Each segment gives what the map of `softly.maps` gives for it alone, to the bit. The other arguments are described
there; the temperature is a number or broadcasts against the shape that `segment_logsumexp` returns. Segments without
entries are allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from softly import _expressions, _kernels
from softly._arrays import Array, Empty, check_alpha, is_tensor, jax_of
from softly._segments import Segments, as_segments


def segment_softmax(
    scores: Array,
    *,
    offsets: Array | None = None,
    index: Array | None = None,
    num_segments: int | None = None,
    temperature: Any = 1.0,
    where: Array | None = None,
    empty: Empty = "zero",
    out: Array | None = None,
) -> Array:
    """softmax within each segment: p_i = exp(z_i / T) / sum over its segment of exp(z_j / T).

    Arguments are described at the top of `softly.segments`. Returns an array of the scores' shape, in their order.
    Edge rows as `softmax`: a segment with nothing possible gives zeros.

    Raises ValueError (offsets or index that do not fit the scores), TypeError (not integers), and what `softmax` does.

    >>> segment_softmax([0.0, 0.0, 5.0], offsets=[0, 2, 3])
    array([0.5, 0.5, 1. ])
    >>> segment_softmax([0.0, 5.0, 0.0], index=[1, 0, 1])
    array([0.5, 1. , 0.5])
    """
    return _apply(
        "softmax", _expressions.softmax, scores, offsets, index, num_segments, temperature, where, empty, out
    )  # fmt: skip


def segment_log_softmax(
    scores: Array,
    *,
    offsets: Array | None = None,
    index: Array | None = None,
    num_segments: int | None = None,
    temperature: Any = 1.0,
    where: Array | None = None,
    empty: Empty = "zero",
    out: Array | None = None,
) -> Array:
    """log_softmax within each segment: z_i / T - log sum over its segment of exp(z_j / T).

    Arguments, shapes and errors as `segment_softmax`; edge rows as `log_softmax`.

    >>> segment_log_softmax([0.0, 0.0, 5.0], offsets=[0, 2, 3])
    array([-0.69314718, -0.69314718,  0.        ])
    """
    return _apply(
        "log_softmax", _expressions.log_softmax, scores, offsets, index, num_segments, temperature, where, empty, out
    )  # fmt: skip


def segment_logsumexp(
    scores: Array,
    *,
    offsets: Array | None = None,
    index: Array | None = None,
    num_segments: int | None = None,
    temperature: Any = 1.0,
    where: Array | None = None,
    empty: Empty = "zero",
    out: Array | None = None,
) -> Array:
    """logsumexp of each segment, log sum over it of exp(z_j / T).

    Arguments and errors as `segment_softmax`. Returns an array of shape (number of segments, *further axes). Edge rows
    as `logsumexp`: a segment without entries gives -inf.

    >>> segment_logsumexp([0.0, 0.0, 5.0], offsets=[0, 2, 3, 3])
    array([0.69314718, 5.        ,       -inf])
    """
    return _apply(
        "logsumexp", _expressions.logsumexp, scores, offsets, index, num_segments, temperature, where, empty, out,
        reduces=True,
    )  # fmt: skip


def segment_entmax(
    scores: Array,
    *,
    alpha: Any = 1.5,
    offsets: Array | None = None,
    index: Array | None = None,
    num_segments: int | None = None,
    temperature: Any = 1.0,
    where: Array | None = None,
    empty: Empty = "zero",
    out: Array | None = None,
) -> Array:
    """entmax within each segment; alpha = 2 is sparsemax.

    Arguments, shapes and errors as `segment_softmax`, alpha and edge rows as `entmax`.

    >>> segment_entmax([1.0, 0.5, 5.0], alpha=2, offsets=[0, 2, 3])
    array([0.75, 0.25, 1.  ])
    """
    alpha = check_alpha(alpha, scores)
    if (jax := jax_of(alpha)) is not None:
        scores = jax.asarray(scores)
    elif isinstance(alpha, float) and alpha == 1:
        return segment_softmax(
            scores, offsets=offsets, index=index, num_segments=num_segments,
            temperature=temperature, where=where, empty=empty, out=out,
        )  # fmt: skip
    return _apply(
        "entmax", lambda groups: _expressions.entmax(groups, alpha),
        scores, offsets, index, num_segments, temperature, where, empty, out, alpha=alpha, half_in="float64",
    )  # fmt: skip


def _apply(
    operation: str,
    expression: Callable[[Segments], Array],
    scores: Array,
    offsets: Array | None,
    index: Array | None,
    num_segments: int | None,
    temperature: Any,
    where: Array | None,
    empty: Empty,
    out: Array | None,
    *,
    alpha: Any = 1.0,
    reduces: bool = False,
    half_in: str = "float32",
) -> Array:
    """Checks, kernel or expression, the caller's order."""
    options: dict[str, Any] = {"reduces": reduces, "half_in": half_in}
    if is_tensor(scores):
        from softly.torch import operators

        return operators.over_segments(
            operation, scores, offsets, index, num_segments, temperature, where, empty, out, alpha, **options
        )
    if (jax := jax_of(scores, offsets, index, temperature, where)) is not None:
        return jax.apply_segments(
            operation, scores, offsets, index, num_segments, temperature, where, empty, out,
            alpha=alpha, reduces=reduces,
        )  # fmt: skip
    with np.errstate(all="ignore"):
        segments = as_segments(scores, offsets, index, num_segments, temperature, where, empty, out, **options)
        return segments.restore(_kernels.run(operation, segments, expression, alpha))
