"""Scores and a target to a loss: cross-entropy, Fenchel-Young, binary; with masks, weights and temperatures."""

from softly.losses.cross_entropy import cross_entropy as cross_entropy
from softly.losses.cross_entropy import cross_entropy_and_gradient as cross_entropy_and_gradient
