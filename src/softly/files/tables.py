"""What all tables share: columns of record batches -> matrix of scores, labels, batches of equal size."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from softly._errors import InputError
from softly.files.columns import Columns
from softly.files.labels import label_indices
from softly.files.problems import problem, quoted
from softly.files.sources import Batch, Request, ScoreSource, Where, as_pair, first_nan, rows_per_batch


class TableSource(ScoreSource):
    """A source with columns; a format adds how to scan, what numbers are, where a row is, how to write."""

    columns: Columns
    column_names: tuple[str, ...]
    labels_are_text: ClassVar[bool] = False
    _batch_rows: int = 64  # until the number of classes is known

    @abstractmethod
    def _scan(self, columns: Sequence[str] | None) -> Iterator[Any]:
        """Yield record batches of any size with these columns (None: all)."""

    @abstractmethod
    def _numbers(self, column: Any) -> NDArray[Any]:
        """Return a score column as an array, with NaN for all that is not a number."""

    def _use(self, columns: Columns, classes: tuple[str, ...], dtype: np.dtype[Any], request: Request) -> None:
        self.columns, self.classes, self.dtype = columns, classes, dtype
        self._batch_rows = rows_per_batch(request, len(classes))

    def batches(self, *, with_table: bool = False) -> Iterator[Batch]:
        """Scan the table once, only the needed columns unless `with_table`."""
        label = () if self.columns.label is None else (self.columns.label,)
        needed = None if with_table else (*self.columns.scores, *label)
        start = 0
        for table in regroup(self._scan(needed), self._batch_rows):
            where = partial(self._location_in_batch, start)
            scores = as_pair(self._scores(table, where), self.dtype)
            yield Batch(scores, self._labels(table, where), start, table if with_table else None)
            start += table.num_rows
        if start == 0:
            raise no_rows(self.path)

    def _location_in_batch(self, start: int, row: int) -> str:
        return self.location(start + row)

    def _scores(self, table: Any, where: Where) -> NDArray[Any]:
        names = self.columns.scores
        scores = np.empty((table.num_rows, len(names)), self.dtype)
        for index, name in enumerate(names):
            scores[:, index] = self._numbers(table.column(name))
        bad = first_nan(scores)
        if bad is not None:
            row, index = bad
            raise bad_score(where(row), quoted(names[index]), table.column(names[index])[row].as_py())
        return scores

    def _labels(self, table: Any, where: Where) -> NDArray[np.int64] | None:
        if self.columns.label is None:
            return None
        column = table.column(self.columns.label)
        return label_indices(column, self.classes, where, is_text=self.labels_are_text)

    def additions(self) -> tuple[str, ...]:
        """Return `p_<class>` for each class; InputError if the table has such a column."""
        names = tuple(f"p_{name}" for name in self.classes)
        taken = sorted(set(names) & set(self.column_names))
        if taken:
            what = f"the table has a column {quoted(taken[0])} already; rename or drop it"
            raise problem(self.path, f"{what}, or name the classes differently with --classes")
        return names


def regroup(batches: Iterable[Any], rows: int) -> Iterator[Any]:
    """Yield the same rows in record batches of exactly `rows` rows, the last one apart.

    Then results depend on the data alone, not on how a format or a writer happened to cut it.
    """
    pending: list[Any] = []
    held = 0
    for batch in batches:
        rest = batch
        while held + rest.num_rows >= rows:
            missing = rows - held
            yield from _joined([*pending, rest.slice(0, missing)])
            rest = rest.slice(missing)
            pending, held = [], 0
        if rest.num_rows:
            pending.append(rest)
            held += rest.num_rows
    if pending:
        yield from _joined(pending)


def _joined(batches: list[Any]) -> Iterator[Any]:
    # More than 2 GB of text in one column makes several batches, each of them whole rows.
    yield from batches if len(batches) == 1 else pa.Table.from_batches(batches).combine_chunks().to_batches()


def no_rows(where: object) -> InputError:
    """Return the error for a source without rows."""
    return problem(where, "no rows; give at least one row of scores")


def bad_score(place: str, column: str, value: object) -> InputError:
    """Return the error for a score that is missing, NaN or text."""
    if value is None or (isinstance(value, str) and not value.strip()):
        found, remedy = "the score is missing", "fill it in or drop the row"
    elif isinstance(value, str) and value.strip().lower().lstrip("+-") != "nan":
        found, remedy = f"{quoted(value)} is not a number", "correct it, or choose columns with --scores"
    else:
        found, remedy = "the score is NaN", "correct it or drop the row (-inf means impossible)"
    return problem(f"{place}, column {column}", f"{found}; {remedy}")
