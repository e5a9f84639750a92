"""Estimators after the conventions of scikit-learn, and what is decided with them; each loads on first use."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

_HOME = {
    "DeclaredCheck": "declared",
    "check_declared": "declared",
    "fit_file": "jobs",
    "predict_file": "jobs",
    "ConditionalLogit": "choice",
    "SigmoidClassifier": "sigmoid_classifier",
    "SoftmaxClassifier": "softmax_classifier",
}
__all__ = sorted(_HOME)

if _TYPE_CHECKING:
    from softly.models.choice import ConditionalLogit as ConditionalLogit
    from softly.models.declared import DeclaredCheck as DeclaredCheck
    from softly.models.declared import check_declared as check_declared
    from softly.models.jobs import fit_file as fit_file
    from softly.models.jobs import predict_file as predict_file
    from softly.models.sigmoid_classifier import SigmoidClassifier as SigmoidClassifier
    from softly.models.softmax_classifier import SoftmaxClassifier as SoftmaxClassifier


def __getattr__(name: str) -> _Any:
    if name not in _HOME:
        raise AttributeError(f"module 'softly.models' has no attribute {name!r}")
    value = getattr(_import_module(f"softly.models.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
