"""attention and attention_weights, as users call them."""

from __future__ import annotations

from typing import Any, Literal

from softly._arrays import Array, Empty, is_tensor, quiet, without_autocast
from softly.dot_product_attention import compiled, expression
from softly.dot_product_attention.problem import Problem, as_problem

Align = Literal["top-left", "bottom-right"]


def attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    alpha: Any = 1.0,
    scale: float | None = None,
    causal: bool = False,
    align: Align | None = None,
    where: Array | None = None,
    bias: Array | None = None,
    temperature: Any = 1.0,
    empty: Empty = "zero",
    return_logsumexp: bool = False,
) -> Any:
    """Averages of the values, weighted by the map of the scores of queries and keys.

    o_i = sum_j p_ij v_j with p_i = entmax(z_i / T) at order alpha, 1 being softmax, and z_ij = scale q_i k_j + bias_ij
    (Vaswani et al., 2017; sparse maps: Peters, Niculae and Martins, 2019). The compiled core never stores the scores.

    - query (..., queries, d), key (..., keys, d), value (..., keys, columns): leading axes broadcast; the query may
      have several times as many heads (third axis from the end) as key and value: a group of heads in turn shares one.
    - scale: a number; 1 / sqrt(d) by default.
    - causal: query i sees the keys up to i. With other lengths `align` says from where: "top-left" counts queries and
      keys from the first, "bottom-right" from the last.
    - where: boolean, broadcast to the scores (..., queries, keys), True = possible; keys that are padding: (..., 1,
      keys). What it hides never matters, NaN in keys and values included, nor does it in the gradient.
    - bias: added to the scaled scores; -inf makes a key impossible.
    - temperature: a number >= 0, or one a query, broadcast to (..., queries).
    - empty: what a query without a possible key gives: "zero", "nan", "uniform" (over all keys) or "raise".
    - return_logsumexp: also return each query's log sum_j exp(z_ij / T), as `merge_attention` needs it (alpha 1).

    Returns (..., queries, columns) in the dtype of the arguments; half precisions are computed in float32 and rounded
    once. Tensors of torch keep their gradient, arrays of JAX may be traced.

    Edge rows: as `softmax` and `entmax`; a value that is not finite gives inf or NaN to the queries that may see it (in
    sparse maps: that have a share of it), and to no other. Raises ValueError (shapes, alignment, alpha < 1, negative
    temperature), TypeError (dtypes).

    >>> attention([[1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], [[1.0], [2.0]], scale=1.0).round(4)
    array([[1.2689]])
    """
    problem = as_problem(query, key, value, alpha, scale, causal, align, where, bias, temperature, empty)
    if return_logsumexp:
        expression.check_softmax(problem.alpha)
    with quiet(problem.query), without_autocast(problem.query):
        result, potential = _run(problem, return_logsumexp)
        result = problem.xp.astype(result, problem.dtype, copy=False)
    return (result, potential) if return_logsumexp else result


def attention_weights(
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
) -> Array:
    """The weights p_ij that `attention` averages the values with, (..., queries, keys): to look at, or to change.

    Arguments and errors as `attention`. Each row sums to 1, or is what `empty` says.

    >>> attention_weights([[1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], scale=1.0).round(4)
    array([[0.7311, 0.2689]])
    """
    problem = as_problem(query, key, None, alpha, scale, causal, align, where, bias, temperature, empty)
    with quiet(problem.query), without_autocast(problem.query):
        weights = expression.weights_of(problem, expression.scores_of(problem))
        return problem.xp.astype(weights, problem.dtype, copy=False)


def _run(problem: Problem, wants_logsumexp: bool) -> tuple[Array, Array | None]:
    """The compiled kernel if there is one, torch's operator, else the expression."""
    if is_tensor(problem.query):
        from softly.torch import dot_product_attention

        found: tuple[Array, Array | None] = dot_product_attention.run(problem, wants_logsumexp)
        return found
    if (kernel := compiled.find(problem)) is not None:
        return compiled.averages(kernel, problem, wants_logsumexp)
    return expression.in_blocks(problem, wants_logsumexp)
