"""Labels that do not exclude each other, by linear scores and sigmoids."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from softly._errors import InputError
from softly.maps import log_sigmoid, sigmoid
from softly.models.classifier import LinearClassifier, check_classification_targets, type_of_target
from softly.models.losses import Floats, SigmoidLoss


class SigmoidClassifier(LinearClassifier):
    """Probabilities sigmoid(x W^T + b) of labels that may come together, or of yes and no: logistic regression.

    fit minimises the sum over rows and labels of weight times `binary_cross_entropy`, plus l2 / 2 |W|^2, by Newton's
    method. l2 is 1 / C of scikit-learn's LogisticRegression for each label. Other parameters and attributes as
    `SoftmaxClassifier`; coef_ is (labels, features).

    y: (rows, labels) of 0 and 1, or (rows,) of two classes, of which the second in order is yes. For classes that
    exclude each other use `SoftmaxClassifier`; `softmax_or_sigmoids` tells which of the two fits.

    >>> model = SigmoidClassifier().fit([[0.0], [1.0], [2.0], [3.0]], [[0, 1], [0, 0], [1, 1], [1, 0]])
    >>> model.predict_proba([[3.0]]).round(3)
    array([[0.808, 0.336]])
    """

    def __init__(self, *, l2: float = 1.0, fit_intercept: bool = True, tol: float = 1e-9, max_iter: int = 100) -> None:
        self.l2 = l2
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SigmoidClassifier:
        """Find coef_ and intercept_."""
        X, y, weights = self._checked(X, y, sample_weight, multi_output=True)
        check_classification_targets(y)
        present = self._present(y)
        self._fit(X, SigmoidLoss(np.where(present, 1.0, -1.0)), weights)
        return self

    def _present(self, y: NDArray[Any]) -> NDArray[np.bool_]:
        """(rows, labels); sets classes_."""
        kind = type_of_target(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if kind == "multilabel-indicator" or y.ndim == 2:
            if not ((y == 0) | (y == 1)).all():
                raise InputError("y has entries other than 0 and 1: pass a yes or no for every label")
            self.classes_ = np.arange(y.shape[1])
            return np.asarray(y == 1)
        self.classes_, index = np.unique(y, return_inverse=True)
        if kind == "multiclass" and len(self.classes_) > 2:
            raise InputError(
                f"Only binary classification is supported. The type of the target is {kind}: for classes that exclude "
                "each other use SoftmaxClassifier, for labels that may come together pass (rows, labels)"
            )
        if len(self.classes_) < 2:
            raise InputError(f"y has one class, {self.classes_[0]}: pass rows of both")
        return np.asarray(index[:, None] == 1)

    @property
    def _is_multilabel(self) -> bool:
        return len(self.coef_) > 1

    def decision_function(self, X: Any) -> Floats:
        """Scores (rows, labels); of two classes (rows,)."""
        scores = self._scores(X)
        return scores if self._is_multilabel else scores[:, 0]

    def predict_proba(self, X: Any) -> Floats:
        """The probability of each label (rows, labels); of two classes (rows, 2)."""
        scores = self._scores(X)
        return np.asarray(sigmoid(scores if self._is_multilabel else scores * [-1.0, 1.0]))

    def predict_log_proba(self, X: Any) -> Floats:
        """Their logarithms."""
        scores = self._scores(X)
        return np.asarray(log_sigmoid(scores if self._is_multilabel else scores * [-1.0, 1.0]))

    def predict(self, X: Any) -> NDArray[Any]:
        """0 and 1 (rows, labels), 1 where the probability is above 1/2; of two classes the likelier (rows,)."""
        yes = self._scores(X) > 0
        return yes.astype(np.int64) if self._is_multilabel else self.classes_[yes[:, 0].astype(np.int64)]
