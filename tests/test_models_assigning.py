"""k-mers, FASTA, `check_declared`, and `softly fit` and `predict` from file to decision."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

import softly
from softly.calibration.reliability import wilson
from softly.cli import main
from softly.files import fasta
from softly.models.kmers import kmer_profiles

CLASSES = ("north", "south", "west")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def drawn(rows, seed=0):
    """Features and classes that overlap."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, rows)
    return rng.normal(size=(rows, 4)) + 1.3 * np.eye(4)[y], y


def table(rows, seed=0):
    x, y = drawn(rows, seed)
    names = np.array(CLASSES)[y]
    return pa.table({**{f"x{i}": column for i, column in enumerate(x.T)}, "note": names, "origin": names})


@pytest.fixture
def csv():
    pacsv.write_csv(table(600), "train.csv")
    pacsv.write_csv(table(400, 1), "new.csv")
    return "train.csv"


def run(capsys, *arguments):
    assert main([str(argument) for argument in arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refuse(capsys, *arguments):
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_kmers_by_counting():
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACGTN"), 200, p=[0.3, 0.2, 0.2, 0.2, 0.1])) for _ in range(5)]
    found = kmer_profiles(sequences, 3).toarray()
    for row, sequence in zip(found, sequences, strict=True):
        words = [sequence[i : i + 3] for i in range(198) if "N" not in sequence[i : i + 3]]
        for place in range(64):
            word = "ACGT"[place // 16] + "ACGT"[place // 4 % 4] + "ACGT"[place % 4]
            assert row[place] ** 2 == pytest.approx(words.count(word) / len(words))
    np.testing.assert_array_equal(kmer_profiles(["ac-gu\n"]).toarray(), kmer_profiles(["ACGT"]).toarray())
    with pytest.raises(softly.InputError, match="sequence 1 has no 4 letters"):
        kmer_profiles(["ACGT", "ACGNACG"])
    with pytest.raises(softly.InputError, match="k=9"):
        kmer_profiles(["ACGT"], 9)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ACGT\n", "line 1: a FASTA file begins with a line >name"),
        (">a\nACGT\n>b\n>c\nAC\n", "line 3: 'b' has no sequence"),
        (">a\nACGT\nAC1T\n", "line 3: '1' is no letter"),
        (">\nACGT\n", "line 1: a record without a name"),
        (">a\nACGT\n>b", "line 3: 'b' has no sequence"),
        ("\n\n", "no records"),
    ],
)
def test_broken_fasta_names_the_line(text, said, tmp_path):
    path = tmp_path / "x.fasta"
    path.write_text(text)
    with pytest.raises(softly.InputError, match=said):
        list(fasta.records(path))


def test_fasta_with_its_labels_in_the_headers(capsys, tmp_path):
    rng = np.random.default_rng(0)
    lines = []
    for i in range(90):
        letters = rng.choice(list("ACGT"), 120, p=[[0.34, 0.25, 0.2, 0.21], [0.21, 0.25, 0.2, 0.34]][i % 2])
        lines.append(f">s{i} | {'early' if i % 2 else 'late'}\n{''.join(letters[:70])}\n{''.join(letters[70:])}\n")
    with gzip.open("x.fa.gz", "wt") as file:
        file.writelines(lines)
    found = json.loads(run(capsys, "fit", "x.fa.gz", "--label", "2", "--out", "m.npz", "--kmer", 2, "--json"))
    assert found["accuracy"] > 0.8
    assert found["features"] == 16
    run(capsys, "predict", "m.npz", "x.fa.gz", "--out", "out.csv")
    written = pacsv.read_csv("out.csv")
    assert written.column_names == ["id", "sequence", "1", "2", "assigned", "p_early", "p_late"]
    assert written["id"][3].as_py() == "s3"
    (tmp_path / "y.fa").write_text(">a|b\nACGT\n>a\nACGT\n")
    assert "line 3: the header has 1 parts" in refuse(capsys, "fit", "y.fa", "--label", "2", "--out", "n.npz")
    (tmp_path / "z.fa").write_text(">a|b\nACGT\n>a|c\nANNT\n")
    assert "row 1: 1 has no 4 letters" in refuse(capsys, "fit", "z.fa", "--label", "2", "--out", "n.npz")


def test_fit_and_predict(csv, capsys, tmp_path):
    shown = run(capsys, "fit", csv, "--label", "origin", "--out", "m.npz", "--target", 0.85)
    assert "600 rows, 3 classes, 4 features" in " ".join(shown.split())
    with np.load("m.npz", allow_pickle=False) as arrays:
        assert arrays["coef"].shape == (3, 4)
        assert json.loads(arrays["model.json"])["classes"] == list(CLASSES)
    said = run(capsys, "predict", "m.npz", "new.csv", "--out", "out.parquet")
    written = pq.read_table("out.parquet")
    truth, assigned = written["origin"].to_numpy(), written["assigned"].to_numpy(zero_copy_only=False)
    p = np.column_stack([written[f"p_{name}"] for name in CLASSES])
    np.testing.assert_allclose(p.sum(axis=1), 1)
    some = assigned != "unassigned"
    assert 0.3 < some.mean() < 0.95
    assert abs((assigned == truth)[some].mean() - 0.85) < 0.05
    assert f"{(~some).sum()} unassigned" in said
    assert (assigned[some] == np.array(CLASSES)[p.argmax(axis=1)][some]).all()
    assert p.max(axis=1)[some].min() > p.max(axis=1)[~some].max()
    assert softly.evaluate(p, np.searchsorted(CLASSES, truth)).ece.value < 0.08
    assert "exists already" in refuse(capsys, "predict", "m.npz", "new.csv", "--out", "out.parquet")
    run(capsys, "predict", "m.npz", "new.csv", "--out", "out.parquet", "--force", "--json")


def test_the_figures_are_for_rows_that_were_not_fitted(capsys):
    rng = np.random.default_rng(0)
    noise = pa.table({**{f"x{i}": rng.normal(size=80) for i in range(60)}, "y": rng.integers(0, 2, 80).astype(str)})
    twice = pa.concat_tables([noise, noise])  # equal rows would tell the answer
    pq.write_table(twice, "noise.parquet")
    report = softly.fit_file("noise.parquet", label="y", out="m.npz")
    assert 0.3 < report.accuracy < 0.7
    assert main(["fit", "noise.parquet", "--label", "y", "--out", "m.npz", "--force", "--strict", "--target", "1"]) in (
        0,
        1,
    )


def test_declared_origins_are_checked_on_the_way(csv, capsys):
    run(capsys, "fit", csv, "--label", "origin", "--out", "m.npz")
    new = table(400, 1)
    declared = new["origin"].to_pylist()
    declared[:100] = [CLASSES[(CLASSES.index(name) + 1) % 3] for name in declared[:100]]
    declared[100] = "east"
    pq.write_table(new.append_column("declared", pa.array(declared)), "new.parquet")
    found = json.loads(
        run(capsys, "predict", "m.npz", "new.parquet", "--declared", "declared", "--out", "out.csv", "--json")
    )
    assert found["unknown"] == 1
    verdict = pacsv.read_csv("out.csv")["verdict"].to_pylist()
    assert verdict[100] == "unknown"
    assert verdict[:100].count("flagged") > 50
    assert verdict[101:].count("flagged") < 0.1 * 299
    assert found["flagged"] == verdict.count("flagged")


def test_false_alarms_stay_within_the_bound_and_swapped_labels_are_found():
    alarms, caught = [], []
    for seed in range(40):
        x, y = drawn(500, seed)
        train, held, new = slice(0, 100), slice(100, 300), slice(300, 500)
        model = softly.models.SoftmaxClassifier().fit(x[train], y[train])
        arguments = {"held_out": model.predict_proba(x[held]), "held_out_labels": y[held], "false_alarm": 0.1}
        p = model.predict_proba(x[new])
        alarms.append(softly.check_declared(p, y[new], **arguments).flagged)
        caught.append(softly.check_declared(p, (y[new] + 1) % 3, **arguments).flagged)
    low, high = wilson(np.array([np.sum(alarms)]), np.array([np.size(alarms)]))
    assert low[0] < 0.1
    assert high[0] > 0.08  # and not wasteful
    low, _ = wilson(np.array([np.sum(caught)]), np.array([np.size(caught)]))
    assert low[0] > 0.6


def test_p_values_by_counting_with_ties():
    held = np.array([[0.2, 0.8], [0.5, 0.5], [0.5, 0.5], [0.9, 0.1]])
    found = softly.check_declared(
        [[0.5, 0.5], [0.1, 0.9]], ["a", "b"], held_out=held, held_out_labels=["a", "b", "a", "c"], false_alarm=0.5,
        classes=["a", "b"],
    )  # fmt: skip
    np.testing.assert_allclose(found.p_values, [(1 + 3) / 4, (1 + 3) / 4])
    assert found.held_out_rows == 3
    assert found.likeliest.tolist() == [0, 1]
    json.loads(found.to_json())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"false_alarm": 0.0}, "false_alarm=0.0"),
        ({"false_alarm": "0.1"}, "false_alarm='0.1'"),
        ({"false_alarm": 0.001}, "at least 999"),
        ({"declared": [2, 0]}, "declared, row 0: 2"),
        ({"declared": [0.0, 1.0]}, "declared have dtype"),
        ({"declared": [0]}, "declared have shape"),
        ({"probabilities": [[1.5, 0.0], [0.5, 0.5]]}, "row 0, class 0: 1.5"),
        ({"held_out": [[np.nan, 0.0]] * 9}, "held_out, row 0, class 0: nan"),
        ({"held_out": [[0.5, 0.3, 0.2]] * 9}, "held_out has 3 classes"),
        ({"classes": ["a", "b", "c"]}, "classes has 3"),
    ],
)
def test_bad_arguments_of_check_declared(change, said):
    good = {
        "probabilities": [[0.5, 0.5], [0.1, 0.9]], "declared": [0, 1], "held_out": [[0.5, 0.5]] * 9,
        "held_out_labels": [0] * 9, "false_alarm": 0.1,
    }  # fmt: skip
    softly.check_declared(**good)
    with pytest.raises(softly.InputError, match=said):
        softly.check_declared(**{**good, **change})


def test_bad_tables(csv, capsys, tmp_path):
    fit = ("--label", "origin", "--out", "m.npz")
    assert "no column 'place'" in refuse(capsys, "fit", csv, "--label", "place", "--out", "m.npz")
    assert "no column matches 'z*'" in refuse(capsys, "fit", csv, *fit, "--features", "z*")
    assert "'note' holds string, features must be numbers" in refuse(capsys, "fit", csv, *fit, "--features", "*o*")
    assert "target=2.0" in refuse(capsys, "fit", csv, *fit, "--target", 2)
    assert "unknown suffix" in refuse(capsys, "fit", "train.json", *fit)
    (tmp_path / "gap.csv").write_text("x,y\n1,a\n,b\n3,a\n")
    assert "gap.csv, row 1: 'x' is missing" in refuse(capsys, "fit", "gap.csv", "--label", "y", "--out", "m.npz")
    (tmp_path / "gap.csv").write_text("x,y\n1,a\n2,\n3,a\n")
    assert "gap.csv, row 1: 'y' is missing" in refuse(capsys, "fit", "gap.csv", "--label", "y", "--out", "m.npz")
    (tmp_path / "none.csv").write_text("x,y\n")
    assert "none.csv: no rows" in refuse(capsys, "fit", "none.csv", "--label", "y", "--out", "m.npz")
    (tmp_path / "one.csv").write_text("x,y\n1,a\n2,a\n")
    assert "all rows are 'a'" in refuse(capsys, "fit", "one.csv", "--label", "y", "--out", "m.npz")
    (tmp_path / "word.csv").write_text("x,y\n" + "1,a\n2,b\n" * 9 + "3,unassigned\n")
    assert "rename it" in refuse(capsys, "fit", "word.csv", "--label", "y", "--out", "m.npz")
    assert not (tmp_path / "m.npz").exists()
    run(capsys, "fit", csv, *fit)
    (tmp_path / "other.csv").write_text("x0,x1\n1,2\n")
    assert "no column 'x2'" in refuse(capsys, "predict", "m.npz", "other.csv", "--out", "o.csv")
    assert "suffix .csv or .parquet" in refuse(capsys, "predict", "m.npz", "new.csv", "--out", "o.txt")
    assert "at least 999" in refuse(
        capsys, "predict", "m.npz", "new.csv", "--declared", "origin", "--false-alarm", "0.001", "--out", "o.csv"
    )
    run(capsys, "predict", "m.npz", "new.csv", "--out", "o.csv")
    assert "column 'assigned' already" in refuse(capsys, "predict", "m.npz", "o.csv", "--out", "p.csv")
    assert not (tmp_path / "p.csv").exists()


def test_damaged_models(csv, capsys, tmp_path):
    run(capsys, "fit", csv, "--label", "origin", "--out", "m.npz")
    whole = (tmp_path / "m.npz").read_bytes()
    np.savez("other.npz", coef=np.ones(3))
    for data in (b"", b"no zip", whole[:200], whole[: len(whole) // 2], (tmp_path / "other.npz").read_bytes()):
        (tmp_path / "bad.npz").write_bytes(data)
        assert "give a file that `softly fit` wrote" in refuse(
            capsys, "predict", "bad.npz", "new.csv", "--out", "o.csv"
        )
    assert "no such file" in refuse(capsys, "predict", "absent.npz", "new.csv", "--out", "o.csv")
