"""One table in every format, and its copy with probabilities: what the tests of files write."""

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq

from softly.files import Batch, ScoreSource, TableWriter, open_scores

ROWS = 500
SUFFIXES = (".csv", ".csv.gz", ".parquet", ".arrow", ".feather", ".npy", ".npz")


def table(rows: int = ROWS) -> pa.Table:
    rng = np.random.default_rng(3)
    return pa.table(
        {
            "id": pa.array([f'r{row}, "{row}"' for row in range(rows)]),
            "logit_cat": rng.normal(size=rows).astype(np.float32),
            "when": pa.array(range(rows), pa.timestamp("us")),
            "logit_dog": rng.normal(size=rows).astype(np.float32),
            "label": pa.array([("cat", "dog")[row % 2] for row in range(rows)]).dictionary_encode(),
            "note": pa.array([None if row % 3 else [row] for row in range(rows)], pa.list_(pa.int64())),
        },
        metadata={"origin": "a test"},
    )


def save(suffix: str, folder: Path, rows: int = ROWS) -> ScoreSource:
    path, data = folder / f"in{suffix}", table(rows)
    logits = np.stack([data["logit_cat"].to_numpy(), data["logit_dog"].to_numpy()], axis=1)
    match suffix:
        case ".csv" | ".csv.gz":
            text = io.StringIO()
            writer = csv.writer(text)
            writer.writerow(["id", "logit_cat", "logit_dog", "label"])
            columns = (data[name].to_pylist() for name in ("id", "logit_cat", "logit_dog", "label"))
            writer.writerows(zip(*columns, strict=True))
            raw = text.getvalue().encode()
            path.write_bytes(gzip.compress(raw) if suffix.endswith("gz") else raw)
        case ".parquet":
            pq.write_table(data, path, compression="zstd", row_group_size=70)
        case ".arrow":
            with pa.ipc.new_file(str(path), data.schema) as writer:
                writer.write_table(data, max_chunksize=90)
        case ".feather":
            pyarrow.feather.write_feather(data, path)
        case ".npy":
            np.save(path, logits)
            return open_scores(path, labels_required=False, batch_rows=64)
        case ".npz":
            np.savez(path, logits=logits, y=np.arange(rows) % 2, extra=np.eye(3), names=["cat", "dog"])
            return open_scores(path, batch_rows=64)
    return open_scores(path, label="label", batch_rows=64)


def probabilities(scores: np.ndarray) -> np.ndarray:
    p = 1 / (1 + np.exp(scores[:, 1] - scores[:, 0]))
    return np.stack([p, 1 - p], axis=1)


def copy(
    source: ScoreSource,
    path: Path,
    *,
    overwrite: bool = False,
    then: Callable[[Batch], object] = lambda batch: None,
) -> np.ndarray:
    """Write the source with probabilities, call `then` after each batch; return the probabilities."""
    with TableWriter(path, source, overwrite=overwrite) as writer:
        for batch in source.batches(with_table=True):
            writer.write(batch, probabilities(batch.scores))
            then(batch)
    return probabilities(np.concatenate([batch.scores for batch in source.batches()]))


def write_one(
    source: ScoreSource, path: Path, change: Callable[[Batch], Batch] = lambda batch: batch, width: int = 2
) -> None:
    """Write the first batch only, changed."""
    with TableWriter(path, source, overwrite=False) as writer:
        batch = change(next(source.batches(with_table=True)))
        writer.write(batch, np.zeros((len(batch.scores), width)))


def read_table(path: Path) -> pa.Table:
    return pq.read_table(path) if path.suffix == ".parquet" else pyarrow.feather.read_table(path)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read(source: ScoreSource) -> tuple[np.ndarray, np.ndarray | None]:
    batches = list(source.batches())
    labels = None if batches[0].labels is None else np.concatenate([batch.labels for batch in batches])
    return np.concatenate([batch.scores for batch in batches]), labels


def csv_file(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def parquet(folder: Path, columns: Any, name: str = "t.parquet") -> Path:
    pq.write_table(pa.table(columns), folder / name)
    return folder / name


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "t.npz", **arrays)
    return folder / "t.npz"
