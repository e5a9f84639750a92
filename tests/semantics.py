"""The table of special values (semantics.toml), and what the tests need to read it on any backend.

`cases()` is the table, `check()` runs one row of it, `exact()` is the truth in mpmath, `error()` measures
in ULPs. `python semantics.py` runs the whole table in this process: done once for every instruction set.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import ml_dtypes
import mpmath
import numpy as np

FUNCTIONS = ("softmax", "log_softmax", "logsumexp", "sparsemax")
EXPRESSION_ULP = 64.0  # stated tolerance of the array-API expressions; special values stay exact
HERE = Path(__file__).parent
FORCED = "SOFTLY_TARGET" in os.environ  # a run for one target: fewer sizes, so that all targets fit in a minute


@dataclass(frozen=True)
class Case:
    """One row of the table: an input with its options, and what every function makes of it."""

    name: str
    source: str
    input: Any
    dtypes: tuple[str, ...] = ("float32", "float64")
    options: dict[str, Any] = field(default_factory=dict)
    expected: dict[str, Any] = field(default_factory=dict)
    ulp: float = 0.0
    raises: str = ""
    match: str = ""
    functions: tuple[str, ...] = FUNCTIONS

    def tested(self) -> tuple[str, ...]:
        """The functions that this row is about."""
        return self.functions if self.raises else tuple(self.expected)


def cases() -> list[Case]:
    """All rows of semantics.toml, in order."""
    table = tomllib.loads((HERE / "semantics.toml").read_text(encoding="utf-8"))["case"]
    lists = ("dtypes", "functions")
    return [Case(**{key: tuple(v) if key in lists else v for key, v in row.items()}) for row in table]


def every() -> Iterator[tuple[Case, str, str]]:
    """Each (case, function, dtype) of the table."""
    return ((case, name, dtype) for case in cases() for dtype in case.dtypes for name in case.tested())


def to_dtype(name: str) -> np.dtype[Any]:
    """The dtype called `name`, bfloat16 included."""
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def fill(value: Any, dtype: Any = None) -> np.ndarray[Any, Any]:
    """An array from what the table holds: nested lists, a number, or {shape, value}."""
    if isinstance(value, dict):
        return np.full(value["shape"], value["value"], dtype=dtype)
    return np.array(value, dtype=dtype)


def scores_of(case: Case, dtype: str) -> Any:
    """The scores of a case; dtype "python" leaves lists and numbers as they are."""
    return case.input if dtype == "python" else fill(case.input, to_dtype(dtype))


def options_of(case: Case) -> dict[str, Any]:
    """The keyword arguments of a case, lists turned into arrays."""
    options = dict(case.options)
    for key in ("temperature", "where"):
        if isinstance(options.get(key), list | dict):
            options[key] = fill(options[key])
    if "axis" in options:
        axis = options["axis"]
        options["axis"] = None if axis == "none" else tuple(axis) if isinstance(axis, list) else axis
    return options


def has_subnormals(case: Case, dtype: str) -> bool:
    """Whether a case feeds, asks for or expects a number that a backend may flush to zero."""
    kind = to_dtype(dtype)
    info = ml_dtypes.finfo(kind if kind.kind in "fV" else np.float64)
    temperature = fill(case.options.get("temperature", 1.0))
    with np.errstate(all="ignore"):
        inputs = (fill(case.input), temperature, 1 / temperature)
    wide = [np.asarray(a, np.float64) for a in (*inputs, *(fill(e) for e in case.expected.values()))]
    return any(bool(np.any((a != 0) & (np.abs(a) < float(info.smallest_normal)))) for a in wide)


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
    known = {"ValueError": ValueError, "TypeError": TypeError, "AxisError": np.exceptions.AxisError}
    return tuple(known[name] for name in case.raises.split("|"))


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
    scores, options = scores_of(case, dtype), options_of(case)
    given = scores if dtype == "python" else asarray(scores)
    for key in ("temperature", "where"):
        if isinstance(options.get(key), np.ndarray):
            options[key] = asarray(options[key])
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
    result, expected = asnumpy(outcome), fill(case.expected[name], np.float64)
    assert result.shape == expected.shape, f"shape {result.shape}, expected {expected.shape}"
    if result.size > 10**5:  # the table expects one number everywhere: compare the extremes
        result, expected = np.stack([result.min(), result.max()]), expected.ravel()[:2]
    floating = dtype in ("float16", "bfloat16", "float32", "float64")
    promised = to_dtype(dtype if floating else default_float)
    assert result.dtype == promised, f"dtype {result.dtype}, expected {promised}"
    if case.ulp == 0:
        with np.errstate(all="ignore"):
            wrong = ~((result == expected.astype(result.dtype)) | (np.isnan(result) & np.isnan(expected)))
        assert not wrong.any(), f"got {result}, expected exactly {expected}"
    else:
        ulps, limit = error(result, expected), max(case.ulp, least_ulp)
        assert (ulps <= limit).all(), f"{ulps.max():.3g} ULP off (limit {limit:g}): {result}, not {expected}"


def exact(name: str, row: Any, temperature: float = 1.0) -> list[Any]:
    """The truth, as mpf numbers, for one row of scores < inf, not all -inf, at 0 < T < inf."""
    z = [Fraction(float(v)) if np.isfinite(v) else None for v in row]
    t, most = Fraction(float(temperature)), max(v for v in z if v is not None)
    shifted = [None if v is None else (v - most) / t for v in z]
    if name == "sparsemax":
        ordered = sorted((s for s in shifted if s is not None), reverse=True)
        total = threshold = Fraction(0)
        for k, s in enumerate(ordered, 1):
            total += s
            if 1 + k * s > total:
                threshold = (total - 1) / k
        return [to_mpf(max(Fraction(0), s - threshold)) if s is not None else mpmath.mpf(0) for s in shifted]
    powers = [mpmath.mpf(0) if s is None or s < -20000 else mpmath.exp(to_mpf(s)) for s in shifted]
    leader = shifted.index(Fraction(0))
    rest = mpmath.fsum(powers[:leader] + powers[leader + 1 :])
    if name == "softmax":
        return [p / (1 + rest) for p in powers]
    potential = mpmath.log1p(rest)
    if name == "logsumexp":
        return [to_mpf(most / t) + potential]
    return [mpmath.mpf("-inf") if s is None else to_mpf(s) - potential for s in shifted]


def to_mpf(value: Fraction) -> Any:
    """A fraction as mpf, rounded once in the working precision."""
    return mpmath.mpf(value.numerator) / value.denominator


def targets() -> tuple[str, ...]:
    """The instruction sets that this processor and build offer; empty without the compiled core."""
    try:
        from softly import _core
    except ImportError:
        return ()
    return tuple(_core.targets())


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

    target, least_ulp = os.environ.get("SOFTLY_TARGET", ""), 0.0
    if target == "none":
        least_ulp = EXPRESSION_ULP
    elif target:
        from softly import _core

        assert _core.active_target() == target, f"{_core.active_target()} is active, not {target}"
    failures = ran = 0
    for case, name, dtype in every():
        ran += 1
        try:
            check(getattr(softly, name), case, name, dtype, least_ulp=least_ulp)
        except AssertionError as failure:
            failures += 1
            print(f"FAILED {name} {dtype} [{case.name}]: {failure}")
    print(f"{target or 'default'}: {ran} checks, {failures} failed")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
