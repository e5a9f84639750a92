"""Whole fits of the models beside scikit-learn, statsmodels and xlogit, where they are installed.

Run alone: python benchmarks/models.py [part of a case's name]
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import importlib.util
import io
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from timing import Contenders, interleaved

import softly
from softly.models import ConditionalLogit, SoftmaxClassifier

PROTEINS = Path(__file__).parent.parent / "examples" / "data" / "scl2205_slice.csv.gz"
LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def classifier_case(x: Any, y: Any) -> Contenders:
    """SoftmaxClassifier, LogisticRegression as it comes, and as near to its optimum as ours is."""
    from sklearn.linear_model import LogisticRegression

    def loss(model: Any) -> float:
        scores = x @ model.coef_.T + model.intercept_
        whole = softly.cross_entropy(scores, labels, reduction="sum") + 0.5 * np.sum(model.coef_**2)
        return float(whole) / len(x)

    labels = np.unique(y, return_inverse=True)[1]
    mine = loss(SoftmaxClassifier().fit(x, y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it may not converge in its 100 iterations
        tight = next(
            tol for tol in 10.0 ** -np.arange(5, 12)
            if loss(LogisticRegression(tol=tol, max_iter=5000).fit(x, y)) < mine + 1e-8 or tol < 1e-10
        )  # fmt: skip

    def fitted(**options: Any) -> Callable[[], Any]:
        def fit() -> Any:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return LogisticRegression(**options).fit(x, y)

        return fit

    return {
        "softly": lambda: SoftmaxClassifier().fit(x, y),
        "scikit-learn": fitted(),
        f"scikit-learn, tol {tight:.0e}": fitted(tol=tight, max_iter=5000),
    }


def choice_case(x: Any, chosen: Any, sets: Any, size: int) -> Contenders:
    """ConditionalLogit; xlogit and statsmodels if they are there, and agree."""
    found: Contenders = {"softly": lambda: ConditionalLogit().fit(x, chosen, sets=sets)}
    mine = ConditionalLogit().fit(x, chosen, sets=sets).coef_
    if importlib.util.find_spec("xlogit"):
        from xlogit import MultinomialLogit

        names, alternatives = [f"x{i}" for i in range(x.shape[1])], np.tile(np.arange(size), len(x) // size)

        def xlogit() -> Any:
            model = MultinomialLogit()
            with contextlib.redirect_stdout(io.StringIO()):
                model.fit(x, chosen, varnames=names, alts=alternatives, ids=sets, verbose=0)
            return model.coeff_

        np.testing.assert_allclose(xlogit(), mine, atol=1e-3)
        found["xlogit"] = xlogit
    if importlib.util.find_spec("statsmodels") and len(x) < 20_000:  # it takes seconds
        from statsmodels.discrete.conditional_models import ConditionalLogit as Theirs

        def statsmodels() -> Any:
            return Theirs(chosen.astype(float), x, groups=sets).fit(disp=0).params

        np.testing.assert_allclose(statsmodels(), mine, atol=1e-3)
        found["statsmodels"] = statsmodels
    return found


def choices(count: int, size: int, features: int) -> Contenders:
    """Choices that follow the model."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, size, features))
    chosen = np.argmax(x @ rng.normal(size=features) / 2 + rng.gumbel(size=(count, size)), axis=1)
    flags = (chosen[:, None] == np.arange(size)).ravel()
    return choice_case(x.reshape(-1, features), flags, np.repeat(np.arange(count), size), size)


def composition() -> tuple[Any, Any]:
    """Standardised shares of amino acids in the whole and the first 40 of 4,000 proteins, and their 13 classes."""
    with gzip.open(PROTEINS, "rt") as file:
        records = list(csv.DictReader(file))
    parts = [(record["seq"], record["seq"][:40]) for record in records]
    x = np.array([[part.count(letter) / len(part) for part in pair for letter in LETTERS] for pair in parts])
    return (x - x.mean(axis=0)) / x.std(axis=0), np.array([record["scl"] for record in records])


def cases() -> Iterator[tuple[str, Callable[[], Contenders]]]:
    """Each fit and who does it, once asked."""
    from sklearn.datasets import load_digits

    def digits() -> Contenders:
        x, y = load_digits(return_X_y=True)
        return classifier_case(x / 16, y)

    def many_classes() -> Contenders:
        rng = np.random.default_rng(0)
        x, w = rng.normal(size=(100_000, 100)), 0.2 * rng.normal(size=(100, 50))
        return classifier_case(x, np.argmax(x @ w + rng.gumbel(size=(100_000, 50)), axis=1))

    yield "classifier, digits 1797 x 64, 10 classes", digits
    yield "classifier, proteins 4000 x 40, 13 classes", lambda: classifier_case(*composition())
    yield "classifier, 100,000 x 100, 50 classes", many_classes
    yield "conditional logit, 2,000 sets of 4, 5 features", lambda: choices(2_000, 4, 5)
    yield "conditional logit, 100,000 sets of 5, 10 features", lambda: choices(100_000, 5, 10)


def rows_of_table(part: str = "") -> list[tuple[str, dict[str, float]]]:
    """Each fit whose name has the part, and seconds of softly first, then of its rivals."""
    return [(name, interleaved(contenders(), 2.0, fewest=3)) for name, contenders in cases() if part in name]


if __name__ == "__main__":
    for title, seconds in rows_of_table(*sys.argv[1:]):
        mine = seconds["softly"]
        print(title, *(f"{who} {1e3 * t:.3g} ms ({t / mine:.2f})" for who, t in seconds.items()), sep="; ", flush=True)
