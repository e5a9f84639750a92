"""torch tensors in this process's memory, lent to NumPy's code without a copy, and results taken back.

Only plain tensors are lent: those that record a gradient, belong to a transform (vmap, jvp) or are being compiled go on
as tensors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from softly import _kernels
from softly._arrays import Array


def lend(scores: Array, *others: Any, out: Array | None = None) -> list[Any] | None:
    """NumPy views of a plain CPU tensor and what goes with it, or None.

    Integers become the default float and bfloat16, which NumPy lacks, float32.
    """
    if out is not None or _kernels.core is None:
        return None
    lent = []
    for position, value in enumerate((scores, *others)):
        if isinstance(value, torch.Tensor):
            if not is_plain(value):
                return None
            if position == 0 and not (value.is_floating_point() or value.is_complex()):
                value = value.to(torch.get_default_dtype())
            try:
                value = value.detach()
                value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
            except RuntimeError:  # inside vmap or another transform a tensor has no memory
                return None
        lent.append(value)
    return lent


def take_back(result: Any, scores: torch.Tensor) -> torch.Tensor:
    """A result as a tensor: real ones in the scores' dtype, or the default one for integers."""
    tensor = torch.from_numpy(np.asarray(result))
    if tensor.is_complex() or scores.is_complex():
        return tensor
    wanted = scores.dtype if scores.is_floating_point() else torch.get_default_dtype()
    return tensor if tensor.dtype == wanted else tensor.to(wanted)


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is nothing but numbers in this process's memory, now."""
    return (
        not torch.compiler.is_compiling()
        and not torch._C._len_torch_dispatch_stack()  # of modes that look at every operation
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and not (tensor.requires_grad and torch.is_grad_enabled())
        and not tensor.is_conj()
        and torch.autograd.forward_ad._current_level < 0
    )
