"""What commands print on: plain text into a pipe, colours and progress on a terminal."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

from softly.cli import printable

BAR_WIDTH = 24
_EIGHTHS = " ▏▎▍▌▋▊▉"


class Screen(Console):
    """Standard output; names from files are printed as they are, never read as markup."""

    def __init__(self) -> None:
        super().__init__(markup=False, highlight=False, emoji=False)

    def on_broken_pipe(self) -> None:
        """Leave a broken pipe to `softly.cli.main`, whose exit status it is."""
        raise BrokenPipeError

    def copyable(self, text: str) -> None:
        """Print without wrapping, so that a path can be copied."""
        self.print(text, soft_wrap=True)

    def bar(self, share: float) -> str:
        """A bar for a share in [0, 1]; any share above 0 shows."""
        if not share > 0:
            return ""
        if not self.encoding.startswith("utf"):
            return "#" * max(1, round(share * BAR_WIDTH))
        full, eighths = divmod(max(1, round(share * BAR_WIDTH * 8)), 8)
        return "█" * full + _EIGHTHS[eighths].strip()


def table(*headings: str, left: int = 1) -> Table:
    """A table without rules; the columns after the first `left` are aligned right."""
    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for i, heading in enumerate(headings):
        result.add_column(heading, justify="left" if i < left else "right", overflow="fold")
    return result


def probability(p: float, *, missing: float | None = None) -> str:
    """A probability with 4 decimals, or 3 digits below 0.001 and near 1; `missing` is 1 - p, where known better."""
    missing = 1 - p if missing is None else missing
    if math.isnan(p) or p == 0 or missing == 0:
        return f"{p:g}"
    if missing < 5e-5:
        return f"1 - {missing:.3g}"
    return f"{p:.4f}" if p >= 1e-3 else f"{p:.3g}"


def print_json(data: Any) -> None:
    """Print data as JSON whose floats read back to the same bits."""
    print(json.dumps(data, allow_nan=False))


def warn(message: str) -> None:
    """Print a warning as one line on standard error."""
    if sys.stderr is not None:
        print(f"softly: warning: {printable(message)}", file=sys.stderr)


@contextmanager
def progress(*, show: bool = True) -> Iterator[Callable[[str, int, int | None], None] | None]:
    """A callback (stage, rows done, rows in all) that draws a bar on standard error; None unless a terminal."""
    if not show or sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f} rows")
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("starting", total=None)

        def report(stage: str, done: int, total: int | None) -> None:
            bars.update(task, description=stage, completed=done, total=total)

        yield report
