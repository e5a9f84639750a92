"""Probabilities and labels -> how right and how honest they are: accuracy, losses, calibration, by class.

Everything is read from `EvaluationStatistics`, which takes rows in batches and merges with others; batches,
their order and the grouping of merges change no bit of the result.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from softly._errors import InputError
from softly.calibration.evaluation import Claims, ClassRow, Estimate, Evaluation, ReliabilityBin
from softly.calibration.kinds import label_vector
from softly.calibration.outcomes import (
    Outcomes,
    blocks,
    check_probabilities,
    class_count,
    numbers,
    outcomes,
)
from softly.calibration.reliability import (
    Cells,
    calibration_errors,
    distinct_cells,
    equal_mass,
    equal_width,
    mean_estimate,
    reliability_table,
    width_edges,
)
from softly.calibration.tallies import IntArray, Losses, Tally

__all__ = [
    "Claims",
    "ClassRow",
    "Estimate",
    "Evaluation",
    "EvaluationStatistics",
    "Outcomes",
    "ReliabilityBin",
    "evaluate",
    "outcomes",
]

CLAIM = 0.9  # the confidence from which a row counts among the claims
HISTOGRAM_BINS = 50
EXACT_ROWS = 1_000_000  # up to here every confidence is kept
CELLS = 65_536  # beyond, confidences fall into so many equal parts of [0, 1]; losses always do into as many


def evaluate(
    probabilities: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    bins: int = 15,
    seed: int = 0,
    resamples: int = 200,
    classes: Sequence[str] | None = None,
) -> Evaluation:
    """How right, and how honest, `probabilities` are about rows whose classes are known.

    probabilities: (rows, classes) with rows that sum to 1, or (rows,) for the probability of class 1 of two.
    labels: (rows,) class indices of any integer dtype. bins: of the reliability tables, calibration errors.
    seed, resamples: of the bootstrap. classes: names, by default "0", "1" and so on.
    Raises InputError (a ValueError) that names the first bad row, counted from 0; TypeError for non-numbers.
    A label of probability 0 makes the log-loss infinite. Of equal probabilities the first class is predicted.

    >>> evaluate([[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]], [0, 1, 1]).brier.value  # (1/8 + 1/8 + 1/2) / 3
    0.25
    """
    array = numbers(probabilities)
    statistics = EvaluationStatistics.empty(class_count(array))
    statistics.update(array, labels)
    return statistics.evaluation(bins=bins, seed=seed, resamples=resamples, classes=classes)


@dataclass(eq=False, slots=True, kw_only=True)
class EvaluationStatistics:
    """All that an `Evaluation` needs of the rows seen so far, in memory that stops growing at a million rows.

    Tallies called paired hold misses and hits apart: place 2 i + hit belongs to i.
    """

    classes: int
    rows: int = 0
    labels: IntArray  # rows by class
    probability: Tally  # by class
    predicted: Tally  # confidence by predicted class, paired
    claimed: Tally  # confidence below and from CLAIM on, paired
    log_loss: Losses
    brier: Losses
    confidence: Tally  # by fixed cell, paired; takes over from `kept`, (confidence, hit), beyond EXACT_ROWS
    kept: list[tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]] = field(default_factory=list)

    @classmethod
    def empty(cls, classes: int) -> EvaluationStatistics:
        """Of no rows yet."""
        if classes < 2:
            raise InputError(f"probabilities: {classes} columns given; give two or more, or shape (rows,)")
        return cls(
            classes=classes,
            labels=np.zeros(classes, np.int64),
            probability=Tally.empty(classes),
            predicted=Tally.empty(2 * classes),
            claimed=Tally.empty(4),
            log_loss=Losses.empty(),
            brier=Losses.empty(),
            confidence=Tally.empty(2 * CELLS),
        )

    def update(
        self,
        probabilities: npt.ArrayLike,
        labels: npt.ArrayLike,
        *,
        label_log_probability: npt.NDArray[Any] | None = None,
    ) -> None:
        """Adds a batch of rows, as `evaluate` takes them; a batch that raises changes nothing.

        label_log_probability: (rows,), for a log-loss that is exact also where the label's probability underflows;
        default: the logarithm of that probability.
        """
        with np.errstate(all="ignore"):
            array = numbers(probabilities)
            target = label_vector(labels, len(array), self.classes, self.rows)
            check_probabilities(array, self.classes, self.rows)
            log_p = label_log_probability
            if log_p is not None and (np.shape(log_p) != (len(array),) or np.isnan(log_p).any()):
                given = f"shape {np.shape(log_p)} or NaN given for {len(array)} rows"
                raise InputError(f"label_log_probability: {given}; give one logarithm a row")
            claim = array.dtype.type(CLAIM)  # in the precision of the data: 0.9 in float32 does claim 0.9
            for start, block in blocks(array):
                rows = slice(start, start + len(block))
                self._add(block, target[rows], None if log_p is None else log_p[rows], claim)

    def _add(
        self,
        block: npt.NDArray[Any],
        labels: npt.NDArray[np.intp],
        log_p: npt.NDArray[Any] | None,
        claim: np.floating[Any],
    ) -> None:
        confidence, predicted, label_probability, squared_norm = outcomes(block, labels)
        hit = predicted == labels
        if log_p is None:
            log_p = np.log(label_probability, dtype=np.float64)
        brier = np.maximum(squared_norm - 2.0 * label_probability + 1.0, 0.0)

        self.rows += len(block)
        self.labels += np.bincount(labels, minlength=self.classes)
        self.probability.add_columns(block)
        self.predicted.add(2 * predicted + hit, confidence)
        self.claimed.add(2 * (confidence >= claim) + hit, confidence)
        self.log_loss.add(np.maximum(-log_p.astype(np.float64), 0.0))
        self.brier.add(brier)
        self.kept.append((confidence, hit))
        self._settle()

    def _settle(self) -> None:
        """Moves confidences into the fixed cells once there are too many rows to keep them all."""
        if self.rows > EXACT_ROWS:
            for confidence, hit in self.kept:
                cell = np.minimum((confidence * CELLS).astype(np.intp), CELLS - 1)
                self.confidence.add(2 * cell + hit, confidence)
            self.kept.clear()

    def merge(self, other: EvaluationStatistics) -> EvaluationStatistics:
        """The statistics of the rows of both; neither changes."""
        if self.classes != other.classes:
            raise InputError(f"other: {other.classes} classes given; give statistics of {self.classes}")
        parts = (item.name for item in fields(self) if item.name != "classes")
        merged = EvaluationStatistics(
            classes=self.classes, **{name: getattr(self, name) + getattr(other, name) for name in parts}
        )
        merged._settle()
        return merged

    def evaluation(
        self, *, bins: int = 15, seed: int = 0, resamples: int = 200, classes: Sequence[str] | None = None
    ) -> Evaluation:
        """The figures for the rows seen; arguments as in `evaluate`."""
        limits = (("bins", bins, 1, 10_000), ("seed", seed, 0, 2**128), ("resamples", resamples, 1, 100_000))
        for name, value, least, most in limits:
            if not least <= operator.index(value) <= most:
                raise InputError(f"{name}: {value} given; give {least} to {most}")
        names = tuple(map(str, range(self.classes) if classes is None else classes))
        if len(names) != self.classes:
            raise InputError(f"classes: {len(names)} names given for {self.classes} classes; give one each")
        if not self.rows:
            raise InputError("probabilities: no rows given; an evaluation needs at least one")
        with np.errstate(all="ignore"):
            return self._evaluation(bins, np.random.SeedSequence(seed), resamples, names)

    def _evaluation(
        self, bins: int, seed: np.random.SeedSequence, resamples: int, names: tuple[str, ...]
    ) -> Evaluation:
        for_errors, for_log_loss, for_brier = seed.spawn(3)
        cells = self._cells()
        mass, width = equal_mass(cells, bins), equal_width(cells, bins)
        errors = calibration_errors(cells, mass, width, seed=for_errors, resamples=resamples)
        claims = self.claimed.pairs()
        histogram, _ = np.histogram(cells.confidence, width_edges(HISTOGRAM_BINS), weights=cells.rows)
        return Evaluation(
            rows=self.rows,
            classes=self.classes,
            log_loss=mean_estimate(self.log_loss, seed=for_log_loss, resamples=resamples),
            brier=mean_estimate(self.brier, seed=for_brier, resamples=resamples),
            mean_confidence=self.predicted.total() / self.rows,
            reliability=reliability_table(cells, mass),
            reliability_equal_width=reliability_table(cells, width),
            per_class=self._per_class(names),
            claims=Claims(
                threshold=CLAIM,
                count=int(claims.rows[1]),
                claimed=float(claims.sums[1] / claims.rows[1]),
                correct=float(claims.hits[1] / claims.rows[1]),
            ),
            confidence_histogram=tuple(histogram.tolist()),
            exact=bool(self.kept),
            **errors._asdict(),
        )

    def _cells(self) -> Cells:
        if self.kept:
            confidence, hit = (np.concatenate(column) for column in zip(*self.kept, strict=True))
            return distinct_cells(confidence.astype(np.float64), hit)
        cells = self.confidence.pairs()
        used = cells.rows > 0
        return Cells((cells.sums / cells.rows)[used], cells.rows[used], cells.hits[used])

    def _per_class(self, names: tuple[str, ...]) -> tuple[ClassRow, ...]:
        given = self.predicted.pairs()
        confidence, precision = given.sums / given.rows, given.hits / given.rows
        columns = {
            "count": self.labels,
            "predicted": given.rows,
            "recall": given.hits / self.labels,
            "precision": precision,
            "mean_probability": self.probability.sums() / self.rows,
            "frequency": self.labels / self.rows,
            "confidence": confidence,
            "gap": confidence - precision,
        }
        worst_first = np.argsort(-np.abs(np.nan_to_num(confidence - precision)) * given.rows, kind="stable")
        rows = zip(*(column[worst_first].tolist() for column in columns.values()), strict=True)
        return tuple(
            ClassRow(name=names[index], **dict(zip(columns, row, strict=True)))
            for index, row in zip(worst_first.tolist(), rows, strict=True)
        )
