"""The sparse maps against the `entmax` package: the same numbers where it is right; where it is not, the exact ones."""

from __future__ import annotations

from typing import Any

import accuracy
import mpmath
import numpy as np
import pytest
import semantics
from accuracy import Array, extended

import softly

torch = pytest.importorskip("torch", exc_type=ImportError)
package = pytest.importorskip("entmax", exc_type=ImportError)
pytestmark = pytest.mark.skipif(semantics.FORCED, reason="told for the default target")

AGREEMENT = 1e-9
INF, NAN = float("inf"), float("nan")


def theirs(z: Any, alpha: float, method: str = "bisect") -> Array:
    """The package's answer; its closed forms, by sorting, exist for two alphas."""
    scores = torch.tensor(z, dtype=torch.float64)
    if method == "bisect":
        return package.entmax_bisect(scores, alpha).numpy()
    return {1.5: package.entmax15, 2.0: package.sparsemax}[alpha](scores, dim=-1).numpy()


def draws() -> list[Array]:
    """Rows of several lengths and spreads."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=(200, n)) * spread for n in (2, 5, 30, 200) for spread in (0.1, 1.0, 10.0)]


def away_from_threshold(z: Array, alpha: float) -> Array:
    """Rows without a score within 1e-6 of the threshold: beyond alpha 2 the slope of p is infinite there."""
    exact = accuracy.entmax(z, 1.0, alpha)
    threshold = exact.max(axis=-1, keepdims=True) ** (alpha - 1)
    distance = threshold + (alpha - 1) * (z - z.max(axis=-1, keepdims=True))
    return (np.abs(distance) > 1e-6).all(axis=-1)


# ---------------------------------------------------------------- where the package is right


@extended
@pytest.mark.parametrize("alpha", [1.05, 1.1, 1.25, 1.4, 1.5, 1.6, 1.75, 1.9, 2.0, 2.1, 2.5, 3.0, 3.5, 4.0])
def test_bisection_agrees(alpha: float) -> None:
    compared = 0
    for z in draws():
        z = z[away_from_threshold(z, alpha)]
        np.testing.assert_allclose(softly.entmax(z, alpha=alpha), theirs(z, alpha), rtol=0, atol=AGREEMENT)
        compared += len(z)
    assert compared > 2000


@pytest.mark.parametrize(("alpha", "function"), [(1.5, softly.entmax), (2.0, softly.sparsemax)])
def test_closed_forms_agree(alpha: float, function: Any) -> None:
    for z in draws():
        np.testing.assert_allclose(function(z), theirs(z, alpha, "sorted"), rtol=0, atol=AGREEMENT)


@pytest.mark.parametrize("alpha", [1.05, 1.5, 2.0, 3.0])
def test_ties_and_impossible_entries_agree(alpha: float) -> None:
    rows = [[0.0] * 7, [2.0, 2.0, 1.9, -3.0], [-INF, 0.0, 0.3], [0.5, -INF, -INF], [5.0]]
    for row in rows:
        np.testing.assert_allclose(softly.entmax(row, alpha=alpha), theirs(row, alpha), rtol=0, atol=AGREEMENT)


# ---------------------------------------------------------------- where it is not


@pytest.mark.parametrize("alpha", [1.05, 1.5, 2.0, 3.0])
@pytest.mark.parametrize(
    ("row", "limit"),
    [
        ([INF, 0.0], [1.0, 0.0]),
        ([INF, 1.0, INF], [0.5, 0.0, 0.5]),
        ([-INF, -INF], [0.0, 0.0]),
        ([-INF, INF], [0.0, 1.0]),
    ],
)
def test_infinite_scores(row: list[float], limit: list[float], alpha: float) -> None:
    """Its bisection gives NaN, its closed forms raise; ours are the limits."""
    assert np.isnan(theirs(row, alpha)).all()
    if alpha in (1.5, 2.0):
        with pytest.raises(RuntimeError, match="out of bounds"):
            theirs(row, alpha, "sorted")
    assert softly.entmax(row, alpha=alpha).tolist() == limit


@pytest.mark.parametrize("alpha", [1.5, 2.0])
def test_a_nan_spoils_one_row(alpha: float) -> None:
    """Its closed forms raise for the whole batch."""
    batch = [[0.0, NAN], [0.0, 0.0]]
    with pytest.raises(RuntimeError, match="out of bounds"):
        theirs(batch, alpha, "sorted")
    np.testing.assert_array_equal(softly.entmax(batch, alpha=alpha), [[NAN, NAN], [0.5, 0.5]])


def exactly(row: list[float], alpha: float) -> Array:
    """mpmath's answer in float64."""
    with mpmath.workdps(60):
        return np.array([float(p) for p in semantics.exact("entmax", row, 1.0, alpha)])


@pytest.mark.parametrize(
    ("row", "alpha", "error"),
    [
        ([0.3, 0.0, -1.0], 1 + 2.0**-30, 1e-8),  # 1/(alpha - 1) multiplies what rounding (alpha - 1) z leaves
        ([0.3, 0.0, -1.0], 1 + 2.0**-44, 1e-4),
        ([1.0, 0.9], 10.0, 1e-3),  # a probability is the ninth root of what the bisection leaves
        ([1.0, 0.95, 0.0], 20.0, 1e-2),
        ([1e16, 1e16 + 2], 1.3, 1e-2),  # tau is as large as the scores
        ([1e8, 1e8 - 0.25, 1e8 - 1], 1.05, 1e-9),
    ],
)
def test_alphas_and_offsets_that_cost_it_digits(row: list[float], alpha: float, error: float) -> None:
    """Its bisection is off by more than `error`; ours by no more than rounding."""
    exact = exactly(row, alpha)
    assert np.abs(theirs(row, alpha) - exact).max() > error
    np.testing.assert_allclose(softly.entmax(row, alpha=alpha), exact, rtol=0, atol=1e-15)


@pytest.mark.parametrize("row", [[1e30, 1e30 + 2e14], [1e308, -1e308]])
def test_large_scores(row: list[float]) -> None:
    """NaN from its bisection."""
    assert np.isnan(theirs(row, 1.3)).all()
    np.testing.assert_allclose(softly.entmax(row, alpha=1.3), exactly(row, 1.3), rtol=0, atol=1e-15)


def test_alpha_1_is_softmax() -> None:
    """The package advises against it: its formula divides by 0."""
    z = [0.3, 0.0, -1.0]
    assert np.abs(theirs(z, 1.0) - exactly(z, 1.0)).max() > 0.1
    np.testing.assert_array_equal(softly.entmax(z, alpha=1), softly.softmax(z))
