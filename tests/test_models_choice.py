"""ConditionalLogit: published estimates, derivatives, clusters, ragged and bad sets."""

import gzip
import itertools
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

import softly
from softly.models import ConditionalLogit, choice_likelihood

SWISSMETRO = Path(__file__).parent.parent / "examples/data/swissmetro.csv.gz"


def swissmetro():
    """The long table of the published model: X, y, sets, alternatives, and who answered."""
    with gzip.open(SWISSMETRO, "rt") as file:
        names = file.readline().strip().split(",")
        table = dict(zip(names, np.loadtxt(file, delimiter=",", unpack=True), strict=True))
    kept = np.isin(table["PURPOSE"], [1, 3]) & (table["CHOICE"] != 0)
    table = {name: column[kept] for name, column in table.items()}
    free, stated = table["GA"] == 1, table["SP"] != 0
    columns = [
        (table[f"{mode}_AV"].astype(bool) & (stated | (mode == "SM")), table[f"{mode}_TT"] / 100, cost / 100)
        for mode, cost in (
            ("TRAIN", np.where(free, 0, table["TRAIN_CO"])),
            ("SM", np.where(free, 0, table["SM_CO"])),
            ("CAR", table["CAR_CO"]),
        )
    ]
    there, time, cost = (np.stack(column, axis=1).ravel() for column in zip(*columns, strict=True))
    count = int(kept.sum())
    long = (
        np.stack([time, cost], axis=1), (table["CHOICE"][:, None] == [1, 2, 3]).ravel(),
        np.repeat(np.arange(count), 3), np.tile(["train", "swissmetro", "car"], count), np.repeat(table["ID"], 3),
    )  # fmt: skip
    return [column[there] for column in long]


def drawn(sets=300, features=2, seed=0, most=6, scale=1.0):
    """Sets of 1 to `most` rows whose choices follow the model."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, most + 1, sets)
    ids = np.repeat(np.arange(sets), sizes)
    x = rng.normal(size=(len(ids), features))
    draws = scale * x @ np.linspace(1, -0.5, features) + rng.gumbel(size=len(ids))
    best = softly.segment_softmax(draws, index=ids, temperature=0.0)
    return x, best == 1, ids, rng


def negative_log_likelihood(b, x, y, ids, weights=None):
    """By a loop over sets."""
    total = 0.0
    for i in np.unique(ids):
        of = ids == i
        total -= (1 if weights is None else weights[of][0]) * softly.log_softmax(x[of] @ b)[y[of]][0]
    return total


def test_the_published_estimates_of_swissmetro():
    x, y, sets, names, who = swissmetro()
    model = ConditionalLogit(base="swissmetro").fit(x, y, sets=sets, alternatives=names, clusters=who)
    found = dict(zip(model.names_, model.coef_, strict=True))
    published = {"feature 0": -1.2779, "feature 1": -1.0838, "train: constant": -0.7012, "car: constant": -0.1546}
    assert {name: round(value, 4) for name, value in found.items()} == published
    assert model.estimates_.sets == 6768
    assert round(model.estimates_.log_likelihood, 3) == -5331.252
    independent = ConditionalLogit(base="swissmetro").fit(x, y, sets=sets, alternatives=names)
    robust = {one.name: round(one.robust_error, 3) for one in independent.estimates_.coefficients}
    assert [robust[name] for name in published] == [0.104, 0.068, 0.083, 0.058]  # as Biogeme's page of this model
    assert model.estimates_.clusters == 752
    assert (np.diagonal(model.robust_covariance_) > np.diagonal(independent.robust_covariance_)).all()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("block", [2**16, 8])
def test_optimum_and_errors_agree_with_a_loop_over_sets(weighted, block, monkeypatch):
    monkeypatch.setattr(choice_likelihood, "_BLOCK_NUMBERS", block)
    x, y, ids, rng = drawn(80)
    weights = rng.integers(0, 3, 80)[ids].astype(float) if weighted else None
    at = lambda b: negative_log_likelihood(b, x, y, ids, weights)  # noqa: E731
    best = scipy.optimize.minimize(at, np.zeros(2), options={"gtol": 1e-6})
    model = ConditionalLogit().fit(x, y, sets=ids, sample_weight=weights)
    np.testing.assert_allclose(model.coef_, best.x, atol=1e-5)
    assert model.estimates_.log_likelihood == pytest.approx(-best.fun, rel=1e-10)
    assert model.estimates_.log_likelihood_null == pytest.approx(-at(np.zeros(2)), rel=1e-12)
    steps = np.eye(2) * 1e-3
    curvature = [
        [sum(s * t * at(model.coef_ + s * a + t * b) for s in (1, -1) for t in (1, -1)) / 4e-6 for b in steps]
        for a in steps
    ]
    np.testing.assert_allclose(model.covariance_, np.linalg.inv(curvature), rtol=1e-4)


def test_robust_errors_are_the_sandwich_of_finite_differences():
    x, y, ids, _ = drawn(60)
    clusters = ids // 7
    model = ConditionalLogit().fit(x, y, sets=ids, clusters=clusters)
    scores = np.zeros((clusters.max() + 1, 2))
    for group, j in itertools.product(range(len(scores)), range(2)):
        of, step = clusters == group, np.eye(2)[j] * 1e-5
        ends = [negative_log_likelihood(model.coef_ + sign * step, x[of], y[of], ids[of]) for sign in (1, -1)]
        scores[group, j] = (ends[0] - ends[1]) / 2e-5
    expected = model.covariance_ @ scores.T @ scores @ model.covariance_
    np.testing.assert_allclose(model.robust_covariance_, expected, rtol=1e-5)
    alone = ConditionalLogit().fit(x, y, sets=ids)
    same = ConditionalLogit().fit(x, y, sets=ids, clusters=ids)
    np.testing.assert_allclose(alone.robust_covariance_, same.robust_covariance_, rtol=1e-12)
    assert alone.estimates_.clusters is None


def test_features_of_the_chooser_make_it_a_multinomial_logit():
    rng = np.random.default_rng(3)
    z = rng.normal(size=(500, 2))
    label = np.argmax(z @ [[1.0, 0.0, -1.0], [0.0, 1.0, 0.5]] + rng.gumbel(size=(500, 3)), axis=1)
    rows = np.repeat(np.arange(500), 3)
    names = np.tile(["a", "b", "c"], 500)
    table = {"sets": rows, "alternatives": names, "choosers": z[rows]}
    model = ConditionalLogit().fit(np.zeros((1500, 0)), np.tile([0, 1, 2], 500) == label[rows], **table)
    theirs = LogisticRegression(C=np.inf, tol=1e-10).fit(z, label)
    w = np.column_stack([theirs.intercept_, theirs.coef_])
    np.testing.assert_allclose(model.coef_.reshape(2, 3), (w - w[0])[1:], atol=1e-5)
    assert model.names_[:3] == ("b: constant", "b: chooser 0", "b: chooser 1")
    np.testing.assert_allclose(
        model.predict_proba(np.zeros((1500, 0)), **table).reshape(500, 3), theirs.predict_proba(z), atol=1e-5
    )


def test_the_order_of_rows_and_the_names_of_sets_do_not_matter():
    x, y, ids, rng = drawn()
    names = np.array([f"set {i:03}" for i in ids])
    order = rng.permutation(len(x))
    one, other = ConditionalLogit().fit(x, y, sets=ids), ConditionalLogit().fit(x[order], y[order], sets=names[order])
    np.testing.assert_allclose(one.coef_, other.coef_, rtol=1e-10)
    p = one.predict_proba(x, sets=ids)
    np.testing.assert_allclose(np.add.reduceat(p, np.unique(ids, return_index=True)[1]), 1)
    np.testing.assert_allclose(other.predict_proba(x[order], sets=names[order]), p[order], rtol=1e-9)
    np.testing.assert_allclose(np.exp(other.predict_log_proba(x[order], sets=names[order])), p[order], rtol=1e-9)
    assert one.score(x, y, sets=ids) * 300 == pytest.approx(one.estimates_.log_likelihood)
    assert clone(one).get_params() == one.get_params()


def test_utilities_of_thousands_do_not_overflow():
    x, y, ids, _ = drawn(scale=1.0)
    far = x.copy()
    far[:, 0] += 1e6 * ids  # what is common to a set changes nothing
    np.testing.assert_allclose(
        ConditionalLogit().fit(far, y, sets=ids).coef_, ConditionalLogit().fit(x, y, sets=ids).coef_, rtol=1e-6
    )
    model = ConditionalLogit().fit(x, y, sets=ids)
    p = model.predict_proba(x * 1000, sets=ids)
    assert np.isfinite(p).all()
    scaled = ConditionalLogit().fit(x * 1e-3, y, sets=ids)
    np.testing.assert_allclose(scaled.coef_, model.coef_ * 1e3, rtol=1e-6)
    assert scaled.coef_.max() > 500


def test_choices_without_exception_are_separable():
    x = np.array([0.0, 1.0, 0.0, 2.0])[:, None]
    with pytest.warns(softly.DegenerateFitWarning, match="separable"):
        model = ConditionalLogit().fit(x, [0, 1, 0, 1], sets=[0, 0, 1, 1])
    assert model.status_ == "separable"
    assert np.isfinite(model.coef_).all()
    assert np.isnan(model.covariance_).all()
    assert ConditionalLogit(l2=1e-3).fit(x, [0, 1, 0, 1], sets=[0, 0, 1, 1]).status_ == "ok"
    assert '"standard_error": null' in model.estimates_.to_json()


def test_an_early_end_warns():
    x, y, ids, _ = drawn()
    with pytest.warns(ConvergenceWarning):
        assert ConditionalLogit(max_iter=1).fit(x, y, sets=ids).status_ == "not_converged"


def test_singular_designs_are_named():
    x, y, ids, _ = drawn()
    with pytest.raises(softly.InputError, match=r"coefficients of feature 0, feature 1, feature 2 apart"):
        ConditionalLogit().fit(np.column_stack([x, x[:, 0] - x[:, 1]]), y, sets=ids)
    with pytest.raises(softly.InputError, match=r"coefficients of feature 2 apart"):  # the same in all of a set
        ConditionalLogit().fit(np.column_stack([x, ids]), y, sets=ids)


GOOD = {"X": [[0.0], [1.0], [0.5], [0.0]], "y": [1, 0, 1, 0], "sets": ["p", "p", "q", "q"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"y": [0, 0, 1, 0]}, "set p has 0 chosen rows"),
        ({"y": [1, 0, 1, 1]}, "set q has 2 chosen rows"),
        ({"y": [1, 0, 2, 0]}, "0 and 1"),
        ({"y": [1, 0, 1]}, "y has shape"),
        ({"sets": [1.0, 1.0, np.nan, 2.0]}, "sets has missing entries"),
        ({"sets": ["p", "p"]}, "sets has shape"),
        ({"X": [[0.0], [np.inf], [0.5], [0.0]]}, "X, row 1, column 0: inf is not finite"),
        ({"X": [0.0, 1.0, 0.5, 0.0]}, "X has shape"),
        ({"sample_weight": [1, 2, 1, 1]}, "sample_weight differs within set p"),
        ({"sample_weight": [-1, -1, 1, 1]}, "sample_weight must be"),
        ({"clusters": [1, 1, 1, 2]}, "clusters differs within set q"),
        ({"alternatives": ["a", "a", "a", "b"]}, "set p has a twice"),
        ({"alternatives": ["a", "b", "a", "b"], "choosers": [[1.0], [2.0], [1.0], [1.0]]}, "choosers differs within"),
        ({"choosers": [[1.0]] * 4}, "without alternatives"),
    ],
)
def test_bad_input_is_named(change, said):
    with pytest.raises(softly.InputError, match=said):
        ConditionalLogit().fit(**{**GOOD, **change})


def test_new_sets_must_fit_the_fit():
    names = ["a", "b", "a", "b"]
    model = ConditionalLogit(l2=1.0).fit(**GOOD, alternatives=names)
    for change, said in (
        ({"alternatives": ["a", "c", "a", "b"]}, "row 1: c was not in the fit, which had a, b"),
        ({"alternatives": None}, "as in the fit"),
        ({"X": [[0.0, 1.0]] * 4}, "X has 2 columns"),
    ):
        with pytest.raises(softly.InputError, match=said):
            model.predict_proba(**{"X": GOOD["X"], "sets": GOOD["sets"], "alternatives": names, **change})
    with pytest.raises(softly.InputError, match="base='z' is none of"):
        ConditionalLogit(base="z").fit(**GOOD, alternatives=names)
    with pytest.raises(softly.InputError, match="l2=-1"):
        ConditionalLogit(l2=-1).fit(**GOOD)
