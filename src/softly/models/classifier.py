"""What the linear classifiers share: arguments, the fit of coefficients, scores."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np

from softly._errors import DegenerateFitWarning, InputError
from softly.models.linear import LinearObjective, as_fast, sample
from softly.models.losses import Floats, RowLoss
from softly.models.newton import Minimum, minimise

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "sklearn":
        raise
    raise InputError("the models need scikit-learn: run pip install 'softly[sklearn]'") from error

__all__ = [
    "BaseEstimator",
    "ConvergenceWarning",
    "LinearClassifier",
    "check_classification_targets",
    "check_is_fitted",
    "type_of_target",
]

Status = Literal["ok", "separable", "not_converged"]

_ROUGH = 10  # Newton steps on a sample, from which those on all rows start
STILL_MOVES = 0.1  # scores that the next step would move so far at the end of a fit have no limit

SEPARABLE = (
    "the data are separable: with l2=0 the likelihood has no maximum at finite coefficients, and those kept are "
    "where it stopped growing; pass l2 > 0"
)


class LinearClassifier(ClassifierMixin, BaseEstimator):
    """A classifier by scores X @ coef_.T + intercept_."""

    l2: float
    fit_intercept: bool
    tol: float
    max_iter: int

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _checked(self, x: Any, y: Any, sample_weight: Any, **options: Any) -> tuple[Any, Any, Floats | None]:
        """Features, the target as sklearn passes it, and weights; ValueError for arguments out of range."""
        check_numbers(self)
        x, y = validate_data(self, x, y, accept_sparse="csr", dtype=np.float64, order="C", **options)
        if sample_weight is None:
            return x, y, None
        weights = _weights(sample_weight, x)
        return x, y, None if (weights == 1).all() else weights

    def _fit(self, x: Any, loss: RowLoss, weights: Floats | None) -> None:
        """Set coef_ (outputs, features), intercept_, n_iter_ and status_."""
        objective = LinearObjective(as_fast(x), loss, weights, float(self.l2), bool(self.fit_intercept))
        tolerance = self.tol * (x.shape[0] if weights is None else float(weights.sum()))
        start = np.zeros((x.shape[1] + bool(self.fit_intercept), loss.outputs))
        part = sample(objective)
        if part is not None:
            rough = minimise(part, start, tolerance=start.size / 20, most=_ROUGH)
            start = rough.parameters
        found = minimise(
            objective, start, tolerance=tolerance, most=int(self.max_iter), curvatures=(part,) if part else ()
        )
        self.coef_ = np.ascontiguousarray(found.parameters[: x.shape[1]].T)
        self.intercept_ = found.parameters[-1].copy() if self.fit_intercept else np.zeros(loss.outputs)
        self.n_iter_ = max(1, found.iterations)
        self.status_: Status = self._status(objective, found)

    def _status(self, objective: LinearObjective, found: Minimum) -> Status:
        if (
            found.converged
            and self.l2 == 0
            and any(np.abs(moved).max() > STILL_MOVES for _, moved in objective.scores(found.step))
        ):
            warnings.warn(SEPARABLE, DegenerateFitWarning, stacklevel=4)
            return "separable"
        if not found.converged:
            warnings.warn(
                f"not converged in max_iter={self.max_iter} steps: the mean loss is about "
                f"{found.expected_fall:.1g} in all above its minimum; raise max_iter, or scale the features",
                ConvergenceWarning,
                stacklevel=4,
            )
            return "not_converged"
        return "ok"

    def _scores(self, x: Any) -> Floats:
        """(n, outputs)."""
        check_is_fitted(self)
        x = validate_data(self, x, accept_sparse="csr", dtype=np.float64, reset=False)
        scores: Floats = x @ self.coef_.T + self.intercept_
        return scores

    def _checked_rows(self, x: Any, sample_weight: Any) -> tuple[Any, Floats | None]:
        """Rows as those fitted, and weights."""
        x = validate_data(self, x, accept_sparse="csr", dtype=np.float64, reset=False)
        return x, None if sample_weight is None else _weights(sample_weight, x)

    def _feature_names(self) -> list[str]:
        given = getattr(self, "feature_names_in_", None)
        return [f"feature {i}" for i in range(self.n_features_in_)] if given is None else [str(name) for name in given]


def _weights(sample_weight: Any, x: Any) -> Floats:
    checked: Floats = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
    return checked


def check_numbers(model: Any) -> None:
    """InputError for l2, tol or max_iter out of range."""
    for name, low in (("l2", 0.0), ("tol", 0.0), ("max_iter", 1)):
        value = getattr(model, name)
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not low <= value < np.inf:
            raise InputError(f"{name}={value!r} is not a number from {low:g} on")
