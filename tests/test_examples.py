"""The scripts of examples/, run as a user does: in their own process, without a network, from another directory."""

import os
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
QUICK = {"learning", "populations"}
SCRIPTS = sorted(file.stem for file in EXAMPLES.glob("*.py") if not file.name.startswith("_"))
NO_NETWORK = """import socket

def refuse(*_, **__):
    raise OSError("an example asked for the network")

socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
"""


def paths():
    """The lines of PYTHONPATH as whole paths, for another working directory."""
    return [str(Path(path).resolve()) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


@pytest.fixture
def run(tmp_path):
    """Runs a Python file with arguments, offline; what is finished."""
    (tmp_path / "sitecustomize.py").write_text(NO_NETWORK)
    path = os.pathsep.join([str(tmp_path), *paths()])

    def finished(file, *arguments):
        return subprocess.run(
            [sys.executable, "-W", "error::DeprecationWarning:__main__", str(file), *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "2"},
            capture_output=True,
            text=True,
            timeout=240,
        )

    return finished


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SCRIPTS]
)
def test_an_example_runs_and_its_claims_hold(name, run, tmp_path):
    figures = tmp_path / "figures"
    done = run(EXAMPLES / f"{name}.py", "--out", str(figures))
    if (missing := re.search(r"ModuleNotFoundError: No module named '(torch|jax|sklearn)", done.stderr)) is not None:
        pytest.skip(f"no {missing[1]}")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert re.search(r"^claim: \S", done.stdout, re.MULTILINE)
    drawn = sorted(figures.iterdir())
    assert drawn
    for file in drawn:
        assert file.suffix == ".svg"
        assert xml.etree.ElementTree.parse(file).getroot().tag.endswith("}svg")
        assert (EXAMPLES / "figures" / file.name).exists(), f"run python examples/{name}.py and commit its figure"


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_says_what_it_shows_and_in_few_lines(name):
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    assert re.match(r'"""\S.+\n\n', text)
    assert f"Run: python examples/{name}.py" in text
    assert text.count("\n") <= 160
    assert f"({name}.py)" in (EXAMPLES / "README.md").read_text(encoding="utf-8")


def test_every_figure_that_a_page_shows_is_there():
    for page in EXAMPLES.glob("*.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (EXAMPLES / link).exists(), f"{page.name} names {link}"


def test_a_claim_that_does_not_hold_ends_the_script(run, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(EXAMPLES)!r})\n"
        "from _script import claim\nclaim('one', 1 < 2)\nclaim('two', 2 < 1)\nclaim('three', True)"
    )
    done = run(script)
    assert (done.returncode, done.stdout, done.stderr) == (1, "claim: one\n", "does not hold: two\n")


def test_an_example_cannot_reach_the_network(run, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import urllib.request as r; r.urlopen('http://localhost:9')")
    assert "an example asked for the network" in run(script).stderr


def test_data_of_examples_stay_out_of_what_is_distributed():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["scikit-build"]
    assert settings["wheel"]["packages"] == ["src/softly"]
    assert "examples" in settings["sdist"]["exclude"]
