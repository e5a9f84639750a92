"""Parquet: one file, or the files of a directory or pattern read as one table."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, zip_longest
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from softly.files.problems import problem, quoted, reading
from softly.files.sources import Batch, Request
from softly.files.typed_tables import TypedTable, with_probabilities

# Row groups of an output: large enough to be read well, small enough to be held.
_GROUP_ROWS, _GROUP_BYTES = 2**18, 2**26
_CODECS = {"UNCOMPRESSED": "NONE", "LZ4_RAW": "LZ4", "LZ4_HADOOP": "LZ4"}


class ParquetSource(TypedTable):
    """Parquet files of one schema, in order; only the needed columns are read."""

    format = "parquet"
    suffixes = (".parquet",)

    def __init__(self, path: Path, parts: Sequence[Path], request: Request) -> None:
        self.path, self.parts = path, tuple(parts)
        self.codec: str | None = None
        self.dictionary: list[str] = []
        counts = [self._inspect(part) for part in self.parts]
        self._ends = list(accumulate(counts))
        self.rows = self._ends[-1]
        self._choose(request)

    def _inspect(self, part: Path) -> int:
        """Take schema and codec from the first part, check the schema of the others, return the rows."""
        with reading(part, "Parquet"), pq.ParquetFile(part) as file:
            self._take_encoding(file)
            if part == self.parts[0]:
                self.schema = file.schema_arrow
                self.column_names = tuple(self.schema.names)
            elif file.schema_arrow != self.schema:
                raise problem(part, _difference(file.schema_arrow, self.schema, self.parts[0]))
            return int(file.metadata.num_rows)

    def _take_encoding(self, file: Any) -> None:
        """Remember the codec, and which columns are worth a dictionary, from the first part with rows."""
        if self.codec is None and file.metadata.num_row_groups:
            codec = file.metadata.row_group(0).column(0).compression
            self.codec = _CODECS.get(codec, codec)
            columns = [file.schema.column(index) for index in range(len(file.schema))]
            # Floating-point numbers hardly repeat: a dictionary of them costs time and saves nothing.
            self.dictionary = [column.path for column in columns if column.physical_type not in ("FLOAT", "DOUBLE")]

    def _scan(self, columns: Sequence[str] | None) -> Iterator[Any]:
        chosen = None if columns is None else list(columns)
        for part in self.parts:
            with reading(part, "Parquet"), pq.ParquetFile(part, pre_buffer=False) as file:
                yield from file.iter_batches(batch_size=self._batch_rows, columns=chosen)

    def location(self, row: int) -> str:
        """Return `part-1.parquet, row 16`: the file, and the row in it, counted from 0."""
        part = bisect_right(self._ends, row)
        first = self._ends[part - 1] if part else 0
        return f"{self.parts[part]}, row {row - first}"

    def sink(self, file: BinaryIO, path: Path) -> _ParquetSink:
        """Return a writer of Parquet with the source's codec and schema metadata."""
        return _ParquetSink(self, file)


class _ParquetSink:
    def __init__(self, source: ParquetSource, file: BinaryIO) -> None:
        self._schema = source.output_schema()
        self._writer = pq.ParquetWriter(file, self._schema, compression=source.codec, use_dictionary=source.dictionary)
        self._pending: list[Any] = []

    def write(self, batch: Batch, probabilities: NDArray[Any]) -> None:
        self._pending.append(with_probabilities(batch, probabilities, self._schema))
        rows = sum(batch.num_rows for batch in self._pending)
        if rows >= _GROUP_ROWS or sum(batch.nbytes for batch in self._pending) >= _GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            table = pa.Table.from_batches(self._pending, self._schema)
            self._writer.write_table(table, row_group_size=table.num_rows)
            self._pending = []

    def close(self) -> None:
        try:
            self._flush()
        finally:
            self._writer.close()


def _difference(schema: Any, first: Any, first_part: Path) -> str:
    here, there = next((here, there) for here, there in zip_longest(schema, first) if _field(here) != _field(there))
    what = f"its schema differs from {first_part.name}: {_field(here)} instead of {_field(there)}"
    return f"{what}; give files of one schema"


def _field(field: Any) -> str:
    if field is None:
        return "no further column"
    return f"column {quoted(field.name)} of {field.type}{'' if field.nullable else ' not null'}"
