"""Tables of anything, row by row in batches: features of rows, names, sequences."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from softly.files import fasta
from softly.files.opening import check_file
from softly.files.problems import listed, problem, quoted, reading

_BLOCK_BYTES, _BATCH_ROWS = 2**22, 2**14
_SUFFIXES = (".csv", ".csv.gz", ".parquet", *fasta.SUFFIXES)


class RowTable:
    """The columns of a file: `names` in order, and its rows as record batches, any number of passes.

    FASTA has the columns `id`, the first word of a header; `sequence`; and `1`, `2`, ..., the parts of the first header
    between `|`.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        suffix = next((s for s in _SUFFIXES if self.path.name.lower().endswith(s)), None)
        if suffix is None:
            raise problem(path, f"unknown suffix; known are {', '.join(_SUFFIXES)}")
        self.is_fasta = suffix in fasta.SUFFIXES
        self._compressed = suffix.endswith(".gz")
        kind = "gzip" if self._compressed else "parquet" if suffix == ".parquet" else "csv"
        check_file(self.path, kind)
        if self.is_fasta:
            _, header, _ = next(fasta.records(self.path))
            self.names = ("id", "sequence", *(str(i + 1) for i in range(header.count("|") + 1)))
        else:
            with self._open() as (schema, _):
                self.names = tuple(schema.names)
        if twice := [name for name in self.names if self.names.count(name) > 1]:
            raise problem(path, f"two columns are called {quoted(twice[0])}; give every column its own name")

    def require(self, name: str) -> None:
        """InputError unless there is such a column."""
        if name not in self.names:
            raise problem(self.path, f"no column {quoted(name)}; columns: {listed(self.names)}")

    def batches(self) -> Iterator[Any]:
        """The rows in order."""
        if self.is_fasta:
            yield from self._fasta_batches()
            return
        with self._open() as (_, batches):
            for batch in batches:
                if len(batch):
                    yield batch

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, Any]]:
        if self.path.name.lower().endswith(".parquet"):
            with reading(self.path, "Parquet"), pq.ParquetFile(self.path) as file:
                yield file.schema_arrow, file.iter_batches(_BATCH_ROWS)
            return
        options = pacsv.ReadOptions(block_size=_BLOCK_BYTES), pacsv.ParseOptions(newlines_in_values=True)
        compression = "gzip" if self._compressed else None
        texts = pacsv.ConvertOptions(strings_can_be_null=False)
        with (
            reading(self.path, "CSV"),
            pa.input_stream(str(self.path), compression=compression) as file,
            pacsv.open_csv(file, *options, texts) as reader,
        ):
            yield reader.schema, reader

    def _fasta_batches(self) -> Iterator[Any]:
        fields = len(self.names) - 2
        rows = iter(fasta.records(self.path))
        while part := list(itertools.islice(rows, _BATCH_ROWS)):
            split = [(line, header.split("|")) for line, header, _ in part]
            for line, parts in split:
                if len(parts) != fields:
                    what = f"the header has {len(parts)} parts between |, the first has {fields}; give all as many"
                    raise problem(f"{self.path}, line {line}", what)
            columns = [[(header.split() or [""])[0] for _, header, _ in part], [sequence for *_, sequence in part]]
            columns += [[parts[i].strip() for _, parts in split] for i in range(fields)]
            yield pa.RecordBatch.from_arrays([pa.array(column, pa.string()) for column in columns], list(self.names))


class RowWriter:
    """Writes record batches as CSV or Parquet, as the path's suffix says, into an open file."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._parquet = file, is_parquet(path)
        self._writer: Any = None

    def write(self, batch: Any) -> None:
        """Append a batch; all have the schema of the first."""
        if self._writer is None:
            kind: Any = pq.ParquetWriter if self._parquet else pacsv.CSVWriter
            self._writer = kind(self._file, batch.schema)
        self._writer.write_batch(batch)

    def close(self) -> None:
        """Write what the format needs at the end."""
        if self._writer is not None:
            self._writer.close()


def is_parquet(path: Path) -> bool:
    """Whether an output is Parquet, else CSV; InputError for another suffix."""
    name = Path(path).name.lower()
    if not name.endswith((".csv", ".parquet")):
        raise problem(path, "the output is CSV or Parquet; give it the suffix .csv or .parquet")
    return name.endswith(".parquet")
