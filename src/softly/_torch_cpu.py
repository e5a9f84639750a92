"""torch tensors in this process's memory, lent to NumPy's code without a copy, and results taken back.

Only plain tensors are lent: those that record a gradient, belong to a transform (vmap, jvp) or are being compiled go on
as tensors, through the array expressions.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from softly import _kernels
from softly._arrays import Array


def lend(scores: Array, *others: Any, out: Array | None) -> list[Any] | None:
    """NumPy views of a plain CPU tensor and what goes with it, or None.

    Integers become the default float and bfloat16, which NumPy lacks, float32.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(scores, torch.Tensor) or out is not None or _kernels.core is None:
        return None
    lent = []
    for position, value in enumerate((scores, *others)):
        if isinstance(value, torch.Tensor):
            if not _is_plain(torch, value):
                return None
            if position == 0 and not (value.is_floating_point() or value.is_complex()):
                value = value.to(torch.get_default_dtype())
            value = value.detach()
            try:
                value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
            except RuntimeError:  # inside vmap or another transform a tensor has no memory
                return None
        lent.append(value)
    return lent


def take_back(result: Any, scores: Array) -> Array:
    """A result as a tensor: real ones in the scores' dtype, or the default one for integers."""
    torch = sys.modules["torch"]
    tensor = torch.from_numpy(np.asarray(result))
    if tensor.is_complex() or scores.is_complex():
        return tensor
    wanted = scores.dtype if scores.is_floating_point() else torch.get_default_dtype()
    return tensor if tensor.dtype == wanted else tensor.to(wanted)


def _is_plain(torch: Any, tensor: Any) -> bool:
    return (
        tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and not (tensor.requires_grad and torch.is_grad_enabled())
        and not tensor.is_conj()
        and torch.autograd.forward_ad._current_level < 0
        and not torch.compiler.is_compiling()
    )
