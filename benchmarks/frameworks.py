"""The maps in torch, with gradients, and under jax.jit, beside others'. Run: python benchmarks/frameworks.py

Prints one line a case: milliseconds of each contender, interleaved medians, and how often softly's time fits in the
fastest rival's. Threads: OMP_NUM_THREADS for torch and softly; XLA takes all cores that `taskset` leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from timing import Contenders, interleaved

import softly

ROWS, COLUMNS = 4096, 1000
BUDGET = 3.0  # seconds a case


def _value_and_gradient(function: Callable[[Any], Any], z: Any, v: Any) -> Callable[[], Any]:
    def run() -> Any:
        z.grad = None
        function(z).backward(v)
        return z.grad

    return run


def torch_cases() -> Iterator[tuple[str, Contenders]]:
    """sparsemax and entmax at 1.5, value and gradient, beside the entmax package with its shortcut k = 100."""
    import entmax
    import torch

    generator = torch.Generator().manual_seed(0)
    z = torch.randn(ROWS, COLUMNS, generator=generator).requires_grad_()
    v = torch.randn(ROWS, COLUMNS, generator=generator)
    pairs = {
        "sparsemax": (softly.sparsemax, lambda z: entmax.sparsemax(z, dim=-1, k=100)),
        "entmax 1.5": (softly.entmax, lambda z: entmax.entmax15(z, dim=-1, k=100)),
    }
    for name, (mine, theirs) in pairs.items():
        runs = {"softly": _value_and_gradient(mine, z, v), "entmax, k = 100": _value_and_gradient(theirs, z, v)}
        yield f"torch {name}, value and gradient", runs


def jax_cases() -> Iterator[tuple[str, Contenders]]:
    """Maps beside jax.nn's, value and with its gradient; sparsemax beside the projections of jaxopt and optax."""
    import jax
    import jaxopt
    import optax

    rng = np.random.default_rng(0)
    z, v = (jax.numpy.asarray(rng.standard_normal((ROWS, COLUMNS)), "float32") for _ in range(2))
    one_a_row = {"logsumexp": v[:, 0]}

    def timed(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
        program = jax.jit(function)
        return lambda: program(*arguments).block_until_ready()

    def gradient(function: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
        return lambda z, v: jax.vjp(function, z)[1](v)[0]

    maps = {
        "softmax": {"softly": softly.softmax, "jax.nn": jax.nn.softmax},
        "log_softmax": {"softly": softly.log_softmax, "jax.nn": jax.nn.log_softmax},
        "logsumexp": {"softly": softly.logsumexp, "jax.nn": lambda z: jax.nn.logsumexp(z, axis=-1)},
        "sigmoid": {"softly": softly.sigmoid, "jax.nn": jax.nn.sigmoid},
        "sparsemax": {
            "softly": softly.sparsemax,
            "jaxopt": jax.vmap(jaxopt.projection.projection_simplex),
            "optax": jax.vmap(optax.projections.projection_simplex),
        },
    }
    for name, functions in maps.items():
        yield f"jax.jit {name}", {who: timed(function, z) for who, function in functions.items()}
        runs = {who: timed(gradient(function), z, one_a_row.get(name, v)) for who, function in functions.items()}
        yield f"jax.jit {name}, gradient", runs


def table(budget: float = BUDGET) -> Iterator[str]:
    """Lines of Markdown."""
    yield f"| {ROWS} x {COLUMNS}, float32 | ms | times softly's |\n|---|---|---|"
    for name, contenders in (*torch_cases(), *jax_cases()):
        times = interleaved(contenders, budget)
        best = min(seconds for who, seconds in times.items() if who != "softly")
        told = ", ".join(f"{who} {1e3 * seconds:.2f}" for who, seconds in times.items())
        yield f"| {name} | {told} | {best / times['softly']:.2f} |"


def main() -> None:
    """Print the table as it comes."""
    for line in table():
        print(line, flush=True)


if __name__ == "__main__":
    main()
