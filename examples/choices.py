"""Choices among train, Swissmetro and car: ConditionalLogit beside the published estimates, and on people not asked.

The model is the first that is taught with these data: a constant for train and car, one coefficient of travel time and
one of cost. The baselines, for people that the fit has not seen, are equal shares and constant shares (what market
research without travel times and costs would say).

Run: python examples/choices.py [--out DIRECTORY]
"""

import gzip
from pathlib import Path

import numpy as np
from _script import claim, figures_folder

from softly.models import ConditionalLogit
from softly.report.panels import Panel, svg

DATA = Path(__file__).parent / "data" / "swissmetro.csv.gz"
MODES = ("train", "swissmetro", "car")
PUBLISHED = {"time": -1.2779, "cost": -1.0838, "train: constant": -0.7012, "car: constant": -0.1546}
PUBLISHED_LOG_LIKELIHOOD = -5331.252


def long_table():
    """A row for each alternative that was there: time and cost in hundreds, whether chosen, question, mode, person."""
    with gzip.open(DATA, "rt") as file:
        names = file.readline().strip().split(",")
        wide = dict(zip(names, np.loadtxt(file, delimiter=",", unpack=True), strict=True))
    asked = np.isin(wide["PURPOSE"], [1, 3]) & (wide["CHOICE"] != 0)  # commuting and business
    wide = {name: column[asked] for name, column in wide.items()}
    pays = wide["GA"] == 0  # an annual ticket makes train and Swissmetro free
    stated = wide["SP"] != 0
    there = [(wide["TRAIN_AV"] == 1) & stated, wide["SM_AV"] == 1, (wide["CAR_AV"] == 1) & stated]
    time = [wide["TRAIN_TT"], wide["SM_TT"], wide["CAR_TT"]]
    cost = [wide["TRAIN_CO"] * pays, wide["SM_CO"] * pays, wide["CAR_CO"]]
    rows = np.stack(there, axis=1).ravel()
    count = int(asked.sum())
    return {
        "X": np.stack([np.stack(time, axis=1).ravel(), np.stack(cost, axis=1).ravel()], axis=1)[rows] / 100,
        "y": (wide["CHOICE"][:, None] == [1, 2, 3]).ravel()[rows],
        "sets": np.repeat(np.arange(count), 3)[rows],
        "alternatives": np.tile(MODES, count)[rows],
        "person": np.repeat(wide["ID"], 3)[rows],
    }


def held_out(table, columns):
    """The mean log-likelihood of a choice of people in the other half, fitted on each half in turn."""
    total = 0.0
    half = table["person"] % 2
    for side in (0, 1):
        fit, test = half != side, half == side
        model = ConditionalLogit(base="swissmetro").fit(
            table["X"][fit][:, columns], table["y"][fit], sets=table["sets"][fit],
            alternatives=table["alternatives"][fit],
        )  # fmt: skip
        log_p = model.predict_log_proba(
            table["X"][test][:, columns], sets=table["sets"][test], alternatives=table["alternatives"][test]
        )
        total += log_p[table["y"][test]].sum()
    return total / table["y"].sum()


def figure(found, errors, likelihoods):
    """Estimates beside the published ones, and what held-out choices say."""
    left = Panel("Estimates and published ones", "coefficient", "value", (-0.6, 3.6), (-2, 0.5))
    places = np.arange(4)
    for place, name in enumerate(PUBLISHED):
        value, error = found[name], errors[name]
        left.line([place, place], [value - 1.96 * error, value + 1.96 * error], f"interval of {name}", 0, label=(9, 9))
        left.note(name, 0, (place, 0.28 if place % 2 else 0.1), anchor="middle")
    left.points(places, [found[name] for name in PUBLISHED], "softly", 0, size=5)
    left.points(places, list(PUBLISHED.values()), "published", 1, size=2.5)
    right = Panel("Choices of people not fitted", "model", "probability of a choice", (-0.6, 2.6), (0, 0.6))
    for place, (name, value) in enumerate(likelihoods.items()):
        right.bars([place], [np.exp(value)], 0.6, name, place == 2)
        right.note(name, int(place == 2), (place, np.exp(value) + 0.02), anchor="middle")
    return svg("Choices among train, Swissmetro and car", [left, right])


def main():
    """Fit, compare, draw."""
    out = figures_folder(__doc__)
    table = long_table()
    columns = {"sets": table["sets"], "alternatives": table["alternatives"]}
    model = ConditionalLogit(base="swissmetro").fit(table["X"], table["y"], **columns, clusters=table["person"])
    estimates = model.estimates_
    names = [name.replace("feature 0", "time").replace("feature 1", "cost") for name in model.names_]
    found = dict(zip(names, model.coef_, strict=True))
    robust = dict(zip(names, np.sqrt(np.diagonal(model.robust_covariance_)), strict=True))
    plain = dict(zip(names, np.sqrt(np.diagonal(model.covariance_)), strict=True))
    print("coefficient       softly   published  standard error  over people")
    for name, value in PUBLISHED.items():
        print(f"{name:16} {found[name]:8.4f} {value:10.4f} {plain[name]:13.4f} {robust[name]:13.4f}")
    claim(
        f"{estimates.sets} choices give the published estimates to 4 digits",
        all(round(found[name], 4) == value for name, value in PUBLISHED.items()),
    )
    claim(
        f"the log-likelihood is the published one, {estimates.log_likelihood:.3f}",
        round(estimates.log_likelihood, 3) == PUBLISHED_LOG_LIKELIHOOD,
    )
    claim(
        "nine answers of one person are no nine witnesses: errors over people are 2 to 5 times the plain ones",
        all(2 < robust[name] / plain[name] < 5 for name in PUBLISHED),
    )
    equal = np.bincount(table["sets"])[table["sets"][table["y"]]]
    likelihoods = {
        "equal shares": -np.log(equal).mean(),
        "constants": held_out(table, []),
        "time and cost": held_out(table, [0, 1]),
    }
    print("held-out log-likelihood of a choice:", {name: round(float(x), 4) for name, x in likelihoods.items()})
    claim(
        "for people not fitted, time and cost say more than constant shares, and these more than equal ones",
        likelihoods["time and cost"] > likelihoods["constants"] > likelihoods["equal shares"],
    )
    hour = 60 * found["time"] / found["cost"]
    print(f"an hour saved is worth {hour:.0f} francs")
    (out / "choices.svg").write_text(figure(found, robust, likelihoods), encoding="utf-8")


if __name__ == "__main__":
    main()
