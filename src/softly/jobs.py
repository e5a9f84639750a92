"""The jobs of the command line, as calls: files of scores in, calibrator, probabilities and report out.

Every job reads its source in batches, so memory does not grow with the rows.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from softly import __version__
from softly._errors import InputError, RowError
from softly.calibration.calibrator import Calibrator, from_fit
from softly.calibration.engines import ScoreBatch, fit_stream, fold_of_rows
from softly.calibration.evaluation import Evaluation
from softly.calibration.kinds import Kind, look_like_probabilities, to_logits
from softly.calibration.metrics import EvaluationStatistics
from softly.files import ScoreSource, TableWriter, check_output, open_scores, replacing
from softly.files.sources import Batch
from softly.maps import log_softmax, softmax
from softly.report import CalibrationReport

Progress = Callable[[str, int, int | None], None]  # stage, rows done, rows in all if known


class Outputs(NamedTuple):
    """Where `calibrate_file` writes."""

    calibrator: Path
    probabilities: Path
    report: Path

    @classmethod
    def of(cls, directory: Path, source: ScoreSource) -> Outputs:
        """The three files in a directory; the probabilities have the format of the source."""
        return cls(
            directory / "calibrator.json",
            directory / f"probabilities{source.suffix}",
            directory / "report.html",
        )


def calibrate_file(
    path: str | Path,
    *,
    label: str | None,
    out: str | Path,
    scores: str | None = None,
    classes: Sequence[str] | None = None,
    kind: Kind | None = None,
    folds: int = 5,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> CalibrationReport:
    """Fit a temperature on a file of scores and labels; write calibrator, calibrated probabilities and report to `out`.

    The figures of the report are cross-fitted: each row is judged at the temperature fitted without its fold. The
    calibrator is then that of all rows. path, label, scores, classes: as `softly.files.open_scores`. kind: None means
    logits, refused if they look like probabilities. folds: 2 to 255, drawn by `seed`.

    Raises InputError naming file, row or column and remedy; nothing half-written is left behind.
    """
    if not 2 <= folds <= 255:
        raise InputError(f"folds={folds} is not in 2..255")
    if seed < 0:
        raise InputError(f"seed={seed} is negative: give 0 or more")
    directory = _checked_path(out, "out")
    with _directory(directory), ExitStack() as files:
        source = open_scores(path, label=label, scores=scores, classes=classes)
        outputs = Outputs.of(directory, source)
        for output in outputs:
            _refuse_among_inputs(source, output)
            check_output(output, overwrite=overwrite)
        stream = _FileStream(source, kind, progress)
        with _located(source):
            fit, *without_fold = fit_stream(stream, folds=folds, seed=seed)
            temperatures = np.array([fold_fit.temperature for fold_fit in without_fold])
            before, after = (EvaluationStatistics.empty(len(source.classes)) for _ in range(2))
            # All three are written before the first gets its name.
            calibrator_file = files.enter_context(replacing(outputs.calibrator, overwrite=overwrite))
            report_file = files.enter_context(replacing(outputs.report, overwrite=overwrite))
            writer = files.enter_context(TableWriter(outputs.probabilities, source, overwrite=overwrite))
            for batch, rows in stream.pairs("evaluating and writing", with_table=True):
                held_out = temperatures[fold_of_rows(rows.numbers, folds, seed)]
                _tally(before, rows, 1.0)
                _tally(after, rows, held_out)
                writer.write(batch, softmax(rows.scores, temperature=fit.temperature))
        calibrator = from_fit(fit, kind or "logits", source.classes)
        report = CalibrationReport(
            source=Path(path).name,
            rows=fit.rows,
            classes=source.classes,
            kind=calibrator.kind,
            folds=folds,
            seed=seed,
            calibrator=calibrator,
            before=before.evaluation(seed=seed, classes=source.classes),
            after=after.evaluation(seed=seed, classes=source.classes),
            created=datetime.date.today().isoformat(),
            version=__version__,
            fold_statuses=tuple(fold_fit.status for fold_fit in without_fold),
        )
        for file, text in ((calibrator_file, calibrator.to_json()), (report_file, report.to_html())):
            file.write(text.encode())
            file.flush()
    return report


def apply_file(
    calibrator_path: str | Path,
    path: str | Path,
    *,
    out: str | Path,
    scores: str | None = None,
    classes: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write `path` with calibrated probabilities p_<class> added to `out`, in the same format; returns the rows.

    The columns' names, or `classes`, must be the calibrator's in any order; columns that are bare numbers (0, 1, ...)
    get its names.
    """
    output = _checked_path(out, "out")
    calibrator = load_calibrator(calibrator_path)
    source = open_scores(path, scores=scores, classes=classes, labels_required=False)
    same = set(source.classes) == set(calibrator.classes)
    numbered = source.classes == tuple(map(str, range(len(calibrator.classes))))
    if source.classes != calibrator.classes and (same or numbered):
        source = open_scores(path, scores=scores, classes=calibrator.classes, labels_required=False)
    _check_classes(calibrator, source)
    _refuse_among_inputs(source, output)
    stream = _FileStream(source, calibrator.kind, progress, trust=False)
    rows = 0
    with _located(source), TableWriter(output, source, overwrite=overwrite) as writer:
        for batch, logits in stream.pairs("applying", with_table=True):
            writer.write(batch, softmax(logits.scores, temperature=calibrator.temperature))
            rows += len(logits.scores)
    return rows


def evaluate_file(
    path: str | Path,
    *,
    label: str | None,
    scores: str | None = None,
    classes: Sequence[str] | None = None,
    kind: Kind | None = None,
    bins: int = 15,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """How right and how honest the probabilities of a file's scores are, as they stand; see `softly.evaluate`."""
    source = open_scores(path, label=label, scores=scores, classes=classes)
    statistics = EvaluationStatistics.empty(len(source.classes))
    with _located(source):
        for rows in _FileStream(source, kind, progress).scan("evaluating"):
            _tally(statistics, rows, 1.0)
    return statistics.evaluation(bins=bins, seed=seed, classes=source.classes)


def load_calibrator(path: str | Path) -> Calibrator:
    """The calibrator in a JSON file; InputError names the file and what is wrong with it."""
    remedy = "give the calibrator.json that `softly calibrate` wrote"
    try:
        if not Path(path).is_file() and Path(path).exists():  # a pipe would wait for a writer
            raise InputError(f"{path}: not a regular file; {remedy}")
        text = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    try:
        return Calibrator.from_json(text)
    except InputError as error:
        raise InputError(f"{path}: {error}; {remedy}") from None


def _tally(statistics: EvaluationStatistics, rows: ScoreBatch, temperature: Any) -> None:
    """Add softmax(scores / temperature) of a batch, its log-loss exact where a probability underflows."""
    log_p = log_softmax(rows.scores, temperature=temperature)[np.arange(len(rows.labels)), rows.labels]
    p = softmax(rows.scores, temperature=temperature)
    try:
        statistics.update(p, rows.labels, label_log_probability=log_p)
    except InputError:
        impossible = ~p.any(axis=1)
        if impossible.any():
            raise RowError(
                int(rows.numbers[impossible.argmax()]), "every score is -inf, so that nothing is possible: mend the row"
            ) from None
        raise


class _FileStream:
    """A source of files as logits, scan by scan."""

    def __init__(
        self, source: ScoreSource, kind: Kind | None, progress: Progress | None, *, trust: bool = True
    ) -> None:
        self.source, self.kind, self.progress = source, kind or "logits", progress
        self.questioned = kind is None or (kind == "logits" and not trust)

    @property
    def rows(self) -> int | None:
        return self.source.rows

    def scan(self, stage: str) -> Iterator[ScoreBatch]:
        return (rows for _, rows in self.pairs(stage))

    def pairs(self, stage: str, *, with_table: bool = False) -> Iterator[tuple[Batch, ScoreBatch]]:
        """Each batch as it stands in the file, and as logits; at the end of the first scan, are they logits at all?"""
        suspicious, done = self.questioned, 0
        for batch in self.source.batches(with_table=with_table):
            suspicious = suspicious and look_like_probabilities(batch.scores)
            logits = to_logits(batch.scores, self.kind, first_row=batch.start, trust=True)
            labels = np.zeros(0, np.int64) if batch.labels is None else batch.labels
            done = batch.start + len(logits)
            yield batch, ScoreBatch(logits, labels, None, np.arange(batch.start, done))
            if self.progress:
                self.progress(stage, done, self.source.rows)
        if suspicious and done > 1:
            raise InputError(
                f"{self.source.path}: scores look like probabilities (all lie in [0, 1]; several columns sum to 1); "
                "calibrate and evaluate take --kind probabilities, or --kind logits if logits they are"
            )
        self.questioned = False


@contextmanager
def _located(source: ScoreSource) -> Iterator[None]:
    """Name the place in the file where an error names a row."""
    try:
        yield
    except RowError as error:
        raise InputError(f"{source.location(error.row)}: {error.what}") from None


@contextmanager
def _directory(path: Path) -> Iterator[None]:
    """Make an output directory; take it away again if nothing came of it."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{path}: is a file, or below one; give a directory for the three outputs") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be made ({error.strerror}); choose another directory") from error
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for made in missing:
                made.rmdir()
        raise


def _checked_path(path: str | Path, name: str) -> Path:
    if not os.fspath(path):
        raise InputError(f"{name} is empty; give a path")
    return Path(path)


def _refuse_among_inputs(source: ScoreSource, output: Path) -> None:
    """An output among the Parquet files of a directory or pattern would be an input of the next run."""
    target = Path(os.path.realpath(output))
    directory = source.path.is_dir() and target.parent == Path(os.path.realpath(source.path))
    pattern = not source.path.exists() and Path(os.path.abspath(output)).match(os.path.abspath(source.path))
    if directory or pattern:
        raise InputError(f"{output}: would stand among its own inputs, {source.path}; choose another place")


def _check_classes(calibrator: Calibrator, source: ScoreSource) -> None:
    """The same classes; by count alone if the calibrator was fitted on classes that are bare numbers."""
    fitted, found = calibrator.classes, source.classes
    if len(found) != len(fitted):
        raise InputError(
            f"{source.path}: {len(found)} classes of scores, but the calibrator was fitted on {len(fitted)}; "
            "choose its columns with --scores"
        )
    if found != fitted and fitted != tuple(map(str, range(len(fitted)))):
        i = next(i for i, (a, b) in enumerate(zip(found, fitted, strict=True)) if a != b)
        raise InputError(
            f"{source.path}: class {i} of the scores is {found[i]!r}, but {fitted[i]!r} in the calibrator; "
            "choose the columns with --scores, or name them with --classes"
        )
