"""What can be said of attention without its weights, and how its partial results are put together."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from softly._arrays import Array, Empty, as_array, as_floats, quiet, without_autocast
from softly._errors import InputError
from softly.dot_product_attention import expression
from softly.dot_product_attention.averages import Align
from softly.dot_product_attention.problem import as_problem
from softly.maps import log_softmax, logsumexp, softmax


class AttentionStatistics(NamedTuple):
    """Of each query, (..., queries): log sum_j exp(z_ij / T), and the entropy of its weights in nats."""

    logsumexp: Array
    entropy: Array


def attention_statistics(
    query: Array,
    key: Array,
    *,
    alpha: Any = 1.0,
    scale: float | None = None,
    causal: bool = False,
    align: Align | None = None,
    where: Array | None = None,
    bias: Array | None = None,
    temperature: Any = 1.0,
    empty: Empty = "zero",
) -> AttentionStatistics:
    """Each query's logsumexp of the scores, and the entropy -sum_j p_ij log p_ij of its weights, 0 to log(keys).

    Arguments and errors as `attention`; memory is bounded. Of a query without a possible key they are -inf and 0. Half
    precisions give float32.

    >>> attention_statistics([[1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], scale=1.0).entropy.round(4)
    array([0.5822])
    """
    problem = as_problem(query, key, None, alpha, scale, causal, align, where, bias, temperature, empty)
    xp, potentials, entropies = problem.xp, [], []
    with quiet(problem.query), without_autocast(problem.query):
        for _, part in expression.blocks(problem):
            scores = expression.scores_of(part)
            options = {"temperature": part.temperature, "empty": empty}
            potentials.append(logsumexp(scores, **options))
            weights = expression.weights_of(part, scores)
            logs = log_softmax(scores, **options) if expression.is_softmax(part.alpha) else xp.log(weights)
            terms = xp.where(weights == 0, xp.zeros_like(weights), weights * logs)
            entropies.append(0 - xp.sum(terms, axis=-1))
        return AttentionStatistics(xp.concat(potentials, axis=-1), xp.concat(entropies, axis=-1))


def merge_attention(parts: Iterable[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Attention over all keys from that over parts of them: (output, logsumexp) of each to (output, logsumexp).

    o = sum_k w_k o_k with w = softmax of the parts' logsumexps, which are what `attention(..., return_logsumexp=True)`
    gives; the result can be merged again, in any order and grouping up to rounding. A part that had no possible key
    counts for nothing.

    output (..., queries, columns), logsumexp (..., queries), of one shape in all parts. Raises ValueError for no parts
    or shapes that differ. Scores of +inf in several parts share equally among the parts.

    >>> whole = softly.attention([[1.0]], [[0.0], [1.0]], [[1.0], [2.0]])
    >>> parts = [
    ...     softly.attention([[1.0]], [[k]], [[v]], return_logsumexp=True) for k, v in ((0.0, 1.0), (1.0, 2.0))
    ... ]
    >>> bool(abs(merge_attention(parts)[0] - whole).max() < 1e-15)
    True
    """
    pairs = [(as_floats(output), as_array(potential, "logsumexp")[1]) for output, potential in parts]
    if not pairs:
        raise InputError("parts has no entry: pass at least one (output, logsumexp)")
    (xp, _, first, dtype), _ = pairs[0]
    outputs = [output for (_, _, output, _), _ in pairs]
    for output, potential in zip(outputs, (potential for _, potential in pairs), strict=True):
        if output.shape != first.shape or tuple(potential.shape) != tuple(first.shape[:-1]):
            raise InputError(
                f"a part has output {tuple(output.shape)} and logsumexp {tuple(potential.shape)}: all outputs must "
                f"have one shape, that of the first is {tuple(first.shape)}, and logsumexp that without its last axis"
            )
    with quiet(first):
        potentials = xp.stack([potential for _, potential in pairs])
        weights = xp.expand_dims(softmax(potentials, axis=0), axis=-1)
        merged = xp.zeros_like(first)
        for k, output in enumerate(outputs):
            counts = xp.expand_dims(potentials[k, ...] != -math.inf, axis=-1)
            merged = merged + xp.where(counts, weights[k, ...] * output, xp.zeros_like(output))
        return xp.astype(merged, dtype, copy=False), logsumexp(potentials, axis=0)
