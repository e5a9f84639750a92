"""Builds the compiled core apart from the installed one: with other flags, or from a changed copy of its sources.

A build's package directory, first on PYTHONPATH, holds softly with that core.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
PLANTED = """#include <cstdlib>

inline const int planted = std::getenv("PLANTED") ? std::atoi(std::getenv("PLANTED")) : 0;
"""


def replace_once(file: Path, old: str, new: str) -> None:
    """Replaces the only occurrence of `old`; AssertionError if there is none, or more."""
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file.name} holds {text.count(old)} times, not once: {old}"
    file.write_text(text.replace(old, new), encoding="utf-8")


def copy_sources(to: Path, targets: Collection[str], optimisation: str = "-O1") -> Path:
    """Copies what CMake needs to the new directory `to`, to be compiled quickly.

    Targets not among `targets` become empty: their kernels must not be called.
    """
    shutil.copytree(ROOT / "csrc", to / "csrc")
    shutil.copy(ROOT / "CMakeLists.txt", to)
    replace_once(to / "CMakeLists.txt", "-O3", optimisation)
    (to / "csrc" / "planted.hpp").write_text(PLANTED, encoding="utf-8")
    for file in (to / "csrc").glob("target_*.cpp"):
        name = file.stem.removeprefix("target_")
        if name not in targets:
            empty = f'namespace softly {{\nextern const Kernels kernels_{name} = {{"{name}"}};\n}}\n'
            file.write_text(f'#include "kernels.hpp"\n\n{empty}', encoding="utf-8")
    return to


def plant(source: Path, number: int, file: str, right: str, wrong: str) -> None:
    """Puts `wrong` beside the only `right` of a file of csrc/; it counts where the environment has PLANTED=`number`.

    Both are expressions, or `right` is a statement. A table that holds it is a constant of the compiler's no more.
    """
    path = source / "csrc" / file
    switched = f"{{ if (planted == {number}) {{ {wrong} }} else {{ {right} }} }}"
    if not right.endswith(";"):
        switched = f"(planted == {number} ? ({wrong}) : ({right}))"
    replace_once(path, right, switched)
    table = re.compile(rf"static constexpr (\w+ \w+\[\] = {{[^}}]*planted == {number} )")
    path.write_text(table.sub(r"inline static const \1", path.read_text(encoding="utf-8")), encoding="utf-8")


def tool(name: str) -> str:
    """A program that the test dependencies bring, or that the system has."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=path)
    assert found, f"no {name}: pip install --group test"
    return found


def run(*command: str) -> None:
    """Runs a step of a build; AssertionError with what it printed if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}"


def build(source: Path, directory: Path, *, flags: str = "") -> Path:
    """Builds the core of `source` in `directory`, only what has changed since; returns its package directory.

    With -O1, which takes half the time: the vectors are the kernels' own, and the bits do not depend on it.
    """
    objects, packages = directory / "objects", directory / "packages"
    if not (objects / "build.ninja").exists():
        settings = {
            "CMAKE_BUILD_TYPE": "Quick",
            "CMAKE_CXX_FLAGS": f"-O1 -include {source / 'csrc' / 'planted.hpp'} {flags}",
            "CMAKE_MAKE_PROGRAM": tool("ninja"),
            "Python_EXECUTABLE": sys.executable,
        }
        options = [f"-D{name}={value}" for name, value in settings.items()]
        run(tool("cmake"), "-S", str(source), "-B", str(objects), "-G", "Ninja", *options)
        ignored = shutil.ignore_patterns("_core*.so", "__pycache__")
        shutil.copytree(ROOT / "src" / "softly", packages / "softly", ignore=ignored)
    run(tool("ninja"), "-C", str(objects))
    (core,) = objects.glob("_core*.so")
    shutil.copy(core, packages / "softly")
    return packages


def python(packages: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Runs this Python on that softly; returns its exit status and what it printed."""
    path = os.pathsep.join(filter(None, [str(packages), str(ROOT / "tests"), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=packages,
        env=os.environ | environment | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=1800,
    )
    return done.returncode, done.stdout


def pytest(packages: Path, files: Collection[str], *options: str, **environment: str) -> tuple[int, str]:
    """Runs test files on that softly in a new process, certain that it is the one loaded."""
    arguments = ["-p", "no:cacheprovider", f"--rootdir={ROOT}", f"--config-file={ROOT / 'pyproject.toml'}", *options]
    arguments += [str(ROOT / "tests" / file) for file in files]
    code = (
        "import pytest, sys, softly._core as core; "
        f"assert core.__file__.startswith({str(packages)!r}), core.__file__; sys.exit(pytest.main({arguments!r}))"
    )
    return python(packages, "-c", code, **environment)
