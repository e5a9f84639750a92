"""Choices from sets of alternatives: the conditional logit."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softly._errors import DegenerateFitWarning, InputError
from softly._records import Record
from softly.models.choice_design import ChoiceDesign
from softly.models.choice_likelihood import ChoiceLikelihood
from softly.models.choice_sets import ChoiceSets, column
from softly.models.classifier import (
    SEPARABLE,
    STILL_MOVES,
    BaseEstimator,
    ConvergenceWarning,
    Status,
    check_is_fitted,
    check_numbers,
)
from softly.models.information import inverse_information
from softly.models.losses import Floats
from softly.models.newton import minimise
from softly.segments import segment_log_softmax, segment_softmax


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficient(Record):
    """A coefficient; errors and z are NaN unless the fit's status is "ok". z: value / robust_error."""

    name: str
    value: float
    standard_error: float
    robust_error: float
    z: float

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.value:.4f}, standard error {self.standard_error:.4f}, robust {self.robust_error:.4f}, "
            f"z {self.z:.2f}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceEstimates(Record):
    """What a ConditionalLogit found. log_likelihood_null: of equal shares in every set; rho_squared: 1 - their ratio.

    clusters: how many, None if each set was taken as independent of the others.
    """

    coefficients: tuple[Coefficient, ...]
    sets: int
    rows: int
    clusters: int | None
    log_likelihood: float
    log_likelihood_null: float
    rho_squared: float
    iterations: int
    status: Status


class ConditionalLogit(BaseEstimator):
    """One choice from each set: p_i = exp(u_i) / sum over its set of exp(u_j), u = x b: the conditional logit.

    Data are columns of a long table, a row an alternative that is there to choose; sets may differ in size and rows
    stand in any order. Utilities are linear in features of the alternatives (X); where each row's alternative is named,
    every alternative but the base also gets a constant and coefficients for features of the chooser. fit maximises the
    likelihood by Newton's method with its exact Hessian.

    - l2: >= 0; l2 / 2 |b|^2 is added to minus the log-likelihood, constants included.
    - constants: whether named alternatives get them.
    - base: the alternative without; default: the first in order.
    - tol: how far below its maximum the mean log-likelihood may be; max_iter: most steps.

    Attributes: coef_ (coefficients,), names_; covariance_, from the Fisher information; robust_covariance_, the
    sandwich H^-1 (sum g g^T) H^-1 without corrections for small samples, over clusters where they were given;
    status_: "ok", "separable" (no finite optimum; DegenerateFitWarning) or "not_converged" (ConvergenceWarning), and
    covariances are NaN unless it is "ok"; estimates_: a `ChoiceEstimates` with all of it, for reading and JSON.

    Source: McFadden, 1974; Train, 2009.

    >>> model = ConditionalLogit(l2=0.1).fit([[1.0], [3.0], [2.0], [1.0]], [0, 1, 1, 0], sets=["a", "a", "b", "b"])
    >>> model.predict_proba([[0.0], [1.0], [2.0]], sets=[7, 7, 7]).round(3)
    array([0.021, 0.133, 0.846])
    """

    def __init__(
        self, *, l2: float = 0.0, constants: bool = True, base: Any = None, tol: float = 1e-12, max_iter: int = 100
    ) -> None:
        self.l2 = l2
        self.constants = constants
        self.base = base
        self.tol = tol
        self.max_iter = max_iter

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sets: Any,
        alternatives: Any = None,
        choosers: Any = None,
        sample_weight: Any = None,
        clusters: Any = None,
    ) -> ConditionalLogit:
        """Find the coefficients. All columns have one entry a row of X.

        - X: (rows, features) of the alternatives. y: 1 for the chosen row of each set, else 0. sets: which set a row is
          of, numbers or names. alternatives: the name of its alternative.
        - choosers: (rows, features), sample_weight (>= 0, counts repetitions) and clusters (sets of one chooser, which
          need not be independent) belong to the set, and so are the same in all of its rows.

        ValueError: a set without a choice or with several, an alternative twice in a set, entries that differ within a
        set, numbers that are not finite, and with l2 = 0 a singular design, whose coefficients it names.
        """
        check_numbers(self)
        grouped = ChoiceSets.of(sets, len(X))
        chosen = grouped.chosen(y)
        self.design_ = ChoiceDesign.of(X, alternatives, choosers, self.base, self.constants)
        rows = self.design_.matrix(X, grouped, alternatives, choosers)
        weights = None if sample_weight is None else _weights(grouped, sample_weight, len(rows))
        groups = None if clusters is None else grouped.of_each(column(clusters, "clusters", len(rows)), "clusters")
        likelihood = ChoiceLikelihood(rows, grouped, chosen, weights, float(self.l2))
        start = np.zeros(rows.shape[1])
        null, _ = likelihood.at(start)
        self.names_ = self.design_.names
        inverse_information(likelihood.information, self.names_)  # names what is singular
        total = float(len(grouped.ids) if weights is None else weights.sum())
        found = minimise(likelihood, start, tolerance=self.tol * total, most=int(self.max_iter))
        self.coef_ = found.parameters
        self.n_iter_ = found.iterations
        self.status_ = self._status(likelihood.largest_move(found.step), found.converged)
        value, _ = likelihood.at(self.coef_)
        self._set_covariances(likelihood, groups)
        penalty = self.l2 / 2 * float(self.coef_ @ self.coef_)
        self._set_estimates(rows, grouped, groups, penalty - value, -null)
        return self

    def _status(self, moved: float, converged: bool) -> Status:
        if converged and self.l2 == 0 and moved > STILL_MOVES:
            warnings.warn(SEPARABLE, DegenerateFitWarning, stacklevel=3)
            return "separable"
        if not converged:
            warnings.warn(
                f"not converged in max_iter={self.max_iter} steps: raise it", ConvergenceWarning, stacklevel=3
            )
            return "not_converged"
        return "ok"

    def _set_covariances(self, likelihood: ChoiceLikelihood, groups: NDArray[Any] | None) -> None:
        size = len(self.coef_)
        if self.status_ != "ok":
            self.covariance_ = self.robust_covariance_ = np.full((size, size), np.nan)
            return
        self.covariance_ = inverse_information(likelihood.information, self.names_)
        scores = likelihood.scores(self.coef_)
        if groups is not None:
            _, index = np.unique(groups, return_inverse=True)
            sums = np.zeros((index.max() + 1, size))
            np.add.at(sums, index, scores)
            scores = sums
        self.robust_covariance_ = self.covariance_ @ (scores.T @ scores) @ self.covariance_

    def _set_estimates(
        self, rows: Floats, sets: ChoiceSets, groups: NDArray[Any] | None, log_likelihood: float, null: float
    ) -> None:
        errors, robust = (np.sqrt(np.diagonal(c)) for c in (self.covariance_, self.robust_covariance_))
        with np.errstate(divide="ignore", invalid="ignore"):
            columns = zip(self.names_, self.coef_, errors, robust, self.coef_ / robust, strict=True)
        self.estimates_ = ChoiceEstimates(
            coefficients=tuple(
                Coefficient(
                    name=name, value=float(value), standard_error=float(error), robust_error=float(wide), z=float(z)
                )
                for name, value, error, wide, z in columns
            ),
            sets=len(sets.ids),
            rows=len(rows),
            clusters=None if groups is None else len(np.unique(groups)),
            log_likelihood=log_likelihood,
            log_likelihood_null=null,
            rho_squared=1 - log_likelihood / null if null else 0.0,
            iterations=self.n_iter_,
            status=self.status_,
        )

    def _utilities(self, X: Any, sets: Any, alternatives: Any, choosers: Any) -> tuple[ChoiceSets, Floats]:
        check_is_fitted(self)
        grouped = ChoiceSets.of(sets, len(X))
        return grouped, self.design_.matrix(X, grouped, alternatives, choosers) @ self.coef_

    def predict_proba(self, X: Any, *, sets: Any, alternatives: Any = None, choosers: Any = None) -> Floats:
        """The probability of each row within its set (rows,); columns as in `fit`, sets may be new ones."""
        grouped, utilities = self._utilities(X, sets, alternatives, choosers)
        return np.asarray(grouped.restore(segment_softmax(utilities, offsets=grouped.offsets)))

    def predict_log_proba(self, X: Any, *, sets: Any, alternatives: Any = None, choosers: Any = None) -> Floats:
        """Its logarithm."""
        grouped, utilities = self._utilities(X, sets, alternatives, choosers)
        return np.asarray(grouped.restore(segment_log_softmax(utilities, offsets=grouped.offsets)))

    def score(self, X: Any, y: Any, *, sets: Any, alternatives: Any = None, choosers: Any = None) -> float:
        """The mean log-likelihood of the sets' choices."""
        grouped, utilities = self._utilities(X, sets, alternatives, choosers)
        log_p = segment_log_softmax(utilities, offsets=grouped.offsets)
        return float(log_p[grouped.chosen(y)].mean())


def _weights(sets: ChoiceSets, sample_weight: Any, rows: int) -> Floats:
    given = column(sample_weight, "sample_weight", rows)
    if given.dtype.kind not in "biuf" or not ((given >= 0) & np.isfinite(given)).all() or not given.any():
        raise InputError("sample_weight must be finite, at least 0, and above 0 somewhere")
    return sets.of_each(given.astype(np.float64), "sample_weight")
