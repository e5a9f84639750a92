"""Scores and labels of which the truth is known."""

import numpy as np


def draw(rows, classes, temperature, *, scale=2.0, seed=0):
    """Scores whose labels follow softmax(scores / temperature)."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, classes)) * scale
    gumbel = rng.gumbel(size=z.shape)
    return z, np.argmax(z / temperature + gumbel, axis=1)
