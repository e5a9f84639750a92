"""Interleaved medians: every round runs all contenders in a shuffled order, so that noise hits all alike.

Threads of some libraries spin for a while after a call (onnxruntime's for 40 ms), on the cores of whoever is next: each
turn begins when they have come to rest. It begins untimed: a kernel may wake threads on the caller's core, and they
need milliseconds to come to another one.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import Any

Contenders = dict[str, Callable[[], Any]]  # who -> what to time

_SHORTEST = 1e-4  # seconds: shorter calls are timed several at a time
_PAUSE, _MOST_PAUSES, _UNTIMED = 0.01, 20, 0.02


def seconds(run: Callable[[], Any], calls: int) -> float:
    """Of one call, the mean of so many."""
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def rest() -> None:
    """Pause until a pause has gone by in which no thread of this process was at work."""
    for _ in range(_MOST_PAUSES):
        before = time.process_time()
        time.sleep(_PAUSE)
        if time.process_time() - before < _PAUSE / 10:
            return


def warm(run: Callable[[], Any]) -> None:
    """Call until all threads are at work."""
    end = time.perf_counter() + _UNTIMED
    while True:
        run()
        if time.perf_counter() >= end:
            return


def interleaved(contenders: Contenders, budget: float = 2.0, fewest: int = 5, most: int = 101) -> dict[str, float]:
    """Median seconds of a call of each, in as many rounds as the budget (seconds) holds."""
    calls = {}
    for who, run in contenders.items():
        run()  # memory, compilation, threads
        calls[who] = max(1, round(_SHORTEST / max(seconds(run, 1), 1e-7)))
    one_round = sum(_PAUSE + _UNTIMED + calls[who] * seconds(run, 1) for who, run in contenders.items())
    rounds = min(most, max(fewest, round(budget / max(one_round, 1e-6))))
    times: dict[str, list[float]] = {who: [] for who in contenders}
    order, shuffle = list(contenders), random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for who in order:
            rest()
            warm(contenders[who])
            times[who].append(seconds(contenders[who], calls[who]))
    return {who: statistics.median(found) for who, found in times.items()}
