"""Modules with one learnable number: a temperature, an alpha."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from softly._arrays import Axis, Empty
from softly._errors import InputError
from softly.maps import entmax

if TYPE_CHECKING:
    from softly.calibration import Calibrator
    from softly.calibration.kinds import Kind


class Temperature(nn.Module):
    """Calibrated scores, scores / T, with a learnable T > 0: between a model and its loss or its softmax.

    The parameter is `log_temperature`, so that T stays positive. Scores come out, not probabilities, so that every loss
    and map that takes scores takes them; the largest entry of a row stays where it is.

    - temperature: where T begins; ValueError unless it is positive and finite.
    - dtype: of the parameter (default: torch's default).

    >>> import torch
    >>> calibrate = Temperature(2.0)
    >>> calibrate(torch.tensor([4.0, 1.0])).detach()
    tensor([2.0000, 0.5000])
    """

    def __init__(self, temperature: float = 1.0, *, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise InputError(f"temperature={temperature} cannot be learned: begin at a positive, finite number")
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature), dtype=dtype))

    @property
    def temperature(self) -> Tensor:
        """T, a tensor without axes, with its gradient."""
        return self.log_temperature.exp()

    def forward(self, scores: Tensor) -> Tensor:
        """The scores over T."""
        return scores / self.temperature

    def fit(self, scores: Any, labels: Any, kind: Kind = "logits", sample_weight: Any = None) -> Calibrator:
        """Set T to that of `softly.fit_calibrator`, to the parameter's rounding, and return the calibrator.

        Arguments, warnings and errors are its own. scores: (rows, classes); labels: (rows,).
        """
        from softly.calibration import fit_calibrator

        calibrator = fit_calibrator(scores, labels, kind, sample_weight=sample_weight)
        with torch.no_grad():
            self.log_temperature.fill_(math.log(calibrator.temperature))
        return calibrator

    def extra_repr(self) -> str:
        """T as it is."""
        return f"temperature={self.temperature.item():.6g}"


class Entmax(nn.Module):
    """`softly.entmax` with a learnable alpha > 1, from softmax (towards 1) to sparsemax (2) and on.

    alpha = 1 + softplus(raw_alpha): it cannot leave the family, and far above 1 moves as its parameter does.

    - axis: as `softly.entmax`.
    - alpha: where it begins; ValueError unless it is above 1 and finite.

    >>> import torch
    >>> Entmax(alpha=2.0)(torch.tensor([2.0, 1.0, -1.0])).detach()
    tensor([1., 0., 0.])
    """

    def __init__(self, axis: Axis = -1, *, alpha: float = 1.5, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        if not 1 < alpha < math.inf:
            raise InputError(f"alpha={alpha} cannot be learned: begin above 1 (softmax, the limit) and below inf")
        self.axis = axis
        delta = alpha - 1
        self.raw_alpha = nn.Parameter(torch.tensor(delta + math.log(-math.expm1(-delta)), dtype=dtype))

    @property
    def alpha(self) -> Tensor:
        """alpha, a tensor without axes, with its gradient."""
        return 1 + nn.functional.softplus(self.raw_alpha)

    def forward(
        self, scores: Tensor, *, temperature: Any = 1.0, where: Tensor | None = None, empty: Empty = "zero"
    ) -> Tensor:
        """Probabilities; arguments as `softly.entmax`."""
        result: Tensor = entmax(scores, self.axis, alpha=self.alpha, temperature=temperature, where=where, empty=empty)
        return result

    def extra_repr(self) -> str:
        """alpha as it is."""
        return f"axis={self.axis}, alpha={self.alpha.item():.6g}"
