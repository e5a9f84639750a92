"""Ten million rows: memory does not grow with them, and the fit is that of the rows in memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import softly

ROWS, CLASSES, BATCH = 10_000_000, 10, 500_000

# VmHWM, because ru_maxrss of a new process counts what its parent held.
CALIBRATE = """
import json, pathlib, sys
import softly
report = softly.calibrate_file(sys.argv[1], label="label", out=sys.argv[2])
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
peak = int(status["VmHWM"].split()[0]) / 1024
print(json.dumps([peak, report.calibrator.temperature, report.after.rows]))
"""


def batches():
    rng = np.random.default_rng(1)
    for _ in range(ROWS // BATCH):
        scores = (3 * rng.normal(size=(BATCH, CLASSES))).astype(np.float32)
        yield scores, np.argmax(scores / 2 + rng.gumbel(size=scores.shape), axis=1)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
def test_calibrating_ten_million_rows_takes_under_a_gigabyte(tmp_path):
    schema = pa.schema([(f"logit_{c}", pa.float32()) for c in range(CLASSES)] + [("label", pa.int64())])
    with pq.ParquetWriter(tmp_path / "scores.parquet", schema) as writer:
        for scores, labels in batches():
            writer.write_table(pa.table([*(column.copy() for column in scores.T), labels], schema=schema))
    command = [sys.executable, "-c", CALIBRATE, str(tmp_path / "scores.parquet"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, temperature, rows = json.loads(done.stdout)
    assert peak < 1000
    assert rows == ROWS
    parts = list(batches())
    scores, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    in_memory = softly.fit_calibrator(scores, labels)
    assert temperature == pytest.approx(in_memory.temperature, rel=1e-8)
    low, high = in_memory.interval
    assert low < 2 < high
