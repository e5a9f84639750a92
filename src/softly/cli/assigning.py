"""fit and predict: run a job, say what came of it."""

from __future__ import annotations

from typing import Any

from softly.cli import printable, screen
from softly.cli.fitting import number
from softly.models import jobs
from softly.models.assigner import AssignerReport
from softly.report.figures import percent


def fit(path: str, *, out: str, as_json: bool, **options: Any) -> AssignerReport:
    """Run `softly.fit_file`; print how held-out rows fared."""
    report = jobs.fit_file(path, out=out, **options)
    for warning in report.warnings():
        screen.warn(warning)
    if as_json:
        screen.print_json({**report.to_dict(), "model": out})
        return report
    page = screen.Screen()
    page.print(
        f"{report.rows:,} rows, {report.classes:,} classes, {report.features:,} features. On rows that were not fitted "
        f"({report.folds} folds):"
    )
    page.print()
    table = screen.table("", "")
    table.show_header = False
    table.add_row("Accuracy", percent(report.accuracy, 1))
    table.add_row("Temperature", number(report.temperature))
    table.add_row("Assigned from", screen.probability(report.threshold))
    table.add_row("Rows assigned", percent(report.assigned, 1))
    if report.assigned:
        interval = f"[{percent(report.low, 1)}, {percent(report.high, 1)}]"
        table.add_row("Accuracy of these", f"{percent(report.accuracy_assigned, 1)} {interval}")
    page.print(table)
    page.print()
    page.copyable(f"model  {printable(out)}")
    return report


def predict(model: str, path: str, *, out: str, as_json: bool, **options: Any) -> None:
    """Run `softly.predict_file`; print how many rows got what."""
    counts = jobs.predict_file(model, path, out=out, **options)
    if as_json:
        screen.print_json({**counts, "file": out})
        return
    said = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    screen.Screen().copyable(f"{said}: {printable(out)}")
