"""Cross-entropy of labels by the compiled core: the losses and their gradient from one call, on memory of NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from softly import _kernels
from softly._arrays import Array


def label_losses(
    scores: Array,
    labels: NDArray[np.int64],
    temperature: float | NDArray[np.float64],
    scale: float | NDArray[np.float64] = 1.0,
    gradient: NDArray[Any] | None = None,
) -> Array | None:
    """-log p of each row's label, or None where there is no kernel for these scores.

    scores (*batch, classes); labels, temperature and scale one a row; a label of -1 leaves its row out. `gradient`, if
    it is given, becomes scale times the gradient of each loss in the scores; it may be the scores themselves.
    """
    kernel = _kernels.find("cross_entropy", scores) if scores.size else None
    if kernel is None:
        return None
    losses = np.empty(scores.shape[:-1], scores.dtype)
    kernel(
        np.require(scores, requirements=["C", "A"]),
        np.require(labels, np.int64, ["C", "A"]),
        _one_a_row(temperature, losses.shape),
        _one_a_row(scale, losses.shape),
        losses,
        gradient,
    )
    return losses


def _one_a_row(number: float | NDArray[np.float64], batch: tuple[int, ...]) -> float | NDArray[np.float64]:
    return float(number) if np.ndim(number) == 0 else np.require(np.broadcast_to(number, batch), np.float64, ["C", "A"])
