"""What the tests of derivatives in torch run over: every function at every alpha, every pattern of masks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

import softly

torch = pytest.importorskip("torch", exc_type=ImportError)

Function = Callable[..., Any]  # scores (3, 5), where (3, 5), temperature (one a row or a number) -> tensor

ALPHAS = (1.0, 1.25, 1.5, 2.0, 3.0)
OFFSETS = (0, 2, 2, 3)  # two segments with rows in them, one without


def _elementwise(function: Any) -> Function:
    def over(scores: Any, where: Any, temperature: Any) -> Any:
        column = temperature[:, None] if isinstance(temperature, torch.Tensor) else temperature
        return function(scores, where=where, temperature=column)

    return over


def _segmented(function: Any, **options: Any) -> Function:
    def over(scores: Any, where: Any, temperature: Any) -> Any:
        offsets = torch.tensor(OFFSETS)
        if isinstance(temperature, torch.Tensor):
            temperature = temperature[:, None]
        return function(scores, offsets=offsets, where=where, temperature=temperature, **options)

    return over


def _over_rows(function: Any, **options: Any) -> Function:
    return lambda scores, where, temperature: function(scores, where=where, temperature=temperature, **options)


def _weighted(scores: Any, where: Any, temperature: Any) -> Any:
    weights = torch.tensor([2.0, 0.0, 0.5, 1.0, -0.01], dtype=scores.dtype)
    return softly.logsumexp(scores, weights=weights, where=where, temperature=temperature, return_sign=True)[0]


FUNCTIONS: dict[str, Function] = {
    "softmax": _over_rows(softly.softmax),
    "log_softmax": _over_rows(softly.log_softmax),
    "logsumexp": _over_rows(softly.logsumexp),
    "weighted logsumexp": _weighted,
    "sparsemax": _over_rows(softly.sparsemax),
    **{f"entmax at {alpha}": _over_rows(softly.entmax, alpha=alpha) for alpha in ALPHAS},
    "sigmoid": _elementwise(softly.sigmoid),
    "log_sigmoid": _elementwise(softly.log_sigmoid),
    "segment_softmax": _segmented(softly.segment_softmax),
    "segment_log_softmax": _segmented(softly.segment_log_softmax),
    "segment_logsumexp": _segmented(softly.segment_logsumexp),
    **{f"segment_entmax at {alpha}": _segmented(softly.segment_entmax, alpha=alpha) for alpha in ALPHAS[1:]},
}

_TARGETS = [[0.5, 0.25, 0.25, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0], [0.5, 0.5, 0.5, 0.0, 0.0]]
_VECTOR = [[0.5, -1.0, 2.0, 0.25, 0.0], [1.0, 1.5, -0.5, 0.0, 0.75], [0.0, -2.0, 1.0, 0.5, -0.25]]


def _like(scores: Any, values: Any) -> Any:
    return torch.tensor(values, dtype=scores.dtype)


def _keys(scores: Any) -> Any:
    return torch.linspace(-1, 1, 20, dtype=scores.dtype).reshape(4, 5).sin()


# What else of the namespace takes scores (3, 5), or queries, as a tensor and gives one.
OTHERS: dict[str, Callable[[Any], Any]] = {
    "cross_entropy": lambda z: softly.cross_entropy(z, torch.tensor([0, -100, 3]), label_smoothing=0.1),
    "cross_entropy, each": lambda z: softly.cross_entropy(z, torch.tensor([0, -100, 3]), reduction="none"),
    "cross_entropy, soft": lambda z: softly.cross_entropy(z, _like(z, _TARGETS), temperature=0.7),
    "cross_entropy_and_gradient": lambda z: softly.cross_entropy_and_gradient(z, torch.tensor([0, 1, 3]))[1],
    "linear_cross_entropy": lambda z: softly.linear_cross_entropy(z, _keys(z), torch.tensor([0, -100, 3])),
    "linear_cross_entropy, each": lambda z: softly.linear_cross_entropy(
        z, _keys(z), torch.tensor([0, -100, 3]), label_smoothing=0.1, reduction="none"
    ),
    "binary_cross_entropy": lambda z: softly.binary_cross_entropy(z, _like(z, _TARGETS)),
    **{
        f"fenchel_young_loss at {alpha}": functools.partial(
            lambda alpha, z: softly.fenchel_young_loss(z, torch.tensor([0, -100, 3]), alpha=alpha), alpha
        )
        for alpha in ALPHAS
    },
    **{
        f"jacobian_product at {alpha}": functools.partial(
            lambda alpha, z: softly.jacobian_product(z, _like(z, _VECTOR), alpha=alpha), alpha
        )
        for alpha in ALPHAS
    },
    "jacobian": softly.jacobian,
    "hessian_product": lambda z: softly.hessian_product(z, _like(z, _VECTOR), temperature=0.7),
    "covariance": lambda z: softly.covariance(z, _like(z, _VECTOR)),
    "fisher_information": lambda z: softly.fisher_information(z, _like(z, _VECTOR)),
    "temperature_hessian": lambda z: softly.temperature_hessian(z, torch.tensor([0, 1, 3])),
    "center": softly.center,
    "attention": lambda z: softly.attention(z, _keys(z), _keys(z) + 1),
    "attention at 1.5": lambda z: softly.attention(z, _keys(z), _keys(z) + 1, alpha=1.5),
    "attention_weights": lambda z: softly.attention_weights(z, _keys(z)),
    "kernel_regression": lambda z: softly.kernel_regression(_keys(z), _keys(z)[:, 0] + 1, z, 0.7),
    "kernel_regression, masked": lambda z: softly.kernel_regression(
        _keys(z), _keys(z) + 1, z, [0.5, 0.7, 0.9, 1.1, 1.3], where=torch.tensor([True, False, True, True])
    ),
    "kernel_regression, exponential_dot": lambda z: softly.kernel_regression(
        _keys(z), _keys(z) + 1, z, 0.7, "exponential_dot"
    ),
    "kernel_regression, a function": lambda z: softly.kernel_regression(
        _keys(z), _keys(z) + 1, z, 0.7, lambda query, x: query @ x.T
    ),
    "attention_statistics": lambda z: softly.attention_statistics(z, _keys(z)).entropy,
}

MASKS: dict[str, list[list[int]] | None] = {
    "no mask": None,
    "everything possible": [[1] * 5] * 3,
    "some": [[1, 0, 1, 1, 1], [0, 1, 1, 1, 0], [1, 1, 1, 1, 0]],
    "one possible": [[0, 0, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1]],
    "a row with nothing possible": [[1, 1, 0, 1, 1], [0] * 5, [1, 0, 1, 1, 1]],
    "nothing possible": [[0] * 5] * 3,
}


def mask(pattern: str) -> Any:
    """A pattern as a tensor, or None."""
    rows = MASKS[pattern]
    return None if rows is None else torch.tensor(rows, dtype=torch.bool)


@functools.cache
def _scores() -> list[list[float]]:
    generator = torch.Generator("cpu").manual_seed(3)
    return torch.randn(3, 5, generator=generator, dtype=torch.float64, device="cpu").tolist()  # type: ignore[no-any-return]


def scores(dtype: Any = None) -> Any:
    """Scores (3, 5) at which no entry of a sparse map is near the end of its support."""
    return torch.tensor(_scores(), dtype=dtype or torch.float64)


def finite(result: Any) -> Any:
    """0 where a result is infinite: differences of infinities are none."""
    return torch.where(torch.isfinite(result), result, 0.0)
