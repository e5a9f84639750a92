"""The rows of the table about losses, on every array library, and their numbers against torch's own losses."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest
import semantics
from semantics import fill, numbers
from test_semantics_backends import from_torch, optional, to_torch

import softly

GRADIENT = "gradient_of_"
ROWS = list(semantics.sections("loss"))
ARRAYS = ("class_weight", "pos_weight", "where", "temperature")
FUNCTIONS = ("cross_entropy", "binary_cross_entropy", "fenchel_young_loss")


def rows(*, errors: bool = True, halves: bool = True, dtypes: int = 9) -> list[Any]:
    """Each row with each of its dtypes, or the first few."""
    return [
        pytest.param(row, dtype, id=f"{row['name']}-{dtype}")
        for row in ROWS
        for dtype in row.get("dtypes", ("float32", "float64"))[:dtypes]
        if (errors or "raises" not in row) and (halves or "float16" not in dtype)
    ]


def arguments(row: dict[str, Any], dtype: str, asarray: Any = np.asarray) -> tuple[Any, list[Any], dict[str, Any], Any]:
    """Scores, the targets to try, keyword arguments, and the cotangent of a gradient."""
    options, given = dict(row.get("options", {})), row["input"]
    kind, cotangent = semantics.to_dtype(dtype), options.pop("cotangent", None)
    if "labels" in given:
        dtypes = options.pop("label_dtypes", [None])
        targets = [asarray(fill(given["labels"], None if d is None else np.dtype(d))) for d in dtypes]
    else:
        targets = [asarray(fill(given["targets"], kind))]
    options |= {k: asarray(fill(options[k])) for k in ARRAYS if isinstance(options.get(k), list)}
    return asarray(fill(given["scores"], kind)), targets, options, cotangent


def run(row: dict[str, Any], dtype: str, *, asarray: Any, asnumpy: Any, gradient: Any, least_ulp: float = 0.0) -> None:
    """One row, warnings and floating-point flags armed; gradient(function, scores, cotangent) differentiates."""
    scores, targets, options, cotangent = arguments(row, dtype, asarray)
    name = row["function"].removeprefix(GRADIENT)
    for target in targets:

        def loss(z: Any, target: Any = target) -> Any:
            return getattr(softly, name)(z, target, **options)

        with np.errstate(all="raise"), warnings.catch_warnings():
            warnings.simplefilter("error")
            if "raises" in row:
                with pytest.raises(semantics.EXCEPTIONS[row["raises"]]) as caught:
                    loss(scores)
                assert re.search(row["match"], str(caught.value), re.S), caught.value
                continue
            result = loss(scores) if cotangent is None else gradient(loss, scores, fill(cotangent))
        result = asnumpy(result)
        assert result.dtype == semantics.to_dtype(dtype)
        limit = max(row["ulp"], least_ulp) if "ulp" in row else 0
        semantics.compare(result, fill(row["expected"], np.float64), limit, 0.0)


@pytest.mark.parametrize(("row", "dtype"), rows())
def test_losses(row: dict[str, Any], dtype: str) -> None:
    """NumPy; gradients of cross-entropy come with its value."""

    def gradient(loss: Any, scores: Any, cotangent: Any) -> Any:
        if row["function"] != GRADIENT + "cross_entropy":
            pytest.skip("NumPy has no derivatives")
        _, (target,), options, _ = arguments(row, dtype)
        value, found = softly.cross_entropy_and_gradient(scores, target, **options)
        assert (cotangent == 1).all()
        np.testing.assert_array_equal(value, loss(scores))
        return found

    run(row, dtype, asarray=np.asarray, asnumpy=np.asarray, gradient=gradient, least_ulp=semantics.LEAST_ULP)


@pytest.mark.parametrize(("row", "dtype"), rows(halves=False))
def test_losses_array_api_strict(row: dict[str, Any], dtype: str) -> None:
    xp = optional("array_api_strict")

    def gradient(loss: Any, scores: Any, cotangent: Any) -> Any:
        if row["function"] != GRADIENT + "cross_entropy":
            pytest.skip("no derivatives")
        _, (target,), options, _ = arguments(row, dtype, xp.asarray)
        return softly.cross_entropy_and_gradient(scores, target, **options)[1]

    run(row, dtype, asarray=xp.asarray, asnumpy=np.from_dlpack, gradient=gradient, least_ulp=semantics.EXPRESSION_ULP)


@pytest.mark.parametrize(("row", "dtype"), rows())
def test_losses_torch(row: dict[str, Any], dtype: str) -> None:
    torch = optional("torch")

    def gradient(loss: Any, scores: Any, cotangent: Any) -> Any:
        scores.requires_grad_()
        value = loss(scores)
        return torch.autograd.grad(value, scores, torch.from_numpy(cotangent).to(value.dtype))[0]

    run(row, dtype, asarray=to_torch, asnumpy=from_torch, gradient=gradient, least_ulp=semantics.LEAST_ULP)


@pytest.mark.slow  # XLA compiles every operation for every shape: one dtype each
@pytest.mark.parametrize(("row", "dtype"), rows(errors=False, dtypes=1))
def test_losses_jax(row: dict[str, Any], dtype: str) -> None:
    jax = optional("jax")

    def gradient(loss: Any, scores: Any, cotangent: Any) -> Any:
        value, pull = jax.vjp(loss, scores)
        return pull(jax.numpy.asarray(cotangent, value.dtype))[0]

    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        run(
            row, dtype,
            asarray=jax.numpy.asarray, asnumpy=np.asarray, gradient=gradient, least_ulp=semantics.EXPRESSION_ULP,
        )  # fmt: skip


def test_every_loss_has_rows_of_values_gradients_and_errors() -> None:
    for name in FUNCTIONS:
        own = [row for row in ROWS if row["function"].removeprefix(GRADIENT) == name]
        assert len(own) > 12, name
        assert any(row["function"].startswith(GRADIENT) for row in own), name
        assert any("raises" in row for row in own), name
        assert any(np.isnan(list(numbers(row["input"]))).any() for row in own), name


def with_numbers(*names: str) -> list[Any]:
    """Rows whose numbers torch can be asked for: all finite, no options that it lacks."""
    return [
        pytest.param(row, id=row["name"])
        for row in ROWS
        if row["function"].removeprefix(GRADIENT) in names
        and "expected" in row
        and np.isfinite([*numbers(row["input"]), *numbers(row["expected"]), *numbers(row.get("options", {}))]).all()
        and not {"where", "dtypes"} & {*row, *row.get("options", {})}
        and row.get("options", {}).get("temperature") != 0
    ]


@pytest.mark.parametrize("row", with_numbers("cross_entropy", "binary_cross_entropy"))
def test_numbers_are_those_of_torch(row: dict[str, Any]) -> None:
    torch = optional("torch")
    _, (target, *_), options, cotangent = arguments(row, "float64", to_torch)
    scores = torch.from_numpy(fill(row["input"]["scores"], np.float64)).requires_grad_()
    options.pop("label_dtypes", None)
    if "class_weight" in options:
        options["weight"] = options.pop("class_weight")
    name = row["function"].removeprefix(GRADIENT)
    theirs = torch.nn.functional.cross_entropy
    if name == "binary_cross_entropy":
        theirs = torch.nn.functional.binary_cross_entropy_with_logits
    elif not target.is_floating_point():
        target = target.long()
    result = theirs(scores / options.pop("temperature", 1.0), target, **options)
    if cotangent is not None:
        (result,) = torch.autograd.grad(result, scores, torch.tensor(cotangent, dtype=torch.float64))
    # absolutely as well: torch loses a loss near 0
    np.testing.assert_allclose(result.detach().numpy(), row["expected"], rtol=1e-12, atol=1e-15)
