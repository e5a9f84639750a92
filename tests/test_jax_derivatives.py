"""JAX: derivatives of every function, of first and second order, against finite differences and mpmath."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import mpmath
import numpy as np
import pytest
import semantics
from jax_cases import ALPHAS, CALLS, ENTRIES, QUICK, ROWS, TAKE_ALPHA, arguments, hopeless, slow_but

import softly

jax = pytest.importorskip("jax", exc_type=ImportError)
jnp = jax.numpy

STEP = 1e-6
GRADIENTS = [
    row
    for row in semantics.sections("derivative")
    if row["function"].removeprefix("gradient_of_") in (*semantics.FUNCTIONS, *semantics.ELEMENTWISE)
]


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def quick_rows() -> list[Any]:
    """The table's gradients; slow are those that the test of derivatives that are 0 is about too."""
    again = "nothing possible", "behind a mask"
    return [
        pytest.param(row, id=row["name"], marks=pytest.mark.slow if row["name"].endswith(again) else ())
        for row in GRADIENTS
    ]


@pytest.fixture(scope="module")
def derivatives() -> Callable[[str], Callable[..., dict[str, Any]]]:
    """By function: one program for its value and its derivatives of first and second order along a direction."""
    programs = {}

    def build(name: str) -> Any:
        def program(
            point: tuple[Any, Any, Any], direction: tuple[Any, Any, Any], cotangent: Any, where: Any
        ) -> dict[str, Any]:
            def function(z: Any, t: Any, alpha: Any) -> Any:
                return CALLS[name](z, t, where, alpha)

            def gradient(*at: Any) -> Any:
                return jax.vjp(function, *at)[1](cotangent)

            value, forward = jax.jvp(function, point, direction)
            reverse, second = jax.jvp(gradient, point, direction)
            return {"value": value, "forward": forward, "reverse": reverse, "second": second}

        return jax.jit(program)

    def of(name: str) -> Any:
        if name not in programs:
            programs[name] = build(name)
        return programs[name]

    return of


def direction_of(name: str, alpha_moves: bool = True) -> tuple[tuple[Any, ...], Any]:
    """A direction of scores, temperatures and alpha, and a cotangent of the result."""
    rng = np.random.default_rng(7)
    flat = name.startswith("segment")
    shape: tuple[int, ...] = (ROWS,) if "logsumexp" in name else (ROWS * ENTRIES,) if flat else (ROWS, ENTRIES)
    moves = rng.standard_normal((ROWS, ENTRIES)), rng.standard_normal(ROWS), 0.7 * alpha_moves
    return moves, rng.standard_normal(shape)


def moved(point: tuple[Any, ...], direction: tuple[Any, ...], step: float) -> tuple[Any, ...]:
    return tuple(a + step * d for a, d in zip(point, direction, strict=True))


def finite(x: Any) -> Any:
    """-inf, which an impossible entry keeps, as 0."""
    return np.where(np.isneginf(x), 0, x)


@pytest.mark.parametrize("name", slow_but(*QUICK, of=CALLS))
def test_derivatives_are_finite_differences(name: str, derivatives: Any) -> None:
    """Forward, reverse, and forward over reverse; reverse is the transpose of forward."""
    program = derivatives(name)
    for alpha in ALPHAS if name in TAKE_ALPHA else ALPHAS[:1]:
        z, t, where, alpha = arguments(alpha=alpha)
        direction, cotangent = direction_of(name, alpha_moves=alpha > 1)
        cotangent = np.where(np.isneginf(CALLS[name](z, t, where, alpha)), 0, cotangent)  # no difference has a limit
        point = z, t, alpha
        here, up, down = (
            jax.tree.map(np.asarray, program(moved(point, direction, s), direction, cotangent, where))
            for s in (0, STEP, -STEP)
        )
        first = (finite(up["value"]) - finite(down["value"])) / (2 * STEP)
        possible = np.isfinite(here["value"])
        np.testing.assert_allclose(
            here["forward"][possible], first[possible], rtol=1e-6, atol=1e-8, err_msg=f"alpha {alpha}"
        )
        inner = sum(np.sum(r * d) for r, d in zip(here["reverse"], direction, strict=True))
        np.testing.assert_allclose(inner, np.sum(cotangent * here["forward"]), rtol=1e-10, err_msg=f"alpha {alpha}")
        for found, above, below in zip(here["second"], up["reverse"], down["reverse"], strict=True):
            second = (above - below) / (2 * STEP)
            np.testing.assert_allclose(found, second, rtol=1e-5, atol=1e-6, err_msg=f"alpha {alpha}")


@pytest.mark.parametrize("name", slow_but(*QUICK, of=[n for n in CALLS if "sigmoid" not in n and "weights" not in n]))
def test_derivatives_are_0_where_nothing_can_change(name: str, derivatives: Any) -> None:
    """Rows with nothing possible, ties at +inf, the limits of T: 0, of both orders; behind a mask: never NaN."""
    z, t, where, alpha = hopeless()
    found = derivatives(name)((z, t, alpha), *direction_of(name), where)
    for order in ("reverse", "second"):
        scores, temperature, of_alpha = (np.asarray(part) for part in found[order])
        assert not np.isnan(scores).any()
        assert not scores[[0, 1, 2, 4, 5]].any()
        assert not scores[3][~where[3]].any()
        assert scores[3][:4].any()
        assert np.isfinite(temperature).all()
        assert np.isfinite(of_alpha)


@pytest.mark.parametrize("alpha", [*ALPHAS, 1 + 1e-9, 1.02, 10.0])
def test_the_derivative_in_alpha_is_mpmaths(alpha: float, derivatives: Any) -> None:
    """One-sided at alpha = 1."""
    z, t, where, _ = arguments()
    direction = np.zeros_like(z), np.zeros_like(t), 1.0
    found = derivatives("entmax")((z, t, alpha), direction, np.zeros_like(z), where)["forward"]
    step = 2.0**-50
    for row in range(ROWS):
        scores = np.where(where[row], z[row], -np.inf)
        with mpmath.workdps(60):
            sides = [semantics.exact("entmax", scores, t[row], a) for a in (alpha + step, alpha)]
        truth = [float((up - down) / step) for up, down in zip(*sides, strict=True)]
        np.testing.assert_allclose(found[row], truth, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", slow_but("float64", of=("float32", "float64")))
@pytest.mark.parametrize("row", quick_rows())
def test_gradients_of_the_table(row: dict[str, Any], dtype: str) -> None:
    """The gradients that the table of special values plans for every backend."""
    options = dict(row["options"])
    cotangent, at = semantics.fill(options.pop("cotangent")), options.pop("argument", "scores")
    function = getattr(softly, row["function"].removeprefix("gradient_of_"))
    for kind in map(semantics.to_dtype, row.get("dtypes", (dtype,))):
        given = {k: jnp.asarray(semantics.fill(v)) if isinstance(v, list) else v for k, v in options.items()}
        given["scores"] = jnp.asarray(semantics.fill(row["input"], kind))
        moving = given.pop(at).astype(kind)

        def gradient(x: Any, c: Any, given: dict[str, Any] = given) -> Any:
            value, transpose = jax.vjp(lambda x: function(**{at: x}, **given), x)
            return transpose(jnp.broadcast_to(c, value.shape).astype(value.dtype))[0]

        found = np.asarray(jax.jit(gradient)(moving, cotangent))
        expected = semantics.fill(row["expected"], np.float64)
        assert found.dtype == kind
        semantics.compare(found, expected, row.get("ulp", 0), 0 if expected.ndim == 0 else np.abs(expected).max())


def test_the_hessian_is_the_closed_form() -> None:
    """Of T logsumexp(z / T): (diag p - p p^T) / T, which is the Jacobian of softmax."""
    z, t = np.random.default_rng(0).standard_normal(7), 0.75
    p = softly.softmax(z, temperature=t)
    closed = (np.diag(p) - np.outer(p, p)) / t
    hessian = jax.jit(jax.hessian(lambda z: t * softly.logsumexp(z, temperature=t)))(z)
    np.testing.assert_allclose(hessian, closed, rtol=1e-13, atol=1e-16)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(partial(softly.softmax, temperature=t)))(z), closed, rtol=1e-13)


@pytest.mark.parametrize("dtype", slow_but("float16", of=("float16", "bfloat16")))
@pytest.mark.parametrize(
    "name", slow_but("softmax", "log_softmax", of=("softmax", "log_softmax", "logsumexp", "sigmoid", "log_sigmoid"))
)
def test_gradients_in_half_precision_are_no_worse_than_jaxs(name: str, dtype: str) -> None:
    """Largest and mean error against JAX's own in float64."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((64, 50)).astype(semantics.to_dtype(dtype))
    c = rng.standard_normal((64, 50))[:, 0 if name == "logsumexp" else slice(None)].astype(z.dtype)
    options = {"axis": -1} if "sigmoid" not in name else {}

    def gradient(function: Callable[..., Any], z: Any, c: Any) -> Any:
        return np.asarray(jax.jit(lambda z, c: jax.vjp(function, z)[1](c)[0])(z, c)).astype(np.float64)

    theirs = partial(getattr(jax.nn, name), **options)
    truth = gradient(theirs, z.astype(np.float64), c.astype(np.float64))
    mine, jaxs = (np.abs(gradient(f, z, c) - truth) for f in (getattr(softly, name), theirs))
    assert mine.max() <= jaxs.max()
    assert mine.mean() <= jaxs.mean()
