"""Linear cross-entropy as an operator of torch: its gradients are computed with its value, and wait for backward.

Eagerly it is an `autograd.Function`, inside torch.compile and torch.export the custom operator
`softly::linear_cross_entropy`. One row's loss more or less would change the gradient of the weights, so of the losses
of single rows (reduction="none") nothing can wait: backward computes the scores once more. So do second derivatives;
forward mode and transforms take the operations of softly.torch.linear_derivatives.
"""

from __future__ import annotations

import math
from typing import Any

import array_api_compat.torch as array_api
import numpy as np
import torch
from torch import Tensor

from softly._arrays import Array, is_autocast, without_autocast
from softly.losses.chunk_scores import Loss
from softly.losses.linear import Problem
from softly.losses.linear_chunks import Gradients, run
from softly.losses.targets import Reduction
from softly.torch import linear_derivatives
from softly.torch.finished import is_watched, times
from softly.torch.linear_derivatives import Differentiable, Rows, compute_dtype, is_composed
from softly.torch.operators import tensor_or_float

_DIFFERENTIABLE, _TENSORS, _ARGUMENTS = 4, 8, 11  # hidden to temperature; to class_weight; all


class TorchProducts:
    """Products by torch; the rows of scores on the CPU are lent to the compiled core."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device, self.itemsize = dtype, device, dtype.itemsize
        self.xp = np if device.type == "cpu" else array_api

    def zeros(self, *shape: int) -> Tensor:
        """A new tensor."""
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def convert(self, x: Tensor) -> Tensor:
        """In the dtype to compute in."""
        return x.to(self.dtype)

    def assign(self, out: Tensor, a: Tensor, b: Tensor) -> None:
        """Set out to a @ b."""
        torch.mm(a, b, out=out)

    def add(self, out: Tensor, a: Tensor, b: Tensor) -> None:
        """Add a @ b to out."""
        out.addmm_(a, b)

    def lend(self, x: Tensor) -> Array:
        """On the CPU an array of NumPy with the same memory."""
        return x.numpy() if self.xp is np else x


def evaluate(problem: Problem, reduction: Reduction) -> Tensor:
    """`softly.linear_cross_entropy` of tensors."""
    targets, counts = problem.targets, problem.counts
    temperature, fixed = tensor_or_float(problem.temperature)
    inputs = problem.hidden, problem.weight, problem.bias, temperature
    scale = None if reduction == "none" else counts * targets.share(reduction)
    records = scale is not None and torch.is_grad_enabled()
    wanted = [records and x is not None and x.requires_grad for x in inputs]
    options = targets.class_weight, fixed, targets.smoothing, wanted
    if is_composed(problem.hidden):
        rows = Rows(problem.labels, problem.dropped, targets.class_weight, fixed, targets.smoothing)
        value = linear_derivatives.losses(inputs, rows)
        value = value if scale is None else (scale * value).sum()
    else:
        value = _call(*inputs, problem.labels, problem.dropped, scale, *options)[0]
    if reduction == "none":
        value = value * counts
    elif reduction == "mean":
        value = torch.where(targets.denominator == 0, math.nan, value)
    result: Tensor = problem.returned(value)
    return result.float() if is_autocast(value) else result


def _call(*arguments: Any) -> tuple[Tensor, ...]:
    """The value and the gradients, as LinearCrossEntropy.forward returns them."""
    found = _operator(*arguments) if is_watched(arguments[0]) else LinearCrossEntropy.apply(*arguments)
    return tuple(found)


class LinearCrossEntropy(torch.autograd.Function):
    """The value, and the gradients of the sum in the four inputs, without entries where one is not wanted."""

    @staticmethod
    def forward(
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        temperature: Tensor | None,
        labels: Tensor,
        dropped: Tensor | None,
        scale: Tensor | None,
        class_weight: Tensor | None,
        fixed_temperature: float,
        label_smoothing: float,
        wanted: list[bool],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The loop over chunks. Autocast is off: it would round the products to half precision."""
        with torch.no_grad(), without_autocast(hidden), np.errstate(all="ignore"):
            products = TorchProducts(compute_dtype(hidden, weight), hidden.device)

            def lent(x: Tensor | None) -> Array:
                return None if x is None else products.lend(x.detach())

            each = torch.ones_like(labels, dtype=torch.float64) if scale is None else scale
            loss = Loss(
                lent(labels),
                None if dropped is None else lent(torch.nonzero(~dropped)[:, 0]),
                lent(each),
                fixed_temperature if temperature is None else lent(temperature.double()),
                lent(class_weight),
                label_smoothing,
            )
            gradients = _new_gradients(hidden, weight, wanted)
            into = Gradients(*(g if needed else None for g, needed in zip(gradients, wanted, strict=True)))
            into.temperature = lent(into.temperature)
            b = None if bias is None else bias.detach()
            losses = torch.as_tensor(
                run(products, hidden.detach(), weight.detach(), b, loss, into if any(wanted) else None)
            )
            of_hidden, of_weight, of_bias, of_temperature = gradients
            value = losses if scale is None else (scale * losses).sum()
            return value, of_hidden, of_weight, of_bias, of_temperature

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """The finished gradients of a sum; of single losses everything that a second run needs."""
        *tensors, ctx.fixed_temperature, ctx.label_smoothing, _ = inputs
        if hasattr(ctx, "mark_non_differentiable"):
            ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *output[1:])

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        """The finished gradients times the cotangent, then rounded; of single losses a second run's."""
        nothing = (None,) * (_ARGUMENTS - _DIFFERENTIABLE)
        if cotangent is None:
            return (None,) * _ARGUMENTS
        tensors, gradients = ctx.saved_tensors[:_TENSORS], list(ctx.saved_tensors[_TENSORS:])
        inputs, needed = tensors[:_DIFFERENTIABLE], ctx.needs_input_grad[:_DIFFERENTIABLE]
        labels, dropped, scale, class_weight = tensors[_DIFFERENTIABLE:]
        held_against = labels, dropped, class_weight, ctx.fixed_temperature, ctx.label_smoothing
        factor = cotangent if scale is None else scale * cotangent
        if is_composed(cotangent) and (scale is None or torch.is_grad_enabled()):
            return *linear_derivatives.gradients(inputs, factor, Rows(*held_against)), *nothing
        if scale is None:
            options = class_weight, ctx.fixed_temperature, ctx.label_smoothing, list(needed)
            gradients = list(_call(*inputs, labels, dropped, cotangent, *options)[1:])
        else:
            gradients = [times(g, cotangent) if need else g for g, need in zip(gradients, needed, strict=True)]
        found = [g.to(x.dtype) if need else None for g, x, need in zip(gradients, inputs, needed, strict=True)]
        if torch.is_grad_enabled():
            found = list(Differentiable.apply(factor, *inputs, *held_against, *found))
        return *found, *nothing


def _new_gradients(hidden: Tensor, weight: Tensor, wanted: list[bool]) -> list[Tensor]:
    """Zeros in the dtype to compute in, without entries where a gradient is not wanted."""
    n, classes = hidden.shape[0], weight.shape[0]
    shapes = hidden.shape, weight.shape, (classes,), (n,)
    dtype = compute_dtype(hidden, weight)
    return [
        hidden.new_zeros(shape if needed else (0,), dtype=dtype) for shape, needed in zip(shapes, wanted, strict=True)
    ]


@torch.library.custom_op("softly::linear_cross_entropy", mutates_args=())
def _operator(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    temperature: Tensor | None,
    labels: Tensor,
    dropped: Tensor | None,
    scale: Tensor | None,
    class_weight: Tensor | None,
    fixed_temperature: float,
    label_smoothing: float,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return LinearCrossEntropy.forward(
        hidden, weight, bias, temperature, labels, dropped, scale, class_weight, fixed_temperature, label_smoothing,
        wanted,
    )  # fmt: skip


@_operator.register_fake
def _(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    temperature: Tensor | None,
    labels: Tensor,
    dropped: Tensor | None,
    scale: Tensor | None,
    class_weight: Tensor | None,
    fixed_temperature: float,
    label_smoothing: float,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    of_hidden, of_weight, of_bias, of_temperature = _new_gradients(hidden, weight, wanted)
    value = hidden.new_empty(labels.shape if scale is None else (), dtype=torch.float64)
    return value, of_hidden, of_weight, of_bias, of_temperature


_operator.register_autograd(LinearCrossEntropy.backward, setup_context=LinearCrossEntropy.setup_context)
