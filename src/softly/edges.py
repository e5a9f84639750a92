"""The edges of a graph, checked once: for each target the sources that it attends to, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softly._arrays import plain_array
from softly._errors import InputError
from softly._segments import group

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Edges:
    """The edges of a graph in the order of their targets, made by `from_pairs` or `from_offsets`.

    A graph that is used often (in layers, in epochs) is checked and sorted once. Edges may stand for more than one
    graph, and for parallel edges and loops; targets and sources may be the same nodes or not.

    - offsets: (num_targets + 1,), int64: the edges of target i are [offsets[i], offsets[i + 1]).
    - sources: (edges,), int64: the source of each edge, in that order.
    - num_sources: how many sources there are.
    - order: (edges,), int64: where each of these edges stood in the caller's pairs; None: there as here.

    >>> edges = Edges.from_pairs([0, 1, 2], [1, 0, 0], num_targets=2, num_sources=3)
    >>> edges.offsets, edges.sources, edges.order
    (array([0, 2, 3]), array([1, 2, 0]), array([1, 2, 0]))
    """

    offsets: Integers
    sources: Integers
    num_sources: int
    order: Integers | None = None

    @classmethod
    def from_pairs(cls, sources: Any, targets: Any, *, num_targets: int, num_sources: int) -> Edges:
        """Edges from each of `sources` to each of `targets`, integers, in any order.

        Raises ValueError (lengths that differ, nodes that do not exist), TypeError (not integers).
        """
        sources, targets = _nodes(sources, "sources"), _nodes(targets, "targets")
        if sources.shape != targets.shape:
            raise InputError(
                f"sources has shape {sources.shape} and targets {targets.shape}: pass one of each for every edge"
            )
        num_targets, num_sources = _count(num_targets, "num_targets"), _count(num_sources, "num_sources")
        _check_range(targets, num_targets, "targets", "num_targets")
        _check_range(sources, num_sources, "sources", "num_sources")
        order, offsets, _, _ = group(np, targets, None, targets, num_targets, True)
        assert offsets is not None
        return cls(offsets, sources if order is None else sources[order], num_sources, order)

    @classmethod
    def from_offsets(cls, offsets: Any, sources: Any, *, num_sources: int) -> Edges:
        """Edges by target: those of target i come from sources[offsets[i]:offsets[i + 1]]; the CSR format.

        Raises ValueError (offsets that do not run from 0 to the number of edges, sources that do not exist), TypeError.
        """
        sources = _nodes(sources, "sources")
        num_sources = _count(num_sources, "num_sources")
        _check_range(sources, num_sources, "sources", "num_sources")
        _, bounds, _, _ = group(np, sources, plain_array(offsets, "offsets"), None, None, True)
        assert bounds is not None
        return cls(bounds.copy(), sources.copy(), num_sources)

    @property
    def num_targets(self) -> int:
        """How many targets there are, those without edges too."""
        return self.offsets.size - 1

    def __len__(self) -> int:
        return self.sources.size

    @cached_property
    def targets(self) -> Integers:
        """The target of each edge."""
        return np.repeat(np.arange(self.num_targets), np.diff(self.offsets))

    @cached_property
    def by_source(self) -> tuple[Integers, Integers, Integers]:
        """Offsets of each source's edges, these edges, and their targets."""
        order, offsets, _, _ = group(np, self.sources, None, self.sources, self.num_sources, True)
        assert offsets is not None
        edges = np.arange(len(self)) if order is None else order
        return offsets, edges, self.targets[edges]

    @cached_property
    def with_self_loops(self) -> Edges:
        """These edges, but of each node to itself exactly one; the targets must be the sources."""
        if self.num_targets != self.num_sources:
            raise InputError(
                f"edges have {self.num_targets} targets and {self.num_sources} sources: loops need the same"
            )
        others, nodes = self.sources != self.targets, np.arange(self.num_targets)
        pairs = (np.concatenate([ends[others], nodes]) for ends in (self.sources, self.targets))
        return Edges.from_pairs(*pairs, num_targets=self.num_targets, num_sources=self.num_sources)

    @cached_property
    def inverse(self) -> Integers | None:
        """Where each of the caller's pairs stands here; None: there as here."""
        if self.order is None:
            return None
        inverse = np.empty_like(self.order)
        inverse[self.order] = np.arange(self.order.size)
        return inverse


def as_edges(edges: Any, num_targets: int, num_sources: int) -> Edges:
    """Edges of so many nodes, from Edges or integers of shape (2, edges), [sources, targets]."""
    if isinstance(edges, Edges):
        check_counts(edges, num_targets, num_sources)
        return edges
    pairs = _integers(edges, "edges")
    check_pairs(pairs.shape)
    return Edges.from_pairs(*pairs, num_targets=num_targets, num_sources=num_sources)


def check_counts(edges: Edges, num_targets: int, num_sources: int) -> None:
    """ValueError for the edges of another graph."""
    if (edges.num_targets, edges.num_sources) != (num_targets, num_sources):
        raise InputError(
            f"edges are those of {edges.num_targets} targets and {edges.num_sources} sources: "
            f"query has {num_targets} rows, key {num_sources}"
        )


def check_pairs(shape: tuple[int, ...]) -> None:
    """ValueError unless it is that of sources and targets."""
    if len(shape) != 2 or shape[0] != 2:
        raise InputError(
            f"edges has shape {shape}: pass integers of shape (2, edges), sources and targets, or softly.Edges"
        )


def _integers(values: Any, name: str) -> NDArray[Any]:
    array = plain_array(values, name)
    if array.size == 0 and not isinstance(values, np.ndarray):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} has dtype {array.dtype}: pass integers")
    return array


def _nodes(values: Any, name: str) -> Integers:
    array = _integers(values, name)
    if array.ndim != 1:
        raise InputError(f"{name} has shape {array.shape}: pass one integer for each edge")
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise InputError(f"{name} contains {array.max()}, which is no node")
    return np.require(array, np.int64, ["C", "A"])


def _count(number: Any, name: str) -> int:
    if isinstance(number, bool) or not hasattr(number, "__index__"):
        raise TypeError(f"{name} must be an integer, got {type(number).__name__}")
    if int(number) < 0:
        raise InputError(f"{name}={number} is negative")
    return int(number)


def _check_range(nodes: Integers, count: int, name: str, of: str) -> None:
    outside = (nodes < 0) | (nodes >= count)
    if outside.any():
        at = int(outside.argmax())
        raise InputError(f"{name}[{at}] is {nodes[at]}: it must lie in [0, {count}), below {of}")
