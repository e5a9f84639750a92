"""Files in: which columns are the scores, what the classes are called, labels, and CSV as people write it."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from files_examples import csv_file, npz, parquet, read

from softly.files import open_scores
from softly.files.labels import label_indices

NAMES = ("cat", "dog", "bird")


# ---- which columns, which names

NUMBERS = [1.0, 2.0]


@pytest.mark.parametrize(
    ("columns", "options", "classes"),
    [
        (["logit_a", "logit_b", "z_a", "z_b"], {}, ("a", "b")),
        (["z_x", "z_y", "score_a", "score_b"], {}, ("a", "b")),
        (["logit_a", "z_x", "z_y"], {}, ("x", "y")),  # one match is no match
        (["u", "v", "w"], {}, ("u", "v", "w")),
        (["id", "u", "v"], {"scores": "[uv]"}, ("u", "v")),
        (["logit_a", "logit_b", "z_a", "z_b"], {"scores": "z_*"}, ("a", "b")),
        (["cat_score", "dog_score", "id"], {"scores": "*_score"}, ("cat", "dog")),
        (["m_cat_x", "m_dog_x", "id"], {"scores": "m_*_x"}, ("cat", "dog")),
        (["logit_a", "logit_b"], {"classes": ["Anna", "Bob"]}, ("Anna", "Bob")),
        (["id", "cat", "dog", "p_cat"], {"classes": ["dog", "cat"]}, ("dog", "cat")),
        (["logit_", "logit_b"], {"classes": ["x", "y"]}, ("x", "y")),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_scores_are_found_by_pattern_and_named_by_the_rest(
    columns: list[str], options: dict[str, object], classes: tuple[str, ...], suffix: str, tmp_path: Path
) -> None:
    table = pa.table({name: NUMBERS for name in columns} | {"label": [0, 1]})
    path = tmp_path / f"t{suffix}"
    pq.write_table(table, path) if suffix == ".parquet" else pyarrow.csv.write_csv(table, path)
    source = open_scores(path, label="label", **options)  # type: ignore[arg-type]
    assert source.classes == classes
    assert next(source.batches()).scores.shape == (2, len(classes))


def test_classes_in_another_order_than_their_columns_reorder_the_columns(tmp_path: Path) -> None:
    path = parquet(tmp_path, {"logit_b": [2.0], "logit_a": [1.0], "label": ["a"]})
    scores, labels = read(open_scores(path, label="label", classes=["a", "b"]))
    np.testing.assert_array_equal(scores, [[1, 2]])
    np.testing.assert_array_equal(labels, [0])


def test_the_label_is_no_score_though_the_pattern_matches_it(tmp_path: Path) -> None:
    path = parquet(tmp_path, {"logit_a": NUMBERS, "logit_b": NUMBERS, "logit_label": [0, 1]})
    assert open_scores(path, label="logit_label").classes == ("a", "b")


def test_without_labels_none_are_read(tmp_path: Path) -> None:
    path = npz(tmp_path, logits=np.eye(3), labels=[0, 1, 2])
    assert read(open_scores(path, labels_required=False))[1] is None


@pytest.mark.parametrize(
    ("arrays", "options"),
    [
        ({"logits": "scores", "labels": "labels", "scores": "other"}, {}),
        ({"z": "scores", "y": "labels"}, {}),
        ({"anything": "scores", "label": "labels"}, {}),
        ({"a": "scores", "b": "other", "truth": "labels"}, {"scores": "a", "label": "truth"}),
    ],
)
def test_arrays_of_an_archive_are_found_by_name(
    arrays: dict[str, str], options: dict[str, str], tmp_path: Path
) -> None:
    scores, labels = np.arange(12.0).reshape(4, 3), np.array([2, 0, 1, 1])
    values = {"scores": scores, "labels": labels, "other": np.ones((3, 2))}
    np.savez(tmp_path / "s.npz", **{name: values[value] for name, value in arrays.items()})
    found = read(open_scores(tmp_path / "s.npz", **options))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found[0], scores)
    np.testing.assert_array_equal(found[1], labels)


# ---- labels


def indices(column: pa.Array, classes: tuple[str, ...] = NAMES, **options: bool) -> list[int]:
    found = label_indices(column, classes, lambda row: f"row {row}", **options)
    assert found.dtype == np.int64
    return found.tolist()


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_labels_of_all_integer_types_are_indices(kind: str) -> None:
    assert indices(pa.array([2, 0, 1], kind)) == [2, 0, 1]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["bird", "cat", "dog"]),
        pa.array(["bird", "cat", "dog"], pa.large_string()),
        pa.array(["bird", "cat", "dog"], pa.string_view()),
        pa.array([b"bird", b"cat", b"dog"]),
        pa.array(["bird", "cat", "dog"]).dictionary_encode(),
        pa.array(np.array(["bird", "cat", "dog"])),
    ],
    ids=lambda column: str(column.type)[:12],
)
def test_labels_of_all_text_types_are_names(column: pa.Array) -> None:
    assert indices(column) == [2, 0, 1]


def test_booleans_are_the_classes_0_and_1() -> None:
    assert indices(pa.array([True, False])) == [1, 0]
    assert indices(pa.array([True, False]), ("0", "1")) == [1, 0]


def test_integers_in_text_are_indices_unless_classes_are_named_so() -> None:
    assert indices(pa.array(["2", "bird", "0"]), is_text=True) == [2, 2, 0]
    assert indices(pa.array(["2", "0"]), ("0", "1", "2"), is_text=True) == [2, 0]


@pytest.mark.parametrize("column", [pa.array([1, 5]), pa.array(["1", "5"])])
def test_classes_named_by_numbers_are_meant_by_name(column: pa.Array) -> None:
    ratings = ("1", "2", "3", "4", "5")
    assert indices(column, ratings, is_text=True) == [0, 4]
    assert indices(column, ratings[::-1]) == [4, 0]


def test_big_endian_labels_of_an_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", logits=np.zeros((3, 2)), labels=np.array([1, 0, 1], ">i2"))
    assert read(open_scores(tmp_path / "s.npz"))[1].tolist() == [1, 0, 1]


@pytest.mark.parametrize("kind", ["U", "S"])
def test_labels_of_an_array_may_be_names(kind: str, tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.zeros((3, 2)))
    np.save(tmp_path / "y.npy", np.array(["b", "a", "b"], kind))
    source = open_scores(tmp_path / "s.npy", label=str(tmp_path / "y.npy"), classes=["a", "b"])
    assert read(source)[1].tolist() == [1, 0, 1]


# ---- CSV as people write it


def test_csv_numbers_in_all_spellings(tmp_path: Path) -> None:
    spellings = ["1", "+1.5", " -2 ", "1e3", ".5", "5.", "inf", "-inf", "Infinity", "-INF", '"7"', "1E-400"]
    expected = [1, 1.5, -2, 1000, 0.5, 5, np.inf, -np.inf, np.inf, -np.inf, 7, 0]
    text = "z_a,z_b\n" + "".join(f"{spelling},0\n" for spelling in spellings)
    scores = read(open_scores(csv_file(tmp_path, text), labels_required=False))[0]
    np.testing.assert_array_equal(scores[:, 0], expected)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_csv_newlines_quotes_and_byte_order_mark(newline: str, end: str, mark: bytes, tmp_path: Path) -> None:
    lines = ["z_a,z_b,label,text", '1,2,a,"x, ""y"""', '3,4,b,"two', 'lines"', "", "5,6,a,"]
    path = csv_file(tmp_path, mark + (newline.join(lines) + end).encode())
    source = open_scores(path, label="label", batch_rows=2)
    scores, labels = read(source)
    np.testing.assert_array_equal(scores, [[1, 2], [3, 4], [5, 6]])
    np.testing.assert_array_equal(labels, [0, 1, 0])
    texts = [text for batch in source.batches(with_table=True) for text in batch.table["text"].to_pylist()]
    assert texts == [b'x, "y"', f"two{newline}lines".encode(), b""]
    assert [source.location(row).rpartition(", ")[2] for row in range(3)] == ["line 2", "line 3", "line 6"]


def test_csv_in_several_gzip_members(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"z_a,z_b\n1,2\n") + gzip.compress(b"3,4\n"))
    np.testing.assert_array_equal(read(open_scores(path, labels_required=False))[0], [[1, 2], [3, 4]])


def test_csv_larger_than_a_block(tmp_path: Path) -> None:
    rows = 30_000
    lines = "".join(f'{row},{row + 0.5},"{"a" * 200},\n"\n' for row in range(rows))
    source = open_scores(csv_file(tmp_path, "z_a,z_b,text\n" + lines), labels_required=False)
    assert source.path.stat().st_size > 2**22
    np.testing.assert_array_equal(read(source)[0][:, 1], np.arange(rows) + 0.5)


def test_csv_fields_longer_than_the_standard_parser_takes(tmp_path: Path) -> None:
    path = csv_file(tmp_path, f"z_a,z_b,text\n1,2,{'x' * 200_000}\n")
    np.testing.assert_array_equal(read(open_scores(path, labels_required=False))[0], [[1, 2]])
