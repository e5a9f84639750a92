"""Bad files: one line that names the file, the row, what was found and what to do."""

import gzip
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from files_complaints import Options, complaint
from files_examples import csv_file

from softly._errors import InputError
from softly.files import open_scores

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 4

# ---- what is not a file of scores at all


@pytest.fixture
def strange(tmp_path: Path) -> Iterator[Path]:
    os.mkfifo(tmp_path / "fifo.csv")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket.parquet"))
        (tmp_path / "empty").mkdir()
        (tmp_path / "folder.csv").mkdir()
        (tmp_path / "pipes").mkdir()
        os.mkfifo(tmp_path / "pipes" / "a.parquet")
        (tmp_path / "loop.csv").symlink_to("loop.csv")
        for name in ("a.txt", "noname", "x.parquet.gz", "zero.csv", "zero.parquet", "zero.npz", "zero.npy"):
            (tmp_path / name).touch()
        yield tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("missing.csv", "no such file"),
        ("missing", "no such file"),
        ("a.txt/b.csv", "cannot be read (Not a directory)"),
        ("loop.csv", "cannot be read"),
        ("x" * 300 + ".csv", "cannot be read (File name too long)"),
        ("fifo.csv", "a pipe, not a regular file"),
        ("socket.parquet", "a socket, not a regular file"),
        ("pipes", "a pipe, not a regular file"),
        ("pipes/*.parquet", "a pipe, not a regular file"),
        ("empty", "no .parquet files there"),
        ("folder.csv", "no .parquet files there"),
        ("*.nothing", "no .parquet files there"),
        ("*.txt", "not a Parquet file; a pattern may match Parquet files only"),
        ("a.txt", "unknown suffix '.txt'; known are .csv, .csv.gz, .parquet"),
        ("noname", "no suffix; known are"),
        ("x.parquet.gz", "unknown suffix '.gz'"),
        ("zero.csv", "empty (0 bytes)"),
        ("zero.parquet", "empty (0 bytes)"),
        ("zero.npz", "empty (0 bytes)"),
        ("zero.npy", "empty (0 bytes)"),
    ],
)
def test_what_is_not_a_file_of_scores(name: str, found: str, strange: Path) -> None:
    options: Options = {"label": str(strange / "zero.npy")} if name == "zero.npy" else {}
    assert found in complaint(strange / name, **options)


def test_a_device_is_not_read() -> None:
    assert "a device, not a regular file" in complaint("/dev/zero")
    assert "a device, not a regular file" in complaint("/dev/null")


def test_a_path_with_a_zero_byte() -> None:
    with pytest.raises(InputError, match=r"a\\x00b\.csv: cannot be read"):
        open_scores("a\0b.csv")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "a,b\n")
    path.chmod(0)
    assert "Permission denied" in complaint(path)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".arrow", ".feather", ".npy", ".npz"])
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (PNG, "it looks like a PNG image"),
        (b"PK\x03\x04 a zip", "it looks like a zip or NPZ archive"),
        (b"PAR1 and more PAR1", "it looks like a Parquet file"),
        ("logit,label\n1,2\n".encode("utf-16"), "it looks like text in UTF-16"),
        (b"\0\0\0\1binary", r"it begins with b'\x00\x00\x00\x01bina'"),
    ],
)
def test_a_file_of_another_kind_than_its_name(suffix: str, content: bytes, kind: str, tmp_path: Path) -> None:
    path = csv_file(tmp_path, content, f"t{suffix}")
    message = complaint(path, label=str(path) if suffix == ".npy" else "label")
    genuine = {".parquet": b"PAR1", ".npz": b"PK"}.get(suffix, b"\xff" * 9)
    expected = "cannot be read as" if content.startswith(genuine) else f"file: {kind}; give the right file"
    assert expected in message


@pytest.mark.parametrize("suffix", [".csv.gz", ".parquet", ".arrow", "stream.arrow", ".npy", ".npz"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
def test_a_truncated_file(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"t{suffix}"
    rng = np.random.default_rng(0)
    arrays = {f"z_{index}": rng.normal(size=5000) for index in range(3)}
    table = pa.table(arrays | {"label": np.zeros(5000, int)})
    match suffix:
        case ".csv.gz":
            with gzip.open(path, "wb") as file:
                pyarrow.csv.write_csv(table, file)
        case ".parquet":
            pq.write_table(table, path)
        case ".npy":
            np.save(path, np.stack(list(arrays.values()), axis=1))
        case ".npz":
            np.savez(path, logits=np.stack(list(arrays.values()), axis=1), labels=np.zeros(5000, int))
        case _:
            kind = pa.ipc.new_stream if "stream" in suffix else pa.ipc.new_file
            with kind(str(path), table.schema) as writer:
                writer.write_table(table)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    np.save(tmp_path / "y.npy", np.zeros(5000, int))
    label = {".npy": str(tmp_path / "y.npy"), ".npz": None}.get(suffix, "label")
    message = complaint(path, label=label)
    assert "truncated" in message or "cannot be read as" in message


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".npz"])
def test_a_damaged_file_is_an_input_error_or_reads(suffix: str, tmp_path: Path) -> None:
    path, rng = tmp_path / f"t{suffix}", np.random.default_rng(1)
    table = pa.table({"z_0": rng.normal(size=300), "z_1": rng.normal(size=300), "label": np.zeros(300, int)})
    if suffix == ".npz":
        np.savez_compressed(path, logits=rng.normal(size=(300, 2)), labels=np.zeros(300, int))
    elif suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    content, outcomes = path.read_bytes(), set()
    for _ in range(150):
        damaged = bytearray(content)
        for place in rng.integers(8, len(content) - 8, 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            list(open_scores(path, label=None if suffix == ".npz" else "label").batches())
            outcomes.add("read")
        except InputError:
            outcomes.add("refused")
    assert "refused" in outcomes


# ---- CSV


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("z_a,z_b,label\n1,2,0\n1,oops,0\n", "t.csv, line 3, column 'z_b': 'oops' is not a number"),
        ("z_a,z_b,label\n\n1,2,0\n1_0,x,0\n", "t.csv, line 4, column 'z_a': '1_0' is not a number"),
        ('z_a,z_b,t,label\n1,2,"x\n\ny",0\n1,2,,0\n1,0x1,,0\n', "line 6, column 'z_b': '0x1' is not a number"),
        ("z_a,z_b,label\n1,2,0\n1,,0\n", "line 3, column 'z_b': the score is missing"),
        ("z_a,z_b,label\n1,2,0\n1,  ,0\n", "line 3, column 'z_b': the score is missing"),
        ("z_a,z_b,label\n1,2,0\n NaN ,2,0\n", "line 3, column 'z_a': the score is NaN"),
        ("z_a,z_b,label\n1,2,0\n1,-nan,0\n", "line 3, column 'z_b': the score is NaN"),
        ("z_a,z_b,label\n1,2,0\n1,NA,0\n", "line 3, column 'z_b': 'NA' is not a number"),
        ("z_a,z_b,label\n1,2,0\n1,2\n", "t.csv, line 3: 2 fields where the header has 3"),
        ("z_a,z_b,label\n1,2,0\n\n1,2,0,5\n", "t.csv, line 4: 4 fields where the header has 3"),
        ("z_a,z_b,label\n1,2,0,5\n", "t.csv, line 2: 4 fields where the header has 3"),
        ("z_a,z_b,label\n", "t.csv: no rows"),
        ("z_a,z_b,label\n\n\r\n", "t.csv: no rows"),
        ("z_a,z_b,label", "t.csv: no rows"),
        ("\n1,2\n", "t.csv, line 1: no column names"),
        ("z_a;z_b;label\n1;2;0\n", "t.csv, line 1: no comma"),
        ("z_a\tz_b\tlabel\n1\t2\t0\n", "t.csv, line 1: no comma"),
        ("z_a,z_a,label\n1,2,0\n", "t.csv: two columns are called 'z_a'"),
        (b"z_a,z_b,label\n1,2,0\n1,2,caf\xe9\n", "t.csv, line 3: not UTF-8 text"),
        (b"z_a,z_b,label,\xe9\n1,2,0,x\n", "t.csv, line 1: not UTF-8 text"),
        (b"t,z_a,z_b,label\n\xe9,1,2,0\n\xe9,x,2,0\n", "t.csv, line 3, column 'z_a': 'x' is not a number"),
        (b"t,z_a,z_b,label\n\xe9,1,2,0\n\xe9,2,0\n", "t.csv, line 3: 3 fields where the header has 4"),
        ("z_a,z_b,label\n1,2,a\n1,2,x\n", "t.csv, line 3: label 'x' is none of the classes a, b;"),
        ("z_a,z_b,label\n1,2,a\n1,2,\n", "t.csv, line 3: the label is missing"),
        ("z_a,z_b,label\n1,2,1\n1,2,2\n", "t.csv, line 3: label 2 is outside 0..1 (classes: a, b)"),
        ("z_a,z_b,label\n1,2,0\n1,2,-1\n", "t.csv, line 3: label -1 is outside 0..1"),
        ("z_a,z_b,label\n1,2,1.0\n", "line 2: label '1.0' is none of the classes a, b; integer labels must"),
        ("z_3,z_4,label\n1,2,3\n1,2,1\n", "t.csv, line 3: label '1' is none of the classes 3, 4"),
    ],
)
def test_csv(text: str | bytes, expected: str, tmp_path: Path) -> None:
    path = csv_file(tmp_path, text)
    for options in ({}, {"batch_rows": 1}):
        assert expected in complaint(path, **options)


def test_the_first_bad_score_is_named_whatever_the_column(tmp_path: Path) -> None:
    text = "z_a,z_b,label\n1,2,0\n1,bad,0\nworse,2,0\n"
    assert "line 3, column 'z_b': 'bad'" in complaint(csv_file(tmp_path, text))


def test_csv_far_down(tmp_path: Path) -> None:
    text = "z_a,z_b,label\n" + "1,2,0\n" * 200_000 + "1,x,0\n"
    assert "line 200002, column 'z_b': 'x'" in complaint(csv_file(tmp_path, text))
    assert "line 200002: 2 fields" in complaint(csv_file(tmp_path, text[:-3] + "\n"))


def test_gzipped_csv(tmp_path: Path) -> None:
    path = csv_file(tmp_path, gzip.compress(b"z_a,z_b,label\n1,2,0\n1,x,0\n"), "t.csv.gz")
    assert "t.csv.gz, line 3, column 'z_b': 'x' is not a number" in complaint(path)
