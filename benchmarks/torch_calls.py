"""What calls cost beside torch's own (docs/torch.md): small ones, and softmax's gradient of large tensors.

Run: python benchmarks/torch_calls.py. Threads: OMP_NUM_THREADS. Where malloc keeps what is freed, as with gigabytes for
MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_, torch's results need no new pages either.
"""

from __future__ import annotations

import gc
import os
import statistics
from collections.abc import Callable
from typing import Any

import torch
from timing import interleaved, seconds

import softly

ROUNDS, CALLS = 21, 300
LARGE = ((1024, 64), (64, 1024), (4096, 1000), (65536, 64), (512, 32000), (1000000, 10))
PAIRS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "softmax": (softly.softmax, lambda z: torch.softmax(z, -1)),
    "log_softmax": (softly.log_softmax, lambda z: torch.log_softmax(z, -1)),
    "logsumexp": (softly.logsumexp, lambda z: torch.logsumexp(z, -1)),
    "sigmoid": (softly.sigmoid, torch.sigmoid),
    "log_sigmoid": (softly.log_sigmoid, torch.nn.functional.logsigmoid),
}


def value(function: Callable[[Any], Any], z: Any) -> Callable[[], Any]:
    """The value alone."""
    return lambda: function(z)


def value_and_gradient(function: Callable[[Any], Any], z: Any) -> Callable[[], Any]:
    """Forward and backward."""
    v = torch.ones_like(function(z))

    def run() -> None:
        z.grad = None
        function(z).backward(v)

    return run


def small_calls() -> None:
    """One line a function: microseconds beyond torch's, medians of alternating rounds."""
    z = torch.randn(64, 10)
    leaf = z.clone().requires_grad_()
    gc.disable()
    print("| | value | value, gradient recorded | value and gradient |\n|---|---|---|---|")
    for name, pair in PAIRS.items():
        cells = []
        for way, scores in ((value, z), (value, leaf), (value_and_gradient, leaf)):
            runs = [way(function, scores) for function in pair]
            times: list[list[float]] = [[], []]
            for run in runs:
                run()
            for _ in range(ROUNDS):
                for run, found in zip(runs, times, strict=True):
                    found.append(seconds(run, CALLS))
            mine, theirs = (statistics.median(found) for found in times)
            cells.append(f"{1e6 * (mine - theirs):.1f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def large_calls() -> None:
    """One line a shape: softmax with its gradient, as a share of torch's time."""
    print("\n| softmax with its gradient | share of torch's time |\n|---|---|")
    mine, theirs = PAIRS["softmax"]
    for rows, columns in LARGE:
        z = torch.randn(rows, columns, requires_grad=True)
        runs = {"softly": value_and_gradient(mine, z), "torch": value_and_gradient(theirs, z)}
        times = interleaved(runs, budget=3.0)
        print(f"| {rows} x {columns} | {times['softly'] / times['torch']:.2f} |", flush=True)


def main() -> None:
    """Both tables."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    small_calls()
    gc.enable()
    large_calls()


if __name__ == "__main__":
    main()
