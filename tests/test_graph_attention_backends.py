"""Attention over a graph on torch and JAX: gradients from finite differences and from dense attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import softly

NODES, SOURCES, EDGES, HEADS = 6, 7, 25, 2


def draw(seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(n, HEADS, w)) for n, w in ((NODES, 3), (SOURCES, 3), (SOURCES, 4))]
    return [*arrays, rng.normal(size=(EDGES, HEADS)), np.stack([rng.integers(0, n, EDGES) for n in (SOURCES, NODES)])]


class TestTorch:
    @pytest.fixture
    def torch(self) -> Any:
        return pytest.importorskip("torch", exc_type=ImportError)

    def variables(self, torch: Any) -> list[Any]:
        return [torch.from_numpy(x).requires_grad_() for x in draw()[:4]]

    @pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0])
    @pytest.mark.parametrize("slope", [None, 0.2])
    def test_gradients_are_those_of_finite_differences(self, torch: Any, alpha: float, slope: float | None) -> None:
        edges, options = torch.from_numpy(draw()[4]), {"alpha": alpha, "negative_slope": slope, "temperature": 0.7}

        def averages(query: Any, key: Any, value: Any, bias: Any) -> Any:
            return softly.graph_attention(query, key, value, edges, bias=bias, **options)

        def weights(query: Any, key: Any, bias: Any) -> Any:
            return softly.graph_attention_weights(query, key, edges, bias=bias, **options)

        variables = self.variables(torch)
        assert torch.autograd.gradcheck(averages, variables)
        assert torch.autograd.gradgradcheck(averages, variables)
        assert torch.autograd.gradcheck(weights, [variables[0], variables[1], variables[3]])

    def test_a_dense_graph_is_dense_attention(self, torch: Any) -> None:
        """With an edge wherever torch's mask is True."""
        rng = np.random.default_rng(1)
        mask = torch.from_numpy(rng.random((9, 11)) < 0.6)
        mask[:, 0] = True
        query, key, value = (torch.from_numpy(rng.normal(size=(n, 4, 6))).requires_grad_() for n in (9, 11, 11))
        sources_of = mask.nonzero().flip(1).T
        moved = (x.movedim(0, 1) for x in (query, key, value))
        right = torch.nn.functional.scaled_dot_product_attention(*moved, attn_mask=mask).movedim(0, 1)
        found = softly.graph_attention(query, key, value, sources_of)
        upstream = torch.from_numpy(rng.normal(size=right.shape))
        expected = torch.autograd.grad(right, (query, key, value), upstream)
        gradients = torch.autograd.grad(found, (query, key, value), upstream)
        for mine, theirs in zip((found, *gradients), (right, *expected), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-13)

    def test_the_way_without_the_core_has_the_same_gradients(self, torch: Any, monkeypatch: Any) -> None:
        from softly.torch import graphs

        edges = torch.from_numpy(draw()[4])
        where = torch.from_numpy(np.random.default_rng(2).random(EDGES) < 0.5)

        def run() -> list[Any]:
            variables = self.variables(torch)
            with torch.no_grad():
                variables[2][edges[0, ~where]] = torch.nan
                variables[2][edges[0, where]] = 1.5
            out = softly.graph_attention(*variables[:3], edges, bias=variables[3], where=where)
            (out * torch.arange(4.0)).sum().backward()
            return [out.detach(), *(x.grad for x in variables)]

        found = run()
        assert not any(x.isnan().any() for x in found)
        monkeypatch.setattr(graphs, "_fits", lambda *_: False)
        for mine, theirs in zip(found, run(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-13)

    @pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # by torch.func.jvp
    def test_temperature_forward_mode_and_vmap(self, torch: Any) -> None:
        query, key, value, bias = (x.detach() for x in self.variables(torch))
        edges = softly.Edges.from_pairs(*draw()[4], num_targets=NODES, num_sources=SOURCES)
        temperature = torch.full((NODES, HEADS), 0.8, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(
            lambda t: softly.graph_attention(query, key, value, edges, temperature=t), [temperature]
        )

        def attend(query: Any) -> Any:
            return softly.graph_attention(query, key, value, edges, bias=bias)

        tangent = torch.ones_like(query)
        _, along = torch.func.jvp(attend, (query,), (tangent,))
        step = 1e-6
        slope = (attend(query + step * tangent) - attend(query - step * tangent)) / (2 * step)
        torch.testing.assert_close(along, slope, rtol=1e-6, atol=1e-8)
        both = torch.stack([query, query + 1])
        torch.testing.assert_close(torch.func.vmap(attend)(both)[1], attend(query + 1), rtol=1e-12, atol=1e-13)

    def test_dtypes_and_mixed_arguments(self, torch: Any) -> None:
        query, key, value, _ = (x.detach().to(torch.bfloat16) for x in self.variables(torch))
        edges = draw()[4]
        found = softly.graph_attention(query, key, value, edges)
        right = softly.graph_attention(query.float(), key.float(), value.float(), edges)
        assert found.dtype == torch.bfloat16
        assert torch.equal(found, right.to(torch.bfloat16))
        with pytest.raises(TypeError, match="key is a tensor beside an array of NumPy"):
            softly.graph_attention(query.float().numpy(), key, value, edges)


def test_jax_values_gradients_and_jit() -> None:
    jax = pytest.importorskip("jax")
    query, key, value, bias, edges = draw()
    right = softly.graph_attention(query, key, value, edges, bias=bias)
    with jax.enable_x64(True):
        arrays = [jax.numpy.asarray(x) for x in (query, key, value)]

        def total(*arrays: Any) -> Any:
            return (softly.graph_attention(*arrays, edges, bias=bias) ** 2).sum()

        np.testing.assert_allclose(softly.graph_attention(*arrays, edges, bias=bias), right, rtol=1e-12)
        gradients = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(*arrays)
        torch = pytest.importorskip("torch", exc_type=ImportError)
        tensors = [torch.from_numpy(x).requires_grad_() for x in (query, key, value)]
        (softly.graph_attention(*tensors, edges, bias=torch.from_numpy(bias)) ** 2).sum().backward()
        for mine, theirs in zip(gradients, tensors, strict=True):
            np.testing.assert_allclose(mine, theirs.grad.numpy(), rtol=1e-11, atol=1e-13)
