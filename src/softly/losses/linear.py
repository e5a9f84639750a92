"""Cross-entropy of the scores hidden @ weight.T + bias of a large vocabulary, which are never whole in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from softly._arrays import Array, as_array, beside, check_temperature, device, float_dtypes, is_tensor, quiet
from softly._errors import InputError
from softly._rows import give_back
from softly.losses.chunk_scores import Loss
from softly.losses.linear_chunks import Gradients, NumPyProducts, run
from softly.losses.targets import Reduction, Targets, as_targets, check_reduction, wide


class LinearGradients(NamedTuple):
    """A loss and its gradients, in the shapes and floating dtypes of their variables; bias: None without one."""

    loss: Array
    hidden: Array
    weight: Array
    bias: Array | None


def linear_cross_entropy(
    hidden: Array,
    weight: Array,
    target: Array,
    *,
    bias: Array | None = None,
    temperature: Any = 1.0,
    class_weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Array:
    """`cross_entropy(hidden @ weight.T + bias, target)` without its scores: exact, a chunk of rows at a time.

    Memory beyond arguments and gradients: scores of 32 MB, or an eighth of the weights if that is more, and blocks of
    8 MB, however many rows there are; gradients of half precisions are in float32 until they are rounded. Rows that
    are ignored cost nothing.

    - hidden: (*batch, d), what the last layer gets; weight: (classes, d); bias: (classes,), -inf where impossible.
    - target: labels, integers of shape `batch`. Soft targets are as large as the scores: use `cross_entropy`.
    - other arguments: as `cross_entropy`; the temperature is a number or broadcasts to one a row.

    Returns a number, or shape `batch` for reduction="none", in the dtype of hidden @ weight.T. Products are in that
    dtype, those of half precisions in float32; losses are added in float64. Edge rows as `cross_entropy`.

    Tensors of torch have gradients in hidden, weight, bias and temperature. They are computed along with the value, so
    that backward only scales them; with reduction="none" backward computes the scores again, as second derivatives do.
    Forward mode and vmap are there too. Under autocast the result is float32, and products are as without.

    Raises ValueError (shapes that do not fit, and as `cross_entropy`), TypeError. Source: the gradients of chunks of
    rows in the forward pass are those of Liger-Kernel (Hsu et al., 2024).

    >>> float(linear_cross_entropy([[1.0, 2.0]], [[2.0, 0.0], [0.0, 0.5], [1.0, -1.0]], [0]).round(6))
    0.349012
    """
    reduction = check_reduction(reduction)
    options = {"class_weight": class_weight, "ignore_index": ignore_index, "label_smoothing": label_smoothing}
    with quiet(hidden):
        problem = _prepare(hidden, weight, target, bias, temperature, **options)
        if is_tensor(problem.hidden):
            from softly.torch import linear_cross_entropy as over_tensors

            return over_tensors.evaluate(problem, reduction)
        return _evaluate(problem, reduction, None)


def linear_cross_entropy_and_gradients(
    hidden: Array,
    weight: Array,
    target: Array,
    *,
    bias: Array | None = None,
    temperature: Any = 1.0,
    class_weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> LinearGradients:
    """`linear_cross_entropy` of NumPy arrays with its gradients, as a named tuple (loss, hidden, weight, bias).

    Arguments, memory, edge rows and errors as `linear_cross_entropy`. With reduction="none" the gradients are those of
    the losses' sum. Tensors have `backward()` instead: they are a TypeError.

    >>> found = linear_cross_entropy_and_gradients([[1.0, 2.0]], [[2.0, 0.0], [0.0, 0.5], [1.0, -1.0]], [0])
    >>> found.hidden.round(4)
    array([[-0.5541,  0.0946]])
    """
    reduction = check_reduction(reduction)
    options = {"class_weight": class_weight, "ignore_index": ignore_index, "label_smoothing": label_smoothing}
    with quiet(hidden):
        problem = _prepare(hidden, weight, target, bias, temperature, **options)
        if is_tensor(problem.hidden):
            raise TypeError("hidden is a tensor, with gradients of its own: call linear_cross_entropy(...).backward()")
        variables = problem.hidden, problem.weight, problem.bias
        into = Gradients(*(None if x is None else np.zeros(x.shape, problem.compute) for x in variables))
        loss = _evaluate(problem, reduction, into)
        found: list[Any] = [
            None if x is None else give_back(np, g, float_dtypes(np, x.dtype)[0], None)
            for g, x in zip((into.hidden, into.weight, into.bias), variables, strict=True)
        ]
        of_hidden, of_weight, of_bias = found
        return LinearGradients(loss, of_hidden.reshape(*problem.batch, problem.hidden.shape[1]), of_weight, of_bias)


@dataclass(frozen=True, slots=True)
class Problem:
    """The arguments, checked: hidden (n, d) are the rows of the batch, of which there may be one."""

    xp: ModuleType
    hidden: Array
    weight: Array
    bias: Array | None
    temperature: float | Array  # or (n,)
    targets: Targets
    batch: tuple[int, ...]
    dtype: Any  # of the result
    compute: Any  # of the products

    @property
    def labels(self) -> Array:
        """(n,), 0 where the row is dropped."""
        return self.xp.reshape(self.targets.labels, (-1,))

    @property
    def dropped(self) -> Array | None:
        """(n,), or None."""
        dropped = self.targets.dropped
        return None if dropped is None else self.xp.reshape(dropped, (-1,))

    @property
    def counts(self) -> Array:
        """(n,), float64: 1, 0 in ignored rows, NaN where a label is wrong but could not be read."""
        counts = self.targets.counts
        if counts is None:
            return self.xp.ones_like(wide(self.xp, self.labels))
        return self.xp.reshape(counts, (-1,))

    def returned(self, result: Array) -> Array:
        """A number or losses of rows as the caller gets them."""
        result = self.xp.reshape(result, self.batch) if result.ndim else result
        return give_back(self.xp, result, self.dtype, None)


def _evaluate(problem: Problem, reduction: Reduction, into: Gradients | None) -> Array:
    """NumPy's."""
    dropped, targets = problem.dropped, problem.targets
    loss = Loss(
        problem.labels,
        None if dropped is None else np.flatnonzero(~dropped),
        problem.counts * targets.share(reduction),
        problem.temperature,
        targets.class_weight,
        targets.smoothing,
    )
    losses = run(NumPyProducts(problem.compute), problem.hidden, problem.weight, problem.bias, loss, into)
    return problem.returned(targets.reduced(losses, reduction))


def _prepare(hidden: Any, weight: Any, target: Any, bias: Any, temperature: Any, **options: Any) -> Problem:
    """Everything checked."""
    xp, hidden = as_array(hidden, "hidden")
    if not (xp is np or is_tensor(hidden)) or any(is_tensor(x) and xp is np for x in (weight, bias)):
        raise TypeError(
            f"hidden is of {type(hidden).__name__}, weight of {type(weight).__name__}: pass NumPy arrays, or tensors"
        )
    weight = beside(xp, weight, "weight", hidden)
    bias = None if bias is None else beside(xp, bias, "bias", hidden)
    if not hidden.ndim or weight.ndim != 2 or weight.shape[1] != hidden.shape[-1]:
        raise InputError(
            f"hidden has shape {tuple(hidden.shape)} and weight {tuple(weight.shape)}: "
            "pass (..., d) and (classes, d), so that scores are hidden @ weight.T"
        )
    classes, width = (int(n) for n in weight.shape) if xp is np else weight.shape
    if bias is not None and tuple(bias.shape) != (classes,):
        raise InputError(f"bias has shape {tuple(bias.shape)}: pass one number for each of {classes} classes")
    kinds = [float_dtypes(xp, x.dtype, name=name)[0] for name, x in (("hidden", hidden), ("weight", weight))]
    dtype, compute = float_dtypes(xp, xp.result_type(*kinds))
    batch = tuple(hidden.shape[:-1])
    like = xp.zeros(0, dtype=compute, device=device(hidden))
    if tuple(as_array(target, "target")[1].shape) == (*batch, classes):
        raise InputError(
            f"target has shape {(*batch, classes)}: soft targets are as large as the scores, so compute them: "
            "cross_entropy(hidden @ weight.T, target)"
        )
    targets = as_targets(target, xp, like, batch, classes, **options)
    checked = check_temperature(temperature, xp, like, batch, "row")
    if not isinstance(checked, float):
        checked = xp.reshape(checked, (-1,))
    rows = xp.reshape(hidden, (math.prod(batch), width))
    return Problem(xp, rows, weight, bias, checked, targets, batch, dtype, compute)
