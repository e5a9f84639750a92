"""Arrow IPC (and Feather, version 2), as a file or as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
from numpy.typing import NDArray

from softly.files.problems import reading
from softly.files.sources import Batch, Request
from softly.files.typed_tables import TypedTable, with_probabilities

STREAM_START, STREAM_END = b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\0\0\0\0"


class ArrowSource(TypedTable):
    """An Arrow file, mapped to memory: one huge record batch costs no more than many small ones."""

    format = "arrow"
    suffixes = (".arrow", ".feather")

    def __init__(self, path: Path, request: Request) -> None:
        self.path = path
        with open(path, "rb") as file:
            self.is_stream = file.read(4) == STREAM_START
        with self._reader(None) as reader:
            self.schema = reader.schema
            self.column_names = tuple(self.schema.names)
        first = self.column_names[:1]
        self.rows = None if self.is_stream else sum(batch.num_rows for batch in self._scan(first))
        self._choose(request)

    @contextmanager
    def _reader(self, columns: Sequence[str] | None) -> Iterator[Any]:
        fields = None if columns is None else [self.schema.get_field_index(name) for name in columns]
        options = pa.ipc.IpcReadOptions(included_fields=fields)
        opened = pa.ipc.open_stream if self.is_stream else pa.ipc.open_file
        with reading(self.path, "Arrow"), pa.memory_map(str(self.path)) as file:
            yield opened(file, options=options)

    def _scan(self, columns: Sequence[str] | None) -> Iterator[Any]:
        with self._reader(columns) as reader:
            indices = range(0 if self.is_stream else reader.num_record_batches)
            for batch in reader if self.is_stream else map(reader.get_batch, indices):
                batch.validate(full=True)  # a damaged offset would have other memory read
                yield batch

    def location(self, row: int) -> str:
        """Return `scores.arrow, row 16`, counted from 0."""
        return f"{self.path}, row {row}"

    def sink(self, file: BinaryIO, path: Path) -> _ArrowSink:
        """Return a writer of the same kind, file or stream; `.feather` is compressed by LZ4, as is usual."""
        return _ArrowSink(self, file, "lz4" if path.suffix.lower() == ".feather" else None)


class _ArrowSink:
    def __init__(self, source: ArrowSource, file: BinaryIO, compression: str | None) -> None:
        self._schema = source.output_schema()
        options = pa.ipc.IpcWriteOptions(compression=compression, emit_dictionary_deltas=True)
        opened = pa.ipc.new_stream if source.is_stream else pa.ipc.new_file
        self._writer = opened(file, self._schema, options=options)

    def write(self, batch: Batch, probabilities: NDArray[Any]) -> None:
        self._writer.write_batch(with_probabilities(batch, probabilities, self._schema))

    def close(self) -> None:
        self._writer.close()
