"""What holds for entmax at any alpha: its definition, continuity from softmax on, and supports that shrink."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import semantics
from hypothesis import given
from properties import Array, alphas, bound, close, rows, temperatures

import softly


@given(z=rows(impossible=False), temperature=temperatures, alpha=st.floats(1.001, 2.0))
def test_it_is_the_definition(z: Array, temperature: float, alpha: float) -> None:
    """p^(alpha - 1) less (alpha - 1) z/T is the same number on the support, and off it the formula is not positive.

    Told by the leader, whose error does not grow from there to any other entry.
    """
    delta = np.longdouble(alpha) - 1
    p = softly.entmax(z, alpha=alpha, temperature=temperature).astype(np.longdouble)
    gaps = (z.astype(np.longdouble) - z.max()) / np.longdouble(temperature)
    definition = np.maximum(p.max() ** delta + delta * gaps, 0) ** (1 / delta)
    assert (np.abs(definition - p) <= 2 * bound("entmax") * np.finfo(z.dtype).eps).all()


@given(z=rows(impossible=False), temperature=temperatures)
def test_sparsemax_is_the_projection(z: Array, temperature: float) -> None:
    """On the support probabilities are scores/T less one threshold; off it no score is above the threshold."""
    p = softly.sparsemax(z, temperature=temperature).astype(np.longdouble)
    shifted = (z.astype(np.longdouble) - z.max()) / np.longdouble(temperature)
    slack = 2 * bound("sparsemax") * float(np.finfo(z.dtype).eps)
    thresholds = (shifted - p)[p > 0]
    assert thresholds.max() - thresholds.min() <= slack
    assert (shifted[p == 0] <= thresholds.max() + slack).all()


@given(z=rows(), temperature=temperatures)
def test_softmax_and_sparsemax_are_members(z: Array, temperature: float) -> None:
    """To the bit."""
    for alpha, function in ((1, softly.softmax), (1.0, softly.softmax), (2, softly.sparsemax)):
        p = softly.entmax(z, alpha=alpha, temperature=temperature)
        np.testing.assert_array_equal(p, function(z, temperature=temperature), strict=True)


@given(z=rows(), temperature=temperatures, alpha=alphas)
def test_order_sum_and_ties(z: Array, temperature: float, alpha: float) -> None:
    p = softly.entmax(z, alpha=alpha, temperature=temperature)
    order = np.argsort(z, kind="stable")
    ordered, scores = p[order], z[order]
    equal = scores[1:] == scores[:-1]
    assert ((p >= 0) & (p <= 1)).all()
    assert (ordered[1:][equal] == ordered[:-1][equal]).all()
    falls = ordered[1:] < ordered[:-1]
    close("entmax", ordered[1:][falls], ordered[:-1][falls], z)
    slack = bound("entmax") * float(np.finfo(z.dtype).eps) * np.count_nonzero(p)
    assert abs(float(p.astype(np.longdouble).sum()) - 1) <= slack
    leading = z == z.max()
    np.testing.assert_array_equal(
        softly.entmax(z, alpha=np.inf, temperature=temperature), (leading / leading.sum()).astype(z.dtype)
    )


@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0, 2.5])
@given(z=rows(largest=100.0), temperature=temperatures, step=st.integers(3, 52), up=st.booleans())
def test_continuous_in_alpha(alpha: float, z: Array, temperature: float, step: int, up: bool) -> None:
    """Where the closed forms are left as well: an entry moves by less than 4 h, as its derivative by alpha is below 4.

    Beyond 2 an entry at the threshold may start as fast as a root: (4 h)^(1 / (alpha - 1)).
    """
    h = 2.0**-step
    near = alpha + h if up or alpha == 1 else alpha - h
    p, q = (softly.entmax(z, alpha=a, temperature=temperature).astype(np.float64) for a in (alpha, near))
    rounding = 2 * bound("entmax") * float(np.finfo(z.dtype).eps)
    assert np.abs(p - q).max() <= (4 * h) ** (1 / max(alpha - 1, 1)) + rounding


@given(z=rows(), temperature=temperatures, data=st.data())
def test_the_support_shrinks_and_the_leader_grows(z: Array, temperature: float, data: st.DataObject) -> None:
    """What one alpha gives nothing no larger alpha gives anything."""
    steps = (1.0, 1.01, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, np.inf)
    smaller, larger = sorted(data.draw(st.lists(st.sampled_from(steps), min_size=2, max_size=2, unique=True)))
    p, q = (softly.entmax(z, alpha=a, temperature=temperature).astype(np.float64) for a in (smaller, larger))
    rounding = bound("entmax") * float(np.finfo(z.dtype).eps)
    least = float(np.finfo(z.dtype).smallest_subnormal)
    assert (q[p <= (least if smaller < 1.1 else 0)] <= rounding).all()
    assert q.max() >= p.max() - 2 * rounding


@pytest.mark.parametrize("target", semantics.other_targets())
def test_under_every_target(target: str) -> None:
    semantics.run_again(__file__, target)
