"""Rows about derivatives of the maps: their numbers against finite differences, and those of softly in torch."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
import semantics
from semantics import SEGMENTS, fill, numbers

import softly

EXISTING = (*semantics.FUNCTIONS, *semantics.ELEMENTWISE, *SEGMENTS)
GRADIENT = "gradient_of_"
ROWS = list(semantics.sections("derivative"))
STEP = 2.0**-20  # exact in every score used; central differences are then right to about 1e-12


def test_rows_are_about_derivatives() -> None:
    assert {row["function"] for row in ROWS} <= {GRADIENT + name for name in EXISTING}


def told(*names: str, finite: bool) -> list[Any]:
    """Rows with numbers about some functions; `finite` leaves out what other libraries and differences cannot do."""
    rows = [row for row in ROWS if row["function"] in names and "expected" in row]
    kept = [row for row in rows if not finite or np.isfinite([*numbers(row["input"]), *numbers(row["expected"])]).all()]
    return [pytest.param(row, id=row["name"]) for row in kept if "shape" not in row["input"]]


# ---------------------------------------------------------------- derivatives of the maps


def value(name: str, scores: Any, options: dict[str, Any]) -> Any:
    """<cotangent, f(scores)> in mpmath, row by row."""
    temperatures = np.broadcast_to(options.get("temperature", 1.0), np.shape(scores)[:-1])
    cotangent, total = fill(options["cotangent"]), mpmath.mpf(0)
    for i in np.ndindex(np.shape(scores)[:-1]):
        row, temperature = np.asarray(scores)[i], float(temperatures[i])
        if "weights" in options:
            powers = [mpmath.mpf(w) * mpmath.exp(s / temperature) for w, s in zip(options["weights"], row, strict=True)]
            found = [mpmath.log(mpmath.fsum(powers))]
        else:
            found = semantics.exact(name, row, temperature, options.get("alpha", 1.5))
        for c, f in zip(np.atleast_1d(cotangent[i]), found, strict=True):
            total += float(c) * f
    return total


@pytest.mark.parametrize("row", told(*(GRADIENT + name for name in EXISTING), finite=True))
def test_derivatives_are_those_of_the_truth(row: dict[str, Any]) -> None:
    """Central differences of the functions in mpmath, in the scores or in what options.argument names."""
    name, options = row["function"].removeprefix(GRADIENT), dict(row["options"])
    scores = np.array(row["input"], np.float64)
    argument = options.get("argument", "scores")
    at = scores if argument == "scores" else np.array(options[argument], np.float64)
    found = np.empty(at.shape)
    with mpmath.workdps(40):
        for place in np.ndindex(at.shape):
            sides = []
            for step in (STEP, -STEP):
                moved = at.copy()
                moved[place] += step
                other = options if argument == "scores" else options | {argument: moved.tolist()}
                sides.append(value(name, moved if argument == "scores" else scores, other))
            found[place] = float((sides[0] - sides[1]) / (2 * STEP))
    np.testing.assert_allclose(found, row["expected"], rtol=1e-8, atol=1e-15)


# ---------------------------------------------------------------- softly's derivatives in torch


def gradients_in_torch() -> list[Any]:
    """The rows about derivatives of the maps, by dtype."""
    return [
        pytest.param(row, dtype, id=f"{row['name']}-{dtype}")
        for row in ROWS
        if row["function"].removeprefix(GRADIENT) in EXISTING and row["function"].startswith(GRADIENT)
        for dtype in row.get("dtypes", ("float32", "float64"))
    ]


@pytest.mark.parametrize(("row", "dtype"), gradients_in_torch())
def test_derivatives_in_torch(row: dict[str, Any], dtype: str) -> None:
    torch = pytest.importorskip("torch", exc_type=ImportError)
    kind, options = getattr(torch, dtype), dict(row["options"])
    cotangent, argument = fill(options.pop("cotangent"), np.float64), options.pop("argument", "scores")
    arguments = {k: torch.tensor(v) if isinstance(v, list) else v for k, v in options.items()}
    for name in {"weights", "temperature"} & arguments.keys():
        if isinstance(arguments[name], torch.Tensor):
            arguments[name] = torch.tensor(options[name], dtype=kind)
    arguments["scores"] = torch.from_numpy(fill(row["input"], np.float64)).to(kind)
    at = arguments[argument].requires_grad_()
    scores = arguments.pop("scores")
    result = getattr(softly, row["function"].removeprefix(GRADIENT))(scores, **arguments)
    (found,) = torch.autograd.grad(result, at, torch.tensor(cotangent).to(result.dtype).expand(result.shape))
    assert found.dtype == kind
    exact = fill(row["expected"], np.float64)
    wide = found.to(torch.float64).numpy()
    if dtype == "bfloat16":
        assert (np.abs(wide - exact) <= row.get("ulp", 0) * 2.0**-8 * np.abs(exact)).all()
        return
    semantics.compare(wide.astype(dtype), exact, row.get("ulp", 0), 0.0)
