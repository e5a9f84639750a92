"""The derivatives of the maps, from what they gave: products with the one Jacobian of the family.

With q = p^(2 - alpha) where p > 0, J v = q (v - <q, v> / sum q) / T is symmetric: it serves backward and forward mode.
On the support log_alpha p = (p^(alpha - 1) - 1) / (alpha - 1), at alpha 1 log p, is z / T up to one number for all,
which J takes to 0. So the derivative in T is J (-log_alpha p), and the derivative in alpha, at T = 1, is
J (-d log_alpha p / d alpha): that of Correia, Niculae and Martins (2019) without its poles at alpha = 1, where it is
p (<p, log^2 p> - log^2 p) / 2. No scores are needed.

Where a row does not move with its scores (the largest is infinite, or T is 0 or inf) derivatives are 0. Everything is
written in differentiable operations; numbers alone go to the compiled core.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import array_api_compat.torch as xp
import torch
from torch import Tensor

from softly import _kernels
from softly._arrays import EMPTY_CODES, Empty
from softly._rows import Rows
from softly._segments import Segments
from softly.torch import memory

Groups = Rows | Segments

PRODUCTS = {  # operation -> kernel of its product, where it is not that of the family
    "log_softmax": "log_jacobian_product",
    "sigmoid": "sigmoid_gradient",
    "log_sigmoid": "log_sigmoid_gradient",
}
_SERIES = 0.5  # where |t| is less, 15 terms of the series in t are exact to 2^-53
_TERMS = 15


def groups_of(scores: Tensor, temperature: float | Tensor, offsets: Tensor | None, empty: Empty = "zero") -> Groups:
    """Rows along the last axis, or the segments of each, with the reductions within them."""
    if offsets is not None:
        return Segments(xp, scores, temperature, empty, scores.dtype, offsets, None, False, None, offsets.shape[0] - 1)
    shape = tuple(scores.shape)
    return Rows(xp, scores, temperature, empty, scores.dtype, shape, (len(shape) - 1,), False, False, None)


def constant_groups(operation: str, scores: Tensor, result: Tensor, offsets: Tensor | None) -> Tensor | None:
    """Where, with a last axis, the largest score is infinite; None if it is known to be so nowhere."""
    if not scores.shape[-1]:
        return None
    if _kernels.core is not None and (lent := memory.lend(scores.contiguous(), result, offsets)) is not None:
        nothing = -math.inf if operation == "log_softmax" else 0.0
        arguments = EMPTY_CODES["zero"], None, lent[2], nothing, lent[0].ndim - 1, lent[1]
        found = _kernels.core.constant_rows(lent[0], 1.0, *arguments)
        if not found.any():
            return None
        return groups_of(scores, 1.0, offsets).spread(torch.from_numpy(found) != 0)
    return torch.isinf(groups_of(scores, 1.0, offsets).largest(scores))


@dataclass(slots=True)
class Derivative:
    """The derivative of one map at one place. temperature: a number, or one a row or segment; alpha: one number."""

    operation: str
    scores: Tensor | None  # of those whose derivative does not follow from the result alone
    result: Tensor  # not looked at of those that go entry by entry: their scores will do
    temperature: float | Tensor
    alpha: float | Tensor
    offsets: Tensor | None
    constant: Tensor | None
    evaluate: Callable[..., Tensor]  # operators.run

    def __post_init__(self) -> None:
        if self.constant is not None:
            nothing = -math.inf if self.operation == "log_softmax" else 0.0
            self.result = torch.where(self.constant, nothing, self.result)

    @property
    def groups(self) -> Groups:
        """Reductions within rows or segments."""
        return groups_of(self.result if self.scores is None else self.scores, self.temperature, self.offsets)

    def transposed(self, v: Tensor) -> Tensor:
        """The gradient in the scores: the transposed Jacobian times v."""
        if self.operation == "logsumexp":
            return self._shares() * self.groups.spread(v)
        if (found := self._by_kernel(v)) is not None:
            return found
        if self.operation in _LOCAL:
            return _LOCAL[self.operation](self) * v
        if self.operation == "log_softmax":
            p, rest = torch.exp(self.result), torch.expm1(self.result)
            total = self.groups.total(v)
            product = torch.where(p > 0.5, (v - total) - rest * total, v - p * total)
            return self._over_temperature(torch.where(self.result == -math.inf, 0.0, product))
        return self._over_temperature(self._product(v))

    def along(self, scores: Tensor | None, temperature: Tensor | None, alpha: Tensor | None) -> Tensor:
        """The Jacobian times tangents."""
        groups = self.groups
        moved = torch.zeros_like(groups.scores) if scores is None else scores
        if temperature is not None:
            moved = moved - self._heights() * groups.spread(temperature)
        if self.operation in _LOCAL:
            return _LOCAL[self.operation](self) * moved
        if self.operation == "logsumexp":
            return groups.each(groups.total(self._shares() * moved), 0.0)
        if self.operation == "log_softmax":
            moved = torch.where(self.result == -math.inf, 0.0, moved)
            return self._over_temperature(moved - groups.total(torch.exp(self.result) * moved))
        tangent = self._over_temperature(self._product(moved))
        return tangent if alpha is None else tangent + self._product(self._heights_in_alpha() * alpha)

    def in_temperature(self, gradient: Tensor) -> Tensor:
        """The gradient in the temperatures, one a row or segment, from that in the scores."""
        groups = self.groups
        return -groups.each(groups.total(gradient * self._heights()), 0.0)

    def in_alpha(self, v: Tensor) -> Tensor:
        """The gradient in alpha."""
        return (self._product(v) * self._heights_in_alpha()).sum()

    def _by_kernel(self, v: Tensor) -> Tensor | None:
        """The product in the compiled core, of numbers alone."""
        kernel = getattr(_kernels.core, PRODUCTS.get(self.operation, "jacobian_product"), None)
        source = self.result if self.scores is None else self.scores
        if kernel is None or not v.numel() or not v.ndim:
            return None
        lent = memory.lend(source.contiguous(), v.contiguous(), self.temperature, self.alpha, self.offsets)
        if lent is None:
            return None
        array, vector, temperature, alpha, offsets = lent
        if not isinstance(temperature, float):
            temperature = temperature.astype("float64", order="C")
        arguments = EMPTY_CODES["zero"], None, offsets, float(alpha), array.ndim - 1, vector
        product = kernel(array, temperature, *arguments)
        return torch.from_numpy(product)

    def _product(self, v: Tensor) -> Tensor:
        """J v at T = 1, v measured from its value at the largest p: there 1 - p may have been rounded away."""
        groups, p, alpha = self.groups, self.result, self.alpha
        inside = p != 0
        if _is_number(alpha, math.inf) or not p.shape[-1]:
            return torch.zeros_like(p)
        q = p
        if not _is_number(alpha, 1.0):
            q = torch.where(inside, torch.where(inside, p, 1.0) ** (2 - alpha), 0.0)
        with torch.no_grad():  # the product does not change with it
            pivot = groups.largest(torch.where(p == groups.largest(p), v, -math.inf))
        d = torch.where(inside, v - pivot, 0.0)
        total = groups.total(q)
        mean = groups.total(q * d) / torch.where(total == 0, 1.0, total)
        return torch.where(inside, q * (d - mean), 0.0)

    def _shares(self) -> Tensor:
        """The derivative of logsumexp: softmax / T, 0 where the result is infinite."""
        assert self.scores is not None
        p = self.evaluate("softmax", self.scores, self.temperature, 1.0, self.offsets, "zero")
        endless = self.groups.spread(torch.isinf(self.result))
        return self._over_temperature(torch.where(endless, 0.0, p))

    def _heights(self) -> Tensor:
        """z / T, up to what the Jacobian takes to 0; 0 where there is no share."""
        if self.scores is not None:
            return self._over_temperature(torch.where(torch.isinf(self.scores), 0.0, self.scores))
        if self.operation == "log_softmax":
            return torch.where(self.result == -math.inf, 0.0, self.result)
        logs, alpha = self._logs(), self.alpha
        if _is_number(alpha, math.inf):
            return torch.zeros_like(logs)
        return logs if _is_number(alpha, 1.0) else logs * _exprel((alpha - 1) * logs)

    def _heights_in_alpha(self) -> Tensor:
        """-d log_alpha p / d alpha."""
        logs = self._logs()
        return -logs * logs * _exprel_slope((self.alpha - 1) * logs)

    def _logs(self) -> Tensor:
        inside = self.result != 0
        return torch.log(torch.where(inside, self.result, 1.0))

    def _over_temperature(self, x: Tensor) -> Tensor:
        return over_temperature(self.groups, x)


def _is_number(alpha: float | Tensor, number: float) -> bool:
    return not isinstance(alpha, Tensor) and alpha == number


def over_temperature(groups: Groups, x: Tensor) -> Tensor:
    """x / T, and 0 at T = 0 and inf."""
    if not isinstance(groups.temperature, Tensor):
        limit = groups.temperature in (0.0, math.inf)
        return torch.zeros_like(x) if limit else x if groups.temperature == 1 else x / groups.temperature
    t = groups.spread(groups.temperature)
    at_limit = (t == 0) | (t == math.inf)
    return torch.where(at_limit, 0.0, x / torch.where(at_limit, 1.0, t))


def _sigmoid(at: Derivative) -> Tensor:
    """p (1 - p) / T, both factors to their last bit."""
    return _opposite(at, other=True)


def _log_sigmoid(at: Derivative) -> Tensor:
    """(1 - p) / T."""
    return _opposite(at, other=False)


def _opposite(at: Derivative, *, other: bool) -> Tensor:
    z = at.scores
    assert z is not None
    slope = at.evaluate("sigmoid", -z, at.temperature, 1.0, None, "zero")
    if other:
        slope = slope * at.evaluate("sigmoid", z, at.temperature, 1.0, None, "zero")
    return at._over_temperature(torch.where(torch.isinf(z), 0.0, slope))


_LOCAL = {"sigmoid": _sigmoid, "log_sigmoid": _log_sigmoid}


def _exprel(t: Tensor) -> Tensor:
    """(exp(t) - 1) / t, smooth at 0."""
    far = torch.where(t.abs() < _SERIES, 1.0, t)
    return torch.where(t.abs() < _SERIES, _series(t, 1), torch.expm1(far) / far)


def _exprel_slope(t: Tensor) -> Tensor:
    """Its derivative, (exp(t) (t - 1) + 1) / t^2."""
    far = torch.where(t.abs() < _SERIES, 1.0, t)
    return torch.where(t.abs() < _SERIES, _series(t, 2), (torch.exp(far) * (far - 1) + 1) / (far * far))


def _series(t: Tensor, order: int) -> Tensor:
    """sum t^k / (k + 1)! or, of order 2, its derivative sum (k + 1) t^k / (k + 2)!."""
    total = torch.zeros_like(t)
    for k in reversed(range(_TERMS)):
        coefficient = 1 / math.factorial(k + 1) if order == 1 else (k + 1) / math.factorial(k + 2)
        total = total * t + coefficient
    return total
