"""softly: raw scores to probabilities that can be trusted, and on to calibration and decisions.

The names below are the public interface; each loads its module on first use.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

__version__ = "0.1.0"

_MODULES = {
    "maps": ("softmax", "log_softmax", "logsumexp", "sparsemax", "entmax", "sigmoid", "log_sigmoid"),
    "segments": ("segment_softmax", "segment_log_softmax", "segment_logsumexp", "segment_entmax"),
    "boltzmann": ("Boltzmann",),
    "calibration": (
        "Calibrator",
        "Evaluation",
        "EvaluationStatistics",
        "TemperatureStatistics",
        "evaluate",
        "fit_calibrator",
    ),
    "curvature": (
        "Identifiability",
        "Lipschitz",
        "Sensitivity",
        "center",
        "covariance",
        "fisher_information",
        "hessian_product",
        "identifiable",
        "jacobian",
        "jacobian_product",
        "linear_hessian_product",
        "lipschitz",
        "null_direction",
        "sensitivity",
        "spectrum_bounds",
        "temperature_hessian",
    ),
    "diagnostics": (
        "AttentionReport",
        "BatchDependence",
        "EnergyGap",
        "LeakReport",
        "ModeDependence",
        "Saturation",
        "SaturationGroup",
        "ScaledWeights",
        "ScalingReport",
        "SoftmaxOrSigmoids",
        "batch_dependence",
        "energy_gap",
        "inspect_attention",
        "inspect_scaling",
        "leak_test",
        "saturation",
        "softmax_or_sigmoids",
    ),
    "dot_product_attention": (
        "AttentionStatistics",
        "attention",
        "attention_statistics",
        "attention_weights",
        "merge_attention",
    ),
    "losses": (
        "binary_cross_entropy",
        "cross_entropy",
        "cross_entropy_and_gradient",
        "fenchel_young_loss",
        "linear_cross_entropy",
        "linear_cross_entropy_and_gradients",
    ),
    "sampling": ("Draws", "gumbel_softmax", "sample"),
    "edges": ("Edges",),
    "graphs": ("graph_attention", "graph_attention_weights"),
    "jobs": ("apply_file", "calibrate_file", "evaluate_file"),
    "models": ("DeclaredCheck", "check_declared", "fit_file", "predict_file"),
    "report": ("CalibrationReport",),
    "_kernels": ("release_memory", "which"),
    "_errors": ("DegenerateFitWarning", "InputError"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted(_HOME)

if _TYPE_CHECKING:
    from softly._errors import DegenerateFitWarning as DegenerateFitWarning
    from softly._errors import InputError as InputError
    from softly._kernels import release_memory as release_memory
    from softly._kernels import which as which
    from softly.boltzmann import Boltzmann as Boltzmann
    from softly.calibration import Calibrator as Calibrator
    from softly.calibration import Evaluation as Evaluation
    from softly.calibration import EvaluationStatistics as EvaluationStatistics
    from softly.calibration import TemperatureStatistics as TemperatureStatistics
    from softly.calibration import evaluate as evaluate
    from softly.calibration import fit_calibrator as fit_calibrator
    from softly.curvature import Identifiability as Identifiability
    from softly.curvature import Lipschitz as Lipschitz
    from softly.curvature import Sensitivity as Sensitivity
    from softly.curvature import center as center
    from softly.curvature import covariance as covariance
    from softly.curvature import fisher_information as fisher_information
    from softly.curvature import hessian_product as hessian_product
    from softly.curvature import identifiable as identifiable
    from softly.curvature import jacobian as jacobian
    from softly.curvature import jacobian_product as jacobian_product
    from softly.curvature import linear_hessian_product as linear_hessian_product
    from softly.curvature import lipschitz as lipschitz
    from softly.curvature import null_direction as null_direction
    from softly.curvature import sensitivity as sensitivity
    from softly.curvature import spectrum_bounds as spectrum_bounds
    from softly.curvature import temperature_hessian as temperature_hessian
    from softly.diagnostics import AttentionReport as AttentionReport
    from softly.diagnostics import BatchDependence as BatchDependence
    from softly.diagnostics import EnergyGap as EnergyGap
    from softly.diagnostics import LeakReport as LeakReport
    from softly.diagnostics import ModeDependence as ModeDependence
    from softly.diagnostics import Saturation as Saturation
    from softly.diagnostics import SaturationGroup as SaturationGroup
    from softly.diagnostics import ScaledWeights as ScaledWeights
    from softly.diagnostics import ScalingReport as ScalingReport
    from softly.diagnostics import SoftmaxOrSigmoids as SoftmaxOrSigmoids
    from softly.diagnostics import batch_dependence as batch_dependence
    from softly.diagnostics import energy_gap as energy_gap
    from softly.diagnostics import inspect_attention as inspect_attention
    from softly.diagnostics import inspect_scaling as inspect_scaling
    from softly.diagnostics import leak_test as leak_test
    from softly.diagnostics import saturation as saturation
    from softly.diagnostics import softmax_or_sigmoids as softmax_or_sigmoids
    from softly.dot_product_attention import AttentionStatistics as AttentionStatistics
    from softly.dot_product_attention import attention as attention
    from softly.dot_product_attention import attention_statistics as attention_statistics
    from softly.dot_product_attention import attention_weights as attention_weights
    from softly.dot_product_attention import merge_attention as merge_attention
    from softly.edges import Edges as Edges
    from softly.graphs import graph_attention as graph_attention
    from softly.graphs import graph_attention_weights as graph_attention_weights
    from softly.jobs import apply_file as apply_file
    from softly.jobs import calibrate_file as calibrate_file
    from softly.jobs import evaluate_file as evaluate_file
    from softly.losses import binary_cross_entropy as binary_cross_entropy
    from softly.losses import cross_entropy as cross_entropy
    from softly.losses import cross_entropy_and_gradient as cross_entropy_and_gradient
    from softly.losses import fenchel_young_loss as fenchel_young_loss
    from softly.losses import linear_cross_entropy as linear_cross_entropy
    from softly.losses import linear_cross_entropy_and_gradients as linear_cross_entropy_and_gradients
    from softly.maps import entmax as entmax
    from softly.maps import log_sigmoid as log_sigmoid
    from softly.maps import log_softmax as log_softmax
    from softly.maps import logsumexp as logsumexp
    from softly.maps import sigmoid as sigmoid
    from softly.maps import softmax as softmax
    from softly.maps import sparsemax as sparsemax
    from softly.models import DeclaredCheck as DeclaredCheck
    from softly.models import check_declared as check_declared
    from softly.models import fit_file as fit_file
    from softly.models import predict_file as predict_file
    from softly.report import CalibrationReport as CalibrationReport
    from softly.sampling import Draws as Draws
    from softly.sampling import gumbel_softmax as gumbel_softmax
    from softly.sampling import sample as sample
    from softly.segments import segment_entmax as segment_entmax
    from softly.segments import segment_log_softmax as segment_log_softmax
    from softly.segments import segment_logsumexp as segment_logsumexp
    from softly.segments import segment_softmax as segment_softmax


def __getattr__(name: str) -> _Any:
    if name not in _HOME:
        raise AttributeError(f"module 'softly' has no attribute {name!r}")
    value = getattr(_import_module(f"softly.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
