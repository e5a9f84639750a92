"""Files out: all columns are kept, probabilities are added."""

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from files_examples import ROWS, SUFFIXES, copy, names_in, read_table, save, table, write_one
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from softly.files import TableWriter, open_scores

# ---- what is written


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".feather"])
def test_tables_keep_their_columns_and_gain_probabilities(suffix: str, tmp_path: Path) -> None:
    source = save(suffix, tmp_path)
    expected = copy(source, tmp_path / f"out{suffix}")
    written, original = read_table(tmp_path / f"out{suffix}"), table()
    assert written.schema.names == [*original.schema.names, "p_cat", "p_dog"]
    assert written.select(original.schema.names).to_pydict() == original.to_pydict()
    assert [field.type for field in written.schema][:-2] == [field.type for field in original.schema]
    assert written.schema.metadata[b"origin"] == b"a test"
    for index, name in enumerate(("p_cat", "p_dog")):
        assert written.schema.field(name).type == pa.float32()
        np.testing.assert_array_equal(written[name].to_numpy(), expected[:, index])


@pytest.mark.parametrize("codec", ["NONE", "SNAPPY", "GZIP", "ZSTD", "BROTLI", "LZ4"])
def test_parquet_keeps_its_codec(codec: str, tmp_path: Path) -> None:
    pq.write_table(table(), tmp_path / "in.parquet", compression=codec)
    copy(open_scores(tmp_path / "in.parquet", label="label"), tmp_path / "out.parquet")
    codecs = [
        pq.read_metadata(tmp_path / name).row_group(0).column(0).compression for name in ("in.parquet", "out.parquet")
    ]
    assert codecs[0] == codecs[1]


def test_a_directory_becomes_one_file(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for part in range(3):
        pq.write_table(table().slice(part * 10, 10), tmp_path / "parts" / f"{part}.parquet")
    source = open_scores(tmp_path / "parts", label="label")
    copy(source, tmp_path / f"out{source.suffix}")
    assert pq.read_table(tmp_path / "out.parquet")["id"].to_pylist() == table()["id"].to_pylist()[:30]


def test_parquet_of_many_batches_has_large_row_groups(tmp_path: Path) -> None:
    rows = 300_000
    pq.write_table(pa.table({"z_a": np.zeros(rows), "z_b": np.ones(rows)}), tmp_path / "in.parquet")
    copy(open_scores(tmp_path / "in.parquet", labels_required=False), tmp_path / "out.parquet")
    metadata = pq.read_metadata(tmp_path / "out.parquet")
    assert (metadata.num_rows, metadata.num_row_groups) == (rows, 2)


def test_text_columns_with_other_words_in_each_batch(tmp_path: Path) -> None:
    words = [pa.array([f"word {part}-{row}" for row in range(5)]).dictionary_encode() for part in range(4)]
    schema = pa.schema([("z_a", pa.float64()), ("z_b", pa.float64()), ("word", words[0].type)])
    with pa.ipc.new_stream(str(tmp_path / "in.arrow"), schema) as writer:
        for word in words:
            writer.write_batch(pa.record_batch([np.zeros(5), np.ones(5), word], schema=schema))
    source = open_scores(tmp_path / "in.arrow", labels_required=False, batch_rows=3)
    copy(source, tmp_path / "out.arrow")
    with pa.ipc.open_stream(str(tmp_path / "out.arrow")) as reader:
        assert reader.read_all()["word"].to_pylist() == [text for word in words for text in word.to_pylist()]


def csv_rows(path: Path) -> list[list[str]]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_csv_keeps_its_text_and_gains_probabilities(suffix: str, tmp_path: Path) -> None:
    source = save(suffix, tmp_path)
    expected = copy(source, tmp_path / f"out{suffix}")
    written = csv_rows(tmp_path / f"out{suffix}")
    assert [row[:-2] for row in written] == csv_rows(source.path)
    assert written[0][-2:] == ["p_cat", "p_dog"]
    np.testing.assert_array_equal([[float(p) for p in row[-2:]] for row in written[1:]], expected)


def test_csv_bytes_that_are_no_utf8_pass_through_other_columns(tmp_path: Path) -> None:
    content = b'z_a,t,z_b\n1,caf\xe9,2\n1,"\xff,""",2\n'
    (tmp_path / "in.csv").write_bytes(content)
    copy(open_scores(tmp_path / "in.csv", labels_required=False), tmp_path / "out.csv")
    written = (tmp_path / "out.csv").read_bytes().splitlines()
    assert [line[: len(old)] for line, old in zip(written, content.splitlines(), strict=True)] == (content.splitlines())


cells = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=8)


@given(rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=9), header=cells)
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_survives_csv(rows: list[tuple[str, str]], header: str, tmp_path: Path) -> None:
    source_path, path = tmp_path / "in.csv", tmp_path / "out.csv"
    with open(source_path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["z_a", "first", f"h{header}", "z_b"])
        writer.writerows([" 1.50", first, second, "-2e0"] for first, second in rows)
    copy(open_scores(source_path, labels_required=False, batch_rows=4), path, overwrite=True)
    assert [row[:4] for row in csv_rows(path)] == csv_rows(source_path)


def test_npy_becomes_the_probabilities(tmp_path: Path) -> None:
    expected = copy(save(".npy", tmp_path), tmp_path / "out.npy")
    written = np.load(tmp_path / "out.npy")
    assert written.dtype == np.float32
    np.testing.assert_array_equal(written, expected)


@pytest.mark.parametrize("saver", [np.savez, np.savez_compressed])
def test_npz_keeps_its_arrays_and_gains_probabilities(saver: object, tmp_path: Path) -> None:
    arrays = {"logits": np.eye(4), "labels": np.arange(4), "x": np.ones((2, 2, 2))}
    with open(tmp_path / "in.npz", "wb") as file:
        saver(file, **arrays)  # type: ignore[operator]
    source = open_scores(tmp_path / "in.npz")
    with TableWriter(tmp_path / "out.npz", source, overwrite=False) as writer:
        for batch in source.batches():
            writer.write(batch, batch.scores)
    with np.load(tmp_path / "out.npz") as written:
        assert written.files == ["logits", "labels", "x", "probabilities"]
        for name, values in arrays.items():
            np.testing.assert_array_equal(written[name], values)
        np.testing.assert_array_equal(written["probabilities"], np.eye(4))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_input_gives_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    source = save(suffix, tmp_path)
    copy(source, tmp_path / f"a{suffix}")
    copy(source, tmp_path / f"b{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_output_may_replace_its_own_input(suffix: str, tmp_path: Path) -> None:
    source = save(suffix, tmp_path)
    copy(source, tmp_path / f"other{suffix}")
    other = copy(source, source.path, overwrite=True)
    assert len(other) == ROWS
    assert source.path.read_bytes() == (tmp_path / f"other{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_suffix_of_an_output(suffix: str, tmp_path: Path) -> None:
    assert save(suffix, tmp_path).suffix == suffix


# ---- misuse by a programmer


@pytest.mark.parametrize(
    ("misuse", "complaint"),
    [
        ({"change": lambda batch: batch._replace(start=64)}, "a batch from row 64, expected 0"),
        ({"change": lambda batch: batch._replace(table=None)}, "with_table=True"),
        ({"width": 3}, r"shape \(64, 3\); the batch needs \(64, 2\)"),
        ({}, f"64 rows written of {ROWS}"),
    ],
)
@pytest.mark.parametrize("suffix", [".parquet", ".npy", ".npz"])
def test_what_does_not_fit_is_refused(misuse: dict[str, Any], complaint: str, suffix: str, tmp_path: Path) -> None:
    source = save(suffix, tmp_path)
    if "with_table" in complaint and suffix != ".parquet":
        complaint = "rows written"  # arrays have no table
    with pytest.raises(ValueError, match=complaint):
        write_one(source, tmp_path / f"out{suffix}", **misuse)
    assert names_in(tmp_path) == [f"in{suffix}"]


def test_a_writer_writes_within_its_block_only(tmp_path: Path) -> None:
    source = save(".npy", tmp_path)
    writer = TableWriter(tmp_path / "out.npy", source, overwrite=False)
    with pytest.raises(ValueError, match="outside the block"):
        writer.write(next(source.batches()), np.zeros((64, 2)))
