"""Scores and a target to a loss: cross-entropy, Fenchel-Young, binary; with masks, weights and temperatures."""

from softly.losses.binary import binary_cross_entropy as binary_cross_entropy
from softly.losses.cross_entropy import cross_entropy as cross_entropy
from softly.losses.cross_entropy import cross_entropy_and_gradient as cross_entropy_and_gradient
from softly.losses.fenchel_young import fenchel_young_loss as fenchel_young_loss
from softly.losses.linear import linear_cross_entropy as linear_cross_entropy
from softly.losses.linear import linear_cross_entropy_and_gradients as linear_cross_entropy_and_gradients
