"""Kernel regression as an estimator: its bandwidth from leave-one-out errors, and how sure it is of each mean."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from softly._errors import InputError
from softly.regression import Averages, check_bandwidth, gaussian_averages, prepare

try:
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.utils.validation import check_is_fitted, validate_data
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "sklearn":
        raise
    raise InputError("the models need scikit-learn: run pip install 'softly[sklearn]'") from error

Floats = NDArray[np.float64]

_LADDER = 2.0 ** (np.arange(-12, 7) / 2)  # multiples of the features' standard deviations
_FINE = 2.0 ** (np.arange(-3, 4) / 8)  # of the best of them
_OF_ONE_FEATURE = np.array([1 / 4, 1 / 2, 2**-0.5, 2**0.5, 2, 4, 64])  # of its bandwidth


class Estimates(NamedTuple):
    """What `NadarayaWatson.estimate` returns: (rows, *outputs), (rows, *outputs), (rows,)."""

    mean: Floats
    standard_error: Floats
    effective_sample_size: Floats


class NadarayaWatson(RegressorMixin, BaseEstimator):
    """Means of y weighted by a Gaussian kernel around each row: `kernel_regression`, its bandwidth from the data.

    - bandwidth: "loo", h > 0, or one a feature. "loo" takes, of a ladder of multiples of the features' standard
      deviations, the one with the least mean squared error of each point's mean without itself. These means are exact:
      the point is left out of both sums, not subtracted from them. A rung costs one pass over all pairs of points.
    - per_feature: with "loo", whether each feature's bandwidth is then moved by itself, in two rounds; a feature that
      says nothing of y gets a large one.

    Attributes: bandwidth_ (features,); loo_error_, the mean squared leave-one-out error at it; n_features_in_,
    feature_names_in_ as in scikit-learn.

    X: (rows, features), finite; y: (rows,) or (rows, outputs). Raises ValueError that says what does not fit; one row
    alone needs a bandwidth given. Far from all data the nearest rows share. Source: Nadaraya 1964; Watson 1964.

    >>> import numpy as np
    >>> x = np.linspace(0, 6, 40)[:, None]
    >>> model = NadarayaWatson().fit(x, np.sin(x[:, 0]))
    >>> model.predict([[1.5], [1e6]]).round(2)
    array([ 1.  , -0.28])
    """

    def __init__(self, bandwidth: Any = "loo", *, per_feature: bool = False) -> None:
        self.bandwidth = bandwidth
        self.per_feature = per_feature

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any) -> NadarayaWatson:
        """Keep the rows and find bandwidth_."""
        X, y = validate_data(self, X, y, dtype=np.float64, order="C", multi_output=True, y_numeric=True)
        self._x, self._y = X, np.asarray(y, np.float64)
        if isinstance(self.bandwidth, str):
            if self.bandwidth != "loo":
                raise InputError(f"bandwidth={self.bandwidth!r} is unknown: pass 'loo' or numbers above 0")
            if len(X) < 2:
                raise InputError("X has n_samples=1: leave-one-out needs 2 or more; pass a bandwidth")
            self.bandwidth_ = self._least_error()
        else:
            self.bandwidth_ = check_bandwidth(self.bandwidth, X.shape[1])
        self.loo_error_ = self._error(self.bandwidth_) if len(X) > 1 else math.nan
        return self

    def predict(self, X: Any) -> Floats:
        """The means (rows, *outputs)."""
        means: Floats = self._shaped(self._averages(self._rows(X), self._y, self.bandwidth_).mean)
        return means

    def estimate(self, X: Any) -> Estimates:
        """The means, their standard errors, and how many rows they are means of.

        effective_sample_size is 1 / sum p^2 for the weights p. standard_error is sqrt(sum p^2 r^2) with the
        leave-one-out residuals r of the fitted rows: no variance is supposed to be the same everywhere, and a bias that
        smoothing brings is not in it. p^2 is a Gaussian kernel of bandwidth h / sqrt 2, so that this is one more
        regression. Where one row has all the weight it is that row's |r|.
        """
        X = self._rows(X)
        if len(self._x) < 2:
            raise InputError("the model was fitted on one row: there are no residuals; fit on 2 or more")
        found = self._averages(X, self._y, self.bandwidth_)
        squares = self._residuals(self.bandwidth_) ** 2
        variance = self._averages(X, squares, self.bandwidth_ / math.sqrt(2)).mean * found.sharing[:, None]
        return Estimates(self._shaped(found.mean), self._shaped(np.sqrt(variance)), 1 / found.sharing)

    def leave_one_out(self) -> Floats:
        """Each fitted row's mean without itself (rows, *outputs)."""
        check_is_fitted(self)
        means: Floats = self._shaped(self._y.reshape(len(self._x), -1) - self._residuals(self.bandwidth_))
        return means

    def _rows(self, X: Any) -> Any:
        check_is_fitted(self)
        return validate_data(self, X, dtype=np.float64, order="C", reset=False)

    def _shaped(self, result: Any) -> Any:
        return result.reshape(result.shape[0], *self._y.shape[1:])

    def _averages(self, x: Any, y: Any, bandwidth: Floats, *, leave_out: bool = False) -> Averages:
        return gaussian_averages(prepare(self._x, y, x, bandwidth, None), leave_out=leave_out)

    def _residuals(self, bandwidth: Floats) -> Any:
        """y less the leave-one-out means (rows, outputs)."""
        found = self._averages(self._x, self._y, bandwidth, leave_out=True)
        return self._y.reshape(len(self._x), -1) - found.mean

    def _error(self, bandwidth: Floats) -> float:
        return float(np.mean(self._residuals(bandwidth) ** 2))

    def _least_error(self) -> Floats:
        """Down the ladder, around its best rung, then feature by feature."""
        deviation = self._x.std(axis=0)
        unit = np.where(deviation > 0, deviation, 1.0)
        best = unit
        for ladder in (_LADDER, _FINE):
            best = min((best * rung for rung in ladder), key=self._error)
        if self.per_feature:
            for feature in [*range(len(unit))] * 2:
                ladder = np.ones((len(_OF_ONE_FEATURE) + 1, len(unit)))
                ladder[1:, feature] = _OF_ONE_FEATURE
                best = min(best * ladder, key=self._error)
        return best
