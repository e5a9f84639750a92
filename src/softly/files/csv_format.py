"""CSV: comma-separated UTF-8 text with a header, plain or gzipped.

Scores and labels are read as text and only then converted, other columns as bytes, whatever their encoding:
all are written back as they were.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from softly._errors import InputError
from softly.files.columns import choose_columns
from softly.files.problems import problem, reading
from softly.files.sources import Batch, Request, table_of
from softly.files.tables import TableSource, no_rows

_BLOCK_BYTES = 2**22
_BYTES = pa.large_binary()  # large, as the rows of a batch may come to more than 2 GB of text
_NUMBER = r"^(?i:[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|inf|infinity|nan))$"


class CsvSource(TableSource):
    """A CSV file; only a scan tells its rows."""

    format = "csv"
    suffixes = (".csv", ".csv.gz")
    labels_are_text = True
    rows = None

    def __init__(self, path: Path, request: Request) -> None:
        self.path = path
        self.column_names = self._header()
        columns = choose_columns(path, self.column_names, request, numeric=self._numeric())
        assert columns.classes is not None
        self._use(columns, columns.classes, np.dtype(np.float64), request)

    def _numeric(self) -> frozenset[str]:
        """Return the columns that look numeric in the first block."""
        with self._blocks(pacsv.ConvertOptions()) as reader:
            kinds = {field.name: field.type for field in reader.schema}
        return frozenset(
            name for name, kind in kinds.items() if pa.types.is_integer(kind) or pa.types.is_floating(kind)
        )

    def _scan(self, columns: Sequence[str] | None) -> Iterator[Any]:
        types = dict.fromkeys(self.column_names, pa.binary()) | dict.fromkeys(self._as_text(), pa.string())
        as_is = pacsv.ConvertOptions(
            column_types=types,
            include_columns=list(self.column_names if columns is None else columns),
            strings_can_be_null=False,
        )
        with self._blocks(as_is, self._as_text()) as reader:
            yield from reader

    def _as_text(self) -> tuple[str, ...]:
        return self.columns.scores if self.columns.label is None else (*self.columns.scores, self.columns.label)

    @contextmanager
    def _blocks(self, converting: Any, as_text: Sequence[str] = ()) -> Iterator[Any]:
        blocks = pacsv.ReadOptions(block_size=_BLOCK_BYTES)
        parsing = pacsv.ParseOptions(newlines_in_values=True)
        compression = "gzip" if _is_gzip(self.path) else None
        with reading(self.path, "CSV"), pa.input_stream(str(self.path), compression=compression) as file:
            try:
                with pacsv.open_csv(file, blocks, parsing, converting) as reader:
                    yield reader
            except pa.ArrowInvalid:
                self._raise_first_bad_line(as_text)
                raise

    def _numbers(self, column: Any) -> NDArray[Any]:
        try:
            values = column.cast(pa.float64())
        except pa.ArrowInvalid:
            text = pc.utf8_trim_whitespace(column)
            values = pc.if_else(pc.match_substring_regex(text, _NUMBER), text, "nan").cast(pa.float64())
        return cast(NDArray[Any], values.to_numpy(zero_copy_only=False))

    def sink(self, file: BinaryIO, path: Path) -> _CsvSink:
        """Return a writer of CSV, gzipped if the path ends in `.gz`."""
        return _CsvSink(self, file, gzipped=_is_gzip(path))

    # The header, and the lines that errors name, are read record by record; such a pass is slow, and rare.

    def _header(self) -> tuple[str, ...]:
        with reading(self.path, "CSV"), _binary(self.path) as file:
            try:
                header = next(csv.reader(line.decode("utf-8-sig") for line in file), [])
            except UnicodeDecodeError as error:
                raise _not_utf8(self.path, 1) from error
            except csv.Error as error:
                raise problem(f"{self.path}, line 1", f"{error}; give a CSV file with a header") from error
            if not header:
                what = "no column names; a CSV file begins with a header"
                raise problem(f"{self.path}, line 1", what)
            if len(header) == 1 and any(separator in header[0] for separator in ";\t|"):
                raise problem(f"{self.path}, line 1", "no comma; separate the columns by commas")
            if not any(line.strip(b"\r\n") for line in file):
                raise no_rows(self.path)
        return tuple(header)

    def _records(self) -> Generator[tuple[int, list[str]], None, None]:
        """Yield (line where it begins, fields) of each record below the header, blank lines left out."""
        with reading(self.path, "CSV"), _binary(self.path) as file:
            reader = csv.reader(line.decode("utf-8-sig", "surrogateescape") for line in file)
            line = 1
            try:
                for fields in reader:
                    if fields and line > 1:
                        yield line, fields
                    line = reader.line_num + 1
            except csv.Error as error:
                raise problem(f"{self.path}, line {line}", f"{error}; correct the line") from error

    def _raise_first_bad_line(self, as_text: Sequence[str]) -> None:
        """Raise the error of the first record of another length, or where these columns are not UTF-8."""
        width = len(self.column_names)
        text = [self.column_names.index(name) for name in as_text]
        with closing(self._records()) as records:
            for line, fields in records:
                if len(fields) != width:
                    what = f"{len(fields)} fields where the header has {width}; give every row {width}"
                    raise problem(f"{self.path}, line {line}", what)
                try:
                    "".join(fields[index] for index in text).encode()
                except UnicodeEncodeError as error:
                    raise _not_utf8(self.path, line) from error

    def location(self, row: int) -> str:
        """Return `scores.csv, line 17`; the header is line 1, and a record may span several lines."""
        try:
            with closing(self._records()) as records:
                for index, (line, _) in enumerate(records):
                    if index == row:
                        return f"{self.path}, line {line}"
        except InputError:  # the place matters less than the error it is asked for
            pass
        return f"{self.path}, row {row}"


class _CsvSink:
    def __init__(self, source: CsvSource, file: BinaryIO, *, gzipped: bool) -> None:
        # No time stamp in the gzip header: the same input gives the same bytes.
        self._gzip = gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) if gzipped else None
        self._file: Any = self._gzip or file
        names = [*source.column_names, *source.additions()]
        self._file.write(_lines([_quoted(pa.array([name])) for name in names]))

    def write(self, batch: Batch, probabilities: NDArray[Any]) -> None:
        numbers = (pa.array(np.ascontiguousarray(column)).cast(pa.string()) for column in probabilities.T)
        kept = (_quoted(column) for column in table_of(batch).columns)
        self._file.write(_lines([*kept, *(column.cast(_BYTES) for column in numbers)]))

    def close(self) -> None:
        if self._gzip is not None:
            self._gzip.close()


def _quoted(column: Any) -> Any:
    """Return a column as CSV fields: in quotes, quotes doubled, where they hold a comma, quote or newline."""
    column = column.cast(_BYTES)
    special = pc.match_substring_regex(column, '[",\r\n]')
    if not pc.any(special).as_py():
        return column
    doubled = pc.replace_substring(column, '"', '""')
    return pc.if_else(special, _joined(_text('"'), doubled, _text('"'), separator=""), column)


def _lines(fields: Sequence[Any]) -> memoryview:
    """Return the bytes of one line a row, of fields that are quoted already."""
    lines = _joined(_joined(*fields, separator=","), _text("\n"), separator="")
    return memoryview(lines.buffers()[2])[: pc.sum(pc.binary_length(lines)).as_py()]


def _joined(*parts: Any, separator: str) -> Any:
    return pc.binary_join_element_wise(*parts, _text(separator))


def _text(text: str) -> Any:
    return pa.scalar(text.encode(), _BYTES)


def _is_gzip(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _binary(path: Path) -> Any:
    return gzip.open(path, "rb") if _is_gzip(path) else open(path, "rb")


def _not_utf8(path: Path, line: int) -> InputError:
    return problem(f"{path}, line {line}", "not UTF-8 text; convert the file to UTF-8")
