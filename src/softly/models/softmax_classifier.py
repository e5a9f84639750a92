"""Exclusive classes by linear scores and a member of the family."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from softly._arrays import check_alpha
from softly._errors import InputError
from softly.maps import entmax, log_softmax, softmax
from softly.models.classifier import LinearClassifier, check_classification_targets, check_is_fitted
from softly.models.information import inverse_information
from softly.models.losses import EntmaxLoss, Floats

_MOST_COEFFICIENTS = 4096  # whose covariance, a matrix, is computed: 128 MB


class StandardErrors(NamedTuple):
    """In the shapes of `coef_` and `intercept_`; intercept: None without one."""

    coef: Floats
    intercept: Floats | None


class SoftmaxClassifier(LinearClassifier):
    """Probabilities entmax(x W^T + b) of exclusive classes: multinomial logistic regression at alpha 1, sparse above.

    fit minimises the sum over rows of weight times `fenchel_young_loss` (alpha 1: `cross_entropy`), plus
    l2 / 2 |W|^2, by Newton's method on the closed-form Hessian. Every class has coefficients; a shift common to all
    classes changes nothing, so they sum to 0 over classes, which is where the penalty alone would bring them.

    - alpha: a number >= 1: 1 softmax, 1.5 entmax15, 2 sparsemax, whose probabilities can be exactly 0.
    - l2: >= 0, for the sum of losses, as 1 / C of scikit-learn's LogisticRegression with three classes or more; with
      two its penalty is on the difference of the classes' coefficients, and C = 2 / l2. The intercept has none.
    - fit_intercept: whether there is b.
    - tol: how far above its minimum the mean loss may be, in nats, as the last Newton step tells.
    - max_iter: most Newton steps.

    Attributes: classes_; coef_ (classes, features); intercept_ (classes,); n_iter_; status_: "ok", "separable" (l2 = 0
    and no finite optimum; DegenerateFitWarning) or "not_converged" (ConvergenceWarning); n_features_in_,
    feature_names_in_ as in scikit-learn.

    X: (rows, features), finite, dense or sparse; y: (rows,) labels of at least two classes; sample_weight: (rows,),
    >= 0, counts repetitions. Raises ValueError that says what does not fit. Source: Blondel, Martins and Niculae, 2020.

    >>> import numpy as np
    >>> model = SoftmaxClassifier(l2=0.1).fit([[0.0], [1.0], [2.0], [3.0]], ["a", "a", "b", "b"])
    >>> model.predict_proba([[0.0], [1.5]]).round(3)
    array([[0.994, 0.006],
           [0.5  , 0.5  ]])
    """

    classes_: NDArray[Any]

    def __init__(
        self, alpha: float = 1.0, *, l2: float = 1.0, fit_intercept: bool = True, tol: float = 1e-9, max_iter: int = 100
    ) -> None:
        self.alpha = alpha
        self.l2 = l2
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SoftmaxClassifier:
        """Find coef_ and intercept_."""
        alpha = check_alpha(self.alpha, None)
        if not isinstance(alpha, float) or alpha == np.inf:
            raise InputError(f"alpha={self.alpha!r} is not a finite number: pass one from 1 on")
        X, y, weights = self._checked(X, y, sample_weight)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(f"y has one class, {self.classes_[0]}: pass rows of at least two")
        self._fit(X, EntmaxLoss(labels, len(self.classes_), alpha), weights)
        return self

    def decision_function(self, X: Any) -> Floats:
        """Scores (rows, classes); of two classes (rows,), the second's less the first's, as scikit-learn has it."""
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: Any) -> Floats:
        """Probabilities (rows, classes), in the order of classes_."""
        return np.asarray(entmax(self._scores(X), alpha=self.alpha))

    def predict_log_proba(self, X: Any) -> Floats:
        """Their logarithms; exact near 0 at alpha 1, -inf where a probability is 0."""
        if self.alpha == 1:
            return np.asarray(log_softmax(self._scores(X)))
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """The class of the largest score (rows,)."""
        best = self._scores(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def standard_errors(self, X: Any, sample_weight: Any = None) -> StandardErrors:
        """Of coef_ and intercept_, from the Fisher information of rows X at alpha 1: those that it was fitted on.

        The covariance is (F + l2)^-1 among coefficients that sum to 0 over classes, F the sum over rows of
        weight (diag p - p p^T) (x) x x^T. It is exact for many rows; with a penalty it is that of the posterior whose
        prior the penalty is. F asks for no labels.

        Raises ValueError: alpha is not 1, no optimum was found, more than 4096 coefficients, or a singular design,
        whose features it names.
        """
        check_is_fitted(self)
        if self.alpha != 1:
            raise InputError(f"alpha={self.alpha}: its loss is no likelihood, so there are no standard errors; use 1")
        if self.status_ != "ok":
            raise InputError(f"status_ is {self.status_!r}: standard errors are those of an optimum; fit again")
        X, weights = self._checked_rows(X, sample_weight)
        information = self._information(X, softmax(self._scores(X)), weights)
        width, contrasts = X.shape[1] + bool(self.fit_intercept), len(self.classes_) - 1
        names = [*self._feature_names(), "the intercept"][:width] * contrasts
        covariance = inverse_information(information, names).reshape(contrasts, width, contrasts, width)
        basis = _contrasts(contrasts + 1)
        variances = np.einsum("ka,aibi,kb->ki", basis, covariance, basis)
        errors = np.sqrt(variances)
        return StandardErrors(errors[:, : X.shape[1]], errors[:, -1] if self.fit_intercept else None)

    def _information(self, x: Any, p: Floats, weights: Floats | None) -> Floats:
        """Of coefficients times an orthonormal basis of what sums to 0 over classes, with the penalty."""
        basis = _contrasts(p.shape[1])
        x = x.toarray() if not isinstance(x, np.ndarray) else x
        x = np.column_stack([x, np.ones(len(x))]) if self.fit_intercept else x
        contrasts, width = basis.shape[1], x.shape[1]
        if contrasts * width > _MOST_COEFFICIENTS:
            raise InputError(
                f"{contrasts * width} free coefficients: their covariance is a matrix of their square; at most "
                f"{_MOST_COEFFICIENTS} are allowed, so leave out features or classes"
            )
        mean = p @ basis
        result = np.zeros((contrasts, width, contrasts, width))
        for a in range(contrasts):
            for b in range(a, contrasts):
                each = ((basis[:, a] - mean[:, [a]]) * (basis[:, b] - mean[:, [b]]) * p).sum(axis=1)
                each = each if weights is None else each * weights
                result[a, :, b, :] = result[b, :, a, :] = x.T @ (x * each[:, None])
        diagonal = np.arange(width - bool(self.fit_intercept))
        for a in range(contrasts):
            result[a, diagonal, a, diagonal] += self.l2
        return result.reshape(contrasts * width, contrasts * width)


def _contrasts(classes: int) -> Floats:
    """(classes, classes - 1): an orthonormal basis of what sums to 0, after Helmert."""
    basis = np.triu(np.ones((classes, classes - 1)))
    basis[np.arange(1, classes), np.arange(classes - 1)] = -np.arange(1.0, classes)
    return np.asarray(basis / np.sqrt((basis**2).sum(axis=0)))
