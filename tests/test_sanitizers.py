"""The compiled core under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import core_builds
import pytest
import semantics

FLAGS = "-g -fno-var-tracking -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
TESTS = (
    "test_semantics.py",
    "test_semantics_segments.py",
    "test_layouts.py",
    "test_layouts_segments.py",
    "test_arguments.py",
    "test_threads.py",
    "test_temperature_statistics.py",
    "test_cross_entropy_kernel.py",
    "test_sampling.py",
    "test_attention.py",
    "test_graph_attention.py",
    "test_kernel_regression.py",
    "test_properties.py",
    "test_properties_entmax.py",
    "test_properties_limits.py",
    "test_properties_segments.py",
)
READS_BEYOND = (
    "row.hpp",
    "return count == lanes<T> ? load(p) : load_first(p, count, broadcast(T(-__builtin_inf())));",
    "return load(p);",
)


def libraries() -> list[str]:
    """What a Python without sanitizers must load first; libstdc++ too, so that its exceptions are known to them."""
    names = ("libasan.so", "libubsan.so", "libstdc++.so")
    command = [core_builds.COMPILER or "c++"]
    found = [subprocess.check_output([*command, f"-print-file-name={name}"], text=True).strip() for name in names]
    return [path for path in found if Path(path).is_absolute()]


pytestmark = [
    pytest.mark.whole_machine,
    pytest.mark.slow,
    pytest.mark.skipif(not core_builds.COMPILER, reason="no C++ compiler"),
    pytest.mark.skipif(not semantics.targets(), reason="no compiled core"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sanitizers are preloaded on Linux alone"),
]


def environment(target: str) -> dict[str, str]:
    return {
        "LD_PRELOAD": " ".join(libraries()),
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
        "SOFTLY_TARGET": target,
    }


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sanitized")
    source = core_builds.copy_sources(directory / "source", semantics.targets())
    core_builds.plant(source, 1, *READS_BEYOND)
    return core_builds.build(source, directory, flags=FLAGS)


@pytest.mark.timeout(2000)
def test_nothing_is_reported_on_any_target(packages: Path) -> None:
    options = ("-x", "-s", "-k", "not torch and not every_target")  # -s: a report is the last that a process prints

    def run(target: str) -> tuple[int, str]:
        return core_builds.pytest(packages, TESTS, *options, **environment(target))

    with ThreadPoolExecutor() as pool:
        for target, (status, printed) in zip(semantics.targets(), pool.map(run, semantics.targets()), strict=True):
            assert status == 0, f"{target}: {printed[-6000:]}"


@pytest.mark.timeout(900)
def test_a_row_read_beyond_its_end_is_reported(packages: Path) -> None:
    code = "import numpy as np, softly; print('loaded', flush=True); softly.softmax(np.ones(1001))"
    planted = environment("baseline") | {"PLANTED": "1"}
    status, printed = core_builds.python(packages, "-c", code, **planted)
    assert printed.startswith("loaded\n"), printed[-3000:]
    assert status != 0
    assert "heap-buffer-overflow" in printed
    assert "load_padded" in printed
