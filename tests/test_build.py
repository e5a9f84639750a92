"""What happens at installation where something is missing."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_without_a_compiler_the_wheel_holds_the_expressions_alone(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    settings = ["-C", f"build-dir={tmp_path / 'build'}"]
    subprocess.run(command + settings, check=True, env=os.environ | {"CXX": "/nowhere/c++"})
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "softly/maps.py" in names
    assert "softly/report/page.html.jinja" in names
    assert not [name for name in names if "_core" in name and not name.endswith(".pyi")]


def make(tmp_path, script):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n{script}\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    return subprocess.run(
        ["make", "-s", "-C", str(tmp_path), f"PYTHON={python}", "demo"], capture_output=True, text=True
    )


@pytest.mark.skipif(not (ROOT / "Makefile").exists(), reason="no Makefile here")
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ('case "$*" in *version_info*) exit 1;; esac', "softly needs Python 3.11 or later: install python3"),
        ('case "$*" in *ensurepip*) exit 1;; esac', "The venv module is missing: install it"),
    ],
)
def test_what_is_missing_is_said_in_one_line(tmp_path, script, said):
    done = make(tmp_path, script)
    assert done.returncode != 0
    assert [line for line in done.stdout.splitlines() if line.startswith(said)]
    assert not (tmp_path / ".venv").exists()
