"""Attention over a graph: values from a loop in 80 bits, bits over targets and threads, edges, masks, bad input."""

from __future__ import annotations

import hashlib
import itertools
import math
from typing import Any

import numpy as np
import pytest
import semantics

import softly
from softly import _kernels, graphs

TARGETS, SOURCES, EDGES, WIDTH, DEPTH = 20, 30, 300, 5, 19
INF, NAN = math.inf, math.nan


def draw(heads: tuple[int, ...] = (3,), dtype: Any = np.float64, seed: int = 0) -> dict[str, Any]:
    """Arguments; the last targets and some sources have no edges, others many."""
    rng = np.random.default_rng(seed)
    shapes = {"query": (TARGETS, WIDTH), "key": (SOURCES, WIDTH), "value": (SOURCES, DEPTH)}
    arrays = {name: rng.normal(size=(n, *heads, width)).astype(dtype) for name, (n, width) in shapes.items()}
    targets = np.minimum(rng.integers(0, TARGETS - 1, EDGES), rng.integers(0, TARGETS, EDGES))
    return {**arrays, "edges": np.stack([rng.integers(0, SOURCES, EDGES), targets])}


def truth(
    query: Any, key: Any, value: Any, edges: Any, temperature: Any, bias: Any, negative_slope: float | None
) -> tuple[Any, Any]:
    """Softmax weights and averages of one head, by a loop."""
    query, key, value, bias = (x.astype(np.longdouble) for x in (query, key, value, bias))
    sources, targets = edges
    terms = query[targets] * key[sources]
    if negative_slope is not None:
        terms = query[targets] + key[sources]
        terms = np.where(terms > 0, terms, terms * np.longdouble(negative_slope))
    scores = (terms.sum(-1) / np.sqrt(np.longdouble(WIDTH)) + bias) / np.asarray(temperature, np.longdouble)[targets]
    weights, out = np.zeros(len(sources), np.longdouble), np.zeros((len(query), value.shape[1]), np.longdouble)
    for target in range(len(query)):
        mine = np.flatnonzero((targets == target) & (bias > -INF))
        if mine.size:
            e = np.exp(scores[mine] - scores[mine].max())
            weights[mine] = e / e.sum()
            out[target] = weights[mine] @ value[sources[mine]]
    return out, weights


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-14), (np.float32, 4e-6)])
@pytest.mark.parametrize("negative_slope", [None, 0.2])
def test_softmax_over_edges_is_that_of_the_loop(negative_slope: float | None, dtype: Any, bound: float) -> None:
    given, rng = draw(dtype=dtype), np.random.default_rng(1)
    where, bias = rng.random((EDGES, 3)) < 0.8, rng.normal(size=(EDGES, 3)).astype(dtype)
    temperature = rng.uniform(0.5, 2, (TARGETS, 3))
    options = {"where": where, "bias": bias, "temperature": temperature, "negative_slope": negative_slope}
    out = softly.graph_attention(**given, **options)
    del given["value"]
    weights = softly.graph_attention_weights(**given, **options)
    given = draw(dtype=dtype)
    for head in range(3):
        of_head = [given[name][:, head] for name in ("query", "key", "value")]
        hidden = np.where(where, bias, -INF)[:, head]
        right = truth(*of_head, given["edges"], temperature[:, head], hidden, negative_slope)
        np.testing.assert_allclose(out[:, head], right[0], rtol=bound, atol=bound)
        np.testing.assert_allclose(weights[:, head], right[1], rtol=bound * 4, atol=0)


@pytest.mark.parametrize("heads", [(), (1,), (8,), (2, 9)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_kernel_gives_what_the_expression_gives(heads: tuple[int, ...], dtype: Any) -> None:
    rng, bound = np.random.default_rng(2), 1e-5 if dtype == np.float32 else 1e-12
    for alpha, slope, masked in itertools.product((1.0, 1.3, 1.5, 2.0, INF), (None, 0.1), (False, True)):
        given = draw(heads, dtype, 3)
        options: dict[str, Any] = {"where": rng.random(EDGES) < 0.7} if masked else {"bias": np.zeros((EDGES, *heads))}
        problem = graphs._prepare(**given, alpha=alpha, scale=None, negative_slope=slope,
                                  **{"where": None, "bias": None} | options, temperature=0.8, empty="zero")  # fmt: skip
        right = problem.given_back(graphs.by_expression(problem)[0])
        found = softly.graph_attention(**given, alpha=alpha, negative_slope=slope, temperature=0.8, **options)
        assert found.shape == (TARGETS, *heads, DEPTH)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, right, rtol=bound, atol=bound)


def test_weights_are_the_segment_map_of_the_scores_in_the_edges_order() -> None:
    given = draw()
    del given["value"]
    sources, targets = given["edges"]
    scores = (given["query"][targets] * given["key"][sources]).sum(-1) * 0.3
    for alpha in (1.0, 1.5, 2.0):
        weights = softly.graph_attention_weights(**given, alpha=alpha, scale=0.3)
        right = softly.segment_entmax(scores, alpha=alpha, index=targets, num_segments=TARGETS)
        np.testing.assert_allclose(weights, right, rtol=1e-13, atol=1e-15)


def test_edges_in_any_order_and_form_are_the_same_graph() -> None:
    given = draw()
    out = softly.graph_attention(**given)
    sources, targets = given["edges"]
    by_target = np.argsort(targets, kind="stable")
    offsets = np.searchsorted(targets[by_target], np.arange(TARGETS + 1))
    forms = (
        softly.Edges.from_pairs(sources, targets, num_targets=TARGETS, num_sources=SOURCES),
        softly.Edges.from_offsets(offsets, sources[by_target], num_sources=SOURCES),
        given["edges"].tolist(),
        given["edges"].astype(np.uint8),
    )
    for edges in forms:
        assert np.array_equal(softly.graph_attention(**given | {"edges": edges}), out)
    offsets_by_source, edges_of_source, their_targets = forms[0].by_source
    assert np.array_equal(their_targets, forms[0].targets[edges_of_source])
    for source in range(SOURCES):
        mine = edges_of_source[offsets_by_source[source] : offsets_by_source[source + 1]]
        assert np.array_equal(mine, np.flatnonzero(forms[0].sources == source))
    assert np.array_equal(forms[0].inverse[forms[0].order], np.arange(EDGES))
    assert len(forms[0]) == EDGES


def test_what_does_not_count_never_leaks() -> None:
    given, mask = draw(), np.random.default_rng(3).random(SOURCES) < 0.5
    where = mask[given["edges"][0]]
    clean = softly.graph_attention(**given, where=where)
    for poison in (NAN, INF, -INF):
        for name in ("key", "value"):
            dirty = given | {name: np.where(mask[:, None, None], given[name], poison)}
            for option in ({"where": where}, {"bias": np.where(where, 0.0, -INF)}):
                found = softly.graph_attention(**dirty, **option)
                assert np.array_equal(found, clean)
                problem = graphs._prepare(**dirty, alpha=1.0, scale=None, negative_slope=None,
                                          **{"where": None, "bias": None} | option,
                                          temperature=1.0, empty="zero")  # fmt: skip
                with np.errstate(all="ignore"):
                    np.testing.assert_allclose(graphs.by_expression(problem)[0], clean, rtol=1e-12)


def test_empty_says_what_a_target_without_edges_that_count_gives() -> None:
    given, alone = draw(), TARGETS - 1
    given["edges"][1] %= alone  # the last target has none
    weighed = {name: given[name] for name in ("query", "key", "edges")}
    sources, targets = given["edges"]
    where = np.ones((EDGES, 3), bool)
    where[targets == 0, 1] = False  # target 0 has none that counts for one head
    right, mine = softly.graph_attention(**given, where=where), targets == 0
    weights = softly.graph_attention_weights(**weighed, where=where)
    means = given["value"][sources[mine], 1].mean(0)
    for empty, one, other, weight in (("nan", NAN, NAN, NAN), ("uniform", means, 0.0, 1 / mine.sum())):
        expected, of_edges = right.copy(), weights.copy()
        expected[0, 1], expected[alone], of_edges[mine, 1] = one, other, weight
        np.testing.assert_allclose(
            softly.graph_attention(**given, where=where, empty=empty), expected, rtol=1e-14, atol=1e-15
        )
        found = softly.graph_attention_weights(**weighed, where=where, empty=empty)
        np.testing.assert_allclose(found, of_edges, rtol=1e-14)
    with pytest.raises(ValueError, match="target 0 has nothing possible"):
        softly.graph_attention(**given, where=where, empty="raise")
    with pytest.raises(ValueError, match=f"target {alone} has nothing possible"):
        softly.graph_attention(**given, empty="raise")
    some = given | {"query": given["query"][:alone]}
    assert np.array_equal(softly.graph_attention(**some, empty="raise"), softly.graph_attention(**some))


def test_limits_of_scores_and_temperature() -> None:
    one = {"query": [[1.0]], "value": [[2.0], [4.0], [9.0]], "edges": [[0, 1, 2], [0, 0, 0]]}
    for key, temperature, expected in (
        ([[INF], [0.0], [INF]], 1.0, 5.5),
        ([[-INF], [0.0], [-INF]], 1.0, 4.0),
        ([[-INF], [-INF], [-INF]], 1.0, 0.0),
        ([[1.0], [3.0], [2.0]], 0.0, 4.0),
        ([[1.0], [3.0], [2.0]], INF, 5.0),
        ([[1e300], [0.0], [-1e300]], 1.0, 2.0),
        ([[NAN], [0.0], [0.0]], 1.0, NAN),
    ):
        np.testing.assert_array_equal(softly.graph_attention(**one, key=key, temperature=temperature), [[expected]])


def test_graphs_without_edges_nodes_heads_or_width() -> None:
    given = draw()
    none = given | {"edges": np.empty((2, 0), int)}
    assert not softly.graph_attention(**none).any()
    assert softly.graph_attention(np.ones((0, 2)), np.ones((3, 2)), np.ones((3, 4)), none["edges"]).shape == (0, 4)
    assert softly.graph_attention(np.ones((2, 0)), np.ones((2, 0)), [[2.0], [4.0]], [[0, 1], [0, 0]])[0] == 3.0
    assert softly.graph_attention(np.ones((2, 0, 3)), np.ones((2, 0, 3)), np.ones((2, 0, 1)), [[0], [1]]).size == 0
    assert softly.graph_attention_weights(**{k: none[k] for k in ("query", "key", "edges")}).shape == (0, 3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int64"])
def test_other_dtypes(dtype: str) -> None:
    kind = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    given = {name: x if name == "edges" else (x * 4).astype(kind) for name, x in draw().items()}
    wide = {name: x if name == "edges" else x.astype(np.float64) for name, x in given.items()}
    found, right = softly.graph_attention(**given), softly.graph_attention(**wide)
    assert found.dtype == (np.float64 if dtype == "int64" else kind)
    bound = {"float16": 6e-4, "bfloat16": 5e-3, "int64": 0.0}[dtype]
    np.testing.assert_allclose(found.astype(np.float64), right, rtol=bound, atol=bound)


def test_long_sums_keep_their_digits() -> None:
    n = 1 << 20
    value = np.float32(0.1) + np.zeros((1, 1), np.float32)
    edges = softly.Edges.from_offsets([0, n], np.zeros(n, int), num_sources=1)
    found = softly.graph_attention(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32), value, edges)
    np.testing.assert_allclose(found, value, rtol=2e-5)


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "an edge beyond": ({"edges": [[0, SOURCES], [0, 0]]}, ValueError, rf"sources\[1\] is {SOURCES}: it must lie in"),
    "a negative target": ({"edges": [[0], [-1]]}, ValueError, r"targets\[0\] is -1"),
    "float edges": ({"edges": [[0.0], [1.0]]}, TypeError, "edges has dtype float64: pass integers"),
    "three rows of edges": ({"edges": np.zeros((3, 4), int)}, ValueError, r"edges has shape \(3, 4\)"),
    "another graph's edges": (
        {"edges": softly.Edges.from_pairs([0], [0], num_targets=1, num_sources=1)},
        ValueError,
        "edges are those of 1 targets and 1 sources",
    ),
    "another width": ({"key": np.ones((SOURCES, 3, WIDTH + 1))}, ValueError, r"query has shape \(20, 3, 5\) and key"),
    "another head": ({"value": np.ones((SOURCES, 2, 1))}, ValueError, "all axes but the last must be equal"),
    "one axis": ({"query": np.ones(3)}, ValueError, r"query has shape \(3,\)"),
    "alpha below 1": ({"alpha": 0.5}, ValueError, "alpha=0.5"),
    "a negative temperature": ({"temperature": -1.0}, ValueError, "temperature=-1"),
    "two temperatures": ({"temperature": np.ones(2)}, ValueError, "temperature has shape"),
    "a mask of floats": ({"where": np.ones(EDGES)}, TypeError, "where has dtype float64"),
    "a short mask": ({"where": np.ones(3, bool)}, ValueError, "where has shape"),
    "a short bias": ({"bias": np.ones((3, 3))}, ValueError, "bias has shape"),
    "an unknown empty": ({"empty": "none"}, ValueError, "empty='none' is not one of"),
    "text": ({"query": np.array([[["a"] * WIDTH] * 3] * TARGETS)}, TypeError, "query have dtype"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_named(case: str) -> None:
    wrong, error, match = BAD[case]
    with pytest.raises(error, match=match):
        softly.graph_attention(**draw() | wrong)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda e: e.from_pairs([0, 1], [0], num_targets=1, num_sources=2), ValueError, "one of each for every edge"),
        (lambda e: e.from_pairs([0], [0], num_targets=-1, num_sources=2), ValueError, "num_targets=-1 is negative"),
        (lambda e: e.from_pairs([0], [0], num_targets=1.5, num_sources=2), TypeError, "num_targets must be an integer"),
        (lambda e: e.from_offsets([0, 2], [0], num_sources=2), ValueError, "offsets run from 0 to 2"),
        (lambda e: e.from_offsets([0, 1], [2], num_sources=2), ValueError, r"sources\[0\] is 2"),
        (lambda e: e.from_offsets([0, 1], [[0]], num_sources=2), ValueError, r"sources has shape \(1, 1\)"),
    ],
)
def test_edges_that_are_none_are_refused(make: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make(softly.Edges)


def test_the_core_refuses_what_would_be_unsafe() -> None:
    if _kernels.core is None:
        pytest.skip("no compiled core")
    arrays = [np.zeros((2, 1, 3))] * 3
    weights, out = np.empty((1, 1)), np.empty((2, 1, 3))

    def call(offsets: Any, sources: Any, weights: Any = weights, out: Any = out) -> Any:
        core = _kernels.core
        assert core is not None
        bounds, ids = np.array(offsets), np.array(sources)
        return core.graph_averages(*arrays, bounds, ids, 1.0, 1.0, 1.0, None, weights, None, out)

    call([0, 1, 1], [1])
    for wrong in (
        ([0, 1, 1], [2]),
        ([0, 1, 1], [-1]),
        ([0, 1], [1]),
        ([0, 2, 1], [1]),
        ([0, 1, 1], [1], np.empty((2, 1))),
        ([0, 1, 1], [1], weights, np.empty((1, 1, 3))),
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            call(*wrong)


def bits(dtype: str) -> str:
    """Values and gradients of graphs with small and large targets, over heads and widths."""
    found = hashlib.sha256()
    core = _kernels.core
    assert core is not None
    for heads, alpha, slope in itertools.product((1, 3, 8, 17), (1.0, 1.5), (None, 0.2)):
        for width, depth, edges in ((1, 1, 400), (8, 8, 9000), (20, 70, 900)):
            rng = np.random.default_rng(heads)
            shapes = (40, width), (50, width), (50, depth)
            arrays = [rng.normal(size=(n, heads, w)).astype(dtype) for n, w in shapes]
            targets = (rng.random(edges) ** 3 * 40).astype(int)
            graph = softly.Edges.from_pairs(rng.integers(0, 50, edges), targets, num_targets=40, num_sources=50)
            problem = graphs._prepare(*arrays, graph, alpha, None, slope, None, None, 0.7, "zero")
            out, weights = graphs.by_kernel(problem)
            gradients = [np.empty_like(x) for x in (weights, *arrays)]
            core.graph_gradients(*graphs.kernel_arguments(problem), weights, out, *graph.by_source, *gradients)
            for part in (out, weights, *gradients):
                found.update(part.tobytes())
    return found.hexdigest()


@pytest.mark.skipif(_kernels.core is None, reason="no compiled core")
def test_same_bits_on_every_target_with_fma_and_any_threads() -> None:
    code = "import test_graph_attention as t; print(t.bits('float32'), t.bits('float64'))"
    with_fma = [target for target in semantics.targets() if target != "baseline"]
    found = {
        semantics.python("-c", code, target=target, threads=threads).stdout for target in with_fma for threads in (1, 2)
    }
    assert len(found) <= 1
    assert all(len(line.split()) == 2 for line in found)
