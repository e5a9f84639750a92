"""The table of special values, on every function, dtype, instruction set and array library at hand."""

from __future__ import annotations

import collections
import re
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import semantics

import softly

TABLE = list(semantics.every())
IDS = [f"{name}-{dtype}-{case.name}" for case, name, dtype in TABLE]
FUNCTIONS = [getattr(softly, name) for name in semantics.FUNCTIONS]


@pytest.mark.parametrize(("case", "name", "dtype"), TABLE, ids=IDS)
def test_table(case: semantics.Case, name: str, dtype: str) -> None:
    semantics.check(getattr(softly, name), case, name, dtype)


# ---------------------------------------------------------------- the table itself


def test_rows_are_named_once_and_sourced() -> None:
    names = collections.Counter(case.name for case in semantics.cases())
    assert [name for name, count in names.items() if count > 1] == []
    for case in semantics.cases():
        assert case.source
        assert bool(case.raises) != bool(case.expected), case.name
        assert set(case.tested()) <= set(semantics.FUNCTIONS), case.name
        assert set(case.options) <= {"axis", "temperature", "where", "empty"}, case.name


def test_numbers_agree_with_mpmath() -> None:
    """Every ordinary row of the table (something finite, nothing NaN or +inf, 0 < T < inf), recomputed."""
    checked = 0
    for case, name, dtype in TABLE:
        options, kind = semantics.options_of(case), semantics.to_dtype("float64" if dtype == "python" else dtype)
        if case.raises or options.get("axis", -1) != -1:
            continue
        scores = semantics.fill(case.input, kind).astype(np.float64)
        if scores.ndim == 0 or not 0 < scores.shape[-1] < 1000:
            continue
        scores = np.where(options.get("where", True), scores, -np.inf)
        temperatures = np.broadcast_to(options.get("temperature", 1.0), scores.shape[:-1])
        expected = semantics.fill(case.expected[name], kind if kind.kind in "fV" else np.float64)
        for i in np.ndindex(scores.shape[:-1]):
            row, temperature = scores[i], float(temperatures[i])
            if np.isfinite(row).any() and (row < np.inf).all() and 0 < temperature < np.inf:
                with mpmath.workdps(40), np.errstate(all="ignore"):
                    truth = np.array([float(v) for v in semantics.exact(name, row, temperature)])
                    same = np.atleast_1d(expected[i]) == truth.astype(expected.dtype)
                assert same.all(), (case.name, name, dtype, expected[i], truth)
                checked += 1
    assert checked > 500


# ---------------------------------------------------------------- what a table cannot hold


@pytest.mark.parametrize("function", FUNCTIONS, ids=semantics.FUNCTIONS)
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
        scores = np.array([[2.0, 1.0, -1.0], [0.0, 0.5, 1.0]])
        expected = function(scores, temperature=2.0)
        singles = (2, np.float32(2), np.int8(2), np.array(2.0))
        for temperature in (*singles, np.array([2, 2]), np.full(2, 2, np.float32), [2.0, 2.0]):
            np.testing.assert_array_equal(function(scores, temperature=temperature), expected)

    def test_float32_temperatures_are_not_rounded(self, function: Any) -> None:
        """A Python float is the temperature meant, whatever the dtype of the scores."""
        scores = np.array([0.0, 80.0, 81.0], np.float32)
        result, wide = function(scores, temperature=0.9), function(scores.astype(np.float64), temperature=0.9)
        assert (semantics.error(result, wide, scale=90.0 if function is softly.logsumexp else 0.0) <= 2).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int32"])
@pytest.mark.parametrize("function", FUNCTIONS, ids=semantics.FUNCTIONS)
class TestOut:
    def scores(self, dtype: str) -> Any:
        return np.array([[2, 1, -1, 0], [5, 5, 1, 3], [-9, 0, 9, 4]]).astype(semantics.to_dtype(dtype))

    def test_result_lands_in_out(self, function: Any, dtype: str) -> None:
        scores = self.scores(dtype)
        expected = function(scores)
        out = np.full_like(expected, 7)
        assert function(scores, out=out) is out
        assert out.tobytes() == expected.tobytes()

    def test_any_layout(self, function: Any, dtype: str) -> None:
        scores = self.scores(dtype)
        expected = function(scores)
        shape = tuple(2 * n for n in expected.shape)
        for out in (
            np.zeros(expected.shape, expected.dtype, order="F"),
            np.zeros(shape, expected.dtype)[(slice(None, None, 2),) * expected.ndim],
            np.zeros(expected.shape, expected.dtype)[::-1],
        ):
            assert function(scores, out=out) is out
            np.testing.assert_array_equal(out, expected)

    def test_in_place(self, function: Any, dtype: str) -> None:
        scores = self.scores(dtype)
        expected = function(scores)
        if expected.shape != scores.shape or expected.dtype != scores.dtype:
            pytest.skip("the result has another shape or dtype")
        for view in (scores.copy(), np.asfortranarray(scores), np.repeat(scores, 2, axis=1)[:, ::2]):
            alias = view[:]
            assert function(view, out=alias) is alias
            np.testing.assert_array_equal(view, expected)
        rows = scores.copy()
        function(rows, axis=0, out=rows)
        np.testing.assert_array_equal(rows, function(scores, axis=0))

    def test_other_overlap(self, function: Any, dtype: str) -> None:
        if dtype == "int32":
            pytest.skip("the result has another dtype")
        scores = self.scores(dtype)
        buffer = np.zeros(32, scores.dtype)
        inside = buffer[:12].reshape(3, 4)
        inside[...] = scores
        if function is softly.logsumexp:
            overlaps = [inside[:, 0], inside[:, -1], inside[0, :3], buffer[9:15:2]]
        else:
            overlaps = [inside[::-1], inside[:, ::-1], buffer[1:13].reshape(3, 4), buffer[4:16].reshape(3, 4)]
        for out in overlaps:
            before = buffer.copy()
            with pytest.raises(ValueError, match=r"(?s)(?=.*out)(?=.*overlap)"):
                function(inside, out=out)
            assert buffer.tobytes() == before.tobytes()

    def test_neighbours_do_not_overlap(self, function: Any, dtype: str) -> None:
        scores = self.scores(dtype)
        expected = function(scores)
        buffer = np.zeros((*expected.shape, 2), expected.dtype)
        if expected.dtype == scores.dtype and expected.shape == scores.shape:
            buffer[..., 0] = scores
            scores = buffer[..., 0]
        function(scores, out=buffer[..., 1])
        np.testing.assert_array_equal(buffer[..., 1], expected)

    def test_wrong_shape_or_dtype(self, function: Any, dtype: str) -> None:
        scores = self.scores(dtype)
        expected = function(scores)
        other = np.dtype(np.float32 if expected.dtype == np.float64 else np.float64)
        longer = (expected.shape[0] + 1, *expected.shape[1:])
        for shape in (longer, (), (1, *expected.shape)):
            with pytest.raises(ValueError, match="out"):
                function(scores, out=np.zeros(shape, expected.dtype))
        for kind in (other, np.dtype(np.int64), np.dtype(np.complex128)):
            with pytest.raises(ValueError, match="out"):
                function(scores, out=np.zeros(expected.shape, kind))

    def test_read_only(self, function: Any, dtype: str) -> None:
        scores = self.scores(dtype)
        out = function(scores)
        out.flags.writeable = False
        with pytest.raises(ValueError, match="out"):
            function(scores, out=out)


# ---------------------------------------------------------------- instruction sets


@pytest.mark.parametrize("target", semantics.targets())
def test_table_under_every_target(target: str) -> None:
    done = semantics.python(str(Path(semantics.__file__)), target=target)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(rf"^{target}: \d{{4,}} checks, 0 failed$", done.stdout, re.M)


def test_table_without_the_core() -> None:
    """The array-API expressions: special values exact, the rest within the stated tolerance."""
    done = semantics.python(str(Path(semantics.__file__)), target="none")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_without_the_core_no_target_is_named() -> None:
    code = "import numpy, softly; print(softly.which('softmax', numpy.ones((2, 3))))"
    done = semantics.python("-c", code, target="none")
    assert done.returncode == 0, done.stderr
    assert not [target for target in semantics.targets() if target in done.stdout]


@pytest.mark.skipif(not semantics.targets(), reason="no compiled core")
def test_unknown_target_lists_those_there_are() -> None:
    lacking = [name for name in ("neon", "avx512", "avx2", "vax") if name not in semantics.targets()]
    for name in (lacking[0], "vax"):
        done = semantics.python("-c", "import softly; softly.softmax([1.0, 2.0])", target=name)
        assert done.returncode != 0
        error = done.stderr.strip().splitlines()[-1]
        assert error.startswith("ImportError")
        assert name in error
        assert all(target in error for target in semantics.targets()), error


# ---------------------------------------------------------------- other array libraries


def elsewhere(dtypes: tuple[str, ...], *, errors: bool = True, subnormals: bool = True) -> list[Any]:
    """The part of the table that an array library can take, but for the largest arrays."""
    rows = [
        pytest.param(case, name, dtype, id=f"{name}-{dtype}-{case.name}")
        for case, name, dtype in TABLE
        if dtype in dtypes
        and (errors or not case.raises)
        and (subnormals or not semantics.has_subnormals(case, dtype))
        and np.size(semantics.fill(case.input)) < 10**6
    ]
    assert len(rows) > 300
    return rows


def optional(name: str) -> Any:
    """A module, imported only if the machine has it."""
    return pytest.importorskip(name, exc_type=ImportError)


def run_elsewhere(case: semantics.Case, name: str, dtype: str, asarray: Any, asnumpy: Any, default_float: str) -> None:
    sample = asarray(np.ones(1))

    def function(scores: Any, **options: Any) -> Any:
        result = getattr(softly, name)(scores, **options)
        assert isinstance(result, type(sample)), f"{type(result)} came back for {type(sample)}"
        return result

    semantics.check(
        function, case, name, dtype,
        least_ulp=semantics.EXPRESSION_ULP, asarray=asarray, asnumpy=asnumpy, default_float=default_float,
    )  # fmt: skip


@pytest.mark.parametrize(("case", "name", "dtype"), elsewhere(("float32", "float64", "int64", "uint8", "bool")))
def test_table_array_api_strict(case: semantics.Case, name: str, dtype: str) -> None:
    xp = optional("array_api_strict")
    run_elsewhere(case, name, dtype, xp.asarray, np.from_dlpack, "float64")


@pytest.mark.parametrize(
    ("case", "name", "dtype"), elsewhere(("float16", "bfloat16", "float32", "float64", "int64", "uint8", "bool"))
)
def test_table_torch(case: semantics.Case, name: str, dtype: str) -> None:
    torch = optional("torch")

    def asarray(array: Any) -> Any:
        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
        return torch.from_numpy(np.array(array))

    def asnumpy(tensor: Any) -> Any:
        if tensor.dtype == torch.bfloat16:
            return tensor.view(torch.int16).numpy().view(semantics.to_dtype("bfloat16"))
        return tensor.numpy()

    run_elsewhere(case, name, dtype, asarray, asnumpy, "float32")


@pytest.mark.slow  # XLA compiles every operation for every shape
@pytest.mark.parametrize(
    ("case", "name", "dtype"),
    elsewhere(("float16", "bfloat16", "float32", "float64", "int64", "uint8", "bool"), errors=False, subnormals=False),
)
def test_table_jax(case: semantics.Case, name: str, dtype: str) -> None:
    jax = optional("jax")
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        run_elsewhere(case, name, dtype, jax.numpy.asarray, np.asarray, "float64")


def test_no_framework_is_imported() -> None:
    code = (
        "import sys, numpy, softly; softly.softmax(numpy.ones(3)); softly.softmax([1.0, 2.0]);"
        "print(sorted({'torch', 'jax', 'scipy', 'sklearn', 'pyarrow'} & set(sys.modules)))"
    )
    done = semantics.python("-c", code)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
