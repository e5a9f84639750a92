"""What the functions do with their arguments beyond the table: kinds of numbers, scalars, `out`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import semantics

import softly

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
OVER_ROWS = (*semantics.FUNCTIONS, *semantics.ELEMENTWISE)
SINGLE = [getattr(softly, name) for name in OVER_ROWS]


@pytest.mark.parametrize("function", SINGLE, ids=OVER_ROWS)
class TestArguments:
    def test_masked_array(self, function: Any) -> None:
        with pytest.raises(TypeError, match=r"where=~x\.mask"):
            function(np.ma.masked_array([1.0, 2.0], mask=[True, False]))

    def test_none_and_ragged(self, function: Any) -> None:
        with pytest.raises(TypeError):
            function(None)
        with pytest.raises((TypeError, ValueError)):
            function([[1.0, 2.0], [3.0]])

    def test_scalars_come_back_as_scalars(self, function: Any) -> None:
        for scalar in (5.0, 5, True, np.float64(5)):
            assert isinstance(function(scalar), float), type(function(scalar))
        assert isinstance(function(np.float32(5)), np.float32)

    def test_keyword_only(self, function: Any) -> None:
        with pytest.raises(TypeError):
            function(np.ones(3), -1, 2.0)

    def test_flags_of_the_caller_survive(self, function: Any) -> None:
        with np.errstate(all="raise"):
            before = np.geterr()
            function(np.array([0.0, -745.0, np.nan, np.inf]))
            assert np.geterr() == before

    def test_arithmetic_of_the_process_is_unchanged(self, function: Any) -> None:
        """Neither subnormals nor the rounding mode: a large call, then arithmetic in this thread."""

        def arithmetic() -> bytes:
            small, half_steps = np.array([5e-324, 1e-310, -3e-320]), np.array([1.0, -1.0, 3.0]) * 2.0**-53
            return b"".join(a.tobytes() for a in (small * 3, small + small[0], half_steps + 1, half_steps - 1))

        before = arithmetic()
        function(np.zeros((4096, 512), np.float32))
        assert arithmetic() == before

    def test_temperature_of_any_real_kind(self, function: Any) -> None:
        scores = np.array([[2.0, 1.0], [0.0, 0.5]])
        expected = function(scores, temperature=2.0)
        singles = (2, np.float32(2), np.int8(2), np.array(2.0))
        for temperature in (*singles, np.array([2, 2]), np.full(2, 2, np.float32), [2.0, 2.0]):
            np.testing.assert_array_equal(function(scores, temperature=temperature), expected)

    def test_float32_temperatures_are_not_rounded(self, function: Any) -> None:
        """A Python float is the temperature meant, whatever the dtype of the scores."""
        scores = np.array([0.0, 80.0, 81.0], np.float32)
        result, wide = function(scores, temperature=0.9), function(scores.astype(np.float64), temperature=0.9)
        scale = {softly.logsumexp: 90.0, softly.entmax: 1.0}.get(function, 0.0)
        assert (semantics.error(result, wide, scale=scale) <= 2).all()


def test_alpha_of_any_real_kind() -> None:
    scores = np.array([[2.0, 1.0, -1.0], [0.0, 0.5, 1.0]])
    for alpha in (np.float32(1.5), np.float64(1.5), np.float16(1.5)):
        np.testing.assert_array_equal(softly.entmax(scores, alpha=alpha), softly.entmax(scores))
    for alpha in (2, np.int8(2), np.uint64(2)):
        np.testing.assert_array_equal(softly.entmax(scores, alpha=alpha), softly.sparsemax(scores))
    with pytest.raises(TypeError, match="alpha"):
        softly.entmax(scores, alpha=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", semantics.SEGMENTS)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_segments_are_told_by_any_integers(name: str, dtype: str) -> None:
    function, scores = getattr(softly, name), np.array([2.0, 1.0, 0.0, 0.5])
    expected = function(scores, offsets=[0, 3, 4])
    np.testing.assert_array_equal(function(scores, offsets=np.array([0, 3, 4], dtype)), expected)
    np.testing.assert_array_equal(function(scores, index=np.array([0, 0, 0, 1], dtype)), expected)
    swapped = np.array([0, 9, 3, 9, 4, 9], np.dtype(dtype).newbyteorder())[::2]
    np.testing.assert_array_equal(function(scores, offsets=swapped), expected)
    count = np.dtype(dtype).type(2)
    np.testing.assert_array_equal(function(scores, index=(0, 0, 0, 1), num_segments=count), expected)


@pytest.mark.parametrize("name", semantics.SEGMENTS)
def test_segments_are_keyword_only(name: str) -> None:
    with pytest.raises(TypeError):
        getattr(softly, name)(np.ones(3), [0, 3])


class TestOutOfLogsumexp:
    def test_with_weights_and_keepdims(self) -> None:
        scores = np.array([[2.0, 1.0], [0.0, 0.5]])
        for options in ({"keepdims": True}, {"weights": [2.0, -0.5]}, {"weights": [2.0, -0.5], "keepdims": True}):
            expected = softly.logsumexp(scores, **options)
            out = np.full_like(expected, 7)
            assert softly.logsumexp(scores, out=out, **options) is out
            np.testing.assert_array_equal(out, expected)

    def test_with_the_sign_or_complex_scores(self) -> None:
        for scores, options in (
            (np.ones((2, 2)), {"return_sign": True}),
            (np.ones((2, 2), complex), {}),
            (np.ones((2, 2), complex), {"return_sign": True}),
        ):
            for out in (np.zeros(2), np.zeros(2, complex)):
                with pytest.raises(ValueError, match="out"):
                    softly.logsumexp(scores, out=out, **options)


def over_segments(name: str) -> Callable[..., Any]:
    """The function over two segments of three rows, with further axes as heads."""

    def function(scores: Any, **options: Any) -> Any:
        return getattr(softly, name)(scores, offsets=[0, 2, 3], **options)

    return function


ALL = {name: getattr(softly, name) for name in OVER_ROWS} | {name: over_segments(name) for name in semantics.SEGMENTS}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int32"])
@pytest.mark.parametrize("name", ALL)
class TestOut:
    def scores(self, dtype: str) -> Any:
        return np.array([[2, 1, -1, 0], [5, 5, 1, 3], [-9, 0, 9, 4]]).astype(semantics.to_dtype(dtype))

    def test_result_lands_in_out(self, name: str, dtype: str) -> None:
        scores = self.scores(dtype)
        expected = ALL[name](scores)
        out = np.full_like(expected, 7)
        assert ALL[name](scores, out=out) is out
        assert out.tobytes() == expected.tobytes()

    def test_any_layout(self, name: str, dtype: str) -> None:
        scores = self.scores(dtype)
        expected = ALL[name](scores)
        shape = tuple(2 * n for n in expected.shape)
        for out in (
            np.zeros(expected.shape, expected.dtype, order="F"),
            np.zeros(shape, expected.dtype)[(slice(None, None, 2),) * expected.ndim],
            np.zeros(expected.shape, expected.dtype)[::-1],
        ):
            assert ALL[name](scores, out=out) is out
            np.testing.assert_array_equal(out, expected)

    def test_in_place(self, name: str, dtype: str) -> None:
        scores = self.scores(dtype)
        expected = ALL[name](scores)
        if expected.shape != scores.shape or expected.dtype != scores.dtype:
            pytest.skip("the result has another shape or dtype")
        for view in (scores.copy(), np.asfortranarray(scores), np.repeat(scores, 2, axis=1)[:, ::2]):
            alias = view[:]
            assert ALL[name](view, out=alias) is alias
            np.testing.assert_array_equal(view, expected)
        if name in semantics.FUNCTIONS:
            rows = scores.copy()
            ALL[name](rows, axis=0, out=rows)
            np.testing.assert_array_equal(rows, ALL[name](scores, axis=0))

    def test_unsorted_segments_in_place(self, name: str, dtype: str) -> None:
        if name not in semantics.SEGMENTS or name == "segment_logsumexp" or dtype == "int32":
            pytest.skip("rows, or the result has another shape or dtype")
        scores = self.scores(dtype)
        expected = getattr(softly, name)(scores, index=[1, 0, 1])
        assert getattr(softly, name)(scores, index=[1, 0, 1], out=scores) is scores
        np.testing.assert_array_equal(scores, expected)

    def test_other_overlap(self, name: str, dtype: str) -> None:
        if dtype == "int32":
            pytest.skip("the result has another dtype")
        scores = self.scores(dtype)
        buffer = np.zeros(32, scores.dtype)
        inside = buffer[:12].reshape(3, 4)
        inside[...] = scores
        overlaps = {
            "logsumexp": [inside[:, 0], inside[:, -1], inside[0, :3], buffer[9:15:2]],
            "segment_logsumexp": [inside[:2], inside[1:], inside[::2], buffer[10:18].reshape(2, 4)],
        }.get(name, [inside[::-1], inside[:, ::-1], buffer[1:13].reshape(3, 4), buffer[4:16].reshape(3, 4)])
        for out in overlaps:
            before = buffer.copy()
            with pytest.raises(ValueError, match=r"(?s)(?=.*out)(?=.*overlap)"):
                ALL[name](inside, out=out)
            assert buffer.tobytes() == before.tobytes()

    def test_neighbours_do_not_overlap(self, name: str, dtype: str) -> None:
        scores = self.scores(dtype)
        expected = ALL[name](scores)
        buffer = np.zeros((*expected.shape, 2), expected.dtype)
        if expected.dtype == scores.dtype and expected.shape == scores.shape:
            buffer[..., 0] = scores
            scores = buffer[..., 0]
        ALL[name](scores, out=buffer[..., 1])
        np.testing.assert_array_equal(buffer[..., 1], expected)

    def test_wrong_shape_or_dtype(self, name: str, dtype: str) -> None:
        scores = self.scores(dtype)
        expected = ALL[name](scores)
        other = np.dtype(np.float32 if expected.dtype == np.float64 else np.float64)
        longer = (expected.shape[0] + 1, *expected.shape[1:])
        for shape in (longer, (), (1, *expected.shape)):
            with pytest.raises(ValueError, match="out"):
                ALL[name](scores, out=np.zeros(shape, expected.dtype))
        for kind in (other, np.dtype(np.int64), np.dtype(np.complex128)):
            with pytest.raises(ValueError, match="out"):
                ALL[name](scores, out=np.zeros(expected.shape, kind))

    def test_read_only(self, name: str, dtype: str) -> None:
        scores = self.scores(dtype)
        out = ALL[name](scores)
        out.flags.writeable = False
        with pytest.raises(ValueError, match="out"):
            ALL[name](scores, out=out)
