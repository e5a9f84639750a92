"""The jobs of `softly fit` and `softly predict`, as calls: a labelled table to a model, new rows to their classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from softly._errors import InputError
from softly.files import check_output, replacing
from softly.files.problems import problem, quoted
from softly.files.rows import RowTable, RowWriter, is_parquet
from softly.models.assigner import UNASSIGNED, Assigner, AssignerReport, fit_assigner
from softly.models.declared import conformal_p_values
from softly.models.features import NO_ROWS, Features, text_column
from softly.models.saved import read_assigner, write_assigner


def fit_file(
    path: str | Path,
    *,
    label: str,
    out: str | Path,
    sequence: str | None = None,
    features: str | None = None,
    kmer: int = 4,
    l2: float = 1.0,
    target: float = 0.95,
    folds: int = 5,
    seed: int = 0,
    overwrite: bool = False,
) -> AssignerReport:
    """Fit a calibrated classifier on a labelled table, with a threshold below which rows stay unassigned; write it.

    - path: .csv, .csv.gz, .parquet, or FASTA (.fasta, .fa, .fna, also .gz), whose columns are `id`, `sequence` and the
      parts of its headers between |, `1`, `2`, ... label: the column of the classes.
    - sequence: a column of DNA, taken as its k-mers of `kmer` letters; FASTA has its own. features: a pattern of
      columns of numbers. Default: all of these but the label. They are standardised.
    - l2: the penalty of `SoftmaxClassifier`. target: the share of assigned rows that shall be right; the threshold is
      the least probability that achieves it on held-out rows. folds: 2 to 255, drawn by `seed`; equal rows are never
      both fitted and held out.

    All rows are in memory. Raises InputError naming file, row or column and remedy; nothing half-written is left.
    """
    if not 0 < target <= 1:
        raise InputError(f"target={target} is not a share above 0")
    if not 2 <= folds <= 255:
        raise InputError(f"folds={folds} is not in 2..255")
    if not 1 <= kmer <= 8:
        raise InputError(f"kmer={kmer} is not in 1..8")
    check_output(Path(out), overwrite=overwrite)
    table = RowTable(Path(path))
    table.require(label)
    chosen = Features.choose(table, label, sequence, features, kmer)
    parts, labels, start = [], list[str](), 0
    for batch in table.batches():
        parts.append(chosen.of(table, batch, start))
        labels += text_column(table, batch, label, start)
        start += len(batch)
    if not parts:
        raise problem(table.path, NO_ROWS)
    x = _stacked(parts)
    assigner, report = fit_assigner(x, np.array(labels), chosen, l2=l2, target=target, folds=folds, seed=seed)
    write_assigner(Path(out), assigner, overwrite=overwrite)
    return report


def predict_file(
    model: str | Path,
    path: str | Path,
    *,
    out: str | Path,
    declared: str | None = None,
    false_alarm: float = 0.05,
    overwrite: bool = False,
) -> dict[str, int]:
    """Write `path` with the columns `assigned` and a calibrated p_<class> each added; returns how many rows got what.

    declared: a column of declared classes, checked as by `softly.check_declared` at the rate `false_alarm`: adds
    `p_value` (empty for a class that the model has not seen) and `verdict`: fits, flagged or unknown.

    The columns are found by name; rows go through in batches. out: .csv or .parquet. Raises as `fit_file`.
    """
    output = Path(out)
    is_parquet(output)
    check_output(output, overwrite=overwrite)
    assigner, table = read_assigner(Path(model)), RowTable(Path(path))
    for name in (*assigner.features.columns, *(() if declared is None else (declared,))):
        table.require(name)
    if declared is not None:
        conformal_p_values(np.zeros(0), assigner.honest, false_alarm)
    counts: dict[str, int] = {"rows": 0, "assigned": 0, UNASSIGNED: 0}
    counts |= {} if declared is None else {"fits": 0, "flagged": 0, "unknown": 0}
    with replacing(output, overwrite=overwrite) as file:
        writer = RowWriter(file, output)
        for batch in table.batches():
            added = _added(assigner, table, batch, counts, declared, false_alarm)
            if twice := sorted(set(added) & set(table.names)):
                raise problem(table.path, f"has a column {quoted(twice[0])} already; rename it")
            writer.write(pa.RecordBatch.from_arrays([*batch.columns, *added.values()], [*table.names, *added]))
        if not counts["rows"]:
            raise problem(table.path, NO_ROWS)
        writer.close()
    return counts


def _added(
    assigner: Assigner, table: RowTable, batch: Any, counts: dict[str, int], declared: str | None, false_alarm: float
) -> dict[str, Any]:
    """The new columns of a batch; counts grow."""
    start = counts["rows"]
    p = assigner.predict_proba(assigner.features.of(table, batch, start))
    assigned = assigner.assign(p)
    counts["rows"] += len(p)
    counts[UNASSIGNED] += assigned.count(UNASSIGNED)
    counts["assigned"] = counts["rows"] - counts[UNASSIGNED]
    added = {"assigned": pa.array(assigned, pa.string())}
    if declared is not None:
        places = {name: i for i, name in enumerate(assigner.classes)}
        which = np.array([places.get(name, -1) for name in text_column(table, batch, declared, start)])
        claimed = np.where(which < 0, np.nan, p[np.arange(len(p)), which])
        values = conformal_p_values(claimed, assigner.honest, false_alarm)
        verdicts = np.where(which < 0, "unknown", np.where(values <= false_alarm, "flagged", "fits")).tolist()
        added |= {"p_value": pa.array(values, from_pandas=True), "verdict": pa.array(verdicts, pa.string())}
        for verdict in ("fits", "flagged", "unknown"):
            counts[verdict] += verdicts.count(verdict)
    names = (f"p_{name}" for name in assigner.classes)
    return added | {name: pa.array(np.ascontiguousarray(column)) for name, column in zip(names, p.T, strict=True)}


def _stacked(parts: list[Any]) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    from scipy.sparse import vstack

    return vstack(parts, format="csr")
