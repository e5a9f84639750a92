"""Plain calls on plain tensors go by address, with the bits of NumPy's way; everything else goes the general way."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_paths import same

import softly
from softly import _kernels

torch = pytest.importorskip("torch", exc_type=ImportError)

from softly.torch import direct, operators  # noqa: E402

pytestmark = pytest.mark.skipif(_kernels.core is None, reason="no compiled core")

INF, NAN = float("inf"), float("nan")
FLOATS = (torch.float32, torch.float64)
HALVES = (torch.float16, torch.bfloat16)
NAMES = ("softmax", "log_softmax", "logsumexp", "sparsemax", "entmax", "sigmoid", "log_sigmoid")
MAPS: dict[str, Callable[..., Any]] = {
    **{name: getattr(softly, name) for name in NAMES},
    "entmax at 1.25": lambda z, **options: softly.entmax(z, alpha=1.25, **options),
}
every = pytest.mark.parametrize("name", MAPS)


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """A list that grows by (kernel, address of what it reads) with every call by address."""
    calls: list[tuple[str, int]] = []

    def watched(name: str, kernel: Any) -> Any:
        return lambda *arguments: calls.append((name, arguments[0])) or kernel(*arguments)  # type: ignore[func-returns-value]

    for name, kernel in _kernels.AT.items():
        monkeypatch.setitem(_kernels.AT, name, watched(name, kernel))
    return calls


def drawn(shape: tuple[int, ...], dtype: Any, spread: float = 3.0) -> Any:
    generator = torch.Generator().manual_seed(len(shape))
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * spread).to(dtype)


def special(dtype: Any) -> Any:
    """Rows of everything that has rules of its own."""
    rows = [[INF, 1, INF, 0], [-INF] * 4, [NAN, 0, 1, 2], [1, -INF, 1, 0], [INF, 0, -INF, 1], [88, 0, -30, 1], [0] * 4]
    return torch.tensor(rows, dtype=dtype)


def inputs(dtype: Any) -> list[Any]:
    shapes = (1,), (3, 1), (64, 10), (2, 3, 70), (5, 1000), (1, 1 << 15)
    return [*(drawn(shape, dtype) for shape in shapes), special(dtype), drawn((9, 4), dtype)[1:, :]]


@every
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES], ids=str)
def test_values_go_by_address_and_have_numpys_bits(name: str, dtype: Any, addresses: Any) -> None:
    for z, t in itertools.product(inputs(dtype), (1.0, 0.3)):
        addresses.clear()
        found = MAPS[name](z, temperature=t)
        if dtype in FLOATS or not name.startswith(("entmax", "sparsemax")):
            assert [address for _, address in addresses] == [z.data_ptr()]
        if dtype is torch.bfloat16:
            expected = torch.from_numpy(np.asarray(MAPS[name](z.float().numpy(), temperature=t))).to(dtype).float()
        else:
            expected = MAPS[name](z.numpy(), temperature=t)
        assert found.dtype == z.dtype
        assert same(found.float() if dtype is torch.bfloat16 else found, expected)


@every
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_gradients_go_by_address_and_have_the_bits_of_the_general_way(name: str, dtype: Any, addresses: Any) -> None:
    for z, t in itertools.product(inputs(dtype), (1.0, 0.3)):
        leaf = z.clone().requires_grad_()
        addresses.clear()
        result = MAPS[name](leaf, temperature=t)
        v = torch.randn(result.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64).to(dtype)
        (found,) = torch.autograd.grad(result, leaf, v, retain_graph=True)
        moves = not torch.isinf(z).any()  # rows at infinity go the general way
        assert len(addresses) == 2 or not moves
        assert addresses[0][1] == leaf.data_ptr()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(direct, "run", lambda *_: None)
            general = MAPS[name](leaf, temperature=t)
            assert same(general.detach(), result.detach())
            assert same(found, torch.autograd.grad(general, leaf, v, retain_graph=True)[0])
        assert same(torch.autograd.grad(result.sum(), leaf)[0], torch.autograd.grad(general.sum(), leaf)[0])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_large_results_and_gradients_are_written_where_dropped_ones_were(
    dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fresh pages cost more than a softmax; the bits and the layout are those of small tensors."""
    asked: list[int] = []
    new = _kernels.empty_like
    monkeypatch.setattr(_kernels, "empty_like", lambda x: asked.append(x.nbytes) or new(x))  # type: ignore[func-returns-value]
    z = drawn((300, 1000), dtype).requires_grad_()
    for name in ("softmax", "sparsemax", "sigmoid"):
        asked.clear()
        result = MAPS[name](z)
        (gradient,) = torch.autograd.grad(result.square().sum(), z)
        assert asked == [z.nbytes] * 2
        part = z[:7].detach().requires_grad_()
        small = MAPS[name](part)
        assert torch.equal(result[:7], small)
        assert torch.equal(gradient[:7], torch.autograd.grad(small.square().sum(), part)[0])
        assert len(asked) == 2
        assert result.is_contiguous()
        result.detach().add_(1)  # memory as any other


class Own(torch.Tensor):
    """A sub-class."""


def _dual(z: Any) -> Any:
    with torch.autograd.forward_ad.dual_level():
        return softly.softmax(torch.autograd.forward_ad.make_dual(z, torch.ones_like(z)))


def _under_a_mode(z: Any) -> Any:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return function(*args, **(kwargs or {}))

    with Mode():
        return softly.softmax(z)


def _with_a_gradient(z: Any, **options: Any) -> Any:
    return softly.softmax(z.clone().requires_grad_(), **options).detach()


NOT_PLAIN: dict[str, Callable[[Any], Any]] = {
    "a sub-class": lambda z: softly.softmax(z.as_subclass(Own)),
    "a parameter": lambda z: softly.softmax(torch.nn.Parameter(z)),
    "not contiguous": lambda z: softly.softmax(z.T.contiguous().T),
    "a lazy sign": lambda z: softly.softmax(torch.complex(z, -z).conj().imag),
    "another axis": lambda z: softly.softmax(z.T.contiguous(), 0).T,
    "a mask": lambda z: softly.softmax(z, where=torch.ones_like(z, dtype=torch.bool)),
    "a temperature a row": lambda z: softly.softmax(z, temperature=torch.ones(len(z), dtype=z.dtype)),
    "an integer temperature": lambda z: softly.softmax(z, temperature=1),
    "vmap": lambda z: torch.func.vmap(softly.softmax)(z),
    "jvp": lambda z: torch.func.jvp(softly.softmax, (z,), (z,))[0],
    "forward mode": lambda z: torch.autograd.forward_ad.unpack_dual(_dual(z)).primal,
    "a dispatch mode": _under_a_mode,
    "compile": lambda z: torch.compile(softly.softmax, backend="eager", fullgraph=True)(z),
    "trace": lambda z: torch.jit.trace(softly.softmax, torch.zeros_like(z), check_trace=False)(z),
    "a gradient at T = inf": lambda z: _with_a_gradient(z, temperature=INF) * 0 + softly.softmax(z.T.T),
}


@pytest.mark.parametrize("call", NOT_PLAIN.values(), ids=NOT_PLAIN)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_not_plain_goes_the_general_way(call: Any, addresses: Any) -> None:
    z = drawn((4, 4), torch.float64)
    expected = softly.softmax(z)
    addresses.clear()
    torch._dynamo.reset()
    torch.testing.assert_close(call(z).as_subclass(torch.Tensor), expected, rtol=1e-15, atol=0)  # expressions at times
    assert not addresses or call is NOT_PLAIN["a gradient at T = inf"]


def test_bad_memory_is_read_by_nobody(addresses: Any) -> None:
    """Misaligned, without entries, without memory, of another kind: the general way answers, or torch does."""
    bytes_of = drawn((4, 4), torch.float64).numpy().tobytes()
    shifted = torch.frombuffer(bytearray(b"x" + bytes_of), dtype=torch.float64, offset=1).reshape(4, 4)
    assert torch.equal(softly.softmax(shifted), softly.softmax(drawn((4, 4), torch.float64)))
    addresses.clear()
    for z in (torch.zeros(0, 3), torch.zeros(3, 0), torch.tensor(2.0), torch.zeros(2, 3, device="meta")):
        softly.softmax(z)
    with pytest.raises((RuntimeError, NotImplementedError)):
        softly.softmax(torch.zeros(2, 3).to_sparse())
    assert not addresses


def test_second_derivatives_and_batched_gradients_go_the_general_way(addresses: Any) -> None:
    z = drawn((3, 5), torch.float64).requires_grad_()
    for name, function in MAPS.items():
        result = function(z)
        addresses.clear()
        (gradient,) = torch.autograd.grad(result.square().sum(), z, create_graph=True)
        assert torch.autograd.grad(
            result, z, torch.ones(2, *result.shape, dtype=z.dtype), is_grads_batched=True, retain_graph=True
        )
        assert not any("product" in kernel for kernel, _ in addresses), name
        gradient.square().sum().backward()


def test_a_result_changed_in_place_is_an_error_of_torchs() -> None:
    z = drawn((3, 5), torch.float32).requires_grad_()
    result = softly.softmax(z)
    result.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.sum().backward()


def test_a_saved_result_that_comes_back_otherwise_is_taken_as_it_is(addresses: Any) -> None:
    """Hooks may hand back another layout."""
    z = drawn((3, 5), torch.float32).requires_grad_()
    for name in ("softmax", "logsumexp", "sigmoid"):
        with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x.T.contiguous().T if x.ndim == 2 else x):
            result = MAPS[name](z)
        addresses.clear()
        (found,) = torch.autograd.grad(result.square().sum(), z)
        theirs = torch.sigmoid(z) if name == "sigmoid" else getattr(torch, name)(z, -1)
        torch.testing.assert_close(found, torch.autograd.grad(theirs.square().sum(), z)[0])
        assert z.data_ptr() not in {address for _, address in addresses}


def test_bad_arguments_of_kernels_by_address_are_errors_not_crashes() -> None:
    z = drawn((2, 3), torch.float32)
    at = z.data_ptr()
    for arguments in (
        (),
        (at, at, 2, 3, 0, 1.0, 1.0),
        (0, at, 2, 3, 0, 1.0, 1.0, None),
        (at, 0, 2, 3, 0, 1.0, 1.0, None),
        (at, at, 0, 3, 0, 1.0, 1.0, None),
        (at, at, 2, -3, 0, 1.0, 1.0, None),
        (at, at, 2, 3, 4, 1.0, 1.0, None),
        (at, at, 2, 3, 0, NAN, 1.0, None),
        (at, at, 2, 3, 0, -1.0, 1.0, None),
        (at, at, 2, 3, 0, "1", 1.0, None),
        (at, at, 2, 3, 0, 1.0, 1.0, "none"),
        ("at", at, 2, 3, 0, 1.0, 1.0, None),
    ):
        with pytest.raises((TypeError, ValueError)):
            _kernels.AT["softmax"](*arguments)
    with pytest.raises(TypeError):
        _kernels.AT["entmax"](at, at, 2, 3, 2, 1.0, 1.5, None)
    for vector in (0, None):
        with pytest.raises((TypeError, ValueError)):
            _kernels.AT["jacobian_product"](at, at, 2, 3, 0, 1.0, 1.0, vector)


def test_the_general_way_sees_the_memory_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "softmax", "cpu", np.dtype(np.float32)
    kernel, seen = _kernels.TABLE[key], []
    monkeypatch.setitem(_kernels.TABLE, key, lambda z, *rest: seen.append(z.ctypes.data) or kernel(z, *rest))
    z = drawn((4, 6), torch.float32).requires_grad_()
    operators.run("softmax", z, 1.0, 1.0, None, "zero")
    operators.run("softmax", z.detach(), 1.0, 1.0, None, "zero")
    assert seen == [z.data_ptr()] * 2


def test_which_says_what_runs_on_tensors() -> None:
    core = f"compiled core, {_kernels.core.active_target()}, {_kernels.core.threads()} threads"
    for dtype in (*FLOATS, *HALVES, torch.int32, torch.bool):
        for operation in ("softmax", "entmax", "sigmoid"):
            assert softly.which(operation, torch.ones(2, 3, dtype=dtype)).endswith(core)
    for scores in (torch.ones(2, 3, device="meta"), torch.ones(2, 0), torch.tensor(1.0)):
        assert softly.which("softmax", scores) == "softmax torch.float32: array expression"
    assert softly.which("softmax", torch.ones(2, 3)) == f"softmax torch.float32: {core}"
