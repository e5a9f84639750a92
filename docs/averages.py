"""Draws docs/averages.svg: one average by three names, and what a leave-one-out bandwidth does with noise.

Run: python docs/averages.py
"""

from pathlib import Path

import numpy as np

import softly
from softly.report.panels import Panel, svg

FILE = Path(__file__).parent / "averages.svg"


def noisy_sine() -> tuple[np.ndarray, np.ndarray]:
    """Sixty places and what was seen there."""
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(0, 6, 60))
    return x, np.sin(2 * x) + 0.3 * rng.normal(size=60)


def leave_one_out_error(x: np.ndarray, y: np.ndarray, bandwidth: float) -> float:
    """The mean squared error of each point's mean without itself."""
    scores = -((x[:, None] - x) ** 2) / (2 * bandwidth**2)
    means = softly.softmax(scores, where=~np.eye(x.size, dtype=bool)) @ y
    return float(np.mean((y - means) ** 2))


def figure() -> str:
    """The picture as SVG."""
    x, y = noisy_sine()
    at = np.linspace(-1, 7, 161)
    means = Panel("Kernel regression", "x", "y", (-1, 7), (-1.6, 1.6))
    means.points(x, y, "seen", 2)
    for bandwidth, name, colour, label in (
        (0.05, "h = 0.05", 0, (-0.9, 1.4)),
        (0.25, "h = 0.25", 1, (-0.9, 1.15)),
        (2.0, "h = 2", 3, (-0.9, 0.9)),
    ):
        means.line(at, softly.kernel_regression(x, y, at, bandwidth), name, colour, label=label)

    ladder = np.geomspace(0.02, 4, 60)
    errors = Panel("Leave-one-out", "bandwidth", "mean squared error", (0.02, 4), (0, 0.8), log="x")
    found = np.array([leave_one_out_error(x, y, h) for h in ladder])
    errors.line(ladder, found, "error", 1, label=(0.03, 0.3))

    key = np.linspace(-2, 2, 81)[:, None]
    weights = Panel("Weights of a query at 0.5", "key", "weight times 81", (-2, 2), (0, 6))
    gaussian = softly.softmax(-((0.5 - key[:, 0]) ** 2) / (2 * 0.3**2))
    dots = softly.attention_weights([[0.5 / 0.3**2]], key, scale=1.0)[0]
    weights.line(key[:, 0], 81 * gaussian, "Gaussian", 1, label=(0.75, 4.4))
    weights.line(key[:, 0], 81 * dots, "dot products", 0, label=(-1.9, 2.5), dashed=True)
    return svg("Kernel regression, its bandwidth, and the weights of two kernels", (means, errors, weights))


if __name__ == "__main__":
    FILE.write_text(figure(), encoding="utf-8")
