"""What callers of attention pass, checked and made uniform: a `Problem`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from softly._arrays import (
    Array,
    Empty,
    as_array,
    as_boolean,
    beside,
    check_alpha,
    check_empty,
    check_temperature,
    float_dtypes,
    in_shape_of,
    is_tensor,
    jax_of,
)
from softly._errors import InputError

_ALIGNMENTS = ("top-left", "bottom-right")


@dataclass(slots=True)
class Problem:
    """Queries, keys and values as floats to compute in; masks and biases as given, known to fit the scores."""

    xp: ModuleType
    query: Array  # (*lead, queries, d)
    key: Array  # (*, keys, d)
    value: Array | None  # (*, keys, columns)
    lead: tuple[int, ...]  # of the result
    where: Array | None  # broadcasts to the scores' shape, as does the bias
    bias: Array | None
    visible: int | None  # query i sees the keys up to i + visible; None: all
    scale: float
    alpha: Any
    temperature: Any  # a float, or an array (*lead, queries)
    empty: Empty
    dtype: Any  # of the result

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the scores: (*lead, queries, keys)."""
        return (*self.lead, self.query.shape[-2], self.key.shape[-2])


def as_problem(
    query: Array,
    key: Array,
    value: Array | None,
    alpha: Any,
    scale: float | None,
    causal: bool,
    align: str | None,
    where: Array | None,
    bias: Array | None,
    temperature: Any,
    empty: Empty,
) -> Problem:
    """Every argument checked; ValueError where shapes, alignment or numbers do not fit."""
    if (jax := jax_of(query, key, value, where, bias, temperature)) is not None:
        query = jax.asarray(query)
    xp, query = as_array(query, "query")
    arrays = {"query": query, "key": beside(xp, key, "key", query)}
    if value is not None:
        arrays["value"] = beside(xp, value, "value", query)
    for name, array in arrays.items():
        if array.ndim < 2:
            raise InputError(f"{name} has shape {tuple(array.shape)}: pass (..., length, d), at least two axes")
    dtypes = [float_dtypes(xp, array.dtype, name=name) for name, array in arrays.items()]
    dtype, compute = (xp.result_type(*each) for each in zip(*dtypes, strict=True))
    _, compute = float_dtypes(xp, compute)
    arrays = {name: xp.astype(array, compute, copy=False) for name, array in arrays.items()}
    query, key, value = arrays["query"], arrays["key"], arrays.get("value")
    lead = _leading(arrays)
    check_empty(empty)
    problem = Problem(
        xp, query, key, value, lead, None, None,
        _visible(causal, align, query.shape[-2], key.shape[-2]),
        _checked_scale(scale, query.shape[-1]),
        check_alpha(alpha, query), 1.0, empty, dtype,
    )  # fmt: skip
    if where is not None:
        problem.where = as_boolean(xp, where, query)
        in_shape_of(problem, xp, problem.where, "where")
    if bias is not None:
        bias = beside(xp, bias, "bias", query)
        float_dtypes(xp, bias.dtype, name="bias")
        problem.bias = xp.astype(bias, compute, copy=False)
        in_shape_of(problem, xp, problem.bias, "bias")
    problem.temperature = check_temperature(temperature, xp, query, problem.shape[:-1], "query")
    return problem


def _leading(arrays: dict[str, Array]) -> tuple[int, ...]:
    """The result's axes in front of its matrices; those of key and value may be fewer heads, each for a group."""
    query, key = arrays["query"], arrays["key"]
    if query.shape[-1] != key.shape[-1]:
        raise InputError(
            f"query has shape {tuple(query.shape)} and key {tuple(key.shape)}: their last axes must be equal"
        )
    if "value" in arrays and arrays["value"].shape[-2] != key.shape[-2]:
        raise InputError(
            f"key has shape {tuple(key.shape)} and value {tuple(arrays['value'].shape)}: pass one value for each key"
        )
    heads = query.shape[-3] if query.ndim > 2 else 1
    expanded = []
    for array in arrays.values():
        leading = tuple(array.shape[:-2])
        if leading and 0 < leading[-1] < heads and heads % leading[-1] == 0:
            leading = (*leading[:-1], heads)
        expanded.append(leading)
    try:
        return tuple(np.broadcast_shapes(*expanded))
    except ValueError as error:
        shapes = ", ".join(f"{name} {tuple(array.shape)}" for name, array in arrays.items())
        raise InputError(
            f"leading axes of {shapes} do not fit: they must broadcast, and the query's heads, its third axis from "
            "the end, be a multiple of the others'"
        ) from error


def _visible(causal: bool, align: str | None, queries: int, keys: int) -> int | None:
    if align is not None and align not in _ALIGNMENTS:
        raise InputError(f"align={align!r} is not one of {', '.join(map(repr, _ALIGNMENTS))}")
    if not causal:
        if align is not None:
            raise InputError(f"align={align!r} says how a causal mask lies: pass causal=True with it, or leave it out")
        return None
    if align is None and queries != keys:
        raise InputError(
            f"causal=True with {queries} queries and {keys} keys: say align='top-left' (query i sees the keys up to "
            "i) or align='bottom-right' (the last query sees all)"
        )
    return keys - queries if align == "bottom-right" else 0


def _checked_scale(scale: float | None, width: int) -> float:
    if scale is None:
        return 1 / math.sqrt(max(width, 1))
    if isinstance(scale, bool) or not isinstance(scale, int | float | np.floating | np.integer):
        kind = "a tensor: multiply the query by it" if is_tensor(scale) else type(scale).__name__
        raise TypeError(f"scale must be a number, got {kind}")
    if not math.isfinite(scale):
        raise InputError(f"scale={scale} must be finite")
    return float(scale)
