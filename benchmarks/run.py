"""Times softly against its rivals and writes benchmarks/results.md, wins and losses. Run: make bench

Arguments: seconds for each shape (default 2), rows of the file that is calibrated (default 2,000,000).
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from whole import rows_of_table

import softly
from softly import _kernels

HERE = Path(__file__).parent
OURS = ("softly", "softly, fresh", "softly, kept", "softly, by index", "softly, jax", "softly, torch")
INTRODUCTION = """# Benchmarks

{machine}. Written by `make bench`.

Medians of interleaved, shuffled rounds of one run. *best rival* and *ratio*: how many times softly's time the fastest
of the other libraries needs; below 1 it is faster, between 0.9 and 1.1 it is a tie. *GB/s* counts scores read once and
results written once (logsumexp: one number a row); *of copy* is the time of a copy of the scores over softly's, in the
same run. softly writes to memory that is there (`out=`), as do torch's softmax and onnxruntime; *fresh* is a new
result, dropped at once, *kept* one that lives until the next is there. cross_entropy is a mean loss and its gradient,
both new. Libraries that are not installed, or lack the operation, are left out.
"""


def machine() -> str:
    """The processor, its cores, and what softly runs on it."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), model)
    core = _kernels.describe()
    return f"{model}, {os.cpu_count()} cores; softly {softly.__version__}: {core.get('target', 'no compiled core')}"


def milliseconds(seconds: float) -> str:
    """Three digits."""
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"


def line_of(found: dict[str, Any]) -> str:
    """A shape as a line of the table: softly, the best rival, all others."""
    times = found["times"]
    mine = times["softly"]
    rivals = sorted((t, who) for who, t in times.items() if who not in OURS and who != "copy")
    best = f"{rivals[0][1]} {milliseconds(rivals[0][0])} | {rivals[0][0] / mine:.2f}" if rivals else "- | -"
    others = ", ".join(f"{who} {milliseconds(t)}" for t, who in rivals[1:])
    also = ", ".join(f"{who.partition(', ')[2]} {milliseconds(times[who])}" for who in OURS[1:] if who in times)
    cells = [found["title"], milliseconds(mine), best, f"{found['bytes'] / mine / 1e9:.3g}"]
    return "| " + " | ".join([*cells, f"{times['copy'] / mine:.2f}", also or "-", others or "-"]) + " |"


def maps(threads: int, budget: float) -> list[str]:
    """The table of all shapes with a number of threads, each line printed as it comes."""
    command = [sys.executable, str(HERE / "maps.py"), str(threads), str(budget)]
    lines = [
        "| case | softly, ms | best rival, ms | ratio | GB/s | of copy | also, ms | others, ms |",
        "|---" * 8 + "|",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for text in process.stdout:
            lines.append(line_of(json.loads(text)))
            print(lines[-1], flush=True)
    if process.returncode:
        raise SystemExit(process.returncode)
    return lines


def main() -> None:
    """Run everything and write the table."""
    budget = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 2_000_000
    page = [INTRODUCTION.format(machine=machine())]
    for threads in (1, 2):
        page += [f"## Maps, {threads} thread{'s' * (threads > 1)}", "", *maps(threads, budget), ""]
    page += ["## Whole jobs", "", "| case | softly, ms | rivals, ms (ratio) |", "|---|---|---|"]
    for name, times in rows_of_table(rows):
        mine = times["softly"]
        rivals = [f"{who} {milliseconds(t)} ({t / mine:.2f})" for who, t in times.items() if who != "softly"]
        page.append(f"| {name} | {milliseconds(mine)} | {', '.join(rivals)} |")
        print(page[-1], flush=True)
    (HERE / "results.md").write_text("\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
