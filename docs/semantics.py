"""Writes docs/semantics.md, what the functions promise at the edges, from tests/semantics.toml.

Run: python docs/semantics.py
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TABLE = HERE.parent / "tests" / "semantics.toml"
PAGE = HERE / "semantics.md"
EXACT, SHORT = 17, 10  # digits
USUAL = {"float32", "float64"}
HEADERS = {
    "case": ("case", "input", "options", "result", "source"),
    "fit": ("case", "scores", "labels", "result", "source"),
    "loss": ("case", "input", "options", "result", "source"),
    "derivative": ("case", "input", "options", "result", "source"),
    "attention": ("case", "input", "options", "result", "source"),
    "average": ("case", "input", "options", "result", "source"),
}
INTRODUCTION = """# What the functions promise at the edges

Made by `python docs/semantics.py` from [tests/semantics.toml](../tests/semantics.toml), which the tests of every
function, dtype, instruction set and array library read. Results are shown to 10 digits; the file has them all.

*input* is the scores; a dtype in brackets says that a row holds for it alone, else it holds for float32 and float64 at
least. `2 x 3 of 0.5` is an array of that shape. An exception without a function stands for all maps over an axis.
*source* is the rule; a name with # is a report against another project where others differ or once did.
"""


def number(value: Any, digits: int) -> str:
    """A number as Python writes it, whole floats without their .0; 17 digits tell every float."""
    if not isinstance(value, float):
        return str(value)
    text = repr(value) if digits == EXACT else f"{value:.{digits}g}"
    return text.replace("e+", "e").removesuffix(".0")


def shown(value: Any, digits: int = EXACT, *, pairs: bool = False) -> str:
    """A value of the table: a number, a list, {shape, value}, or what has names; `pairs` are complex numbers."""
    if isinstance(value, dict):
        if "shape" in value:
            shape, filling = " x ".join(map(str, value["shape"])), number(value["value"], digits)
            return f"{shape} of {filling}" if shape else f"array({filling})"
        return ", ".join(f"{key} {shown(item, digits, pairs=pairs and key != 'log')}" for key, item in value.items())
    if isinstance(value, list):
        if pairs and value and not isinstance(value[0], list):
            real, imaginary = (number(part, digits) for part in value)
            return f"{real}{'' if imaginary.startswith('-') else '+'}{imaginary}j"
        return "[" + ", ".join(shown(item, digits, pairs=pairs) for item in value) + "]"
    return value if isinstance(value, str) else number(value, digits)


def options(row: dict[str, Any]) -> str:
    """Keyword arguments as a call has them."""
    given = dict(row.get("options", {}))
    if "axis" in given:
        axis = given["axis"]
        given["axis"] = None if axis == "none" else tuple(axis) if isinstance(axis, list) else axis
    return ", ".join(f"{k}={repr(v) if isinstance(v, str) else shown(v)}" for k, v in given.items())


def results(row: dict[str, Any], *, pairs: bool) -> list[str]:
    """One entry for each result, functions with the same one together."""
    if "raises" in row:
        functions = ", ".join(row.get("functions", ()))
        raised = " or ".join(row["raises"].split("|"))
        return [f"{functions}: {raised}" if functions else raised]
    by_result: dict[str, list[str]] = {}
    for name, value in row["expected"].items():
        by_result.setdefault(shown(value, SHORT, pairs=pairs), []).append(name)
    return [f"{', '.join(names)}: {code(result)}" for result, names in by_result.items()]


def code(text: str) -> str:
    """Text in backticks, nothing of nothing."""
    return f"`{text}`" if text else ""


def cells(kind: str, row: dict[str, Any]) -> list[str]:
    """One row of the page."""
    name, source, dtypes = row["name"], row["source"], row.get("dtypes", [*USUAL])
    if USUAL - set(dtypes):
        name += f" ({', '.join(dtypes)})"
    if kind == "fit":
        weights = f", weights {shown(row['sample_weight'])}" if "sample_weight" in row else ""
        result = row["raises"] if "raises" in row else code(shown(row["expected"], SHORT))
        warns = f", warns: {row['warning']}" if "warning" in row else ""
        return [name, code(shown(row["scores"])), code(shown(row["labels"]) + weights), result + warns, source]
    pairs = dtypes[0].startswith("complex")
    if kind in ("loss", "derivative", "attention", "average"):
        result = row["raises"] if "raises" in row else code(shown(row["expected"], SHORT))
        found = [f"{row['function']}: {result}"]
    else:
        found = results(row, pairs=pairs)
    return [name, code(shown(row["input"], pairs=pairs)), code(options(row)), "<br>".join(found), source]


def markdown() -> str:
    """The whole page."""
    lines = [INTRODUCTION]
    for section in tomllib.loads(TABLE.read_text(encoding="utf-8"))["section"]:
        for kind, headers in HEADERS.items():
            if kind not in section:
                continue
            lines.append(f"## {section['title']}\n")
            lines.append(f"| {' | '.join(headers)} |\n|{'---|' * len(headers)}")
            for row in section[kind]:
                escaped = [cell.replace("|", "\\|") for cell in cells(kind, row)]
                lines.append(f"| {' | '.join(escaped)} |")
            lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


if __name__ == "__main__":
    PAGE.write_text(markdown(), encoding="utf-8")
