"""The losses of rows of scores that linear models are fitted by, with their first two derivatives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from softly.losses import cross_entropy_and_gradient, fenchel_young_loss
from softly.maps import entmax, log_sigmoid, sigmoid

Floats = NDArray[np.float64]


class RowLoss(Protocol):
    """A convex loss of each row's scores; `rows` are places in the data that it was made with."""

    ignores_shift: ClassVar[bool]  # whether a number added to all scores of a row changes nothing

    @property
    def outputs(self) -> int:
        """Scores of a row."""

    def take(self, rows: Any) -> RowLoss:
        """The loss of some rows."""

    def at(self, scores: Floats, rows: Any) -> tuple[Floats, Floats]:
        """Losses (n,) and their gradients in the scores (n, outputs)."""

    def weights(self, scores: Floats) -> Floats:
        """The weights (n, outputs) of which the Hessians in the scores are made; they depend on no label."""

    def bend(self, weights: Floats, moved: Floats) -> Floats:
        """The Hessians times a move of the scores, which it overwrites."""

    def diagonal(self, weights: Floats) -> Floats:
        """The Hessians' diagonals (n, outputs)."""


@dataclass(frozen=True, slots=True)
class EntmaxLoss:
    """Cross-entropy (alpha 1), or the Fenchel-Young loss of entmax, of one label a row: gradient p - y."""

    labels: NDArray[np.int64]
    outputs: int
    alpha: float
    ignores_shift: ClassVar[bool] = True

    def take(self, rows: Any) -> EntmaxLoss:
        """The loss of some rows."""
        return replace(self, labels=self.labels[rows])

    def at(self, scores: Floats, rows: Any) -> tuple[Floats, Floats]:
        """The loss and p - y."""
        labels = self.labels[rows]
        if self.alpha == 1:
            return cross_entropy_and_gradient(scores, labels, reduction="none")
        losses = fenchel_young_loss(scores, labels, alpha=self.alpha, reduction="none")
        gradient = entmax(scores, alpha=self.alpha)
        gradient[np.arange(len(labels)), labels] -= 1
        return losses, gradient

    def weights(self, scores: Floats) -> Floats:
        """q = p^(2 - alpha) on the support, as in `softly.curvature.products`."""
        p: Floats = entmax(scores, alpha=self.alpha)
        if self.alpha == 1:
            return p
        return np.where(p == 0, 0.0, np.where(p == 0, 1.0, p) ** (2 - self.alpha))

    def bend(self, weights: Floats, moved: Floats) -> Floats:
        """q (v - <q, v> / sum q)."""
        mean = np.einsum("ij,ij->i", weights, moved)
        if self.alpha != 1:
            mean /= weights.sum(axis=1)
        moved -= mean[:, None]
        moved *= weights
        return moved

    def diagonal(self, weights: Floats) -> Floats:
        """q (1 - q / sum q)."""
        return np.asarray(weights * (1 - weights / weights.sum(axis=1, keepdims=True)))


@dataclass(frozen=True, slots=True)
class SigmoidLoss:
    """The sum of the binary cross-entropies of labels that do not exclude each other: gradient p - y."""

    signs: Floats  # (n, outputs): 1 where the label is present, else -1
    ignores_shift: ClassVar[bool] = False

    @property
    def outputs(self) -> int:
        """One a label."""
        return int(self.signs.shape[1])

    def take(self, rows: Any) -> SigmoidLoss:
        """The loss of some rows."""
        return SigmoidLoss(self.signs[rows])

    def at(self, scores: Floats, rows: Any) -> tuple[Floats, Floats]:
        """With s = +-z, -log sigmoid(s) and its slope, -+sigmoid(-s), which keeps its digits where p is near 1."""
        signs = self.signs[rows]
        s = signs * scores
        losses = -log_sigmoid(s).sum(axis=1)
        gradient: Floats = sigmoid(-s)
        gradient *= -signs
        return losses, gradient

    def weights(self, scores: Floats) -> Floats:
        """p (1 - p)."""
        return np.asarray(sigmoid(scores) * sigmoid(-scores))

    def bend(self, weights: Floats, moved: Floats) -> Floats:
        """p (1 - p) v."""
        moved *= weights
        return moved

    def diagonal(self, weights: Floats) -> Floats:
        """p (1 - p)."""
        return weights
