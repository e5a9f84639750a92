"""What holds for segments of any scores: each is a row, wherever its entries stand and whatever the others hold."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import semantics
from hypothesis import given
from hypothesis.extra.numpy import arrays
from properties import Array, bound, dtypes

import softly

MAPS = {  # over segments, over rows
    "softmax": (softly.segment_softmax, softly.softmax),
    "log_softmax": (softly.segment_log_softmax, softly.log_softmax),
    "logsumexp": (softly.segment_logsumexp, softly.logsumexp),
    "entmax": (softly.segment_entmax, softly.entmax),
}
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, 1.5, -1e30, 3e38]
Problem = tuple[Array, Array, int]  # scores, index, number of segments


@st.composite
def problems(draw: st.DrawFn, finite: bool = False) -> Problem:
    """Up to 60 entries, with heads or without, in up to 9 segments, some of them without entries."""
    count, heads = draw(st.integers(1, 9)), draw(st.sampled_from([(), (1,), (3,), (2, 2), (0,)]))
    index = draw(arrays(np.int64, st.integers(0, 60), elements=st.integers(0, count - 1)))
    elements = st.floats(-100, 100, width=32)
    if not finite:
        elements = elements | st.sampled_from(SPECIAL).map(np.float32).map(float)
    return draw(arrays(draw(dtypes), (len(index), *heads), elements=elements)), index, count


def by_rows(function: Any, problem: Problem, temperature: Any, where: Array | None = None, **options: Any) -> Array:
    """One call for each segment and head, its entries in the order in which they come."""
    scores, index, count = problem
    reduces = function is softly.logsumexp
    result = np.zeros((count, *scores.shape[1:]) if reduces else scores.shape, scores.dtype)
    temperatures = np.broadcast_to(temperature, (count, *scores.shape[1:]))
    for segment in range(count):
        place = np.flatnonzero(index == segment)
        for head in np.ndindex(scores.shape[1:]):
            here = (place, *head)
            mask = None if where is None else where[here]
            values = function(scores[here], temperature=float(temperatures[segment, *head]), where=mask, **options)
            result[(segment, *head) if reduces else here] = values
    return result


@pytest.mark.parametrize("name", MAPS)
@given(problem=problems(), data=st.data(), empty=st.sampled_from(["zero", "nan", "uniform"]))
def test_each_segment_is_a_row(name: str, problem: Problem, data: st.DataObject, empty: str) -> None:
    """To the bit, with temperatures and masks, by index and by offsets."""
    over_segments, over_rows = MAPS[name]
    scores, index, count = problem
    kept = tuple(n if data.draw(st.booleans()) else 1 for n in (count, *scores.shape[1:]))
    temperature = data.draw(arrays(np.float64, kept, elements=st.sampled_from([0.0, 0.3, 1.0, 2.5, np.inf])))
    options: dict[str, Any] = {"temperature": temperature, "empty": empty}
    if data.draw(st.booleans()):
        options["where"] = data.draw(arrays(bool, scores.shape))
    if name == "entmax":
        options["alpha"] = data.draw(st.sampled_from([1.0, 1.2, 1.5, 2.0, 3.0, np.inf]))
    expected = by_rows(over_rows, problem, **options)
    result = over_segments(scores, index=index, num_segments=count, **options)
    np.testing.assert_array_equal(result, expected, strict=True)

    order = np.argsort(index, kind="stable")
    options["offsets"] = np.concatenate([[0], np.cumsum(np.bincount(index, minlength=count))])
    if "where" in options:
        options["where"] = options["where"][order]
    result = over_segments(scores[order], **options)
    np.testing.assert_array_equal(result, expected if name == "logsumexp" else expected[order], strict=True)


@pytest.mark.parametrize("name", MAPS)
@given(problem=problems(), seed=st.integers(0, 2**32 - 1))
def test_names_of_segments_do_not_matter(name: str, problem: Problem, seed: int) -> None:
    over_segments, (scores, index, count) = MAPS[name][0], problem
    names = np.random.default_rng(seed).permutation(count)
    result = over_segments(scores, index=index, num_segments=count)
    renamed = over_segments(scores, index=names[index], num_segments=count)
    np.testing.assert_array_equal(renamed[names] if name == "logsumexp" else renamed, result)


@pytest.mark.parametrize("name", MAPS)
@given(problem=problems(), spoilt=st.integers(0, 8))
def test_segments_are_independent(name: str, problem: Problem, spoilt: int) -> None:
    """A segment full of NaN leaves every other to the bit."""
    over_segments, (scores, index, count) = MAPS[name][0], problem
    before = over_segments(scores, index=index, num_segments=count)
    scores = scores.copy()
    scores[index == spoilt] = np.nan
    after = over_segments(scores, index=index, num_segments=count)
    others = np.arange(count) != spoilt if name == "logsumexp" else index != spoilt
    np.testing.assert_array_equal(after[others], before[others])
    if not others.all() and (index == spoilt).any():
        assert np.isnan(after[~others]).all()


@pytest.mark.parametrize("name", ["softmax", "entmax"])
@given(problem=problems(finite=True))
def test_segments_sum_to_one(name: str, problem: Problem) -> None:
    scores, index, count = problem
    p = MAPS[name][0](scores, index=index, num_segments=count)
    for segment in set(index.tolist()):
        for head in np.ndindex(scores.shape[1:]):
            inside = p[(index == segment, *head)]
            size = 1 if name == "softmax" else np.count_nonzero(inside)
            slack = bound(name) * size * float(np.finfo(p.dtype).eps)
            assert abs(math.fsum(inside.tolist()) - 1) <= slack + 1e-40


@pytest.mark.parametrize("name", MAPS)
@given(problem=problems())
def test_num_segments_defaults_to_the_largest_index(name: str, problem: Problem) -> None:
    over_segments, (scores, index, _) = MAPS[name][0], problem
    count = int(index.max()) + 1 if index.size else 0
    result = over_segments(scores, index=index)
    np.testing.assert_array_equal(result, over_segments(scores, index=index, num_segments=count), strict=True)
    if name == "logsumexp":
        longer = over_segments(scores, index=index, num_segments=count + 2)
        np.testing.assert_array_equal(longer[:count], result)
        assert (longer[count:] == -np.inf).all()


@pytest.mark.parametrize("target", semantics.other_targets())
def test_under_every_target(target: str) -> None:
    semantics.run_again(__file__, target)
