"""`softly probabilities`: numbers as typed, equal to the Python call, zeros told apart, the naive formula shown."""

import io
import json
import math
import os
import sys

import numpy as np
import pytest

import softly
from softly.cli import main


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in ("FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(capsys, monkeypatch):
    def run(*arguments, stdin=None):
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        assert main(["probabilities", *map(str, arguments)]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return run


@pytest.fixture
def refuse(capsys, monkeypatch):
    def refuse(*arguments, stdin=None):
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        assert main(["probabilities", *map(str, arguments)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        return err

    return refuse


def column(shown):
    """The third column of the table: probabilities as shown."""
    return [line.split()[2] for line in shown.splitlines()[1:]]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("2 1 -1", ["0.7054", "0.2595", "0.0351"]),
        ("2 1 -1 --shift 100", ["0.7054", "0.2595", "0.0351"]),
        ("2 1 -1 --shift -1e6", ["0.7054", "0.2595", "0.0351"]),
        ("2 1 -1 --temperature .5", ["0.8789", "0.1189", "0.0022"]),
        ("2 1 -1 --temperature inf", ["0.3333"] * 3),
        ("--temperature=0 2 1 -1", ["1", "0", "0"]),
        ("2 1 -1 --alpha 2", ["1", "0", "0"]),
        ("2,1, \u22121", ["0.7054", "0.2595", "0.0351"]),
        ("1000 -1000 -inf inf", ["0", "0", "0", "1"]),
        ("-inf -1e3 -.5e3", ["0", "7.12e-218", "1"]),
        ("-inf -inf", ["0", "0"]),
        ("3", ["1"]),
    ],
)
def test_reference_values(arguments, expected, run):
    assert column(run(*arguments.split())) == expected


def test_zeros_are_told_apart(run):
    assert "0 (underflow: below 4.9e-324; log-probability -1000)" in run(1000, 0)
    assert "0 (underflow: below 4.9e-324; log-probability -2000)" in run(1000, 0, "--temperature", 0.5)
    assert "0 (impossible)" in run(1, "-inf")
    assert "0 (impossible)" in run(1, "-inf", "--alpha", 2)
    assert "0 (beside a score of inf)" in run("inf", 1)
    assert "0 exactly (temperature 0)" in run(2, 1, "--temperature", 0)
    shown = run(2, 1, -1, "--alpha", 2)
    assert "1 exactly" in shown
    assert shown.count("0 exactly") == 2
    assert "exactly" not in run(2, 1, -1)


def test_near_one_is_not_rounded_away(run):
    assert "1 - 4.25e-18" in run(0, -40)
    assert "1 - 4.54e-05" in run(10, 0)


def test_bars_have_the_lengths_of_the_probabilities(run):
    first, second = (line.split()[-1] for line in run(math.log(3), 0).splitlines()[1:])
    assert (len(first), len(second)) == (18, 6)  # of 24
    assert {*first, *second} == {"█"}


def test_plain_text_in_80_columns_into_a_pipe(run):
    shown = run(1000, 0, -1000, "--names", "a cat,[red]dog,\x1b[31mbird", "--explain")
    assert "\x1b" not in shown
    assert "[red]dog" in shown
    assert "\\x1b[31mbird" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_without_unicode(run, monkeypatch, capsys):
    sys.stdout.reconfigure(encoding="ascii")
    shown = run(2, 1, "--names", "\u00e4,b")
    assert "\\xe4" in shown
    assert "####" in shown


@pytest.mark.parametrize(("temperature", "alpha"), [(1.0, 1), (0.3, 1), (math.inf, 1), (0.0, 1), (2.5, 2)])
def test_json_has_the_bits_of_the_python_call(temperature, alpha, run):
    scores = np.random.default_rng(0).normal(0, 30, (40, 6))
    scores[0, 0], scores[1, 1], scores[2, :2] = -math.inf, math.inf, [1e308, -1e308]
    text = "\n".join(" ".join(map(repr, row)) for row in scores.tolist())
    options = ("--json", "--temperature", temperature, "--alpha", alpha)
    found = json.loads(run(*options, stdin=text.encode()))
    function = softly.softmax if alpha == 1 else softly.sparsemax
    expected = function(scores, temperature=temperature)
    assert np.array(found["probabilities"]).tobytes() == expected.tobytes()
    assert np.array(found["scores"], dtype=float).tobytes() == scores.tobytes()
    assert (float(found["temperature"]), found["alpha"]) == (temperature, alpha)

    one = json.loads(run(*options, "--shift", 3, *map(repr, scores[3].tolist())))
    expected = function(scores[3] + 3, temperature=temperature)
    assert np.array(one["probabilities"]).tobytes() == expected.tobytes()
    assert one["scores"] == (scores[3] + 3).tolist()
    assert one["shift"] == 3


def test_json_writes_infinities_as_text(run):
    found = json.loads(run("1000", "-inf", "inf", "--json", "--explain", "--names", "a,b,c", "--temperature", "inf"))
    assert found["scores"] == [1000.0, "-inf", "inf"]
    assert found["temperature"] == "inf"
    assert found["names"] == ["a", "b", "c"]
    assert found["naive_float32"] == ["nan"] * 3


def test_explain_shows_the_naive_formula_and_the_shift(run):
    shown = run(1000, 0, "--explain")
    assert "inf" in shown
    assert "nan" in shown
    assert "Adding 100 to every score changes nothing" in shown
    assert "the same, bit for bit" in " ".join(shown.split())
    rounded = " ".join(run(0.1, 0.2, "--explain", "--shift", "1e9").split())
    assert "Adding 1e+09 to every score changes nothing: softly's probabilities differ by at most" in rounded
    assert "from the sums, which float64 rounds" in rounded
    sparse = run(0.3, 0.2, "--explain", "--alpha", 2, "--temperature", 2, "--shift", -100)
    assert "z/T - tau" in sparse
    assert "(z - 100)/T - tau" in sparse


def test_rows_from_standard_input_and_files(run, tmp_path):
    assert column(run(stdin=b"2\n1\n-1\n")) == ["0.7054", "0.2595", "0.0351"]
    assert run(stdin=b"2 1 -1") == run(2, 1, -1)
    two = run(stdin=b"\xef\xbb\xbf2, 1, -1\r\n\r\n 1;1;-inf\r\n")
    assert "row 1" in two
    assert "row 2" in two
    assert two.count("0.5000") == 2
    path = tmp_path / "scores.txt"
    path.write_text("2 1 -1\n")
    assert run("--file", path) == run(2, 1, -1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("two 1", "argument 1: 'two': not a number"),
        ("1 -two", "argument 2: '-two': not a number"),
        ("1 2 -nan", "argument 3: '-nan': not a score"),
        ("1 1_000", "argument 2: '1_000': not a number"),
        ("1 0x10", "argument 2: '0x10': not a number"),
        ("1 -1e999", "argument 2: '-1e999' is beyond float64"),
        ("1 2 --shft 3", "no such option: --shft"),
        ("1 2 --alpha 1.5", "--alpha 1.5: there are 1 (softmax), 2 (sparsemax)"),
        ("1 2 --alpha nan", "--alpha nan: there are"),
        ("1 2 --temperature -1", "temperature=-1.0"),
        ("1 2 --temperature nan", "temperature=nan"),
        ("1 2 --temperature hot", "Invalid value for '--temperature': 'hot'"),
        ("1 2 --shift inf", "--shift inf"),
        ("1e308 2 --shift 1e308", "--shift 1e+308: the scores would not be finite"),
        ("1 2 --names a", "--names: 1 names for 2 scores"),
        ("1 2 --file x", "both as arguments and by --file"),
        ("--file /no/such/file", "/no/such/file: No such file or directory"),
    ],
)
def test_refuses(arguments, said, refuse):
    assert said in refuse(*arguments.split())


def test_refuses_text_in_rows(refuse, tmp_path, monkeypatch):
    assert "standard input, line 2: 'b': not a number" in refuse(stdin=b"1 2\n3 b\n")
    assert "standard input, line 3: 1 scores, but 2 in line 1" in refuse(stdin=b"1 2\n\n3\n")
    assert "standard input: no scores" in refuse(stdin=b" \n")
    path = tmp_path / "scores"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0")
    assert f"{path}: not text" in refuse("--file", path)
    assert f"{tmp_path}: a directory" in refuse("--file", tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refuse("--file", tmp_path / "pipe")
    monkeypatch.setattr(sys, "stdin", None)
    assert "no scores: give them as arguments" in refuse()
