"""What is timed is the same everywhere, and all contenders compute the same."""

import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SMALL = [
    ("softmax", "float32", 8, 300, -1, 0),
    ("softmax", "float64", 20, 8, 0, 0),
    ("softmax", "bfloat16", 8, 16, -1, 0),
    ("log_softmax", "float32", 8, 16, -1, 0),
    ("logsumexp", "float32", 8, 16, -1, 0),
    ("sparsemax", "float32", 8, 300, -1, 0),
    ("entmax", "float32", 8, 300, -1, 0),
    ("segment_softmax", "float32", 50, 1, -1, 9),
    ("segment_softmax", "float32", 50, 3, -1, 9),
]


@pytest.fixture
def benchmarks(monkeypatch):
    """The folder's modules, as its scripts see them."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield
    for name in ("shapes", "rivals", "timing", "frameworks"):
        sys.modules.pop(name, None)


def test_the_drawn_shapes_are_fixed(benchmarks):
    import shapes

    drawn = shapes.drawn()
    assert len(drawn) == 30
    assert [(s.operation, s.rows, s.columns) for s in drawn[:2]] == [("softmax", 3022060, 2), ("logsumexp", 3666, 29)]
    assert all(1 <= s.rows * s.columns <= 4e7 for s in drawn)


def test_a_slower_contender_takes_longer(benchmarks):
    import timing

    calls = []
    times = timing.interleaved({"fast": lambda: calls.append(1), "slow": lambda: sum(range(20000))}, 0.05)
    assert times["fast"] < times["slow"]
    assert len(calls) > 5


@pytest.mark.slow  # torch.compile
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", SMALL, ids=lambda case: " ".join(map(str, case)))
def test_all_contenders_compute_the_same(benchmarks, case):
    import rivals
    import shapes

    shape = shapes.Shape(*case)
    results = {}
    for who, run in rivals.contenders(shape, 1).items():
        if who != "copy":
            result = run()
            result = result[0] if isinstance(result, list) else result
            if result is not None:
                results[who] = np.asarray(result.float() if hasattr(result, "float") else result, np.float64)
    assert len(results) > 1 or case[1] == "bfloat16"
    for who, result in results.items():
        near = 1e-2 if case[1] == "bfloat16" else 1e-5
        np.testing.assert_allclose(result, results["softly"], rtol=near, atol=near, err_msg=who)


@pytest.mark.slow  # XLA's programs
@pytest.mark.filterwarnings("ignore")
def test_contenders_of_the_frameworks_compute_the_same(benchmarks, monkeypatch):
    for name in ("entmax", "jaxopt", "optax"):
        pytest.importorskip(name)
    import frameworks

    monkeypatch.setattr(frameworks, "ROWS", 8)
    monkeypatch.setattr(frameworks, "COLUMNS", 300)
    for name, contenders in (*frameworks.torch_cases(), *frameworks.jax_cases()):
        results = {who: np.asarray(run()) for who, run in contenders.items()}
        for who, result in results.items():
            np.testing.assert_allclose(result, results["softly"], rtol=2e-4, atol=2e-5, err_msg=f"{name} {who}")
