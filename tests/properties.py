"""Scores of any kind for property tests, and how far two calls may differ."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import semantics
from accuracy import OF_ONE, Array
from hypothesis import HealthCheck, assume, settings
from hypothesis.extra.numpy import arrays

from softly._kernels import BOUNDS

settings.register_profile(
    "softly",
    max_examples=20 if semantics.FORCED else 80,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("softly")

dtypes = st.sampled_from([np.float32, np.float64])
temperatures = st.one_of(st.just(1.0), st.floats(0.05, 20.0))
alphas = st.one_of(st.sampled_from([1.0, 1.5, 2.0, 3.0]), st.floats(1.0, 6.0))


@st.composite
def rows(draw: st.DrawFn, impossible: bool = True, largest: float = 1e4) -> Array:
    """One row of 1 to 40 scores, with ties and, if asked for, impossible entries; something is possible."""
    dtype = draw(dtypes)
    width = 8 * np.dtype(dtype).itemsize
    scores = st.floats(-largest, largest, width=32) | st.floats(-3, 3, width=width) | st.sampled_from([0.0, 1.0, 7.5])
    z = draw(arrays(dtype, st.integers(1, 40), elements=scores))
    if impossible:
        z[draw(arrays(bool, z.shape))] = -np.inf
        assume(np.isfinite(z).any())
    return z


@st.composite
def grids(draw: st.DrawFn) -> Array:
    """Rows of multiples of 1/8 up to 1000: shifts by whole numbers are exact, and no two scores are close."""
    z = draw(arrays(np.int64, st.integers(1, 40), elements=st.integers(-8000, 8000)))
    return (z / 8).astype(draw(dtypes))


def bound(name: str) -> float:
    """The largest error of one call in ULPs: the core's, or that of the array expressions."""
    return max(BOUNDS.get(name, 0.0), semantics.LEAST_ULP)


def close(name: str, a: Any, b: Any, z: Array, temperature: float = 1.0, calls: int = 2) -> None:
    """a equals b within the errors of so many calls: ULPs of each entry, of 1 for sparse maps, of the score for lse."""
    scale = 0.0
    if name in OF_ONE:
        scale = 0.75  # in the binade below 1, where an ULP of 1 counts twice
    elif name == "logsumexp":
        scale = float(np.max(np.abs(z[np.isfinite(z)]))) / temperature
    a, b = np.asarray(a), np.asarray(b)
    ulps = semantics.error(a, b.astype(np.longdouble), scale=scale)
    assert (ulps <= calls * bound(name) * (2 if name in OF_ONE else 1)).all(), f"{ulps.max():.3g} ULP: {a}, {b}"
