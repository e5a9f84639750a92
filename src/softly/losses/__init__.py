"""Scores and a target to a loss: cross-entropy, Fenchel-Young, binary; with masks, weights and temperatures."""
