"""The kernels take as many instructions as are recorded: a regression is seen without trusting a clock."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
TOLERANCE = 0.03


@pytest.fixture
def instructions(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import instructions

    yield instructions
    sys.modules.pop("instructions")


def test_flags_are_those_of_the_build(instructions):
    assert instructions.flags_of_the_build() - set(instructions.FLAGS) <= {"-fvisibility=hidden"}


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("valgrind"), reason="no valgrind")
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="counted for AVX2")
def test_no_kernel_takes_more_instructions_than_recorded(instructions):
    record = json.loads(instructions.RECORD.read_text(encoding="utf-8"))
    if record["compiler"] != instructions.compiler():
        pytest.skip(f"counted with {record['compiler']}")
    found = instructions.counts()
    assert set(found) == set(record["per_entry"])
    more = {
        name: (count, found[name])
        for name, count in record["per_entry"].items()
        if found[name] > count * (1 + TOLERANCE)
    }
    assert not more, "recorded, found: python benchmarks/instructions.py shows all, and records them"
