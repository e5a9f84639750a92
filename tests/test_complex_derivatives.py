"""Derivatives of logsumexp of complex numbers: against differences, the two backends, never NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import softly

torch = pytest.importorskip("torch", exc_type=ImportError)

INF = float("inf")
ROWS = [[1 + 2j, 0.5 - 1j, 0.3j], [2j, 1.0, -INF], [0, 0, 0], [-INF] * 3, [INF, 1j, 0]]


def of(z: Any, t: Any = 1.0, weights: Any = None, where: Any = None) -> Any:
    found = softly.logsumexp(z, temperature=t, weights=weights, where=where)
    return torch.where(torch.isfinite(found), found, 0.0)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("masked", [False, True])
def test_complex_logsumexp_has_the_derivatives_of_differences(masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(3, 4, dtype=torch.complex128, generator=generator).requires_grad_()
    w = torch.randn(3, 4, dtype=torch.complex128, generator=generator).requires_grad_()
    t = torch.tensor([0.7, 1.0, 3.0], dtype=torch.float64, requires_grad=True)
    where = torch.tensor([[1, 1, 0, 1], [0, 1, 1, 1], [1, 1, 1, 1]], dtype=torch.bool) if masked else None
    for arguments in ((z, t), (z, t, w)):
        assert torch.autograd.gradcheck(lambda *a: of(*a, where=where), arguments, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(lambda *a: of(*a, where=where), arguments)
    real = z.real.detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda z, w: of(z, 1.0, w), (real, w))


def test_no_nan_gradient_of_complex_scores() -> None:
    """Ties had the gradient 0, rows of impossible or infinite entries NaN."""
    z = torch.tensor(ROWS, dtype=torch.complex128, requires_grad=True)
    t = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    of(z, t).real.sum().backward()
    assert not z.grad.isnan().any()
    assert not t.grad.isnan()
    assert torch.equal(z.grad[3:], torch.zeros(2, 3, dtype=z.dtype))
    torch.testing.assert_close(z.grad[2], torch.full((3,), 1 / 6, dtype=z.dtype))
    weights = torch.tensor([1.0, 0.0, 2.0], dtype=torch.complex128, requires_grad=True)
    given = torch.tensor([0, INF, 1], dtype=torch.complex128, requires_grad=True)
    size, sign = softly.logsumexp(given, weights=weights, return_sign=True)
    (size + sign.real).backward()
    assert not given.grad.isnan().any()


def test_values_of_complex_logsumexp_do_not_change_where_a_gradient_is_recorded() -> None:
    for dtype in (torch.complex64, torch.complex128):
        z = torch.tensor(ROWS, dtype=dtype)
        plain, recorded = softly.logsumexp(z), softly.logsumexp(z.clone().requires_grad_())
        assert recorded.dtype == plain.dtype
        torch.testing.assert_close(recorded.detach(), plain, rtol=0, atol=0, equal_nan=True)


def test_jax_and_torch_agree() -> None:
    jax = pytest.importorskip("jax")
    z = np.array(ROWS, np.complex64)
    leaf = torch.tensor(z, requires_grad=True)
    of(leaf).real.sum().backward()

    def value(z: Any) -> Any:
        found = softly.logsumexp(z)
        return jax.numpy.where(jax.numpy.isfinite(found), found, 0).real.sum()

    found = np.conj(jax.grad(value)(jax.numpy.asarray(z)))  # JAX conjugates
    np.testing.assert_allclose(leaf.grad.numpy(), found, rtol=2e-5, atol=1e-6)
