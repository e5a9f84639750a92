"""The temperature that maximises the likelihood: safeguarded Newton in b = 1/T on a convex function.

The gradient g(b) = sum(<z, p_b> - z_y) increases in b. A finite T > 0 exists if and only if g(0) < 0 (scores better
than a guess) and g(inf) = sum(max z - z_y) > 0 (some label does not have the largest score); NUMERICS fact 3. Both are
tested exactly, on exact sums, before anything is fitted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from softly.calibration.statistics import Point, TemperatureStatistics

Status = Literal["ok", "separable", "anti_correlated", "constant"]
MESSAGES: dict[Status, str] = {
    "separable": "every label has the largest score of its row: the likelihood grows as T -> 0 and no finite "
    "temperature is best; T = 1 is kept. Fit on rows that the model has not seen.",
    "anti_correlated": "the scores are no better than a guess (labels score below their row's average): no "
    "temperature helps; T = 1 is kept. Check that labels and columns are in the same order.",
    "constant": "every row has equal scores: they say nothing, and no temperature changes them; T = 1 is kept.",
}
ONE_CLASS = "all labels are of one class: the temperature says nothing about the others"
QUANTILE = 1.959963984540054  # of the normal distribution, for a 95 % interval

# Newton's error squares at each step: a step of 1e-5 leaves about 1e-10 times the third derivative's ratio.
_LAST_STEP = 1e-5
_LARGEST_STEP = 8.0  # as a factor on b, until both sides are bracketed
_MAXIMUM_SCANS = 200

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
    """The root of one gradient: a bracket (lower, upper) in b, and where to look next."""

    without_fold: int | None
    beta: float = 0.0
    lower: float = 0.0
    upper: float = math.inf
    status: Status | None = None
    last: Point | None = None
    log_loss_before: float = math.nan
    history: list[float] = field(default_factory=list)

    def begin(self, statistics: TemperatureStatistics, start: float | None) -> None:
        """From the statistics at b = 0 and b = 1: does a temperature exist, and where to begin."""
        at_zero, at_one = (statistics.point(i, self.without_fold) for i in (0, 1))
        self.log_loss_before = -at_one.log_likelihood
        if at_zero.curvature == 0:
            self.status = "constant"
        elif at_zero.gradient >= 0:
            self.status = "anti_correlated"
        elif statistics.regret(self.without_fold) == 0:
            self.status = "separable"
        else:
            newton_from_zero = -at_zero.gradient / at_zero.curvature
            self.beta = start if start is not None else newton_from_zero
            return
        self.last, self.beta = at_one, 1.0

    def advance(self, at: Point) -> None:
        """One safeguarded Newton step from the likelihood at self.beta."""
        self.last = at
        if at.gradient < 0:
            self.lower = at.beta
        else:
            self.upper = at.beta
        step = -at.gradient / at.curvature if at.curvature > 0 else math.copysign(math.inf, -at.gradient)
        candidate = min(max(at.beta + step, at.beta / _LARGEST_STEP), at.beta * _LARGEST_STEP)
        self.history.append(self.upper - self.lower)
        slow = len(self.history) > 3 and self.history[-1] > self.history[-4] / 2 and self.upper < math.inf
        if abs(step) <= _LAST_STEP * at.beta:
            self.status = "ok"
        elif self.upper < math.inf and self.upper - self.lower <= 4e-16 * self.upper:
            self.status, candidate = "ok", at.beta
        elif slow or not self.lower < candidate < self.upper:
            candidate = self._middle()
        self.beta = candidate

    def _middle(self) -> float:
        if self.upper == math.inf:
            return self.lower * _LARGEST_STEP
        if self.lower == 0:
            return self.upper / _LARGEST_STEP
        return math.sqrt(self.lower) * math.sqrt(self.upper)


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


def _result(search: _Search, first: TemperatureStatistics) -> TemperatureFit:
    at = search.last
    weight = first.total_weight(search.without_fold)
    if at is None or search.status is None:
        raise ArithmeticError(f"the temperature search did not end near b = {search.beta}: please report these scores")
    temperature, error, interval = 1.0, None, None
    if search.status == "ok":
        temperature = 1.0 / search.beta
        relative = 1.0 / (search.beta * math.sqrt(at.curvature))  # standard error of log b, which is that of log T
        factor = math.exp(QUANTILE * relative) if QUANTILE * relative < 700 else math.inf
        error, interval = temperature * relative, (temperature / factor, temperature * factor)
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
