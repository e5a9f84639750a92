"""Gradients that were computed with their value and wait for backward."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from softly.torch.operators import in_transform, is_traced


def times(gradient: Tensor, factor: Tensor) -> Tensor:
    """A finished gradient times a factor, in its own memory where nobody will ask for it again."""
    if is_watched(gradient) or is_batch(factor) or torch._C._autograd._get_current_graph_task_keep_graph():
        return gradient * factor
    return gradient.mul_(factor)


def is_batch(cotangent: Tensor) -> bool:
    """Whether it stands for several, by torch.vmap or is_grads_batched: it has no memory of its own."""
    return in_transform() or not torch._C._has_storage(cotangent)


def apart(tensors: Iterable[Tensor | None]) -> list[Any]:
    """Views of tensors, none of which is made from another: what differentiates by one finds no way to the others."""
    return [None if x is None else x.view_as(x) for x in tensors]


def is_watched(tensor: Tensor) -> bool:
    """Whether a compiler or a mode must see one operator, not what happens in memory; on meta there is none."""
    return tensor.is_meta or is_traced(tensor) or bool(torch._C._len_torch_dispatch_stack())
