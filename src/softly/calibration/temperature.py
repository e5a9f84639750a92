"""The temperature that maximises the likelihood: safeguarded Newton in b = 1/T on a convex function.

The gradient g(b) = sum(<z, p_b> - z_y) increases in b. A finite T > 0 exists if and only if g(0) < 0 (scores better
than a guess) and g(inf) = sum(max z - z_y) > 0 (some label does not have the largest score); NUMERICS fact 3. Both are
tested exactly, on exact sums, before anything is fitted.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from softly._errors import InputError
from softly.calibration.statistics import NORMAL_975, Point, TemperatureStatistics

Status = Literal["ok", "separable", "anti_correlated", "constant"]
MESSAGES: dict[Status, str] = {
    "separable": "every label has the largest score of its row: the likelihood grows as T -> 0 and no finite "
    "temperature is best; T = 1 is kept. Fit on rows that the model has not seen.",
    "anti_correlated": "the scores are no better than a guess (labels score below their row's average): no "
    "temperature helps; T = 1 is kept. Check that labels and columns are in the same order.",
    "constant": "every row has equal scores: they say nothing, and no temperature changes them; T = 1 is kept.",
}
ONE_CLASS = "all labels are of one class: the temperature says nothing about the others"

_LAST_STEP = 1e-5  # Newton's error squares at each step: after this one it is about 1e-10
_FAR = 8.0  # a bracket wider than this factor, or a step beyond it, is not trusted
_MAXIMUM_SCANS = 200

_ORIGIN = Point(0.0, 0.0, 0.0, 0.0)

Scan = Callable[[tuple[float, ...]], TemperatureStatistics]


@dataclass(frozen=True, slots=True, kw_only=True)
class TemperatureFit:
    """A fitted temperature; `standard_error` and `interval` (95 %) are None unless the status is "ok"."""

    temperature: float
    standard_error: float | None
    interval: tuple[float, float] | None
    status: Status
    rows: int
    weight: float
    classes_seen: int
    log_loss_before: float  # mean at T = 1
    log_loss: float  # mean at the fitted temperature

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user must know before trusting the fit."""
        if self.status != "ok":
            return (MESSAGES[self.status],)
        return (ONE_CLASS,) if self.classes_seen == 1 else ()


@dataclass(slots=True)
class _Search:
    """The root of one gradient: the nearest points on both sides of it, and where to look next."""

    without_fold: int | None
    beta: float = 0.0
    lower: Point = _ORIGIN
    upper: Point | None = None
    newton_from_zero: float = math.nan
    status: Status | None = None
    last: Point | None = None
    log_loss_before: float = math.nan
    gradients: list[float] = field(default_factory=list)

    def begin(self, statistics: TemperatureStatistics, start: float | None) -> None:
        """From the statistics at b = 0 and b = 1: does a temperature exist, and where to begin."""
        at_zero, at_one = (statistics.point(i, self.without_fold) for i in (0, 1))
        self.last, self.log_loss_before = at_one, -at_one.log_likelihood
        regret = statistics.regret(self.without_fold)
        if not all(map(math.isfinite, (*at_zero, *at_one, regret))):
            raise InputError("scores, times their weights, overflow the likelihood in their sum: scale them down")
        if regret == 0 and at_zero.gradient == 0:
            self.status = "constant"
        elif at_zero.gradient >= 0:
            self.status = "anti_correlated"
        elif regret == 0:
            self.status = "separable"
        elif at_zero.curvature == 0:
            raise InputError("scores differ so little that their squares underflow: scale them up")
        else:
            self.lower, self.newton_from_zero = at_zero, _newton(at_zero)
            self.advance(at_one)
            if start is not None and self.status is None:
                self.beta = start

    def advance(self, at: Point) -> None:
        """From the likelihood at self.beta: end here with a last Newton step, or choose where to look next."""
        self.last = at
        if at.gradient < 0:
            self.lower = at
        else:
            self.upper = at
        self.gradients.append(abs(at.gradient))
        newton = _newton(at)
        if abs(newton - at.beta) <= _LAST_STEP * at.beta:
            self.beta, self.status = newton, "ok"
        elif self.upper and self.upper.beta - self.lower.beta <= 4e-16 * self.upper.beta:
            self.beta, self.status = at.beta, "ok"
        else:
            self.beta = self._next(at)

    def _next(self, at: Point) -> float:
        """The gradient is nearly concave in b, so that Newton's step from the left stays left of the root.

        Without an upper point: that step, and never less than the one from b = 0, which has the scores' scale. With
        both points near: the root of the cubic through them. From the right alone: Newton in log b, then from b = 0.
        """
        low, high = self.lower, self.upper
        if high is None:
            steps = [b for b in (_newton(low), self.newton_from_zero) if b > low.beta]
            return min(max(steps, default=math.inf), max(low.beta * _FAR, self.newton_from_zero))
        if low.beta == 0:
            relative = -at.gradient / (at.beta * at.curvature) if at.curvature > 0 else -math.inf
            if relative > -math.log(_FAR):
                return at.beta * math.exp(relative)
            return _interpolated(low, high) if len(self.gradients) == 1 else self.newton_from_zero
        slow = len(self.gradients) > 3 and self.gradients[-1] > self.gradients[-3] / 2
        guess = _newton(low) if high.beta > _FAR * low.beta else _interpolated(low, high)
        return guess if low.beta < guess < high.beta and not slow else math.sqrt(low.beta) * math.sqrt(high.beta)


def _newton(at: Point) -> float:
    return at.beta - at.gradient / at.curvature if at.curvature > 0 else math.nan


def _interpolated(low: Point, high: Point) -> float:
    """The root between two points on both sides of it of the cubic that has their gradients and curvatures."""
    width = high.beta - low.beta

    def gradient(t: float) -> float:
        ends = low.gradient * (1 + 2 * t) * (1 - t) ** 2 + high.gradient * t * t * (3 - 2 * t)
        return ends + width * t * (1 - t) * (low.curvature * (1 - t) - high.curvature * t)

    left, right = 0.0, 1.0
    while (middle := (left + right) / 2) not in (left, right):
        left, right = (middle, right) if gradient(middle) < 0 else (left, middle)
    return low.beta + width * middle


def fit_temperatures(
    scan: Scan, *, fold_count: int = 0, starts: Callable[[], Sequence[float | None]] | None = None
) -> tuple[TemperatureFit, ...]:
    """Fit on all rows, then on all rows but those of each fold, everything in the same scans.

    `scan(betas)` returns the statistics of all rows at those betas; it is called a handful of times. `starts()`, asked
    after the first scan, gives the inverse temperatures to begin from (None: a Newton step from b = 0).
    """
    searches = [_Search(None)] + [_Search(fold) for fold in range(fold_count)]
    first = scan((0.0, 1.0))
    for search, start in zip(searches, starts() if starts else [None] * len(searches), strict=True):
        search.begin(first, start)
    for _ in range(_MAXIMUM_SCANS):
        active = [s for s in searches if s.status is None]
        if not active:
            break
        statistics = scan(tuple(s.beta for s in active))
        for i, search in enumerate(active):
            search.advance(statistics.point(i, search.without_fold))
    return tuple(_result(s, first) for s in searches)


def temperature_interval(temperature: float, standard_error: float) -> tuple[float, float]:
    """The 95 % interval, symmetric in log T, within the finite positive numbers."""
    relative = NORMAL_975 * standard_error / temperature
    factor = math.exp(relative) if relative < 700 else math.inf
    return max(temperature / factor, sys.float_info.min), min(temperature * factor, sys.float_info.max)


def _result(search: _Search, first: TemperatureStatistics) -> TemperatureFit:
    at = search.last
    weight = first.total_weight(search.without_fold)
    if at is None or search.status is None:
        raise ArithmeticError(f"the temperature search did not end near b = {search.beta}: please report these scores")
    temperature, error, interval = 1.0, None, None
    if search.status == "ok":
        temperature = 1.0 / search.beta
        # The standard error of log b, which is that of log T.
        error = min(temperature / (search.beta * math.sqrt(at.curvature)), sys.float_info.max)
        interval = temperature_interval(temperature, error)
    return TemperatureFit(
        temperature=temperature,
        standard_error=error,
        interval=interval,
        status=search.status,
        rows=first.total_rows(search.without_fold),
        weight=weight,
        classes_seen=first.classes_seen(search.without_fold),
        log_loss_before=search.log_loss_before / weight if weight else math.nan,
        log_loss=-at.log_likelihood / weight if weight else math.nan,
    )
