"""Linear cross-entropy of tensors: against torch's whole scores, in halves, and under torch's own transforms."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import semantics

import softly
from softly.losses import linear_chunks

torch = pytest.importorskip("torch", exc_type=ImportError)

import softly.torch  # noqa: E402

pytestmark = [
    pytest.mark.skipif(semantics.FORCED, reason="told for the default target"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]
N, WIDTH, CLASSES = 37, 6, 23
REDUCTIONS = ("mean", "sum", "none")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 16 rows and blocks of 5 classes, of float64."""
    monkeypatch.setattr(linear_chunks, "SCORES_BYTES", 16 * CLASSES * 8)
    monkeypatch.setattr(linear_chunks, "BLOCK_BYTES", 5 * WIDTH * 8)


def arguments(dtype: Any = None, *, rows: int = N, classes: int = CLASSES, width: int = WIDTH) -> tuple[Any, ...]:
    """hidden, weight, bias, a temperature for each row, and labels of which two are ignored."""
    generator = torch.Generator().manual_seed(0)
    shapes = (rows, width), (classes, width), (classes,)
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    tensors.append(torch.rand(rows, generator=generator, dtype=torch.float64) + 0.5)
    labels = torch.randint(classes, (rows,), generator=generator)
    labels[[3, -1]] = -100
    return *(x.to(dtype or torch.float64).requires_grad_() for x in tensors), labels


def dense(hidden: Any, weight: Any, labels: Any, bias: Any = None, temperature: Any = 1.0, **options: Any) -> Any:
    """torch's loss of the whole scores."""
    t = temperature[:, None] if isinstance(temperature, torch.Tensor) and temperature.ndim else temperature
    scores = torch.nn.functional.linear(hidden, weight, bias) / t
    options = {"weight" if name == "class_weight" else name: value for name, value in options.items()}
    return torch.nn.functional.cross_entropy(scores, labels, **options)


def close(found: Any, truth: Any, **tolerance: float) -> None:
    for x, y in zip(found, truth, strict=True):
        torch.testing.assert_close(x, y, **tolerance or {"rtol": 1e-12, "atol": 1e-13})


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.usefixtures("small_chunks")
def test_value_and_gradients_are_torchs(reduction: str) -> None:
    hidden, weight, bias, temperature, labels = arguments()
    class_weight = torch.rand(CLASSES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for w, smoothing, given in itertools.product((None, class_weight), (0.0, 0.1), range(4)):
        options: dict[str, Any] = {"class_weight": w, "label_smoothing": smoothing, "reduction": reduction}
        options |= {"bias": bias} if given & 1 else {}
        options |= {"temperature": temperature} if given & 2 else {}
        inputs = [hidden, weight, *(options[name] for name in ("bias", "temperature") if name in options)]
        results = []
        for f in (softly.linear_cross_entropy, dense):
            loss = f(hidden, weight, labels, **options)
            cotangent = torch.arange(loss.numel(), dtype=loss.dtype).reshape(loss.shape) - 2.5
            results.append([loss, *torch.autograd.grad(loss, inputs, cotangent)])
        close(*results)


def test_rows_as_on_a_device_are_those_of_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """There the rows of scores are torch's too."""
    hidden, weight, bias, temperature, labels = arguments()
    bias.data[4] = -torch.inf
    module = softly.torch.linear_cross_entropy

    class OnDevice(module.TorchProducts):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.xp = module.array_api

    for smoothing, w in itertools.product((0.0, 0.1), (None, torch.arange(CLASSES))):
        options = {"class_weight": w, "label_smoothing": smoothing, "temperature": temperature}
        results = []
        for products in (module.TorchProducts, OnDevice):
            with monkeypatch.context() as patch:
                patch.setattr(module, "TorchProducts", products)
                loss = softly.linear_cross_entropy(hidden, weight, labels, bias=bias, reduction="sum", **options)
                results.append([loss, *torch.autograd.grad(loss, (hidden, weight, bias, temperature))])
        close(*results)


@pytest.mark.usefixtures("small_chunks")
def test_one_temperature_has_its_gradient() -> None:
    hidden, weight, bias, _, labels = arguments()
    t = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    found = softly.linear_cross_entropy(hidden, weight, labels, bias=bias, temperature=t)
    close(torch.autograd.grad(found, t), torch.autograd.grad(dense(hidden, weight, labels, bias, t), t))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_only_what_needs_a_gradient_gets_one(reduction: str) -> None:
    *inputs, labels = arguments()
    cotangent = torch.ones(N if reduction == "none" else (), dtype=torch.float64)
    for i, x in enumerate(inputs):
        one = [y if y is x else y.detach() for y in inputs]
        results = []
        for f in (softly.linear_cross_entropy, dense):
            hidden, weight, bias, temperature = one
            loss = f(hidden, weight, labels, bias=bias, temperature=temperature, reduction=reduction)
            results.append(torch.autograd.grad(loss, one[i], cotangent))
        close(*results)


def test_without_gradients_only_the_value_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, _, _, labels = arguments()
    asked = []
    run = softly.torch.linear_cross_entropy.run
    monkeypatch.setattr(softly.torch.linear_cross_entropy, "run", lambda *a: asked.append(a[-1] is not None) or run(*a))
    with torch.no_grad():
        loss = softly.linear_cross_entropy(hidden, weight, labels)
    assert not loss.requires_grad
    softly.linear_cross_entropy(hidden.detach(), weight.detach(), labels)
    assert softly.linear_cross_entropy(hidden, weight, labels).requires_grad
    assert asked == [False, False, True]
    close([loss], [dense(hidden, weight, labels).detach()])


def test_backward_may_come_twice_and_add_up() -> None:
    hidden, weight, _, _, labels = arguments()
    (truth,) = torch.autograd.grad(dense(hidden, weight, labels), weight)
    loss = softly.linear_cross_entropy(hidden, weight, labels)
    (3 * loss).backward(retain_graph=True)
    (2 * loss).backward()
    torch.testing.assert_close(weight.grad, 5 * truth)


def test_all_ignored_and_no_rows() -> None:
    hidden, weight, _, _, labels = arguments()
    for rows in (N, 0):
        given = hidden.detach()[:rows].requires_grad_()
        for reduction in REDUCTIONS:
            loss = softly.linear_cross_entropy(given, weight, torch.full_like(labels[:rows], -100), reduction=reduction)
            assert bool(loss.isnan().all()) if reduction == "mean" else not loss.any()
            for gradient in torch.autograd.grad(loss.sum(), (given, weight)):
                assert not gradient.any()
                assert not gradient.isnan().any()


def test_labels_out_of_range_are_refused() -> None:
    hidden, weight, *_, labels = arguments()
    labels[5] = CLASSES
    with pytest.raises(ValueError, match=f"label {CLASSES}"):
        softly.linear_cross_entropy(hidden, weight, labels)


def test_tensors_and_arrays_do_not_mix() -> None:
    hidden, weight, *_, labels = arguments()
    with pytest.raises(TypeError, match="pass NumPy arrays, or tensors"):
        softly.linear_cross_entropy(hidden.detach().numpy(), weight, labels)
    with pytest.raises(TypeError, match="backward"):
        softly.linear_cross_entropy_and_gradients(hidden, weight, labels)


# ---------------------------------------------------------------- precision, memory


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_halves_are_no_worse_than_torchs(dtype: Any) -> None:
    """Against the whole scores of the same numbers in float64; gradients of a scaled loss, as in mixed precision."""
    hidden, weight, *_, labels = arguments(dtype, rows=64, classes=2000, width=48)
    wide = [x.detach().double().requires_grad_() for x in (hidden, weight)]
    truth = [loss := dense(*wide, labels), *torch.autograd.grad(64 * loss, wide)]
    errors = []
    for f in (softly.linear_cross_entropy, dense):
        loss = f(hidden, weight, labels)
        found = [loss, *torch.autograd.grad(64 * loss, (hidden, weight))]
        assert all(x.dtype == dtype for x in found)
        errors.append([(x.double() - y).abs().mean() for x, y in zip(found, truth, strict=True)])
    for ours, torchs in zip(*errors, strict=True):
        assert ours <= torchs


def test_gradients_of_halves_are_scaled_before_they_are_rounded() -> None:
    """Many are below float16's range until the loss is scaled, as mixed precision does."""
    hidden, weight, *_, labels = arguments(torch.float16, rows=64, classes=2000, width=48)
    wide = [x.detach().double().requires_grad_() for x in (hidden, weight)]
    found = torch.autograd.grad(softly.linear_cross_entropy(hidden, weight, labels).float() * 2**14, (hidden, weight))
    truth = torch.autograd.grad(dense(*wide, labels) * 2**14, wide)
    close([x.double() for x in found], truth, rtol=2.0**-11, atol=1e-4)


def test_autocast_gives_float32_and_does_not_round_the_products() -> None:
    hidden, weight, _, _, labels = arguments(torch.float32)
    for given in (hidden, hidden.detach().bfloat16().requires_grad_()):
        truth = dense(given.float(), weight, labels)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = softly.linear_cross_entropy(given, weight, labels)
        assert found.dtype == torch.float32
        close([found], [truth], rtol=1e-6, atol=0)
        gradients = torch.autograd.grad(found, (given, weight))
        assert [g.dtype for g in gradients] == [given.dtype, torch.float32]
        close(gradients[1:], torch.autograd.grad(truth, weight), rtol=1e-5, atol=1e-7)


# ---------------------------------------------------------------- compile, func, second derivatives


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compiled_as_one_graph(reduction: Any) -> None:
    hidden, weight, bias, temperature, labels = arguments()

    def model(h: Any, w: Any, b: Any, t: Any) -> Any:
        return softly.linear_cross_entropy(
            2 * h, w, labels, bias=b, temperature=t, label_smoothing=0.1, reduction=reduction
        ).square()

    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    results = []
    for f in (compiled, model):
        loss = f(hidden, weight, bias, temperature)
        results.append([loss, *torch.autograd.grad(loss.sum(), (hidden, weight, bias, temperature))])
    close(*results)


@pytest.mark.slow
def test_compiled_by_inductor_under_autocast_with_a_wrong_label() -> None:
    """Where no label can be read a wrong one gives NaN in its row."""

    def model(h: Any, w: Any, y: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return softly.linear_cross_entropy(h, w, y, reduction="none")

    hidden, weight, _, _, labels = arguments(torch.float32)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True)
    close([compiled(hidden, weight, labels)], [model(hidden, weight, labels)], rtol=0, atol=0)
    labels[5] = CLASSES
    assert compiled(hidden, weight, labels).isnan().nonzero().tolist() == [[5]]


@pytest.mark.filterwarnings("ignore")  # opcheck runs in anomaly mode, which warns of itself
def test_opcheck() -> None:
    hidden, weight, bias, temperature, labels = arguments()
    dropped, scale = labels < 0, torch.full((N,), 0.1, dtype=torch.float64)
    operator = torch.ops.softly.linear_cross_entropy.default
    inputs = hidden, weight, bias, temperature, labels.clamp(0), dropped
    torch.library.opcheck(operator, (*inputs, scale, None, 1.0, 0.0, [True] * 4))
    torch.library.opcheck(operator, (*inputs, None, None, 1.0, 0.1, [False] * 4))


def test_gradients_of_torch_func() -> None:
    hidden, weight, _, _, labels = arguments()
    found = torch.func.grad(lambda h, w: softly.linear_cross_entropy(h, w, labels), argnums=(0, 1))(
        hidden.detach(), weight.detach()
    )
    close(found, torch.autograd.grad(dense(hidden, weight, labels), (hidden, weight)))


@pytest.fixture
def chunks_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 6 rows by 5 classes with the derivatives' own operations."""
    monkeypatch.setattr(linear_chunks, "SCORES_BYTES", 8 * 5 * 8)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.usefixtures("chunks_of_two")
def test_derivatives_of_both_orders_and_modes(reduction: Any, smoothing: float, weighted: bool) -> None:
    """In hidden, weight, bias and temperature; an ignored row holds NaN, a class has no weight."""
    *inputs, labels = arguments(rows=6, classes=5, width=3)
    options: dict[str, Any] = {"reduction": reduction, "label_smoothing": smoothing}
    if weighted:
        options["class_weight"] = torch.tensor([1.0, 0.0, 2.0, 0.5, 1.0], dtype=torch.float64)

    def function(h: Any, w: Any, b: Any, t: Any) -> Any:
        h = torch.where((labels < 0)[:, None], torch.nan, h)
        return softly.linear_cross_entropy(h, w, labels, bias=b, temperature=t, **options)

    assert torch.autograd.gradcheck(function, inputs, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, inputs, check_fwd_over_rev=True)


@pytest.mark.usefixtures("small_chunks")
def test_second_and_third_derivatives_are_those_of_the_whole_scores() -> None:
    """Also of halves, rounded once, and of classes that are impossible."""
    results = []
    *inputs, labels = arguments()
    inputs[2].data[4] = -torch.inf
    for f in (softly.linear_cross_entropy, softly_dense):
        hidden, weight, bias, temperature = inputs
        loss = f(hidden, weight, labels, bias=bias, temperature=temperature, label_smoothing=0.1)
        first = torch.autograd.grad(loss.square(), inputs, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), inputs, create_graph=True)
        results.append([*first, *second, *torch.autograd.grad(sum(g.square().sum() for g in second), inputs)])
    assert all(g.isfinite().all() for g in results[0])
    close(*results, rtol=1e-9, atol=1e-10)
    hidden, weight, *_, labels = arguments(torch.bfloat16)
    wide = [x.detach().double().requires_grad_() for x in (hidden, weight)]
    penalties = []
    for f, variables in ((softly.linear_cross_entropy, (hidden, weight)), (dense, wide)):
        first = torch.autograd.grad(f(*variables, labels), variables, create_graph=True)
        penalties.append(torch.autograd.grad(sum(g.double().square().sum() for g in first), variables))
    assert penalties[0][0].dtype == torch.bfloat16
    close([g.double() for g in penalties[0]], penalties[1], rtol=0.02, atol=1e-4)


def softly_dense(hidden: Any, weight: Any, labels: Any, *, bias: Any, **options: Any) -> Any:
    return softly.cross_entropy(torch.nn.functional.linear(hidden, weight, bias), labels, **options)


TRANSFORMS: dict[str, Any] = {
    "jvp": lambda f, w: torch.func.jvp(f, (w,), (w,)),
    "vmap": lambda f, w: torch.vmap(f)(torch.stack([w, 2 * w])),
    "vmap of grad": lambda f, w: torch.vmap(torch.func.grad(lambda w: f(w).sum()))(torch.stack([w, 2 * w])),
    "jacrev": lambda f, w: torch.func.jacrev(f)(w),
    "jacfwd": lambda f, w: torch.func.jacfwd(f)(w),
    "hessian": lambda f, w: torch.func.hessian(f)(w),
    "reverse over reverse": lambda f, w: torch.func.jacrev(torch.func.jacrev(f))(w),
    "reverse over forward": lambda f, w: torch.func.jacrev(torch.func.jacfwd(f))(w),
    "autograd over grad": lambda f, w: torch.autograd.grad(
        torch.func.grad(lambda w: f(w).sum())(w.requires_grad_()).square().sum(), w
    ),
    "autograd over jacrev": lambda f, w: torch.autograd.grad(torch.func.jacrev(f)(w.requires_grad_()).sin().sum(), w),
    "many cotangents": lambda f, w: torch.autograd.functional.jacobian(f, w, vectorize=True),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.usefixtures("chunks_of_two")
def test_transforms_of_torch_func(transform: str, reduction: Any) -> None:
    hidden, weight, _, _, labels = arguments(rows=6, classes=5, width=3)
    results = []
    for f in (softly.linear_cross_entropy, dense):

        def function(w: Any, f: Any = f) -> Any:
            return f(hidden.detach(), w, labels, reduction=reduction)

        found = TRANSFORMS[transform](function, weight.detach())
        results.append(found if isinstance(found, tuple) else (found,))
    close(*results, rtol=1e-10, atol=1e-12)


def test_no_derivative_but_those_of_transforms_keeps_the_scores() -> None:
    """What autograd saves, in both of its orders, is of the size of the arguments."""
    hidden, weight, bias, temperature, labels = arguments(rows=4 * N)
    saved: list[int] = []

    def keep(x: Any) -> Any:
        saved.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss = softly.linear_cross_entropy(hidden, weight, labels, bias=bias, temperature=temperature)
        gradients = torch.autograd.grad(loss, (hidden, weight, bias, temperature), create_graph=True)
    assert 0 < max(saved) == hidden.numel() < 4 * N * CLASSES
    sum(g.square().sum() for g in gradients).backward()
    assert all(x.grad.isfinite().all() for x in (hidden, weight, bias, temperature))
