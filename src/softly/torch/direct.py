"""Plain calls on plain tensors: the kernel at the tensors' addresses and, in the graph, a node of few steps.

What softly.torch.operators does for every call costs several times as much as a small kernel. Here nothing is to
prepare: contiguous tensors in this process's memory, the last axis, one temperature, nobody who must see each
operation. The bits are those of the general way, which takes whatever is not so, second derivatives too.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from softly import _kernels
from softly.torch import memory
from softly.torch.derivatives import PRODUCTS, Derivative, constant_groups
from softly.torch.operators import KEEP_SCORES, in_transform
from softly.torch.operators import run as general

_FLOATS = {torch.float32: 0, torch.float64: 1}  # Dtype in csrc/kernels.hpp
_HALVES = {torch.float16: 2, torch.bfloat16: 3}
_NO_SHARE = {"softmax": 0.0, "log_softmax": -math.inf, "entmax": 0.0}  # in the results whose derivatives need no scores


def run(operation: str, scores: Tensor, temperature: Any, alpha: Any) -> Tensor | None:
    """The operation along the last axis, of each entry if it has none; None where the call is not plain."""
    if not (memory.is_open() and type(temperature) is type(alpha) is float and 0 < temperature < math.inf):
        return None
    if operation not in _kernels.AT or in_transform() or not (scores.ndim and _is_plain(scores)):
        return None
    if scores.requires_grad and torch.is_grad_enabled():
        if scores.dtype not in _FLOATS:  # halves are widened first, for the derivatives' sake
            return None
        result: Tensor = _Plain.apply(scores, operation, temperature, alpha)
        return result
    if scores.dtype in _FLOATS or (scores.dtype in _HALVES and operation != "entmax"):
        return _value(operation, scores, temperature, alpha)[0]
    return None


class _Plain(torch.autograd.Function):
    """A map and its gradient. No forward mode and no vmap: they go the general way."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, operation: str, temperature: float, alpha: float) -> Tensor:
        """The value, and what the gradient needs."""
        result, constant = _value(operation, scores, temperature, alpha, _NO_SHARE.get(operation))
        kept = None if operation in _kernels.ELEMENTWISE else result
        ctx.save_for_backward(kept, scores if constant or operation in KEEP_SCORES else None)
        ctx.call = operation, temperature, alpha, constant
        return result

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Any, ...]:
        """The gradient in the scores."""
        operation, temperature, alpha, constant = ctx.call
        result, scores = ctx.saved_tensors
        source, v = scores if result is None else result, cotangent.contiguous()
        if not (constant or torch.is_grad_enabled() or in_transform()) and memory.is_open():
            read = (source, v, scores) if operation == "logsumexp" else (source, v)
            if source.dtype is v.dtype and all(map(_is_plain, read)):
                if operation == "logsumexp":
                    return _of_logsumexp(scores, result, temperature, v), None, None, None
                return _by_product(operation, source, temperature, alpha, v), None, None, None
        groups = constant_groups(operation, scores, result, None) if constant else None
        kept = scores if operation in KEEP_SCORES else None
        at = Derivative(operation, kept, source, temperature, alpha, None, groups, general)
        return at.transposed(v), None, None, None


def _is_plain(x: Tensor) -> bool:
    """Whether its entries lie as a kernel reads them."""
    return (
        type(x) is Tensor
        and x.is_cpu
        and torch._C._has_storage(x)  # a batch of gradients has none, nor what is sparse
        and x.is_contiguous()
        and not x.is_neg()
        and x.numel() > 0
        and x.data_ptr() % x.itemsize == 0
    )


def _value(
    operation: str, scores: Tensor, temperature: float, alpha: float, no_share: float | None = None
) -> tuple[Tensor, bool]:
    """The result, and whether a row does not move with its scores, if it is told what no share looks like."""
    dtype = scores.dtype
    columns = scores.shape[-1]
    rows = scores.numel() // columns
    out = scores.new_empty(scores.shape[:-1]) if operation == "logsumexp" else torch.empty_like(scores)
    code = _FLOATS.get(dtype)
    code = _HALVES[dtype] if code is None else code
    at = scores.data_ptr(), out.data_ptr(), rows, columns, code, temperature, alpha
    return out, _kernels.AT[operation](*at, no_share)


def _by_product(operation: str, source: Tensor, temperature: float, alpha: float, v: Tensor) -> Tensor:
    """The Jacobian's product in the core, from the result or, entry by entry, from the scores."""
    columns = source.shape[-1]
    out = torch.empty_like(source)
    at = source.data_ptr(), out.data_ptr(), source.numel() // columns, columns, _FLOATS[source.dtype]
    _kernels.AT[PRODUCTS.get(operation, "jacobian_product")](*at, temperature, alpha, v.data_ptr())
    return out


def _of_logsumexp(scores: Tensor, result: Tensor, temperature: float, v: Tensor) -> Tensor:
    """The shares, 0 where the result is infinite (at -inf they are), times v."""
    shares, _ = _value("softmax", scores, temperature, 1.0)
    if temperature != 1:
        shares /= temperature
    shares.masked_fill_((result == math.inf).unsqueeze(-1), 0.0)
    return shares.mul_(v.unsqueeze(-1))
