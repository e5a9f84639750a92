"""Attention over the edges of a graph: averages of neighbours' values, weighted by the map over each target's edges."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from softly import _kernels
from softly._arrays import (
    Array,
    Empty,
    as_array,
    as_mask,
    beside,
    check_alpha,
    check_empty,
    check_temperature,
    device,
    float_dtypes,
    in_shape_of,
    is_tensor,
    jax_of,
)
from softly._errors import InputError
from softly._rows import give_back, raise_if_empty
from softly._segments import as_segments
from softly.edges import Edges, as_edges
from softly.segments import segment_entmax


def graph_attention(
    query: Array,
    key: Array,
    value: Array,
    edges: Edges | Array,
    *,
    alpha: float = 1.0,
    scale: float | None = None,
    negative_slope: float | None = None,
    where: Array | None = None,
    bias: Array | None = None,
    temperature: Any = 1.0,
    empty: Empty = "zero",
) -> Array:
    """Each target's average of its sources' values: sum over its edges of p_e value[source_e], p = entmax(scores / T).

    The score of an edge is scale <query[target], key[source]> + bias, or with a `negative_slope` that of graph
    attention networks, scale sum leaky_relu(query[target] + key[source]) + bias. Nothing of size edges x depth is made.

    - query: (targets, *heads, width); key: (sources, *heads, width); value: (sources, *heads, depth).
    - edges: integers (2, edges), sources and targets, in any order; or `softly.Edges`, checked once.
    - alpha: as `entmax`; 1 is softmax.
    - scale: 1 / sqrt(width) by default.
    - where: booleans (edges, *heads) or (edges,), in the edges' order; True = the edge counts.
    - bias: floats of the same shapes.
    - temperature: a number, or broadcasts against (targets, *heads).
    - empty: what a target gives of whose edges none counts: "zero", "nan", "uniform" (over all its edges; 0 where it
      has none) or "raise".

    Returns (targets, *heads, depth) in the dtype of all three; half precisions are computed in float32. An edge without
    a share contributes nothing, be its value NaN or inf. NumPy arrays, tensors of torch (with derivatives, also
    compiled) and arrays of JAX; there edges are numbers, also inside a trace.

    Raises ValueError (shapes that do not fit, nodes that do not exist, and as `entmax`), TypeError. Source: Velickovic
    et al., Graph Attention Networks, 2018.

    >>> graph_attention([[1.0], [1.0]], [[0.0], [0.0]], [[2.0], [4.0]], [[0, 1, 1], [0, 0, 1]])
    array([[3.],
           [4.]])
    """
    problem = _prepare(query, key, value, edges, alpha, scale, negative_slope, where, bias, temperature, empty)
    return problem.given_back(filled(problem)[0])


def graph_attention_weights(
    query: Array,
    key: Array,
    edges: Edges | Array,
    *,
    alpha: float = 1.0,
    scale: float | None = None,
    negative_slope: float | None = None,
    where: Array | None = None,
    bias: Array | None = None,
    temperature: Any = 1.0,
    empty: Empty = "zero",
) -> Array:
    """The weights by which `graph_attention` averages: (edges, *heads), in the edges' order; each target's sum to 1.

    Arguments and errors as `graph_attention`.

    >>> graph_attention_weights([[1.0], [1.0]], [[0.0], [0.0]], [[0, 1, 1], [0, 0, 1]])
    array([0.5, 0.5, 1. ])
    """
    problem = _prepare(query, key, None, edges, alpha, scale, negative_slope, where, bias, temperature, empty)
    weights = filled(problem)[1]
    inverse = problem.edges.inverse
    return problem.given_back(weights if inverse is None else problem.xp.take(weights, problem.whole(inverse), axis=0))


@dataclass(frozen=True, slots=True)
class Problem:
    """The arguments, checked: heads are one axis, edges stand by target, what does not count has the bias -inf."""

    xp: ModuleType
    query: Array  # (targets, heads, width)
    key: Array  # (sources, heads, width)
    value: Array  # (sources, heads, depth)
    edges: Any  # Edges, or TracedEdges of torch
    bias: Array | None  # (edges, heads)
    temperature: float | Array  # or (targets, heads)
    alpha: Any
    scale: float
    negative_slope: float | None
    empty: Empty
    heads: tuple[int, ...]  # the caller's
    dtype: Any  # of the result

    def whole(self, numbers: Any) -> Array:
        """Integers of the edges in the namespace of the arrays, beside them."""
        return numbers if self.xp is np else self.xp.asarray(numbers, device=device(self.query))

    def given_back(self, result: Array) -> Array:
        """The result (n, heads, ...) with the caller's heads, in their dtype."""
        shape = result.shape[0], *self.heads, *result.shape[2:]
        return give_back(self.xp, self.xp.reshape(result, shape), self.dtype, None)


def filled(problem: Problem) -> tuple[Array, Array]:
    """The averages and weights, and what `empty` says of targets of whose edges none counts."""
    out, weights = averages(problem)
    if problem.empty == "zero":
        return out, weights
    xp, targets = problem.xp, problem.whole(problem.edges.targets)
    nothing = _sums(problem, xp.astype(weights != 0, out.dtype), targets) == 0
    if problem.empty == "raise":
        raise_if_empty(xp, xp.any(nothing, axis=-1), "target")
        return out, weights
    if problem.empty == "nan":
        instead = xp.full_like(out, math.nan), xp.full_like(weights, math.nan)
    else:  # scores of no width are all 0
        no_width = {"query": problem.query[..., :0], "key": problem.key[..., :0]}
        instead = averages(replace(problem, **no_width, bias=None, alpha=1.0, temperature=1.0))
    is_filled = xp.take(nothing, targets, axis=0)
    return xp.where(xp.expand_dims(nothing, axis=-1), instead[0], out), xp.where(is_filled, instead[1], weights)


def averages(problem: Problem) -> tuple[Array, Array]:
    """The averages (targets, heads, depth), 0 where no edge counts, and the weights (edges, heads) by target."""
    if is_tensor(problem.query):
        from softly.torch import graphs

        return graphs.averages(problem)
    if problem.xp is np and _kernels.core is not None:
        return by_kernel(problem)
    with np.errstate(all="ignore"):
        return by_expression(problem)


def by_kernel(problem: Problem) -> tuple[Array, Array]:
    """In the compiled core, of NumPy arrays."""
    core, query, value, edges = _kernels.core, problem.query, problem.value, problem.edges
    assert core is not None
    weights = np.empty((len(edges), query.shape[1]), query.dtype)
    out = np.empty((query.shape[0], *value.shape[1:]), query.dtype)
    bias = None if problem.bias is None else np.ascontiguousarray(problem.bias)
    core.graph_averages(*kernel_arguments(problem), weights, bias, out)
    return out, weights


def kernel_arguments(problem: Problem) -> tuple[Any, ...]:
    """What the kernels of values and of gradients take first."""
    arrays = (np.require(x, requirements=["C", "A"]) for x in (problem.query, problem.key, problem.value))
    temperature = problem.temperature
    if not isinstance(temperature, float):
        temperature = np.require(temperature, np.float64, ["C", "A"])
    edges = problem.edges
    return *arrays, edges.offsets, edges.sources, temperature, problem.alpha, problem.scale, problem.negative_slope


def by_expression(problem: Problem) -> tuple[Array, Array]:
    """The definition, on any array library."""
    xp, edges = problem.xp, problem.edges
    sources, targets = problem.whole(edges.sources), problem.whole(edges.targets)
    query, key = xp.take(problem.query, targets, axis=0), xp.take(problem.key, sources, axis=0)
    if problem.bias is not None:  # neither a score nor a gradient comes from what does not count
        impossible = problem.bias == -math.inf
        hidden = xp.expand_dims(impossible, axis=-1)
        query, key = (xp.where(hidden, xp.zeros_like(x), x) for x in (query, key))
    if problem.negative_slope is None:
        terms = query * key
    else:
        terms = query + key
        terms = xp.where(terms > 0, terms, terms * problem.negative_slope)
    scores = xp.sum(terms, axis=-1) * problem.scale
    if problem.bias is not None:
        scores = xp.where(impossible, problem.bias, scores + problem.bias)
    weights = segment_entmax(
        scores, alpha=problem.alpha, offsets=problem.whole(edges.offsets), temperature=problem.temperature
    )
    spread = xp.expand_dims(weights, axis=-1)
    value = xp.take(problem.value, sources, axis=0)
    parts = xp.where(spread != 0, spread * xp.where(spread != 0, value, xp.zeros_like(value)), xp.zeros_like(value))
    return _sums(problem, parts, targets), weights


def _sums(problem: Problem, parts: Array, targets: Array) -> Array:
    """The sum of each target's parts."""
    shape = problem.query.shape[0], *parts.shape[1:]
    if is_tensor(parts):
        return parts.new_zeros(shape).index_add(0, targets, parts)
    if jax_of(parts) is not None:
        return problem.xp.zeros(shape, dtype=parts.dtype).at[targets].add(parts)
    offsets = problem.whole(problem.edges.offsets)
    segments = as_segments(parts, offsets, None, None, 1.0, None, "zero", None, reduces=True)
    return segments.restore(segments.sum(segments.scores))


def _prepare(
    query: Any,
    key: Any,
    value: Any | None,
    edges: Any,
    alpha: Any,
    scale: float | None,
    negative_slope: float | None,
    where: Any,
    bias: Any,
    temperature: Any,
    empty: Empty,
) -> Problem:
    """Everything checked; without a value its depth is 0."""
    check_empty(empty)
    xp, query = _first(query, key, value, bias, temperature)
    given = {"query": query, "key": key} | ({} if value is None else {"value": value})
    arrays = {name: beside(xp, x, name, query) for name, x in given.items()}
    _check_shapes({name: tuple(x.shape) for name, x in arrays.items()})
    kinds = [float_dtypes(xp, x.dtype, name=name)[0] for name, x in arrays.items()]
    dtype, compute = float_dtypes(xp, xp.result_type(*kinds))
    heads, width = tuple(query.shape[1:-1]), query.shape[-1]
    flat = {
        name: xp.reshape(xp.astype(x, compute, copy=False), (x.shape[0], math.prod(heads), x.shape[-1]))
        for name, x in arrays.items()
    }
    query, key = flat["query"], flat["key"]
    checked = _edges_of(edges, query, key)
    alpha = check_alpha(alpha, query)
    of_targets = check_temperature(temperature, xp, query, (query.shape[0], *heads), "target")
    if not isinstance(of_targets, float):
        of_targets = xp.reshape(of_targets, (query.shape[0], math.prod(heads)))
    problem = Problem(
        xp, query, key, flat.get("value", key[..., :0]), checked, None, of_targets, alpha,
        width**-0.5 if scale is None and width else float(1.0 if scale is None else scale),
        None if negative_slope is None else float(negative_slope), empty, heads, dtype,
    )  # fmt: skip
    return replace(problem, bias=_bias(problem, where, bias))


def _first(query: Any, key: Any, value: Any, *others: Any) -> tuple[ModuleType, Array]:
    """The namespace that all are computed in, and the query in it."""
    if (jax := jax_of(query, key, value, *others)) is not None:
        query = jax.asarray(query)
    return as_array(query, "query")


def _edges_of(edges: Any, query: Array, key: Array) -> Any:
    if is_tensor(query):
        from softly.torch import graphs

        return graphs.edges_of(edges, query, key)
    return as_edges(edges, query.shape[0], key.shape[0])


def _check_shapes(shapes: dict[str, tuple[int, ...]]) -> None:
    query, key = shapes["query"], shapes["key"]
    for name, shape in shapes.items():
        if len(shape) < 2:
            raise InputError(f"{name} has shape {shape}: pass (nodes, *heads, width)")
    if query[1:] != key[1:]:
        raise InputError(f"query has shape {query} and key {key}: all axes but the first must be equal")
    if "value" in shapes and shapes["value"][:-1] != key[:-1]:
        raise InputError(f"key has shape {key} and value {shapes['value']}: all axes but the last must be equal")


def _bias(problem: Problem, where: Any, bias: Any) -> Array | None:
    """(edges, heads) by target, -inf where an edge does not count; None if all do and nothing is added."""
    if where is None and bias is None:
        return None
    xp, query, heads = problem.xp, problem.query, problem.heads
    edges = problem.edges.sources.shape[0]
    like = xp.zeros((edges, *heads), dtype=query.dtype, device=device(query))
    if bias is not None:
        array = beside(xp, bias, "bias", query)
        float_dtypes(xp, array.dtype, name="bias")
        like = in_shape_of(like, xp, xp.astype(_of_edges(xp, array, heads), query.dtype, copy=False), "bias")
    if where is not None:
        mask = as_mask(xp, _of_edges(xp, beside(xp, where, "where", query), heads), like)
        like = xp.where(mask, like, xp.full_like(like, -math.inf))
    flat = xp.reshape(like, (edges, math.prod(heads)))
    order = problem.edges.order
    return flat if order is None else xp.take(flat, problem.whole(order), axis=0)


def _of_edges(xp: ModuleType, x: Array, heads: tuple[int, ...]) -> Array:
    """One a edge as one a edge and head."""
    return xp.reshape(x, (x.shape[0], *(1 for _ in heads))) if x.ndim == 1 else x
