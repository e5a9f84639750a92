"""Scores as typed -> probabilities in a table with bars, and why the naive formula would not do."""

from __future__ import annotations

import math
import re
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from softly._errors import InputError
from softly.cli import printable, screen
from softly.maps import log_softmax, softmax, sparsemax

FloatArray = NDArray[np.float64]


class Map(NamedTuple):
    """A member of the family, and (intermediate, probabilities) as the textbook formula gives them."""

    name: str
    stable: Callable[..., FloatArray]
    formula: str
    intermediate: str
    naive: Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]


def _naive_softmax(z: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    powers = np.exp(z)
    return powers, powers / powers.sum()


def _naive_sparsemax(z: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    descending = np.sort(z)[::-1]
    sums, rank = np.cumsum(descending), np.arange(1, len(z) + 1, dtype=np.float32)
    size = max(1, int(np.count_nonzero(1 + rank * descending > sums)))
    over = z - (sums[size - 1] - np.float32(1)) / np.float32(size)
    return over, np.maximum(over, np.float32(0))


MAPS = {
    1.0: Map("softmax", softmax, "exp(z) / sum of exp(z)", "exp({})", _naive_softmax),
    2.0: Map("sparsemax", sparsemax, "max(z - tau, 0), which sum to 1", "{} - tau", _naive_sparsemax),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Scores (rows, n), with the shift added, and their probabilities (rows, n); `given` are without the shift."""

    given: FloatArray
    scores: FloatArray
    probabilities: FloatArray
    names: tuple[str, ...] | None
    temperature: float
    alpha: float
    shift: float | None
    explain: bool


def read_scores(arguments: Sequence[str], path: Path | None) -> FloatArray:
    """Scores (rows, n) from arguments, else a text file, else standard input; InputError names what is no number."""
    if arguments and path is not None:
        raise InputError("scores are given both as arguments and by --file: give one of the two")
    if arguments:
        rows = [[x for i, text in enumerate(arguments, 1) for x in _numbers(text, f"argument {i}")]]
    elif path is not None:
        rows = _rows(_text_of(path), str(path))
    elif sys.stdin is None or sys.stdin.isatty():
        raise InputError("no scores: give them as arguments (softly probabilities 2 1 -1), by --file or by a pipe")
    else:
        rows = _rows(_decoded(sys.stdin.buffer.read(), "standard input"), "standard input")
    return np.array(rows, np.float64)


def calculate(
    given: FloatArray,
    *,
    names: tuple[str, ...] | None = None,
    temperature: float = 1.0,
    alpha: float = 1.0,
    shift: float | None = None,
    explain: bool = False,
) -> Result:
    """The probabilities of each row of scores, after adding `shift` to them."""
    if alpha not in MAPS:
        there = ", ".join(f"{number:g} ({member.name})" for number, member in MAPS.items())
        raise InputError(f"--alpha {alpha:g}: there are {there}")
    if names is not None and len(names) != given.shape[1]:
        raise InputError(f"--names: {len(names)} names for {given.shape[1]} scores: give one each")
    scores = given if shift is None else _shifted(given, shift)
    return Result(
        given=given,
        scores=scores,
        probabilities=MAPS[alpha].stable(scores, temperature=temperature),
        names=names,
        temperature=temperature,
        alpha=alpha,
        shift=shift,
        explain=explain,
    )


def _shifted(scores: FloatArray, constant: float) -> FloatArray:
    with np.errstate(over="ignore"):
        shifted: FloatArray = scores + constant
    if not math.isfinite(constant) or np.any(np.isinf(shifted) & np.isfinite(scores)):
        raise InputError(f"--shift {constant:g}: the scores would not be finite any more; give a smaller number")
    return shifted


def print_json(result: Result) -> None:
    """Print lists, of rows if there are several; infinities and NaN as the strings "inf", "-inf", "nan"."""
    data: dict[str, Any] = {
        "probabilities": result.probabilities,
        "scores": result.scores,
        "temperature": result.temperature,
        "alpha": result.alpha,
    }
    if result.names is not None:
        data["names"] = list(result.names)
    if result.shift is not None:
        data["shift"] = result.shift
    if result.explain:
        data["naive_float32"] = np.array([_naive(result, row)[1] for row in result.scores], np.float64)
    for name, value in data.items():
        if isinstance(value, np.ndarray):
            data[name] = (value[0] if len(value) == 1 else value).tolist()
    screen.print_json(_without_infinities(data))


def show(result: Result) -> None:
    """Print a table with bars for each row, and the explanation if asked for."""
    page = screen.Screen()
    for row in range(len(result.scores)):
        if row:
            page.print()
        if len(result.scores) > 1:
            page.print(f"row {row + 1}", style="bold")
        page.print(_table(result, row, page))
        if result.explain:
            _explain(result, row, page)


def _table(result: Result, row: int, page: screen.Screen) -> Any:
    scores, probabilities = result.scores[row], result.probabilities[row]
    log_probabilities = log_softmax(scores, temperature=result.temperature)
    columns = zip(scores, probabilities, log_probabilities, strict=True)
    texts = [_described(result, row, *column) for column in columns]
    width = max(len(text) for text, _ in texts)
    table = screen.table("", "score", "probability")
    table.columns[2].justify = "left"
    for name, z, p, (text, note) in zip(_labels(result), scores, probabilities, texts, strict=True):
        table.add_row(name, f"{z:.10g}", f"{text:>{width}} {note or page.bar(p)}".rstrip())
    return table


def _described(result: Result, row: int, z: float, p: float, log_p: float) -> tuple[str, str]:
    """A probability as text; for 0 and an exact 1 also a note that says which kind it is."""
    if result.alpha != 1.0:
        if p == 1.0 and np.count_nonzero(result.probabilities[row]) == 1:
            return "1", "exactly"
        return ("0", "(impossible)" if z == -math.inf else "exactly") if p == 0.0 else (screen.probability(p), "")
    if p > 0.0:
        return screen.probability(p, missing=-math.expm1(log_p)), ""
    if z == -math.inf:
        return "0", "(impossible)"
    if math.inf in result.scores[row]:
        return "0", "(beside a score of inf)"
    if result.temperature == 0:
        return "0", "exactly (temperature 0)"
    return "0", f"(underflow: below 4.9e-324; log-probability {log_p:.10g})"


def _explain(result: Result, row: int, page: screen.Screen) -> None:
    """The naive formula in float32 beside the map, without and with a constant added to the scores."""
    constant = 100.0 if result.shift is None else result.shift
    member = MAPS[result.alpha]
    symbols = "z", f"z {'-' if constant < 0 else '+'} {abs(constant):g}"
    if result.temperature != 1:
        symbols = "z/T", f"({symbols[1]})/T"
    given, shifted = result.given[row], _shifted(result.given[row], constant)
    stable = [member.stable(z, temperature=result.temperature) for z in (given, shifted)]
    columns = [_naive(result, given), _naive(result, shifted)]

    table = screen.table("", "z", *(h for z in symbols for h in (member.intermediate.format(z), "naive", "softly")))
    for i, (name, z) in enumerate(zip(_labels(result), given, strict=True)):
        cells = []
        for (middle, naive), p in zip(columns, stable, strict=True):
            cells += [f"{middle[i]:.4g}", screen.probability(naive[i]), screen.probability(p[i])]
        table.add_row(name, f"{z:.6g}", *cells)
    page.print()
    page.print(f"naive: {member.formula}, in float32")
    page.print(table)
    page.print(_shift_story(given, shifted, constant, *stable))


def _shift_story(before: FloatArray, after: FloatArray, constant: float, p: FloatArray, p_after: FloatArray) -> str:
    with np.errstate(invalid="ignore"):
        difference = float(np.abs(p - p_after).max())
        rounded = bool(np.any((after - constant != before) & np.isfinite(before)))
    adding = f"Adding {constant:g} to every score"
    if difference == 0:
        return f"{adding} changes nothing: softly's probabilities are the same, bit for bit."
    cause = "the sums, which float64 rounds before they are used" if rounded else "rounding"
    return f"{adding} changes nothing: softly's probabilities differ by at most {difference:.2g}, from {cause}."


def _naive(result: Result, scores: FloatArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    with np.errstate(all="ignore"):
        z = scores.astype(np.float32) / np.float32(result.temperature)
        return MAPS[result.alpha].naive(z)


def _labels(result: Result) -> list[str]:
    return [printable(str(name)) for name in result.names or range(result.scores.shape[1])]


def _numbers(text: str, where: str) -> list[float]:
    """The numbers of a text, separated by spaces, commas or semicolons."""
    numbers = []
    for token in re.split(r"[\s,;]+", text.replace("\u2212", "-").strip(" \t\r\n,;")):
        try:
            number = float(token) if "_" not in token else math.nan
        except ValueError:
            number = math.nan
        if math.isnan(number):
            if token.startswith("--"):
                raise InputError(f"no such option: {token}; see softly probabilities --help")
            said = "not a score" if token.lower().lstrip("+-") == "nan" else "not a number"
            raise InputError(f"{where}: {token[:40]!r}: {said}; give numbers such as 2, -1.5e3, inf or -inf")
        if math.isinf(number) and "n" not in token.lower():
            raise InputError(f"{where}: {token[:40]!r} is beyond float64; give a smaller number, inf or -inf")
        numbers.append(number)
    return numbers


def _rows(text: str, where: str) -> list[list[float]]:
    """Rows of equal length, one a line; lines of one number each are one row."""
    lines = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    rows = [_numbers(line, f"{where}, line {i}") for i, line in lines]
    if not rows:
        raise InputError(f"{where}: no scores; give numbers separated by spaces, commas or lines")
    for (i, _), row in zip(lines, rows, strict=True):
        if len(row) != len(rows[0]):
            found = f"{len(row)} scores, but {len(rows[0])} in line {lines[0][0]}"
            raise InputError(f"{where}, line {i}: {found}; give every row as many")
    return [[row[0] for row in rows]] if len(rows[0]) == 1 else rows


def _text_of(path: Path) -> str:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        raise InputError(f"{path}: {what}; give a text file, or pipe the scores to standard input")
    return _decoded(path.read_bytes(), str(path))


def _decoded(data: bytes, where: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InputError(f"{where}: not text; tables and arrays of scores are for `softly evaluate` and `calibrate`")
    return text


def _without_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinities(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_infinities(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
