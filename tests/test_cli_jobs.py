"""calibrate, apply, evaluate and demo on the command line: what they write and say, and what they refuse."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import softly
from softly.cli import main

NAMES = ("cat", "dog", "bird")
HEADER = "id,logit_cat,logit_dog,logit_bird,species\n"


@pytest.fixture(autouse=True)
def plain(monkeypatch, tmp_path):
    for name in ("FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def sample():
    """Scores (3000, 3) that are four times too sure, and labels."""
    generator = np.random.default_rng(7)
    honest = generator.normal(0, 1.5, (3000, 3))
    labels = (softly.softmax(honest).cumsum(axis=1) < generator.random((3000, 1))).sum(axis=1)
    return 4 * honest, labels


@pytest.fixture
def csv(sample, tmp_path):
    scores, labels = (array.tolist() for array in sample)
    rows = (f"r{i},{a!r},{b!r},{c!r},{NAMES[y]}" for i, ((a, b, c), y) in enumerate(zip(scores, labels, strict=True)))
    path = tmp_path / "scores.csv"
    path.write_text(HEADER + "\n".join(rows) + "\n")
    return str(path)


@pytest.fixture
def fitted(sample, tmp_path):
    path = tmp_path / "fitted.json"
    path.write_text(softly.fit_calibrator(*sample, classes=NAMES).to_json())
    return path


def run(capsys, *arguments):
    """Standard output of a run that must end well and warn of nothing."""
    assert main([str(argument) for argument in arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refuse(capsys, *arguments):
    """The one line of a run that must end with 2, without `softly: `."""
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("softly: ")
    assert err.count("\n") == 1
    return err.removeprefix("softly: ").removesuffix("\n")


def test_demo(capsys, tmp_path):
    shown = run(capsys, "demo")
    words = " ".join(shown.split())
    assert words.startswith("Claims of 90 % and more were right 75 % of the time; now 9")
    assert "ECE, equal-mass bins 0.254" in words
    assert max(map(len, shown.splitlines())) <= 80
    directory = tmp_path / "softly-demo"
    assert {path.name for path in directory.iterdir()} == {"calibrator.json", "probabilities.npz", "report.html"}
    for path in directory.iterdir():
        assert f"softly-demo/{path.name}\n" in shown
    assert 4.9 < json.loads((directory / "calibrator.json").read_text())["temperature"] < 5.3
    assert "--force" in refuse(capsys, "demo")
    assert run(capsys, "demo", "--force") == shown


def test_calibrate_writes_and_tells(csv, sample, capsys, tmp_path):
    shown = run(capsys, "calibrate", csv, "--label", "species", "--out", "out")
    assert "Before" in shown
    assert "Temperature 4." in shown
    assert "out/probabilities.csv\n" in shown
    assert "\x1b" not in shown
    calibrator = softly.Calibrator.from_json((tmp_path / "out/calibrator.json").read_text())
    assert calibrator.classes == NAMES
    lines = (tmp_path / "out/probabilities.csv").read_text().splitlines()
    assert lines[0] == HEADER.strip() + ",p_cat,p_dog,p_bird"
    written = np.array([line.split(",")[-3:] for line in lines[1:]], dtype=float)
    assert written.tobytes() == calibrator.apply(sample[0]).tobytes()


def test_calibrate_json_is_the_report(csv, capsys):
    options = ("--label", "species", "--folds", 3, "--seed", 4)
    found = json.loads(run(capsys, "calibrate", csv, "--out", "a", "--json", *options))
    assert found.pop("files") == {
        "calibrator": "a/calibrator.json", "probabilities": "a/probabilities.csv", "report": "a/report.html"
    }  # fmt: skip
    report = softly.calibrate_file(csv, label="species", out="b", folds=3, seed=4)
    assert found == json.loads(report.to_json())
    assert (report.folds, report.seed) == (3, 4)


def test_options_choose_columns_and_kind(sample, capsys):
    probabilities = softly.softmax(sample[0])
    columns = {f"p{i}": column for i, column in enumerate(probabilities.T)}
    pq.write_table(pa.table({"other": sample[1], **columns, "y": sample[1]}), "t.parquet")
    options = ("--label", "y", "--scores", "p?", "--classes", "a,b,c", "--json")
    refused = refuse(capsys, "evaluate", "t.parquet", *options)
    assert refused.startswith("t.parquet: scores look like probabilities")
    assert "--kind probabilities" in refused
    declared = json.loads(run(capsys, "evaluate", "t.parquet", *options, "--kind", "probabilities"))
    assert sorted(row["name"] for row in declared["per_class"]) == ["a", "b", "c"]
    assert declared["accuracy"]["value"] == (sample[0].argmax(axis=1) == sample[1]).mean()
    trusted = json.loads(run(capsys, "evaluate", "t.parquet", *options, "--kind", "logits"))
    assert trusted["log_loss"]["value"] != declared["log_loss"]["value"]
    shown = run(capsys, "calibrate", "t.parquet", *options[:-1], "--kind", "probabilities", "--out", "o")
    assert "Temperature 4." in shown


def test_apply_adds_columns(csv, fitted, sample, capsys, tmp_path):
    shown = run(capsys, "apply", fitted, csv, "--out", "new.csv")
    assert shown == "3,000 rows with calibrated probabilities: new.csv\n"
    lines = (tmp_path / "new.csv").read_text().splitlines()
    written = np.array([line.split(",")[-3:] for line in lines[1:]], dtype=float)
    assert written.tobytes() == softly.Calibrator.from_json(fitted.read_text()).apply(sample[0]).tobytes()
    assert "--force" in refuse(capsys, "apply", fitted, csv, "--out", "new.csv")
    run(capsys, "apply", fitted, csv, "--out", "new.csv", "--force")


def test_apply_finds_columns_in_another_order(csv, fitted, capsys, tmp_path):
    lines = [line.split(",") for line in (tmp_path / csv).read_text().splitlines()]
    turned = tmp_path / "turned.csv"
    turned.write_text("\n".join(",".join(line[::-1]) for line in lines) + "\n")
    run(capsys, "apply", fitted, csv, "--out", "new.csv")
    run(capsys, "apply", fitted, turned, "--out", "turned-new.csv")
    last = [
        [line.split(",")[-3:] for line in (tmp_path / name).read_text().splitlines()]
        for name in ("new.csv", "turned-new.csv")
    ]
    assert last[0] == last[1]


def test_log_loss_is_finite_where_probabilities_underflow(capsys, tmp_path):
    np.savez(tmp_path / "far.npz", logits=np.array([[0, -3000], [1, 0]], np.float16), labels=[1, 0])
    found = json.loads(run(capsys, "evaluate", "far.npz", "--json"))
    assert found["log_loss"]["value"] == pytest.approx((3000 + 0.31326168751822286) / 2, rel=1e-7)


def test_evaluate_tells(csv, capsys):
    shown = run(capsys, "evaluate", csv, "--label", "species")
    assert shown.startswith("3,000 rows, 3 classes")
    for measure in ("Accuracy", "Log-loss", "Brier score", "ECE by chance alone", "Confidence"):
        assert measure in shown
    assert max(map(len, shown.splitlines())) <= 80
    found = json.loads(run(capsys, "evaluate", csv, "--label", "species", "--json"))
    assert found == json.loads(softly.evaluate_file(csv, label="species").to_json())


def test_figures_that_do_not_exist(capsys, tmp_path):
    (tmp_path / "two.csv").write_text("logit_0,logit_1,y\n0,-inf,1\n0,1,1\n")
    words = " ".join(run(capsys, "evaluate", "two.csv", "--label", "y").split())
    assert "Log-loss inf Brier" in words
    assert words.count("[") == words.count("]") > 3
    assert "Squared error, debiased \u2013 " in words


def test_strict_turns_a_warning_into_1(capsys, tmp_path):
    rows = [f"{3 * (i % 2)},{3 - 3 * (i % 2)},{i % 2 if i % 5 else 1 - i % 2}" for i in range(40)]
    (tmp_path / "few.csv").write_text("logit_0,logit_1,y\n" + "\n".join(rows))
    for strict, status in (((), 0), (("--strict",), 1)):
        command = ("calibrate", "few.csv", "--label", "y", "--out", "o", "--force", *strict)
        assert main(list(command)) == status
        out, err = capsys.readouterr()
        assert out.count("o/report.html") == 1
        assert err
        assert all(line.startswith("softly: warning: ") for line in err.splitlines())


def test_progress_on_a_terminal_only(csv, capsys, monkeypatch):
    command = ["evaluate", csv, "--label", "species"]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert "evaluating" in err
    assert "\x1b" not in out
    assert main([*command, "--json"]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("TERM", "dumb")
    assert main(command) == 0
    assert capsys.readouterr().err == ""


def table(*rows):
    return HEADER + "".join(f"{row}\n" for row in rows)


GOOD = "r0,1,2,3,cat"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("s.csv", None, ["s.csv: no such file"]),
        ("s.csv", b"", ["s.csv: empty (0 bytes)"]),
        ("s.csv", table(), ["s.csv", "no rows"]),
        ("s.csv", table(GOOD, "r1,1,two,3,cat"), ["s.csv, line 3", "logit_dog", "'two'"]),
        ("s.csv", table(GOOD, "r1,1,nan,3,cat"), ["s.csv, line 3", "logit_dog", "NaN"]),
        ("s.csv", table(GOOD, "r1,1,,3,cat"), ["s.csv, line 3", "logit_dog", "missing"]),
        ("s.csv", table(GOOD, "r1,1,3,cat"), ["s.csv", "line 3"]),
        ("s.csv", table(GOOD, "r1,1,2,3,fish"), ["s.csv, line 3", "'fish'", "cat, dog, bird", "--classes"]),
        ("s.csv", table(GOOD, "r1,1,2,3,"), ["s.csv, line 3", "label is missing"]),
        ("s.csv", table(GOOD, "r1,1,2,3,3"), ["s.csv, line 3", "3", "0..2"]),
        ("s.csv", "species\ncat\n", ["s.csv", "fewer than two classes"]),
        ("s.csv", "a,b,c\n1,2,0\n", ["s.csv", "'species'", "columns: a, b, c"]),
        ("s.csv", table("r0,.5,.25,.25,cat", "r1,0,1,0,dog"), ["probabilities", "kind"]),
        ("s.csv", b"\x89PNG\r\n\x1a\n", ["s.csv", "PNG image"]),
        ("s.npz", table(GOOD), ["s.npz", "not an NPZ file"]),
        ("s.parquet", b"PAR1 and then no more", ["s.parquet", "truncated"]),
        ("s.xls", table(GOOD), ["s.xls", "unknown suffix '.xls'"]),
    ],
)
def test_bad_scores(name, content, said, capsys, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    for command in (("calibrate", "--out", "out"), ("evaluate",)):
        message = refuse(capsys, command[0], name, "--label", "species", *command[1:])
        assert all(words in message for words in said), message
    assert [path.name for path in tmp_path.iterdir()] == ([] if content is None else [name])


def test_bad_options(csv, capsys, tmp_path):
    def said(*options):
        return refuse(capsys, "calibrate", csv, "--out", "out", *options)

    label = ("--label", "species")
    assert "--label" in said()
    assert "columns: id, logit_cat" in said(*label, "--scores", "logits*")
    assert "2 names in --classes" in said(*label, "--classes", "a,b")
    assert "folds" in said(*label, "--folds", "1")
    assert "'--seed'" in said(*label, "--seed", "-1")
    reverse = said(*label, "--kind", "probabilities")
    assert "scores.csv, line 2" in reverse
    assert "declare kind 'logits'" in reverse
    os.mkfifo(tmp_path / "pipe.csv")
    assert "a pipe, not a regular file" in refuse(capsys, "evaluate", tmp_path / "pipe.csv", *label)
    assert "no .parquet files" in refuse(capsys, "evaluate", tmp_path, *label)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": ["a", "b"]}, "3 classes of scores, but the calibrator was fitted on 2"),
        ({"classes": ["dog", "cat", "fish"]}, "'cat', but 'dog'"),
        ({"version": 99}, "fitted.json: calibrator: version 99"),
        ({"temperature": -3}, "fitted.json: calibrator: temperature is -3"),
        ({"temperature": "hot"}, "fitted.json: calibrator: temperature is 'hot'"),
        ({"format": "other"}, "fitted.json: calibrator: not a softly calibrator"),
        ({"more": 1}, "fitted.json: calibrator: unknown field 'more'"),
        (b"{not json", "fitted.json: calibrator: not JSON"),
        (b"\x89PNG\xff", "fitted.json: calibrator: not JSON"),
        (None, "fitted.json: cannot be read (No such file or directory)"),
    ],
)
def test_bad_calibrators(changes, said, csv, fitted, capsys, tmp_path):
    if isinstance(changes, dict):
        fitted.write_text(json.dumps({**json.loads(fitted.read_text()), **changes}))
    elif changes is None:
        fitted.unlink()
    else:
        fitted.write_bytes(changes)
    assert said in refuse(capsys, "apply", fitted, csv, "--out", "new.csv")
    assert not (tmp_path / "new.csv").exists()


def test_bad_outputs(csv, fitted, capsys, tmp_path):
    command = ("calibrate", csv, "--label", "species", "--out")
    (tmp_path / "taken").write_text("mine")
    assert "taken: is a file" in refuse(capsys, *command, "taken")
    assert (tmp_path / "taken").read_text() == "mine"
    assert "line 2" not in refuse(capsys, "calibrate", csv, "--label", "nowhere", "--out", "made/for/nothing")
    assert not (tmp_path / "made").exists()
    assert "below one" in refuse(capsys, *command, "taken/below")
    if os.path.isdir("/proc"):
        assert "/proc/softly" in refuse(capsys, *command, "/proc/softly")  # not even root may write there
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("mine")
    assert "--force" in refuse(capsys, *command, "out")
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["mine"]
    apply = ("apply", fitted, csv, "--out")
    assert "is a directory" in refuse(capsys, *apply, "out")
    assert "does not exist" in refuse(capsys, *apply, "nowhere/new.csv")


def test_a_full_disk_leaves_nothing(csv, tmp_path):
    command = [sys.executable, "-m", "softly", "calibrate", csv, "--label", "species", "--out", "out"]
    limited = ["sh", "-c", 'ulimit -f 10; exec "$@"', "sh", *map(str, command)]  # blocks of 512 or 1024 bytes
    done = subprocess.run(limited, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("softly: out/report.html: cannot be written (File too large)")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("moment", ["TableWriter.write", "from_fit", "CalibrationReport.to_html"])
def test_interrupts_leave_no_half_written_file(moment, csv, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(f"softly.jobs.{moment}", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert main(["calibrate", csv, "--label", "species", "--out", "out"]) == 130
    assert capsys.readouterr() == ("", "softly: interrupted\n")
    assert not (tmp_path / "out").exists()


def test_a_pipe_for_a_calibrator_is_refused_not_waited_for(csv, capsys, tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    assert "not a regular file" in refuse(capsys, "apply", tmp_path / "pipe.json", csv, "--out", "new.csv")


def test_a_negative_seed_is_refused_before_anything_is_written(csv, tmp_path):
    with pytest.raises(ValueError, match="seed=-1"):
        softly.calibrate_file(csv, label="species", out=tmp_path / "o", seed=-1)
    assert not (tmp_path / "o").exists()
