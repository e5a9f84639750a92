"""SciPy's softmax, log_softmax and logsumexp made of softly's: a pytest plugin that puts them into SciPy's own tests.

Load it with `-p scipy_adapter`. The outcome of every test goes to the file that SCIPY_OUTCOMES names.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from scipy._lib._array_api import array_namespace, xp_promote

import softly


def softmax(x: Any, axis: Any = None) -> Any:
    return softly.softmax(x, axis)


def log_softmax(x: Any, axis: Any = None) -> Any:
    return softly.log_softmax(x, axis)


def logsumexp(a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False) -> Any:
    """SciPy broadcasts and promotes the scores too; softly only the weights."""
    if b is not None:
        a, b = xp_promote(a, b, broadcast=True, force_floating=True, xp=array_namespace(a, b))
    return softly.logsumexp(a, axis, weights=b, keepdims=keepdims, return_sign=return_sign)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """SciPy's functions stay known to its decorators, which ask which libraries they support; the calls go to ours."""
    for module in {item.module for item in items if isinstance(item, pytest.Function)}:
        for function in (softmax, log_softmax, logsumexp):
            assert hasattr(module, function.__name__)
            setattr(module, function.__name__, function)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """One line a test: its outcome and its name, without the file."""
    if report.when == "call" or report.outcome != "passed":
        with Path(os.environ["SCIPY_OUTCOMES"]).open("a", encoding="utf-8") as file:
            file.write(f"{report.outcome} {report.nodeid.partition('::')[2]}\n")
