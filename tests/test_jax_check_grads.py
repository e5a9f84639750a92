"""JAX's own check of derivatives, jax.test_util.check_grads, on every function: both modes, both orders."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import semantics
from jax_cases import ALPHAS, CALLS, TAKE_ALPHA, arguments
from test_losses_jax import LABELS, LOSSES, SOFT, Z

import softly

jax = pytest.importorskip("jax", exc_type=ImportError)
jnp = jax.numpy

from jax.test_util import check_grads  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.skipif(semantics.FORCED, reason="told for the default target")]

RNG = np.random.default_rng(11)
MASK = np.array([[1] * 5, [1, 0, 1, 1, 1], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0], [0] * 5, [1, 1, 1, 1, 0]], bool)
QUERY, KEY, VALUE = (RNG.standard_normal(shape) for shape in ((3, 4), (5, 4), (5, 2)))
VISIBLE = np.array([[1, 1, 0, 1, 1], [0, 1, 1, 1, 0], [1, 0, 0, 0, 0]], bool)
EDGES = np.array([[0, 1, 2, 3, 4, 0, 2], [0, 0, 1, 1, 2, 2, 2]])
DIRECTION = RNG.standard_normal((4, 5))


@pytest.fixture(autouse=True)
def double_precision_compiled_in_haste() -> Iterator[None]:
    """Every program runs once or twice: without most of XLA's optimisations it is ready a third sooner."""
    jax.config.update("jax_disable_most_optimizations", True)
    with jax.enable_x64(True):
        yield
    jax.config.update("jax_disable_most_optimizations", False)


@functools.cache
def program(function: Any) -> Any:
    """One for each function; what it leaves at -inf has no difference."""
    return jax.jit(lambda *x: jax.tree.map(lambda y: jnp.where(jnp.isfinite(y), y, 0), function(*x)))


def check(function: Any, *points: Any) -> None:
    """Both modes, both orders."""
    at = tuple(map(jnp.asarray, points))
    check_grads(program(function), at, order=2, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5, eps=1e-5)


@functools.cache
def of_alpha(name: str) -> Any:
    """A map of nothing but alpha, the same for all of them: JAX keeps its programs."""
    z, t, _, _ = arguments()
    return lambda alpha: CALLS[name](z, t, MASK, alpha)


@pytest.mark.parametrize(("name", "alpha"), [(n, a) for n in CALLS for a in (ALPHAS if n in TAKE_ALPHA else (1.0,))])
def test_maps(name: str, alpha: float) -> None:
    """Rows with every, some, one and no entry possible, in scores, temperatures and, above 1, in alpha."""
    z, t, _, _ = arguments()
    check(lambda z, t: CALLS[name](z, t, MASK, alpha), z, t)
    if name in TAKE_ALPHA and alpha > 1:
        check(of_alpha(name), alpha)


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    check(LOSSES[name], Z, np.array([0.5, 1.0, 2.0, 1.5]))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_fenchel_young_losses(alpha: float) -> None:
    for target in (LABELS, SOFT):
        check(lambda z, target=target: softly.fenchel_young_loss(z, target, alpha=alpha, where=MASK[:4]), Z)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_products_with_the_jacobian(alpha: float) -> None:
    check(lambda z, v: softly.jacobian_product(z, v, alpha=alpha, temperature=0.7), Z, DIRECTION)


@pytest.mark.parametrize("alpha", [1.0, 1.5, 3.0])
def test_averages(alpha: float) -> None:
    """Attention and attention over a graph."""
    check(lambda q, k, v: softly.attention(q, k, v, alpha=alpha, where=VISIBLE), QUERY, KEY, VALUE)
    nodes = KEY[:3]
    check(lambda q, k, v: softly.graph_attention(q, k, v, EDGES, alpha=alpha), nodes, KEY, VALUE)


def test_this_check_can_fail() -> None:
    """A map whose derivative is that of another."""

    @jax.custom_jvp
    def wrong(z: Any) -> Any:
        return softly.softmax(z)

    wrong.defjvp(lambda z, dz: (softly.softmax(*z), jax.jvp(softly.sparsemax, z, dz)[1]))
    with pytest.raises(AssertionError):
        check(wrong, Z)
