"""The table of special values on every instruction set and array library at hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import semantics

import softly

TABLE = list(semantics.every())
DTYPES = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128", "int64", "uint8", "bool")

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
    assert re.search(r"^none: \d{4,} checks, 0 failed$", done.stdout, re.M)


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
    """The part of the table that an array library can take: no layouts of NumPy's, not the largest arrays."""
    rows = [
        pytest.param(case, name, dtype, id=f"{name}-{dtype}-{case.name}")
        for case, name, dtype in TABLE
        if dtype in dtypes
        and not case.layout
        and (errors or not case.raises)
        and (subnormals or not semantics.has_subnormals(case, dtype))
        and np.size(semantics.fill(case.input)) < 10**6
    ]
    assert len(rows) > 1000
    return rows


def optional(name: str) -> Any:
    """A module, imported only if the machine has it."""
    return pytest.importorskip(name, exc_type=ImportError)


def run_elsewhere(
    case: semantics.Case, name: str, dtype: str, asarray: Any, asnumpy: Any, default_float: str, least_ulp: float
) -> None:
    sample = asarray(np.ones(1))

    def function(scores: Any, **options: Any) -> Any:
        result = getattr(softly, name)(scores, **options)
        for part in result if isinstance(result, tuple) else (result,):
            assert isinstance(part, type(sample)), f"{type(part)} came back for {type(sample)}"
        return result

    semantics.check(
        function, case, name, dtype,
        least_ulp=least_ulp, asarray=asarray, asnumpy=asnumpy, default_float=default_float,
    )  # fmt: skip


@pytest.mark.parametrize(("case", "name", "dtype"), elsewhere(tuple(d for d in DTYPES if "float16" not in d)))
def test_table_array_api_strict(case: semantics.Case, name: str, dtype: str) -> None:
    xp = optional("array_api_strict")
    run_elsewhere(case, name, dtype, xp.asarray, np.from_dlpack, "float64", semantics.EXPRESSION_ULP)


def to_torch(array: Any) -> Any:
    """A tensor of its own memory."""
    torch = optional("torch")
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))


def from_torch(tensor: Any) -> Any:
    """A NumPy array over the same memory."""
    torch = optional("torch")
    if tensor.dtype == torch.bfloat16:
        return tensor.detach().view(torch.int16).numpy().view(semantics.to_dtype("bfloat16"))
    return tensor.detach().numpy()


@pytest.mark.parametrize(("case", "name", "dtype"), elsewhere(DTYPES))
def test_table_torch(case: semantics.Case, name: str, dtype: str) -> None:
    """Tensors on the CPU run the compiled core: they are held to its tolerances."""
    optional("torch")
    run_elsewhere(case, name, dtype, to_torch, from_torch, "float32", semantics.LEAST_ULP)


@pytest.mark.parametrize(("case", "name", "dtype"), elsewhere(tuple(d for d in DTYPES if "float" in d)))
def test_table_torch_where_a_gradient_is_recorded(case: semantics.Case, name: str, dtype: str) -> None:
    optional("torch")

    def recording(array: Any) -> Any:
        tensor = to_torch(array)
        return tensor.requires_grad_() if tensor.is_floating_point() else tensor

    run_elsewhere(case, name, dtype, recording, from_torch, "float32", semantics.LEAST_ULP)


@pytest.mark.slow  # XLA compiles every operation for every shape
@pytest.mark.parametrize(("case", "name", "dtype"), elsewhere(DTYPES, errors=False, subnormals=False))
def test_table_jax(case: semantics.Case, name: str, dtype: str) -> None:
    jax = optional("jax")
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        run_elsewhere(case, name, dtype, jax.numpy.asarray, np.asarray, "float64", semantics.EXPRESSION_ULP)


def test_no_framework_is_imported() -> None:
    code = (
        "import sys, numpy, softly; softly.softmax(numpy.ones(3)); softly.softmax([1.0, 2.0]);"
        "print(sorted({'torch', 'jax', 'scipy', 'sklearn', 'pyarrow'} & set(sys.modules)))"
    )
    done = semantics.python("-c", code)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
