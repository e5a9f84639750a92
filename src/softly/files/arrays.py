"""One array in a .npy file or a member of a .npz archive: its header at once, its rows when asked."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from softly.files.problems import problem, quoted, reading


class Header:
    """Shape, type and order of an array, as an NPY header declares them."""

    def __init__(self, file: IO[bytes]) -> None:
        first = np.lib.format.read_magic(file) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        self.shape, self.fortran_order, self.dtype = read(file)
        self.offset = file.tell()


class Array(Protocol):
    """An array in a file: what is known of it without reading, and its rows."""

    place: str
    header: Header

    def chunks(self, size: int) -> Iterator[NDArray[Any]]:
        """Pass over the rows once, `size` at a time."""


class NpyFile:
    """A .npy file, read row range by row range and never whole."""

    def __init__(self, path: Path) -> None:
        self.place, self._path = str(path), path
        with reading(path, "NPY"), open(path, "rb") as file:
            self.header = Header(file)
        header = self.header
        refuse_objects(self)
        needed = header.offset + header.dtype.itemsize * math.prod(header.shape)
        size = path.stat().st_size
        if size < needed:
            raise problem(path, f"truncated: {size} bytes of {needed}; write the file again")

    def chunks(self, size: int) -> Iterator[NDArray[Any]]:
        """Pass over the rows once, `size` at a time, in whichever order the array lies in the file."""
        rows = self.header.shape[0]
        return (self._rows(start, min(start + size, rows)) for start in range(0, rows, size))

    def _rows(self, start: int, stop: int) -> NDArray[Any]:
        rows, shape = stop - start, self.header.shape
        columns = math.prod(shape[1:])
        with reading(self.place, "NPY"):
            if not self.header.fortran_order:
                return self._items(start * columns, rows * columns).reshape(rows, *shape[1:])
            first = range(start, start + columns * shape[0], shape[0])
            return np.stack([self._items(item, rows) for item in first], axis=1).reshape(rows, *shape[1:])

    def _items(self, first: int, count: int) -> NDArray[Any]:
        dtype = self.header.dtype
        values = np.fromfile(self._path, dtype, count, offset=self.header.offset + first * dtype.itemsize)
        if len(values) < count:
            raise EOFError("it was cut while being read")
        return values


class NpzMember:
    """An array of a .npz archive, read from its beginning to its end; whole, if it lies in column order."""

    def __init__(self, path: Path, name: str) -> None:
        self.place, self._path, self._name = f"{path}, array {quoted(name)}", path, name
        with reading(self.place, "NPY"), zipfile.ZipFile(path) as zipped, zipped.open(f"{name}.npy") as file:
            self.header = Header(file)

    def chunks(self, size: int) -> Iterator[NDArray[Any]]:
        """Pass over the rows once, `size` at a time."""
        refuse_objects(self)
        header, (rows, *rest) = self.header, self.header.shape
        if header.fortran_order and rest:
            whole = self._whole()
            yield from (whole[start : start + size] for start in range(0, rows, size))
            return
        row_bytes = header.dtype.itemsize * math.prod(rest)
        with ExitStack() as stack:
            with reading(self.place, "NPY"):
                zipped = stack.enter_context(zipfile.ZipFile(self._path))
                file = stack.enter_context(zipped.open(f"{self._name}.npy"))
                file.seek(header.offset)
            for start in range(0, rows, size):
                count = min(size, rows - start)
                with reading(self.place, "NPY"):
                    data = file.read(count * row_bytes)
                    if len(data) < count * row_bytes:
                        raise EOFError("it ends early")
                yield np.frombuffer(data, header.dtype).reshape(count, *rest)

    def _whole(self) -> NDArray[Any]:
        with reading(self.place, "NPY"), np.load(self._path, allow_pickle=False) as archive:
            values: NDArray[Any] = archive[self._name]
            return values


def refuse_objects(array: Array) -> None:
    """Raise InputError for an array of pickled objects, before anything is unpickled."""
    if array.header.dtype.hasobject:
        what = "holds Python objects, which are never unpickled; save numbers or fixed-width text"
        raise problem(array.place, what)
