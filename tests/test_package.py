"""The package as such: its public names, its imports, its examples, its skeleton."""

import doctest
import importlib
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import softly

PUBLIC = [
    "AttentionReport",
    "AttentionStatistics",
    "BatchDependence",
    "Boltzmann",
    "CalibrationReport",
    "Calibrator",
    "DeclaredCheck",
    "DegenerateFitWarning",
    "Draws",
    "Edges",
    "EnergyGap",
    "Evaluation",
    "EvaluationStatistics",
    "Identifiability",
    "InputError",
    "LeakReport",
    "Lipschitz",
    "ModeDependence",
    "Saturation",
    "SaturationGroup",
    "ScaledWeights",
    "ScalingReport",
    "Sensitivity",
    "SoftmaxOrSigmoids",
    "TemperatureStatistics",
    "apply_file",
    "attention",
    "attention_statistics",
    "attention_weights",
    "batch_dependence",
    "binary_cross_entropy",
    "calibrate_file",
    "check_declared",
    "fit_file",
    "predict_file",
    "center",
    "covariance",
    "cross_entropy",
    "cross_entropy_and_gradient",
    "energy_gap",
    "entmax",
    "evaluate",
    "evaluate_file",
    "fenchel_young_loss",
    "fisher_information",
    "fit_calibrator",
    "gumbel_softmax",
    "graph_attention",
    "graph_attention_weights",
    "hessian_product",
    "identifiable",
    "inspect_attention",
    "inspect_scaling",
    "jacobian",
    "jacobian_product",
    "leak_test",
    "linear_cross_entropy",
    "linear_cross_entropy_and_gradients",
    "linear_hessian_product",
    "lipschitz",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "merge_attention",
    "null_direction",
    "sample",
    "release_memory",
    "saturation",
    "segment_entmax",
    "segment_log_softmax",
    "segment_logsumexp",
    "segment_softmax",
    "sensitivity",
    "sigmoid",
    "softmax",
    "softmax_or_sigmoids",
    "sparsemax",
    "spectrum_bounds",
    "temperature_hessian",
    "which",
]
ROOT = Path(__file__).parent.parent


def modules():
    return sorted(m.name for m in pkgutil.walk_packages(softly.__path__, "softly.") if "__main__" not in m.name)


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_public_names_are_those_listed_and_all_exist():
    assert sorted(softly.__all__) == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(softly, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'softmaxx'"):
        softly.softmaxx  # noqa: B018


def test_the_version_is_the_projects():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert softly.__version__ == project["version"]


def test_importing_softly_imports_no_framework_and_not_even_numpy():
    loaded = python("import sys, softly; print(*sys.modules)").stdout.split()
    assert "softly" in loaded
    assert not {"numpy", "torch", "jax", "pyarrow", "click", "rich", "jinja2"} & set(loaded)


def test_using_the_maps_imports_no_framework_that_the_caller_has_not():
    use = "softly.softmax(numpy.ones(3)); softly.fit_calibrator([[1.0, 2], [1, 3]], [0, 1])"
    loaded = set(python(f"import sys, numpy, softly; {use}; print(*sys.modules)").stdout.split())
    assert "softly.maps" in loaded
    assert not {"torch", "jax", "pyarrow", "click", "rich", "jinja2"} & loaded


def test_the_proof_about_imports_can_fail():
    assert "json" in python("import sys, softly, json; print(*sys.modules)").stdout.split()


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_run(name):
    if name.startswith("softly.files"):
        pytest.skip("its examples need files; tests/test_files_*.py run the like")
    if name.startswith("softly.torch"):
        pytest.importorskip("torch", exc_type=ImportError)
    found = doctest.testmod(importlib.import_module(name), extraglobs={"softly": softly})
    assert found.failed == 0


def test_the_readme_example_runs():
    text = (ROOT / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_which_says_what_runs():
    import numpy as np

    from softly import _kernels

    said = softly.which("softmax", np.ones((2, 3), np.float32))
    if _kernels.core is None:
        assert said == "softmax float32: array expression"
    else:
        assert said == (
            f"softmax float32: compiled core, {_kernels.core.active_target()}, {_kernels.core.threads()} threads"
        )


@pytest.fixture
def calls_of(monkeypatch):
    """A list that grows with every call of the kernel of an operation and a dtype."""
    import numpy as np

    from softly import _kernels

    if _kernels.core is None:
        pytest.skip("no compiled core")

    def listed(operation, dtype):
        key = operation, "cpu", np.dtype(dtype)
        kernel, direct, calls = _kernels.TABLE[key], _kernels.DIRECT[operation], []

        def counted(*arguments):
            result = direct(*arguments)
            calls.extend([1] * (result is not None))
            return result

        monkeypatch.setitem(_kernels.TABLE, key, lambda *a: calls.append(1) or kernel(*a))
        at = _kernels.AT[operation]
        monkeypatch.setitem(_kernels.AT, operation, lambda *a: calls.append(1) or at(*a))
        monkeypatch.setitem(_kernels.DIRECT, operation, counted)
        return calls

    return listed


@pytest.mark.parametrize("operation", ["softmax", "log_softmax", "logsumexp", "entmax"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_core_takes_the_calls_that_it_should(operation, dtype, calls_of):
    import numpy as np

    calls = calls_of(operation, dtype)
    scores = np.ones((4, 6), dtype)
    function = getattr(softly, operation)
    for call in (
        lambda: function(scores),
        lambda: function(scores.T, axis=0),
        lambda: function(scores[:, ::2], temperature=2.0, where=scores[:, ::2] > 0),
        lambda: function(scores, temperature=np.arange(4.0)),
        lambda: getattr(softly, f"segment_{operation}")(scores, offsets=[0, 3, 4]),
        lambda: getattr(softly, f"segment_{operation}")(scores, index=[2, 0, 2, 1], temperature=2.0),
    ):
        calls.clear()
        call()
        assert calls == [1]


@pytest.mark.parametrize("operation", ["sigmoid", "log_sigmoid"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_core_takes_the_sigmoids(operation, dtype, calls_of):
    import numpy as np

    calls = calls_of(operation, dtype)
    scores, function = np.ones((4, 6), dtype), getattr(softly, operation)
    function(scores)
    function(scores.T)
    function(scores, temperature=np.arange(6.0), where=scores > 0)
    assert calls == [1, 1, 1]


def test_the_core_takes_torch_tensors_on_the_cpu(calls_of):
    torch = pytest.importorskip("torch")
    calls = calls_of("softmax", "float32")
    softly.softmax(torch.ones(4, 6))
    softly.softmax(torch.ones(4, 6, dtype=torch.bfloat16))
    softly.segment_softmax(torch.ones(4, 6), offsets=torch.tensor([0, 4]))
    assert calls == [1, 1, 1]


def test_without_the_core_everything_still_runs():
    code = (
        "import os; os.environ['SOFTLY_TARGET'] = 'none'\n"
        "import softly\n"
        "from softly import _kernels\n"
        "assert _kernels.core is None and 'SOFTLY_TARGET=none' in _kernels.why_no_core\n"
        "fitted = softly.fit_calibrator([[4.0, 0], [3, 0], [2, 0]], [0, 0, 1])\n"
        "print(softly.softmax([2.0, 1.0, -1.0]).round(4), fitted.temperature)"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[0.7054 0.2595 0.0351] 2.518")


def test_a_target_that_is_not_there_is_an_import_error_that_lists_those_that_are():
    code = "import os; os.environ['SOFTLY_TARGET'] = 'sse9'; import softly; softly.softmax"
    done = python(code)
    assert "ImportError: SOFTLY_TARGET=sse9 is not available here; available: " in done.stderr
    assert "none" in done.stderr
