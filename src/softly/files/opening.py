"""Path -> source: what stands there, in which format, and whether it is what its name says."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from softly._errors import InputError
from softly.files.arrow_format import STREAM_END, STREAM_START, ArrowSource
from softly.files.csv_format import CsvSource
from softly.files.numpy_format import NpySource, NpzSource
from softly.files.parquet_format import ParquetSource
from softly.files.problems import problem, quoted, reason
from softly.files.sources import Request, ScoreSource

_FORMATS = {
    ".csv": "csv", ".csv.gz": "gzip", ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow",
    ".npy": "npy", ".npz": "npz",
}  # fmt: skip

# How a file of a format begins and ends; a stream of Arrow differs from a file of Arrow.
_FRAMES = {
    "csv": ((b"", b""),),
    "gzip": ((b"\x1f\x8b", b""),),
    "parquet": ((b"PAR1", b"PAR1"),),
    "arrow": ((b"ARROW1", b"ARROW1"), (STREAM_START, STREAM_END)),
    "npy": ((b"\x93NUMPY", b""),),
    "npz": ((b"PK\x03\x04", b""), (b"PK\x05\x06", b"")),
}
_KNOWN = {
    b"\x89PNG": "a PNG image", b"\xff\xd8\xff": "a JPEG image", b"GIF8": "a GIF image",
    b"%PDF": "a PDF document", b"PK\x03\x04": "a zip or NPZ archive", b"\x1f\x8b": "gzipped data",
    b"PAR1": "a Parquet file", b"ARROW1": "an Arrow file", b"\xff\xff\xff\xff": "an Arrow stream",
    b"FEA1": "a Feather file of version 1", b"\x93NUMPY": "an NPY file", b"\x89HDF": "an HDF5 file",
    b"SQLite format 3": "an SQLite database", b"\xff\xfe": "text in UTF-16", b"\xfe\xff": "text in UTF-16",
    b"BZh": "bzip2 data", b"\xfd7zXZ": "xz data", b"\x28\xb5\x2f\xfd": "zstandard data",
}  # fmt: skip


def open_scores(
    path: str | os.PathLike[str],
    *,
    label: str | None = None,
    scores: str | None = None,
    classes: Sequence[str] | None = None,
    labels_required: bool = True,
    batch_rows: int = 65536,
) -> ScoreSource:
    """Open scores, and labels where asked for, without reading them.

    path: a file .csv, .csv.gz, .parquet, .arrow, .feather, .npy or .npz; or a directory or a glob pattern of
        Parquet files, which are read in the order of their names as one table.
    label: the column of labels, as class indices or class names; for .npz the array (default: `labels`,
        `label` or `y`); for .npy the path of a second .npy file. Not given and not required: no labels.
    scores: a pattern of columns (`logit_*`), the name of one column (a list of scores a row, or the score s
        of the binary pair [0, s]), for .npz the array. Default for tables: the first of `logit_*`, `score_*`,
        `z_*` that matches two columns; a list column `scores` or `logits`; the columns named as `classes`;
        or all but the label, if numeric. Default for .npz: `logits`, `scores`, `z`, or the only matrix.
    classes: one name a class, in the order of the columns. Default: what a column's name has beyond the
        pattern, the array `names` or `classes` of an .npz, else "0", "1", ... Where they are the columns' own
        names in another order, the columns are put in that order.
    batch_rows: rows of a batch (fewer if there are thousands of classes).

    Scores may be -inf and +inf; a missing score or NaN is an error. Raises InputError: one line that names
    the file, the row or column, what was found and what to do; here, or for single rows in the scan.

    >>> source = open_scores("scores.csv", label="species", scores="logit_*")
    >>> source.classes
    ('cat', 'dog', 'bird')
    """
    if batch_rows < 1:
        raise InputError(f"batch_rows is {batch_rows}; give at least 1")
    if not os.fspath(path):
        raise InputError("the path of the scores is empty; give a file, a directory or a pattern")
    request = Request(
        label=label,
        scores=scores,
        classes=None if classes is None else tuple(classes),
        labels_required=labels_required,
        batch_rows=batch_rows,
    )
    path = Path(path)
    parts = _parts(path)
    if parts is not None:
        for part in parts:
            check_file(part, "parquet")
        return ParquetSource(path, parts, request)

    match _format(path):
        case "csv" | "gzip":
            return CsvSource(path, request)
        case "parquet":
            return ParquetSource(path, [path], request)
        case "arrow":
            return ArrowSource(path, request)
        case "npy":
            return NpySource(path, request, _label_file(path, request))
        case _:
            return NpzSource(path, request)


def _parts(path: Path) -> list[Path] | None:
    """Return the Parquet files of a directory or pattern, by name; None for a single file."""
    try:
        if path.is_dir():
            parts = [part for part in path.iterdir() if not part.name.startswith(".")]
            parts = [part for part in parts if part.name.lower().endswith(".parquet")]
        elif glob.has_magic(str(path)) and not path.exists():
            parts = [Path(part) for part in glob.glob(str(path), recursive=True)]
        else:
            return None
    except (OSError, ValueError) as error:
        raise problem(path, f"cannot be read ({reason(error)}); give another path") from error
    if not parts:
        raise problem(path, "no .parquet files there; give a file, a directory or a pattern of Parquet files")
    for part in parts:
        if not part.name.lower().endswith(".parquet"):
            raise problem(part, "not a Parquet file; a pattern may match Parquet files only: use '*.parquet'")
    return sorted(parts)


def _format(path: Path) -> str:
    name = path.name.lower()
    found = next((kind for suffix, kind in _FORMATS.items() if name.endswith(suffix)), None)
    if found is None:
        _check_regular(path)
        what = f"unknown suffix {quoted(path.suffix)}" if path.suffix else "no suffix"
        raise problem(path, f"{what}; known are {', '.join(_FORMATS)}")
    check_file(path, found)
    return found


def _label_file(path: Path, request: Request) -> Path | None:
    if request.label is None and not request.labels_required:
        return None
    labels = Path(request.label or "")
    if labels.suffix.lower() != ".npy":
        found = f", not {quoted(request.label)}" if request.label else ""
        raise problem(path, f"the labels of a .npy file stand in another; give its path with --label{found}")
    check_file(labels, "npy")
    return labels


def check_file(path: Path, kind: str) -> None:
    """Raise InputError unless `path` is a regular, readable file that begins and ends as its format does."""
    _check_regular(path)
    try:
        with open(path, "rb") as file:
            start = file.read(16)
            file.seek(-min(8, os.fstat(file.fileno()).st_size), os.SEEK_END)
            end = file.read()
    except OSError as error:
        raise problem(path, f"cannot be read ({reason(error)}); check its permissions") from error
    if not start:
        raise problem(path, "empty (0 bytes); write the file again")
    looks = next((what for magic, what in _KNOWN.items() if start.startswith(magic)), None)
    frames = [frame for frame in _FRAMES[kind] if start.startswith(frame[0])]
    if not frames or (kind == "csv" and (looks or b"\0" in start)):
        found = f"it looks like {looks}" if looks else f"it begins with {start[:8]!r}"
        raise problem(path, f"not {_article(kind)} file: {found}; give the right file or rename it")
    if not any(end.endswith(closing) for _, closing in frames):
        raise problem(path, f"truncated: the end of {_article(kind)} file is missing; write the file again")


def _check_regular(path: Path) -> None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        raise problem(path, "no such file; check the path") from error
    except (OSError, ValueError) as error:
        raise problem(path, f"cannot be read ({reason(error)}); check the path") from error
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a directory"}
        what = kinds.get(stat.S_IFMT(mode), "a device")
        raise problem(path, f"{what}, not a regular file; scores are read more than once: save them first")


def _article(kind: str) -> str:
    names = {"csv": "a CSV", "gzip": "a gzipped CSV", "parquet": "a Parquet", "arrow": "an Arrow"}
    return names.get(kind, f"an {kind.upper()}")
