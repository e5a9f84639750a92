"""Losses in torch: torch's own sample inputs, derivatives against differences, transforms, compile; never NaN."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import semantics

import softly

torch = pytest.importorskip("torch", exc_type=ImportError)
pytestmark = [
    pytest.mark.skipif(semantics.FORCED, reason="told for the default target"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),  # of gradcheck itself
]
NAN, INF = float("nan"), float("inf")
LABELS = torch.tensor([0, 3, -100, 1])
SOFT = torch.tensor([[0.25, 0.5, 0.25, 0, 0], [0, 0, 0, 1, 0], [0.5, 0.5, 0.5, 0, 0], [0, 0, 0, 0, 0]])
WEIGHT = torch.tensor([1.0, 0.5, 2.0, 0.0, 1.5], dtype=torch.float64)


def scores() -> Any:
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


LOSSES: dict[str, Any] = {
    "labels": lambda z, t: softly.cross_entropy(z, LABELS, temperature=t),
    "labels, weights, smoothing": lambda z, t: softly.cross_entropy(
        z, LABELS, temperature=t, class_weight=WEIGHT, label_smoothing=0.1
    ),
    "soft targets": lambda z, t: softly.cross_entropy(z, SOFT, temperature=t, reduction="sum"),
    "the gradient": lambda z, t: softly.cross_entropy_and_gradient(z, LABELS, temperature=t)[1],
    "binary": lambda z, t: softly.binary_cross_entropy(
        z, SOFT, temperature=t[:, None] if isinstance(t, torch.Tensor) and t.ndim else t, class_weight=WEIGHT
    ),
    **{
        f"Fenchel-Young {alpha}": lambda z, t, alpha=alpha: softly.fenchel_young_loss(
            z, LABELS, alpha=alpha, temperature=t, reduction="none"
        )
        for alpha in (1.0, 1.5, 2.0, 3.0)
    },
    "Fenchel-Young, soft": lambda z, t: softly.fenchel_young_loss(z, SOFT, temperature=t),
}
every = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


# ---------------------------------------------------------------- torch's own samples


def samples(name: str, dtype: Any) -> list[Any]:
    pytest.importorskip("expecttest", exc_type=ImportError)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's testing code
        from torch.testing._internal.common_methods_invocations import op_db

        (info,) = (info for info in op_db if info.name == name)
        return list(info.sample_inputs("cpu", dtype, requires_grad=False))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_torchs_samples_of_cross_entropy(dtype: Any) -> None:
    """Its classes lie along axis 1, or 0 of a single row: all its samples, values and gradients."""
    checked = soft = 0
    for sample in samples("nn.functional.cross_entropy", dtype):
        options, (target,) = dict(sample.kwargs), sample.args
        if "weight" in options:  # torch draws negative ones, which softly refuses
            options["weight"] = options["weight"].abs()
        z, wide = (sample.input.detach().clone().to(kind).requires_grad_() for kind in (dtype, torch.float64))
        truth_options = options | {"weight": options["weight"].double()} if "weight" in options else options
        truth = torch.nn.functional.cross_entropy(
            wide, target.double() if target.is_floating_point() else target, **truth_options
        )
        if "weight" in options:
            options["class_weight"] = options.pop("weight")
        result = softly.cross_entropy(z, target, min(1, z.ndim - 1), **options)
        assert result.dtype == dtype
        eps = torch.finfo(dtype).eps
        torch.testing.assert_close(result.double(), truth, rtol=16 * eps, atol=16 * eps, equal_nan=True)
        found, expected = (torch.autograd.grad(r.sum(), x)[0] for r, x in ((result, z), (truth, wide)))
        expected = torch.where(truth.isnan().any(), 0.0, expected)  # the mean of nothing: ours is 0, torch's NaN
        torch.testing.assert_close(found.double(), expected, rtol=16 * eps, atol=16 * eps)
        checked += 1
        soft += target.is_floating_point()
    assert checked > 20
    assert soft > 4


def test_torchs_samples_of_binary_cross_entropy() -> None:
    checked = 0
    for sample in samples("nn.functional.binary_cross_entropy_with_logits", torch.float64):
        options, target = (
            dict(sample.kwargs),
            sample.args[0].sigmoid(),
        )  # torch draws targets and weights from all reals
        options |= {key: options[key].abs() for key in ("weight", "pos_weight") if options.get(key) is not None}
        z, wide = (sample.input.detach().clone().requires_grad_() for _ in range(2))
        truth = torch.nn.functional.binary_cross_entropy_with_logits(wide, target, **options)
        if "weight" in options:
            options["class_weight"] = options.pop("weight")
        result = softly.binary_cross_entropy(z, target, **options)
        torch.testing.assert_close(result, truth, rtol=1e-14, atol=1e-15)
        pair = (torch.autograd.grad(r.sum(), x)[0] for r, x in ((result, z), (truth, wide)))
        torch.testing.assert_close(*pair, rtol=1e-13, atol=1e-15)
        checked += 1
    assert checked > 3


# ---------------------------------------------------------------- derivatives


@every
def test_derivatives_of_first_and_second_order(loss: Any) -> None:
    """In scores and temperature, reverse and forward, against differences."""
    z, t = scores().requires_grad_(), torch.tensor([0.5, 1.0, 2.0, 1.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (z, t), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(loss, (z, t))


def test_a_soft_target_has_a_derivative() -> None:
    z, target = scores().requires_grad_(), SOFT.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z, t: softly.cross_entropy(z, t.abs()), (z, target + 0.125))


@every
def test_nothing_behind_a_mask_or_in_an_ignored_row_gives_nan(loss: Any) -> None:
    for spoilt in (NAN, INF, -INF):
        for temperature in (1.0, 0.0, INF):
            z = scores()
            z[2] = spoilt
            z[0, 4] = -INF
            z.requires_grad_()
            if loss is LOSSES["soft targets"] or loss is LOSSES["Fenchel-Young, soft"] or loss is LOSSES["binary"]:
                z = torch.where(torch.arange(4)[:, None] == 2, 0.0, z)  # no row of theirs is ignored
            leaf = z if z.is_leaf else z.detach().requires_grad_()
            t = torch.full((4,), temperature, dtype=torch.float64, requires_grad=True)
            for gradient in torch.autograd.grad(loss(leaf, t).sum(), (leaf, t)):
                assert gradient.isfinite().all(), (spoilt, temperature)


def test_masked_classes_have_no_gradient() -> None:
    z = scores()
    z[:, 2] = NAN
    where = torch.tensor([True, True, False, True, True])
    for name in ("cross_entropy", "fenchel_young_loss"):
        leaf = z.clone().requires_grad_()
        loss = getattr(softly, name)(leaf, LABELS, where=where)
        (gradient,) = torch.autograd.grad(loss, leaf)
        kept = z[:, where].requires_grad_()
        expected = getattr(softly, name)(kept, torch.tensor([0, 2, -100, 1]))
        torch.testing.assert_close(loss, expected, rtol=1e-14, atol=0)
        torch.testing.assert_close(gradient[:, where], torch.autograd.grad(expected, kept)[0])
        assert (gradient[:, 2] == 0).all()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_mean_of_nothing_has_the_gradient_0(reduction: Any) -> None:
    for name in ("cross_entropy", "fenchel_young_loss"):
        z = scores().requires_grad_()
        loss = getattr(softly, name)(z, torch.full((4,), -100), reduction=reduction)
        assert loss.isnan().all() == (reduction == "mean")
        (gradient,) = torch.autograd.grad(loss.sum(), z)
        assert (gradient == 0).all()


# ---------------------------------------------------------------- transforms


@every
def test_vmap_and_func_grad(loss: Any) -> None:
    """vmap over a further axis is one call for each; func.grad is autograd's; a Hessian is symmetric."""
    batch = torch.stack([scores(), 2 * scores()])
    mapped = torch.func.vmap(lambda z: loss(z, 1.0))(batch)
    torch.testing.assert_close(mapped, torch.stack([loss(z, 1.0) for z in batch]), rtol=1e-14, atol=1e-14)
    z = scores().requires_grad_()
    found = torch.func.grad(lambda z: loss(z, 1.0).sum())(z.detach())
    torch.testing.assert_close(found, torch.autograd.grad(loss(z, 1.0).sum(), z)[0], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    "name",
    ["labels", "Fenchel-Young 1.5"] + [pytest.param(n, marks=pytest.mark.slow) for n in ("binary", "soft targets")],
)
def test_compiled_in_one_graph(name: str) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda z: LOSSES[name](z, 0.5).sum(), fullgraph=True, backend="aot_eager")
    pair = []
    for call in (compiled, lambda z: LOSSES[name](z, 0.5).sum()):
        z = scores().requires_grad_()
        value = call(z)
        pair.append([value.detach(), *torch.autograd.grad(value, z)])
    torch.testing.assert_close(pair[0], pair[1], rtol=1e-13, atol=1e-15)


def test_a_label_that_cannot_be_read_gives_nan_in_its_row() -> None:
    def losses(labels: Any) -> Any:
        return softly.cross_entropy(z, labels, reduction="none")

    z, batch = scores(), torch.tensor([[0, 7, -100, 1]])
    (found,) = torch.func.vmap(losses)(batch)
    assert found.isnan().tolist() == [False, True, False, False]


def test_the_same_bits_as_numpy() -> None:
    rng = np.random.default_rng(0)
    z, labels = rng.standard_normal((1003, 7)), rng.integers(7, size=1003)
    soft = rng.dirichlet(np.ones(7), size=1003)
    for kind in (np.float32, np.float64):
        at, target = z.astype(kind), soft.astype(kind)
        for reduction in ("none", "sum", "mean"):
            for name in ("cross_entropy", "fenchel_young_loss"):
                ours = getattr(softly, name)(at, labels, reduction=reduction)
                theirs = getattr(softly, name)(torch.tensor(at), torch.tensor(labels), reduction=reduction)
                if name == "cross_entropy":
                    np.testing.assert_array_equal(theirs.numpy(), ours)
                else:
                    np.testing.assert_allclose(theirs.numpy(), ours, rtol=16 * np.finfo(kind).eps)
            weighed = softly.cross_entropy(at, target, reduction=reduction, label_smoothing=0.1)
            there = softly.cross_entropy(
                torch.tensor(at), torch.tensor(target), reduction=reduction, label_smoothing=0.1
            )
            np.testing.assert_allclose(there.numpy(), weighed, rtol=4 * np.finfo(kind).eps)
