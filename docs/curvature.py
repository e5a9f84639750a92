"""Draws docs/curvature.svg: what a temperature does to the Jacobian, and what a gap does to learning.

Run: python docs/curvature.py
"""

from pathlib import Path

import numpy as np

import softly
from softly.report.panels import Panel, svg

FILE = Path(__file__).parent / "curvature.svg"


def figure() -> str:
    """The picture as SVG."""
    stretch = Panel("Stretch of the softmax", "temperature", "norm of the Jacobian", (0.01, 10), (1e-4, 100), "xy")
    ladder = np.geomspace(0.01, 10, 121)
    for scores, name, colour, label in (
        ([1.0, 1.0, 0.0], "two-way tie", 0, (0.3, 3.0)),
        ([1.0, 0.8, 0.0], "gap 0.2", 1, (0.04, 0.03)),
    ):
        local = [float(softly.sensitivity(scores, temperature=float(t)).local) for t in ladder]
        stretch.line(ladder, local, name, colour, label=label)
    stretch.line(ladder, softly.lipschitz(ladder).constant, "bound 1/(2T)", 3, label=(0.03, 40.0), dashed=True)

    learning = Panel("What is left to learn from", "how far the leader is ahead", "norm", (0, 12), (0, 1.5))
    gaps = np.linspace(0, 12, 121)
    z = np.stack([gaps, 0 * gaps, 0 * gaps], axis=1)
    p = softly.softmax(z)
    for label, name, colour, place in (
        (1, "gradient, leader wrong", 0, (5.0, 1.3)),
        (0, "gradient, leader right", 1, (1.5, 0.52)),
    ):
        learning.line(gaps, np.linalg.norm(p - np.eye(3)[label], axis=1), name, colour, label=place)
    learning.line(gaps, softly.sensitivity(z).local, "curvature, right or wrong", 3, label=(3.6, 0.1), dashed=True)
    return svg("The Jacobian of the softmax by temperature and by gap", (stretch, learning))


if __name__ == "__main__":
    FILE.write_text(figure(), encoding="utf-8")
