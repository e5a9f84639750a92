"""The layer of graph attention: against its formula, its loops, its gradients, what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import softly

torch = pytest.importorskip("torch", exc_type=ImportError)

from softly.torch import GraphAttention  # noqa: E402

NODES = 7


@pytest.fixture
def graph() -> Any:
    return torch.from_numpy(np.random.default_rng(0).integers(0, NODES, (2, 20)))


@pytest.mark.parametrize("concat", [True, False])
def test_the_layer_is_its_formula(graph: Any, concat: bool) -> None:
    torch.manual_seed(0)
    layer = GraphAttention(4, 3, heads=2, concat=concat, dtype=torch.float64)
    x = torch.randn(NODES, 4, dtype=torch.float64)
    repeated = [(int(s), int(t)) for s, t in graph.T if s != t] + [(i, i) for i in range(NODES)]
    h = layer.linear(x).reshape(NODES, 2, 3)
    rows = []
    for target in range(NODES):
        sources = [s for s, t in repeated if t == target]
        score = (h[target] * layer.target).sum(-1) + (h[sources] * layer.source).sum(-1)
        weights = torch.softmax(torch.nn.functional.leaky_relu(score, 0.2), 0)
        rows.append((weights[..., None] * h[sources]).sum(0))
    right = torch.stack(rows)
    right = right.flatten(1) if concat else right.mean(1)
    torch.testing.assert_close(layer(x, graph), right + layer.bias, rtol=1e-12, atol=1e-13)


def test_weights_say_which_edge_they_are_of(graph: Any) -> None:
    layer = GraphAttention(4, 3, heads=2, alpha=2.0)
    edges, weights = layer.weights(torch.randn(NODES, 4), graph)
    assert weights.shape == (len(edges), 2)
    totals = torch.zeros(NODES, 2).index_add(0, torch.from_numpy(edges.targets), weights.detach())
    torch.testing.assert_close(totals, torch.ones(NODES, 2))
    assert ((edges.sources == edges.targets).sum()) == NODES
    without = GraphAttention(4, 3, self_loops=False).weights(torch.randn(NODES, 4), graph)[0]
    assert len(without) == graph.shape[1]


def test_all_parameters_learn_and_edges_may_be_checked_before(graph: Any) -> None:
    layer = GraphAttention(4, 3, heads=2)
    x = torch.randn(NODES, 4, requires_grad=True)
    edges = softly.Edges.from_pairs(*graph.numpy(), num_targets=NODES, num_sources=NODES)
    assert torch.equal(layer(x, edges), layer(x, graph))
    (layer(x, edges) ** 2).sum().backward()
    for parameter in (x, *layer.parameters()):
        assert parameter.grad.abs().sum() > 0


def test_what_does_not_fit_is_named(graph: Any) -> None:
    with pytest.raises(ValueError, match="heads=0: pass a positive integer"):
        GraphAttention(4, 3, heads=0)
    with pytest.raises(ValueError, match=r"alpha=0\.5"):
        GraphAttention(4, 3, alpha=0.5)
    with pytest.raises(ValueError, match="it must lie in"):
        GraphAttention(4, 3)(torch.ones(3, 4), graph)
    edges = softly.Edges.from_pairs([0], [0], num_targets=1, num_sources=2)
    with pytest.raises(ValueError, match="loops need the same"):
        _ = edges.with_self_loops
