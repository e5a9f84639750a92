"""softly.torch: modules with a state, mixtures of operations, attention for transformers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import semantics

import softly

torch = pytest.importorskip("torch", exc_type=ImportError)

import softly.torch as modules  # noqa: E402

pytestmark = pytest.mark.skipif(semantics.FORCED, reason="told for the default target")


# ---------------------------------------------------------------- temperature, alpha


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_fitted_temperature_is_that_of_the_calibrator(dtype: Any, usps: Any) -> None:
    logits, labels = usps
    module = modules.Temperature(dtype=dtype)
    fitted = module.fit(torch.from_numpy(logits.astype(np.float32)), torch.from_numpy(labels.astype(np.int64)))
    expected = softly.fit_calibrator(logits, labels)
    assert fitted.temperature == pytest.approx(expected.temperature, rel=1e-12)
    assert module.temperature.item() == pytest.approx(expected.temperature, rel=4 * torch.finfo(dtype).eps)
    scores = torch.from_numpy(logits[:50].astype(np.float64))
    found = softly.softmax(module(scores)).detach().numpy()
    np.testing.assert_allclose(found, expected.apply(logits[:50].astype(np.float64)), rtol=1e-5)


def test_a_temperature_can_be_learned() -> None:
    """The likelihood's optimum by gradient descent is the calibrator's."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(500, 4, dtype=torch.float64, generator=generator) * 3
    labels = torch.multinomial(torch.softmax(scores / 2.5, -1), 1, generator=generator)[:, 0]
    module = modules.Temperature(dtype=torch.float64)
    optimiser = torch.optim.LBFGS(module.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> Any:
        optimiser.zero_grad()
        value = -softly.log_softmax(module(scores))[torch.arange(500), labels].mean()
        value.backward()
        return value

    optimiser.step(loss)
    assert module.temperature.item() == pytest.approx(softly.fit_calibrator(scores, labels).temperature, rel=1e-4)


@pytest.mark.parametrize("alpha", [1.01, 1.5, 2.0, 30.0])
def test_entmax_begins_at_its_alpha_and_stays_in_the_family(alpha: float) -> None:
    module = modules.Entmax(alpha=alpha, dtype=torch.float64)
    assert module.alpha.item() == pytest.approx(alpha, rel=1e-14)
    z = torch.tensor([[2.0, 1.0, -1.0], [0.3, 0.2, 0.1]], dtype=torch.float64, requires_grad=True)
    where = torch.tensor([True, False, True])
    expected = softly.entmax(z, alpha=module.alpha.item(), where=where, temperature=2.0)
    torch.testing.assert_close(module(z, where=where, temperature=2.0), expected)
    optimiser = torch.optim.SGD(module.parameters(), lr=1e3)
    for _ in range(5):
        optimiser.zero_grad()
        module(z)[1].max().backward()  # falls as alpha does
        optimiser.step()
    assert 1 <= module.alpha.item() < alpha


@pytest.mark.parametrize("number", [0.0, -1.0, math.inf, math.nan])
def test_numbers_that_cannot_be_learned(number: float) -> None:
    with pytest.raises(ValueError, match=f"temperature={number}"):
        modules.Temperature(number)
    with pytest.raises(ValueError, match=f"alpha={number}"):
        modules.Entmax(alpha=number)


# ---------------------------------------------------------------- mixtures


class Counting(torch.nn.Module):
    """A linear layer that counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = torch.nn.Linear(4, 4), 0

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return self.layer(x)


def mixture(scores: list[float], **options: Any) -> Any:
    torch.manual_seed(0)
    made = modules.ChoiceMixture([Counting() for _ in scores], **options)
    made.scores.data.copy_(torch.tensor(scores))
    return made


@pytest.mark.parametrize("scores", [[-5.0, 0.0, 0.4, -5.0, 0.1], [0.3, -5.0, 0.0], [9.0, 0.0]])
def test_a_pruned_mixture_has_the_same_bits_and_runs_nothing_in_vain(scores: list[float]) -> None:
    full = mixture(scores)
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))
    x[0] = -0.0
    pruned = full.prune()
    expected = full(x)
    for choice in full.choices:
        choice.calls = 0
    assert pruned(x).detach().numpy().tobytes() == expected.detach().numpy().tobytes()
    assert [choice.calls for choice in full.choices] == [int(weight > 0) for weight in full.weights.tolist()]


def test_the_dead_have_no_gradient_and_come_back_by_restart_or_temperature() -> None:
    full = mixture([0.0, 0.4, -3.0, -0.8])
    assert full.dead == (2, 3)
    full(torch.randn(8, 4)).square().sum().backward()
    assert full.scores.grad[[0, 1]].all()
    for i in full.dead:
        assert full.scores.grad[i] == 0
        assert not any(p.grad.any() for p in full.choices[i].parameters())
    full.temperature = 10.0
    assert full.dead == ()
    full.temperature = 1.0
    assert full.restart() == (2, 3)
    assert full.dead == ()
    assert (full.weights > 0).all()
    assert mixture([0.0, 0.4, -3.0, -0.8], alpha=1.0).dead == ()


def test_what_a_choice_without_a_share_gives_never_matters() -> None:
    full = mixture([0.0, 0.1, -9.0])
    torch.nn.init.constant_(full.choices[2].layer.weight, math.inf)
    result = full(torch.ones(2, 4))
    result.sum().backward()
    assert torch.isfinite(result).all()
    assert torch.isfinite(full.scores.grad).all()


def test_a_mixture_finds_the_right_operation() -> None:
    torch.manual_seed(0)
    full = modules.ChoiceMixture([torch.nn.Identity(), torch.nn.Tanh(), torch.nn.ReLU()], alpha=1.5)
    x = torch.randn(256)
    optimiser = torch.optim.SGD(full.parameters(), lr=2.0)
    for _ in range(100):
        optimiser.zero_grad()
        (full(x) - torch.tanh(x)).square().mean().backward()
        optimiser.step()
    assert full.weights.argmax() == 1
    pruned = full.prune()
    assert torch.equal(pruned(x), full(x))


def test_no_choices() -> None:
    with pytest.raises(ValueError, match="choices"):
        modules.ChoiceMixture([])


# ---------------------------------------------------------------- transformers


def tiny(name: str, **options: Any) -> Any:
    """A causal language model of 2 layers with random weights."""
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=31, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32, attn_implementation=name, **options,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


@pytest.mark.filterwarnings("ignore")  # transformers' own
class TestTransformers:
    def test_softmax_is_the_eager_attention(self) -> None:
        tokens = torch.arange(24).reshape(2, 12) % 31
        padding = torch.ones_like(tokens)
        padding[1, :5] = 0
        eager = tiny("eager")
        modules.register_attention("softly")
        model = tiny("softly")
        model.load_state_dict(eager.state_dict())
        for mask in (None, padding):
            found, expected = (m(tokens, attention_mask=mask, output_attentions=True) for m in (model, eager))
            real = padding.bool() if mask is not None else torch.ones_like(tokens).bool()
            torch.testing.assert_close(found.logits[real], expected.logits[real], rtol=1e-4, atol=1e-5)
            weights = found.attentions[0]
            assert not weights[:, :, 0, 1:].any()
            if mask is not None:
                assert not weights[1, :, :, :5].any()
                assert not weights[1, :, :5].any()  # nothing to attend to: 0, where an additive mask leaks

    @pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0])
    def test_a_model_trains_and_generates(self, alpha: float) -> None:
        name = f"softly-{alpha}"
        modules.register_attention(name, alpha=alpha)
        model = tiny(name)
        tokens = torch.arange(20).repeat(2, 1) % 5
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
        losses = []
        for _ in range(12):
            optimiser.zero_grad()
            loss = model(tokens, labels=tokens).loss
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert losses[-1] < 0.6 * losses[0]
        generated = model.generate(tokens[:, :8], max_new_tokens=4, do_sample=False, pad_token_id=0)
        assert generated.shape == (2, 12)
        weights = model(tokens, output_attentions=True).attentions[-1]
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))

    def test_what_is_not_supported_is_said(self) -> None:
        from softly.torch.attention import _attend

        pytest.importorskip("transformers", exc_type=ImportError)
        q = torch.zeros(1, 2, 3, 4)
        module = torch.nn.Identity()
        with pytest.raises(ValueError, match="softcap"):
            _attend(module, q, q, q, None, alpha=1.0, softcap=30.0)
        with pytest.raises(ValueError, match="boolean mask"):
            _attend(module, q, q, q, torch.zeros(1, 1, 3, 3), alpha=1.0)
        with pytest.raises(ValueError, match="alpha"):
            modules.register_attention("wrong", alpha=0.5)
