"""Cross-entropy of labels on lent memory: the losses with the gradient that backward will ask for, from one call.

Where somebody must see every operation (torch.compile, torch.func, forward mode), and for second derivatives, the loss
is composed of the maps, whose derivatives have derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from softly import _kernels
from softly._rows import Rows
from softly.losses.fused import label_losses
from softly.torch import memory
from softly.torch.finished import times


def value_and_gradient(
    rows: Rows, labels: Tensor, scale: Tensor | float | None, compose: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor | None] | None:
    """-log p of each row's label, 0 at -1, and the gradient times the scale, if one is given.

    None where the losses, which `compose` makes from the scores, must be differentiated operation by operation.
    """
    scores, t = rows.scores, rows.temperature
    given = t.detach().double() if isinstance(t, Tensor) else t
    lent = memory.lend(scores.detach(), labels, given, scale)
    if lent is None:
        return None
    if torch.is_grad_enabled() and (scores.requires_grad or (isinstance(t, Tensor) and t.requires_grad)):
        if scale is not None or given is not t:
            return None
        losses = LabelLosses.apply(scores, lent[:3], compose)
        return None if losses is None else (losses, None)
    return _from_core(*lent)


class LabelLosses(torch.autograd.Function):
    """The losses of rows of scores, which are lent with their labels and temperature."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, lent: list[Any], compose: Callable[[Tensor], Tensor]) -> Tensor | None:
        """The losses; their gradient waits for backward."""
        found = _from_core(lent[0], lent[1], lent[2], 1.0)
        if found is None:
            return None
        losses, gradient = found
        ctx.compose = compose
        ctx.save_for_backward(scores, gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Any, ...]:
        """The finished gradient times the cotangent; a differentiable one where that is asked for."""
        scores, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():
            found = torch.autograd.grad(ctx.compose(scores), scores, cotangent, create_graph=True)[0]
        else:
            found = times(gradient, cotangent.unsqueeze(-1))
        return found, None, None


def _from_core(scores: Any, labels: Any, temperature: Any, scale: Any) -> tuple[Tensor, Tensor | None] | None:
    gradient = None if scale is None else _kernels.empty_like(scores)
    losses = label_losses(scores, labels, temperature, 1.0 if scale is None else scale, gradient)
    if losses is None:
        return None
    return torch.from_numpy(losses), None if gradient is None else torch.from_numpy(gradient)
