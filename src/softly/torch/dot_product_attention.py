"""Attention of tensors: values from the compiled core, gradients by weights computed again, block by block of queries.

So neither direction stores the matrix of scores. Inside transforms, compilers and forward mode, and for second
derivatives, the expression of softly.dot_product_attention is differentiated as it stands.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softly._arrays import without_autocast
from softly.dot_product_attention import compiled, expression
from softly.dot_product_attention.problem import Problem
from softly.torch import memory
from softly.torch.finished import apart, is_batch
from softly.torch.operators import in_transform, is_traced

_DIFFERENTIABLE = ("query", "key", "value", "bias", "temperature", "alpha")
_SHARED = ("key", "value", "alpha")  # by all blocks of queries


def run(problem: Problem, wants_logsumexp: bool) -> tuple[Tensor, Tensor | None]:
    """The averages and, if wanted, each query's logsumexp."""
    if is_traced(problem.query) or in_transform() or torch.autograd.forward_ad._current_level >= 0:
        return expression.whole(problem, wants_logsumexp)
    tensors = [x if isinstance(x := getattr(problem, name), Tensor) else None for name in _DIFFERENTIABLE]
    found: tuple[Tensor, Tensor | None] = _Attention.apply(_without(problem, tensors), wants_logsumexp, *tensors)
    return found


def _without(problem: Problem, tensors: list[Tensor | None]) -> Problem:
    """The problem without the tensors that autograd keeps, so that it holds on to no graph."""
    return _with(problem, [None if tensor is None else tensor.new_empty(0) for tensor in tensors])


def _with(problem: Problem, tensors: Any) -> Problem:
    held: dict[str, Any] = {
        name: tensor for name, tensor in zip(_DIFFERENTIABLE, tensors, strict=True) if tensor is not None
    }
    return replace(problem, **held)


class _Attention(torch.autograd.Function):
    """The averages and the logsumexp, or None, of a problem and its tensors."""

    @staticmethod
    def forward(ctx: Any, problem: Problem, wants_logsumexp: bool, *tensors: Tensor | None) -> Any:
        """The kernel on lent memory where there is one, else the expression."""
        ctx.problem, ctx.wants_logsumexp = problem, wants_logsumexp
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        whole = _with(problem, tensors)
        with without_autocast(whole.query):
            return _by_kernel(whole, wants_logsumexp) or expression.in_blocks(whole, wants_logsumexp)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        """The gradients in the tensors."""
        needed = ctx.needs_input_grad[2:]
        if all(cotangent is None for cotangent in cotangents):
            return (None,) * (2 + len(needed))
        problem = _with(ctx.problem, ctx.saved_tensors)
        with without_autocast(problem.query):
            if torch.is_grad_enabled() or any(c is not None and is_batch(c) for c in cotangents):
                found = _gradients(problem, needed, cotangents, create_graph=torch.is_grad_enabled())
            else:
                found = _in_blocks(problem, needed, cotangents)
        return None, None, *found


def _by_kernel(problem: Problem, wants_logsumexp: bool) -> tuple[Tensor, Tensor | None] | None:
    alpha = float(problem.alpha)
    arrays = problem.query, problem.key, problem.value, problem.where, problem.bias, problem.temperature
    lent = memory.lend(*(x.detach() if isinstance(x, Tensor) else x for x in arrays))
    if lent is None:
        return None
    query, key, value, where, bias, temperature = lent
    borrowed = replace(
        problem,
        xp=np, query=query, key=key, value=value, where=where, bias=bias, temperature=temperature, alpha=alpha,
    )  # fmt: skip
    if (kernel := compiled.find(borrowed)) is None:
        return None
    result, potential = compiled.averages(kernel, borrowed, wants_logsumexp)
    return torch.from_numpy(result), None if potential is None else torch.from_numpy(potential)


def _gradients(problem: Problem, needed: Any, cotangents: Any, *, create_graph: bool = False) -> list[Tensor | None]:
    """Of the expression, in the problem's tensors."""
    tensors = [getattr(problem, name) if need else None for name, need in zip(_DIFFERENTIABLE, needed, strict=True)]
    with torch.enable_grad():
        tensors = apart(tensors)
        results = expression.whole(_with(problem, tensors), cotangents[1] is not None)
    pairs = [
        (result, cotangent) for result, cotangent in zip(results, cotangents, strict=True) if cotangent is not None
    ]
    inputs = [tensor for tensor in tensors if tensor is not None]
    outputs, weights = zip(*pairs, strict=True)
    found = iter(torch.autograd.grad(outputs, inputs, weights, create_graph=create_graph, allow_unused=True))
    return [next(found) if need else None for need in needed]


def _in_blocks(problem: Problem, needed: Any, cotangents: Any) -> list[Tensor | None]:
    """The gradients, of one block of queries after the other."""
    totals = [
        torch.zeros_like(getattr(problem, name)) if need else None
        for name, need in zip(_DIFFERENTIABLE, needed, strict=True)
    ]
    of_output, of_potential = cotangents
    for rows, part in expression.blocks(problem):
        leaves = [
            getattr(part, name).detach().requires_grad_() if need else None
            for name, need in zip(_DIFFERENTIABLE, needed, strict=True)
        ]
        slices = (
            None if of_output is None else of_output[..., rows, :],
            None if of_potential is None else of_potential[..., rows],
        )
        found = _gradients(_with(part, leaves), needed, slices)
        for name, total, gradient in zip(_DIFFERENTIABLE, totals, found, strict=True):
            if total is None or gradient is None:
                continue
            place = (Ellipsis, rows) if name == "temperature" else (Ellipsis, rows, slice(None))
            whole = name in _SHARED or gradient.shape == total.shape
            (total if whole else total[place]).add_(gradient)
    return totals
