"""Attention over a graph with gradients: the compiled core on lent memory, forward and backward.

What the core does not do (other devices, transforms, forward mode, derivatives in the temperature or alpha, second
derivatives, the weights' own) is the expression of softly.graphs in differentiable operations.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softly import _kernels
from softly.graphs import Problem, by_expression, by_kernel, kernel_arguments
from softly.torch.operators import are_numbers, in_transform, is_traced

_VARIABLES = ("query", "key", "value", "bias")


def averages(problem: Problem) -> tuple[Tensor, Tensor]:
    """The averages (targets, heads, depth), and the weights (edges, heads) by target."""
    variables = [getattr(problem, name) for name in _VARIABLES]
    if not _fits(problem, variables):
        return by_expression(problem)
    if are_numbers(*variables):
        out, weights = by_kernel(_lent(problem))
        return torch.from_numpy(out), torch.from_numpy(weights)
    if not problem.value.shape[-1]:  # the weights are asked for
        return by_expression(problem)
    result: tuple[Tensor, Tensor] = _Averages.apply(*variables, problem)
    return result


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
        if torch.is_grad_enabled():
            out, _ = by_expression(problem)
            wanted = [x for x, need in zip(variables, needed, strict=True) if need]
            found = iter(torch.autograd.grad(out, wanted, cotangent, create_graph=True))
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
        and not in_transform()
        and not any(is_traced(x) for x in tensors)
        and not torch._C._len_torch_dispatch_stack()
        and torch.autograd.forward_ad._current_level < 0
        and all(x.is_cpu for x in tensors)
        and not isinstance(problem.alpha, Tensor)
        and not (isinstance(temperature, Tensor) and temperature.requires_grad)
    )
