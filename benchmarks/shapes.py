"""What is timed: the shapes that others publish, and 30 drawn from a fixed seed before the kernels were tuned."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import numpy as np

KINDS = ("N(0, 1)", "N(0, 0.1)", "equal")
_SPARSE = ("sparsemax", "entmax")


@dataclass(frozen=True)
class Shape:
    """One case: an operation over the rows (axis -1) or columns (axis 0) of a matrix, or over segments of its rows.

    cross_entropy is the mean loss of labels and its gradient in the scores.
    """

    operation: str
    dtype: str
    rows: int
    columns: int
    axis: int = -1
    segments: int = 0
    scores: str = "N(0, 1)"

    @property
    def title(self) -> str:
        """As the table shows it."""
        extra = [f"axis {self.axis}"] * (self.axis != -1) + [f"{self.segments} segments"] * bool(self.segments)
        extra += [self.scores] * (self.operation in _SPARSE)
        return ", ".join([f"{self.operation} {self.dtype} {self.rows} x {self.columns}", *extra])

    @property
    def bytes(self) -> int:
        """Read once, written once: scores and results, one number a row for logsumexp."""
        written = self.rows if self.operation == "logsumexp" else self.rows * self.columns
        return (self.rows * self.columns + written) * kind_of(self.dtype).itemsize

    def draw(self) -> Any:
        """The scores."""
        shape = self.rows, self.columns
        scale = {"N(0, 1)": 1.0, "N(0, 0.1)": 0.1, "equal": 0.0}[self.scores]
        z = scale * np.random.default_rng(0).standard_normal(shape, np.float32)
        return z.astype(kind_of(self.dtype))

    def labels(self) -> Any:
        """One a row, for cross_entropy."""
        return np.random.default_rng(1).integers(0, self.columns, self.rows)

    def offsets(self) -> Any:
        """Bounds of segments of random sizes, for segment operations."""
        inner = np.random.default_rng(1).integers(0, self.rows + 1, self.segments - 1)
        return np.concatenate([[0], np.sort(inner), [self.rows]])


def kind_of(dtype: str) -> np.dtype[Any]:
    """The NumPy dtype of a name, bfloat16 included."""
    if dtype == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(dtype)


def published() -> list[Shape]:
    """Those that libraries are compared on."""
    softmax = [(1, 10), (64, 10), (1, 128256), (4096, 1000), (65536, 64), (1_000_000, 10), (512, 32000), (64, 128256)]
    logsumexp = [(1, 10), (4096, 1000), (65536, 64), (1_000_000, 10)]
    sparse = [(1, 10), (4096, 1000), (64, 32000)]
    return [
        *(Shape("softmax", "float32", *s) for s in softmax),
        Shape("softmax", "float32", 1000, 4096, axis=0),
        *(Shape("softmax", dtype, 1_000_000, 10) for dtype in ("float64", "float16", "bfloat16")),
        *(Shape("log_softmax", "float32", *s) for s in softmax[3:6]),
        *(Shape("logsumexp", "float32", *s) for s in logsumexp),
        *(Shape(name, "float32", *s, scores=kind) for name in _SPARSE for s in sparse for kind in KINDS),
        *(Shape("cross_entropy", "float32", *s) for s in [*softmax[3:7]]),
        Shape("segment_softmax", "float32", 1_000_000, 1, segments=100_000),
        Shape("segment_softmax", "float32", 1_000_000, 1, segments=1_000),
        Shape("segment_softmax", "float32", 1_000_000, 8, segments=100_000),
    ]


def drawn(count: int = 30) -> list[Shape]:
    """Shapes whose numbers of entries (1e3 to 3e7) and of columns (2 to 131072) are log-uniform."""
    draw = random.Random(20261125)
    found = []
    for i in range(count):
        entries = math.exp(draw.uniform(math.log(1e3), math.log(3e7)))
        columns = round(math.exp(draw.uniform(math.log(2), math.log(min(131072, entries)))))
        operation = ("softmax", "logsumexp", "log_softmax")[i % 3]
        found.append(Shape(operation, ("float32", "float64")[i % 5 == 4], max(1, round(entries / columns)), columns))
    return found
