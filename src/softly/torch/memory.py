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
    if out is not None or _kernels.core is None or not is_open():
        return None
    records, lent = torch.is_grad_enabled(), []
    for position, value in enumerate((scores, *others)):
        if isinstance(value, torch.Tensor):
            if not value.is_cpu or (records and value.requires_grad):
                return None
            if position == 0 and not (value.is_floating_point() or value.is_complex()):
                value = value.to(torch.get_default_dtype())
            try:
                array = (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()
            except (RuntimeError, TypeError):  # of a transform, sparse, or conjugated
                return None
            lent.append(array if array.flags.aligned else array.copy())
        else:
            lent.append(value)
    return lent


def take_back(result: Any, scores: torch.Tensor) -> torch.Tensor:
    """A result as a tensor: real ones in the scores' dtype, or the default one for integers."""
    tensor = torch.from_numpy(np.asarray(result))
    if tensor.is_complex() or scores.is_complex():
        return tensor
    wanted = scores.dtype if scores.is_floating_point() else torch.get_default_dtype()
    return tensor if tensor.dtype == wanted else tensor.to(wanted)


def is_open() -> bool:
    """Whether nobody must see every operation: no compiler, no trace, no mode, no forward derivative."""
    return (
        not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and torch.autograd.forward_ad._current_level < 0
        and not torch._C._len_torch_dispatch_stack()
    )
