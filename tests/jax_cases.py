"""What the tests of JAX share: every function as one row of a table, and points to call them at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

import softly

ROWS, ENTRIES = 6, 5
ORDER = np.random.default_rng(5).permutation(ROWS * ENTRIES)  # of entries told by index
INDEX = np.repeat(np.arange(ROWS), ENTRIES)[ORDER]
WEIGHTS = np.array([1.0, -0.25, 2.0, 0.5, 0.0])
ALPHAS = (1.0, 1.25, 1.5, 2.0, 3.0)


Call = Callable[..., Any]  # (scores (ROWS, ENTRIES), one temperature a row, mask, alpha)


def over_rows(name: str, **options: Any) -> Call:
    return lambda z, t, where, alpha: getattr(softly, name)(z, temperature=t, where=where, **options)


def over_scores(name: str) -> Call:
    return lambda z, t, where, alpha: getattr(softly, name)(z, temperature=t[..., None], where=where)


def over_offsets(name: str) -> Call:
    """The rows as segments, end to end."""

    def call(z: Any, t: Any, where: Any, alpha: Any) -> Any:
        offsets = ENTRIES * np.arange(ROWS + 1)
        return getattr(softly, name)(z.reshape(-1), offsets=offsets, temperature=t, where=where.reshape(-1))

    return call


def over_index(name: str, takes_alpha: bool = False) -> Call:
    """The rows as segments, their entries in disorder."""

    def call(z: Any, t: Any, where: Any, alpha: Any) -> Any:
        options = {"alpha": alpha} if takes_alpha else {}
        return getattr(softly, name)(
            z.reshape(-1)[ORDER],
            index=INDEX,
            temperature=t,
            where=where.reshape(-1)[ORDER],
            **options,
        )

    return call


CALLS: dict[str, Call] = {
    "softmax": over_rows("softmax"),
    "log_softmax": over_rows("log_softmax"),
    "logsumexp": over_rows("logsumexp"),
    "logsumexp, weights": lambda *arguments: over_rows("logsumexp", weights=WEIGHTS, return_sign=True)(*arguments)[0],
    "sparsemax": over_rows("sparsemax"),
    "entmax": lambda z, t, where, alpha: softly.entmax(z, temperature=t, where=where, alpha=alpha),
    "entmax 1.5": over_rows("entmax"),
    "sigmoid": over_scores("sigmoid"),
    "log_sigmoid": over_scores("log_sigmoid"),
    "segment_softmax": over_offsets("segment_softmax"),
    "segment_log_softmax": over_index("segment_log_softmax"),
    "segment_logsumexp": over_index("segment_logsumexp"),
    "segment_entmax": over_index("segment_entmax", takes_alpha=True),
}
QUICK = ("softmax", "log_softmax", "logsumexp", "logsumexp, weights", "sparsemax", "entmax", "segment_softmax")
TAKE_ALPHA = ("entmax", "segment_entmax")


def arguments(seed: int = 0, alpha: float = 1.25) -> list[Any]:
    """Scores with all of a row's entries possible but where masked, temperatures, mask, alpha."""
    rng = np.random.default_rng(seed)
    where = rng.random((ROWS, ENTRIES)) < 0.7
    where[0], where[:, 0] = True, True
    return [rng.standard_normal((ROWS, ENTRIES)), rng.uniform(0.5, 2, ROWS), where, alpha]


def hopeless(alpha: float = 1.25) -> list[Any]:
    """The same shapes: nothing possible, NaN and infinities behind the mask, ties at +inf, limits of T."""
    z, t, where, _ = arguments()
    z[0], z[1], where[2] = -np.inf, [np.inf, 1, np.inf, -np.inf, 0], False
    z[3], where[3] = [np.nan, np.inf, 1, 2, -np.inf], [False, False, True, True, True]
    z[4], t[4] = [1, 2, 2, 0, -np.inf], np.inf
    z[5], t[5], where[5] = [1, 2, 3, 0, -1], 0, True
    return [z, t, where, alpha]


def slow_but(*quick: str, of: Iterable[str]) -> list[Any]:
    """Parameters of which only a few are not slow: XLA takes seconds for a program."""
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in of]
