"""Attention heads: how many keys they look at, how sure they are, what lies on a sink or behind a finite mask."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softly._arrays import Array, plain_reals
from softly._errors import InputError
from softly._records import Record
from softly._rows import as_rows
from softly.diagnostics.gaps import finite_temperatures
from softly.maps import log_softmax, softmax

_ROUNDED = 1e-12  # the mass behind a mask that is not worth telling


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AttentionReport(Record):
    """What `inspect_attention` found; arrays have one entry a head, means are over its queries with a possible key.

    entropy: mean, in nats. effective_support: the mean of exp(entropy), how many keys share as if alike. saturated: the
    share of queries with a weight of at least `sure`. gap_over_temperature: the median of the gap from the largest
    score to the next, over T. sufficient_gap: the gap over T that gives the leader `sure` whatever the other scores
    are, ln((n - 1) sure / (1 - sure)), for the mean number of keys. sink, sink_mass: the key with the largest mean
    weight, and that weight. empty_rows: queries with nothing possible. masked_entries: finite scores at or below
    `mask_below`. masked_mass, largest_masked_mass: the weight behind them, mean and of one query. fully_masked_rows:
    queries with no other score, for which the mask is none.
    """

    queries: int
    keys: int
    sure: float
    mask_below: float
    entropy: Any
    effective_support: Any
    saturated: Any
    gap_over_temperature: Any
    sufficient_gap: Any
    sink: Any
    sink_mass: Any
    empty_rows: Any
    masked_entries: Any
    masked_mass: Any
    largest_masked_mass: Any
    fully_masked_rows: Any
    advice: tuple[str, ...]


def inspect_attention(
    scores: Array,
    *,
    temperature: Any = 1.0,
    where: Array | None = None,
    sure: float = 0.99,
    mask_below: float = -1000.0,
) -> AttentionReport:
    """How each head spreads its weights, and whether a finite mask leaks.

    - scores: (..., queries, keys) before the softmax, scaled; each place of the leading axes is a head.
    - temperature, where: as in `softmax`. sure: the weight from which a query counts as saturated.
    - mask_below: finite scores at or below are taken for an additive mask such as -1e9. It leaks: a row masked entirely
      becomes ordinary attention, float16 makes -inf of it, and a larger spread of scores beats it. `advice` says how
      much weight lies behind it; a boolean `where` has none of this.

    Returns an `AttentionReport`, computed in float64; NaN for a head without a possible key. ValueError for less than
    two axes, no keys, NaN or +inf scores, T = 0 or inf, and what `softmax` refuses.

    >>> told = inspect_attention([[-1e9, -1e9], [3.0, -1e9]])
    >>> int(told.fully_masked_rows), float(told.largest_masked_mass)
    (1, 1.0)
    >>> print(told.advice[0])
    3 scores are a finite mask (highest -1e+09): .5 of the weight lies behind it, 1 in the worst row; 1 row is masked \
entirely and has become ordinary attention. Pass a boolean mask as where.
    """
    if not 0 < sure < 1:
        raise InputError(f"sure={sure} is not a weight: pass a number in (0, 1), such as 0.99")
    if not mask_below < 0:
        raise InputError(f"mask_below={mask_below} is not below 0: pass such as -1000")
    z = plain_reals(scores, "scores").astype(np.float64)
    if z.ndim < 2 or 0 in z.shape:
        raise InputError(f"scores have shape {z.shape}: pass (..., queries, keys), at least one of each")
    rows = as_rows(z, -1, temperature, where, "zero", None)
    t, z = finite_temperatures(rows), rows.scores
    if np.isnan(z).any() or np.isposinf(z).any():
        raise InputError("scores contain NaN or +inf: pass finite ones, or -inf or where=False if impossible")
    p, log_p = softmax(z, temperature=t), log_softmax(z, temperature=t)
    possible = np.isfinite(z)
    is_row = possible.any(axis=-1)
    masked = possible & (z <= mask_below)
    behind = np.where(masked, p, 0).sum(axis=-1)
    whole = is_row & (masked == possible).all(axis=-1)
    entropy = -np.where(p > 0, p * np.where(p > 0, log_p, 0), 0).sum(axis=-1)
    mass = _mean(p, is_row[..., None], -2)
    with np.errstate(divide="ignore"):
        needed = np.log((_mean(possible.sum(axis=-1), is_row, -1) - 1) * sure / (1 - sure))
    found: dict[str, Any] = {
        "entropy": _mean(entropy, is_row, -1),
        "effective_support": _mean(np.exp(entropy), is_row, -1),
        "saturated": _mean(p.max(axis=-1) >= sure, is_row, -1),
        "gap_over_temperature": _median_gap(z, t, is_row),
        "sufficient_gap": np.maximum(needed, 0),
        "sink": np.where(is_row.any(axis=-1), np.nan_to_num(mass).argmax(axis=-1), -1),
        "sink_mass": mass.max(axis=-1),
        "empty_rows": (~is_row).sum(axis=-1),
        "masked_entries": masked.sum(axis=(-2, -1)),
        "masked_mass": _mean(behind, is_row, -1),
        "largest_masked_mass": behind.max(axis=-1),
        "fully_masked_rows": whole.sum(axis=-1),
    }
    return AttentionReport(
        queries=z.shape[-2],
        keys=z.shape[-1],
        sure=sure,
        mask_below=mask_below,
        advice=_advice(z, masked, behind, is_row, whole, found),
        **{name: np.asarray(value)[()] for name, value in found.items()},
    )


def _mean(values: NDArray[Any], kept: NDArray[np.bool_], axis: int) -> NDArray[np.float64]:
    """Over the entries that are kept; NaN if none is."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(kept, values, 0).sum(axis=axis) / kept.sum(axis=axis))


def _median_gap(z: NDArray[np.float64], t: NDArray[np.float64], is_row: NDArray[np.bool_]) -> NDArray[np.float64]:
    """From the largest score to the next, over T; inf where there is no next."""
    if z.shape[-1] == 1:
        return np.where(is_row.any(axis=-1), math.inf, math.nan)
    top = np.partition(z, -2, axis=-1)[..., -2:]
    with np.errstate(invalid="ignore"):
        gaps = np.where(is_row, (top[..., 1] - top[..., 0]) / t, math.nan)
    heads = gaps.reshape(-1, gaps.shape[-1])
    found = [np.median(row[~np.isnan(row)]) if not np.isnan(row).all() else math.nan for row in heads]
    return np.array(found).reshape(gaps.shape[:-1])


def _advice(
    z: NDArray[np.float64],
    masked: NDArray[np.bool_],
    behind: NDArray[np.float64],
    is_row: NDArray[np.bool_],
    whole: NDArray[np.bool_],
    found: dict[str, Any],
) -> tuple[str, ...]:
    said = []
    if masked.any():
        heads = f" of {math.prod(z.shape[:-2])} heads" if z.ndim > 2 else ""
        text = f"{masked.sum()} scores{heads} are a finite mask (highest {z[masked].max():.4g}): "
        mass, most = behind[is_row].mean(), behind.max()
        text += (
            f"{_share(mass)} of the weight lies behind it, {_share(most)} in the worst row"
            if most > _ROUNDED
            else "no weight lies behind it here"
        )
        if whole.any():
            rows = "row is" if whole.sum() == 1 else "rows are"
            has = "has" if whole.sum() == 1 else "have"
            text += f"; {whole.sum()} {rows} masked entirely and {has} become ordinary attention"
        said.append(f"{text}. Pass a boolean mask as where.")
    saturated = np.asarray(found["saturated"])
    if (saturated > 0.5).any():
        said.append(
            f"{(saturated > 0.5).sum()} of {saturated.size} heads are saturated in most rows: hardly a gradient passes "
            "through their weights. Look at the scale of their queries and keys (inspect_scaling)."
        )
    sinks = np.asarray(found["sink_mass"])
    if z.shape[-1] > 2 and (sinks > 0.5).any():
        said.append(f"{(sinks > 0.5).sum()} of {sinks.size} heads put most of their weight on one key, a sink.")
    return tuple(said) or ("No finite mask, no head that is saturated in most rows or rests on one key.",)


def _share(value: float) -> str:
    return f"{value:.3g}".replace("0.", ".", 1) if value < 1 and "e" not in f"{value:.3g}" else f"{value:.3g}"
