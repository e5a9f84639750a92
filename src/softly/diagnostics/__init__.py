"""What is the matter with these scores: saturation, energy gaps, rows that depend on their batch, exclusive or not."""

from softly.diagnostics.batches import BatchDependence, ModeDependence, batch_dependence
from softly.diagnostics.exclusive import SoftmaxOrSigmoids, softmax_or_sigmoids
from softly.diagnostics.gaps import EnergyGap, energy_gap
from softly.diagnostics.sure_rows import Saturation, SaturationGroup, saturation

__all__ = [
    "BatchDependence",
    "EnergyGap",
    "ModeDependence",
    "Saturation",
    "SaturationGroup",
    "SoftmaxOrSigmoids",
    "batch_dependence",
    "energy_gap",
    "saturation",
    "softmax_or_sigmoids",
]
