"""Counts the instructions of the kernels (AVX2) by callgrind: what a change costs, without trusting a clock.

Needs valgrind and a C++ compiler. Prints a line for each case and writes instructions.json, which `make slow` compares;
counts of another compiler differ.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RECORD = HERE / "instructions.json"
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=off", "-fno-tree-slp-vectorize", "-fno-math-errno", "-fno-trapping-math")
ALONG_AXIS_0 = -1  # in place of a number of heads
SHAPES = ((4096, 10), (256, 64), (16, 1000))
MAPS = [
    (name, dtype)
    for name in ("softmax", "log_softmax", "logsumexp", "cross_entropy")
    for dtype in ("float32", "float64")
]
CASES = [
    *((*kernel, *shape, 1.0, 0, 1.0) for kernel in MAPS for shape in SHAPES),
    *(("entmax", "float32", *shape, alpha, 0, 1.0) for alpha in (1.5, 2.0) for shape in SHAPES),
    *(("entmax", "float32", *shape, 1.5, 0, spread) for shape in ((16, 1000), (2, 32000)) for spread in (0.1, 0.0)),
    *(("jacobian_product", "float32", 16, 1000, alpha, 0, 1.0) for alpha in (1.5, 2.0)),
    ("sigmoid", "float32", 16, 1000, 1.0, 0, 1.0),
    *(("softmax", "float32", *shape, 1.0, heads, 1.0) for shape in ((4096, 10), (1024, 32)) for heads in (1, 4)),
    *(("softmax", "float32", *shape, 1.0, ALONG_AXIS_0, 1.0) for shape in ((10, 4096), (200, 256))),
    ("softmax", "float32", 16, 1000, 1.0, 0, 1000.0),
]


def compiler() -> str:
    """The C++ compiler's first line about itself."""
    return subprocess.run(["c++", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def flags_of_the_build() -> set[str]:
    """What CMakeLists.txt passes, to be told if FLAGS lag behind."""
    return set(re.findall(r"-[fO][\w=-]+", (HERE.parent / "CMakeLists.txt").read_text()))


def _count(program: Path, case: tuple[Any, ...], times: int) -> int:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, *map(str, (*case, times))]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = re.search(r"Collected : (\d+)", printed)
    assert found, printed
    return int(found[1])


def counts() -> dict[str, float]:
    """Instructions of each case, per entry of its scores."""
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(2) as pool:
        program = Path(directory) / "instructions"
        sources = [HERE / "instructions.cpp", HERE.parent / "csrc" / "target_avx2.cpp"]
        subprocess.run(["c++", *FLAGS, "-w", *sources, "-o", program], check=True)

        def of(case: tuple[Any, ...]) -> float:
            return (_count(program, case, 3) - _count(program, case, 1)) / (2 * case[2] * case[3] * max(1, case[5]))

        return dict(zip(map(_title, CASES), (round(n, 2) for n in pool.map(of, CASES)), strict=True))


def _title(case: tuple[Any, ...]) -> str:
    operation, dtype, rows, columns, alpha, heads, spread = case
    extra = ", axis 0" * (heads == ALONG_AXIS_0) + f", alpha {alpha}" * (alpha != 1)
    extra += f" segments of {heads} head{'s' * (heads > 1)}" * (heads > 0)
    scores = "" if spread == 1 else f", N(0, {spread})" if spread else ", equal scores"
    return f"{operation} {dtype} {rows} x {columns}{extra}{scores}"


def main() -> None:
    """Count, print and record."""
    found = counts()
    width = max(map(len, found))
    for name, count in found.items():
        print(f"{name:{width}} {count:8.2f}")
    RECORD.write_text(json.dumps({"compiler": compiler(), "per_entry": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
