"""The rows of the table about attention, on every array library, and their numbers against torch's own attention."""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import numpy as np
import pytest
import semantics
from semantics import fill, numbers
from test_semantics_backends import from_torch, optional, to_torch

import softly

ROWS = list(semantics.sections("attention"))
GRADIENT = "gradient_of_attention"
NAMES = ("query", "key", "value")
DTYPES = ("float16", "float32", "float64")


def rows(*, gradients: bool = True, dtypes: tuple[str, ...] = DTYPES, errors: bool = True) -> list[Any]:
    return [
        pytest.param(row, dtype, id=f"{row['name']}-{dtype}")
        for row in ROWS
        for dtype in dtypes
        if (gradients or row["function"] != GRADIENT) and (errors or "raises" not in row)
    ]


def run(
    row: dict[str, Any], dtype: str, asarray: Any, asnumpy: Any, gradient: Any = None, least_ulp: float = 0
) -> None:
    """One row, warnings and floating-point flags armed; gradient(function, arrays, cotangent) differentiates."""
    kind, options = semantics.to_dtype(dtype), dict(row.get("options", {}))
    arrays = [asarray(fill(row["input"][name], kind)) for name in NAMES]
    cotangent = options.pop("cotangent", None)
    if "where" in options:
        options["where"] = asarray(np.array(options["where"]))

    def attend(*arrays: Any) -> Any:
        return softly.attention(*arrays, **options)

    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        if "raises" in row:
            with pytest.raises(semantics.EXCEPTIONS[row["raises"]]) as caught:
                attend(*arrays)
            assert re.search(row["match"], str(caught.value), re.S), caught.value
            return
        found = [attend(*arrays)] if cotangent is None else gradient(attend, arrays, fill(cotangent, kind))
    expected = [row["expected"]] if cotangent is None else [row["expected"][name] for name in NAMES]
    for result, exact in zip(map(asnumpy, found), expected, strict=True):
        assert result.dtype == kind
        # a score is a sum of products: errors are those of numbers near 1
        semantics.compare(result, fill(exact, np.float64), max(row["ulp"], least_ulp) if "ulp" in row else 0, 1.0)


@pytest.mark.parametrize(("row", "dtype"), rows(gradients=False, dtypes=(*DTYPES, "bfloat16")))
def test_attention_rows(row: dict[str, Any], dtype: str) -> None:
    run(row, dtype, np.asarray, np.asarray)


@pytest.mark.parametrize(("row", "dtype"), rows(gradients=False, dtypes=("float32", "float64")))
def test_attention_rows_array_api_strict(row: dict[str, Any], dtype: str) -> None:
    xp = optional("array_api_strict")
    run(row, dtype, xp.asarray, np.from_dlpack)


@pytest.mark.parametrize(("row", "dtype"), rows(dtypes=(*DTYPES, "bfloat16")))
def test_attention_rows_torch(row: dict[str, Any], dtype: str) -> None:
    torch = optional("torch")

    def gradient(attend: Any, arrays: Any, cotangent: Any) -> Any:
        arrays = [array.requires_grad_() for array in arrays]
        return torch.autograd.grad(attend(*arrays), arrays, to_torch(cotangent))

    run(row, dtype, to_torch, from_torch, gradient)


@pytest.mark.parametrize(("row", "dtype"), rows(dtypes=("float32",)))
def test_attention_rows_torch_traced(row: dict[str, Any], dtype: str) -> None:
    """Under torch.func, where no value can be looked at."""
    torch = optional("torch")
    if row.get("options", {}).get("empty") == "raise":
        pytest.skip("refused where values cannot be read")
    if "raises" in row:
        pytest.skip("the same checks")

    def gradient(attend: Any, arrays: Any, cotangent: Any) -> Any:
        return torch.func.vjp(attend, *arrays)[1](to_torch(cotangent))

    traced = row["function"] != GRADIENT

    def batched(array: Any) -> Any:
        return to_torch(array)

    if not traced:
        run(row, dtype, batched, from_torch, gradient)
        return
    attention = softly.attention

    def over_a_batch(*arrays: Any, **options: Any) -> Any:
        return torch.func.vmap(lambda *a: attention(*a, **options))(*(a[None] for a in arrays))[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(softly, "attention", over_a_batch)
        run(row, dtype, batched, from_torch)


@pytest.mark.parametrize(("row", "dtype"), rows(dtypes=("float32",), errors=False))
def test_attention_rows_jax(row: dict[str, Any], dtype: str) -> None:
    jax = optional("jax")

    def gradient(attend: Any, arrays: Any, cotangent: Any) -> Any:
        return jax.vjp(attend, *arrays)[1](jax.numpy.asarray(cotangent))

    run(row, dtype, jax.numpy.asarray, np.asarray, gradient)


def told() -> list[Any]:
    """Rows whose numbers torch can be asked for: all finite, and a key for some query."""
    return [
        pytest.param(row, id=row["name"])
        for row in ROWS
        if "expected" in row
        and "shape" not in row["input"]["key"]
        and all(map(math.isfinite, [*numbers(row["input"]), *numbers(row["expected"])]))
        and row.get("options", {}).get("where") is not False
    ]


@pytest.mark.parametrize("row", told())
def test_numbers_are_those_of_torchs_attention(row: dict[str, Any]) -> None:
    """Where a query has a key: what torch makes of fully masked ones changed from release to release."""
    torch = optional("torch")
    options = row.get("options", {})
    arguments = [torch.from_numpy(fill(row["input"][name], np.float64)).requires_grad_() for name in NAMES]
    queries, keys = (len(a) for a in arguments[:2])
    where = np.broadcast_to(options.get("where", True), (queries, keys))
    if options.get("causal"):
        where = where & np.tri(queries, keys, keys - queries if options.get("align") == "bottom-right" else 0, bool)
    some = where.any(axis=-1)
    kept = arguments[0][torch.from_numpy(some)]
    mask = torch.from_numpy(where[some])
    result = torch.nn.functional.scaled_dot_product_attention(kept, *arguments[1:], attn_mask=mask)
    if row["function"] == "attention":
        expected = np.array(row["expected"])
        np.testing.assert_allclose(result.detach().numpy(), expected[some], rtol=1e-12)
        assert not expected[~some].any()
        return
    cotangent = torch.tensor(options["cotangent"], dtype=torch.float64)[torch.from_numpy(some)]
    for found, name in zip(torch.autograd.grad(result, arguments, cotangent), NAMES, strict=True):
        np.testing.assert_allclose(found.numpy(), row["expected"][name], rtol=1e-10, atol=1e-15)
