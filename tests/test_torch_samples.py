"""torch's own sample inputs for its softmax, log_softmax and logsumexp: values and gradients against float64 truth."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import semantics

import softly

torch = pytest.importorskip("torch", exc_type=ImportError)
pytest.importorskip("expecttest", exc_type=ImportError)
pytestmark = pytest.mark.skipif(semantics.FORCED, reason="told for the default target")

NAMES = ("softmax", "log_softmax", "logsumexp")
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def samples(name: str, dtype: Any) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
    """Input, axis and further options of softly for each sample, those of another dtype of result left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's testing code
        from torch.testing._internal.common_methods_invocations import op_db

        found = [info for info in op_db if info.name == name and info.variant_test_name in ("", "default")]
        drawn = [s for info in found for s in info.sample_inputs("cpu", dtype, requires_grad=False)]
    for sample in drawn:
        options = dict(sample.kwargs)
        axis = sample.args[0] if sample.args else options.pop("dim")
        keepdim = sample.args[1] if len(sample.args) > 1 else options.pop("keepdim", False)
        if options.pop("dtype", None) in (None, dtype) and not options:
            yield sample.input, axis, {"keepdims": keepdim} if name == "logsumexp" else {}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_samples(name: str, dtype: Any) -> None:
    """Within rounding of float64's, and of torch's where torch is: its halves lose more."""
    checked = 0
    for given, axis, options in samples(name, dtype):
        z, wide = given.detach().clone().requires_grad_(), given.detach().double().requires_grad_()
        theirs = {"keepdim": options["keepdims"]} if options else {}
        truth = getattr(torch, name)(wide, axis, **theirs)
        result = getattr(softly, name)(z, axis, **options)
        assert result.dtype == dtype
        eps = torch.finfo(dtype).eps * (50 if dtype == torch.float64 else 1)  # torch's own error, there the truth's
        largest = float(given.double().abs().max()) if given.numel() else 1.0
        close = {"rtol": 2 * eps, "atol": 2 * eps * max(1.0, largest)}
        torch.testing.assert_close(result.double(), truth, **close)
        cotangent = torch.linspace(-1, 1, max(truth.numel(), 1), dtype=torch.float64)[: truth.numel()].reshape(
            truth.shape
        )
        cotangent = cotangent.to(dtype).double()
        (expected,) = torch.autograd.grad(truth, wide, cotangent)
        (gradient,) = torch.autograd.grad(result, z, cotangent.to(dtype))
        torch.testing.assert_close(gradient.double(), expected, rtol=4 * eps, atol=16 * eps)
        checked += 1
    assert checked >= 4
