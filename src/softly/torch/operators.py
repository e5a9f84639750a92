"""The maps as operators of torch: values from the compiled core or the expressions, derivatives of every order.

Eagerly an operator is an `autograd.Function` with forward mode and vmap; inside torch.compile and torch.export it is
the custom operator `softly::map`, which graphs hold as one node. Both share what follows; the derivatives are those of
softly.torch.derivatives, written in differentiable operations, so that they have derivatives themselves.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from softly import _expressions, _kernels
from softly._arrays import EMPTY_CODES, Axis, Empty, check_alpha
from softly._errors import InputError
from softly._rows import as_rows
from softly._segments import as_segments
from softly.torch import memory
from softly.torch.derivatives import Derivative, constant_groups, groups_of

KEEP_SCORES = ("logsumexp", *_kernels.ELEMENTWISE)  # the others' derivatives follow from their results
_ARGUMENTS = 8
_NUMPY_DTYPES: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
}


def over_rows(
    operation: str,
    scores: Tensor,
    axis: Axis,
    temperature: Any,
    where: Any,
    empty: Empty,
    out: Any,
    alpha: float | Tensor,
    **options: Any,
) -> Tensor:
    """A map of softly.maps over tensors; straight to the operator where nothing is to prepare."""
    if (
        where is None
        and out is None
        and empty == "zero"
        and type(temperature) is float
        and temperature > 0
        and scores.dtype in (torch.float32, torch.float64)
        and (axis == -1 or operation in _kernels.ELEMENTWISE)
        and scores.ndim
        and not options.get("keepdims")
    ):
        return run(operation, scores, temperature, alpha, None, empty)
    rows = as_rows(scores, axis, temperature, where, empty, out, **options)
    result: Tensor = rows.restore(run(operation, rows.scores, rows.temperature, alpha, None, empty))
    return result


def over_segments(
    operation: str,
    scores: Tensor,
    offsets: Any,
    index: Any,
    num_segments: int | None,
    temperature: Any,
    where: Any,
    empty: Empty,
    out: Any,
    alpha: float | Tensor,
    **options: Any,
) -> Tensor:
    """A map of softly.segments over tensors."""
    segments = as_segments(scores, offsets, index, num_segments, temperature, where, empty, out, **options)
    found = run(operation, segments.scores, segments.temperature, alpha, segments.offsets, empty)
    result: Tensor = segments.restore(found)
    return result


def run(
    operation: str,
    scores: Tensor,
    temperature: float | Tensor,
    alpha: float | Tensor,
    offsets: Tensor | None,
    empty: Empty,
) -> Tensor:
    """The operator on rows, or on the segments of each row, of float32 or float64; whoever checks has checked."""
    temperatures, fixed_temperature = tensor_or_float(temperature)
    alphas, fixed_alpha = tensor_or_float(alpha)
    arguments = scores, temperatures, alphas, offsets, fixed_temperature, fixed_alpha, operation, empty
    if is_traced(scores):
        result = _operator(*arguments)
    elif in_transform():
        refuse_nested_forward_mode()
        result = Map.apply(*arguments)
    elif are_numbers(scores, temperatures, alphas):
        result = Map.forward(*arguments)
    else:
        result = _Eager.apply(*arguments)
    return result


class Map(torch.autograd.Function):
    """One map. temperature: one a row or segment, or None and the fixed one; alpha: 0-d, or None and the fixed one."""

    @staticmethod
    def forward(
        scores: Tensor,
        temperature: Tensor | None,
        alpha: Tensor | None,
        offsets: Tensor | None,
        fixed_temperature: float,
        fixed_alpha: float,
        operation: str,
        empty: Empty,
    ) -> Tensor:
        """The kernel on lent memory where there is one, else the expression."""
        if alpha is not None:
            fixed_alpha = check_alpha(alpha.item(), None)
        if operation == "entmax" and fixed_alpha == 1:
            operation = "softmax"
        given = fixed_temperature if temperature is None else temperature.detach()
        kernel = _kernels.TABLE.get((operation, "cpu", _NUMPY_DTYPES[scores.dtype])) if scores.shape[-1] else None
        if kernel is not None and scores.numel():
            lent = memory.lend(scores.detach().contiguous(), _as_double(given), offsets)
            if lent is not None:
                z, t, bounds = lent
                return torch.from_numpy(kernel(z, t, EMPTY_CODES[empty], None, bounds, fixed_alpha, z.ndim - 1))
        groups = groups_of(scores.detach(), given, offsets, empty)
        expression = getattr(_expressions, operation)
        found: Tensor = expression(groups, fixed_alpha) if operation == "entmax" else expression(groups)
        return found.clone() if found is groups.scores else found.contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """What the derivatives need: the result, and the scores only of those that cannot do without."""
        scores, temperature, alpha, offsets, ctx.temperature, ctx.alpha, ctx.operation, ctx.empty = inputs
        keep = ctx.operation in KEEP_SCORES
        constant = None if keep else constant_groups(ctx.operation, scores, output, offsets)
        result = scores if ctx.operation in _kernels.ELEMENTWISE else output
        saved = (scores if keep else None, result, temperature, alpha, offsets, constant)
        ctx.save_for_backward(*saved)
        ctx.save_for_forward(*saved)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Any, ...]:
        """The gradients in the scores, the temperatures and alpha."""
        at = _derivative(ctx)
        in_scores, in_temperature, in_alpha = ctx.needs_input_grad[:3]
        gradient = at.transposed(cotangent)
        return (
            gradient if in_scores else None,
            at.in_temperature(gradient) if in_temperature else None,
            at.in_alpha(cotangent) if in_alpha else None,
            *(None,) * (_ARGUMENTS - 3),
        )

    @staticmethod
    def jvp(ctx: Any, scores: Any, temperature: Any, alpha: Any, *_: Any) -> Tensor:
        """The derivative of the result along tangents."""
        return _derivative(ctx).along(scores, temperature, alpha)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        """One more axis in front of the rows."""
        scores, temperature, alpha, offsets, *rest = inputs
        if in_dims[3] is not None:
            raise InputError("offsets differ from example to example: vmap takes segments of equal bounds only")
        if in_dims[2] is not None:
            examples = [
                Map.apply(*(x if d is None else x.select(d, i) for x, d in zip(inputs, in_dims, strict=True)))
                for i in range(info.batch_size)
            ]
            return torch.stack(examples), 0
        scores = batch_first(scores, in_dims[0], info.batch_size)
        temperature = None if temperature is None else batch_first(temperature, in_dims[1], info.batch_size)
        return Map.apply(scores, temperature, alpha, offsets, *rest), 0


class _Eager(torch.autograd.Function):
    """The same outside transforms, where torch need not look at the arguments' names at every call: half the cost."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        """The value, and what the derivatives need."""
        result = Map.forward(*arguments)
        Map.setup_context(ctx, arguments, result)
        return result

    backward = staticmethod(Map.backward)
    jvp = staticmethod(Map.jvp)


def in_transform() -> bool:
    """Whether vmap, grad, jvp or another of torch.func is at work."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def refuse_nested_forward_mode() -> None:
    """An autograd.Function inside two levels of forward mode has the inner derivative only: torch would give 0."""
    levels = torch._C._functorch.get_interpreter_stack() or ()
    if sum(level.key() == torch._C._functorch.TransformType.Jvp for level in levels) > 1:
        raise InputError(
            "forward mode over forward mode has no second derivative here: use reverse mode in one of them"
        )


def is_traced(tensor: Tensor) -> bool:
    """Whether torch.compile, torch.export or torch.jit.trace looks on, or only shapes are there."""
    return torch.compiler.is_compiling() or isinstance(tensor, FakeTensor) or torch._C._get_tracing_state() is not None


def are_numbers(*tensors: Tensor | None) -> bool:
    """Whether no derivative is asked for and no transform is at work."""
    if in_transform() or torch.autograd.forward_ad._current_level >= 0:
        return False
    return not torch.is_grad_enabled() or all(t is None or not t.requires_grad for t in tensors)


def tensor_or_float(number: float | Tensor) -> tuple[Tensor | None, float]:
    """One argument as an operator's two: a tensor, or None and a number."""
    return (number, math.nan) if isinstance(number, Tensor) else (None, float(number))


def _as_double(number: float | Tensor) -> float | Tensor:
    if not isinstance(number, Tensor):
        return number
    return number.double().contiguous() if number.ndim else float(number)


def batch_first(x: Tensor, axis: int | None, size: int) -> Tensor:
    """The batch's axis first, made if there is none."""
    return x.expand(size, *x.shape) if axis is None else x.movedim(axis, 0)


def _derivative(ctx: Any) -> Derivative:
    scores, result, temperature, alpha, offsets, constant = ctx.saved_tensors
    return Derivative(
        ctx.operation,
        scores,
        result,
        ctx.temperature if temperature is None else temperature,
        ctx.alpha if alpha is None else alpha,
        offsets,
        constant,
        run,
    )


@torch.library.custom_op("softly::map", mutates_args=())
def _operator(
    scores: Tensor,
    temperature: Tensor | None,
    alpha: Tensor | None,
    offsets: Tensor | None,
    fixed_temperature: float,
    fixed_alpha: float,
    operation: str,
    empty: str,
) -> Tensor:
    return Map.forward(
        scores, temperature, alpha, offsets, fixed_temperature, fixed_alpha, operation, cast(Empty, empty)
    )


@_operator.register_fake
def _(
    scores: Tensor,
    temperature: Tensor | None,
    alpha: Tensor | None,
    offsets: Tensor | None,
    fixed_temperature: float,
    fixed_alpha: float,
    operation: str,
    empty: str,
) -> Tensor:
    if operation != "logsumexp":
        return torch.empty_like(scores, memory_format=torch.contiguous_format)
    groups = () if offsets is None else (offsets.shape[0] - 1,)
    return scores.new_empty((*scores.shape[:-1], *groups))


_operator.register_autograd(Map.backward, setup_context=Map.setup_context)
