"""Writes docs/accuracy.md: worst errors of softly and of its rivals, by the truth and the scores of the tests.

Run: python docs/accuracy.py
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))  # before this folder, which has an `accuracy` too

import accuracy  # noqa: E402
from accuracy import Array  # noqa: E402

import softly  # noqa: E402
from softly import _kernels  # noqa: E402

LENGTHS = (2, 10, 100, 1000, 10000, 131072)
SETS = {  # title -> kind of scores, which of its temperatures
    "N(0, 1)": ("N(0,1)", None),
    "N(0, 10)": ("N(0,10)", None),
    "N(0, 100)": ("N(0,100)", None),
    "1e30 offset": ("1e30 offset", None),
    "1e30 offset, T = 0.3 of its spacing": ("1e30 offset", 2),
    "-inf mixture": ("-inf mixture", None),
    "a leader, gaps 0 to 600": ("leader", None),
    "subnormal results": ("subnormal results", None),
}
Rivals = dict[str, Callable[[Array], Any]]

INTRODUCTION = """# Accuracy

Made by `python docs/accuracy.py`: worst errors in float32 / float64 over rows of {lengths} scores.

The truth is 80-bit arithmetic with an exact shift and an exact quotient; the tests hold it to mpmath, and softly to its
bounds, on these scores and more ([tests/test_accuracy.py](../tests/test_accuracy.py)). The unit is the ULP of the exact
result; for logsumexp that of max(|result|, |largest score|), for the sparse maps that of 1. "inf" and "NaN" came out
where a number should. Rivals have no temperature: they get scores / T. *NumPy* is the textbook's formula, written in
NumPy. Scores of which everybody's results are exact are left out.

{versions}
"""


# ---------------------------------------------------------------- who


def optional(name: str) -> Any:
    """A module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def shifted_softmax(z: Array) -> Array:
    """Powers after subtracting the largest score, over their sum."""
    powers = np.exp(z - z.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def shifted_logsumexp(z: Array) -> Array:
    """The largest score, plus the logarithm of the sum of powers after subtracting it."""
    largest = z.max(axis=-1, keepdims=True)
    return largest[..., 0] + np.log(np.exp(z - largest).sum(axis=-1))


def rivals() -> dict[str, Rivals]:
    """By operation, then by name: what the others offer for it, as far as they are installed."""
    found: dict[str, Rivals] = {
        "softmax": {"NumPy": shifted_softmax},
        "log_softmax": {"NumPy": lambda z: z - shifted_logsumexp(z)[..., None]},
        "logsumexp": {"NumPy": shifted_logsumexp},
        "entmax": {},
        "sparsemax": {},
        "sigmoid": {"NumPy": lambda z: 1 / (1 + np.exp(-z))},
        "log_sigmoid": {"NumPy": lambda z: -np.log1p(np.exp(-z))},
    }
    if special := optional("scipy.special"):
        found["softmax"]["SciPy"] = lambda z: special.softmax(z, axis=-1)
        found["log_softmax"]["SciPy"] = lambda z: special.log_softmax(z, axis=-1)
        found["logsumexp"]["SciPy"] = lambda z: special.logsumexp(z, axis=-1)
        found["sigmoid"]["SciPy"] = special.expit
        found["log_sigmoid"]["SciPy"] = special.log_expit
    if torch := optional("torch"):

        def of_torch(function: Callable[..., Any], **options: Any) -> Callable[[Array], Array]:
            return lambda z: function(torch.from_numpy(z), **options).numpy()

        for name in ("softmax", "log_softmax", "logsumexp"):
            found[name]["torch"] = of_torch(getattr(torch, name), dim=-1)
        found["sigmoid"]["torch"] = of_torch(torch.sigmoid)
        found["log_sigmoid"]["torch"] = of_torch(torch.nn.functional.logsigmoid)
        if package := optional("entmax"):
            found["entmax"] |= {
                "entmax15": of_torch(package.entmax15, dim=-1),
                "entmax_bisect": of_torch(package.entmax_bisect, alpha=1.5),
            }
            found["sparsemax"] |= {
                "sparsemax": of_torch(package.sparsemax, dim=-1),
                "sparsemax_bisect": of_torch(package.sparsemax_bisect),
            }
    if jax := optional("jax"):
        jax.config.update("jax_enable_x64", True)
        for name in ("softmax", "log_softmax", "logsumexp", "sigmoid", "log_sigmoid"):
            function = getattr(jax.nn, name)
            found[name]["JAX"] = lambda z, function=function, **options: np.asarray(function(jax.numpy.asarray(z)))
        found["logsumexp"]["JAX"] = lambda z: np.asarray(jax.nn.logsumexp(jax.numpy.asarray(z), axis=-1))
    return found


def versions() -> str:
    """The libraries measured."""
    names = [n for n in ("numpy", "scipy", "torch", "jax", "entmax") if optional(n)]
    core = f"{_kernels.core.active_target()} core" if _kernels.core else "array expressions"
    return f"softly ({core}), " + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names) + "."


# ---------------------------------------------------------------- how far off


@functools.cache
def sample(kind: str, at: int | None, dtype: Any, n: int, elementwise: bool) -> tuple[Array, float]:
    """Scores and a temperature; for sigmoids the possible ones and their negatives."""
    z, temperatures = accuracy.scores(kind, dtype, n, np.random.default_rng(n))
    if elementwise:
        z = z[np.isfinite(z)]
        z = np.concatenate([z, -z])
    return z, 1.0 if at is None else temperatures[at]


@functools.cache
def truth(family: str, *drawn: Any) -> dict[str, Array]:
    """The exact results of every operation of a family."""
    z, temperature = sample(*drawn)
    if family == "sigmoids":
        return accuracy.sigmoids(z, temperature)
    if family == "rows":
        return accuracy.truths(z, temperature)
    return {family: accuracy.entmax(z, temperature, {"entmax": 1.5, "sparsemax": 2.0}[family])}


def worst(name: str, who: Rivals, kind: str, at: int | None, dtype: Any) -> dict[str, float]:
    """The largest error of each contender over all lengths."""
    found = dict.fromkeys(("softly", *who), 0.0)
    family = "sigmoids" if "sigmoid" in name else name if name in accuracy.OF_ONE else "rows"
    for n in LENGTHS:
        drawn = kind, at, dtype, n, family == "sigmoids"
        (z, temperature), exact = sample(*drawn), truth(family, *drawn)[name]
        results = {"softly": getattr(softly, name)(z, temperature=temperature)}
        results |= {rival: function(z / dtype(temperature)) for rival, function in who.items()}
        for contender, result in results.items():
            ulps = accuracy.errors(name, np.asarray(result), exact, z, temperature).max()
            found[contender] = float(np.maximum(found[contender], ulps))  # keeps NaN
    return found


def shown(ulps: float) -> str:
    """Two digits; large errors as powers of ten."""
    return "NaN" if np.isnan(ulps) else f"{ulps:.2f}" if ulps < 10 else f"{ulps:.0f}" if ulps < 1e4 else f"{ulps:.0e}"


def table(name: str, who: Rivals) -> str:
    """One operation: sets of scores by contenders."""
    lines = [f"## {'entmax, alpha = 1.5' if name == 'entmax' else name}", ""]
    lines.append("| scores | " + " | ".join(["softly", *who]) + " |")
    lines.append("|---" * (len(who) + 2) + "|")
    for title, (kind, at) in SETS.items():
        float32, float64 = (worst(name, who, kind, at, dtype) for dtype in (np.float32, np.float64))
        if not any((*float32.values(), *float64.values())):
            continue
        cells = [f"{shown(float32[contender])} / {shown(float64[contender])}" for contender in float32]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure all, write the page."""
    warnings.simplefilter("ignore")
    lengths = ", ".join(map(str, LENGTHS[:-1])) + f" and {LENGTHS[-1]}"
    with np.errstate(all="ignore"):
        tables = [table(name, who) for name, who in rivals().items()]
    page = "\n\n".join([INTRODUCTION.format(lengths=lengths, versions=versions()).strip(), *tables]) + "\n"
    (HERE / "accuracy.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
