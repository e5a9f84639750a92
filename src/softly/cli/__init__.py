"""The command line: how it starts, how it ends, and what it says in between when something is wrong.

Exit status: 0; 1 for a warning with --strict; 2 for bad input; 130 for Ctrl-C. Errors are one line on standard error.
Every command is a call that Python users have too; none imports NumPy before it runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from softly._errors import InputError

_EXTRA = ("click", "rich", "pyarrow", "jinja2", "markupsafe")  # what `pip install 'softly[cli]'` brings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line with `arguments` (default: those of the process) and return the exit status."""
    try:
        return _run(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        return _fail("interrupted", status=130)
    except BrokenPipeError:
        return 0  # whoever read has read enough, as with `| head`
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0] in _EXTRA
        return _fail("the command line needs: pip install 'softly[cli]'" if missing else str(error))
    except MemoryError as error:
        return _fail(f"not enough memory ({error})" if str(error) else "not enough memory")
    except OSError as error:
        said = error.strerror or str(error)
        return _fail(said if error.filename is None else f"{error.filename}: {said}")
    except (InputError, ImportError) as error:
        return _fail(str(error))
    finally:
        for stream in (sys.stdout, sys.stderr):
            _settle(stream)


def printable(text: str) -> str:
    """The text in one line, with control characters and the like escaped."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def _run(arguments: list[str]) -> int:
    import click

    from softly.cli.commands import softly

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that the terminal's encoding lacks is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    if "_SOFTLY_COMPLETE" in os.environ:
        softly.main(arguments, prog_name="softly")  # the shell asks for completions
    status = 0
    try:
        with softly.make_context("softly", arguments) as context:
            softly.invoke(context)
    except click.exceptions.Exit as end:
        status = end.exit_code
    except click.UsageError as error:
        message = error.format_message().rstrip(".")
        return _fail(f"{message}; see {error.ctx.command_path} --help" if error.ctx else message)
    except click.ClickException as error:
        return _fail(error.format_message())
    if sys.stdout is not None:
        sys.stdout.flush()  # here, so that output that cannot be written is an error
    return status


def _fail(message: str, *, status: int = 2) -> int:
    with suppress(OSError):  # nobody may listen any more
        if sys.stderr is not None:
            print(f"softly: {printable(message)}", file=sys.stderr, flush=True)
    return status


def _settle(stream: TextIO | None) -> None:
    """Flush; where that fails, let the interpreter's own flush at exit go nowhere instead of failing again."""
    try:
        if stream is not None:
            stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
        os.close(nowhere)
