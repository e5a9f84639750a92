"""Sums that are exact, in any order and grouping."""

import math
from functools import reduce

import numpy as np
import pytest

from softly.calibration.tallies import Losses, Tally


def test_sums_are_the_same_integers_in_any_order_and_grouping():
    rng = np.random.default_rng(2)
    value = np.exp(rng.uniform(-45, 6.6, 4000))  # from below the last bit kept to the largest loss there is
    place = rng.integers(0, 3, 4000)
    whole = Tally.empty(3)
    whole.add(place, value)
    order = rng.permutation(4000)
    parts = []
    for rows in np.array_split(order, 37):
        parts.append(Tally.empty(3))
        parts[-1].add(place[rows], value[rows])
    merged = reduce(lambda a, b: b + a, parts)
    for name in ("count", "high", "low"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(whole, name))
    truth = [math.fsum(value[place == i]) for i in range(3)]
    assert whole.sums() == pytest.approx(truth, rel=3e-16)
    assert whole.total() == pytest.approx(math.fsum(value), rel=3e-16)


def test_losses_of_every_size_are_summed_exactly_and_stand_near_the_middle_of_their_cell():
    for loss in (0.0, 1e-30, 0.3, 700.0, 2047.9, 2048.0, 3e5, 1e13, 1e30, 1e300):
        losses = Losses.empty()
        losses.add(np.array([loss, loss, 0.3]))
        assert losses.total() == math.fsum([loss, loss, 0.3]), loss
        cell = np.flatnonzero(losses.count)[-1:]
        if 1e-30 < loss < 1e38:
            assert losses.middle(cell)[0] == pytest.approx(max(loss, 0.3), rel=2**-8)
    losses.add(np.array([np.inf]))
    assert losses.total() == np.inf
