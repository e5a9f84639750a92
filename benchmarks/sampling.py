"""Draws of a language model's next word beside the usual pipelines that sort. Run: python benchmarks/sampling.py

Alone it prints a table of all filters; `whole.py` takes it as one of the jobs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from timing import Contenders, interleaved

import softly

DATA = Path(__file__).parent.parent / "tests" / "data" / "smollm2_logits.npz"
ROWS = 28
FILTERS: list[dict[str, Any]] = [
    {},
    {"top_k": 50},
    {"min_p": 0.05},
    {"top_p": 0.9},
    {"top_k": 50, "top_p": 0.95},
    {"temperature": 1.5, "top_p": 0.99},
    {"temperature": 3.0, "top_p": 0.999},
]


def numpy_draws(
    z: Any, rng: Any, temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0, min_p: float = 0.0
) -> Any:
    """Sorted once, filtered by rank and running sum, drawn by the inverse of the distribution function."""
    z = z.astype(np.float32) / np.float32(temperature)
    filtered = top_k or top_p < 1
    order = np.argsort(-z, axis=-1) if filtered else np.broadcast_to(np.arange(z.shape[-1]), z.shape)
    ranked = np.take_along_axis(z, order, -1)[:, :top_k] if filtered else z
    p = np.exp(ranked - ranked.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    if top_p < 1:
        p[np.cumsum(p, -1) - p >= top_p] = 0
    if min_p:
        p[p < min_p * p.max(-1, keepdims=True)] = 0
    sums = np.cumsum(p, -1)
    at = (sums <= rng.random((len(z), 1)) * sums[:, -1:]).sum(-1)[:, None].clip(max=p.shape[-1] - 1)
    return np.take_along_axis(order, at, -1), np.log(np.take_along_axis(p, at, -1) / sums[:, -1:])


def torch_draws(
    z: Any, temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0, min_p: float = 0.0
) -> Any:
    """The steps of transformers' processors, then torch.multinomial."""
    import torch

    z = z / temperature
    if top_k:
        z = z.masked_fill(z < torch.topk(z, top_k)[0][..., -1, None], -torch.inf)
    if top_p < 1:
        ranked, order = torch.sort(z)
        removed = ranked.softmax(-1).cumsum(-1) <= 1 - top_p
        removed[..., -1:] = False
        z = z.masked_fill(removed.scatter(1, order, removed), -torch.inf)
    if min_p:
        p = z.softmax(-1)
        z = z.masked_fill(p < min_p * p.amax(-1, keepdim=True), -torch.inf)
    p = z.softmax(-1)
    index = torch.multinomial(p, 1)
    return index, p.gather(1, index).log()


def sampling_case(options: dict[str, Any]) -> Contenders:
    """One draw and its log-probability for each of 28 rows of 49,152 scores."""
    with np.load(DATA) as data:
        scores = np.tile(data["logits"], (ROWS // len(data["logits"]), 1))
    rng = np.random.default_rng(0)
    found: Contenders = {
        "softly": lambda: softly.sample(scores, seed=rng, **options),
        "numpy": lambda: numpy_draws(scores, rng, **options),
    }
    try:
        import torch
    except ImportError:
        return found
    tensor = torch.tensor(scores).float()
    return found | {"torch": lambda: torch_draws(tensor, **options)}


def main() -> None:
    """Print the table."""
    for options in FILTERS:
        times = interleaved(sampling_case(options), 2.0)
        ratios = ", ".join(
            f"{who} {1e3 * t:.1f} ({t / times['softly']:.1f})" for who, t in times.items() if who != "softly"
        )
        print(f"{options}: softly {1e3 * times['softly']:.2f} ms, {ratios}", flush=True)


if __name__ == "__main__":
    main()
