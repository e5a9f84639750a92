"""Times softly against its rivals: interleaved, shuffled medians in one run, losses included.

Writes benchmarks/results.md. Run: make bench
"""

from __future__ import annotations

import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import softly
from softly import _kernels, jobs

RESULTS = Path(__file__).parent / "results.md"
Case = dict[str, Callable[[], Any]]  # who -> what to time; the first is softly


def interleaved(case: Case, rounds: int) -> dict[str, float]:
    """Median seconds of each contender; every round runs all of them in a shuffled order."""
    times: dict[str, list[float]] = {who: [] for who in case}
    order, shuffle = list(case), random.Random(0).shuffle
    for run in case.values():
        run()
    for _ in range(rounds):
        shuffle(order)
        for who in order:
            start = time.perf_counter()
            case[who]()
            times[who].append(time.perf_counter() - start)
    return {who: statistics.median(seconds) for who, seconds in times.items()}


def map_cases() -> dict[str, Case]:
    """softmax and logsumexp over the last axis, float32, results written to memory that is there already."""
    from scipy import special

    try:
        import torch
    except ModuleNotFoundError:
        torch = None
    cases: dict[str, Case] = {}
    for rows, columns in [(1, 10), (4096, 1000), (65536, 64), (64, 128256)]:
        scores = np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)
        out = np.empty_like(scores)
        case: Case = {
            "softly": lambda z=scores, out=out: softly.softmax(z, out=out),
            "scipy": lambda z=scores: special.softmax(z, axis=-1),
        }
        if torch is not None:
            tensor, into = torch.from_numpy(scores), torch.from_numpy(out)
            case["torch"] = lambda z=tensor, out=into: torch.softmax(z, -1, out=out)
        cases[f"softmax float32 {rows} x {columns}"] = case
        case = {
            "softly": lambda z=scores: softly.logsumexp(z),
            "scipy": lambda z=scores: special.logsumexp(z, axis=-1),
        }
        if torch is not None:
            case["torch"] = lambda z=tensor: torch.logsumexp(z, -1)
        cases[f"logsumexp float32 {rows} x {columns}"] = case
    return cases


def fit_case() -> Case:
    """Temperature of 50,000 rows of ten classes, beside scikit-learn's."""
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    class Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        """A classifier whose features are its scores."""

        def fit(self, x: Any, y: Any) -> Given:
            self.classes_ = np.arange(10)
            return self

        def decision_function(self, x: Any) -> Any:
            return x

        def predict(self, x: Any) -> Any:
            return x.argmax(axis=1)

    rng = np.random.default_rng(0)
    scores = rng.normal(size=(50_000, 10)) * 3
    labels = np.argmax(scores / 2 + rng.gumbel(size=scores.shape), axis=1)
    model = Given().fit(scores, labels)
    rival = lambda: CalibratedClassifierCV(FrozenEstimator(model), method="temperature", ensemble=False).fit(  # noqa: E731
        scores, labels
    )
    mine = softly.fit_calibrator(scores, labels).temperature
    theirs = 1 / rival().calibrated_classifiers_[0].calibrators[0].beta_
    if abs(mine / theirs - 1) > 1e-4:
        raise SystemExit(f"the fits disagree: {mine} and {theirs}")
    return {"softly": lambda: softly.fit_calibrator(scores, labels), "scikit-learn": rival}


def file_case(directory: Path, rows: int) -> Case:
    """The whole of `calibrate` on a Parquet file, beside reading it and writing it again with the same codec."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, copy, out = directory / "scores.parquet", directory / "copy.parquet", directory / "out"
    names = [f"logit_{c}" for c in "abcdefghij"]
    schema = pa.schema([(name, pa.float32()) for name in names] + [("label", pa.int64())])
    rng = np.random.default_rng(0)
    with pq.ParquetWriter(path, schema) as writer:
        for _ in range(rows // 250_000):
            z = (rng.normal(size=(250_000, 10)) * 3).astype(np.float32)
            y = np.argmax(z / 2 + rng.gumbel(size=z.shape), axis=1)
            writer.write_table(pa.table([*(c.copy() for c in z.T), y], schema=schema))

    def copying() -> None:
        file = pq.ParquetFile(path)
        with pq.ParquetWriter(copy, file.schema_arrow) as writer:
            for batch in file.iter_batches(250_000):
                writer.write_batch(batch)

    return {
        "softly": lambda: jobs.calibrate_file(path, label="label", out=out, overwrite=True),
        "pyarrow copy": copying,
    }


def cpu_seconds(commands: dict[str, list[str]], rounds: int = 15) -> dict[str, float]:
    """Median CPU time of each process, in turn."""
    spent: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {name: statistics.median(seconds) for name, seconds in spent.items()}


def machine() -> str:
    """The processor, its cores, and what softly runs on it."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), model)
    core = _kernels.describe()
    return f"{model}, {os.cpu_count()} cores; softly {softly.__version__}: {core.get('target', 'no compiled core')}"


def row(name: str, times: dict[str, float]) -> str:
    """A line of the table: milliseconds, and how many times softly's each rival needs."""
    mine = times["softly"]
    rivals = ", ".join(f"{who} {1e3 * t:.4g} ms ({t / mine:.2f}x)" for who, t in times.items() if who != "softly")
    return f"| {name} | {1e3 * mine:.4g} | {rivals} |"


def main() -> None:
    """Run everything and write the table."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    lines = [
        "# Benchmarks",
        "",
        f"{machine()}. Interleaved medians of one run; in brackets, how many times softly's time the rival needs",
        "(below 1 the rival is faster). Written by `make bench`.",
        "",
        "| case | softly, ms | rivals |",
        "|---|---|---|",
    ]
    for name, case in map_cases().items():
        lines.append(row(name, interleaved(case, 31)))
        print(lines[-1], flush=True)
    lines.append(row("temperature fit float64 50000 x 10", interleaved(fit_case(), 31)))
    print(lines[-1], flush=True)
    with tempfile.TemporaryDirectory() as directory:
        name = f"calibrate a Parquet file, {rows:,} x 10 float32"
        lines.append(row(name, interleaved(file_case(Path(directory), rows), 3)))
        print(lines[-1], flush=True)
    command = str(Path(sys.executable).with_name("softly"))
    cpu = cpu_seconds(
        {
            "python": [sys.executable, "-c", "pass"],
            "--version": [command, "--version"],
            "--help": [command, "--help"],
            "numpy": [sys.executable, "-c", "import numpy"],
            "softly": [sys.executable, "-c", "import numpy, softly"],
        }
    )
    bare = f"bare python {1e3 * cpu['python']:.0f} ms"
    lines += [f"| `softly {option}`, CPU | {1e3 * cpu[option]:.0f} | {bare} |" for option in ("--version", "--help")]
    imports = f"{1e3 * cpu['softly']:.0f} | numpy alone {1e3 * cpu['numpy']:.0f} ms"
    lines.append(f"| import of numpy and softly, CPU | {imports} |")
    print(*lines[-3:], sep="\n")
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
