"""What is installed, which compiled core runs, and whether it agrees with the array expressions."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from softly import __version__
from softly.cli import printable, screen

PACKAGES = {  # distribution: what softly uses it for
    "numpy": "arrays: always needed",
    "array-api-compat": "arrays of other libraries: always needed",
    "click": "the command line",
    "rich": "the command line",
    "pyarrow": "CSV, Parquet and Arrow files",
    "jinja2": "report.html",
    "torch": "scores that are torch tensors",
    "jax": "scores that are JAX arrays",
}

print_json = screen.print_json


def examine() -> dict[str, Any]:
    """The state of the installation; `agreement` is None without a compiled core."""
    state: dict[str, Any] = {
        "softly": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": f"{platform.system()} {platform.machine()}",
    }
    try:
        from softly import _kernels
    except ImportError as error:  # a target that this processor lacks, or a core that does not load
        state |= {"core": {"compiled_core": False, "reason": str(error)}, "agreement": False}
    else:
        state |= {"core": _kernels.describe(), "agreement": agreement() if _kernels.core is not None else None}
    return state | {"packages": {name: _version(name) for name in PACKAGES}}


def agreement() -> bool:
    """Whether the compiled maps agree with their array expressions on a small example with every kind of row."""
    import numpy as np

    from softly import _expressions, _kernels
    from softly._rows import as_rows

    inf = np.inf
    example = [[2, 1, -1], [1000, 0, -1000], [1e8, 1e8, -inf], [0, -40, -1e4], [inf, 1, inf], [-inf, -inf, -inf]]
    expressions = {name: getattr(_expressions, name) for name in ("softmax", "log_softmax", "logsumexp")}
    for dtype in (np.float32, np.float64):
        scores = np.array(example, dtype)
        for name, expression in expressions.items():
            rows = as_rows(scores, -1, 0.7, None, "zero", None)
            compiled = _kernels.run(name, rows, expression)
            with np.errstate(all="ignore"):
                expected = expression(rows)
            if not np.allclose(compiled, expected, rtol=16 * np.finfo(dtype).eps, atol=0):
                return False
    return True


def show(state: dict[str, Any]) -> None:
    """Print the state as tables of a few lines."""
    page = screen.Screen()
    core = state["core"]
    if core["compiled_core"]:
        found = f"{core['target']} (there are {', '.join(core['targets'])}), {core['threads']} threads; "
        found += "agrees with the array expressions" if state["agreement"] else _WRONG
    else:
        found = f"none: {printable(core['reason'])}"
        if state["agreement"] is None:
            found += "; the array expressions run, with the same results, more slowly"
    table = screen.table("", "", left=2)
    table.show_header = False
    for name in ("softly", "python", "platform"):
        table.add_row(name, state[name])
    table.add_row("compiled core", found)
    page.print(table)
    page.print()
    packages = screen.table("package", "version", "for", left=3)
    for name, version in state["packages"].items():
        packages.add_row(name, version or "-", PACKAGES[name])
    page.print(packages)
    if not all(state["packages"][name] for name in ("click", "rich", "pyarrow", "jinja2")):
        page.print("\nFor all of the command line: pip install 'softly[cli]'")


_WRONG = "its results are WRONG: reinstall softly, or set SOFTLY_TARGET=none to do without it"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
