"""Draws docs/energies.svg: how two conformers share, and where an Ising square keeps its heat.

Run: python docs/energies.py
"""

import itertools
from pathlib import Path

import numpy as np

import softly
from softly.report.panels import Panel, svg

FILE = Path(__file__).parent / "energies.svg"


def ising(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Energies and their number of states of the periodic square of spins, J = 1."""
    spins = np.array(list(itertools.product((-1, 1), repeat=side * side)), np.int8).reshape(-1, side, side)
    bonds = sum((spins * np.roll(spins, 1, axis)).sum(axis=(1, 2), dtype=int) for axis in (1, 2))
    return np.unique(-bonds, return_counts=True)


def figure() -> str:
    """The picture as SVG."""
    butane = Panel("Butane: one anti, two gauche", "temperature, K", "share", (50, 1000), (0, 1))
    kelvin = np.linspace(50, 1000, 96)
    ensemble = softly.Boltzmann([0.0, 0.9], kelvin, degeneracies=[1, 2], unit="kcal/mol")
    for level, name, colour, label in (
        (0, "anti", 1, (250, 0.8)),
        (1, "gauche, 0.9 kcal/mol above", 0, (330, 0.22)),
    ):
        butane.line(kelvin, ensemble.level_probabilities[:, level], name, colour, label=label)

    heat = Panel("Heat capacity", "temperature, k = J = 1", "C / k, per spin", (0.05, 6), (0, 1.0))
    ladder = np.linspace(0.05, 6, 120)
    energies, states = ising(4)
    square = softly.Boltzmann(energies, ladder, degeneracies=states)
    heat.line(ladder, square.heat_capacity / 16, "Ising, 4 x 4", 0, label=(2.9, 0.7))
    heat.line(ladder, softly.Boltzmann([0.0, 4.0], ladder).heat_capacity, "two levels", 1, label=(0.3, 0.47))
    return svg("Shares of conformers and heat capacities by temperature", (butane, heat))


if __name__ == "__main__":
    FILE.write_text(figure(), encoding="utf-8")
