"""The edges of a graph under torch.compile and torch.export: checked and sorted by one node of the program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softly.edges import Edges, check_counts, check_pairs


@dataclass(frozen=True, slots=True)
class TracedEdges:
    """As `softly.Edges`, of tensors: (targets + 1,), (edges,), (edges,), and the orders there and back."""

    offsets: Tensor
    sources: Tensor
    targets: Tensor
    order: Tensor | None
    inverse: Tensor | None


def traced_edges(edges: Any, num_targets: int, num_sources: int) -> TracedEdges:
    """Edges of so many nodes, from Edges or integers of shape (2, edges), [sources, targets]."""
    if not isinstance(edges, Edges):
        return TracedEdges(*_sorted_edges(as_pairs(edges), num_targets, num_sources))
    check_counts(edges, num_targets, num_sources)
    sources, targets = as_pairs(edges)
    order = None if edges.order is None else torch.as_tensor(edges.order)
    inverse = None if order is None else torch.argsort(order)
    return TracedEdges(torch.as_tensor(edges.offsets), sources, targets, order, inverse)


def as_pairs(edges: Any) -> Tensor:
    """(2, edges), sources and targets, of Edges by target."""
    if not isinstance(edges, Edges):
        pairs = torch.as_tensor(edges)
        check_pairs(tuple(pairs.shape))
        return pairs
    offsets, sources = torch.as_tensor(edges.offsets), torch.as_tensor(edges.sources)
    places = torch.arange(sources.shape[0])
    return torch.stack([sources, torch.searchsorted(offsets[1:], places, right=True)])


def with_self_loops(edges: Any, num_nodes: int) -> tuple[Tensor, Tensor]:
    """The pairs and one loop a node, and which of them count: no other loop, so that their number is known."""
    pairs = as_pairs(edges)
    loops = torch.arange(num_nodes, device=pairs.device)
    counts = torch.cat([pairs[0] != pairs[1], torch.ones_like(loops, dtype=torch.bool)])
    return torch.cat([pairs, torch.stack([loops, loops])], dim=1), counts


@torch.library.custom_op("softly::sorted_edges", mutates_args=())
def _sorted_edges(pairs: Tensor, num_targets: int, num_sources: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    edges = Edges.from_pairs(*pairs.detach().cpu(), num_targets=num_targets, num_sources=num_sources)
    order, inverse = (np.arange(len(edges)) if x is None else x for x in (edges.order, edges.inverse))
    # copied: an operator's results share no memory with what it is given
    found = edges.offsets, edges.sources.copy(), edges.targets, order, inverse
    offsets, sources, targets, there, back = (torch.from_numpy(x).to(pairs.device) for x in found)
    return offsets, sources, targets, there, back


@_sorted_edges.register_fake
def _(pairs: Tensor, num_targets: int, num_sources: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    sizes = num_targets + 1, *(pairs.shape[1],) * 4
    offsets, sources, targets, there, back = (pairs.new_empty(size, dtype=torch.int64) for size in sizes)
    return offsets, sources, targets, there, back
