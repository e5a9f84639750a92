"""From rows to a class or "unassigned": a classifier, calibrated, with a threshold from rows it was not fitted on."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softly._errors import DegenerateFitWarning, InputError
from softly._records import Record
from softly.calibration.calibrator import fit_calibrator
from softly.calibration.engines import fold_of_rows
from softly.calibration.reliability import wilson
from softly.maps import softmax
from softly.models.classifier import ConvergenceWarning
from softly.models.features import Features
from softly.models.losses import Floats
from softly.models.softmax_classifier import SoftmaxClassifier

UNASSIGNED = "unassigned"
_TOLERANCE = 1e-6  # of the mean loss: far below what the rows can tell


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignerReport(Record):
    """How the model does on rows it was not fitted on (cross-fitting; equal rows stay in one fold).

    accuracy: of all rows, each given its likeliest class. threshold: the least probability that is assigned; assigned:
    the share of rows that reach it, accuracy_assigned among these with its 95 % interval [low, high].
    unseen: rows whose class no row of the other folds had; they count as wrong.
    """

    rows: int
    classes: int
    features: int
    folds: int
    accuracy: float
    unseen: int
    temperature: float
    calibration_status: str
    target: float
    threshold: float
    assigned: float
    accuracy_assigned: float
    low: float
    high: float

    def warnings(self) -> tuple[str, ...]:
        """What a user must know before trusting it."""
        found = []
        if self.calibration_status != "ok":
            found.append(f"no temperature could be fitted ({self.calibration_status}): T = 1 was kept")
        if self.assigned == 0:
            found.append(f"no threshold reaches an accuracy of {self.target:g} on held-out rows: all stay unassigned")
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigner:
    """What `fit` made; `honest`: the calibrated probabilities of held-out rows' own classes, for `check_declared`."""

    classes: tuple[str, ...]
    features: Features
    center: Floats
    scale: Floats
    coef: Floats
    intercept: Floats
    temperature: float
    threshold: float
    honest: Floats

    def predict_proba(self, x: Any) -> Floats:
        """Calibrated probabilities (rows, classes)."""
        scores = _scaled(x, self.center, self.scale) @ self.coef.T + self.intercept
        return np.asarray(softmax(scores, temperature=self.temperature))

    def assign(self, probabilities: Floats) -> list[str]:
        """The likeliest class of each row, or "unassigned" below the threshold."""
        best, most = probabilities.argmax(axis=1), probabilities.max(axis=1, initial=0)
        return [self.classes[i] if p >= self.threshold else UNASSIGNED for i, p in zip(best, most, strict=True)]


def fit_assigner(
    x: Any, labels: NDArray[Any], features: Features, *, l2: float, target: float, folds: int, seed: int
) -> tuple[Assigner, AssignerReport]:
    """Fit on all rows; choose temperature and threshold by cross-fitting."""
    classes, y = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"all rows are {str(classes[0])!r}: a classifier needs at least two classes")
    if UNASSIGNED in classes:
        raise InputError(f"a class is called {UNASSIGNED!r}, which is what rows without a class are called: rename it")
    fold = fold_of_rows(_groups(x), folds, seed)
    scores = np.full((len(y), len(classes)), -np.inf)
    for held in np.unique(fold):
        train, test = np.flatnonzero(fold != held), np.flatnonzero(fold == held)
        if len(np.unique(y[train])) < 2:
            raise InputError(f"fold {held} leaves fewer than two classes to fit: give more rows, or fewer folds")
        model, center, scale = _fit(x[train], y[train], l2)
        scores[np.ix_(test, model.classes_)] = _scaled(x[test], center, scale) @ model.coef_.T + model.intercept_
    own = scores[np.arange(len(y)), y]
    seen = own > -np.inf
    if not seen.any():
        raise InputError("no class has rows in two folds: nothing can be held out; give more rows of each class")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateFitWarning)  # told by its status
        calibrator = fit_calibrator(scores[seen], y[seen], classes=[str(name) for name in classes])
    p = softmax(scores, temperature=calibrator.temperature)
    hit = p.argmax(axis=1) == y
    threshold, kept = _threshold(p.max(axis=1), hit, target)
    low, high = wilson(np.array([hit[kept].sum()]), np.array([max(1, kept.sum())]))
    model, center, scale = _fit(x, y, l2)
    assigner = Assigner(
        classes=tuple(str(name) for name in classes),
        features=features,
        center=center,
        scale=scale,
        coef=model.coef_,
        intercept=model.intercept_,
        temperature=calibrator.temperature,
        threshold=threshold,
        honest=np.sort(p[np.arange(len(y)), y][seen]),
    )
    report = AssignerReport(
        rows=len(y),
        classes=len(classes),
        features=x.shape[1],
        folds=folds,
        accuracy=float(hit.mean()),
        unseen=int((~seen).sum()),
        temperature=calibrator.temperature,
        calibration_status=calibrator.status,
        target=target,
        threshold=threshold,
        assigned=float(kept.mean()),
        accuracy_assigned=float(hit[kept].mean()) if kept.any() else float("nan"),
        low=float(low[0]) if kept.any() else float("nan"),
        high=float(high[0]) if kept.any() else float("nan"),
    )
    return assigner, report


def _fit(x: Any, y: NDArray[np.int64], l2: float) -> tuple[SoftmaxClassifier, Floats, Floats]:
    """The classifier, and what its features are centred and scaled by: k-mer profiles have a scale of their own."""
    if isinstance(x, np.ndarray):
        center, scale = x.mean(axis=0), x.std(axis=0)
        scale[scale == 0] = 1.0
    else:
        center, scale = np.zeros(x.shape[1]), np.full(x.shape[1], 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # such a model is judged by held-out rows like any other
        return SoftmaxClassifier(l2=l2, tol=_TOLERANCE).fit(_scaled(x, center, scale), y), center, scale


def _scaled(x: Any, center: Floats, scale: Floats) -> Any:
    return (x - center) / scale if isinstance(x, np.ndarray) else x * (1 / scale)


def _groups(x: Any) -> NDArray[np.int64]:
    """A number for each row, the same for equal rows."""
    rows = x if isinstance(x, np.ndarray) else (x @ _signature(x.shape[1]))[:, None]
    return np.unique(rows, axis=0, return_inverse=True)[1].ravel().astype(np.int64)


def _signature(columns: int) -> Floats:
    """Weights under which different sparse rows have different sums."""
    return np.random.default_rng(0).normal(size=columns)


def _threshold(confidence: Floats, hit: NDArray[np.bool_], target: float) -> tuple[float, NDArray[np.bool_]]:
    """The least confidence from which on the rows are right as often as `target`; 1 + epsilon if there is none."""
    order = np.argsort(-confidence, kind="stable")
    accuracy = np.cumsum(hit[order]) / np.arange(1, len(order) + 1)
    last_of_ties = np.append(np.diff(confidence[order]) != 0, True)
    good = np.flatnonzero((accuracy >= target) & last_of_ties)
    threshold = float(confidence[order[good[-1]]]) if len(good) else float(np.nextafter(1, 2))
    return threshold, confidence >= threshold
