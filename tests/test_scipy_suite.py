"""SciPy's own tests of softmax, log_softmax and logsumexp, as its wheel ships them, run on softly's."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import semantics

SUITE = "special/tests/test_logsumexp.py"
PASSES_A_BACKEND = 300  # of about 400; nothing run must not look like nothing failed

# SciPy's tests that softly fails on purpose: which, and why. All others pass, those included that SciPy marks as beyond
# itself.
DISAGREEMENTS = {
    r"::test_gh22601_infinite_elements\[jax\.numpy-(?!.*\(inf[+-]infj\)).*\(-inf[+-]infj\)": "expects what XLA's exp "
    "makes of -inf with an infinite imaginary part, NaN; a score of -inf is impossible",
    r"::test_device\[array_api_strict-1": "has a device without 64-bit integers, on which array_api_strict's "
    "own argmax fails",
}


@pytest.mark.skipif(semantics.FORCED, reason="told for the default target")
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "backends",
    [
        pytest.param(("numpy", "array_api_strict", "torch"), id="numpy array_api_strict torch"),
        pytest.param(("jax.numpy",), id="jax", marks=pytest.mark.slow),  # XLA compiles every operation
    ],
)
def test_scipys_tests_pass(backends: tuple[str, ...], tmp_path: Path) -> None:
    """Exactly the tests listed above fail, none is skipped, and there are as many as there should be."""
    here = [name for name in backends if importlib.util.find_spec(name.partition(".")[0])]
    if not here:
        pytest.skip("none of these libraries is installed")
    outcomes = run_suite(here, tmp_path)
    for backend in here:
        passed = [name for name, outcome in outcomes.items() if f"[{backend}" in name and outcome == "passed"]
        assert len(passed) > PASSES_A_BACKEND, backend
    on_purpose = {name for name in outcomes for pattern in DISAGREEMENTS if re.search(pattern, name)}
    assert {name for name, outcome in outcomes.items() if outcome != "passed"} ^ on_purpose == set()


def run_suite(backends: list[str], tmp_path: Path) -> dict[str, str]:
    """The outcome of each of SciPy's tests on these libraries, in a process with its conftest and our adapter.

    `--runxfail` runs also what SciPy marks as beyond itself.
    """
    spec = importlib.util.find_spec("scipy")
    assert spec is not None
    assert spec.origin is not None
    scipy, outcomes = Path(spec.origin).parent, tmp_path / "outcomes"
    path = os.pathsep.join(filter(None, [str(semantics.HERE), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {
        "PYTHONPATH": path,
        "SCIPY_ARRAY_API": json.dumps(backends),
        "SCIPY_OUTCOMES": str(outcomes),
    }
    places = ["-c", os.devnull, "--rootdir", str(scipy), "--confcutdir", str(scipy), str(scipy / SUITE)]
    plugins = ["-p", "scipy_adapter", "-p", "no:cacheprovider", "--runxfail"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=short", *plugins, *places],
        env=environment, capture_output=True, text=True, timeout=800,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout[-4000:] + done.stderr[-2000:]
    lines = outcomes.read_text(encoding="utf-8").splitlines()
    return {name: outcome for outcome, _, name in (line.partition(" ") for line in lines)}
