"""Files written whole or not at all."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import numpy as np
from numpy.typing import NDArray

from softly.files.problems import problem, reason
from softly.files.sources import Batch, ScoreSource, Sink

_BUFFER = 2**20


class TableWriter:
    """Write a source with its probabilities: a context manager whose file appears only when all went well.

    The format is the source's. Tables keep all columns, their order and their values, and gain a column
    `p_<class>` a class; .npz keeps all arrays and gains `probabilities`; .npy becomes them alone.
    The file is written apart, flushed to disk, then moved in place; any exception, KeyboardInterrupt among
    them, removes it and leaves `path` as it was.

    Raises InputError: `path` exists and not `overwrite`; its directory cannot be written; its suffix is of
    another format than the source's; the source already has such columns; the disk is full.

    >>> with TableWriter(Path("out.csv"), source, overwrite=False) as writer:
    ...     for batch in source.batches(with_table=True):
    ...         writer.write(batch, softmax(batch.scores))
    """

    def __init__(self, path: Path, source: ScoreSource, *, overwrite: bool) -> None:
        self._path, self._source, self._overwrite = Path(path), source, overwrite
        check_output(self._path, overwrite=overwrite)
        if not self._path.name.lower().endswith(source.suffixes):
            what = f"the output has the input's format; give it the suffix {' or '.join(source.suffixes)}"
            raise problem(self._path, what)
        source.additions()
        self._stack = ExitStack()
        self._sink: Sink | None = None
        self._rows = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._file = stack.enter_context(replacing(self._path, overwrite=self._overwrite))
            self._sink = self._source.sink(cast(BinaryIO, self._file), self._path)
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def write(self, batch: Batch, probabilities: NDArray[Any]) -> None:
        """Append the next batch (a table's read `with_table=True`) and its probabilities (rows, classes)."""
        expected = (len(batch.scores), len(self._source.classes))
        if self._sink is None:
            raise ValueError("write() outside the block `with TableWriter(...)`; move it inside")
        if np.shape(probabilities) != expected:
            raise ValueError(f"probabilities of shape {np.shape(probabilities)}; the batch needs {expected}")
        if batch.start != self._rows:
            raise ValueError(f"a batch from row {batch.start}, expected {self._rows}; write them in order")
        self._sink.write(batch, np.asarray(probabilities, self._source.dtype))
        self._rows += len(batch.scores)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def _finish(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        sink, self._sink = cast(Sink, self._sink), None
        rows = self._source.rows
        if kind is None and rows in (None, self._rows):
            sink.close()
            return
        self._file.abandon()
        with suppress(Exception):  # the first error is the one to tell
            sink.close()
        if kind is None:
            raise ValueError(f"{self._rows} rows written of {rows}; write every batch")


def atomic_write(path: Path, data: bytes | str, *, overwrite: bool) -> None:
    """Write a small file, text as UTF-8, with the guarantee of TableWriter: whole or not at all."""
    with replacing(Path(path), overwrite=overwrite) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raise InputError unless `path` can be written: it exists (needs --force), its directory is none, ..."""
    path = Path(path)
    try:
        parent = Path(os.path.realpath(path)).parent
        exists, regular = os.path.lexists(path), path.is_file()
        is_directory, writable = parent.is_dir(), os.access(parent, os.W_OK | os.X_OK)
    except (OSError, ValueError) as error:
        raise problem(path, f"cannot be written ({reason(error)}); choose another path") from error
    if not is_directory:
        what = "is not a directory" if os.path.lexists(parent) else "does not exist"
        raise problem(path, f"cannot be written: {parent} {what}; choose or create a directory")
    if exists and path.is_dir():
        raise problem(path, "is a directory; give the path of a file")
    if exists and not regular and path.exists():
        raise problem(path, "is not a regular file; give another path")
    if exists and not overwrite:
        raise problem(path, "exists already; give another path, or --force to replace it")
    if not writable:
        raise problem(path, f"cannot be written: no permission in {parent}; choose another directory")


@contextmanager
def replacing(path: Path, *, overwrite: bool) -> Iterator[OutputFile]:
    """Give a file to write that takes the place of `path` when the block ends without an exception.

    Until then it has no name at all where the system can do that (Linux), so that not even kill -9 leaves a part of
    it; elsewhere it is called `.<name>.<random>.tmp`.
    """
    check_output(path, overwrite=overwrite)
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with OutputFile(temporary, path) as file:
            try:
                yield file
                file.commit()
                check_output(path, overwrite=overwrite)  # another process may have made it since
                file.name_it(temporary)
            except BaseException:
                file.abandon()
                raise
        with _translating(path):
            os.replace(temporary, target)
        _sync_directory(target.parent)
    finally:
        with suppress(OSError):
            os.unlink(temporary)


class OutputFile(io.BufferedWriter):
    """A new file whose errors are InputErrors that name `shown`, so that no other OSError is taken for one."""

    def __init__(self, path: Path, shown: Path) -> None:
        with _translating(shown):
            self._new = _NewFile(path, shown)
        super().__init__(self._new, _BUFFER)

    def commit(self) -> None:
        """Bring everything to the disk."""
        self.flush()
        with _translating(self._new.shown):
            os.fsync(self.fileno())

    def name_it(self, path: Path) -> None:
        """Give a file that has no name yet one."""
        if isinstance(self._new.name, int):
            with _translating(self._new.shown):
                descriptors = os.open("/proc/self/fd", os.O_RDONLY)
                try:  # with a directory's descriptor, because only then Python's link follows the link to the file
                    os.link(str(self.fileno()), path, src_dir_fd=descriptors, follow_symlinks=True)
                finally:
                    os.close(descriptors)

    def abandon(self) -> None:
        """Swallow whatever is still written: writers may be closed in peace, the file will be removed."""
        self._new.abandoned = True


class _NewFile(io.FileIO):
    def __init__(self, path: Path, shown: Path) -> None:
        unnamed = _unnamed(path.parent)
        super().__init__(path if unnamed is None else unnamed, "xb" if unnamed is None else "wb")
        self.shown = shown
        self.abandoned = False

    def write(self, data: Any, /) -> int:
        if self.abandoned:
            return memoryview(data).nbytes
        with _translating(self.shown):
            return super().write(data)


def _unnamed(directory: Path) -> int | None:
    """A new file in the directory, without a name, as a descriptor; None where there is no such thing."""
    if hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd"):
        with suppress(OSError):  # not on every file system
            return os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    return None


@contextmanager
def _translating(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"cannot be written ({reason(error)}); free space or choose another place"
        raise problem(path, what) from error


def _sync_directory(directory: Path) -> None:
    with suppress(OSError):  # some systems cannot; the file itself is on disk
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
