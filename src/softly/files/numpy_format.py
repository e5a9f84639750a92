"""NumPy arrays: scores in a .npy file, or scores and labels in a .npz archive."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from softly.files.arrays import Array, NpyFile, NpzMember
from softly.files.labels import label_indices
from softly.files.problems import listed, problem, quoted, reading
from softly.files.sources import (
    Batch,
    Request,
    ScoreSource,
    Where,
    as_pair,
    class_names,
    first_nan,
    rows_per_batch,
    score_dtype,
)
from softly.files.tables import bad_score, no_rows

_SCORES, _LABELS, _NAMES = ("logits", "scores", "z"), ("labels", "label", "y"), ("names", "classes")
_PROBABILITIES = "probabilities"


class ArraySource(ScoreSource):
    """Scores (rows, classes), or (rows,) for the binary pair [0, s], and labels (rows,), in arrays."""

    def _use(self, scores: Array, labels: Array | None, names: tuple[str, ...] | None, request: Request) -> None:
        shape, dtype = scores.header.shape, scores.header.dtype
        if len(shape) not in (1, 2):
            what = f"an array of shape {shape}; scores have shape (rows, classes), or (rows,) if binary"
            raise problem(scores.place, what)
        if dtype.kind not in "fiu":
            raise problem(scores.place, f"holds {dtype}; scores must be real numbers: convert the array")
        if shape[0] < 1:
            raise no_rows(scores.place)
        if labels is not None:
            _check_labels(labels, shape[0])
        columns = shape[1] if len(shape) == 2 else 1
        found = [str(index) for index in range(2 if columns == 1 else columns)]
        if names is not None and len(names) == len(found):
            found = list(names)
        self.classes = class_names(scores.place, found, request.classes)
        self.rows, self.dtype = shape[0], score_dtype([dtype])
        self._scores, self._label_array = scores, labels
        self._batch_rows = rows_per_batch(request, len(self.classes))

    def batches(self, *, with_table: bool = False) -> Iterator[Batch]:
        """Scan the arrays once; arrays have no table."""
        size, start = self._batch_rows, 0
        labels = repeat(None) if self._label_array is None else self._label_array.chunks(size)
        for raw, given in zip(self._scores.chunks(size), labels, strict=False):
            scores = raw.astype(self.dtype, copy=False).reshape(len(raw), -1)
            bad = first_nan(scores)
            if bad is not None:
                raise bad_score(self.location(start + bad[0]), str(bad[1]), float("nan"))
            yield Batch(as_pair(scores, self.dtype), self._labels(given, start), start, None)
            start += len(raw)

    def _labels(self, labels: NDArray[Any] | None, start: int) -> NDArray[np.int64] | None:
        if labels is None or self._label_array is None:
            return None
        native = np.ascontiguousarray(labels, dtype=labels.dtype.newbyteorder("="))
        where: Where = partial(self._location_of_label, self._label_array.place, start)
        return label_indices(pa.array(native), self.classes, where)

    @staticmethod
    def _location_of_label(place: str, start: int, row: int) -> str:
        return f"{place}, row {start + row}"

    def location(self, row: int) -> str:
        """Return `scores.npy, row 16`, counted from 0."""
        return f"{self._scores.place}, row {row}"


class NpySource(ArraySource):
    """A .npy file of scores; labels stand in a second one, whose path is given as the label."""

    format = "npy"
    suffixes = (".npy",)

    def __init__(self, path: Path, request: Request, labels: Path | None) -> None:
        self.path = path
        if request.scores is not None:
            raise problem(path, "a .npy file has one array and no columns; leave --scores out")
        self._use(NpyFile(path), None if labels is None else NpyFile(labels), None, request)

    def additions(self) -> tuple[str, ...]:
        """Return nothing: an output is the array of probabilities alone."""
        return ()

    def sink(self, file: BinaryIO, path: Path) -> _NpySink:
        """Return a writer of the probabilities (rows, classes)."""
        return _NpySink(self, file)


class NpzSource(ArraySource):
    """A .npz archive with scores, labels and perhaps the names of the classes."""

    format = "npz"
    suffixes = (".npz",)

    def __init__(self, path: Path, request: Request) -> None:
        self.path = path
        with reading(path, "NPZ"), zipfile.ZipFile(path) as archive:
            members = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        self.arrays = {name: NpzMember(path, name) for name in members}
        scores = self._find_scores(request.scores)
        self._use(scores, self._find_labels(request), self._find_names(), request)

    def _find_scores(self, asked: str | None) -> NpzMember:
        if asked is not None:
            return self._member(asked, "--scores")
        for name in _SCORES:
            if name in self.arrays:
                return self.arrays[name]
        real = [array for array in self.arrays.values() if array.header.dtype.kind in "fiu"]
        matrices = [array for array in real if len(array.header.shape) == 2]
        if len(matrices) != 1:
            what = f"which array holds the scores? none is called {listed(_SCORES)}; choose with --scores"
            raise problem(self.path, f"{what}; arrays: {self._described()}")
        return matrices[0]

    def _find_labels(self, request: Request) -> NpzMember | None:
        if request.label is not None:
            return self._member(request.label, "--label")
        if not request.labels_required:
            return None
        for name in _LABELS:
            if name in self.arrays:
                return self.arrays[name]
        what = f"which array holds the labels? none is called {listed(_LABELS)}; choose with --label"
        raise problem(self.path, f"{what}; arrays: {self._described()}")

    def _find_names(self) -> tuple[str, ...] | None:
        for name in _NAMES:
            array = self.arrays.get(name)
            if array is not None and array.header.dtype.kind == "U" and len(array.header.shape) == 1:
                return tuple(str(text) for chunk in array.chunks(1 << 16) for text in chunk)
        return None

    def _member(self, name: str, option: str) -> NpzMember:
        if name not in self.arrays:
            raise problem(self.path, f"no array {quoted(name)} for {option}; arrays: {self._described()}")
        return self.arrays[name]

    def _described(self) -> str:
        return listed(f"{name} {array.header.shape}" for name, array in self.arrays.items()) or "none"

    def additions(self) -> tuple[str, ...]:
        """Return the name of the added array; InputError if the archive has it already."""
        if _PROBABILITIES in self.arrays:
            what = f"the archive has an array {quoted(_PROBABILITIES)} already; rename or drop it"
            raise problem(self.path, what)
        return (_PROBABILITIES,)

    def sink(self, file: BinaryIO, path: Path) -> _NpzSink:
        """Return a writer that copies all arrays and adds the probabilities."""
        return _NpzSink(self, file)


class _NpySink:
    def __init__(self, source: ArraySource, file: IO[bytes]) -> None:
        self._file = file
        shape = (source.rows, len(source.classes))
        header = {"descr": source.dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)

    def write(self, batch: Batch, probabilities: NDArray[Any]) -> None:
        self._file.write(np.ascontiguousarray(probabilities).data)

    def close(self) -> None:
        pass


class _NpzSink:
    def __init__(self, source: NpzSource, file: BinaryIO) -> None:
        with ExitStack() as stack:
            self._archive = stack.enter_context(zipfile.ZipFile(file, "w", allowZip64=True))
            compression = self._copy(source.path)
            array = stack.enter_context(self._member(_PROBABILITIES + ".npy", compression))
            self._array = _NpySink(source, array)
            self._stack = stack.pop_all()

    def _copy(self, path: Path) -> int:
        """Copy all members as they are; return how the original compresses."""
        compression = zipfile.ZIP_STORED
        with reading(path, "NPZ"), zipfile.ZipFile(path) as original:
            for info in original.infolist():
                compression = max(compression, info.compress_type)
                with original.open(info) as old, self._member(info.filename, info.compress_type) as new:
                    shutil.copyfileobj(old, new)
        return compression

    def _member(self, name: str, compression: int) -> IO[bytes]:
        info = zipfile.ZipInfo(name)  # dated 1980: the same input gives the same bytes
        info.compress_type = compression
        return self._archive.open(info, "w", force_zip64=True)

    def write(self, batch: Batch, probabilities: NDArray[Any]) -> None:
        self._array.write(batch, probabilities)

    def close(self) -> None:
        self._stack.close()


def _check_labels(labels: Array, rows: int) -> None:
    shape, dtype = labels.header.shape, labels.header.dtype
    if shape != (rows,):
        raise problem(labels.place, f"labels of shape {shape} for {rows} rows; give one label a row")
    if dtype.kind not in "iubUS":
        what = f"labels are {dtype}; they must be integers (class indices) or class names: convert the array"
        raise problem(labels.place, what)
