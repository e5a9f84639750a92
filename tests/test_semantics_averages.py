"""The rows of the table about attention over a graph and kernel regression, on every array library."""

from __future__ import annotations

import re
import warnings
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
import semantics
from semantics import fill, numbers
from test_semantics_backends import from_torch, optional, to_torch

import softly

ROWS = list(semantics.sections("average"))
GRADIENT = "gradient_of_"
ARRAYS = ("query", "key", "value", "x", "y")  # of floats, in the row's dtype; edges and bandwidth are as they are
PER_EDGE = ("where", "bias")


def rows(*, gradients: bool = True, errors: bool = True, dtypes: tuple[str, ...] = ("float32", "float64")) -> list[Any]:
    return [
        pytest.param(row, dtype, id=f"{row['name']}-{dtype}")
        for row in ROWS
        for dtype in dtypes
        if (gradients or not row["function"].startswith(GRADIENT)) and (errors or "raises" not in row)
    ]


def given(row: dict[str, Any]) -> dict[str, Any]:
    """The edges and the bandwidth."""
    others = {name: value for name, value in row["input"].items() if name not in ARRAYS}
    if isinstance(others.get("edges"), dict):
        others["edges"] = fill(others["edges"], np.int64)
    return others


def run(
    row: dict[str, Any], dtype: str, asarray: Any, asnumpy: Any, gradient: Any = None, least_ulp: float = 0
) -> None:
    """One row, warnings and floating-point flags armed; gradient(function, arrays, cotangent) differentiates."""
    kind, options = semantics.to_dtype(dtype), dict(row.get("options", {}))
    names = [name for name in row["input"] if name in ARRAYS]
    arrays = [asarray(fill(row["input"][name], kind)) for name in names]
    cotangent = options.pop("cotangent", None)
    for name in PER_EDGE:
        if name in options:
            options[name] = asarray(fill(options[name], kind if name == "bias" else np.bool_))
    function = getattr(softly, row["function"].removeprefix(GRADIENT))

    def average(*arrays: Any) -> Any:
        return function(**dict(zip(names, arrays, strict=True)), **given(row), **options)

    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        if "raises" in row:
            with pytest.raises(semantics.EXCEPTIONS[row["raises"]]) as caught:
                average(*arrays)
            assert re.search(row["match"], str(caught.value), re.S), caught.value
            return
        found = [average(*arrays)] if cotangent is None else gradient(average, arrays, fill(cotangent, kind))
    expected = [row["expected"]] if cotangent is None else [row["expected"][name] for name in names]
    for result, exact in zip(map(asnumpy, found), expected, strict=True):
        assert result.dtype == kind
        # a score is a sum of products: errors are those of numbers near 1
        semantics.compare(result, fill(exact, np.float64), max(row["ulp"], least_ulp) if "ulp" in row else 0, 1.0)


@pytest.mark.parametrize(("row", "dtype"), rows(gradients=False, dtypes=("float16", "bfloat16", "float32", "float64")))
def test_rows(row: dict[str, Any], dtype: str) -> None:
    if "float16" in dtype and not np.array_equal(*fitting(row, dtype), equal_nan=True):
        pytest.skip("its numbers do not fit")
    run(row, dtype, np.asarray, np.asarray)


def fitting(row: dict[str, Any], dtype: str) -> tuple[Any, Any]:
    """The numbers of a row, and as the dtype holds them."""
    floats = [*numbers({name: value for name, value in row["input"].items() if name in ARRAYS})]
    with np.errstate(all="ignore"):
        return np.array(floats), np.array(floats).astype(semantics.to_dtype(dtype)).astype(np.float64)


@pytest.mark.parametrize(("row", "dtype"), rows(gradients=False))
def test_rows_without_the_core(row: dict[str, Any], dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softly._kernels.core", None)
    monkeypatch.setattr("softly._kernels.TABLE", {})
    run(row, dtype, np.asarray, np.asarray, least_ulp=semantics.EXPRESSION_ULP)


@pytest.mark.parametrize(("row", "dtype"), rows(gradients=False))
def test_rows_array_api_strict(row: dict[str, Any], dtype: str) -> None:
    xp = optional("array_api_strict")
    run(row, dtype, xp.asarray, np.from_dlpack, least_ulp=semantics.EXPRESSION_ULP)


@pytest.mark.parametrize(("row", "dtype"), rows())
@pytest.mark.parametrize("records", [False, True])
def test_rows_torch(row: dict[str, Any], dtype: str, records: bool) -> None:
    """Where a gradient is recorded too."""
    torch = optional("torch")

    def asarray(array: Any) -> Any:
        tensor = to_torch(array)
        return tensor.requires_grad_() if records and tensor.is_floating_point() else tensor

    def gradient(average: Any, arrays: Any, cotangent: Any) -> Any:
        arrays = [array.requires_grad_() for array in arrays]
        return torch.autograd.grad(average(*arrays), arrays, to_torch(cotangent))

    run(row, dtype, asarray, from_torch, gradient, least_ulp=semantics.EXPRESSION_ULP if records else 0)


@pytest.mark.parametrize(("row", "dtype"), rows(dtypes=("float32",)))
def test_rows_jax(row: dict[str, Any], dtype: str) -> None:
    jax = optional("jax")

    def gradient(average: Any, arrays: Any, cotangent: Any) -> Any:
        return jax.vjp(average, *arrays)[1](jax.numpy.asarray(cotangent))

    run(row, dtype, jax.numpy.asarray, np.asarray, gradient, least_ulp=semantics.EXPRESSION_ULP)


# ---------------------------------------------------------------- the numbers


def plain() -> list[Any]:
    """Rows of finite numbers in which something is possible for each target or query that has a truth of its own."""
    return [
        pytest.param(row, id=row["name"])
        for row in ROWS
        if "expected" in row
        and not row["function"].startswith(GRADIENT)
        and not any(isinstance(value, dict) for value in row["input"].values())
        and np.isfinite([*numbers(row["input"]), *numbers(row.get("options", {}))]).all()
        and np.isfinite([*numbers(row["expected"])]).all()
        and row.get("options", {}).get("empty", "zero") == "zero"
        and row.get("options", {}).get("temperature", 1) > 0
    ]


def truth(row: dict[str, Any]) -> Any:
    """From the definitions, target by target: all scores, the map in mpmath, the average."""
    options, at = row.get("options", {}), {name: fill(value) for name, value in row["input"].items()}
    weights = np.zeros(at["edges"].shape[1] if "edges" in at else len(at["x"]))
    where, found = np.broadcast_to(options.get("where", True), weights.shape), []
    for i, query in enumerate(at["query"]):
        if "edges" in at:
            sources, targets = at["edges"].astype(int)
            mine = np.flatnonzero((targets == i) & where)
            scores, rows = of_edges(query, at["key"][sources], options)[mine], at.get("value", at["key"])[sources[mine]]
        else:
            mine = np.flatnonzero(where)
            scores, rows = of_points(query, at["x"], at["bandwidth"], options)[mine], at["y"][mine]
        if not mine.size:
            found.append(np.zeros(rows.shape[1:]))
            continue
        shares = semantics.exact("entmax", scores, options.get("temperature", 1.0), options.get("alpha", 1.0))
        weights[mine] = [float(share) for share in shares]
        found.append(weights[mine] @ rows)
    return weights if row["function"].endswith("weights") else np.array(found)


def of_edges(query: Any, key: Any, options: dict[str, Any]) -> Any:
    """The scores of a query with the keys of all edges."""
    slope, terms = options.get("negative_slope"), query * key
    if slope is not None:
        terms = np.where(query + key > 0, query + key, slope * (query + key))
    return terms.sum(-1) * options.get("scale", query.size**-0.5) + np.asarray(options.get("bias", 0.0))


def of_points(query: Any, x: Any, bandwidth: Any, options: dict[str, Any]) -> Any:
    """The logarithms of the kernel of a query and all points, in fractions but for what is the same for all."""
    fractions = np.vectorize(Fraction, otypes=[object])
    q, points, h = (fractions(a) for a in (query, np.nan_to_num(x), bandwidth))
    if options.get("kernel") == "exponential_dot":
        return (q * points / h**2).reshape(len(x), -1).sum(-1).astype(np.float64)
    squares = (((q - points) / h) ** 2).reshape(len(x), -1).sum(-1)
    return -((squares - squares.min()) / 2).astype(np.float64)


@pytest.mark.parametrize("row", plain())
def test_numbers_are_those_of_the_definition(row: dict[str, Any]) -> None:
    with mpmath.workdps(40):
        np.testing.assert_allclose(truth(row), row["expected"], rtol=1e-12, atol=1e-15)


def test_rows_are_about_averages_and_enough_have_a_truth() -> None:
    assert len(plain()) >= 15
    assert {row["function"] for row in ROWS} == {
        "graph_attention", "graph_attention_weights", "kernel_regression",
        "gradient_of_graph_attention", "gradient_of_kernel_regression",
    }  # fmt: skip
