"""Functions of tensors beside the maps: losses, products with the Jacobian, averages, under all that torch has."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import semantics

import softly

torch = pytest.importorskip("torch", exc_type=ImportError)

from torch_cases import FUNCTIONS, OTHERS, scores  # noqa: E402

pytestmark = [
    pytest.mark.skipif(semantics.FORCED, reason="told for the default target"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]
Function = Callable[[Any], Any]
every = pytest.mark.parametrize("function", OTHERS.values(), ids=OTHERS)


@every
def test_derivatives_of_both_orders_and_modes(function: Function) -> None:
    z = scores().requires_grad_()
    assert torch.autograd.gradcheck(function, (z,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, (z,), check_fwd_over_rev=True)


@every
def test_compiled_and_exported_as_one_graph(function: Function) -> None:
    """torch.compile met NumPy's errstate in the products with the Jacobian."""

    class Model(torch.nn.Module):
        def forward(self, z: Any) -> Any:
            return function(z)

    z = scores().requires_grad_()
    torch._dynamo.reset()
    found, expected = torch.compile(function, fullgraph=True, backend="aot_eager")(z), function(z)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-14)
    gradients = (torch.autograd.grad(result.square().sum(), z)[0] for result in (found, expected))
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-13)
    program = torch.export.export(Model(), (scores(),)).module()
    torch.testing.assert_close(program(scores() * 0.5), function(scores() * 0.5), rtol=1e-13, atol=1e-14)


@every
def test_vmap_is_a_loop_and_hessians_are_second_derivatives(function: Function) -> None:
    stacked = torch.stack([scores(), scores() * 0.5])
    found = torch.func.vmap(function)(stacked)
    torch.testing.assert_close(found, torch.stack([function(z) for z in stacked]), rtol=1e-12, atol=1e-14)

    def loss(z: Any) -> Any:
        return function(z).square().sum()

    forward, reverse = torch.func.hessian(loss)(scores()), torch.func.jacrev(torch.func.jacrev(loss))(scores())
    torch.testing.assert_close(forward, reverse, rtol=1e-9, atol=1e-11)


MAPS = {name: functools.partial(lambda f, z: f(z, None, 1.3), function) for name, function in FUNCTIONS.items()}


@pytest.mark.parametrize("function", [*OTHERS.values(), *MAPS.values()], ids=[*OTHERS, *MAPS])
@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_of_many_cotangents_at_once(function: Function, create_graph: bool) -> None:
    """is_grads_batched: losses scaled a finished gradient in its own memory, attention copied the batch's."""
    z = scores().requires_grad_()
    cotangents = torch.randn(4, *function(z).shape, dtype=z.dtype, generator=torch.Generator().manual_seed(0))
    options = {"create_graph": create_graph, "retain_graph": create_graph}
    (found,) = torch.autograd.grad(function(z), z, cotangents, is_grads_batched=True, **options)
    expected = torch.stack([torch.autograd.grad(function(z), z, v)[0] for v in cotangents])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_halves_are_computed_wider_gradients_too(function: Function, dtype: Any) -> None:
    """Value and gradient are what float64 gives at the same scores, but for what other arguments lose in the dtype."""
    z = scores().to(dtype).requires_grad_()
    wide = z.detach().double().requires_grad_()
    found, expected = function(z), function(wide)
    assert found.dtype == (torch.float32 if function is OTHERS["attention_statistics"] else dtype)
    close = {"rtol": 4 * torch.finfo(dtype).eps, "atol": 4 * torch.finfo(dtype).eps}
    torch.testing.assert_close(found.double(), expected, **close)
    gradients = (torch.autograd.grad(result.sum(), x)[0] for result, x in ((found, z), (expected, wide)))
    torch.testing.assert_close(*(g.double() for g in gradients), **close)


@every
def test_autocast_changes_nothing(function: Function) -> None:
    z = scores().float()
    expected = function(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = function(z)
    assert torch.equal(found, expected)


def test_compiled_noise_is_drawn_at_each_call() -> None:
    """Noise of NumPy's would have been a constant of the program."""
    torch._dynamo.reset()
    program = torch.compile(lambda z: softly.gumbel_softmax(z, hard=True), fullgraph=True, backend="aot_eager")
    z = torch.log(torch.tensor([[0.7, 0.2, 0.1]]).expand(4000, 3))
    torch.manual_seed(0)
    draws = [program(z) for _ in range(2)]
    assert not torch.equal(*draws)
    for one_hot in draws:
        torch.testing.assert_close(one_hot.mean(0), torch.tensor([0.7, 0.2, 0.1]), atol=0.03, rtol=0)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="seed must be None"):
        torch.compile(lambda z: softly.gumbel_softmax(z, seed=1), fullgraph=True, backend="aot_eager")(z)
