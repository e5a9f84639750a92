"""Bugs that were found once, by name."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import softly
from softly.cli import main


def run(capsys, *arguments):
    status = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_a_flat_fit_has_an_interval_that_json_can_hold():
    fitted = softly.fit_calibrator([[0, 5.0], [0, 5.0]], [1, 0], sample_weight=[500001, 500000])
    assert fitted.status == "ok"
    assert all(map(np.isfinite, fitted.interval))
    assert softly.Calibrator.from_json(fitted.to_json()) == fitted


def test_sums_beyond_a_double_are_an_error_not_a_traceback(capsys, tmp_path):
    np.savez(tmp_path / "a.npz", logits=[[1, 2.0], [8e307, -8e307], [8e307, -8e307]], labels=[0, 1, 1])
    status, out, _ = run(capsys, "evaluate", tmp_path / "a.npz", "--json")
    assert (status, json.loads(out)["log_loss"]["value"]) == (0, "inf")
    rows = np.zeros((80, 2))
    rows[:, 0] = 1.3e154
    with pytest.raises(ValueError, match="scale them down"):
        softly.fit_calibrator(rows, [0, 1] * 40)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 10**400},
        {"version": True},
        {"version": 1.0},
        {"standard_error": 1e30},
        {"classes": ["", "a"]},
        {"classes": ["\ud800", "a"]},
    ],
)
def test_edited_calibrators_are_refused_in_one_line(change):
    fitted = softly.fit_calibrator([[4.0, 0.0], [3.0, 0.0], [2.0, 0.0]], [0, 0, 1])
    with pytest.raises(ValueError, match="calibrator: ") as refused:
        softly.Calibrator.from_json(json.dumps(fitted.to_dict() | change))
    assert len(str(refused.value)) < 300


def test_json_nested_beyond_reason_is_refused():
    with pytest.raises(ValueError, match="not JSON"):
        softly.Calibrator.from_json("[" * 100_000)


def test_a_single_column_of_probabilities_is_that_of_class_1(capsys, tmp_path):
    rng = np.random.default_rng(0)
    gap = 4 * rng.normal(size=2000)
    labels = (rng.random(2000) < 1 / (1 + np.exp(-gap / 2))).astype(int)
    p = 1 / (1 + np.exp(-gap))
    wanted = softly.fit_calibrator(gap, labels).temperature
    assert softly.fit_calibrator(p, labels, kind="probabilities").temperature == pytest.approx(wanted, rel=1e-6)
    assert softly.fit_calibrator(np.log(p), labels, kind="log_probabilities").temperature == pytest.approx(wanted, 1e-6)
    with pytest.raises(ValueError, match="look like probabilities"):
        softly.fit_calibrator(p, labels)
    lines = [f"{a!r},{b}" for a, b in zip(p.tolist(), labels, strict=True)]
    (tmp_path / "p.csv").write_text("\n".join(["prob,label", *lines]))
    status, _, err = run(capsys, "calibrate", tmp_path / "p.csv", "--label", "label", "--out", tmp_path / "o")
    assert (status, "look like probabilities" in err) == (2, True)
    options = ("--label", "label", "--out", tmp_path / "o", "--kind", "probabilities", "--json")
    status, out, _ = run(capsys, "calibrate", tmp_path / "p.csv", *options)
    assert json.loads(out)["calibrator"]["temperature"] == pytest.approx(wanted, rel=1e-6)


def test_a_logits_calibrator_refuses_a_file_of_probabilities(capsys, tmp_path):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(300, 3)) * 3
    labels = np.argmax(logits / 2 + rng.gumbel(size=logits.shape), axis=1)
    (tmp_path / "c.json").write_text(softly.fit_calibrator(logits, labels).to_json())
    np.save(tmp_path / "p.npy", softly.softmax(logits))
    status, _, err = run(capsys, "apply", tmp_path / "c.json", tmp_path / "p.npy", "--out", tmp_path / "x.npy")
    assert (status, "look like probabilities" in err) == (2, True)
    assert not (tmp_path / "x.npy").exists()


def test_only_all_rows_together_look_like_probabilities(tmp_path):
    rng = np.random.default_rng(0)
    rows = np.concatenate([softly.softmax(rng.normal(size=(65536, 2))), rng.normal(size=(10, 2)) * 5])
    np.savez(tmp_path / "mixed.npz", logits=rows, labels=rng.integers(0, 2, len(rows)))
    assert softly.evaluate_file(tmp_path / "mixed.npz", label=None).rows == 65546


def test_closed_standard_streams_do_not_break_a_job(tmp_path):
    np.savez(tmp_path / "a.npz", logits=np.random.default_rng(0).normal(size=(50, 3)), labels=[0, 1] * 25)
    command = f"{sys.executable} -m softly calibrate a.npz --out o 2>&-"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, stdout=subprocess.PIPE)
    assert done.returncode == 0
    assert len(os.listdir(tmp_path / "o")) == 3


def test_fold_statuses_reach_the_warnings(capsys, tmp_path):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(400, 3)) * 8
    labels = logits.argmax(axis=1)
    labels[7] = logits[7].argsort()[1]
    np.savez(tmp_path / "one-wrong.npz", logits=logits, labels=labels)
    status, _, err = run(capsys, "calibrate", tmp_path / "one-wrong.npz", "--out", tmp_path / "o", "--strict")
    assert (status, "Without 1 of the 5 folds no temperature could be fitted (separable)" in err) == (1, True)


@pytest.mark.parametrize("where", ["scores", "labels", "weights", "apply", "mask"])
def test_masked_arrays_never_lose_their_mask_silently(where):
    z, y = np.ma.masked_array([[4.0, 0], [3, 0], [2, 0]]), np.ma.masked_array([0, 0, 1])
    calls = {
        "scores": lambda: softly.fit_calibrator(z, [0, 0, 1]),
        "labels": lambda: softly.fit_calibrator(z.data, y),
        "weights": lambda: softly.fit_calibrator(z.data, y.data, sample_weight=np.ma.masked_array([1, 1, 1])),
        "apply": lambda: softly.fit_calibrator(z.data, y.data).apply(z),
        "mask": lambda: softly.softmax(z.data, where=z > 1),
    }
    with pytest.raises(TypeError, match="masked array"):
        calls[where]()


def test_a_traced_negative_temperature_gives_nan():
    pytest.importorskip("jax")
    code = """
import jax, numpy as np, softly
for function in (softly.softmax, softly.log_softmax, softly.sparsemax, softly.logsumexp):
    for z in ([2.0, 1.0, -1.0], [1.0, 1.0, 1.0]):
        result = jax.jit(lambda x, t: function(x, temperature=t))(np.float32(z), np.float32(-1))
        assert np.isnan(result).all(), (function, result)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_outputs_are_one_set(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", logits=rng.normal(size=(99, 3)), labels=rng.integers(0, 3, 99))
    monkeypatch.setattr("softly.report.CalibrationReport.to_html", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        softly.calibrate_file(tmp_path / "a.npz", label=None, out=tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_names_given_for_columns_serve_apply_too(capsys, tmp_path):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(60, 3)), rng.integers(0, 3, 60)
    for first in ("logit_A,logit_B,logit_C", "logit_0,logit_1,logit_2"):
        rows = "\n".join(",".join(map(repr, r.tolist())) + f",{y}" for r, y in zip(logits, labels, strict=True))
        (tmp_path / "t.csv").write_text(f"{first},label\n{rows}\n")
        given = ("--classes", "cat,dog,fox")
        options = ("--label", "label", "--out", tmp_path / "o", "--force", *given)
        assert run(capsys, "calibrate", tmp_path / "t.csv", *options)[0] == 0
        also = given if "A" in first else ()
        output = ("--out", tmp_path / "n.csv", "--force", *also)
        assert run(capsys, "apply", tmp_path / "o/calibrator.json", tmp_path / "t.csv", *output)[0] == 0
        assert (tmp_path / "n.csv").read_text() == (tmp_path / "o/probabilities.csv").read_text()


def test_a_row_with_nothing_possible_is_named_by_its_line(capsys, tmp_path):
    (tmp_path / "t.csv").write_text("logit_a,logit_b,label\n1,2,a\n-inf,-inf,b\n")
    status, _, err = run(capsys, "evaluate", tmp_path / "t.csv", "--label", "label")
    assert (status, "t.csv, line 3: every score is -inf" in err) == (2, True)


def test_an_output_among_its_own_inputs_is_refused(capsys, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "parts").mkdir()
    table = pa.table({"logit_a": [1.0, 2.0], "logit_b": [2.0, 1.5], "label": ["a", "b"]})
    pq.write_table(table, tmp_path / "parts/1.parquet")
    for source in (tmp_path / "parts", tmp_path / "parts/*.parquet"):
        status, _, err = run(capsys, "calibrate", source, "--label", "label", "--out", tmp_path / "parts")
        assert (status, "among its own inputs" in err) == (2, True)


def test_npz_arrays_are_not_held_whole(tmp_path):
    import tracemalloc

    np.savez_compressed(tmp_path / "a.npz", logits=np.zeros((400_000, 10), np.float32), labels=np.zeros(400_000, int))
    source = softly.jobs.open_scores(tmp_path / "a.npz", batch_rows=1000)
    tracemalloc.start()
    assert sum(len(batch.labels) for batch in source.batches()) == 400_000
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()


def test_torch_tensors_with_a_graph_and_bfloat16_are_taken():
    torch = pytest.importorskip("torch")
    z = torch.tensor([[4.0, 0.0], [3.0, 0.0], [2.0, 0.0]], requires_grad=True)
    fitted = softly.fit_calibrator(z, torch.tensor([0, 0, 1]))
    assert fitted.temperature == pytest.approx(2.518188627440724)
    half = z.detach().bfloat16()
    assert softly.fit_calibrator(half, [0, 0, 1]).temperature == pytest.approx(2.518188627440724)
    assert softly.evaluate(torch.tensor([[0.5, 0.5]]).bfloat16(), [0]).log_loss.value == pytest.approx(np.log(2))


def test_tiny_scores_are_not_called_constant():
    with pytest.raises(ValueError, match="scale them up"):
        softly.fit_calibrator([[1e-200, 0.0], [1e-200, 0.0], [1e-200, 0.0]], [0, 0, 1])


def test_numbers_beyond_reason_are_value_errors(capsys):
    assert softly.softmax([2.0, 1.0], temperature=10**400).tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="temperature"):
        softly.softmax([2.0, 1.0], temperature=-(10**400))
    with pytest.raises(ValueError, match="bins"):
        softly.evaluate([0.5, 0.2], [0, 1], bins=10**30)
    with pytest.raises(ValueError, match="sample_weight"):
        softly.fit_calibrator([[1.0, 2], [3, 1]], [0, 0], sample_weight=["a", "b"])
    status, _, err = run(capsys, "evaluate", "", "--label", "x")
    assert (status, "empty" in err) == (2, True)
    with pytest.raises(ValueError, match="out is empty"):
        softly.calibrate_file("x.npz", label=None, out="")
