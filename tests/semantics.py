"""The table of special values (semantics.toml), and what the tests need to read it on any backend.

`cases()` is the table, `check()` runs one row of it, `exact()` is the truth in mpmath, `error()` measures
in ULPs. `python semantics.py` runs the whole table in this process: done once for every instruction set.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from semantics_truth import exact as exact

FUNCTIONS = ("softmax", "log_softmax", "logsumexp", "sparsemax", "entmax")
ELEMENTWISE = ("sigmoid", "log_sigmoid")
SEGMENTS = ("segment_softmax", "segment_log_softmax", "segment_logsumexp", "segment_entmax")
KINDS = ("case", "fit", "loss", "derivative", "attention", "average")  # of rows
EXPRESSION_ULP = 64.0  # stated tolerance of the array-API expressions; special values stay exact
HERE = Path(__file__).parent
FORCED = "SOFTLY_TARGET" in os.environ  # a run for one target: fewer sizes, so that all targets fit in a minute
FLOATS = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")
EXCEPTIONS = {"ValueError": ValueError, "TypeError": TypeError, "AxisError": np.exceptions.AxisError}
ARRAY_OPTIONS = ("temperature", "where", "weights", "offsets", "index")


@dataclass(frozen=True)
class Case:
    """One row of the table: an input with its options, and what every function makes of it."""

    name: str
    source: str
    input: Any
    dtypes: tuple[str, ...] = ("float32", "float64")
    layout: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    expected: dict[str, Any] = field(default_factory=dict)
    ulp: float = 0.0
    scale: float = 0.0
    raises: str = ""
    match: str = ""
    functions: tuple[str, ...] = FUNCTIONS

    def tested(self) -> tuple[str, ...]:
        """The functions that this row is about."""
        return self.functions if self.raises else tuple(self.expected)


@functools.cache
def table() -> dict[str, Any]:
    """The whole of semantics.toml."""
    return tomllib.loads((HERE / "semantics.toml").read_text(encoding="utf-8"))


def sections(kind: str) -> Iterator[dict[str, Any]]:
    """The rows of one of the KINDS, of all sections of semantics.toml, as they stand there."""
    for section in table()["section"]:
        yield from section.get(kind, ())


def cases() -> list[Case]:
    """All rows of the table about functions that exist, in order."""
    lists = ("dtypes", "functions")
    return [Case(**{key: tuple(v) if key in lists else v for key, v in row.items()}) for row in sections("case")]


def every() -> Iterator[tuple[Case, str, str]]:
    """Each (case, function, dtype) of the table."""
    return ((case, name, dtype) for case in cases() for dtype in case.dtypes for name in case.tested())


def to_dtype(name: str) -> np.dtype[Any]:
    """The dtype called `name`, bfloat16 included."""
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def fill(value: Any, dtype: Any = None) -> np.ndarray[Any, Any]:
    """An array from what the table holds: nested lists, a number, or {shape, value}; complex numbers are pairs."""
    if isinstance(value, dict):
        return np.full(value["shape"], value["value"], dtype=dtype)
    if dtype is not None and np.dtype(dtype).kind == "c" and not np.iscomplexobj(value):
        return np.array(value, np.float64).view(np.complex128)[..., 0].astype(dtype)
    return np.array(value, dtype=dtype)


def unaligned(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same numbers, one byte off their natural boundary."""
    view = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def read_only(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same numbers, not to be written to."""
    array.flags.writeable = False
    return array


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "": lambda array: array,
    "Fortran": np.asfortranarray,
    "strided": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "reversed": lambda array: array[..., ::-1].copy()[..., ::-1],
    "stride 0": lambda array: np.broadcast_to(array[..., :1], array.shape),
    "byte-swapped": lambda array: array.astype(array.dtype.newbyteorder()),
    "unaligned": unaligned,
    "read-only": read_only,
    "masked array": lambda array: np.ma.masked_array(array, mask=array > 0),
}


def scores_of(case: Case, dtype: str) -> Any:
    """The scores of a case; dtype "python" leaves lists and numbers as they are."""
    return case.input if dtype == "python" else LAYOUTS[case.layout](fill(case.input, to_dtype(dtype)))


def options_of(case: Case, dtype: str = "float64") -> dict[str, Any]:
    """The keyword arguments of a case, lists turned into arrays (not for dtype "python")."""
    options = dict(case.options)
    for key in ARRAY_OPTIONS:
        if isinstance(options.get(key), dict) or (isinstance(options.get(key), list) and dtype != "python"):
            options[key] = fill(options[key])
    if "axis" in options:
        axis = options["axis"]
        options["axis"] = None if axis == "none" else tuple(axis) if isinstance(axis, list) else axis
    return options


def parts_of(case: Case, name: str, promised: np.dtype[Any]) -> list[np.ndarray[Any, Any]]:
    """What a case expects, in 64 bits: the result; with return_sign the logarithm, which is real, and the sign."""
    expected, wide = case.expected[name], np.complex128 if promised.kind == "c" else np.float64
    if isinstance(expected, dict) and "sign" in expected:
        return [fill(expected["log"], np.float64), fill(expected["sign"], wide)]
    return [fill(expected, wide)]


def numbers(value: Any) -> Iterator[float]:
    """Every number in nested lists and tables."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from numbers(item)
    elif isinstance(value, int | float):
        yield float(value)


def has_subnormals(case: Case, dtype: str) -> bool:
    """Whether a case feeds, asks for or expects a number that a backend may flush to zero."""
    kind = to_dtype(dtype)
    least = float(ml_dtypes.finfo(kind if kind.kind in "fVc" else np.float64).smallest_normal)
    given = [*numbers(case.input), *numbers(case.expected), *numbers(case.options)]
    with np.errstate(all="ignore"):
        inverse = 1 / fill(case.options.get("temperature", 1.0), np.float64)
    return any(0 < abs(number) < least for number in (*given, *inverse.ravel().tolist()))


def error(result: Any, truth: Any, *, scale: Any = 0.0) -> np.ndarray[Any, Any]:
    """|result - truth| in ULPs of max(|truth|, scale) in the dtype of `result`; inf where one is not finite.

    The ULP is the spacing of the dtype in that binade. A truth that rounds to inf may come out as inf.
    """
    result, info = np.asarray(result), ml_dtypes.finfo(np.asarray(result).dtype)
    wide = result.astype(np.float64).astype(np.longdouble)
    truth = np.asarray(truth, np.longdouble)
    with np.errstate(all="ignore"):
        _, exponent = np.frexp(np.where(np.isfinite(truth), np.maximum(np.abs(truth), scale), 0))
        unit = np.ldexp(np.longdouble(1), np.maximum(exponent - 1, int(info.minexp)) - int(info.nmant))
        ulps = np.where(np.isfinite(truth), np.abs(wide - truth) / unit, np.inf)
    half_a_step = np.ldexp(np.longdouble(1), int(info.maxexp) - int(info.nmant) - 2)
    overflow = np.longdouble(float(info.max)) + half_a_step
    same = (wide == truth) | (np.isnan(wide) & np.isnan(truth))
    same |= np.isinf(wide) & (np.sign(wide) == np.sign(truth)) & (np.abs(truth) >= overflow)
    return np.where(same, 0, ulps)


def raised(case: Case) -> tuple[type[BaseException], ...]:
    """The exceptions a case allows; "ValueError|TypeError" means either."""
    return tuple(EXCEPTIONS[name] for name in case.raises.split("|"))


def check(
    function: Callable[..., Any],
    case: Case,
    name: str,
    dtype: str,
    *,
    least_ulp: float = 0.0,
    default_float: str = "float64",
    asarray: Callable[[Any], Any] = lambda array: array,
    asnumpy: Callable[[Any], Any] = np.asarray,
) -> None:
    """Runs one row of the table, warnings and floating-point flags armed; AssertionError if it fails.

    `least_ulp` widens tolerances that are not exact; `asarray`, `asnumpy`: to the backend and back.
    """
    scores = scores_of(case, dtype)
    given = scores if dtype == "python" else asarray(scores)
    options = {k: asarray(v) if isinstance(v, np.ndarray) else v for k, v in options_of(case, dtype).items()}
    small = isinstance(scores, np.ndarray) and scores.size < 10**6
    before = scores.tobytes() if small else b""
    outcome: Any = None
    exception: Exception | None = None
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            outcome = function(given, **options)
        except Exception as caught:
            exception = caught
    said = f"{type(exception).__name__}: {exception}" if exception else f"returned {outcome!r}"
    if case.raises:
        assert isinstance(exception, raised(case)), f"no {case.raises}; {said}"
        assert re.search(case.match, str(exception), re.S), f"lacks {case.match!r}; {said}"
        return
    assert exception is None, said
    assert not small or scores.tobytes() == before, "changed its input"
    promised = to_dtype(dtype if dtype in FLOATS else default_float)
    outcomes, parts = outcome if isinstance(outcome, tuple) else (outcome,), parts_of(case, name, promised)
    assert len(outcomes) == len(parts), said
    for result, expected in zip(map(asnumpy, outcomes), parts, strict=True):
        kind = promised if np.iscomplexobj(expected) or promised.kind != "c" else promised.type(0).real.dtype
        assert result.dtype == kind, f"dtype {result.dtype}, expected {kind}"
        compare(result, expected, max(case.ulp, least_ulp) if case.ulp else 0, case.scale)


def compare(result: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], limit: float, scale: float) -> None:
    """AssertionError unless shapes agree, and numbers within `limit` ULPs, 0 meaning exactly when rounded."""
    assert result.shape == expected.shape, f"shape {result.shape}, expected {expected.shape}"
    if result.size > 10**5:  # the table expects one number everywhere: compare the extremes
        result, expected = np.stack([result.min(), result.max()]), expected.ravel()[:2]
    if limit == 0:
        with np.errstate(all="ignore"):
            wrong = ~((result == expected.astype(result.dtype)) | (np.isnan(result) & np.isnan(expected)))
        assert not wrong.any(), f"got {result}, expected exactly {expected}"
        return
    if result.dtype.kind == "c":  # each part in ULPs of the modulus
        size = np.maximum(np.abs(expected), scale)
        ulps = np.maximum(error(result.real, expected.real, scale=size), error(result.imag, expected.imag, scale=size))
    else:
        ulps = error(result, expected, scale=scale)
    assert (ulps <= limit).all(), f"{ulps.max():.3g} ULP off (limit {limit:g}): {result}, not {expected}"


def targets() -> tuple[str, ...]:
    """The instruction sets that this processor and build offer; empty without the compiled core."""
    try:
        from softly import _core
    except ImportError:
        return ()
    return tuple(_core.targets())


LEAST_ULP = 0.0 if targets() and os.environ.get("SOFTLY_TARGET") != "none" else EXPRESSION_ULP


def other_targets() -> tuple[str, ...]:
    """The targets that a test file is run again under: all but the active one, none where one was forced."""
    if FORCED or not targets():
        return ()
    from softly import _core

    return tuple(name for name in targets() if name != _core.active_target())


def python(*arguments: str, target: str = "", threads: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs this Python, under `SOFTLY_TARGET=target` if given, with these test helpers on its path."""
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path}
    if target:
        environment["SOFTLY_TARGET"] = target
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def run_again(test_file: str, target: str) -> None:
    """Runs a test file in a new process under another target, sure of which one is active."""
    code = (
        f"import softly, softly._core as core, pytest, sys; assert core.active_target() == {target!r}; "
        f"sys.exit(pytest.main(['-q', '--no-header', '-p', 'no:cacheprovider', {test_file!r}]))"
    )
    done = python("-c", code, target=target)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def main() -> int:
    """Runs the table in this process; prints what fails. SOFTLY_TARGET says which core must be active."""
    import softly

    target = os.environ.get("SOFTLY_TARGET", "")
    if target and target != "none":
        from softly import _core

        assert _core.active_target() == target, f"{_core.active_target()} is active, not {target}"
    failures = ran = 0
    for case, name, dtype in every():
        ran += 1
        try:
            check(getattr(softly, name), case, name, dtype, least_ulp=LEAST_ULP)
        except AssertionError as failure:
            failures += 1
            print(f"FAILED {name} {dtype} [{case.name}]: {failure}")
    print(f"{target or 'default'}: {ran} checks, {failures} failed")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
