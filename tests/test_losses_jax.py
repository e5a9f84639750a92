"""Losses under JAX: values as NumPy's, derivatives, jit, vmap; never NaN behind masks or in ignored rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import semantics

import softly

jax = pytest.importorskip("jax", exc_type=ImportError)

from jax_cases import slow_but  # noqa: E402

jnp = jax.numpy
pytestmark = pytest.mark.skipif(semantics.FORCED, reason="told for the default target")
Z = np.random.default_rng(3).standard_normal((4, 5))
LABELS = np.array([0, 3, -100, 1])
SOFT = np.array([[0.25, 0.5, 0.25, 0, 0], [0, 0, 0, 1, 0], [0.5, 0.5, 0.5, 0, 0], [0, 0, 0, 0, 0]])
WEIGHT = np.array([1.0, 0.5, 2.0, 0.0, 1.5])
LOSSES: dict[str, Any] = {
    "labels": lambda z, t: softly.cross_entropy(z, LABELS, temperature=t),
    "labels, weights, smoothing": lambda z, t: softly.cross_entropy(
        z, LABELS, temperature=t, class_weight=WEIGHT, label_smoothing=0.1
    ),
    "soft targets": lambda z, t: softly.cross_entropy(z, SOFT, temperature=t, reduction="sum"),
    "binary": lambda z, t: softly.binary_cross_entropy(z, SOFT, temperature=t[:, None], class_weight=WEIGHT),
    "Fenchel-Young 1.5": lambda z, t: softly.fenchel_young_loss(z, LABELS, temperature=t),
    "Fenchel-Young 2, soft": lambda z, t: softly.fenchel_young_loss(z, SOFT, alpha=2, temperature=t),
}
each = pytest.mark.parametrize("name", slow_but("labels, weights, smoothing", "Fenchel-Young 1.5", of=LOSSES))


@pytest.fixture(autouse=True)
def doubles() -> Iterator[None]:
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        yield


@each
def test_values_and_derivatives(name: str) -> None:
    """As NumPy's to the stated tolerance, under jit; gradients in scores and temperatures as torch's."""
    from test_losses_torch import LOSSES as IN_TORCH
    from test_losses_torch import torch

    loss, t = LOSSES[name], np.array([0.5, 1.0, 2.0, 1.5])
    value, gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(Z, t)
    np.testing.assert_allclose(value, loss(Z, t), rtol=1e-13)
    if name == "Fenchel-Young 2, soft":
        theirs = lambda z, t: softly.fenchel_young_loss(z, torch.tensor(SOFT), alpha=2, temperature=t)  # noqa: E731
    elif name == "Fenchel-Young 1.5":
        theirs = lambda z, t: softly.fenchel_young_loss(z, torch.tensor(LABELS), temperature=t)  # noqa: E731
    else:
        theirs = IN_TORCH[name]
    at = [torch.tensor(x, requires_grad=True) for x in (Z, t)]
    for found, expected in zip(gradients, torch.autograd.grad(theirs(*at), at), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["labels", "binary", "Fenchel-Young 1.5"])
def test_second_derivatives(name: str) -> None:
    """Forward over reverse, along a direction, against differences of the gradient."""
    t, v, h = np.array([0.5, 1.0, 2.0, 1.5]), np.random.default_rng(4).standard_normal(Z.shape), 1e-6
    gradient = jax.grad(lambda z: LOSSES[name](z, t))
    along, step = jax.jit(lambda z: jax.jvp(gradient, (z,), (v,))[1]), jax.jit(gradient)
    difference = (step(Z + h * v) - step(Z - h * v)) / (2 * h)
    np.testing.assert_allclose(along(Z), difference, rtol=1e-7, atol=1e-9)


def test_nothing_behind_a_mask_or_in_an_ignored_row_gives_nan() -> None:
    where = np.array([True, True, False, True, True])
    spoilt = np.where(where, Z, np.nan)
    spoilt[2] = [np.nan, np.inf, -np.inf, 0, 0]

    def loss(z: Any) -> Any:
        return softly.cross_entropy(z, LABELS, where=where) + softly.fenchel_young_loss(z, LABELS, where=where)

    value, gradient = jax.value_and_grad(loss)(jnp.asarray(spoilt))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert (np.asarray(gradient)[2] == 0).all()
    assert (np.asarray(gradient)[:, 2] == 0).all()


def test_the_mean_of_nothing_has_the_gradient_0() -> None:
    value, gradient = jax.value_and_grad(softly.cross_entropy)(Z, np.full(4, -100))
    assert np.isnan(value)
    assert (np.asarray(gradient) == 0).all()


def test_a_traced_label_that_is_none_gives_nan_in_its_row() -> None:
    def loss(z: Any, labels: Any) -> Any:
        losses = softly.cross_entropy(z, labels, reduction="none")
        return softly.cross_entropy(z, labels), losses

    labels = jnp.asarray([0, 7, -100, 1])
    gradient, losses = jax.jit(jax.grad(loss, has_aux=True))(jnp.asarray(Z), labels)
    assert np.isnan(losses).tolist() == [False, True, False, False]
    assert np.isnan(gradient).any(axis=-1).tolist() == [False, True, False, False]
    with pytest.raises(ValueError, match=r"the label 7 at \[1\]"):
        softly.cross_entropy(Z, labels)


@pytest.mark.slow
def test_vmap_is_one_call_for_each() -> None:
    for name in ("cross_entropy", "fenchel_young_loss"):
        function = getattr(softly, name)
        found = jax.vmap(function)(jnp.asarray(Z[:2]), jnp.asarray(LABELS[:2]))
        np.testing.assert_allclose(found, [function(z, label) for z, label in zip(Z, LABELS[:2], strict=False)])
