"""Files in: every format gives the same scores and labels, in batches of any size."""

import subprocess
import sys
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from files_examples import parquet, read
from hypothesis import given, settings
from hypothesis import strategies as st

from softly.files import Batch, ScoreSource, open_scores
from softly.files.tables import regroup

ROWS, NAMES = 1003, ("cat", "dog", "bird")
FORMATS = (
    ".csv", ".csv.gz", ".parquet", "directory", ".arrow", "stream.arrow", ".feather", "lists.parquet",
    ".npy", ".npz",
)  # fmt: skip


def scores_and_labels(rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    scores = rng.normal(size=(rows, len(NAMES))).astype(np.float32)
    scores[::17, 1] = -np.inf
    return scores, rng.integers(0, len(NAMES), rows)


def table_of(scores: np.ndarray, labels: np.ndarray) -> pa.Table:
    columns = {f"logit_{name}": scores[:, index] for index, name in enumerate(NAMES)}
    texts = [f'row "{row}",\n' if row % 5 == 0 else str(row) for row in range(len(scores))]
    return pa.table({"id": texts, **columns, "label": np.array(NAMES)[labels], "age": labels})


def write_stream(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=97)


def save(form: str, folder: Path, scores: np.ndarray, labels: np.ndarray) -> ScoreSource:
    """Write the same data in the named form and open it."""
    path, table = folder / f"scores{form}", table_of(scores, labels)
    match form:
        case ".csv" | ".csv.gz":
            with pa.output_stream(str(path), compression="detect") as file:
                pyarrow.csv.write_csv(table, file)
        case ".parquet":
            pq.write_table(table, path, row_group_size=100)
        case "directory":
            path = folder / "parts"
            path.mkdir()
            for part, start in enumerate(range(0, len(scores), 300)):
                pq.write_table(table.slice(start, 300), path / f"part-{part}.parquet")
            (path / "_SUCCESS").touch()
            (path / ".hidden.parquet").touch()
        case ".arrow":
            with pa.ipc.new_file(str(path), table.schema) as writer:
                writer.write_table(table)
        case "stream.arrow":
            write_stream(path, table)
        case ".feather":
            pyarrow.feather.write_feather(table, path, chunksize=97)
        case "lists.parquet":
            lists = pa.array(list(scores), pa.list_(pa.float32()))
            pq.write_table(pa.table({"scores": lists, "label": labels}), path, row_group_size=100)
            return open_scores(path, label="label", classes=NAMES)
        case ".npy":
            np.save(path, scores)
            np.save(folder / "labels.npy", labels)
            return open_scores(path, label=str(folder / "labels.npy"), classes=NAMES)
        case ".npz":
            np.savez_compressed(path, logits=scores, labels=labels, names=np.array(NAMES), extra=np.eye(2))
            return open_scores(path)
    return open_scores(path, label="label")


# ---- the same data in every format


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_same_scores_labels_and_names(form: str, tmp_path: Path) -> None:
    scores, labels = scores_and_labels()
    source = save(form, tmp_path, scores, labels)
    read_scores, read_labels = read(source)
    assert source.classes == NAMES
    assert source.dtype == read_scores.dtype == (np.float64 if "csv" in form else np.float32)
    np.testing.assert_array_equal(read_scores.astype(np.float32), scores)
    np.testing.assert_array_equal(read_labels, labels)
    assert read_labels is not None
    assert read_labels.dtype == np.int64
    assert source.rows == (None if form in (".csv", ".csv.gz", "stream.arrow") else ROWS)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("rows", [1, 7, 100, 501, ROWS, 10 * ROWS])
def test_batches_have_the_size_asked_for_and_join_to_the_same_bits(form: str, rows: int, tmp_path: Path) -> None:
    scores, labels = scores_and_labels(203 if rows == 1 else ROWS)
    source = save(form, tmp_path, scores, labels)
    label = {".npz": None, ".npy": str(tmp_path / "labels.npy")}.get(form, "label")
    batched = open_scores(source.path, label=label, classes=NAMES, batch_rows=rows)
    batches = list(batched.batches(with_table=True))
    assert [batch.start for batch in batches] == list(range(0, len(scores), rows))
    assert all(len(batch.scores) == rows for batch in batches[:-1])
    assert all(batch.scores.flags.c_contiguous for batch in batches)
    whole = read(source)
    np.testing.assert_array_equal(np.concatenate([batch.scores for batch in batches]), whole[0])
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in batches]), whole[1])
    np.testing.assert_array_equal(read(batched)[0], whole[0])  # a second pass, without tables


@pytest.mark.parametrize("form", [form for form in FORMATS if not form.startswith(".np")])
def test_a_table_comes_with_all_columns_in_order(form: str, tmp_path: Path) -> None:
    scores, labels = scores_and_labels()
    source = save(form, tmp_path, scores, labels)
    tables = [batch.table for batch in source.batches(with_table=True)]
    assert isinstance(tables[0], pa.RecordBatch)
    if form != "lists.parquet":
        expected = table_of(scores, labels)
        assert tables[0].schema.names == expected.schema.names
        assert pa.Table.from_batches(tables)["id"].cast("string").to_pylist() == expected["id"].to_pylist()
    assert all(batch.table is None for batch in source.batches())


def test_a_scan_may_be_left_and_begun_again(tmp_path: Path) -> None:
    source = save(".csv.gz", tmp_path, *scores_and_labels())
    assert isinstance(next(source.batches()), Batch)
    assert len(read(source)[0]) == ROWS


def test_a_glob_pattern_reads_parts_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, value in (("b-10", 2.0), ("b-09", 1.0), ("a-99", 0.0), ("c", 9.0)):
        table = pa.table({"z_0": [value] * 2, "z_1": [0.0] * 2})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    source = open_scores(tmp_path / "[ab]-*.parquet", labels_required=False, batch_rows=3)
    np.testing.assert_array_equal(read(source)[0][:, 0], [0, 0, 1, 1, 2, 2])
    assert source.location(0).endswith("a-99.parquet, row 0")
    assert source.location(5).endswith("b-10.parquet, row 1")


def test_empty_parts_are_no_matter(tmp_path: Path) -> None:
    for name, rows in (("a", 0), ("b", 2), ("c", 0), ("d", 1)):
        table = pa.table({"z_0": np.ones(rows), "z_1": np.zeros(rows)})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    source = open_scores(tmp_path, labels_required=False)
    assert len(read(source)[0]) == source.rows == 3
    assert "d.parquet, row 0" in source.location(2)


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 11))
@settings(deadline=None, max_examples=60)
def test_regroup_keeps_all_rows_whatever_the_cut(sizes: list[int], rows: int) -> None:
    values = pa.array(range(sum(sizes)))
    ends = np.cumsum([0, *sizes])
    pieces = [pa.record_batch({"x": values[a:b]}) for a, b in pairwise(ends)]
    groups = list(regroup(pieces, rows))
    assert [value for group in groups for value in group.column(0).to_pylist()] == values.to_pylist()
    assert all(group.num_rows == rows for group in groups[:-1])
    assert all(0 < group.num_rows <= rows for group in groups)


def test_memory_does_not_grow_with_rows(tmp_path: Path) -> None:
    path = tmp_path / "scores.npy"
    np.lib.format.open_memmap(path, "w+", np.float32, (1_000_000, 10)).flush()  # 40 MB, a sparse file
    source = open_scores(path, labels_required=False, batch_rows=10_000)
    tracemalloc.start()
    assert sum(len(batch.scores) for batch in source.batches()) == 1_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6


def test_thousands_of_classes_make_smaller_batches(tmp_path: Path) -> None:
    path = tmp_path / "scores.npy"
    np.lib.format.open_memmap(path, "w+", np.float16, (600, 50_000)).flush()
    batch = next(open_scores(path, labels_required=False).batches())
    assert batch.scores.shape == (335, 50_000)
    assert batch.scores.dtype == np.float32


# ---- types of scores


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["float32", "float32"], "float32"),
        (["float16", "float16"], "float32"),
        (["float16", "int8", "uint16"], "float32"),
        (["float32", "float64"], "float64"),
        (["float32", "int32"], "float64"),
        (["int64", "int64"], "float64"),
        (["uint8", "uint8"], "float32"),
    ],
)
def test_scores_are_float32_if_that_holds_them_all(kinds: list[str], expected: str, tmp_path: Path) -> None:
    columns = {f"z_{index}": np.array([0, 100], kind) for index, kind in enumerate(kinds)}
    scores = read(open_scores(parquet(tmp_path, columns), labels_required=False))[0]
    assert scores.dtype == expected
    np.testing.assert_array_equal(scores, [[0] * len(kinds), [100] * len(kinds)])


def test_decimal_columns_are_numbers(tmp_path: Path) -> None:
    column = pa.array(["1.25", "-3.5"]).cast(pa.decimal128(10, 2))
    path = parquet(tmp_path, {"z_0": column, "z_1": column})
    np.testing.assert_array_equal(read(open_scores(path, labels_required=False))[0], [[1.25] * 2, [-3.5] * 2])


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", ">f4", "<f8", "i1", "u2", ">i4", "i8", "g"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_any_real_type_byte_order_and_layout(kind: str, order: str, tmp_path: Path) -> None:
    values = np.arange(21).reshape(7, 3)
    np.save(tmp_path / "s.npy", np.asarray(values, kind, order=order))  # type: ignore[call-overload]
    source = open_scores(tmp_path / "s.npy", labels_required=False, batch_rows=2)
    scores, labels = read(source)
    np.testing.assert_array_equal(scores, values)
    assert scores.dtype == source.dtype
    assert scores.dtype.isnative
    assert labels is None


@pytest.mark.parametrize("shape", [(5,), (5, 1)])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_one_score_a_row_is_the_binary_pair(shape: tuple[int, ...], suffix: str, tmp_path: Path) -> None:
    score = np.array([1, -2, np.inf, -np.inf, 0], np.float32).reshape(shape)
    path = tmp_path / f"s{suffix}"
    np.save(path, score) if suffix == ".npy" else np.savez(path, scores=score)
    source = open_scores(path, labels_required=False)
    scores, _ = read(source)
    assert source.classes == ("0", "1")
    np.testing.assert_array_equal(scores, np.stack([np.zeros(5), score.ravel()], axis=1))


def test_one_score_column_is_the_binary_pair(tmp_path: Path) -> None:
    path = parquet(tmp_path, {"text": ["a", "b"], "margin": [1.5, -2.0], "label": [1, 0]})
    source = open_scores(path, label="label", scores="margin", classes=["no", "yes"])
    scores, labels = read(source)
    np.testing.assert_array_equal(scores, [[0, 1.5], [0, -2]])
    np.testing.assert_array_equal(labels, [1, 0])
    assert source.classes == ("no", "yes")


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float64()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float16()),
        pa.list_(pa.float32(), 3),
        pa.list_(pa.int16()),
    ],
)
@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_a_list_column_holds_the_scores_of_a_row(kind: pa.DataType, suffix: str, tmp_path: Path) -> None:
    numpy_type = kind.value_type.to_pandas_dtype()
    rows = [np.array([row, -row, 2], numpy_type) for row in range(50)]
    table = pa.table({"logits": pa.array(rows, kind), "label": [row % 3 for row in range(50)]})
    path = tmp_path / f"lists{suffix}"
    pq.write_table(table, path) if suffix == ".parquet" else write_stream(path, table)
    source = open_scores(path, label="label", batch_rows=7)
    assert source.classes == ("0", "1", "2")
    np.testing.assert_array_equal(read(source)[0], np.stack(rows))


# ---- imports


def test_without_pyarrow_one_line_says_what_to_install() -> None:
    code = "import sys; sys.modules['pyarrow'] = None; import softly.files"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert "InputError" in last
    assert "pip install softly[cli]" in last
