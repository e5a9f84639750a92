"""The likelihood of choices, as an objective for Newton's method with its exact Hessian.

With d the differences of a set's other rows from the chosen one, a choice costs log(1 + sum exp(d b)); with their
probabilities p the gradient is the mean m = sum p d, the Hessian sum p d d^T - m m^T. Sets of one size are taken
together, their first other rows, then their second, and so on, so that sums over sets are sums of whole arrays; a block
of them stays in the cache while all is made of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from softly.maps import logsumexp, softmax
from softly.models.choice_sets import ChoiceSets
from softly.models.losses import Floats

_BLOCK_NUMBERS = 2**16  # of differences: half a megabyte


class Block(NamedTuple):
    """Sets of one size: their places, and (coefficients, size - 1, sets) differences from the chosen rows."""

    sets: NDArray[np.int64]
    differences: Floats


class ChoiceLikelihood:
    """sum over sets of weight times log(1 + sum exp(d b)), plus l2 / 2 |b|^2.

    rows: (n, coefficients), arranged as `sets`; chosen: the row of each set.
    """

    def __init__(
        self, rows: Floats, sets: ChoiceSets, chosen: NDArray[np.int64], weights: Floats | None, l2: float
    ) -> None:
        self.blocks = list(_blocks(rows, sets, chosen))
        self.weights, self.l2 = weights, l2
        self.means = np.zeros((rows.shape[1], len(chosen)))  # m of each set, at the last parameters
        self.information = np.zeros((rows.shape[1], rows.shape[1]))  # the Hessian there
        self._last: tuple[Floats, float, Floats] | None = None

    def at(self, parameters: Floats) -> tuple[float, Floats]:
        """Value and gradient; the Hessian is made along with them."""
        if self._last is None or not np.array_equal(self._last[0], parameters):
            self._last = parameters, *self._evaluate(parameters)
        return self._last[1:]

    def _evaluate(self, parameters: Floats) -> tuple[float, Floats]:
        value, gradient = self.l2 / 2 * float(parameters @ parameters), self.l2 * parameters
        information = self.l2 * np.eye(len(parameters))
        for sets, differences in self.blocks:
            flat = differences.reshape(len(parameters), -1)
            utilities = np.zeros((differences.shape[1] + 1, len(sets)))
            np.matmul(parameters, flat, out=utilities[1:].reshape(-1))
            losses, p = logsumexp(utilities, axis=0), softmax(utilities, axis=0)[1:]
            pulled = p * differences
            means = pulled.sum(axis=1)
            self.means[:, sets] = means
            if self.weights is None:
                value += float(losses.sum())
                gradient += means.sum(axis=1)
                information -= means @ means.T
            else:
                weights = self.weights[sets]
                value += float(weights @ losses)
                gradient += means @ weights
                information -= (weights * means) @ means.T
                pulled *= weights
            information += pulled.reshape(flat.shape) @ flat.T
        self.information = information
        return value, gradient

    def hessian(self, parameters: Floats) -> ChoiceHessian:
        """The Hessian there."""
        self.at(parameters)
        return ChoiceHessian(self.information)

    def scores(self, parameters: Floats) -> Floats:
        """The gradient of each set's loss, weighted (sets, coefficients)."""
        self.at(parameters)
        return self.means.T if self.weights is None else (self.weights * self.means).T

    def largest_move(self, step: Floats) -> float:
        """The largest change of a difference of utilities along a step."""
        return max(
            (float(np.abs(np.tensordot(step, block.differences, 1)).max(initial=0)) for block in self.blocks),
            default=0.0,
        )


class ChoiceHessian(NamedTuple):
    """A small matrix."""

    matrix: Floats

    def product(self, direction: Floats) -> Floats:
        """H v."""
        return np.asarray(self.matrix @ direction)

    def precondition(self, gradient: Floats) -> Floats:
        """H^-1 g, of an H scaled to the diagonal 1; where that is singular, the smallest solution."""
        root = np.sqrt(np.maximum(np.diagonal(self.matrix), np.finfo(float).tiny))
        scaled = self.matrix / np.multiply.outer(root, root)
        try:
            return np.asarray(np.linalg.solve(scaled, gradient / root) / root)
        except np.linalg.LinAlgError:
            return np.asarray(np.linalg.lstsq(scaled, gradient / root, rcond=1e-12)[0] / root)


def _blocks(rows: Floats, sets: ChoiceSets, chosen: NDArray[np.int64]) -> Iterator[Block]:
    """All sets that leave a choice, those of a size together."""
    sizes, starts = sets.sizes, sets.offsets[:-1]
    for size in np.flatnonzero(np.bincount(sizes)[2:]) + 2:
        of_size = np.flatnonzero(sizes == size)
        count = max(1, _BLOCK_NUMBERS // (int(size - 1) * max(1, rows.shape[1])))
        for first in range(0, len(of_size), count):
            which = of_size[first : first + count]
            others = np.arange(size - 1)[:, None] + starts[which]
            others += others >= chosen[which]
            yield Block(which, np.ascontiguousarray(np.moveaxis(rows[others] - rows[chosen[which]], -1, 0)))
