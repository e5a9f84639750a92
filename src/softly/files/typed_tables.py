"""Tables that declare the type of each column (Parquet, Arrow), lists of scores among them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from softly.files.columns import choose_columns
from softly.files.problems import problem, quoted
from softly.files.sources import Batch, Request, Where, class_names, first_nan, score_dtype, table_of
from softly.files.tables import TableSource, bad_score, no_rows


class TypedTable(TableSource):
    """A table with an Arrow schema; scores stand in one column a class, or in one column of lists."""

    schema: Any
    _list_width: int | None = None

    def _choose(self, request: Request) -> None:
        """Choose columns by the schema's types; InputError if the chosen ones do not hold numbers."""
        numeric = frozenset(field.name for field in self.schema if _is_number(field.type))
        lists = frozenset(field.name for field in self.schema if _is_list(field.type))
        columns = choose_columns(self.path, self.column_names, request, numeric=numeric, lists=lists)
        if self.rows == 0:
            raise no_rows(self.path)
        types = [self.schema.field(name).type for name in columns.scores]
        classes = columns.classes
        if classes is None:
            self._list_width = self._first_length(columns.scores[0])
            types = [types[0].value_type]
            found = [str(index) for index in range(2 if self._list_width == 1 else self._list_width)]
            classes = class_names(self.path, found, request.classes)
        for name, kind in zip(columns.scores, types, strict=True):
            if not _is_number(kind):
                what = f"column {quoted(name)} holds {kind}, scores must be numbers"
                raise problem(self.path, f"{what}; convert it, or choose other columns with --scores")
        self._use(columns, classes, score_dtype(_numpy_type(kind) for kind in types), request)

    def _first_length(self, name: str) -> int:
        kind = self.schema.field(name).type
        if pa.types.is_fixed_size_list(kind):
            return int(kind.list_size)
        for batch in self._scan([name]):
            lengths = pc.list_value_length(batch.column(name)).drop_null()
            if len(lengths):
                return int(lengths[0].as_py())
        raise problem(self.path, f"column {quoted(name)} has no list in any row; give one score a class")

    def _numbers(self, column: Any) -> NDArray[Any]:
        if pa.types.is_decimal(column.type):
            column = column.cast(pa.float64())
        values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
        return values

    def _scores(self, table: Any, where: Where) -> NDArray[Any]:
        if self._list_width is None:
            return super()._scores(table, where)
        name, width = self.columns.scores[0], self._list_width
        column = table.column(name)
        lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)
        wrong = lengths != width
        if wrong.any():
            row = int(wrong.argmax())
            if lengths[row] < 0:
                raise bad_score(where(row), quoted(name), None)
            what = f"{lengths[row]} scores, the first row has {width}; every row needs one score a class"
            raise problem(f"{where(row)}, column {quoted(name)}", what)
        values = column.flatten()
        scores = self._numbers(values).reshape(len(column), width)
        bad = first_nan(scores)
        if bad is not None:
            row, index = bad
            raise bad_score(where(row), f"{quoted(name)}[{index}]", values[row * width + index].as_py())
        return scores

    def output_schema(self) -> Any:
        """Return the schema of an output: all columns and metadata of the source, then the probabilities."""
        schema = self.schema
        for name in self.additions():
            schema = schema.append(pa.field(name, pa.from_numpy_dtype(self.dtype)))
        return schema


def with_probabilities(batch: Batch, probabilities: NDArray[Any], schema: Any) -> Any:
    """Return the record batch of all columns and the probabilities, in the output's schema."""
    added = [pa.array(np.ascontiguousarray(column)) for column in probabilities.T]
    return pa.RecordBatch.from_arrays([*table_of(batch).columns, *added], schema=schema)


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _numpy_type(kind: Any) -> np.dtype[Any]:
    return np.dtype(np.float64 if pa.types.is_decimal(kind) else kind.to_pandas_dtype())
