"""Bad columns, labels and arrays: one line that names the file, the row or column, and the remedy."""

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from files_complaints import Options, complaint
from files_examples import npz, parquet

from softly._errors import InputError
from softly.files import open_scores

# ---- columns

A, B = [1.0, 2.0], [0.5, 0.25]


@pytest.mark.parametrize(
    ("columns", "options", "expected"),
    [
        ({"z_a": A, "z_b": B}, {}, "no column 'label' for --label; columns: z_a, z_b"),
        ({"z_a": A, "z_b": B}, {"label": None}, "which column is the label? give it with --label"),
        ({"z_a": A, "label": [0, 1]}, {"scores": "x_*"}, "no column matches --scores 'x_*'; columns: z_a"),
        ({"z_a": A, "label": [0, 1]}, {"scores": "x"}, "no column matches --scores 'x'; columns: z_a"),
        ({"z_a": A, "label": [0, 1]}, {"scores": "z_*"}, "fewer than two classes of scores: 'z_*' matches only"),
        ({"label": [0, 1]}, {}, "fewer than two classes of scores"),
        ({"label": [0, 1]}, {"scores": "label"}, "is the label and cannot be the scores"),
        ({"a": A, "b": B, "name": ["x", "y"], "label": [0, 1]}, {}, "'name' is not numeric; choose with --scores"),
        ({"a": A, "b": B, "label": [0, 1]}, {"classes": ["x"]}, "2 classes of scores, but 1 names in --classes"),
        ({"a": A, "b": B, "label": [0, 1]}, {"classes": ["x", "x"]}, "a class name is repeated (x)"),
        ({"a": A, "b": B, "label": [0, 1]}, {"classes": ["x", ""]}, "a class name is empty"),
        ({"z_": A, "z_b": B, "label": [0, 1]}, {}, "a class name is empty"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".arrow"])
def test_columns(columns: Options, options: Options, expected: str, suffix: str, tmp_path: Path) -> None:
    path, table = tmp_path / f"t{suffix}", pa.table(columns)
    match suffix:
        case ".csv":
            pyarrow.csv.write_csv(table, path)
        case ".parquet":
            pq.write_table(table, path)
        case _:
            with pa.ipc.new_file(str(path), table.schema) as writer:
                writer.write_table(table)
    assert expected in complaint(path, **options)


def test_at_most_twenty_columns_are_listed(tmp_path: Path) -> None:
    message = complaint(parquet(tmp_path, {f"c{index}": A for index in range(100)}))
    assert message.endswith("c18, c19 and 80 more")


def test_names_with_newlines_stay_in_one_line(tmp_path: Path) -> None:
    assert r"a\nb" in complaint(parquet(tmp_path, {"a\nb": A, "z": B}))


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (["1", "2"], "column 'z_b' holds string, scores must be numbers"),
        ([True, False], "column 'z_b' holds bool, scores must be numbers"),
        ([1.0, None], "row 1, column 'z_b': the score is missing"),
        ([None, 1], "row 0, column 'z_b': the score is missing"),
        ([1.0, np.nan], "row 1, column 'z_b': the score is NaN"),
        ([[1.0], [2.0]], "fewer than two"),
    ],
)
def test_score_columns(column: list[Any], expected: str, tmp_path: Path) -> None:
    path = parquet(tmp_path, {"z_a": A, "z_b": column, "label": [0, 1]})
    options: Options = {} if "fewer" in expected else {"scores": "z_*"}
    if isinstance(column[0], list):
        options = {"scores": "z_[xa]"}
    assert expected in complaint(path, **options)


@pytest.mark.parametrize(
    ("rows", "kind", "expected"),
    [
        ([[1, 2], [3]], pa.list_(pa.float32()), "row 1, column 'scores': 1 scores, the first row has 2"),
        ([[1, 2], None], pa.list_(pa.float32()), "row 1, column 'scores': the score is missing"),
        ([None, [1, 2]], pa.list_(pa.float32(), 2), "row 0, column 'scores': the score is missing"),
        ([[1, 2], [3, None]], pa.list_(pa.float32()), "row 1, column 'scores'[1]: the score is missing"),
        ([[1, 2], [3, np.nan]], pa.list_(pa.float32(), 2), "row 1, column 'scores'[1]: the score is NaN"),
        ([[], []], pa.list_(pa.float32()), "fewer than two classes of scores"),
        ([None, None], pa.list_(pa.float32()), "column 'scores' has no list in any row"),
        ([["a", "b"], ["c", "d"]], pa.list_(pa.string()), "column 'scores' holds string, scores must be numbers"),
    ],
)
@pytest.mark.parametrize("batch_rows", [1, 100])
def test_list_columns(rows: Any, kind: Any, expected: str, batch_rows: int, tmp_path: Path) -> None:
    path = parquet(tmp_path, {"scores": pa.array(rows, kind), "label": [0, 1]})
    assert expected in complaint(path, batch_rows=batch_rows)


def test_no_rows(tmp_path: Path) -> None:
    empty = pa.table({"z_a": pa.array([], "float32"), "z_b": pa.array([], "float32"), "label": pa.array([], "int8")})
    assert "t.parquet: no rows" in complaint(parquet(tmp_path, empty))
    with pa.ipc.new_stream(str(tmp_path / "t.arrow"), empty.schema):
        pass
    assert "t.arrow: no rows" in complaint(tmp_path / "t.arrow")


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(A), pa.array(B)], names=["z", "z"])
    assert "two columns are called 'z'" in complaint(parquet(tmp_path, table))


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ({"z_a": A, "z_b": [1, 2]}, "column 'z_b' of int64 instead of column 'z_b' of double"),
        ({"z_a": A, "z_c": B}, "column 'z_c' of double instead of column 'z_b' of double"),
        ({"z_a": A}, "no further column instead of column 'z_b'"),
        ({"z_a": A, "z_b": B, "more": B}, "column 'more' of double instead of no further column"),
    ],
)
def test_parts_of_different_schemas(second: Options, expected: str, tmp_path: Path) -> None:
    parquet(tmp_path, {"z_a": A, "z_b": B}, "1.parquet")
    parquet(tmp_path, second, "2.parquet")
    message = complaint(tmp_path, label=None, labels_required=False)
    assert "2.parquet: its schema differs from 1.parquet: " + expected in message


def test_a_bad_row_of_a_part_is_named_by_part(tmp_path: Path) -> None:
    for part, column in enumerate([A, B, [0.5, np.nan]]):
        parquet(tmp_path, {"z_a": A, "z_b": column}, f"part-{part}.parquet")
    message = complaint(tmp_path, label=None, labels_required=False)
    assert "part-2.parquet, row 1, column 'z_b': the score is NaN" in message


# ---- labels


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0.0, 1.0], "labels are double; they must be integers (class indices) or class names"),
        (pa.array([0, 1], pa.float32()), "labels are float; they must be integers"),
        (pa.array([0, 1], pa.timestamp("ms")), "labels are timestamp[ms]; they must be"),
        ([0, None], "row 1: the label is missing"),
        ([None, None], "row 0: the label is missing"),
        (["a", None], "row 1: the label is missing"),
        (["a", "c"], "row 1: label 'c' is none of the classes a, b; correct it, or name the classes"),
        (["a", "1"], "row 1: label '1' is none of the classes a, b"),
        (["a", "x" * 100], f"label '{'x' * 37}...' is none"),
        ([1, 2], "row 1: label 2 is outside 0..1 (classes: a, b)"),
        ([-1, 0], "row 0: label -1 is outside 0..1"),
        (pa.array([0, 2**64 - 1], pa.uint64()), "row 1: label 18446744073709551615 is outside 0..1"),
        (pa.array(["a", "q"]).dictionary_encode(), "row 1: label 'q' is none of the classes"),
    ],
)
def test_labels(labels: Any, expected: str, tmp_path: Path) -> None:
    path = parquet(tmp_path, {"z_a": A, "z_b": B, "label": labels})
    for batch_rows in (1, 100):
        assert expected in complaint(path, batch_rows=batch_rows)


# ---- arrays

Z, Y = np.zeros((4, 3)), np.array([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("arrays", "options", "expected"),
    [
        ({"logits": Z}, {}, "which array holds the labels? none is called labels, label, y"),
        ({"a": Z, "b": Z, "y": Y}, {}, "which array holds the scores?"),
        ({"y": Y}, {}, "arrays: y (4,)"),
        ({}, {}, "arrays: none"),
        ({"logits": Z, "y": Y}, {"scores": "z"}, "no array 'z' for --scores; arrays: logits (4, 3), y (4,)"),
        ({"logits": Z, "y": Y}, {"label": "q"}, "no array 'q' for --label; arrays: logits (4, 3), y (4,)"),
        ({"logits": Z[None], "y": Y}, {}, "'logits': an array of shape (1, 4, 3); scores have shape"),
        ({"logits": Z[:0], "y": Y[:0]}, {}, "no rows"),
        ({"logits": Z[:, :0], "y": Y}, {}, "fewer than two classes of scores"),
        ({"logits": Z > 0, "y": Y}, {}, "holds bool; scores must be real numbers"),
        ({"logits": Z * 1j, "y": Y}, {}, "holds complex128; scores must be real numbers"),
        ({"logits": Z.astype(str), "y": Y}, {}, "scores must be real numbers"),
        ({"logits": Z, "y": Y[:3]}, {}, "labels of shape (3,) for 4 rows"),
        ({"logits": Z, "y": Y[:, None]}, {}, "labels of shape (4, 1) for 4 rows"),
        ({"logits": Z, "y": Y * 1.0}, {}, "labels are float64; they must be integers"),
        ({"logits": Z, "y": Y + 1}, {}, "array 'y', row 2: label 3 is outside 0..2 (classes: 0, 1, 2)"),
        ({"logits": Z, "y": np.array(list("0120x"))[1:]}, {}, "row 3: label 'x' is none of the classes 0, 1, 2"),
        ({"logits": np.where(Z == 0, [1, 2, np.nan], 0), "y": Y}, {}, "row 0, column 2: the score is NaN"),
        ({"logits": Z, "y": Y}, {"classes": ["a", "b"]}, "3 classes of scores, but 2 names"),
    ],
)
def test_archives(arrays: Options, options: Options, expected: str, tmp_path: Path) -> None:
    assert expected in complaint(npz(tmp_path, **arrays), **{"label": None} | options)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    objects = np.array([[1, 2], [3, 4]], object)
    assert "holds object" in complaint(npz(tmp_path, logits=objects, y=[0, 1]), label=None)
    np.save(tmp_path / "s.npy", objects)
    np.save(tmp_path / "y.npy", np.array([0, 1]))
    message = complaint(tmp_path / "s.npy", label=str(tmp_path / "y.npy"))
    assert "holds Python objects, which are never unpickled" in message


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.npz", "w") as archive:
        archive.writestr("logits.npy", "not an array")
        archive.writestr("readme.txt", "hello")
    assert "'logits': cannot be read as NPY" in complaint(tmp_path / "t.npz", label=None)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (None, "the labels of a .npy file stand in another; give its path with --label"),
        ("label", "give its path with --label, not 'label'"),
        ("{folder}/missing.npy", "missing.npy: no such file"),
        ("{folder}/short.npy", "short.npy: labels of shape (3,) for 4 rows"),
        ("{folder}/high.npy", "high.npy, row 1: label 3 is outside 0..2"),
    ],
)
def test_labels_of_an_array_file(label: str | None, expected: str, tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", Z)
    np.save(tmp_path / "short.npy", Y[:3])
    np.save(tmp_path / "high.npy", [0, 3, 1, 2])
    given = None if label is None else label.format(folder=tmp_path)
    assert expected in complaint(tmp_path / "s.npy", label=given)


def test_an_array_file_has_no_columns(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", Z)
    assert "leave --scores out" in complaint(tmp_path / "s.npy", scores="z_*", labels_required=False, label=None)


@pytest.mark.parametrize("shape", [(3, 4, 5), ()])
def test_arrays_of_other_shapes(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.ones(shape))
    message = complaint(tmp_path / "s.npy", label=None, labels_required=False)
    assert f"an array of shape {shape}" in message


def test_batches_have_at_least_one_row(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="batch_rows is 0; give at least 1"):
        open_scores(npz(tmp_path, logits=Z, y=Y), batch_rows=0)


def test_a_file_cut_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "s.npy"
    np.save(path, np.zeros((1000, 3)))
    batches = open_scores(path, labels_required=False, batch_rows=500).batches()
    next(batches)
    os.truncate(path, 1000)
    with pytest.raises(InputError, match=r"s\.npy: cannot be read as NPY .*cut while being read"):
        next(batches)
