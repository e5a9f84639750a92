"""Energies to a thermal ensemble: probabilities, free energy, moments, at one temperature or a ladder of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softly._arrays import check_temperature, plain_array, plain_reals
from softly._errors import InputError
from softly._records import Record, as_lines, as_plain
from softly._units import UNITS
from softly.curvature import covariance
from softly.maps import logsumexp, softmax
from softly.sampling import Seed, draw_indices

_QUANTITIES = (
    "log_partition_function",
    "free_energy",
    "mean_energy",
    "heat_capacity",
    "entropy",
    "ground_state_probability",
    "ground_state_bound",
)


@dataclass(frozen=True, eq=False, repr=False)
class Boltzmann(Record):
    """The canonical ensemble: p_i = g_i exp(-E_i / kT) / Z over levels of energy E_i and degeneracy g_i.

    - energies: (*batch, levels) real numbers; +inf is a level that is never reached.
    - temperature: a number >= 0 or an array that broadcasts with `batch`, a ladder of temperatures for one spectrum;
      every result has the common shape. In kelvin if there is a unit; else k = 1 and it is in the unit of the energies.
    - degeneracies: g >= 0, broadcast to the energies; default 1, so that levels are states.
    - unit: of the energies, one of `softly.boltzmann.UNITS`.

    T = 0 and T = inf are exact limits: ground states share all, and all states are alike. Energies may have any offset.
    Entropy and heat capacity are in units of k, or without a dimension if there is no unit.

    Raises ValueError for NaN or -inf energies, rows without a level that can be reached, negative temperatures or
    degeneracies, unknown units and shapes that do not fit; TypeError for what are not real numbers.

    >>> two = Boltzmann([0.0, 1.0], temperature=1.0)
    >>> float(two.free_energy.round(6)), float(two.mean_energy.round(6))
    (-0.313262, 0.268941)
    >>> Boltzmann([0.0, 2.479], 298.15, unit="kJ/mol").level_probabilities.round(4)
    array([0.7311, 0.2689])
    """

    energies: Any
    temperature: Any
    degeneracies: Any = None
    unit: str | None = None

    def __post_init__(self) -> None:
        if self.unit is not None and self.unit not in UNITS:
            raise InputError(f"unit={self.unit!r} is not one of {', '.join(map(repr, UNITS))}, or None for k = 1")
        energies = plain_reals(self.energies, "energies")
        if energies.ndim == 0 or energies.shape[-1] == 0:
            raise InputError(f"energies have shape {energies.shape}: pass (levels,) or (*batch, levels), at least one")
        if (bad := np.isnan(energies) | np.isneginf(energies)).any():
            place = tuple(int(i) for i in np.argwhere(bad)[0])
            raise InputError(
                f"energies contain {energies[place]} at {place}: pass finite ones, or +inf where forbidden"
            )
        temperature = plain_array(self.temperature, "temperature")
        try:
            batch = np.broadcast_shapes(energies.shape[:-1], temperature.shape)
        except ValueError:
            batch = energies.shape[:-1]  # which the temperature does not fit: the check says so
        temperature = check_temperature(temperature, np, energies, batch, "row of energies")
        degeneracies = None
        if self.degeneracies is not None:
            degeneracies = plain_reals(self.degeneracies, "degeneracies").astype(np.float64)
            if not ((degeneracies >= 0) & (degeneracies < math.inf)).all():
                raise InputError("degeneracies must be finite numbers >= 0: the number of states of each level")
            try:
                degeneracies = np.broadcast_to(degeneracies, energies.shape)
            except ValueError:
                raise InputError(
                    f"degeneracies have shape {degeneracies.shape}, which does not broadcast to that of energies, "
                    f"{energies.shape}"
                ) from None
            energies = np.where(degeneracies == 0, energies.dtype.type(math.inf), energies)
        if (lost := np.isposinf(energies).all(axis=-1)).any():
            raise InputError(f"energies, row {int(np.argmax(lost))}: no level can be reached; at least one must be")
        for name, value in (
            ("energies", np.broadcast_to(energies, (*batch, energies.shape[-1]))),
            ("temperature", temperature),
            (
                "degeneracies",
                None if degeneracies is None else np.broadcast_to(degeneracies, (*batch, energies.shape[-1])),
            ),
        ):
            object.__setattr__(self, name, value)

    # ------------------------------------------------------------ probabilities

    @cached_property
    def level_probabilities(self) -> NDArray[Any]:
        """The probability of each level, g_i exp(-E_i / kT) / Z, (*batch, levels); they sum to 1.

        Without degeneracies they are those of the states, and have the bits of softmax(-energies, temperature=kT).
        """
        if self.degeneracies is None:
            return np.asarray(softmax(-self.energies, temperature=self._kt))
        return np.asarray(softmax(self._exponents), self.energies.dtype)

    @cached_property
    def state_probabilities(self) -> NDArray[Any]:
        """The probability of a single state of each level, exp(-E_i / kT) / Z, (*batch, levels)."""
        if self.degeneracies is None:
            return self.level_probabilities
        states = np.exp(-self._heights - self._log_sum[..., None])
        return states.astype(self.energies.dtype)

    def sample(self, size: int = 1, *, seed: Seed = None) -> NDArray[np.intp]:
        """Independent draws of levels, (*batch, size): the index at which a uniform number meets the summed shares.

        >>> Boltzmann([0.0, 1.0, 1.0], temperature=0.5).sample(8, seed=1)
        array([0, 2, 0, 2, 0, 0, 1, 0])
        """
        p = np.ascontiguousarray(self.level_probabilities, np.float64)
        drawn = np.random.default_rng(seed).random((*p.shape[:-1], size))
        index = draw_indices(p.reshape(-1, p.shape[-1]), drawn.reshape(p[..., 0].size, size))
        return index.reshape(drawn.shape).astype(np.intp, copy=False)

    # ------------------------------------------------------------ thermodynamics

    @cached_property
    def log_partition_function(self) -> Any:
        """ln Z = ln sum g exp(-E / kT). As T -> 0 it goes to +-inf with the sign of -E_0 (0: ln g_0)."""
        return (self._log_sum + _quotient(-self._ground, self._kt))[()]

    @cached_property
    def free_energy(self) -> Any:
        """F = -kT ln Z = E_0 - kT ln sum g exp(-(E - E_0) / kT), in the unit of the energies."""
        with np.errstate(all="ignore"):
            return (self._ground - _product(self._kt, self._log_sum))[()]

    @cached_property
    def mean_energy(self) -> Any:
        """U = <E>, in the unit of the energies."""
        return (self._ground + _weighted_sum(self._shares, self._gaps))[()]

    @cached_property
    def heat_capacity(self) -> Any:
        """C = dU/dT = k Var(E) / (kT)^2, in units of k: the curvature of ln Z. 0 at T = 0 and T = inf."""
        with np.errstate(all="ignore"):
            # (E - E_0) / kT has the variance wanted, and no overflow; its infinite entries have no weight
            scaled = np.where(np.isfinite(self._heights), self._heights, 0.0)
            return np.asarray(covariance(self._exponents, scaled, temperature=1.0))[()]

    @cached_property
    def entropy(self) -> Any:
        """S = -k sum p ln (p / g) = k ln Z + U / T, in units of k: at T = 0 ln g_0, at T = inf ln sum g."""
        return (self._log_sum + _weighted_sum(self._shares, self._heights))[()]

    @cached_property
    def ground_state_probability(self) -> Any:
        """The probability of the lowest level, equal energies counted together."""
        return _weighted_sum(self._shares, np.where(self._gaps == 0, 1.0, 0.0))[()]

    @cached_property
    def ground_state_bound(self) -> Any:
        """What the lowest level has at least: 1 / (1 + (n / g_0 - 1) exp(-gap / kT)), from its gap to the next alone.

        n is the number of all states that can be reached and g_0 that of the lowest level. An equality for two levels.
        """
        weight = np.ones(self.energies.shape) if self.degeneracies is None else self.degeneracies
        weight = np.where(np.isfinite(self.energies), weight, 0.0).astype(np.float64)
        lowest = _weighted_sum(weight, np.where(self._gaps == 0, 1.0, 0.0))
        others = _weighted_sum(weight, np.where(self._gaps > 0, 1.0, 0.0))
        return (1 / (1 + others / lowest * np.exp(-_quotient(self.gap, self._kt))))[()]

    @cached_property
    def gap(self) -> Any:
        """From the lowest level to the next above it, in the unit of the energies; inf if there is none."""
        return np.where(self._gaps > 0, self._gaps, math.inf).min(axis=-1)[()]

    @property
    def boltzmann_constant(self) -> float:
        """k, in the unit of the energies per kelvin; 1 without a unit."""
        return 1.0 if self.unit is None else UNITS[self.unit].boltzmann_constant

    # ------------------------------------------------------------ to read

    def to_dict(self) -> dict[str, Any]:
        """What was given, the source of k, probabilities, and every quantity."""
        given = {name: getattr(self, name) for name in ("energies", "temperature", "degeneracies", "unit")}
        constant = {"boltzmann_constant": self.boltzmann_constant, "source": self._source}
        plain: dict[str, Any] = as_plain(
            given | constant | {"level_probabilities": self.level_probabilities} | self._all
        )
        return plain

    def __str__(self) -> str:
        unit = "k = 1" if self.unit is None else f"energies in {self.unit}, temperatures in kelvin"
        levels = self.energies.shape[-1]
        return as_lines(
            f"Boltzmann ensemble of {levels} levels, {unit}", {"temperature": self.temperature, **self._all}
        )

    __repr__ = __str__

    @property
    def _all(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _QUANTITIES}

    @property
    def _source(self) -> str:
        return "k = 1: temperatures in the unit of the energies" if self.unit is None else UNITS[self.unit].source

    # ------------------------------------------------------------ above the ground state, where no offset is lost

    @cached_property
    def _kt(self) -> NDArray[np.float64]:
        return np.asarray(self.boltzmann_constant * self.temperature)

    @cached_property
    def _ground(self) -> NDArray[np.float64]:
        return np.asarray(self.energies.min(axis=-1).astype(np.float64))

    @cached_property
    def _gaps(self) -> NDArray[np.float64]:
        """E - E_0."""
        return np.asarray(self.energies.astype(np.float64) - self._ground[..., None])

    @cached_property
    def _heights(self) -> NDArray[np.float64]:
        """(E - E_0) / kT."""
        heights = _quotient(self._gaps, self._kt[..., None])
        return np.where(np.isposinf(self._gaps), math.inf, heights)

    @cached_property
    def _exponents(self) -> NDArray[np.float64]:
        """ln g - (E - E_0) / kT."""
        if self.degeneracies is None:
            return -self._heights
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.degeneracies) - self._heights)

    @cached_property
    def _log_sum(self) -> NDArray[np.float64]:
        return np.asarray(logsumexp(self._exponents))

    @cached_property
    def _shares(self) -> NDArray[np.float64]:
        """The probabilities of levels in float64, whatever the energies are."""
        return np.asarray(softmax(self._exponents))


def _quotient(x: Any, t: Any) -> NDArray[np.float64]:
    """x / t, where 0 / 0 and inf / inf are 0."""
    with np.errstate(all="ignore"):
        return np.where((x == 0) | (t == math.inf), 0.0, np.asarray(x) / t)


def _product(t: Any, x: Any) -> NDArray[np.float64]:
    """t * x, where inf * 0 is 0."""
    return np.where((x == 0) | (t == 0), 0.0, t * x)


def _weighted_sum(p: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """sum p x, where what has no weight may be infinite."""
    return np.asarray(np.sum(np.where(p == 0, 0.0, p * np.where(p == 0, 0.0, x)), axis=-1))
