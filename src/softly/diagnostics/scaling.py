"""Whether 1/sqrt(d) keeps dot products of queries and keys in the range in which the softmax learns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softly._arrays import Array, plain_reals
from softly._errors import InputError
from softly._records import Record
from softly.maps import log_softmax, softmax

_SURE = 0.99  # the weight from which a query is saturated
_BLOCK = 1 << 22  # scores in memory at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledWeights(Record):
    """The weights softmax(scale q.k), means over queries.

    entropy: in nats. effective_support: exp(entropy), a number of keys. saturated: the share of queries with a weight
    of .99 or more. gradient_norm: the Frobenius norm of the weights' Jacobian in the scores, what passes back through.
    """

    scale: float
    entropy: float
    effective_support: float
    saturated: float
    gradient_norm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingReport(Record):
    """What `inspect_scaling` found.

    variance_over_dimension: the variance of q.k over all pairs, over d: 1 for independent entries of mean 0 and
    variance 1, whence 1/sqrt(d). mean: of q.k. correlation: the mean cosine of queries and keys. own_correlation: that
    of each query with the key at its place; NaN where their numbers differ. unscaled, scaled: at scale 1 and at
    `scale`.
    """

    dimension: int
    queries: int
    keys: int
    variance_over_dimension: float
    mean: float
    correlation: float
    own_correlation: float
    unscaled: ScaledWeights
    scaled: ScaledWeights
    advice: tuple[str, ...]


def inspect_scaling(query: Array, key: Array, *, scale: float | None = None) -> ScalingReport:
    """The spread of the dot products of queries and keys, and what a scale makes of the weights.

    Entries that are independent, of mean 0 and variance 1, give q.k the variance d, so that q.k / sqrt(d) has the
    variance 1 whatever d is. Trained queries and keys are not independent: then the spread grows faster, and
    1/sqrt(d) does not prevent saturation.

    - query: (queries, d), or (..., queries, d): all leading places are pooled. key: (keys, d), the same leading axes.
    - scale: what multiplies q.k; default 1/sqrt(d).

    Computed in float64. ValueError for shapes that do not fit, no entries, and NaN or infinite ones.

    >>> rng = np.random.default_rng(0)
    >>> told = inspect_scaling(rng.normal(size=(200, 256)), rng.normal(size=(200, 256)))
    >>> round(told.variance_over_dimension, 2), round(told.unscaled.saturated, 2), told.scaled.saturated
    (1.0, 0.4, 0.0)
    """
    q, k = (plain_reals(x, name).astype(np.float64) for x, name in ((query, "query"), (key, "key")))
    if q.ndim < 2 or q.ndim != k.ndim or q.shape[:-2] != k.shape[:-2] or q.shape[-1] != k.shape[-1] or 0 in q.shape:
        raise InputError(f"query has shape {q.shape} and key {k.shape}: pass (..., queries, d) and (..., keys, d)")
    if not k.size or not (np.isfinite(q).all() and np.isfinite(k).all()):
        raise InputError("query and key must have entries, all finite: leave masked keys out")
    d = q.shape[-1]
    scale = 1 / math.sqrt(d) if scale is None else float(scale)
    if not 0 < scale < math.inf:
        raise InputError(f"scale={scale} is not a scale: pass a number > 0, or None for 1/sqrt(d)")
    q, k = q.reshape(-1, *q.shape[-2:]), k.reshape(-1, *k.shape[-2:])
    products, cosines = [], []
    step = max(1, _BLOCK // k.shape[-2])
    sums: dict[float, list[NDArray[np.float64]]] = {1.0: [], scale: []}
    for queries, keys in zip(q, k, strict=True):
        lengths = _length(keys)
        for begin in range(0, len(queries), step):
            part = queries[begin : begin + step]
            dots = part @ keys.T
            products.append([dots.size, dots.mean(), dots.var()])
            cosines.append([dots.size, (dots / _length(part)[:, None] / lengths).mean()])
            for at, found in sums.items():
                found.append(_weights(at * dots))
    counts, means, variances = np.array(products).T
    mean = float(np.average(means, weights=counts))
    variance = float(np.average(variances + (means - mean) ** 2, weights=counts))
    own = (q * k).sum(-1) / _length(q) / _length(k) if q.shape == k.shape else np.array(math.nan)
    unscaled, scaled = (_summary(at, np.concatenate(sums[at])) for at in (1.0, scale))
    report: dict[str, Any] = {
        "dimension": d,
        "queries": q.shape[-2],
        "keys": k.shape[-2],
        "variance_over_dimension": variance / d,
        "mean": mean,
        "correlation": float(np.average([x[1] for x in cosines], weights=[x[0] for x in cosines])),
        "own_correlation": float(own.mean()),
        "unscaled": unscaled,
        "scaled": scaled,
    }
    return ScalingReport(**report, advice=_advice(scale, variance, unscaled, scaled, report))


def _length(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Norms of the last axis, 1 of what is 0."""
    norms = np.linalg.norm(x, axis=-1)
    return np.where(norms == 0, 1.0, norms)


def _weights(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropy, its exponential, whether saturated, and the Jacobian's norm, one row a query.

    ||diag p - p p^T||^2 entry by entry: p_i^2 (1 - p_i)^2 and p_i^2 p_j^2.
    """
    p, log_p = softmax(scores), log_softmax(scores)
    entropy = -(p * np.where(p > 0, log_p, 0)).sum(-1)
    # 1 - p from the other weights, where p is near 1
    leader = p.argmax(-1)[:, None]
    rest = p.copy()
    np.put_along_axis(rest, leader, 0, -1)
    others, beside = rest.sum(-1), (rest * rest).sum(-1)
    top = np.take_along_axis(p, leader, -1)[:, 0]
    own = top**2 * others**2 + (rest**2 * (1 - rest) ** 2).sum(-1)
    across = 2 * top**2 * beside + np.maximum(beside**2 - (rest**4).sum(-1), 0)
    return np.stack([entropy, np.exp(entropy), top >= _SURE, np.sqrt(own + across)], axis=1)


def _summary(scale: float, found: NDArray[np.float64]) -> ScaledWeights:
    entropy, support, saturated, norm = (float(x) for x in found.mean(axis=0))
    return ScaledWeights(
        scale=scale, entropy=entropy, effective_support=support, saturated=saturated, gradient_norm=norm
    )


def _advice(
    scale: float, variance: float, unscaled: ScaledWeights, scaled: ScaledWeights, report: dict[str, Any]
) -> tuple[str, ...]:
    spread = scale * math.sqrt(variance)
    said = [f"Scaled scores have a standard deviation of {spread:.3g} about {scale * report['mean']:.3g}."]
    if scaled.saturated > 0.5:
        reason = report["own_correlation"] if abs(report["own_correlation"]) > 0.1 else report["correlation"]
        said.append(
            f"The scale {scale:.3g} does not prevent saturation: {scaled.saturated:.0%} of queries have a weight of "
            f"{_SURE} or more. Queries and keys are not independent (cosine {reason:.2f}), or too large: normalise "
            "them, or learn the scale."
        )
    elif unscaled.saturated > 0.5:
        said.append(f"Without it {unscaled.saturated:.0%} of queries would be saturated.")
    return tuple(said)
