"""The one Jacobian of the family: products, covariances, Hessians; how far it can stretch; what it cannot see."""

from softly.curvature.identifiability import Identifiability, center, identifiable, null_direction
from softly.curvature.products import (
    covariance,
    fisher_information,
    hessian_product,
    jacobian,
    jacobian_product,
    linear_hessian_product,
    temperature_hessian,
)
from softly.curvature.stretch import Lipschitz, Sensitivity, lipschitz, sensitivity, spectrum_bounds

__all__ = [
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
]
