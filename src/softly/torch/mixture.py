"""Mixtures of networks for architecture search: sparse shares of candidates, and the network that remains."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from softly._arrays import check_alpha
from softly._errors import InputError
from softly.maps import entmax


class ChoiceMixture(nn.Module):
    """sum_i p_i f_i(x) over candidate operations f_i, with p = entmax(scores / T) over learnable scores.

    With alpha > 1 candidates reach a share of exactly 0, where their score and their own parameters have the gradient 0
    too: they cannot come back by themselves. `dead` names them, `restart()` gives them a score that has a share, a
    higher `temperature` (an attribute, for a schedule) widens the support, and `prune()` leaves them out for good.

    - choices: the operations: modules with the same arguments and the same shape of result.
    - alpha: a number >= 1; ValueError below. temperature: > 0.

    >>> import torch
    >>> mixture = ChoiceMixture([torch.nn.Identity(), torch.nn.ReLU(), torch.nn.Tanh()])
    >>> _ = mixture.scores.data.copy_(torch.tensor([0.0, 0.5, -1.0]))
    >>> mixture.weights.detach(), mixture.dead
    (tensor([0.2500, 0.7500, 0.0000]), (2,))
    >>> len(mixture.prune().choices)
    2
    """

    def __init__(self, choices: Iterable[nn.Module], *, alpha: float = 2.0, temperature: float = 1.0) -> None:
        super().__init__()
        self.choices = nn.ModuleList(choices)
        if not len(self.choices):
            raise InputError("choices is empty: pass at least one operation")
        self.alpha, self.temperature = check_alpha(alpha, None), temperature
        self.scores = nn.Parameter(torch.zeros(len(self.choices)))

    @property
    def weights(self) -> Tensor:
        """The share p of each choice, with its gradient."""
        return self._shares(self.scores)

    @property
    def dead(self) -> tuple[int, ...]:
        """The choices that cannot come back: their share is exactly 0, and so is its derivative in every score."""
        scores = self.scores.detach()
        with torch.enable_grad():
            moves = torch.func.jacrev(self._shares)(scores).any(dim=1)
        return tuple(i for i, alive in enumerate(((self._shares(scores) != 0) | moves).tolist()) if not alive)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The mixture of what all choices give; one with the share 0 adds nothing, infinite or NaN as it may be."""
        return _mix(self.weights, self.choices, args, kwargs)

    def restart(self) -> tuple[int, ...]:
        """Give dead choices the smallest score that has a share; returns which they were.

        Then every choice has one, for whether a score has depends on larger ones alone.
        """
        dead = self.dead
        with torch.no_grad():
            self.scores[list(dead)] = self.scores[self.weights != 0].min()
        return dead

    def prune(self) -> PrunedMixture:
        """The same mixture, its shares fixed, of the choices with a share: the same output to the bit, less work."""
        weights = self.weights.detach()
        kept = [i for i, weight in enumerate(weights.tolist()) if weight != 0]
        return PrunedMixture([self.choices[i] for i in kept], weights[kept])

    def extra_repr(self) -> str:
        """What is not learned."""
        return f"alpha={self.alpha}, temperature={self.temperature}"

    def _shares(self, scores: Tensor) -> Tensor:
        shares: Tensor = entmax(scores, alpha=self.alpha, temperature=float(self.temperature))
        return shares


class PrunedMixture(nn.Module):
    """sum_i p_i f_i(x) with fixed shares: what `ChoiceMixture.prune` returns. The choices are shared, not copied."""

    weights: Tensor

    def __init__(self, choices: Iterable[nn.Module], weights: Tensor) -> None:
        super().__init__()
        self.choices = nn.ModuleList(choices)
        self.register_buffer("weights", weights)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The mixture of what the choices give."""
        return _mix(self.weights, self.choices, args, kwargs)


def _mix(weights: Tensor, choices: nn.ModuleList, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """In order, from 0: without the terms that add nothing the sum has the same bits."""
    total: Tensor | None = None
    for weight, choice in zip(weights.unbind(), choices, strict=True):
        result = choice(*args, **kwargs)
        total = torch.zeros_like(result) if total is None else total
        total = torch.where(weight == 0, total, total + weight * result)
    assert total is not None
    return total
