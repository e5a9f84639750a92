"""The cases of the table row by row: what mpmath is asked for, and what segments are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import mpmath
import numpy as np
import semantics
import semantics_truth

Array = np.ndarray[Any, Any]
AS_SEGMENTS = {
    "softmax": "segment_softmax",
    "log_softmax": "segment_log_softmax",
    "logsumexp": "segment_logsumexp",
    "entmax": "segment_entmax",
    "sparsemax": "segment_entmax",
}


@dataclass(frozen=True)
class Row:
    """One row, segment or, of a sigmoid, one score: -inf where impossible, and what the table expects of it."""

    scores: Array
    temperature: float
    weights: Array | None
    expected: list[Array]

    @property
    def is_ordinary(self) -> bool:
        """Whether the truth needs no limit: something finite, nothing NaN or +inf, 0 < T < inf, finite weights."""
        real, imaginary = self.scores.real, np.where(np.isneginf(self.scores.real), 0, self.scores.imag)
        possible = bool(np.isfinite(real).any() and (real < np.inf).all() and np.isfinite(imaginary).all())
        weighted = self.weights is None or bool((np.abs(self.weights) < np.inf).all())
        return possible and weighted and 0 < self.temperature < np.inf


def kind_of(dtype: str) -> np.dtype[Any]:
    """The dtype that a function computes these scores from: float64 for integers and Python's numbers."""
    return semantics.to_dtype(dtype if dtype in semantics.FLOATS else "float64")


class Folded:
    """Arrays of the scores' shape as (rows, entries): the reduced axes last, as one."""

    def __init__(self, shape: tuple[int, ...], axis: Any) -> None:
        axes = range(len(shape)) if axis is None else (axis if isinstance(axis, tuple) else (axis,))
        reduced = [i % len(shape) for i in axes] if shape else []
        self.shape, self.kept = shape, [i for i in range(len(shape)) if i not in reduced]
        self.order, self.entries = self.kept + reduced, int(np.prod([shape[i] for i in reduced]))

    def entrywise(self, array: Any) -> Array:
        """An array that broadcasts against the scores."""
        whole = np.broadcast_to(array, self.shape).transpose(self.order)
        return whole.reshape(int(np.prod([self.shape[i] for i in self.kept])), self.entries)

    def rowwise(self, array: Any) -> Array:
        """An array that broadcasts against the scores without the reduced axes."""
        return np.broadcast_to(array, tuple(self.shape[i] for i in self.kept)).reshape(-1)


def rows(case: semantics.Case, name: str, dtype: str) -> Iterator[Row]:
    """Every row of a case whose scores are listed in it."""
    kind, options = kind_of(dtype), semantics.options_of(case)
    wide = semantics.fill(case.input, kind if dtype == "python" else semantics.to_dtype(dtype)).astype(
        np.complex128 if kind.kind == "c" else np.float64
    )
    weights = options.get("weights")
    possible = np.broadcast_to(options.get("where", True), wide.shape)
    possible = possible if weights is None else possible & (np.broadcast_to(weights, wide.shape) != 0)
    wide = np.where(possible, wide, -np.inf)
    parts, temperature = semantics.parts_of(case, name, kind), options.get("temperature", 1.0)
    if name in semantics.SEGMENTS:
        yield from segment_rows(name, wide, options, temperature, parts[0])
        return
    each = name in semantics.ELEMENTWISE
    folded = Folded(wide.shape, () if each else options.get("axis", -1))
    temperatures = folded.rowwise(temperature)
    found = [part.reshape(-1) if name == "logsumexp" else folded.entrywise(part) for part in parts]
    for i, row in enumerate(folded.entrywise(wide)):
        own = None if weights is None else folded.entrywise(weights)[i]
        yield Row(row, float(temperatures[i]), own, [part[i] for part in found])


def segment_rows(name: str, wide: Array, options: dict[str, Any], temperature: Any, expected: Array) -> Iterator[Row]:
    """The segments of every head, empty ones left out."""
    if "offsets" in options:
        count = len(options["offsets"]) - 1
        index = np.repeat(np.arange(count), np.diff(options["offsets"]))
    else:
        index = options["index"]
        count = options.get("num_segments", max(index, default=-1) + 1)
    temperatures = np.broadcast_to(temperature, (count, *wide.shape[1:]))
    for segment in range(count):
        for head in np.ndindex(wide.shape[1:]):
            place = (index == segment, *head)
            if wide[place].size:
                own = expected[segment, *head] if name == "segment_logsumexp" else expected[place]
                yield Row(wide[place], float(temperatures[segment, *head]), None, [own])


def truth(case: semantics.Case, name: str, row: Row) -> list[Array]:
    """What mpmath makes of an ordinary row, rounded to 64 bits."""
    with mpmath.workdps(40), np.errstate(all="ignore"):
        if "weights" in case.options or "return_sign" in case.options or np.iscomplexobj(row.scores):
            weights = np.ones(row.scores.shape) if row.weights is None else row.weights
            log, sign = semantics_truth.signed_sum(row.scores, row.temperature, weights)
            if case.options.get("return_sign"):
                return [np.float64(log), np.complex128(sign) if np.iscomplexobj(row.scores) else np.float64(sign)]
            if np.iscomplexobj(row.scores):
                return [np.complex128(complex(log, mpmath.arg(sign)))]
            return [np.float64(log) if sign >= 0 else np.float64(np.nan)]
        alpha = case.options.get("alpha", 2.0 if name == "sparsemax" else 1.5)
        name = name.removeprefix("segment_")
        found = semantics.exact(name, row.scores, row.temperature, alpha)
        values = np.array([float(value) for value in found])
        return [values[0] if name == "logsumexp" else values]


def fits_segments(case: semantics.Case, name: str, dtype: str) -> bool:
    """Whether a case of a map can be asked of the function over segments."""
    known = {"axis", "temperature", "where", "empty"} | ({"alpha"} if name == "entmax" else set())
    told = dtype != "python" and "complex" not in dtype and not case.layout
    if name not in AS_SEGMENTS or not told or not set(case.options) <= known:
        return False
    given = semantics.fill(case.input)
    if case.raises:  # the shapes that are wrong must stay wrong
        return given.ndim == 1 and case.raises != "AxisError"
    return given.size < 10**6


def as_segments(case: semantics.Case, name: str, dtype: str) -> semantics.Case:
    """The same case for the function over segments: each row is a segment, what it gives stands end to end."""
    options = semantics.options_of(case)
    scores = semantics.fill(case.input, semantics.to_dtype(dtype))
    folded = Folded(scores.shape, options.pop("axis", -1))
    entries = folded.entrywise(scores)
    options["offsets"] = folded.entries * np.arange(len(entries) + 1)
    if name == "sparsemax":
        options["alpha"] = 2.0
    if case.raises:
        return replace(case, options=options, functions=(AS_SEGMENTS[name],))
    if "where" in options:
        options["where"] = folded.entrywise(options["where"]).reshape(-1)
    if "temperature" in options:
        options["temperature"] = folded.rowwise(options["temperature"])
    value = semantics.fill(case.expected[name], np.float64)
    expected = (value if name == "logsumexp" else folded.entrywise(value)).reshape(-1)
    return replace(case, input=entries.reshape(-1), options=options, expected={AS_SEGMENTS[name]: expected})
