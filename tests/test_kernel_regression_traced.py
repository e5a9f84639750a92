"""Kernel regression in programs of torch and JAX: what counts is known when they run, and values are those of NumPy."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import semantics

import softly

pytestmark = [
    pytest.mark.skipif(semantics.FORCED, reason="told for the default target"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]
POINTS, QUERIES = 6, 4
MASKS = {"some": [1, 0, 1, 1, 0, 1], "all": [1] * 6, "none": [0] * 6}


def draw(seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in ((POINTS, 2), (POINTS, 3), (QUERIES, 2))]


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", exc_type=ImportError)


def in_the_window(torch: Any) -> Any:
    return lambda query, x: torch.where((query[:, None] - x[None]).abs().amax(-1) < 1, 0.0, -math.inf)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("empty", ["zero", "nan", "uniform"])
@pytest.mark.parametrize("kernel", ["gaussian", "exponential_dot", "window"])
def test_a_mask_told_when_the_program_runs(torch: Any, kernel: Any, empty: Any, mask: str) -> None:
    """Values and gradients of the eager call, whatever hidden points hold; they are 0 where no point counts."""
    where = torch.tensor(MASKS[mask], dtype=torch.bool)
    arrays = [torch.from_numpy(a) for a in draw()]
    kernel = in_the_window(torch) if kernel == "window" else kernel

    def function(x: Any, y: Any, query: Any, where: Any) -> Any:
        return softly.kernel_regression(x, y, query, 0.7, kernel, where=where, empty=empty)

    torch._dynamo.reset()
    program = torch.compile(function, fullgraph=True, backend="aot_eager")
    for hidden in (1.0, math.nan, math.inf):
        if mask == "none" and empty == "uniform" and hidden != 1:
            continue  # the mean of all y
        x, y, query = (a.clone() for a in arrays)
        x[~where], y[~where] = hidden, hidden
        variables = [a.requires_grad_() for a in (x, y, query)]
        found, expected = program(*variables, where), function(*variables, where)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13, equal_nan=True)
        upstream = torch.linspace(-1, 2, found.numel(), dtype=found.dtype).reshape(found.shape)
        gradients = (torch.autograd.grad(result, variables, upstream) for result in (found, expected))
        for mine, theirs in zip(*gradients, strict=True):
            assert theirs.isfinite().all()
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_far_away_hidden_points_are_not_the_nearest(torch: Any) -> None:
    """Hidden points at 0 would be, and leave the others no digit to differ by."""
    x, y = torch.tensor([[0.0], [1e30], [1.1e30]]), torch.tensor([7.0, 1.0, 2.0])
    where = torch.tensor([False, True, True])
    torch._dynamo.reset()
    program = torch.compile(
        lambda query, where: softly.kernel_regression(x, y, query, 1e15, where=where), fullgraph=True, backend="eager"
    )
    assert program(torch.tensor([[0.0], [3e30]]), where).tolist() == [1.0, 2.0]


def test_one_program_for_any_number_of_points_and_queries(torch: Any) -> None:
    class Model(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any, y: Any, query: Any, where: Any) -> Any:
            return softly.kernel_regression(x, y, query, 0.7, where=where)

    def arguments(points: int, queries: int) -> tuple[Any, ...]:
        sizes = (points, 2), (points,), (queries, 2), (points,)
        x, y, query, where = (torch.randn(size, dtype=torch.float64) for size in sizes)
        return x, y, query, where > 0

    points, queries = {0: torch.export.Dim("points")}, {0: torch.export.Dim("queries")}
    exported = torch.export.export(Model(), arguments(5, 4), dynamic_shapes=(points, points, queries, points))
    programs = 0

    def count(graph: Any, _: Any) -> Any:
        nonlocal programs
        programs += 1
        return graph

    torch._dynamo.reset()
    compiled = torch.compile(Model(), fullgraph=True, dynamic=True, backend=count)
    for sizes in ((5, 4), (9, 2), (3, 30)):
        given = arguments(*sizes)
        for program in (exported.module(), compiled):
            torch.testing.assert_close(program(*given), Model()(*given))
    assert programs == 1


def test_numbers_that_a_program_does_not_know_are_refused(torch: Any) -> None:
    x, y, query = (torch.from_numpy(a) for a in draw())
    for bandwidth in (np.array([0.7, 1.2]), np.float64(0.7), torch.tensor(0.7), torch.tensor(0.7, requires_grad=True)):
        torch._dynamo.reset()
        program = torch.compile(
            lambda q, h=bandwidth: softly.kernel_regression(x, y, q, h), fullgraph=True, backend="eager"
        )
        with pytest.raises(Exception, match="does not know: pass Python's numbers"):
            program(query)
    torch._dynamo.reset()
    run = torch.compile(lambda q, h: softly.kernel_regression(x, y, q, h), fullgraph=True, backend="eager")
    for h in (0.7, 0.8, 0.9):  # a number of the caller's may change
        torch.testing.assert_close(run(query, h), softly.kernel_regression(x, y, query, h))


def test_jax() -> None:
    """Boolean indices have no place in a program of JAX."""
    jax = pytest.importorskip("jax")
    x, y, query = draw()
    with jax.enable_x64(True):
        for kernel, empty in itertools.product(("gaussian", "exponential_dot"), ("zero", "nan", "uniform")):

            def function(where: Any, *arrays: Any, kernel: Any = kernel, empty: Any = empty) -> Any:
                return softly.kernel_regression(*arrays, 0.7, kernel, where=where, empty=empty)

            program, masks = jax.jit(function), np.array([*MASKS.values()], bool)
            gradient = jax.jit(jax.grad(lambda *a, f=function: jax.numpy.nansum(f(*a)), argnums=(1, 2, 3)))
            for where in masks:
                expected = function(where, x, y, query)
                np.testing.assert_allclose(program(where, x, y, query), expected, rtol=1e-12, atol=1e-13)
                poisoned = [np.where(where[:, None], a, np.nan) for a in (x, y)]
                for part in gradient(where, *poisoned, query):
                    assert np.isfinite(part).all()
            found = jax.vmap(function, in_axes=(0, None, None, None))(*map(jax.numpy.asarray, (masks, x, y, query)))
            np.testing.assert_allclose(found, [function(where, x, y, query) for where in masks], rtol=1e-12, atol=1e-13)
