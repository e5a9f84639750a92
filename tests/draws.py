"""Scores and labels of which the truth is known."""

import numpy as np


def draw(rows, classes, temperature, *, scale=2.0, seed=0):
    """Scores whose labels follow softmax(scores / temperature)."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, classes)) * scale
    gumbel = rng.gumbel(size=z.shape)
    return z, np.argmax(z / temperature + gumbel, axis=1)


def softmax(scores):
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def random_case(rows=2000, classes=5, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    scores = 2 * rng.standard_normal((rows, classes))
    labels = (scores + rng.gumbel(size=scores.shape) * 1.7).argmax(axis=1)
    return softmax(scores).astype(dtype), labels
