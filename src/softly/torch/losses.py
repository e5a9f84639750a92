"""The Fenchel-Young loss as an operator of torch: its derivative is entmax less the target, whatever its value took.

As in softly.torch.operators: an `autograd.Function` eagerly, the custom operator `softly::fenchel_young` in graphs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from softly._expressions.groups import shifted
from softly._rows import Rows
from softly.losses.fenchel_young import values
from softly.losses.rows import slopes
from softly.maps import entmax
from softly.torch.derivatives import groups_of
from softly.torch.operators import batch_first, in_transform, is_traced, refuse_nested_forward_mode, tensor_or_float


def fenchel_young(rows: Rows, y: Tensor, alpha: float) -> Tensor:
    """The loss of each row, with derivatives of every order in its scores and temperature."""
    temperature, fixed = tensor_or_float(rows.temperature)
    arguments = rows.scores, temperature, y.detach(), fixed, alpha
    if is_traced(rows.scores):
        result = _operator(*arguments)
    else:
        if in_transform():
            refuse_nested_forward_mode()
        result = FenchelYoung.apply(*arguments)
    return result


class FenchelYoung(torch.autograd.Function):
    """One loss a row. temperature: one a row, or None and the fixed one."""

    @staticmethod
    def forward(scores: Tensor, temperature: Tensor | None, y: Tensor, fixed: float, alpha: float) -> Tensor:
        """The values, without a graph."""
        return values(_rows(scores, temperature, fixed), y, alpha)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """What the derivatives need."""
        scores, temperature, y, ctx.fixed, ctx.alpha = inputs
        ctx.save_for_backward(scores, temperature, y)
        ctx.save_for_forward(scores, temperature, y)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Any, ...]:
        """The gradients in the scores and the temperatures."""
        in_scores, in_temperature = _derivatives(ctx)
        return (
            in_scores * cotangent.unsqueeze(-1) if ctx.needs_input_grad[0] else None,
            in_temperature * cotangent if ctx.needs_input_grad[1] else None,
            *(None,) * 3,
        )

    @staticmethod
    def jvp(ctx: Any, scores: Tensor | None, temperature: Tensor | None, *_: Any) -> Tensor:
        """The derivative along tangents."""
        in_scores, in_temperature = _derivatives(ctx)
        change = torch.zeros_like(in_temperature) if scores is None else (in_scores * scores).sum(-1)
        return change if temperature is None else change + in_temperature * temperature

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        """One more axis in front of the rows."""
        tensors = zip(inputs[:3], in_dims[:3], strict=True)
        batched = (None if x is None else batch_first(x, axis, info.batch_size) for x, axis in tensors)
        return FenchelYoung.apply(*batched, *inputs[3:]), 0


def _rows(scores: Tensor, temperature: Tensor | None, fixed: float) -> Rows:
    rows = groups_of(scores, fixed if temperature is None else temperature, None)
    assert isinstance(rows, Rows)
    return replace(rows, reduces=True)


def _derivatives(ctx: Any) -> tuple[Tensor, Tensor]:
    """In the scores, (p s - y) / T, and in the temperature of each row: minus its product with z / T."""
    scores, temperature, y = ctx.saved_tensors
    rows = _rows(scores, temperature, ctx.fixed)
    in_scores = slopes(rows, entmax(scores, alpha=ctx.alpha, temperature=rows.temperature), y)
    heights, _ = shifted(rows) if scores.shape[-1] else (scores, None)
    return in_scores, -torch.where(in_scores == 0, 0.0, in_scores * heights).sum(-1)


@torch.library.custom_op("softly::fenchel_young", mutates_args=())
def _operator(scores: Tensor, temperature: Tensor | None, y: Tensor, fixed: float, alpha: float) -> Tensor:
    return FenchelYoung.forward(scores, temperature, y, fixed, alpha)


@_operator.register_fake
def _(scores: Tensor, temperature: Tensor | None, y: Tensor, fixed: float, alpha: float) -> Tensor:
    return scores.new_empty(scores.shape[:-1])


_operator.register_autograd(FenchelYoung.backward, setup_context=FenchelYoung.setup_context)
