"""softly.attention and SelfAttention on tensors: derivatives, transforms, memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import semantics

import softly

torch = pytest.importorskip("torch", exc_type=ImportError)

from softly.torch import SelfAttention  # noqa: E402

pytestmark = [
    pytest.mark.skipif(semantics.FORCED, reason="told for the default target"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]
CAUSAL = {"causal": True, "align": "top-left"}


def drawn(*shapes: tuple[int, ...], dtype: Any = torch.float64) -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, dtype=dtype, generator=generator).requires_grad_() for shape in shapes]


def test_gradients_of_every_argument_to_the_second_order() -> None:
    query, key, value, bias = drawn((2, 4, 3), (2, 5, 3), (2, 5, 2), (4, 5))
    temperature = torch.tensor([0.5, 1.0, 2.0, 0.7], dtype=torch.float64, requires_grad=True)
    where = torch.arange(5) != 2

    def attend(query: Any, key: Any, value: Any, bias: Any, temperature: Any) -> Any:
        return softly.attention(
            query, key, value, bias=bias, temperature=temperature, where=where, return_logsumexp=True
        )

    arguments = query, key, value, bias, temperature
    assert torch.autograd.gradcheck(attend, arguments)
    assert torch.autograd.gradgradcheck(attend, arguments)


EDGES = torch.tensor([[0, 1, 2, 0], [0, 1, 1, 2]])


def of_whole_scores(query: Any, key: Any, value: Any, where: Any = None) -> Any:
    return softly.softmax(query @ key.mT / query.shape[-1] ** 0.5, where=where) @ value


def over_edges(query: Any, key: Any, value: Any) -> Any:
    return softly.graph_attention(query[:, None], key[:, None], value[:, None], EDGES)[:, 0]


def over_edges_of_whole_scores(query: Any, key: Any, value: Any) -> Any:
    seen = torch.zeros(3, 3, dtype=torch.bool).index_put((EDGES[1], EDGES[0]), torch.tensor(True))
    return of_whole_scores(query, key, value, seen)


@pytest.mark.parametrize(
    "functions", [(softly.attention, of_whole_scores), (over_edges, over_edges_of_whole_scores)], ids=["dense", "graph"]
)
@pytest.mark.parametrize("others", ["the same", "made of it"])
def test_arguments_made_from_one_another_get_their_own_gradients(functions: Any, others: str) -> None:
    """With create_graph=True each got the whole derivative, by way of the others too: attention(x, x, x) thrice."""
    results = []
    for function in functions:
        (x,) = drawn((3, 2))
        arguments = (x, x, x) if others == "the same" else (x, 2 * x, (2 * x).sin())
        (first,) = torch.autograd.grad(function(*arguments).square().sum(), x, create_graph=True)
        results.append([first, torch.autograd.grad(first.square().sum(), x)[0]])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-12)


def test_alpha_can_be_learned() -> None:
    query, key, value = drawn((4, 3), (5, 3), (5, 2))
    alpha = torch.tensor(1.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *a: softly.attention(*a[:3], alpha=a[3]), (query, key, value, alpha))
    with pytest.raises(ValueError, match="return_logsumexp"):
        softly.attention(query, key, value, alpha=alpha, return_logsumexp=True)


def test_gradients_of_heads_in_groups_and_of_broadcast_axes() -> None:
    arguments = drawn((2, 4, 3, 3), (2, 2, 6, 3), (6, 2))
    assert torch.autograd.gradcheck(lambda *a: softly.attention(*a, **CAUSAL), arguments)
    assert torch.autograd.gradcheck(lambda *a: softly.attention(*a, alpha=1.5), arguments)


def test_forward_mode_vmap_and_compilation() -> None:
    query, key, value = drawn((2, 4, 3), (2, 5, 3), (2, 5, 2))
    plain = softly.attention(query, key, value, **CAUSAL)

    def attend(*arguments: Any) -> Any:
        return softly.attention(*arguments, **CAUSAL)

    assert torch.autograd.gradcheck(attend, (query, key, value), check_forward_ad=True)
    torch.testing.assert_close(torch.func.vmap(attend)(query, key, value), plain)
    compiled = torch.compile(attend, fullgraph=True, backend="aot_eager")(query, key, value)
    torch.testing.assert_close(compiled, plain)
    for found, expected in zip(
        torch.autograd.grad(compiled.sum(), (query, key, value)),
        torch.autograd.grad(plain.sum(), (query, key, value)),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("alpha", [1.0, 1.5])
def test_gradients_in_blocks_are_those_of_the_whole(alpha: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from softly.dot_product_attention import expression

    arguments = drawn((2, 4, 33, 3), (2, 2, 40, 3), (2, 2, 40, 2), (4, 33, 40), (33,))
    where = torch.rand(2, 1, 33, 40) < 0.7

    def gradients() -> Any:
        query, key, value, bias, heat = arguments
        options: dict[str, Any] = {"bias": bias, "where": where, "temperature": heat.exp(), **CAUSAL}
        return torch.autograd.grad(
            softly.attention(query, key, value, alpha=alpha, **options).square().sum(), arguments
        )

    whole = gradients()
    monkeypatch.setattr(expression, "_SCORES_AT_ONCE", 2 * 4 * 40 * 7)
    for found, expected in zip(gradients(), whole, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("alpha", [1.0, 1.5])
def test_no_gradient_comes_from_behind_a_mask(alpha: float) -> None:
    query, key, value = (x.detach() for x in drawn((4, 6, 3), (2, 70, 3), (2, 70, 2)))
    where = torch.arange(70) < 66
    clean = [x.clone().requires_grad_() for x in (query, key, value)]
    for array in (key, value):
        array[:, 66:] = torch.tensor([math.nan, math.inf, -math.inf, math.nan])[:, None]
    dirty = [x.requires_grad_() for x in (query, key, value)]
    results = [softly.attention(*arrays, where=where, alpha=alpha) for arrays in (clean, dirty)]
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)
    expected, found = (
        torch.autograd.grad(result.square().sum(), arrays)
        for result, arrays in zip(results, (clean, dirty), strict=True)
    )
    torch.testing.assert_close(found, expected)
    assert not found[1][:, 66:].any()


def test_numbers_are_lent_and_the_kernel_is_numpys() -> None:
    query, key, value = (x.detach() for x in drawn((2, 30, 8), (2, 40, 8), (2, 40, 5), dtype=torch.float32))
    found = softly.attention(query, key, value)
    arrays = [x.numpy() for x in (query, key, value)]
    np.testing.assert_array_equal(found.numpy(), softly.attention(*arrays))
    if semantics.targets():
        assert "compiled core" in softly.which("attention", arrays[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_array_equal(softly.attention(query, key, value).numpy(), found.numpy())
    with pytest.raises(ValueError, match="one value for each key"):
        softly.attention(query, key[:, :5], value)


def test_merging_has_derivatives() -> None:
    query, key, value = drawn((3, 2), (6, 2), (6, 2))

    def in_parts(query: Any, key: Any, value: Any) -> Any:
        cuts = (slice(0, 2), slice(2, 6))
        parts = [softly.attention(query, key[c], value[c], return_logsumexp=True) for c in cuts]
        return softly.merge_attention(parts)[0]

    assert torch.autograd.gradcheck(in_parts, (query, key, value))
    torch.testing.assert_close(in_parts(query, key, value), softly.attention(query, key, value))


# ---------------------------------------------------------------- SelfAttention


@pytest.mark.parametrize("causal", [False, True])
def test_self_attention_is_torchs_multi_head_attention(causal: bool) -> None:
    ours = SelfAttention(12, heads=3, causal=causal, dtype=torch.float64)
    theirs = torch.nn.MultiheadAttention(12, 3, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.output.state_dict())
    (x,) = drawn((2, 7, 12))
    keep = torch.ones(7, 7, dtype=torch.bool).tril() if causal else torch.ones(7, 7, dtype=torch.bool)
    expected, weights = theirs(x, x, x, attn_mask=~keep, average_attn_weights=False)
    torch.testing.assert_close(ours(x), expected)
    torch.testing.assert_close(ours.weights(x), weights)
    torch.testing.assert_close(ours(x, weights=ours.weights(x)), expected)


@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0])
def test_self_attention_sees_what_it_may(alpha: float) -> None:
    layer = SelfAttention(8, heads=2, causal=True, alpha=alpha)
    (x,) = drawn((3, 9, 8), dtype=torch.float32)
    changed = x.detach().clone()
    changed[:, 5:] = 100.0
    torch.testing.assert_close(layer(changed)[:, :5], layer(x)[:, :5], rtol=0, atol=1e-6)
    weights = layer.weights(x)
    assert not weights.triu(1).any()
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 9))
    padded = SelfAttention(8, heads=2, alpha=alpha)
    where = torch.arange(9) < torch.tensor([4, 9, 6])[:, None, None]
    torch.testing.assert_close(padded(x[:1, :4]), padded(x, where=where)[:1, :4])
    assert sum(p.grad is not None for p in padded.parameters()) == 0
    padded(x, where=where).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in padded.parameters())


def test_self_attention_refuses_what_does_not_fit() -> None:
    for arguments, options, message in (
        ((8, 3), {}, "width=8 and heads=3"),
        ((8, 0), {}, "heads must divide"),
        ((8, 2), {"alpha": 0.9}, "alpha=0.9"),
    ):
        with pytest.raises(ValueError, match=message):
            SelfAttention(*arguments, **options)
    with pytest.raises(ValueError, match=r"x has shape \(3, 5\): pass \(\.\.\., length, 8\)"):
        SelfAttention(8)(torch.zeros(3, 5))
    assert "heads=2, causal=True, alpha=1.5" in repr(SelfAttention(8, 2, causal=True, alpha=1.5))


def test_a_query_without_keys_leaves_the_values_their_gradient_under_empty_nan() -> None:
    """NaN is put in as a constant: it was multiplied with the values, whose gradients were all NaN."""
    query, key, value = drawn((3, 4), (5, 4), (5, 2))
    where = torch.tensor([[True], [False], [True]])
    plain, filled = (softly.attention(query, key, value, where=where, empty=empty) for empty in ("zero", "nan"))
    assert filled[1].isnan().all()
    upstream = torch.randn_like(plain)
    for found, expected in zip(
        torch.autograd.grad(filled, (query, key, value), upstream),
        torch.autograd.grad(plain, (query, key, value), upstream),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


def test_tensors_beside_an_array_of_numpy_are_refused() -> None:
    """A dtype without `kind` was what one read of it."""
    query, (key, value) = np.ones((2, 4)), (x.detach() for x in drawn((3, 4), (3, 1)))
    with pytest.raises(TypeError, match="key is a tensor beside an array of NumPy: pass arrays of one library"):
        softly.attention(query, key, value)
    with pytest.raises(TypeError, match="y is a tensor beside an array of NumPy"):
        softly.kernel_regression(query, value, query, 1.0)
