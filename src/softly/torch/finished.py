"""Gradients that were computed with their value and wait for backward."""

from __future__ import annotations

import torch
from torch import Tensor

from softly.torch.operators import is_traced


def times(gradient: Tensor, factor: Tensor) -> Tensor:
    """A finished gradient times a factor, in its own memory where nobody will ask for it again."""
    if is_watched(gradient) or torch._C._autograd._get_current_graph_task_keep_graph():
        return gradient * factor
    return gradient.mul_(factor)


def is_watched(tensor: Tensor) -> bool:
    """Whether a compiler or a mode must see one operator, not what happens in memory."""
    return is_traced(tensor) or bool(torch._C._len_torch_dispatch_stack())
