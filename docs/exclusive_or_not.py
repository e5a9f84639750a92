"""Draws docs/exclusive_or_not.svg: labels in a row, observed and as independent sigmoids have them.

Run: python docs/exclusive_or_not.py
"""

from pathlib import Path

import numpy as np

import softly
from softly.report.panels import Panel, svg

FILE = Path(__file__).parent / "exclusive_or_not.svg"
ROWS, LABELS = 2000, 5


def simulated() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Scores and labels of three kinds; the sigmoid of a score is the probability of its label in the last two."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(ROWS, LABELS)) * 2 - 1
    exclusive = np.eye(LABELS)[np.argmax(scores + rng.gumbel(size=scores.shape), axis=1)] > 0
    p = softly.sigmoid(scores)
    return {
        "exclusive": (scores, exclusive),
        "overlapping": (scores, rng.random(scores.shape) < p),
        "correlated": (scores, rng.random((ROWS, 1)) < p),
    }


def number_of_labels(p: np.ndarray) -> np.ndarray:
    """The distribution of the number of labels in a row, if they are independent with these probabilities."""
    mean = np.zeros(LABELS + 1)
    for row in p:
        counts = np.ones(1)
        for q in row:
            counts = np.convolve(counts, [1 - q, q])
        mean += counts / len(p)
    return mean


def figure() -> str:
    """The picture as SVG."""
    panels = []
    for name, (scores, labels) in simulated().items():
        told = softly.softmax_or_sigmoids(scores, labels)
        p = softly.sigmoid(scores / told.temperature_sigmoids + told.bias_sigmoids)
        observed = np.bincount(labels.sum(axis=1), minlength=LABELS + 1) / ROWS
        panel = Panel(f"{name}: found {told.fits}", "labels in a row", "share of rows", (-0.5, 5.5), (0, 1))
        places = np.arange(LABELS + 1)
        panel.bars(places - 0.2, observed, 0.36, "observed", 0)
        panel.bars(places + 0.2, number_of_labels(p), 0.36, "if independent", 1)
        panels.append(panel)
    for text, colour, y in (("observed", "before", 56), ("if independent", "after", 74)):
        panels[0].marks.append(f'<text class="{colour} named" x="386" y="{y}" text-anchor="end">{text}</text>')
    return svg("How many labels rows have, observed and if labels were independent", panels)


if __name__ == "__main__":
    FILE.write_text(figure(), encoding="utf-8")
