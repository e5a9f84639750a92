"""Attention over a graph under torch.compile and torch.export: values and gradients of the eager call, one graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import semantics

import softly

torch = pytest.importorskip("torch", exc_type=ImportError)

from softly.torch import GraphAttention, graphs, traced_edges  # noqa: E402

pytestmark = [
    pytest.mark.skipif(semantics.FORCED, reason="told for the default target"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]
NODES, EDGES, HEADS = 7, 20, 2
PAIRS = np.random.default_rng(0).integers(0, NODES - 1, (2, EDGES))  # the last node has none
GRAPH = softly.Edges.from_pairs(*PAIRS, num_targets=NODES, num_sources=NODES)
BY_TARGET = softly.Edges.from_offsets(GRAPH.offsets, GRAPH.sources, num_sources=NODES)
FORMS = {"pairs": torch.from_numpy(PAIRS), "Edges": GRAPH, "CSR": BY_TARGET, "numpy": PAIRS}


def compiled(function: Any, **options: Any) -> Any:
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, **{"backend": "aot_eager"} | options)


def same(found: Any, expected: Any, variables: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13, equal_nan=True)
    upstream = torch.randn_like(expected)
    gradients = (torch.autograd.grad(result, variables, upstream) for result in (found, expected))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("self_loops", [True, False])
@pytest.mark.parametrize("alpha", [1.0, 1.5])
def test_the_layer_is_one_graph(form: str, self_loops: bool, alpha: float) -> None:
    torch.manual_seed(0)
    layer = GraphAttention(4, 3, heads=HEADS, alpha=alpha, self_loops=self_loops, dtype=torch.float64)
    x = torch.randn(NODES, 4, dtype=torch.float64, requires_grad=True)
    same(compiled(layer)(x, FORMS[form]), layer(x, FORMS[form]), [x, *layer.parameters()])


@pytest.mark.slow  # the C++ compiler takes its time
def test_the_layer_within_a_model_under_inductor() -> None:
    torch.manual_seed(0)
    layer = GraphAttention(4, 4, dtype=torch.float64)
    before = torch.nn.Linear(4, 4, dtype=torch.float64)
    x = torch.randn(NODES, 4, dtype=torch.float64, requires_grad=True)

    def model(x: Any) -> Any:
        return layer(torch.relu(layer(before(x), FORMS["pairs"])), GRAPH)

    same(compiled(model, backend="inductor")(x), model(x), [x, *layer.parameters(), *before.parameters()])


def variables() -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    shapes = (NODES, HEADS, 3), (NODES, HEADS, 3), (NODES, HEADS, 4), (EDGES, HEADS), (NODES, HEADS)
    made = [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]
    made[4] = made[4].abs() + 0.5
    return [x.requires_grad_() for x in made]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("empty", ["zero", "nan", "uniform"])
def test_all_arguments(form: str, empty: Any) -> None:
    query, key, value, bias, temperature = variables()
    where = torch.from_numpy(np.random.default_rng(3).random((EDGES, HEADS)) < 0.5)

    def with_fixed_temperature(*arrays: Any, **options: Any) -> Any:
        options = options or {"bias": bias, "temperature": temperature.detach()}
        return softly.graph_attention(*arrays, FORMS[form], where=where, empty=empty, **options)

    def with_learned_temperature(*arrays: Any) -> Any:
        return with_fixed_temperature(*arrays, bias=bias, temperature=temperature, alpha=1.5, negative_slope=0.1)

    arrays = query, key, value
    same(compiled(with_fixed_temperature)(*arrays), with_fixed_temperature(*arrays), (*arrays, bias))
    same(compiled(with_learned_temperature)(*arrays), with_learned_temperature(*arrays), (*arrays, bias, temperature))


@pytest.mark.parametrize("form", FORMS)
def test_weights(form: str) -> None:
    query, key, *_ = variables()

    def weights(query: Any, key: Any) -> Any:
        return softly.graph_attention_weights(query, key, FORMS[form])

    same(compiled(weights)(query, key), weights(query, key), (query, key))


def test_sizes_may_change_from_call_to_call() -> None:
    layer, programs = GraphAttention(4, 3, dtype=torch.float64), 0

    def count(graph: Any, _: Any) -> Any:
        nonlocal programs
        programs += 1
        return graph

    run = compiled(layer, backend=count, dynamic=True)
    for nodes, edges in ((5, 9), (7, 30), (11, 4)):
        x = torch.randn(nodes, 4, dtype=torch.float64)
        pairs = torch.from_numpy(np.random.default_rng(nodes).integers(0, nodes, (2, edges)))
        torch.testing.assert_close(run(x, pairs), layer(x, pairs))
    assert programs == 1


def test_programs_hold_the_kernel_not_the_expression() -> None:
    held = []

    def keep(graph: Any, _: Any) -> Any:
        held.extend(str(node.target) for node in graph.graph.nodes if "softly" in str(node.target))
        return graph

    compiled(GraphAttention(4, 3), backend=keep)(torch.randn(NODES, 4), FORMS["pairs"])
    assert held == ["softly.sorted_edges.default", "softly.graph_averages.default"]


def test_edges_are_checked_when_the_program_runs() -> None:
    layer = GraphAttention(4, 3)
    run = compiled(layer, backend="eager")
    x = torch.randn(NODES, 4)
    run(x, FORMS["pairs"])
    for at, node in (("sources", NODES), ("targets", -1)):
        pairs = FORMS["pairs"].clone()
        pairs[("sources", "targets").index(at), 3] = node
        with pytest.raises(ValueError, match=rf"{at}\[3\] is {node}: it must lie in \[0, {NODES}\)"):
            run(x, pairs)


def test_what_cannot_be_answered_is_refused() -> None:
    query, key, value, *_ = variables()
    run = compiled(lambda *arrays: softly.graph_attention(*arrays, GRAPH, empty="raise"), backend="eager")
    with pytest.raises(Exception, match="cannot be answered inside a trace"):
        run(query, key, value)


def test_exported_programs_take_other_edges() -> None:
    layer = GraphAttention(4, 3, dtype=torch.float64)
    x, pairs = torch.randn(NODES, 4, dtype=torch.float64), FORMS["pairs"]
    program = torch.export.export(layer, (x, pairs)).module()
    other = pairs.flip(0)
    for edges in (pairs, other):
        torch.testing.assert_close(program(x, edges), layer(x, edges))


@pytest.mark.filterwarnings("ignore")  # opcheck runs in anomaly mode, which warns of itself
def test_opcheck() -> None:
    query, key, value, bias, temperature = variables()
    graph = torch.from_numpy(GRAPH.offsets), torch.from_numpy(GRAPH.sources)
    torch.library.opcheck(traced_edges._sorted_edges, (FORMS["pairs"], NODES, NODES))
    torch.library.opcheck(traced_edges._sorted_edges, (FORMS["pairs"].sort().values, NODES, NODES))
    for slope, given in ((None, None), (0.2, bias)):
        torch.library.opcheck(graphs._operator, (query, key, value, given, None, *graph, 0.7, 1.0, 0.5, slope))
    plain = [x.detach() for x in (query, key, value, temperature)]
    torch.library.opcheck(graphs._operator, (*plain[:3], None, plain[3], *graph, 1.0, 1.5, 0.5, None))
    out, weights = graphs._operator(*plain[:3], None, plain[3], *graph, 1.0, 1.5, 0.5, None)
    torch.library.opcheck(graphs._gradients, (*plain, *graph, 1.0, 1.5, 0.5, None, weights, out))
