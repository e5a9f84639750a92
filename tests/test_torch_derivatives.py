"""Derivatives of every function in torch: against differences, never NaN, at the limits, in halves."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import mpmath
import numpy as np
import pytest
import semantics

import softly

torch = pytest.importorskip("torch", exc_type=ImportError)

from torch_cases import ALPHAS, FUNCTIONS, MASKS, Function, finite, mask, scores  # noqa: E402

pytestmark = [
    pytest.mark.skipif(semantics.FORCED, reason="told for the default target"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),  # of gradcheck itself
]
gradcheck, gradgradcheck = torch.autograd.gradcheck, torch.autograd.gradgradcheck
HALVES = (torch.float16, torch.bfloat16)
INF, NAN = float("inf"), float("nan")

every = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
_IN_SLOW_TESTS = ("everything possible", "one possible", "nothing possible")
masks = pytest.mark.parametrize(
    "pattern", [pytest.param(name, marks=[pytest.mark.slow] * (name in _IN_SLOW_TESTS)) for name in MASKS]
)


# ---------------------------------------------------------------- against differences


@every
@masks
def test_first_and_second_derivatives_in_scores_and_temperatures(
    function: Function, pattern: str, request: pytest.FixtureRequest
) -> None:
    where, batched = mask(pattern), "segment" not in request.node.callspec.id  # gradcheck's own vmap lacks concat
    arguments = scores().requires_grad_(), torch.tensor([0.9, 1.4, 2.0], dtype=torch.float64, requires_grad=True)

    def of(z: Any, t: Any) -> Any:
        return finite(function(z, where, t))

    assert gradcheck(of, arguments, check_forward_ad=True, check_batched_grad=batched)
    assert gradgradcheck(of, arguments, check_fwd_over_rev=True)


@every
def test_derivatives_at_one_temperature(function: Function) -> None:
    z = scores().requires_grad_()
    for temperature in (1.0, 0.8):
        assert gradcheck(lambda z, t=temperature: finite(function(z, None, t)), (z,), check_forward_ad=True)
        assert gradgradcheck(lambda z, t=temperature: finite(function(z, None, t)), (z,))
    t = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda z, t: finite(function(z, None, t.expand(3))), (z, t))


@pytest.mark.parametrize("alpha", [1.0001, 1.25, 1.5, 2.0, 2.5, 3.0])
@masks
def test_derivatives_in_alpha(alpha: float, pattern: str) -> None:
    where = mask(pattern)
    arguments = scores().requires_grad_(), torch.tensor(alpha, dtype=torch.float64, requires_grad=True)

    def of(z: Any, a: Any) -> Any:
        return softly.entmax(z, alpha=a, where=where, temperature=1.2)

    assert gradcheck(of, arguments, check_forward_ad=True)
    assert gradgradcheck(of, arguments)


def test_the_derivative_in_alpha_at_1_is_the_limit() -> None:
    """p (<p, log^2 p> - log^2 p) / 2, the limit of central differences from above in mpmath."""
    row, cotangent = [0.3, -1.0, 1.5, 0.2], [1.0, -2.0, 0.5, 3.0]
    z = torch.tensor(row, dtype=torch.float64)
    found = []
    for alpha in (1.0, 1 + 1e-12, 1 + 1e-8, 1 + 1e-5):
        a = torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
        softly.entmax(z, alpha=a).backward(torch.tensor(cotangent, dtype=torch.float64))
        found.append(a.grad.item())
    with mpmath.workdps(50):
        p = semantics.exact("softmax", row)
        squares = [mpmath.log(x) ** 2 for x in p]
        mean = mpmath.fdot(p, squares)
        limit = mpmath.fsum(c * x * (mean - s) / 2 for c, x, s in zip(cotangent, p, squares, strict=True))
        step = 2.0**-40
        near = semantics.exact("entmax", row, 1.0, 1 + step)
        difference = mpmath.fsum(c * (b - a) for c, a, b in zip(cotangent, p, near, strict=True)) / step
    assert abs(limit - difference) < 1e-10
    np.testing.assert_allclose(found, float(limit), rtol=1e-4)
    np.testing.assert_allclose(found[:2], float(limit), rtol=1e-11)


# ---------------------------------------------------------------- never NaN


@every
@masks
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALVES], ids=str)
def test_no_gradient_is_nan(function: Function, pattern: str, dtype: Any) -> None:
    """Whatever stands behind the mask, at T down to 0 and up to inf; nothing possible gives 0."""
    where = mask(pattern)
    hidden = torch.zeros(3, 5, dtype=torch.bool) if where is None else ~where
    for behind, t in itertools.product((NAN, INF, -INF, 1e30), (1.0, 0.0, INF, 1e-30)):
        z = torch.where(hidden, behind, scores()).to(dtype).requires_grad_()
        temperature = torch.full((3,), t, dtype=torch.float64, requires_grad=True)
        result = finite(function(z, where, temperature))
        gradients = torch.autograd.grad(result.sum(), (z, temperature))
        assert not any(g.isnan().any() for g in gradients), (behind, t)
        assert not gradients[0][hidden].any()
        assert gradients[0].dtype == dtype


@every
def test_infinite_scores_have_the_gradient_0(function: Function) -> None:
    z = torch.tensor([[INF, 1.0, INF, 0, 0], [-INF] * 5, [0, 1, 2, 3, 4]], dtype=torch.float64, requires_grad=True)
    t = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    for cotangent in (1.0, torch.arange(15.0, dtype=torch.float64).reshape(3, 5)):
        result = finite(function(z, None, t))
        factor = cotangent if result.shape == z.shape else 1.0
        gradients = torch.autograd.grad((result * factor).sum(), (z, t))
        assert not any(g.isnan().any() for g in gradients)
        assert not gradients[0][torch.isinf(z)].any()


@pytest.mark.parametrize("empty", ["zero", "nan", "uniform"])
@pytest.mark.parametrize("name", semantics.FUNCTIONS)
def test_empty_rows_have_the_gradient_0_whatever_they_give(name: str, empty: Any) -> None:
    z = torch.tensor([[-INF, -INF], [1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    result = getattr(softly, name)(z, empty=empty)
    gradient = torch.autograd.grad(result, z, torch.ones_like(result) * torch.arange(1.0, 3.0, dtype=z.dtype))[0]
    assert not gradient[0].any()
    assert not gradient.isnan().any()


@every
def test_nan_stays_in_its_row(function: Function) -> None:
    z = scores()
    z[2, 1] = NAN
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(finite(function(z, None, 1.0)).sum(), z)
    assert not gradient[:2].isnan().any()


# ---------------------------------------------------------------- half precision, memory


IN_TORCH: dict[str, Any] = {
    **{name: functools.partial(getattr(torch, name), dim=-1) for name in ("softmax", "log_softmax", "logsumexp")},
    "sigmoid": torch.sigmoid,
    "log_sigmoid": torch.nn.functional.logsigmoid,
    "cross_entropy": torch.nn.functional.cross_entropy,
    "binary_cross_entropy": torch.nn.functional.binary_cross_entropy_with_logits,
}


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", IN_TORCH)
def test_half_gradients_are_no_worse_than_torchs(name: str, dtype: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    for n, spread in itertools.product((3, 40, 1000, 20000), (1.0, 5.0)):
        z = (torch.randn(8, n, generator=generator) * spread).to(dtype)
        v = torch.randn(8, n, generator=generator).to(dtype)
        rest: dict[str, tuple[Any, ...]] = {
            "cross_entropy": (v.argmax(-1),),
            "binary_cross_entropy": ((v > 0).to(dtype),),
        }

        def gradient(function: Any, z: Any, v: Any = v, rest: Any = rest) -> Any:
            leaf = z.clone().requires_grad_()
            result = function(leaf, *(x.to(z.dtype) if x.is_floating_point() else x for x in rest.get(name, ())))
            cotangent = v.flatten()[: result.numel()].reshape(result.shape).to(z.dtype)
            return torch.autograd.grad(result, leaf, cotangent)[0].double()

        truth = gradient(IN_TORCH[name], z.double())
        mine, theirs = ((gradient(f, z) - truth).abs() for f in (getattr(softly, name), IN_TORCH[name]))
        assert mine.max() <= theirs.max(), (n, spread)
        assert mine.mean() <= theirs.mean(), (n, spread)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sparsemax", "entmax"])
def test_scores_are_not_kept_where_the_result_is_enough(name: str) -> None:
    z, kept = torch.zeros(4, 100, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.data_ptr()) or x, lambda x: x):
        result = getattr(softly, name)(z)
    assert kept == [result.data_ptr()]


@pytest.mark.parametrize("name", ["sigmoid", "log_sigmoid"])
def test_results_are_not_kept_where_the_scores_are_enough(name: str) -> None:
    for options in ({}, {"where": torch.ones(4, 100, dtype=torch.bool)}):
        z, kept = torch.zeros(4, 100, requires_grad=True), []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, kept=kept: kept.append(x.data_ptr()) or x, lambda x: x):
            result = getattr(softly, name)(z, **options)
        assert result.data_ptr() not in kept


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_values_do_not_change_where_a_gradient_is_recorded(function: Function, dtype: Any) -> None:
    for pattern, temperature in itertools.product(MASKS, (1.0, torch.tensor([0.3, 1.0, 7.0], dtype=torch.float64))):
        plain = function(scores(dtype), mask(pattern), temperature)
        recorded = function(scores(dtype).requires_grad_(), mask(pattern), temperature)
        assert torch.equal(plain, recorded.detach())
        assert recorded.requires_grad


def test_a_tensor_of_alpha() -> None:
    z = scores()
    for alpha in ALPHAS:
        assert torch.equal(softly.entmax(z, alpha=torch.tensor(alpha)), softly.entmax(z, alpha=alpha))
    with pytest.raises(ValueError, match=r"alpha=0\.5"):
        softly.entmax(z, alpha=torch.tensor(0.5))
    with pytest.raises(ValueError, match="without axes"):
        softly.entmax(z, alpha=torch.tensor([1.5]))
    with pytest.raises(TypeError, match="alpha"):
        softly.entmax(z.numpy(), alpha=torch.tensor(1.5))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@every
def test_on_a_device(function: Function) -> None:
    z = scores().requires_grad_()
    there = z.detach().cuda().requires_grad_()
    here, found = finite(function(z, None, 1.3)), finite(function(there, None, 1.3))
    assert found.device == there.device
    torch.testing.assert_close(found.cpu(), here)
    torch.testing.assert_close(
        torch.autograd.grad(found.square().sum(), there)[0].cpu(), torch.autograd.grad(here.square().sum(), z)[0]
    )
