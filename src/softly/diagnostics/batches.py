"""Whether a row's scores depend on the rows beside it, and whether they have lost their scale."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from softly._arrays import plain_array
from softly._errors import InputError
from softly._records import Record

Mode = Literal["train", "eval", "as it is"]
ROUNDING = 1000  # in eps of the largest output: matrix products sum in an order that depends on the batch
_ALIKE = 0.05  # of what means and spreads of random rows differ by; the eps of a normalisation parts them by less


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeDependence(Record):
    """One mode of the model: how far a row's output moves with its company, and when it is alone.

    repeated_change: the largest change when the same batch is passed again; above `tolerance` the model is random
    (dropout) and nothing is said of its batches. change, alone_change: the largest change of an output between the
    whole batch and half of it, or the row alone. flipped, flipped_alone: rows whose largest output moves with that.
    alone_error: what the model raised at a single row.
    """

    mode: Mode
    status: Literal["independent", "depends on the batch", "random"]
    repeated_change: float
    change: float
    flipped: int
    alone_change: float
    flipped_alone: int
    alone_error: str | None
    tolerance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDependence(Record):
    """What `batch_dependence` found, by mode. lost_scale, confidence_cap: of a normalisation over the scores.

    lost_scale: the spread that every row has, None if rows differ in theirs. confidence_cap: the largest softmax
    probability that scores of this spread can give.
    """

    rows: int
    classes: int
    modes: tuple[ModeDependence, ...]
    lost_scale: float | None
    confidence_cap: float | None
    advice: tuple[str, ...]


def confidence_cap(classes: int, spread: float = 1.0) -> float:
    """The largest softmax probability of scores with mean 0 and a root mean square of `spread`.

    1 / (1 + (n - 1) exp(-spread n / sqrt(n - 1))): one score at spread sqrt(n - 1), the others -spread / sqrt(n - 1).

    >>> round(confidence_cap(3), 3), round(confidence_cap(10), 3)
    (0.807, 0.757)
    """
    others = classes - 1
    return 1.0 if others < 1 else 1 / (1 + others * math.exp(-spread * classes / math.sqrt(others)))


def batch_dependence(model: Callable[[Any], Any], batch: Any) -> BatchDependence:
    """Does a row's output change with the rows beside it, or alone, in training and in evaluation?

    - model: anything that takes a batch and returns scores (rows, ...). A torch module is judged in train and in eval
      mode, on copies: its weights, statistics and mode stay as they are.
    - batch: an array or tensor of at least four rows, which are compared in the whole batch, in half of it, and alone.

    Batch normalisation depends in train mode, where it uses the batch's statistics, and not in eval mode. Layer
    normalisation of the scores never does, but every row gets the same spread: however sure the model, softmax cannot
    pass `confidence_cap`, .807 for 3 classes and .757 for 10 without a gain.

    A change counts above 1000 eps of the largest output. ValueError for less than four rows, or an output that is not
    one for each row.

    >>> dependent = batch_dependence(lambda x: x - x.mean(axis=0), np.eye(4))
    >>> dependent.modes[0].status, dependent.modes[0].alone_change
    ('depends on the batch', 0.75)
    """
    rows = len(batch)
    if rows < 4:
        raise InputError(f"batch has {rows} rows: pass at least four, so that half of them is a batch too")
    torch = sys.modules.get("torch")
    is_module = torch is not None and isinstance(model, torch.nn.Module)
    modes: tuple[Mode, ...] = ("train", "eval") if is_module else ("as it is",)
    found, whole = [], np.empty(0)
    for mode in modes:
        with torch.no_grad() if torch is not None else nullcontext():
            dependence, whole = _judge(_caller(model, mode), batch, mode)
        found.append(dependence)
    classes = math.prod(whole.shape[1:])
    spread = _common_spread(whole)
    cap = None if spread is None else confidence_cap(classes, spread)
    return BatchDependence(
        rows=rows,
        classes=classes,
        modes=tuple(found),
        lost_scale=spread,
        confidence_cap=cap,
        advice=tuple(_advice(found, spread, cap)),
    )


def _caller(model: Any, mode: Mode) -> Callable[[Any], Any]:
    """The model in one mode, in the same state for each batch: running statistics move in train mode."""
    if mode == "as it is":
        return model  # type: ignore[no-any-return]
    work = copy.deepcopy(model).train(mode == "train")
    state = copy.deepcopy(work.state_dict())

    def call(batch: Any) -> Any:
        work.load_state_dict(state)
        return work(batch)

    return call


def _judge(call: Callable[[Any], Any], batch: Any, mode: Mode) -> tuple[ModeDependence, NDArray[Any]]:
    rows = len(batch)
    whole, again = _output(call, batch), _output(call, batch)
    half = rows // 2
    parts = np.concatenate([_output(call, batch[:half]), _output(call, batch[half:])])
    alone, error = whole, None
    try:
        alone = np.concatenate([_output(call, batch[i : i + 1]) for i in range(rows)])
    except (InputError, MemoryError):
        raise
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    tolerance = ROUNDING * float(np.finfo(whole.dtype).eps) * np.abs(whole[np.isfinite(whole)]).max(initial=0)
    repeated, change, alone_change = (_change(other, whole) for other in (again, parts, alone))
    dependence = ModeDependence(
        mode=mode,
        status="random"
        if repeated > tolerance
        else "depends on the batch"
        if max(change, alone_change) > tolerance or error is not None
        else "independent",
        repeated_change=repeated,
        change=change,
        flipped=_flipped(whole, parts),
        alone_change=math.nan if error is not None else alone_change,
        flipped_alone=_flipped(whole, alone),
        alone_error=error,
        tolerance=tolerance,
    )
    return dependence, whole


def _output(call: Callable[[Any], Any], batch: Any) -> NDArray[Any]:
    output = plain_array(call(batch), "what the model returned")
    if output.ndim == 0 or len(output) != len(batch):
        raise InputError(f"the model returned shape {output.shape} for {len(batch)} rows: it must return one a row")
    return output if output.dtype.kind == "f" else output.astype(np.float64)


def _change(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The largest difference; NaN against a number counts as infinite."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, a - b))
    return float(np.nan_to_num(apart, nan=math.inf).max(initial=0))


def _flipped(a: NDArray[Any], b: NDArray[Any]) -> int:
    """Rows whose largest entry is another."""
    if a.ndim < 2 or a.shape[-1] < 2:
        return 0
    return int((a.argmax(axis=-1) != b.argmax(axis=-1)).reshape(len(a), -1).any(axis=1).sum())


def _common_spread(whole: NDArray[Any]) -> float | None:
    """The root mean square of rows about their means if all rows have the same of both, and are not all alike."""
    if whole.ndim != 2 or whole.shape[1] < 2 or not np.isfinite(whole).all():
        return None
    z = whole.astype(np.float64)
    mean = z.mean(axis=1)
    spread = np.sqrt(((z - mean[:, None]) ** 2).mean(axis=1))
    scale = float(spread.mean())
    chance = _ALIKE * scale / math.sqrt(2 * z.shape[1])  # the spread of n random scores varies by 1 / sqrt(2 n)
    alike = np.ptp(spread) <= chance and np.ptp(mean) <= chance
    return scale if alike and scale > 0 and (np.abs(z - z[0]) > chance).any() else None


def _advice(modes: list[ModeDependence], spread: float | None, cap: float | None) -> list[str]:
    said = []
    for at in modes:
        where = "" if at.mode == "as it is" else f" in {at.mode} mode"
        if at.status == "random":
            said.append(f"The same batch gave two outputs{where} (dropout?): fix its randomness and look again.")
        elif at.status == "depends on the batch":
            alone = f"; a single row is refused ({at.alone_error})" if at.alone_error else ""
            change = (
                f"a row's output moves by up to {max(at.change, np.nan_to_num(at.alone_change)):.3g} with its batch"
            )
            flips = f"{max(at.flipped, at.flipped_alone)} rows change their prediction"
            remedy = (
                "batch normalisation belongs before the scores' layer, not on them; serve in eval mode"
                if at.mode == "train"
                else "rows cannot be served one by one"
            )
            said.append(f"Depends on the batch{where}: {change}, {flips}{alone}; {remedy}.")
    if spread is not None and cap is not None:
        said.append(
            f"Every row of scores has the same mean and spread ({spread:.4g}), as after layer normalisation: their "
            f"size says nothing of the row, and no softmax probability can pass {cap:.3f}. Normalise before the last "
            "linear layer instead, or fit a temperature."
        )
    return said or ["Rows do not depend on their batch."]
