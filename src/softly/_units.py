"""Boltzmann's constant in the units that energies come in."""

from __future__ import annotations

from typing import NamedTuple

# Exact since the SI of 2019; the hartree and the rydberg are measured (CODATA 2022).
BOLTZMANN, AVOGADRO, CHARGE = 1.380649e-23, 6.02214076e23, 1.602176634e-19  # J/K, 1/mol, C
PLANCK, LIGHT, CALORIE = 6.62607015e-34, 299792458.0, 4.184  # J s, m/s, J (thermochemical)
HARTREE = 4.3597447222060e-18  # J
_SI = "SI of 2019 (exact)"


class Unit(NamedTuple):
    """Boltzmann's constant in a unit of energy per kelvin, and where it comes from."""

    boltzmann_constant: float
    source: str


UNITS: dict[str, Unit] = {
    "J": Unit(BOLTZMANN, f"k, {_SI}"),
    "J/mol": Unit(BOLTZMANN * AVOGADRO, f"k N_A, {_SI}"),
    "kJ/mol": Unit(BOLTZMANN * AVOGADRO / 1e3, f"k N_A, {_SI}"),
    "cal/mol": Unit(BOLTZMANN * AVOGADRO / CALORIE, f"k N_A, {_SI}; 1 cal = 4.184 J (thermochemical, exact)"),
    "kcal/mol": Unit(BOLTZMANN * AVOGADRO / CALORIE / 1e3, f"k N_A, {_SI}; 1 cal = 4.184 J (thermochemical, exact)"),
    "eV": Unit(BOLTZMANN / CHARGE, f"k / e, {_SI}"),
    "meV": Unit(BOLTZMANN / CHARGE * 1e3, f"k / e, {_SI}"),
    "cm^-1": Unit(BOLTZMANN / (PLANCK * LIGHT * 100), f"k / (h c), {_SI}"),
    "hartree": Unit(BOLTZMANN / HARTREE, f"k, {_SI}; E_h = 4.3597447222060(48)e-18 J (CODATA 2022)"),
    "rydberg": Unit(2 * BOLTZMANN / HARTREE, f"k, {_SI}; 2 Ry = E_h = 4.3597447222060(48)e-18 J (CODATA 2022)"),
    "K": Unit(1.0, "energies over k, in kelvin"),
}
