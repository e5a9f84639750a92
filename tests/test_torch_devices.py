"""Tensors beyond the CPU: no value is read, the core is never called, and the expressions have all derivatives.

The device `meta` holds no numbers: whoever reads one, as a check would that waits for a device, gets an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import semantics

import softly
from softly import _kernels

torch = pytest.importorskip("torch", exc_type=ImportError)

from torch_cases import FUNCTIONS, OTHERS, Function, finite, mask, scores  # noqa: E402

from softly.torch import memory  # noqa: E402

pytestmark = [
    pytest.mark.skipif(semantics.FORCED, reason="told for the default target"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]
every = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)


def refuse(*_: Any) -> None:
    raise AssertionError("a kernel was called")


@pytest.fixture
def on_meta(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All tensors are made on meta, and kernels are not to be called."""
    for table in (_kernels.TABLE, _kernels.AT):
        for key in table:
            monkeypatch.setitem(table, key, refuse)
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


def derivatives(result: Any, z: Any) -> Iterator[Any]:
    """Of first and second order."""
    (gradient,) = torch.autograd.grad(result.sum(), z, create_graph=True)
    yield gradient
    if gradient.requires_grad:
        yield torch.autograd.grad(gradient.sum(), z)[0]


@every
def test_no_map_reads_a_value(function: Function, on_meta: None) -> None:
    for pattern, temperature in (("no mask", 1.3), ("some", 1.0), ("no mask", torch.ones(3, requires_grad=True))):
        z = scores().requires_grad_()
        result = function(z, mask(pattern), temperature)
        assert all(x.device.type == "meta" for x in (result, *derivatives(result, z)))


@pytest.mark.parametrize("function", OTHERS.values(), ids=OTHERS)
def test_no_other_function_reads_a_value(function: Callable[[Any], Any], on_meta: None) -> None:
    z = scores().requires_grad_()
    result = function(z)
    assert all(x.device.type == "meta" for x in (result, *derivatives(result, z)))


def test_what_asks_for_a_value_is_refused(on_meta: None) -> None:
    """Halves and integers are no exception; and reading would be seen."""
    for dtype in (torch.float16, torch.bfloat16, torch.int32):
        assert softly.softmax(torch.ones(2, 3, dtype=dtype)).is_meta
    with pytest.raises(softly.InputError, match='empty="raise" cannot be answered inside a trace or on a device'):
        softly.softmax(scores(), empty="raise")
    with pytest.raises(RuntimeError, match="meta tensors"):
        scores().sum().item()


@every
def test_the_expressions_have_all_derivatives(function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the core, as elsewhere than on the CPU: both orders, both modes, values as the core's."""
    z, t = scores().requires_grad_(), torch.tensor([0.9, 1.4, 2.0], dtype=torch.float64, requires_grad=True)
    expected = finite(function(z, mask("some"), t)).detach()
    monkeypatch.setattr(_kernels, "core", None)
    monkeypatch.setattr(_kernels, "TABLE", {})
    monkeypatch.setattr(_kernels, "AT", {})
    assert memory.lend(z.detach()) is None

    def of(z: Any, t: Any) -> Any:
        return finite(function(z, mask("some"), t))

    torch.testing.assert_close(of(z, t), expected, rtol=1e-13, atol=1e-14)
    assert torch.autograd.gradcheck(of, (z, t), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(of, (z, t))
