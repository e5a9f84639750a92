"""SoftmaxClassifier and SigmoidClassifier: scikit-learn's own checks, its optimum, derivatives, degenerate fits."""

import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import check_estimator

import softly
from softly.models import SigmoidClassifier, SoftmaxClassifier, linear


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return x / 16, y


def drawn(n=400, features=3, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, features))
    scores = x @ rng.normal(size=(features, classes))
    return x, np.argmax(scores + rng.gumbel(size=scores.shape), axis=1), rng


def objective(model, x, y, weights=None, l2=1.0, alpha=1.0):
    losses = softly.fenchel_young_loss(x @ model.coef_.T + model.intercept_, y, alpha=alpha, reduction="none")
    return np.dot(losses, np.ones(len(y)) if weights is None else weights) + l2 / 2 * np.sum(model.coef_**2)


@pytest.mark.parametrize("model", [SoftmaxClassifier(), SoftmaxClassifier(alpha=2.0), SigmoidClassifier()], ids=str)
def test_scikit_learns_own_checks_pass(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check_estimator(model, on_fail=None, on_skip=None)
    assert len(found) > 50
    assert [one["check_name"] for one in found if one["status"] not in ("passed", "skipped")] == []


def test_reaches_the_optimum_of_logistic_regression(digits):
    x, y = digits
    ours = SoftmaxClassifier().fit(x, y)
    theirs = LogisticRegression(solver="newton-cholesky", tol=1e-10, max_iter=1000).fit(x, y)
    assert objective(ours, x, y) / objective(theirs, x, y) == pytest.approx(1, abs=1e-8)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-4)
    np.testing.assert_allclose(ours.coef_.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.exp(ours.predict_log_proba(x)), ours.predict_proba(x), rtol=1e-12)


def test_two_classes_and_yes_or_no_are_logistic_regression():
    x, y, _ = drawn(classes=2)
    theirs = LogisticRegression(C=0.5, tol=1e-10).fit(x, y)
    for ours in (SoftmaxClassifier(l2=4.0, tol=1e-13), SigmoidClassifier(l2=2.0, tol=1e-13)):
        ours.fit(x, y)
        np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-6)
        np.testing.assert_allclose(ours.decision_function(x), theirs.decision_function(x), atol=1e-5)


def test_each_label_of_several_is_a_logistic_regression():
    x, _, rng = drawn()
    y = (x @ rng.normal(size=(3, 5)) + rng.logistic(size=(400, 5)) > 0).astype(int)
    ours = SigmoidClassifier(tol=1e-13).fit(x, y)
    for label in range(5):
        theirs = LogisticRegression(tol=1e-10).fit(x, y[:, label])
        np.testing.assert_allclose(ours.coef_[label], theirs.coef_[0], atol=1e-5)
    assert (ours.predict(x) == (ours.predict_proba(x) > 0.5)).all()


@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_no_optimiser_finds_a_lower_value(alpha, weighted):
    x, y, rng = drawn()
    weights = rng.integers(0, 3, 400).astype(float) if weighted else None
    ours = SoftmaxClassifier(alpha, l2=0.3, tol=1e-12).fit(x, y, weights)
    each = np.ones(400) if weights is None else weights

    def value_and_gradient(parameters):
        w, b = parameters[:12].reshape(4, 3), parameters[12:]
        scores = x @ w.T + b
        slopes = (softly.entmax(scores, alpha=alpha) - np.eye(4)[y]) * each[:, None]
        value = each @ softly.fenchel_young_loss(scores, y, alpha=alpha, reduction="none") + 0.15 * np.sum(w**2)
        return value, np.concatenate([(slopes.T @ x + 0.3 * w).ravel(), slopes.sum(axis=0)])

    best = scipy.optimize.minimize(value_and_gradient, np.zeros(16), jac=True, options={"gtol": 1e-7})
    assert objective(ours, x, y, weights, 0.3, alpha) == pytest.approx(best.fun, rel=1e-9)
    np.testing.assert_allclose(ours.coef_.ravel(), best.x[:12], atol=1e-4)


@pytest.mark.parametrize("model", [SoftmaxClassifier(), SigmoidClassifier()], ids=str)
@pytest.mark.parametrize("factored", [1024, 0])
@pytest.mark.parametrize("dense_from", [0.05, 1])
def test_sparse_features_and_weights_change_nothing(model, factored, dense_from, monkeypatch):
    monkeypatch.setattr(linear, "_FACTORED", factored)
    monkeypatch.setattr(linear, "_DENSE_FROM", dense_from)
    x, y, rng = drawn(classes=2)
    x[rng.random(x.shape) < 0.5] = 0
    repeats = rng.integers(0, 4, len(x))
    expected = model.fit(np.repeat(x, repeats, axis=0), np.repeat(y, repeats)).coef_
    for form in (np.asarray, scipy.sparse.csr_array, scipy.sparse.csc_matrix):
        np.testing.assert_allclose(model.fit(form(x), y, repeats).coef_, expected, atol=1e-5)
    np.testing.assert_allclose(model.predict_proba(scipy.sparse.csr_array(x)), model.predict_proba(x))


def test_more_features_than_rows():
    x, y, rng = drawn(60, 100)
    weights = rng.random(60)
    ours = SoftmaxClassifier(l2=0.5, tol=1e-12).fit(x, y, weights)
    theirs = LogisticRegression(C=2.0, solver="newton-cg", tol=1e-9, max_iter=1000).fit(x, y, weights)
    assert ours.n_iter_ < 20
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_curvature_from_a_sample_leads_to_the_same_optimum(weighted, monkeypatch):
    x, y, rng = drawn(20000, classes=6)
    weights = rng.random(len(x)) + 0.5 if weighted else None
    whole = SoftmaxClassifier(l2=0.1, tol=1e-12).fit(x, y, weights)
    monkeypatch.setattr(linear, "_LEAST_SAMPLE", 512)
    taken = []
    monkeypatch.setattr(
        "softly.models.classifier.sample", lambda whole: taken.append(linear.sample(whole)) or taken[-1]
    )
    sampled = SoftmaxClassifier(l2=0.1, tol=1e-12).fit(x, y, weights)
    assert taken[0].features.shape[0] == 512
    np.testing.assert_allclose(sampled.coef_, whole.coef_, atol=1e-5)


def test_standard_errors_are_the_inverse_of_the_likelihoods_curvature():
    x, y, rng = drawn()
    weights = rng.integers(1, 3, len(x)).astype(float)
    model = SoftmaxClassifier(l2=0.0, tol=1e-14).fit(x, y, weights)

    def negative_log_likelihood(free):  # classes 0 to 2 against class 3, an identifiable parametrisation of its own
        w = np.vstack([free.reshape(3, 4), np.zeros(4)])
        return weights @ softly.cross_entropy(x @ w[:, :3].T + w[:, 3], y, reduction="none")

    whole = np.column_stack([model.coef_, model.intercept_])
    at, step = (whole[:3] - whole[3]).ravel(), 1e-4
    moves = np.eye(12) * step
    curvature = np.array([
        [sum(s * t * negative_log_likelihood(at + s * a + t * b) for s in (1, -1) for t in (1, -1)) for b in moves]
        for a in moves
    ]) / (4 * step**2)  # fmt: skip
    covariance = np.linalg.inv(curvature).reshape(3, 4, 3, 4)
    centring = np.eye(4)[:, :3] - 0.25
    expected = np.sqrt(np.einsum("ka,aibi,kb->ki", centring, covariance, centring))
    found = model.standard_errors(x, weights)
    np.testing.assert_allclose(np.column_stack(found), expected, rtol=1e-4)


def test_standard_errors_cover():
    covered = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(300, 2))
        truth = np.array([[1.0, 0.5], [-1.0, 0.0], [0.0, -0.5]])
        y = np.argmax(x @ truth.T + rng.gumbel(size=(300, 3)), axis=1)
        model = SoftmaxClassifier(l2=0.0).fit(x, y)
        errors = model.standard_errors(x)
        covered.append(np.abs(model.coef_ - truth) < 1.96 * errors.coef)
    assert 0.91 < np.mean(covered) < 0.98


def test_labels_that_can_be_separated_have_a_status():
    x = np.arange(10.0)[:, None]
    with pytest.warns(softly.DegenerateFitWarning, match="l2 > 0"):
        apart = SoftmaxClassifier(l2=0.0).fit(x, x[:, 0] > 4)
    assert apart.status_ == "separable"
    assert np.isfinite(apart.coef_).all()
    with pytest.raises(softly.InputError, match="status_ is 'separable'"):
        apart.standard_errors(x)
    quasi = np.where(x[:, 0] == 4, [0, 1] * 5, x[:, 0] > 4)
    with pytest.warns(softly.DegenerateFitWarning):
        assert SoftmaxClassifier(l2=0.0).fit(
            np.vstack([x, x]), np.concatenate([x[:, 0] > 4, x[:, 0] >= 4])
        ).status_ == ("separable")
    assert SoftmaxClassifier(l2=0.0, alpha=2.0).fit(x, x[:, 0] > 4).status_ == "ok"  # a margin suffices
    assert SoftmaxClassifier(l2=1e-6).fit(x, quasi).status_ == "ok"


def test_an_early_end_warns():
    x, y, _ = drawn()
    with pytest.warns(ConvergenceWarning, match="max_iter=1"):
        assert SoftmaxClassifier(max_iter=1).fit(x, y).status_ == "not_converged"


def test_singular_designs_are_named():
    x, y, _ = drawn()
    model = SoftmaxClassifier(l2=0.0).fit(np.column_stack([x, x[:, 0] + x[:, 1]]), y)
    with pytest.raises(softly.InputError, match=r"feature 0, feature 1, feature 3 apart"):
        model.standard_errors(np.column_stack([x, x[:, 0] + x[:, 1]]))
    with pytest.raises(softly.InputError, match=r"coefficients of feature 3 apart"):
        model.standard_errors(np.column_stack([x, np.zeros(len(x))]))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"l2": -1.0}, "l2=-1.0"),
        ({"l2": np.nan}, "l2=nan"),
        ({"tol": "small"}, "tol='small'"),
        ({"max_iter": 0}, "max_iter=0"),
        ({"alpha": 0.5}, "alpha=0.5"),
        ({"alpha": np.inf}, "alpha=inf"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, said):
    x, y, _ = drawn()
    with pytest.raises(ValueError, match=said):
        SoftmaxClassifier(**arguments).fit(x, y)


def test_bad_targets_and_weights():
    x, y, _ = drawn()
    for model in (SoftmaxClassifier(), SigmoidClassifier()):
        with pytest.raises(ValueError, match="one class"):
            model.fit(x, np.zeros(len(x), int))
        with pytest.raises(ValueError, match="non-zero"):
            model.fit(x, y > 1, np.zeros(len(x)))
        with pytest.raises(ValueError, match=r"[Nn]egative"):
            model.fit(x, y > 1, np.full(len(x), -1.0))
    with pytest.raises(ValueError, match="use SoftmaxClassifier"):
        SigmoidClassifier().fit(x, y)
    with pytest.raises(ValueError, match="0 and 1"):
        SigmoidClassifier().fit(x, np.column_stack([y, y]))


def test_huge_features_do_not_overflow():
    x, y, _ = drawn(classes=2)
    for scale in (1e3, 1e150):
        model = SoftmaxClassifier(l2=1e-3).fit(x * scale, y)
        assert np.isfinite(model.coef_).all()
        assert np.isfinite(model.predict_proba(x * scale)).all()
        assert model.score(x * scale, y) > 0.6
