"""Linear cross-entropy in differentiable operations: what gives it derivatives of every order, forward mode and vmap.

Scores are made again, by chunks of rows. First and second derivatives of `backward` keep none of them; the
graphs of further ones, and of transforms of torch.func, hold them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import array_api_compat.torch as array_api
import torch
from torch import Tensor

from softly._arrays import float_dtypes, without_autocast
from softly.losses.chunk_scores import over_temperature
from softly.losses.cross_entropy import cross_entropy, cross_entropy_and_gradient
from softly.losses.linear_chunks import rows_in_a_chunk
from softly.torch.finished import apart, is_batch, is_watched

Inputs = Sequence[Any]  # hidden (n, d), weight (classes, d), bias (classes,) or None, temperature (n,) or None
_BY_ROW = (True, False, False, True)
_SMALLER = 4  # than the chunks of the loss: a dozen arrays of scores wait for their derivatives at once


@dataclass(frozen=True, slots=True)
class Rows:
    """What scores are held against: labels (n,), 0 where rows are dropped, and the options of the loss."""

    labels: Tensor
    dropped: Tensor | None
    class_weight: Tensor | None
    temperature: float  # where the inputs have none
    smoothing: float

    def of(self, part: slice) -> Rows:
        """Some of the rows."""
        dropped = None if self.dropped is None else self.dropped[part]
        return Rows(self.labels[part], dropped, self.class_weight, self.temperature, self.smoothing)

    def losses(self, inputs: Inputs) -> Tensor:
        """(n,)."""
        each: Tensor = cross_entropy(self._scores(inputs), self.labels, reduction="none", **self._options(inputs))
        return each if self.dropped is None else each.masked_fill(self.dropped, 0.0)

    def gradients(self, inputs: Inputs, factor: Tensor) -> list[Tensor | None]:
        """Of the sum of factor (n,) times the losses, in each of the inputs."""
        hidden, weight, bias, temperature = inputs
        scores = self._scores(inputs)
        _, slopes = cross_entropy_and_gradient(scores, self.labels, reduction="none", **self._options(inputs))
        slopes = slopes * factor.to(slopes.dtype)[:, None]
        of_temperature = None
        if temperature is not None:
            heights = (slopes * torch.where(scores.isfinite(), scores, 0.0)).sum(-1)
            of_temperature = -over_temperature(array_api, heights, temperature)
        of_bias = None if bias is None else slopes.sum(0)
        return [slopes @ weight, slopes.T @ self._kept(hidden), of_bias, of_temperature]

    def _kept(self, hidden: Tensor) -> Tensor:
        """0 in rows that are dropped, whatever they hold."""
        return hidden if self.dropped is None else torch.where(self.dropped[:, None], 0.0, hidden)

    def _scores(self, inputs: Inputs) -> Tensor:
        hidden, weight, bias, _ = inputs
        return torch.nn.functional.linear(self._kept(hidden), weight, bias)

    def _options(self, inputs: Inputs) -> dict[str, Any]:
        temperature = self.temperature if inputs[3] is None else inputs[3]
        return {"temperature": temperature, "class_weight": self.class_weight, "label_smoothing": self.smoothing}


def is_composed(x: Tensor) -> bool:
    """Whether an `autograd.Function` would not do: in forward mode, for batches, in all but one `torch.func.grad`."""
    if is_watched(x):
        return False
    if torch.autograd.forward_ad._current_level >= 0:
        return True
    levels = [level.key() for level in torch._C._functorch.get_interpreter_stack() or ()]
    return levels != [torch._C._functorch.TransformType.Grad] if levels else is_batch(x)


def compute_dtype(hidden: Tensor, weight: Tensor) -> torch.dtype:
    """That of the products: of half precisions float32."""
    return float_dtypes(array_api, torch.promote_types(hidden.dtype, weight.dtype))[1]


def losses(inputs: Inputs, rows: Rows) -> Tensor:
    """The loss of each row (n,), float64, 0 where it is dropped."""
    with without_autocast(inputs[0]):
        wide = _wide(inputs)
        return torch.cat([rows.of(part).losses(_of(wide, part)).double() for part in _parts(wide)])


def gradients(inputs: Inputs, factor: Tensor, rows: Rows) -> list[Tensor | None]:
    """Of the sum of factor (n,) times the losses, in each of the inputs."""
    with without_autocast(inputs[0]):
        wide = _wide(inputs)
        found = [rows.of(part).gradients(_of(wide, part), factor[part]) for part in _parts(wide)]
    return [
        None if x is None else (torch.cat(each) if by_row else sum(each)).to(x.dtype)
        for x, by_row, each in zip(inputs, _BY_ROW, zip(*found, strict=True), strict=True)
    ]


def _wide(inputs: Inputs) -> list[Any]:
    hidden, weight, bias, temperature = inputs
    dtype = compute_dtype(hidden, weight)
    return [hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype), temperature]


def _parts(wide: Inputs) -> Iterator[slice]:
    """The chunks of rows, at least one."""
    hidden, (classes, width) = wide[0], wide[1].shape
    size = max(1, rows_in_a_chunk(classes, width, hidden.dtype.itemsize) // _SMALLER)
    return (slice(begin, begin + size) for begin in range(0, max(1, hidden.shape[0]), size))


def _of(tensors: Inputs, part: slice) -> list[Any]:
    return [x[part] if by_row and x is not None else x for x, by_row in zip(tensors, _BY_ROW, strict=True)]


class Differentiable(torch.autograd.Function):
    """Finished gradients of which derivatives may be asked, in their factor and the inputs."""

    @staticmethod
    def forward(factor: Tensor, *rest: Any) -> tuple[Tensor | None, ...]:
        """Rest: the inputs, the fields of `Rows`, the gradients, which come back."""
        return tuple(None if g is None else g.view_as(g) for g in rest[-len(_BY_ROW) :])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """All that a second run needs."""
        *tensors, ctx.temperature, ctx.smoothing = inputs[: -len(_BY_ROW)]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        """The derivatives: a graph of all rows where it is asked for, else of one chunk after the other."""
        nothing = (None,) * (5 + len(_BY_ROW))
        if all(cotangent is None for cotangent in cotangents):
            return *(None,) * 5, *nothing
        factor, *inputs, labels, dropped, class_weight = ctx.saved_tensors
        rows = Rows(labels, dropped, class_weight, ctx.temperature, ctx.smoothing)
        needed = ctx.needs_input_grad[: 1 + len(inputs)]
        with without_autocast(factor):
            if torch.is_grad_enabled() or any(v is not None and is_composed(v) for v in cotangents):
                variables = factor, *inputs
                found = _derivatives(variables, needed, cotangents, rows, create_graph=torch.is_grad_enabled())
            else:
                found = _derivatives_in_chunks(factor, _wide(inputs), needed, cotangents, rows)
        found = [None if g is None else g.to(x.dtype) for g, x in zip(found, (factor, *inputs), strict=True)]
        return *found, *nothing


def _derivatives(
    variables: Inputs, needed: Sequence[bool], cotangents: Inputs, rows: Rows, *, create_graph: bool = False
) -> list[Tensor | None]:
    """Of the inner product of the gradients with the cotangents, in the factor and the inputs."""
    with torch.enable_grad():
        variables = apart(variables)  # the factor may come of the loss itself
        factor, *inputs = variables
        gradients = rows.gradients(_wide(inputs), factor)
    pairs = [(g, v.to(g.dtype)) for g, v in zip(gradients, cotangents, strict=True) if g is not None and v is not None]
    outputs, weights = zip(*pairs, strict=True)
    wanted = [x for x, need in zip(variables, needed, strict=True) if need]
    found = iter(torch.autograd.grad(outputs, wanted, weights, create_graph=create_graph, allow_unused=True))
    return [next(found) if need else None for need in needed]


def _derivatives_in_chunks(
    factor: Tensor, inputs: Inputs, needed: Sequence[bool], cotangents: Inputs, rows: Rows
) -> list[Tensor | None]:
    """The same without a graph."""
    variables, by_row = (factor, *inputs), (True, *_BY_ROW)
    totals = [torch.zeros_like(x) if need else None for x, need in zip(variables, needed, strict=True)]
    for part in _parts(inputs):
        some = [factor[part], *_of(inputs, part)]
        leaves = [None if x is None else x.detach().requires_grad_(n) for x, n in zip(some, needed, strict=True)]
        found = _derivatives(leaves, needed, _of(cotangents, part), rows.of(part))
        for total, g, of_rows in zip(totals, found, by_row, strict=True):
            if total is not None and g is not None:
                (total[part] if of_rows else total).add_(g)
    return totals
