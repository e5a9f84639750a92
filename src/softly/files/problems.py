"""Errors of files, each in one line: where, what was found, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pyarrow as pa

from softly._errors import InputError

_LISTED = 20


def problem(where: object, what: str) -> InputError:
    """Return an InputError that reads `where: what`, with unprintable characters escaped: always one line."""
    text = f"{where}: {what}"
    return InputError(text if text.isprintable() else text.encode("unicode_escape").decode("ascii"))


def quoted(value: object, width: int = 40) -> str:
    """Return a value found in a file as it may stand in a message: quoted, escaped, cut to `width`."""
    text = str(value)
    return repr(text if len(text) <= width else text[: width - 3] + "...")


def listed(names: Iterable[str]) -> str:
    """Return `a, b, c`, at most 20 names and the number of the others."""
    everything = list(names)
    shown = ", ".join(everything[:_LISTED])
    more = len(everything) - _LISTED
    return f"{shown} and {more} more" if more > 0 else shown


def first_line(error: BaseException) -> str:
    """Return what another library said, in at most 160 characters of one line."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".")[:160] if lines else type(error).__name__


def reason(error: BaseException) -> str:
    """Return why the system refused, without number and path; these are in the message already."""
    return getattr(error, "strerror", None) or first_line(error)


@contextmanager
def reading(path: object, kind: str) -> Iterator[None]:
    """Turn the errors of a parser into an InputError that names the file."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except pa.lib.ArrowCancelled as error:
        raise KeyboardInterrupt from error
    except Exception as error:  # given damaged bytes, parsers raise nearly anything
        what = f"cannot be read as {kind} ({first_line(error)}); damaged, truncated or of another format"
        raise problem(path, f"{what}: write the file again") from error
