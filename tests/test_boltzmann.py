"""The canonical ensemble against closed forms, enumeration in mpmath, and the constants of SciPy."""

from __future__ import annotations

import itertools
import json
import math

import hypothesis.strategies as st
import mpmath
import numpy as np
import properties  # noqa: F401  its hypothesis profile
import pytest
from hypothesis import assume, given
from properties import rows

import softly
from softly import Boltzmann
from softly.boltzmann import UNITS

LADDER = np.array([0.05, 0.3, 1.0, 4.0, 1e3])


def enumerated(energies, temperature, degeneracies=None):
    """ln Z, F, U, C, S in mpmath, from their definitions."""
    g = [1] * len(energies) if degeneracies is None else degeneracies
    with mpmath.workdps(60):
        t = mpmath.mpf(float(temperature))
        e = [mpmath.mpf(float(v)) for v in energies]
        weights = [mpmath.mpf(float(n)) * mpmath.exp(-v / t) for n, v in zip(g, e, strict=True)]
        z = mpmath.fsum(weights)
        p = [w / z for w in weights]
        mean = mpmath.fsum(a * b for a, b in zip(p, e, strict=True))
        variance = mpmath.fsum(a * (b - mean) ** 2 for a, b in zip(p, e, strict=True))
        entropy = -mpmath.fsum(a * mpmath.log(a / float(n)) for a, n in zip(p, g, strict=True) if a)
        return [float(v) for v in (mpmath.log(z), -t * mpmath.log(z), mean, variance / t**2, entropy)]


def quantities(ensemble):
    names = ("log_partition_function", "free_energy", "mean_energy", "heat_capacity", "entropy")
    return [getattr(ensemble, name) for name in names]


# ---------------------------------------------------------------- the bits of softmax


@given(z=rows(), temperature=st.one_of(st.floats(0.05, 20.0), st.sampled_from([0.0, 1.0, math.inf])))
def test_probabilities_have_the_bits_of_softmax(z, temperature):
    assume(not np.isposinf(z).any())
    found = Boltzmann(-z, temperature)
    expected = softly.softmax(z, temperature=temperature)
    assert found.level_probabilities.dtype == z.dtype
    assert found.level_probabilities.tobytes() == expected.tobytes()
    assert found.state_probabilities.tobytes() == expected.tobytes()


def test_a_ladder_has_the_bits_of_its_rungs():
    e = np.random.default_rng(0).normal(size=7)
    ladder = Boltzmann(e, LADDER)
    assert ladder.level_probabilities.shape == (5, 7)
    for name in ("log_partition_function", "free_energy", "mean_energy", "heat_capacity", "entropy", "gap"):
        assert getattr(ladder, name).shape == (5,)
    for i, t in enumerate(LADDER):
        alone = Boltzmann(e, t)
        assert ladder.level_probabilities[i].tobytes() == softly.softmax(-e, temperature=t).tobytes()
        np.testing.assert_allclose([q[i] for q in quantities(ladder)], quantities(alone), rtol=1e-14)
    spectra = Boltzmann(np.random.default_rng(1).normal(size=(3, 4)), LADDER[:, None])
    assert spectra.level_probabilities.shape == (5, 3, 4)
    assert spectra.entropy.shape == (5, 3)


# ---------------------------------------------------------------- closed forms


@pytest.mark.parametrize("gap", [0.3, 1.0, 7.0])
def test_two_levels(gap):
    """U = gap / (1 + exp(gap / T)), C = (gap / 2T)^2 / cosh^2(gap / 2T): the Schottky anomaly."""
    found = Boltzmann([0.0, gap], LADDER)
    with mpmath.workdps(40):
        x = [mpmath.mpf(gap) / mpmath.mpf(float(t)) for t in LADDER]
        np.testing.assert_allclose(found.mean_energy, [float(gap / (1 + mpmath.exp(v))) for v in x], rtol=1e-13)
        heat = [float((v / 2) ** 2 / mpmath.cosh(v / 2) ** 2) for v in x]
        np.testing.assert_allclose(found.heat_capacity, heat, rtol=1e-13)
        free = [float(-float(t) * mpmath.log1p(mpmath.exp(-v))) for t, v in zip(LADDER, x, strict=True)]
        np.testing.assert_allclose(found.free_energy, free, rtol=1e-13)


def test_two_levels_are_a_sigmoid_fact_13():
    """softmax(0, x) = sigmoid(x) and softmax(-x, x) = sigmoid(2x)."""
    for x in (-40.0, -1.5, 0.0, 0.3, 20.0):
        assert Boltzmann([0.0, -x], 1.0).level_probabilities[1] == pytest.approx(float(softly.sigmoid(x)), rel=1e-15)
        assert Boltzmann([x, -x], 1.0).level_probabilities[1] == pytest.approx(float(softly.sigmoid(2 * x)), rel=1e-15)


def test_the_harmonic_oscillator():
    """E_n = n + 1/2: Z = 1 / (2 sinh(1 / 2T)), C = (1 / 2T)^2 / sinh^2(1 / 2T)."""
    ladder = np.array([0.1, 0.5, 1.0, 5.0])
    found = Boltzmann(np.arange(400) + 0.5, ladder)
    half = 1 / (2 * ladder)
    np.testing.assert_allclose(found.log_partition_function, -np.log(2 * np.sinh(half)), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(found.mean_energy, 0.5 / np.tanh(half), rtol=1e-13)
    np.testing.assert_allclose(found.heat_capacity, (half / np.sinh(half)) ** 2, rtol=1e-12)


def test_the_rotor_goes_to_the_classical_limit():
    """E_J = J (J + 1), g = 2J + 1: at high T the heat capacity is k and Z = T + 1/3."""
    j = np.arange(300)
    found = Boltzmann(j * (j + 1.0), 500.0, degeneracies=2 * j + 1)
    assert found.heat_capacity == pytest.approx(1, abs=1e-6)
    assert np.exp(found.log_partition_function) == pytest.approx(500 + 1 / 3, rel=1e-6)


def ising(side):
    """Levels and degeneracies of the Ising square with periodic edges, J = 1, by enumeration of its spins."""
    spins = np.array(list(itertools.product((-1, 1), repeat=side * side)), np.int8).reshape(-1, side, side)
    bonds = sum((spins * np.roll(spins, 1, axis)).sum(axis=(1, 2), dtype=int) for axis in (1, 2))
    return np.unique(-bonds, return_counts=True)


def onsager_kaufman(side, temperature):
    """ln Z of the periodic Ising square by Kaufman's formula (1949), in mpmath."""
    with mpmath.workdps(60):
        k = 1 / mpmath.mpf(temperature)
        gammas = []
        for r in range(2 * side):
            if r == 0:
                gammas.append(2 * k + mpmath.log(mpmath.tanh(k)))
            else:
                cosh = mpmath.cosh(2 * k) ** 2 / mpmath.sinh(2 * k) - mpmath.cos(mpmath.pi * r / side)
                gammas.append(mpmath.acosh(cosh))
        odd, even = gammas[1::2], gammas[0::2]
        products = [
            mpmath.fprod(2 * mpmath.cosh(side * g / 2) for g in odd),
            mpmath.fprod(2 * mpmath.sinh(side * g / 2) for g in odd),
            mpmath.fprod(2 * mpmath.cosh(side * g / 2) for g in even),
            mpmath.fprod(2 * mpmath.sinh(side * g / 2) for g in even),
        ]
        return float(mpmath.log((2 * mpmath.sinh(2 * k)) ** (mpmath.mpf(side * side) / 2) / 2 * mpmath.fsum(products)))


def test_the_ising_square():
    """4 x 4: the known levels, Kaufman's exact partition function, every moment recomputed in mpmath."""
    energies, count = ising(4)
    assert dict(zip(energies.tolist(), count.tolist(), strict=True)) == {
        -32: 2, -24: 32, -20: 64, -16: 424, -12: 1728, -8: 6688, -4: 13568, 0: 20524,
        4: 13568, 8: 6688, 12: 1728, 16: 424, 20: 64, 24: 32, 32: 2,
    }  # fmt: skip
    for t in (0.7, 1.5, 2 / math.log(1 + math.sqrt(2)), 5.0, 100.0):
        found = Boltzmann(energies, t, degeneracies=count)
        assert found.log_partition_function == pytest.approx(onsager_kaufman(4, t), rel=1e-14)
        np.testing.assert_allclose(quantities(found), enumerated(energies, t, count), rtol=1e-12, atol=1e-14)
        assert found.level_probabilities.sum() == pytest.approx(1)
        np.testing.assert_allclose(found.state_probabilities * count, found.level_probabilities, rtol=1e-13)
        states = Boltzmann(np.repeat(energies, count), t)  # the same, state by state
        np.testing.assert_allclose(quantities(states), quantities(found), rtol=1e-11, atol=1e-14)


@given(
    e=st.lists(st.floats(-50, 50), min_size=1, max_size=10),
    offset=st.sampled_from([0.0, 1e6]),
    temperature=st.floats(0.2, 50),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_levels_against_mpmath(e, offset, temperature, seed):
    g = np.random.default_rng(seed).integers(1, 9, len(e))
    found, truth = Boltzmann(np.add(e, offset), temperature, g), enumerated(np.add(e, offset), temperature, g)
    scale = 1e-13 * max(1, offset, 50) * max(1, 1 / temperature)
    np.testing.assert_allclose(quantities(found), truth, rtol=1e-12, atol=scale)
    assert found.heat_capacity == pytest.approx(truth[3], rel=1e-9, abs=1e-13)
    assert found.entropy == pytest.approx(truth[4], rel=1e-11, abs=1e-13)


def test_thermodynamic_identities():
    """S = -dF/dT, C = dU/dT, by differences."""
    e, h = np.random.default_rng(2).normal(size=8) * 3, 1e-5
    for t in (0.5, 1.0, 3.0):
        down, at, up = (Boltzmann(e, v) for v in (t - h, t, t + h))
        assert at.entropy == pytest.approx(-(up.free_energy - down.free_energy) / (2 * h), rel=1e-7, abs=1e-9)
        assert at.heat_capacity == pytest.approx((up.mean_energy - down.mean_energy) / (2 * h), rel=1e-7, abs=1e-9)
        assert at.free_energy == pytest.approx(at.mean_energy - t * at.entropy)


# ---------------------------------------------------------------- limits


def test_limits_are_exact_and_degenerate_states_share():
    e, g = [2.0, 2.0, 3.0, np.inf], [1, 2, 5, 7]
    cold, hot = Boltzmann(e, 0.0, g), Boltzmann(e, np.inf, g)
    np.testing.assert_array_equal(Boltzmann(e, 0.0).level_probabilities, [0.5, 0.5, 0, 0])
    np.testing.assert_allclose(cold.level_probabilities, [1 / 3, 2 / 3, 0, 0], rtol=1e-15)
    np.testing.assert_allclose(cold.state_probabilities, [1 / 3, 1 / 3, 0, 0], rtol=1e-15)
    assert [float(q) for q in quantities(cold)] == pytest.approx([-np.inf, 2, 2, 0, np.log(3)])
    np.testing.assert_allclose(hot.level_probabilities, [1 / 8, 2 / 8, 5 / 8, 0], rtol=1e-15)
    assert [float(q) for q in quantities(hot)] == pytest.approx([np.log(8), -np.inf, 21 / 8, 0, np.log(8)])
    assert cold.ground_state_probability == pytest.approx(1)
    assert cold.ground_state_bound == 1
    assert hot.ground_state_bound == pytest.approx(3 / 8)
    assert Boltzmann([0.0, 1.0], 0.0).log_partition_function == 0
    assert Boltzmann([-1.0, 1.0], 0.0).log_partition_function == np.inf
    one = Boltzmann([5.0], [0.0, 1.0, np.inf])
    np.testing.assert_array_equal(one.free_energy, 5)
    np.testing.assert_array_equal(one.entropy, 0)
    assert one.gap.tolist() == [np.inf] * 3
    np.testing.assert_array_equal(one.ground_state_bound, 1)
    tiny = Boltzmann([0.0, 1.0], 5e-324)
    assert [float(q) for q in quantities(tiny)] == [0, 0, 0, 0, 0]


def test_many_states_do_not_overflow():
    """ln g far beyond the exponent of a ground state: what counts is ln g - E / kT."""
    found = Boltzmann([0.0, 800.0], 1.0, [1, 1e300])
    assert found.level_probabilities[1] == pytest.approx(float(1e300 * mpmath.exp(-800)), rel=1e-12)
    assert Boltzmann([1e308, -1e308], 1e300).level_probabilities.tolist() == [0, 1]


# ---------------------------------------------------------------- the ground state


@given(e=st.lists(st.floats(0, 10), min_size=2, max_size=30), temperature=st.floats(0.05, 20))
def test_the_ground_state_has_at_least_its_bound_fact_12(e, temperature):
    found = Boltzmann(e, temperature)
    lowest, n = min(e), len(e)
    ties = e.count(lowest)
    assert found.ground_state_probability >= found.ground_state_bound * (1 - 1e-14)
    if ties == 1:
        gap = sorted(e)[1] - lowest
        assert found.gap == gap
        assert found.ground_state_bound == pytest.approx(1 / (1 + (n - 1) * math.exp(-gap / temperature)))
        others_level = Boltzmann([lowest] + [lowest + gap] * (n - 1), temperature)
        assert others_level.ground_state_probability == pytest.approx(others_level.ground_state_bound)


def test_room_temperature_in_chemists_units_fact_12():
    assert 298.15 * Boltzmann([0.0], 1.0, unit="kJ/mol").boltzmann_constant == pytest.approx(2.4790, abs=5e-5)
    assert 298.15 * Boltzmann([0.0], 1.0, unit="kcal/mol").boltzmann_constant == pytest.approx(0.59248, abs=5e-6)


def test_units_are_those_of_scipy():
    constants = pytest.importorskip("scipy.constants")
    joule = {
        "J": 1,
        "J/mol": 1 / constants.N_A,
        "kJ/mol": 1e3 / constants.N_A,
        "cal/mol": constants.calorie / constants.N_A,
        "kcal/mol": 1e3 * constants.calorie / constants.N_A,
        "eV": constants.e,
        "meV": constants.e / 1e3,
        "cm^-1": 100 * constants.h * constants.c,
        "hartree": constants.physical_constants["Hartree energy"][0],
        "rydberg": constants.physical_constants["Rydberg constant times hc in J"][0],
        "K": constants.k,
    }
    assert joule.keys() == UNITS.keys()
    for unit, size in joule.items():
        assert UNITS[unit].boltzmann_constant == pytest.approx(constants.k / size, rel=1e-11)
        assert UNITS[unit].source
        gap = 1.380649e-23 * 300 / size  # kT at 300 K
        found = Boltzmann([0.0, gap], 300.0, unit=unit)
        assert found.level_probabilities[1] == pytest.approx(1 / (1 + math.e), rel=1e-9)
        assert found.free_energy == pytest.approx(-gap * math.log1p(math.exp(-1)), rel=1e-9)


# ---------------------------------------------------------------- draws


def test_draws_follow_the_probabilities():
    ensemble = Boltzmann([0.0, 1.0, np.inf, 0.5, 3.0], LADDER[1:4])
    drawn = ensemble.sample(20_000, seed=3)
    assert drawn.shape == (3, 20_000)
    np.testing.assert_array_equal(drawn, ensemble.sample(20_000, seed=3))
    assert (drawn != ensemble.sample(20_000, seed=4)).any()
    for p, row in zip(ensemble.level_probabilities, drawn, strict=True):
        count = np.bincount(row, minlength=5)
        assert count[2] == 0
        used = p > 0
        chi2 = ((count - 20_000 * p)[used] ** 2 / (20_000 * p[used])).sum()
        assert chi2 < 16.3  # 99.9 % of chi2 with 3 degrees of freedom
    assert set(Boltzmann([1.0, 1.0, 2.0], 0.0).sample(100, seed=0).tolist()) == {0, 1}
    with_g = Boltzmann([0.0, 0.0], 1.0, degeneracies=[1, 3]).sample(20_000, seed=0)
    assert with_g.mean() == pytest.approx(0.75, abs=0.012)


class Least(np.random.Generator):
    """The smallest number that may be drawn, 0."""

    def random(self, size=None, *_, **__):
        return np.zeros(size)


def test_a_level_that_cannot_be_is_never_drawn():
    assert Boltzmann([np.inf, 0.0, 1.0], 1.0).sample(3, seed=Least(np.random.PCG64())).tolist() == [1, 1, 1]


# ---------------------------------------------------------------- as a record


def test_it_is_frozen_and_told():
    ensemble = Boltzmann([0.0, 1.0], 300.0, unit="kcal/mol")
    with pytest.raises(AttributeError):
        ensemble.unit = "eV"
    told = json.loads(ensemble.to_json())
    assert told["mean_energy"] == ensemble.mean_energy
    assert told["degeneracies"] is None
    assert "SI of 2019" in told["source"]
    assert "energies in kcal/mol, temperatures in kelvin" in str(ensemble)
    assert json.loads(Boltzmann([1.0], 0.0).to_json())["log_partition_function"] == "-inf"


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (([0.0, np.nan], 1.0), ValueError, r"energies contain nan at \(1,\)"),
        (([0.0, -np.inf], 1.0), ValueError, "energies contain -inf"),
        (([], 1.0), ValueError, "energies have shape"),
        (([[0.0], [np.inf]], 1.0), ValueError, "energies, row 1: no level can be reached"),
        (([0.0, 1.0], -1.0), ValueError, "temperature contains -1.0"),
        (([0.0, 1.0], np.nan), ValueError, "temperature contains nan"),
        ((np.zeros((2, 3)), [1.0, 2.0, 3.0]), ValueError, r"temperature has shape \(3,\)"),
        (([0.0, 1.0], 1.0, [1, -1]), ValueError, "degeneracies must be finite numbers >= 0"),
        (([0.0, 1.0], 1.0, [1, 2, 3]), ValueError, r"degeneracies have shape \(3,\)"),
        (([0.0, 1.0], 1.0, [0, 0]), ValueError, "no level can be reached"),
        (([0.0, 1.0], 1.0, None, "kJ"), ValueError, "unit='kJ' is not one of 'J', 'J/mol'"),
        ((["a"], 1.0), TypeError, "energies have dtype"),
        (([1.0], True), TypeError, "temperature must be a number"),
        ((np.ma.masked_array([1.0], [True]), 1.0), TypeError, "masked array"),
    ],
)
def test_what_is_refused(arguments, error, match):
    with pytest.raises(error, match=match):
        Boltzmann(*arguments)
