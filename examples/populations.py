"""Populations over temperature: a two-level system, and a protein that folds, as Boltzmann ensembles.

Two levels have closed forms, which the ensemble is held to. The protein is the smallest that folds in one step: 40
residues, each native or in one of 8 other states; a cooperative fold alone gains energy in full. Its levels are counted
(up to 8^40 states each) and never listed. The baseline is the two-state model that experiments are usually fitted with,
one folded and one unfolded state of fixed enthalpy and entropy: at the midpoint it gives the share folded at less cost,
but far from it its unfolded state does not warm.

Run: python examples/populations.py [--out DIRECTORY]
"""

from math import comb

import numpy as np
from _script import claim, figures_folder

import softly
from softly.report.panels import Panel, svg

RESIDUES, OTHERS = 40, 8
CONTACT, FOLD = 1.1, 22.0  # kcal/mol: of each native residue alone, and of the whole fold besides
KELVIN = np.linspace(250, 450, 201)


def folding_levels():
    """Energies, numbers of states and whether folded: by the number of native residues; the last is the fold."""
    native = np.arange(RESIDUES + 1)
    energies = -CONTACT * native - FOLD * (native == RESIDUES)
    states = np.array([float(comb(RESIDUES, int(n))) * float(OTHERS) ** int(RESIDUES - n) for n in native])
    return energies, states, native == RESIDUES


def two_state(midpoint, enthalpy):
    """The share folded with one enthalpy of unfolding and the entropy that balances it at the midpoint."""
    k = softly.Boltzmann([0.0], 1.0, unit="kcal/mol").boltzmann_constant
    scores = np.stack([0 * KELVIN, -enthalpy / k * (1 / KELVIN - 1 / midpoint)], axis=1)
    return softly.softmax(scores)[:, 0]


def figure(gap, pair, folded, fitted, heat):
    """The two levels; the share folded beside the two-state model; the heat capacity that peaks where it unfolds."""
    ladder, ensemble = pair
    levels = Panel("Two levels, gap 1", "temperature, k = 1", "share, heat capacity", (0, 3), (0, 1))
    levels.line(ladder, ensemble.level_probabilities[:, 0], "ground state", 1, label=(1.2, 0.78))
    levels.line(ladder, ensemble.level_probabilities[:, 1], "excited state", 0, label=(1.2, 0.24))
    levels.line(ladder, ensemble.heat_capacity, "heat capacity / k", 2, label=(0.45, 0.5))
    share = Panel(f"A protein of {RESIDUES} residues", "temperature, K", "share folded", (250, 450), (0, 1))
    share.line(KELVIN, folded, "all levels", 1, label=(262, 0.9))
    share.line(KELVIN, fitted, "two-state model", 0, label=(360, 0.3), dashed=True)
    peak = Panel("Its heat capacity", "temperature, K", "C / k", (250, 450), (0, 1.1 * float(heat.max())))
    peak.line(KELVIN, heat, "all levels", 1, label=(262, 0.25 * float(heat.max())))
    return svg("Populations by temperature", (levels, share, peak))


def main() -> None:
    """Computes, checks and draws."""
    out = figures_folder(__doc__)
    gap, ladder = 1.0, np.linspace(0.0, 3.0, 121)
    pair = softly.Boltzmann([0.0, gap], ladder)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        closed = 1 / (1 + np.exp(-gap / ladder))
        schottky = np.nan_to_num((gap / ladder) ** 2 * closed * (1 - closed))
    apart = max(abs(pair.level_probabilities[:, 0] - closed).max(), abs(pair.heat_capacity - schottky).max())
    claim(f"two levels agree with their closed forms to {apart:.0e}, T = 0 included", apart < 1e-13)
    top = ladder[pair.heat_capacity.argmax()]
    claim(f"their heat capacity peaks at kT = {top:.2f} gaps, not at the gap", abs(top - 0.42) < 0.02)

    energies, states, fold = folding_levels()
    protein = softly.Boltzmann(energies, KELVIN, degeneracies=states, unit="kcal/mol")
    folded = protein.level_probabilities[:, fold].sum(axis=1)
    middle = float(np.interp(0.5, folded[::-1], KELVIN[::-1]))
    unfolded = softly.Boltzmann(energies[~fold], KELVIN, degeneracies=states[~fold], unit="kcal/mol")
    enthalpy = unfolded.mean_energy - energies[fold][0]  # of unfolding, by temperature
    at_middle = float(np.interp(middle, KELVIN, enthalpy))
    fitted = two_state(middle, at_middle)
    heat = protein.heat_capacity
    claim(
        f"it unfolds at {middle:.1f} K, its heat capacity peaks at {KELVIN[heat.argmax()]:.0f} K",
        abs(KELVIN[heat.argmax()] - middle) < 5,
    )
    near, far = np.abs(KELVIN - middle) < 10, KELVIN < 300
    claim(
        f"within 10 K of that the two-state model is {abs(fitted - folded)[near].max():.3f} off, with two numbers",
        abs(fitted - folded)[near].max() < 0.02,
    )
    ratio = float(((1 - fitted) / (1 - folded))[far][0])
    claim(
        f"at {KELVIN[0]:.0f} K it has {ratio:.2f} times the unfolded share: the enthalpy of unfolding is "
        f"{enthalpy[0]:.1f} kcal/mol there, {at_middle:.1f} at the midpoint",
        abs(np.log(ratio)) > 0.1,
    )
    bound = softly.energy_gap(-energies[[-1, -2]], temperature=protein.boltzmann_constant * 298.15)
    claim(
        f"from its gap alone of {float(bound.gap):.1f} kcal/mol one would call the fold certain: the unfolded states' "
        f"number, 10^{np.log10(states.sum()):.0f}, decides",
        bound.leader_share > 0.9999999 > folded.min(),
    )
    (out / "populations.svg").write_text(figure(gap, (ladder, pair), folded, fitted, heat), encoding="utf-8")


if __name__ == "__main__":
    main()
