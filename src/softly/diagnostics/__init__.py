"""What is the matter with scores: saturation, gaps, rows that depend on their batch or future, attention, its scale."""

from softly.diagnostics.attention import AttentionReport, inspect_attention
from softly.diagnostics.batches import BatchDependence, ModeDependence, batch_dependence
from softly.diagnostics.exclusive import SoftmaxOrSigmoids, softmax_or_sigmoids
from softly.diagnostics.gaps import EnergyGap, energy_gap
from softly.diagnostics.leaks import LeakReport, leak_test
from softly.diagnostics.scaling import ScaledWeights, ScalingReport, inspect_scaling
from softly.diagnostics.sure_rows import Saturation, SaturationGroup, saturation

__all__ = [
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
]
