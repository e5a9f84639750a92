"""What every source of scores gives, whatever its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from softly.files.problems import listed, problem

# 128 MB of float64: with very many classes a batch has fewer rows, so that memory stays bounded.
_BATCH_CELLS = 2**24

Where = Callable[[int], str]
"""The place of a row of a batch, in words for an error."""


class Batch(NamedTuple):
    """Consecutive rows of a source.

    `scores` (rows, classes), C-contiguous; float32 if no score column holds more than float32 can (float32,
    float16, integers of 16 bits and less), else float64. `labels` (rows,) int64 class indices, or None.
    `start` is the first row's index in the source. `table` is a pyarrow.RecordBatch of all columns of these
    rows in file order, if asked for and if the source is a table (of CSV: text and, for other columns, bytes).
    """

    scores: NDArray[Any]
    labels: NDArray[np.int64] | None
    start: int
    table: Any | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the caller of `open_scores` asked for."""

    label: str | None
    scores: str | None
    classes: tuple[str, ...] | None
    labels_required: bool
    batch_rows: int


class Sink(Protocol):
    """The receiving end of one output file in one format."""

    def write(self, batch: Batch, probabilities: NDArray[Any]) -> None:
        """Append the rows of a batch and their probabilities (rows, classes) of the source's dtype."""

    def close(self) -> None:
        """Write what the format needs at the end; the file itself stays open."""


class ScoreSource(ABC):
    """Scores (and labels) of one data set, read in batches: any number of passes, memory apart from rows.

    `classes` are the names in the order of the columns of `Batch.scores`; `rows` is None when only a scan
    could tell; `dtype` is that of all `Batch.scores`. Every batch but the last has the same number of rows.
    """

    format: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    path: Path
    classes: tuple[str, ...]
    rows: int | None
    dtype: np.dtype[Any]

    @property
    def suffix(self) -> str:
        """The suffix for an output in the format of this source, such as `.csv.gz`."""
        name = self.path.name.lower()
        return next((suffix for suffix in self.suffixes if name.endswith(suffix)), self.suffixes[0])

    @abstractmethod
    def batches(self, *, with_table: bool = False) -> Iterator[Batch]:
        """Scan the source once; raise InputError at the first row that cannot be used."""

    @abstractmethod
    def location(self, row: int) -> str:
        """Return where a row stands: `scores.csv, line 17` (the header is line 1) or `scores.npy, row 15`."""

    @abstractmethod
    def sink(self, file: BinaryIO, path: Path) -> Sink:
        """Return what writes this source with probabilities, in its own format, to the open file."""

    @abstractmethod
    def additions(self) -> tuple[str, ...]:
        """Return the names that an output adds; InputError if the source has one of them already."""


def score_dtype(dtypes: Iterable[np.dtype[Any]]) -> np.dtype[Any]:
    """Return float32 if it holds every value of these real types exactly, else float64."""
    narrow = all(dtype.itemsize <= (4 if dtype.kind == "f" else 2) for dtype in dtypes)
    return np.dtype(np.float32 if narrow else np.float64)


def rows_per_batch(request: Request, classes: int) -> int:
    """Return the rows asked for, or fewer if there are very many classes."""
    return max(1, min(request.batch_rows, _BATCH_CELLS // classes))


def table_of(batch: Batch) -> Any:
    """Return the table of a batch; ValueError if the source was scanned without."""
    if batch.table is None:
        raise ValueError("the batch has no table; scan the source by batches(with_table=True)")
    return batch.table


def as_pair(scores: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return scores (rows, k) in `dtype`; one column s becomes the binary pair [0, s]."""
    if scores.shape[1] > 1:
        return np.ascontiguousarray(scores, dtype=dtype)
    pair = np.zeros((len(scores), 2), dtype)
    pair[:, 1] = scores[:, 0]
    return pair


def first_nan(scores: NDArray[Any]) -> tuple[int, int] | None:
    """Return (row, column) of the first NaN in reading order, or None.

    The sum is NaN if any entry is; only then (or where +inf meets -inf) is every entry looked at.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        if not np.isnan(scores.sum()):
            return None
    missing = np.isnan(scores)
    if not missing.any():
        return None
    row, column = divmod(int(missing.argmax()), scores.shape[1])
    return row, column


def class_names(where: object, found: Sequence[str], given: Sequence[str] | None) -> tuple[str, ...]:
    """Return the given names, or those found in the file; InputError unless one a class, distinct."""
    names = tuple(found if given is None else given)
    if len(names) != len(found):
        what = f"{len(found)} classes of scores, but {len(names)} names in --classes; give one name a class"
        raise problem(where, what)
    if len(names) < 2:
        raise problem(where, "fewer than two classes of scores; give at least two columns of scores")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated or "" in names:
        what = f"repeated ({listed(repeated)})" if repeated else "empty"
        raise problem(where, f"a class name is {what}; give distinct names in column order with --classes")
    return names
