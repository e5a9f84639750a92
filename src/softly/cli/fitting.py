"""calibrate, apply, evaluate and demo: run a job, say what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from softly import jobs
from softly.calibration.evaluation import Estimate, Evaluation
from softly.cli import printable, screen
from softly.files import open_scores
from softly.report import CalibrationReport
from softly.report.figures import number as figure
from softly.report.figures import percent

Measure = tuple[str, Callable[[Evaluation], str]]


def calibrate(
    path: str | Path,
    *,
    label: str | None,
    out: str,
    scores: str | None = None,
    classes: Sequence[str] | None = None,
    as_json: bool = False,
    **options: Any,
) -> CalibrationReport:
    """Run `softly.jobs.calibrate_file`; print the verdict, before and after, and where the files are."""
    columns: dict[str, Any] = {"label": label, "scores": scores, "classes": classes}
    outputs = jobs.Outputs.of(Path(out), open_scores(path, **columns))
    with screen.progress(show=not as_json) as progress:
        report = jobs.calibrate_file(path, out=out, progress=progress, **columns, **options)
    for warning in report.warnings():
        screen.warn(warning)
    files = {name: str(file) for name, file in outputs._asdict().items()}
    if as_json:
        screen.print_json({**report.to_dict(), "files": files})
        return report

    page = screen.Screen()
    page.print(printable(report.verdict()), style="bold")
    page.print()
    page.print(_measures(("Before", report.before), ("After", report.after)))
    page.print()
    page.print(f"{_temperature(report)} The figures are for rows that were not fitted ({report.folds} folds).")
    page.print()
    for name, file in files.items():
        page.copyable(f"{name:<15}{printable(file)}")
    return report


def apply(calibrator: str, path: str, *, out: str, **options: Any) -> None:
    """Run `softly.jobs.apply_file`; print how many rows went where."""
    with screen.progress() as progress:
        rows = jobs.apply_file(calibrator, path, out=out, progress=progress, **options)
    screen.Screen().copyable(f"{rows:,} rows with calibrated probabilities: {printable(out)}")


def evaluate(path: str, *, as_json: bool, **options: Any) -> None:
    """Run `softly.jobs.evaluate_file`; print the measures and the reliability table."""
    with screen.progress(show=not as_json) as progress:
        evaluation = jobs.evaluate_file(path, progress=progress, **options)
    if as_json:
        screen.print_json(evaluation.to_dict())
        return
    page = screen.Screen()
    page.print(f"{evaluation.rows:,} rows, {evaluation.classes:,} classes; 95 % intervals in brackets")
    page.print()
    page.print(_measures(("", evaluation)))
    page.print()
    page.print(_reliability(evaluation))


def _measures(*evaluations: tuple[str, Evaluation]) -> Any:
    """A row for each measure, a column for each (heading, evaluation)."""
    table = screen.table("", *(heading for heading, _ in evaluations))
    table.show_header = len(evaluations) > 1
    for name, show in _MEASURES:
        table.add_row(name, *(show(evaluation) for _, evaluation in evaluations))
    return table


def _reliability(evaluation: Evaluation) -> Any:
    table = screen.table("Confidence", "Rows", "Claimed", "Right")
    for item in evaluation.reliability:
        right = f"{percent(item.accuracy, 1)} [{percent(item.accuracy_low, 1)}, {percent(item.accuracy_high, 1)}]"
        table.add_row(
            f"{screen.probability(item.low)} to {screen.probability(item.high)}",
            f"{item.count:,}",
            percent(item.confidence, 1),
            right,
        )
    return table


def _temperature(report: CalibrationReport) -> str:
    calibrator = report.calibrator
    if calibrator.interval is None:
        status = calibrator.status.replace("_", "-")
        return f"Temperature {number(calibrator.temperature)}: none could be fitted (the scores are {status})."
    low, high = map(number, calibrator.interval)
    rows = f"fitted on all {calibrator.rows:,} rows"
    return f"Temperature {number(calibrator.temperature)}, 95 % interval {low} to {high}, {rows}."


def number(value: float) -> str:
    """As the report writes it, with infinity in words and a plain minus sign."""
    return str(value) if math.isinf(value) else figure(value).replace("\u2212", "-")


def _estimate(field: str, write: Callable[[float], str] = number) -> Callable[[Evaluation], str]:
    def show(evaluation: Evaluation) -> str:
        estimate: Estimate = getattr(evaluation, field)
        if not math.isfinite(estimate.value):
            return number(estimate.value)
        return f"{write(estimate.value)} [{write(estimate.low)}, {write(estimate.high)}]"

    return show


def _claims(evaluation: Evaluation) -> str:
    claims = evaluation.claims
    return f"{percent(claims.correct, 1)} of {claims.count:,} right" if claims.count else "none made"


_MEASURES: tuple[Measure, ...] = (
    ("Accuracy", _estimate("accuracy", lambda share: percent(share, 1))),
    ("Mean confidence", lambda evaluation: percent(evaluation.mean_confidence, 1)),
    ("Claims of 90 % and more", _claims),
    ("Log-loss", _estimate("log_loss")),
    ("Brier score", _estimate("brier")),
    ("ECE, equal-mass bins", _estimate("ece")),
    ("ECE, equal-width bins", _estimate("ece_equal_width")),
    (
        "ECE by chance alone",
        lambda evaluation: f"{number(evaluation.ece_by_chance)}, up to {number(evaluation.ece_by_chance_high)}",
    ),
    ("Squared error, debiased", _estimate("squared_calibration_error")),
)
