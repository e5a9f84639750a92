"""Losses of linear scores, features @ coefficients + intercept, as an objective for Newton's method.

Rows are taken a block at a time, so that scores and their gradients stay in the cache and features are read once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from softly.models.losses import Floats, RowLoss

_BLOCK_NUMBERS, _LEAST_BLOCK = 2**16, 512  # of features and scores, half a megabyte; rows
_FACTORED = 1024  # features, or rows, up to which the preconditioner knows how features go together
_DENSE_FROM, _DENSE_CELLS = 0.05, 2**25  # share of numbers other than 0; all of them, 256 MB
_LEAST_SHARE = 1e-12  # of the largest eigenvalue, and of the largest curvature: the preconditioner's floor
_SAMPLE_ROWS = 2  # for each parameter
_LEAST_SAMPLE = 2**12
_SAMPLE_PAYS_FROM = 3  # times as many rows


class Block(NamedTuple):
    """Some rows of features, and where they stand."""

    features: Any
    rows: slice


@dataclass(frozen=True)
class LinearObjective:
    """sum over rows of weight * loss(features @ W + b), plus l2 / 2 |W|^2; parameters are W and b below each other.

    features: (n, d), float64, dense or CSR. weights: (n,), None for 1. scale: of the rows' part, for samples.
    """

    features: Any
    loss: RowLoss
    weights: Floats | None
    l2: float
    intercept: bool
    scale: float = 1.0

    @cached_property
    def blocks(self) -> list[Block]:
        """The rows in order; sparse rows are cut out once."""
        n, width = self.features.shape
        dense = isinstance(self.features, np.ndarray)
        size = max(_LEAST_BLOCK, _BLOCK_NUMBERS // max(1, width if dense else 64))
        starts = range(0, n, size)
        return [Block(self.features[i : i + size], slice(i, min(n, i + size))) for i in starts]

    def scores(self, parameters: Floats) -> Iterator[tuple[Block, Floats]]:
        """Each block with its scores."""
        width = self.features.shape[1]
        for block in self.blocks:
            scores = block.features @ parameters[:width]
            if self.intercept:
                scores += parameters[width]
            yield block, scores

    def at(self, parameters: Floats) -> tuple[float, Floats]:
        """Value and gradient."""
        value, gradient = 0.0, np.zeros_like(parameters)
        for block, scores in self.scores(parameters):
            losses, slopes = self.loss.at(scores, block.rows)
            value += float(losses.sum() if self.weights is None else self.weights[block.rows] @ losses)
            self.gather(block, slopes, gradient)
        coefficients = parameters[: self.features.shape[1]]
        penalty = self.l2 / 2 * float(np.vdot(coefficients, coefficients))
        return self.scale * value + penalty, self.with_penalty(gradient, parameters)

    def hessian(self, parameters: Floats) -> LinearHessian:
        """The Hessian there."""
        return LinearHessian(self, [self.loss.weights(scores) for _, scores in self.scores(parameters)])

    def gather(self, block: Block, slopes: Floats, total: Floats) -> None:
        """Add a block's part of a gradient in the parameters, given that in its scores."""
        width = self.features.shape[1]
        if self.weights is not None:
            slopes *= self.weights[block.rows, None]
        total[:width] += block.features.T @ slopes
        if self.intercept:
            total[width] += slopes.sum(axis=0)

    def with_penalty(self, total: Floats, parameters: Floats) -> Floats:
        """A gradient or product of the rows, scaled, with that of the penalty."""
        width = self.features.shape[1]
        total *= self.scale
        total[:width] += self.l2 * parameters[:width]
        return total

    @cached_property
    def scatter(self) -> tuple[Floats, Floats] | None:
        """Eigenvalues above 0 and their eigenvectors, in columns, of the sum over rows of weight x x^T.

        The intercept's 1 is the last entry of x. They come from products of features or of rows, whichever are fewer;
        None: too many of both.
        """
        n, width = self.features.shape
        size = width + self.intercept
        if min(n, size) > _FACTORED:
            return None
        if n < size:
            rows = self._weighted_rows()
            values, ours = np.linalg.eigh(rows @ rows.T)
            kept = values > _LEAST_SHARE * values[-1]
            return values[kept] * self.scale, rows.T @ (ours[:, kept] / np.sqrt(values[kept]))
        total = np.zeros((size, size))
        for block in self.blocks:
            x = block.features if self.weights is None else _scaled_rows(block.features, self.weights[block.rows])
            products = x.T @ block.features
            total[:width, :width] += products if isinstance(products, np.ndarray) else products.toarray()
            if self.intercept:
                total[width, :width] += np.asarray(x.sum(axis=0)).ravel()
        if self.intercept:
            total[:width, width] = total[width, :width]
            total[width, width] = n if self.weights is None else self.weights.sum()
        values, vectors = np.linalg.eigh(total)
        return np.maximum(values, 0.0) * self.scale, vectors

    def _weighted_rows(self) -> Floats:
        """(n, size): the root of the weight times x, of few rows."""
        x = self.features if isinstance(self.features, np.ndarray) else self.features.toarray()
        x = np.column_stack([x, np.ones(len(x))]) if self.intercept else x
        return x if self.weights is None else x * np.sqrt(self.weights)[:, None]


@dataclass(frozen=True)
class LinearHessian:
    """The second derivative of a LinearObjective; weights: each block's, of its rows' Hessians."""

    objective: LinearObjective
    weights: list[Floats]

    def product(self, direction: Floats) -> Floats:
        """H v: two products with the features."""
        of, total = self.objective, np.zeros_like(direction)
        for (block, moved), weights in zip(of.scores(direction), self.weights, strict=True):
            of.gather(block, of.loss.bend(weights, moved), total)
        return of.with_penalty(total, direction)

    def precondition(self, gradient: Floats) -> Floats:
        """H^-1 g as if every row's Hessian were their mean diagonal; of many features, the diagonal of H alone."""
        of = self.objective
        if of.scatter is None:
            result = gradient / self._diagonal
        else:
            values, vectors = of.scatter
            inverse = 1 / (np.multiply.outer(values, self._bend) + self._floor)
            if len(values) == len(gradient):
                result = vectors @ (vectors.T @ gradient * inverse)
            else:  # beyond the rows' span there is the penalty alone
                rest = 1 / self._floor
                result = rest * gradient + vectors @ (vectors.T @ gradient * (inverse - rest))
        if of.loss.ignores_shift:  # stays where all start: coefficients of the outputs sum to 0
            result -= result.mean(axis=1, keepdims=True)
        return result

    @cached_property
    def _bend(self) -> Floats:
        """The mean over rows of each output's curvature."""
        of, total = self.objective, np.zeros(self.objective.loss.outputs)
        for block, weights in zip(of.blocks, self.weights, strict=True):
            each = of.loss.diagonal(weights)
            total += each.sum(axis=0) if of.weights is None else of.weights[block.rows] @ each
        mean = total / (of.features.shape[0] if of.weights is None else of.weights.sum())
        return np.asarray(np.maximum(mean, _LEAST_SHARE * max(mean.max(), 1e-300)))

    @cached_property
    def _floor(self) -> float:
        assert self.objective.scatter is not None
        return max(self.objective.l2, _LEAST_SHARE * float(self.objective.scatter[0][-1] * self._bend.max()))

    @cached_property
    def _diagonal(self) -> Floats:
        of, width = self.objective, self.objective.features.shape[1]
        total = np.zeros((width + of.intercept, self.weights[0].shape[1]))
        for block, weights in zip(of.blocks, self.weights, strict=True):
            squared = block._replace(features=_squared(block.features))
            of.gather(squared, of.loss.diagonal(weights).copy(), total)
        diagonal = of.with_penalty(total, np.ones_like(total))
        return np.maximum(diagonal, max(_LEAST_SHARE * diagonal.max(), 1e-300))


def sample(objective: LinearObjective) -> LinearObjective | None:
    """The same loss of a part of the rows, always the same ones, scaled to stand for all; None: not worth it."""
    n, parameters = objective.features.shape[0], (objective.features.shape[1] + 1) * objective.loss.outputs
    rows = int(max(_LEAST_SAMPLE, _SAMPLE_ROWS * parameters))
    if n < _SAMPLE_PAYS_FROM * rows:
        return None
    kept = np.sort(np.random.default_rng(0).choice(n, rows, replace=False))
    return replace(
        objective,
        features=objective.features[kept],
        loss=objective.loss.take(kept),
        weights=None if objective.weights is None else objective.weights[kept],
        scale=objective.scale * n / rows,
    )


def as_fast(features: Any) -> Any:
    """Sparse features as dense ones where these are multiplied faster, and fit."""
    if isinstance(features, np.ndarray):
        return features
    cells = features.shape[0] * features.shape[1]
    return features.toarray() if features.nnz > _DENSE_FROM * cells and cells < _DENSE_CELLS else features


def _scaled_rows(features: Any, weights: Floats) -> Any:
    return (
        features * weights[:, None] if isinstance(features, np.ndarray) else features.multiply(weights[:, None]).tocsr()
    )


def _squared(features: Any) -> Any:
    return features * features if isinstance(features, np.ndarray) else features.multiply(features)
