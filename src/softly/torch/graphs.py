"""Attention over a graph with gradients: the compiled core on lent memory, forward and backward.

Eagerly it is an `autograd.Function`; inside torch.compile and torch.export the operator `softly::graph_averages`, whose
gradient is `softly::graph_gradients`. What the core does not do (other devices, transforms, forward mode, derivatives
in the temperature or alpha, second derivatives, the weights' own) is the expression of softly.graphs in differentiable
operations.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softly import _kernels
from softly.edges import Edges, as_edges
from softly.graphs import Problem, by_expression, by_kernel, kernel_arguments
from softly.torch.finished import is_batch
from softly.torch.operators import are_numbers, in_transform, is_traced, tensor_or_float
from softly.torch.traced_edges import TracedEdges, traced_edges

_VARIABLES = ("query", "key", "value", "bias")


def averages(problem: Problem) -> tuple[Tensor, Tensor]:
    """The averages (targets, heads, depth), and the weights (edges, heads) by target."""
    variables = [problem.query, problem.key, problem.value, problem.bias]
    if not _fits(problem, variables):
        return by_expression(problem)
    if isinstance(problem.edges, TracedEdges):
        return _by_operator(problem) if problem.value.shape[-1] else by_expression(problem)
    if are_numbers(*variables):
        out, weights = by_kernel(_lent(problem))
        return torch.from_numpy(out), torch.from_numpy(weights)
    if not problem.value.shape[-1]:  # the weights are asked for
        return by_expression(problem)
    result: tuple[Tensor, Tensor] = _Averages.apply(*variables, problem)
    return result


def edges_of(edges: Any, query: Tensor, key: Tensor) -> Edges | TracedEdges:
    """The edges, checked now or, where numbers cannot be looked at, when the program runs."""
    check = traced_edges if is_traced(query) else as_edges
    return check(edges, query.shape[0], key.shape[0])


class _Averages(torch.autograd.Function):
    """The averages of query, key, value and bias, and the weights, through which no gradient goes."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        *variables, problem = arguments
        out, weights = (torch.from_numpy(x) for x in by_kernel(_lent(_with(problem, variables))))
        ctx.save_for_backward(*variables, weights)
        ctx.problem = replace(problem, query=None, key=None, value=None, bias=None)
        ctx.mark_non_differentiable(weights)
        ctx.set_materialize_grads(False)
        return out, weights

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor | None, *_: Any) -> tuple[Any, ...]:
        """The gradients; written in differentiable operations where second derivatives are asked for."""
        if cotangent is None:
            return (None,) * 5
        *variables, weights = ctx.saved_tensors
        problem, needed = _with(ctx.problem, variables), ctx.needs_input_grad[:4]
        if torch.is_grad_enabled() or is_batch(cotangent):
            with torch.enable_grad():
                out, _ = by_expression(problem)
            wanted = [x for x, need in zip(variables, needed, strict=True) if need]
            found = iter(torch.autograd.grad(out, wanted, cotangent, create_graph=torch.is_grad_enabled()))
            return *(next(found) if need else None for need in needed), None
        gradients = _by_kernel(_lent(problem), weights.numpy(), cotangent)
        return *(g if need else None for g, need in zip(gradients, needed, strict=True)), None


def _by_kernel(problem: Problem, weights: Any, cotangent: Tensor) -> list[Tensor]:
    """The gradients in query, key, value and bias."""
    core, edges = _kernels.core, problem.edges
    assert core is not None
    shapes = problem.query, problem.key, problem.value
    gradients = [np.empty(x.shape, x.dtype) for x in shapes]
    in_scores = np.empty_like(weights)
    upstream = cotangent.to(torch.from_numpy(weights).dtype).contiguous().numpy()
    core.graph_gradients(*kernel_arguments(problem), weights, upstream, *edges.by_source, in_scores, *gradients)
    return [torch.from_numpy(g) for g in (*gradients, in_scores)]


def _with(problem: Problem, variables: Any) -> Problem:
    return replace(problem, **dict(zip(_VARIABLES, variables, strict=True)))


def _lent(problem: Problem) -> Problem:
    """The problem in NumPy's arrays with the tensors' memory."""
    arrays: dict[str, Any] = {
        name: x for name in (*_VARIABLES, "temperature") if isinstance(x := getattr(problem, name), Tensor)
    }
    lent: dict[str, Any] = {name: x.detach().numpy() for name, x in arrays.items()}
    return replace(problem, xp=np, **lent)


def _fits(problem: Problem, variables: list[Tensor | None]) -> bool:
    """Whether the compiled core does it: numbers on the CPU in float32 or float64."""
    temperature = problem.temperature
    tensors = [x for x in (*variables, temperature) if isinstance(x, Tensor)]
    return (
        _kernels.core is not None
        and (isinstance(problem.edges, TracedEdges) or not (in_transform() or torch._C._len_torch_dispatch_stack()))
        and torch.autograd.forward_ad._current_level < 0
        and all(x.is_cpu for x in tensors)
        and not isinstance(problem.alpha, Tensor)
        and not (isinstance(temperature, Tensor) and temperature.requires_grad)
    )


def _by_operator(problem: Problem) -> tuple[Tensor, Tensor]:
    """The same as one node of a traced program."""
    temperature, fixed = tensor_or_float(problem.temperature)
    found: tuple[Tensor, Tensor] = _operator(
        problem.query, problem.key, problem.value, problem.bias, temperature, problem.edges.offsets,
        problem.edges.sources, fixed, problem.alpha, problem.scale, problem.negative_slope,
    )  # fmt: skip
    return found


@torch.library.custom_op("softly::graph_averages", mutates_args=())
def _operator(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    temperature: Tensor | None,
    offsets: Tensor,
    sources: Tensor,
    fixed_temperature: float,
    alpha: float,
    scale: float,
    negative_slope: float | None,
) -> tuple[Tensor, Tensor]:
    out, weights = by_kernel(_lent(_problem(
        query, key, value, bias, temperature, offsets, sources, fixed_temperature, alpha, scale, negative_slope
    )))  # fmt: skip
    return torch.from_numpy(out), torch.from_numpy(weights)


@_operator.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, bias: Any, temperature: Any, offsets: Any, sources: Tensor,
      *_: Any) -> tuple[Tensor, Tensor]:  # fmt: skip
    heads = query.shape[1]
    return value.new_empty((query.shape[0], heads, value.shape[2])), query.new_empty((sources.shape[0], heads))


@torch.library.custom_op("softly::graph_gradients", mutates_args=())
def _gradients(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    temperature: Tensor | None,
    offsets: Tensor,
    sources: Tensor,
    fixed_temperature: float,
    alpha: float,
    scale: float,
    negative_slope: float | None,
    weights: Tensor,
    cotangent: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    problem = _problem(
        query, key, value, None, temperature, offsets, sources, fixed_temperature, alpha, scale, negative_slope
    )
    in_query, in_key, in_value, in_bias = _by_kernel(_lent(problem), weights.contiguous().numpy(), cotangent)
    return in_query, in_key, in_value, in_bias


@_gradients.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    weights = rest[-2]
    return *(x.new_empty(x.shape) for x in (query, key, value)), weights.new_empty(weights.shape)


def _set_up(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, value, _, *ctx.rest = inputs
    ctx.has_bias = inputs[3] is not None
    ctx.save_for_backward(query, key, value, output[1], *ctx.rest[:3])
    ctx.rest = ctx.rest[3:]


def _backward(ctx: Any, cotangent: Tensor, *_: Any) -> tuple[Any, ...]:
    query, key, value, weights, *of_targets = ctx.saved_tensors
    found = _gradients(query, key, value, *of_targets, *ctx.rest, weights, cotangent)
    *gradients, in_bias = (g if need else None for g, need in zip(found, ctx.needs_input_grad[:4], strict=True))
    return *gradients, in_bias, *(None,) * 7


_operator.register_autograd(_backward, setup_context=_set_up)


def _problem(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    temperature: Tensor | None,
    offsets: Tensor,
    sources: Tensor,
    fixed_temperature: float,
    *options: Any,
) -> Problem:
    """A problem of an operator's arguments."""
    alpha, scale, negative_slope = options
    edges = Edges(offsets.numpy(), sources.numpy(), key.shape[0])
    heat = fixed_temperature if temperature is None else temperature
    return Problem(torch, query, key, value, edges, bias, heat, alpha, scale, negative_slope, "zero", (), query.dtype)
