"""A layer of a graph attention network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from softly._arrays import check_alpha
from softly._errors import InputError
from softly.edges import Edges, as_edges
from softly.graphs import graph_attention, graph_attention_weights
from softly.torch.operators import is_traced
from softly.torch.traced_edges import with_self_loops


class GraphAttention(nn.Module):
    """Each node's average of its neighbours' features, weighted by learned scores; several heads.

    With h = W x, the score of an edge is leaky_relu(<a_target, h_target> + <a_source, h_source>), its weight the map's
    over the edges of its target, the result sum p h_source + bias, as `softly.graph_attention`.

    - in_features: of a node; out_features: of each head. heads: how many.
    - alpha: 1 softmax, 1.5 entmax15, 2 sparsemax, whose weights can be exactly 0.
    - concat: whether heads stand side by side (nodes, heads * out_features), or are averaged (nodes, out_features).
    - self_loops: whether each node is a neighbour of its own, once; loops among the edges are then left out.
    - negative_slope: of leaky_relu. bias: whether there is one. dtype: of the parameters.

    forward takes x (nodes, in_features) and edges, integers (2, edges) or `softly.Edges`, which are checked, sorted and
    given loops once. torch.compile and torch.export hold it as a few nodes and check edges when the program runs.
    Raises ValueError, TypeError. Source: Velickovic et al., Graph Attention Networks, 2018.

    >>> import torch
    >>> layer = GraphAttention(4, 3, heads=2)
    >>> layer(torch.ones(5, 4), torch.tensor([[0, 1], [1, 2]])).shape
    torch.Size([5, 6])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        heads: int = 1,
        *,
        alpha: float = 1.0,
        concat: bool = True,
        self_loops: bool = True,
        negative_slope: float = 0.2,
        bias: bool = True,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("in_features", in_features), ("out_features", out_features), ("heads", heads)):
            if size < 1:
                raise InputError(f"{name}={size}: pass a positive integer")
        self.alpha, self.concat, self.self_loops = check_alpha(alpha, None), concat, self_loops
        self.negative_slope, self.heads, self.out_features = negative_slope, heads, out_features
        self.linear = nn.Linear(in_features, heads * out_features, bias=False, dtype=dtype)
        self.source = nn.Parameter(torch.empty(heads, out_features, dtype=dtype))
        self.target = nn.Parameter(torch.empty(heads, out_features, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_features * (heads if concat else 1), dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin anew: Glorot's uniform weights, no bias."""
        for weight in (self.linear.weight, self.source, self.target):
            nn.init.xavier_uniform_(weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, edges: Edges | Tensor) -> Tensor:
        """(nodes, heads * out_features), or (nodes, out_features) without concat."""
        query, key, value, options = self._scored(x, edges)
        averages: Tensor = graph_attention(query, key, value, **options)
        result = averages.flatten(1) if self.concat else averages.mean(1)
        return result if self.bias is None else result + self.bias

    @torch.compiler.disable
    def weights(self, x: Tensor, edges: Edges | Tensor) -> tuple[Edges, Tensor]:
        """The edges by target, with loops if the layer makes them, and their weights (edges, heads); never compiled."""
        query, key, _, options = self._scored(x, edges)
        graph: Edges = options["edges"]
        found: Tensor = graph_attention_weights(query, key, **options)
        return graph, found if graph.order is None else found[torch.from_numpy(graph.order)]

    def _scored(self, x: Tensor, edges: Edges | Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
        options: dict[str, Any] = {"alpha": self.alpha, "negative_slope": self.negative_slope}
        if not is_traced(x):
            graph = as_edges(edges, x.shape[0], x.shape[0])
            options["edges"] = graph.with_self_loops if self.self_loops else graph
        elif self.self_loops:
            options["edges"], options["where"] = with_self_loops(edges, x.shape[0])
        else:
            options["edges"] = edges
        value = self.linear(x).unflatten(-1, (self.heads, self.out_features))
        query, key = ((value * a).sum(-1, keepdim=True) for a in (self.target, self.source))
        return query, key, value, options

    def extra_repr(self) -> str:
        """The options."""
        return f"heads={self.heads}, alpha={self.alpha}, concat={self.concat}, self_loops={self.self_loops}"
