"""Interleaved medians: every round runs all contenders in a shuffled order, so that noise hits all alike.

Threads of some libraries spin for a while after a call, on the cores of whoever is next: each turn begins with a pause
and an untimed call.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import Any

Contenders = dict[str, Callable[[], Any]]  # who -> what to time

_SHORTEST = 1e-4  # seconds: shorter calls are timed several at a time
_PAUSE = 0.01


def seconds(run: Callable[[], Any], calls: int) -> float:
    """Of one call, the mean of so many."""
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def interleaved(contenders: Contenders, budget: float = 2.0, fewest: int = 5, most: int = 101) -> dict[str, float]:
    """Median seconds of a call of each, in as many rounds as the budget (seconds) holds."""
    calls = {}
    for who, run in contenders.items():
        run()  # memory, compilation, threads
        calls[who] = max(1, round(_SHORTEST / max(seconds(run, 1), 1e-7)))
    one_round = sum(_PAUSE + (1 + calls[who]) * seconds(run, 1) for who, run in contenders.items())
    rounds = min(most, max(fewest, round(budget / max(one_round, 1e-6))))
    times: dict[str, list[float]] = {who: [] for who in contenders}
    order, shuffle = list(contenders), random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for who in order:
            time.sleep(_PAUSE)
            contenders[who]()
            times[who].append(seconds(contenders[who], calls[who]))
    return {who: statistics.median(found) for who, found in times.items()}
