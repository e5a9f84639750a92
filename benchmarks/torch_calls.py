"""What a call on a small tensor costs beyond torch's own (docs/torch.md). Run: python benchmarks/torch_calls.py"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from typing import Any

import torch
from timing import seconds

import softly

ROUNDS, CALLS = 21, 300
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


def main() -> None:
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


if __name__ == "__main__":
    main()
