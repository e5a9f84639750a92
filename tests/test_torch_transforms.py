"""torch's own transforms: compile, export, vmap, jvp, hessian, autocast; and torch's checks of custom operators."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import semantics

import softly

torch = pytest.importorskip("torch", exc_type=ImportError)

from torch_cases import FUNCTIONS, Function, finite, mask, scores  # noqa: E402

import softly.torch  # noqa: E402

pytestmark = [
    pytest.mark.skipif(semantics.FORCED, reason="told for the default target"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]
every = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)


def temperatures() -> Any:
    return torch.tensor([0.9, 1.4, 2.0], dtype=torch.float64, requires_grad=True)


# ---------------------------------------------------------------- compile, export


@every
@pytest.mark.parametrize(
    "options",
    [
        "plain",
        pytest.param("masked", marks=pytest.mark.slow),
        pytest.param("a temperature a row", marks=pytest.mark.slow),
    ],
)
def test_compiled_as_one_graph(function: Function, options: str) -> None:
    where, t = mask("some") if options == "masked" else None, temperatures() if "row" in options else 1.0
    z, v = scores().requires_grad_(), torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch._dynamo.reset()
    compiled = torch.compile(lambda z: finite(function(z, where, t)), fullgraph=True, backend="aot_eager")
    eager, found = finite(function(z, where, t)), compiled(z)
    assert torch.equal(found, eager)
    inputs = (z, t) if isinstance(t, torch.Tensor) else (z,)
    cotangent = v if eager.shape == v.shape else v.flatten()[: eager.numel()].reshape(eager.shape)
    for a, b in zip(
        torch.autograd.grad(eager, inputs, cotangent), torch.autograd.grad(found, inputs, cotangent), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-14)


def test_compiled_by_inductor_with_other_axes_and_a_learnable_alpha() -> None:
    def model(z: Any, alpha: Any) -> Any:
        return softly.entmax(z, 0, alpha=alpha) + softly.softmax(z, axis=(0, 1)) + softly.log_softmax(z, axis=0)

    torch._dynamo.reset()
    z, alpha = scores().requires_grad_(), torch.tensor(1.4, dtype=torch.float64, requires_grad=True)
    found = torch.compile(model, fullgraph=True)(z, alpha)
    torch.testing.assert_close(found, model(z, alpha), rtol=0, atol=0)
    for a, b in zip(
        torch.autograd.grad(found.square().sum(), (z, alpha)),
        torch.autograd.grad(model(z, alpha).square().sum(), (z, alpha)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_exported_with_any_number_of_rows() -> None:
    class Model(torch.nn.Module):
        def forward(self, z: Any, where: Any) -> Any:
            return softly.softmax(z, where=where) + softly.sparsemax(z, temperature=0.5), softly.logsumexp(z)

    rows = {0: torch.export.Dim("rows")}
    program = torch.export.export(Model(), (scores(), scores() > 0), dynamic_shapes=(rows, rows))
    z = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for found, expected in zip(program.module()(z, z > 0), Model()(z, z > 0), strict=True):
        assert torch.equal(found, expected)
    assert "softly.map" in str(program.graph)


@every
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_traced_programs_compute_and_do_not_remember(function: Function) -> None:
    """A kernel on lent memory left torch.jit.trace with a constant."""
    z = scores()
    program = torch.jit.trace(lambda z: function(z, mask("some"), 1.3), z, check_trace=False)
    torch.testing.assert_close(program(z + z.flip(-1)), function(z + z.flip(-1), mask("some"), 1.3))


def test_importing_softly_torch_makes_the_operators_known() -> None:
    """An exported program may be loaded before any function was called."""
    known = "print(hasattr(torch.ops.softly, 'map'), hasattr(torch.ops.softly, 'signed_sum'))"
    for imported, expected in (("softly.torch", "True True"), ("softly", "False False")):
        done = semantics.python("-c", f"import torch, {imported}; {known}")
        assert done.stdout.strip() == expected, done.stderr


@pytest.mark.parametrize("operation", ["softmax", "log_softmax", "logsumexp", "entmax", "sigmoid", "log_sigmoid"])
@pytest.mark.filterwarnings("ignore")  # opcheck runs in anomaly mode, which warns of itself
def test_opcheck(operation: str) -> None:
    z, t, alpha = scores().requires_grad_(), temperatures(), torch.tensor(1.4, dtype=torch.float64, requires_grad=True)
    operator = torch.ops.softly.map.default
    local = operation in semantics.ELEMENTWISE
    torch.library.opcheck(operator, (z, None, None, None, 0.7, 1.5, operation, "zero"))
    if not local:
        offsets = torch.tensor([0, 2, 5])
        ts = torch.tensor([[0.5, 1.0]] * 3, dtype=torch.float64, requires_grad=True)
        torch.library.opcheck(
            operator, (z, t, alpha if operation == "entmax" else None, None, 1.0, 1.5, operation, "nan")
        )
        torch.library.opcheck(operator, (z, ts, None, offsets, 1.0, 1.5, operation, "zero"))


@pytest.mark.filterwarnings("ignore")
def test_opcheck_of_signed_sums() -> None:
    weights = torch.tensor([[1.0, 0.0, 2.0, -0.1, 1.0]] * 3, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(
        torch.ops.softly.signed_sum.default, (scores().requires_grad_(), weights, temperatures(), 1.0)
    )


# ---------------------------------------------------------------- torch.func


@every
@pytest.mark.parametrize("pattern", ["no mask", "some"])
def test_vmap_is_a_loop(function: Function, pattern: str) -> None:
    where, generator, vmap = mask(pattern), torch.Generator().manual_seed(1), torch.func.vmap
    z = torch.randn(4, 3, 5, dtype=torch.float64, generator=generator)
    t = torch.rand(4, 3, dtype=torch.float64, generator=generator) + 0.5

    def over(z: Any, t: Any = 1.0) -> Any:
        return function(z, where, t)

    assert torch.equal(vmap(over)(z), torch.stack([over(rows) for rows in z]))
    expected = torch.stack([over(rows, temperature) for rows, temperature in zip(z, t, strict=True)])
    assert torch.equal(vmap(over, in_dims=(1, 0))(z.movedim(0, 1), t), expected)
    one = torch.stack([over(z[0], temperature) for temperature in t])
    assert torch.equal(vmap(lambda temperature: over(z[0], temperature))(t), one)


def test_vmap_over_alpha() -> None:
    z, alpha = scores(), torch.tensor([1.0, 1.5, 2.5], dtype=torch.float64)
    found = torch.func.vmap(lambda z, a: softly.entmax(z, alpha=a))(z, alpha)
    assert torch.equal(found, torch.stack([softly.entmax(r, alpha=float(a)) for r, a in zip(z, alpha, strict=True)]))


@every
def test_functional_derivatives_agree(function: Function) -> None:
    from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

    generator = torch.Generator().manual_seed(2)
    weights = torch.randn(15, dtype=torch.float64, generator=generator)

    def loss(z: Any) -> Any:
        result = finite(function(z, None, 1.3))
        return (result.flatten() * weights[: result.numel()]).sum()

    z, v = scores() * 0.3, torch.randn(3, 5, dtype=torch.float64, generator=generator)
    leaf = z.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(leaf), leaf)
    close = {"rtol": 1e-12, "atol": 1e-14}
    torch.testing.assert_close(grad(loss)(z), expected, **close)
    torch.testing.assert_close(jvp(loss, (z,), (v,))[1], (expected * v).sum(), **close)
    second = jacrev(jacrev(loss))(z)
    close["atol"] = max(1e-14, 1e-12 * float(second.abs().max()))
    torch.testing.assert_close(hessian(loss)(z), second, **close)
    torch.testing.assert_close(jacrev(jacfwd(loss))(z), second, **close)
    stacked = torch.stack([z, z * 0.5])
    torch.testing.assert_close(vmap(hessian(loss))(stacked)[0], second, **close)
    torch.testing.assert_close(torch.stack([grad(loss)(x) for x in stacked]), vmap(grad(loss))(stacked), **close)


def test_forward_over_forward_is_refused_not_wrong() -> None:
    """torch keeps no tangent of the tangents of an autograd.Function: the answer would be 0."""
    for function in (softly.softmax, lambda z: softly.logsumexp(z, weights=torch.ones(5, dtype=z.dtype))):
        with pytest.raises(ValueError, match="reverse mode"):
            torch.func.jacfwd(torch.func.jacfwd(function))(scores()[0])


# ---------------------------------------------------------------- autocast, modes


def test_autocast() -> None:
    """A map keeps the dtype that it is given, as an elementwise operation does, and rounds once."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = torch.randn(3, 4, requires_grad=True) @ torch.randn(4, 5)
        assert z.dtype == torch.bfloat16
        for name, function in FUNCTIONS.items():
            result = function(z, None, 1.0)
            assert result.dtype == torch.bfloat16, name
            assert function(z.float(), None, 1.0).dtype == torch.float32, name
        softly.softmax(z).sum().backward()


def test_no_grad_inference_mode_and_detached() -> None:
    z = scores().requires_grad_()
    with torch.no_grad():
        assert not softly.softmax(z).requires_grad
    with torch.inference_mode():
        assert torch.equal(softly.softmax(z), softly.softmax(z.detach()))


@every
def test_layouts_give_the_same_bits(function: Function) -> None:
    """Fortran order, strides, expanded cotangents."""
    z = scores()
    layouts = z, z.T.contiguous().T, z.repeat_interleave(2, dim=1)[:, ::2]
    found = []
    for given, cotangent in itertools.product(layouts, (None, "expanded")):
        leaf = given.detach().requires_grad_()
        result = finite(function(leaf, None, 0.7))
        if cotangent:
            result.sum().backward()
        else:
            result.backward(torch.ones_like(result))
        found.append((result.detach(), leaf.grad))
    for result, gradient in found[1:]:
        assert torch.equal(result, found[0][0])
        assert torch.equal(gradient, found[0][1])
