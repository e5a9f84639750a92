"""Scores to draws: what temperature, top_k, top_p and min_p leave of the softmax; relaxed draws with a gradient."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softly import _kernels
from softly._arrays import Array, Axis, as_array, device, float_dtypes, is_readable, is_tensor, jax_of, plain_array
from softly._errors import InputError
from softly._records import Record
from softly._rows import as_rows
from softly.maps import softmax

Seed = int | np.random.Generator | None
_NEARLY = 1 - 1e-12  # a sum that falls short of what it must reach by rounding alone has reached it
_ALL = 1 << 62  # more entries than a row has
_BLOCK = 1 << 18  # entries whose probabilities are in memory at a time


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draws(Record):
    """What `sample` drew; arrays of the scores' namespace, with `size` entries along the axis.

    index: the entries drawn. log_probability: the logarithm of the probability that each was drawn with, after
    temperature and filters. kept: how many entries could be drawn, one number a row.
    """

    index: Any
    log_probability: Any
    kept: Any


def sample(
    scores: Array,
    size: int = 1,
    *,
    axis: int = -1,
    temperature: Any = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    min_p: float = 0.0,
    where: Array | None = None,
    seed: Seed = None,
) -> Draws:
    """Independent draws from the softmax of the scores, of which filters keep the largest, in this order:

    1. p = softmax(scores / temperature)
    2. top_k: the k largest scores
    3. top_p: of these the smallest set of largest scores with at least the share top_p of what is left
    4. min_p: of these the entries with at least min_p times the largest probability
    5. p over its sum over what is left

    Scores that tie are kept or left out together, so that a draw does not depend on the order of entries: top_k keeps
    more than k where the k-th ties. A sum within 1e-12 of top_p has reached it.

    - scores, axis, temperature, where: as `softmax`, along one axis; T = 0 draws among the largest, whatever the
      filters. size: draws a row. top_k: an integer >= 1, None for all. top_p, min_p: numbers in [0, 1];
      top_p = 0 and min_p = 1 keep the largest only.
    - seed: an integer or a generator of NumPy, for draws that can be repeated, whatever the array library and the
      number of threads. None: others each time. Give a loop of draws one generator, not one number.

    Returns `Draws`; index and log_probability have the scores' shape with `size` along the axis, the latter their
    floating dtype. Each draw is the first entry at which the sum of probabilities exceeds a uniform number of its own.

    Raises ValueError (a row with NaN or with nothing possible, filters and sizes out of range, and as `softmax`),
    TypeError, AxisError.

    >>> draws = sample([2.0, 1.0, -1.0, 1.0], 6, top_p=0.9, seed=0)
    >>> draws.index, draws.log_probability.round(3), int(draws.kept)
    (array([1, 0, 0, 0, 3, 3]), array([-1.551, -0.551, -0.551, -0.551, -1.551, -1.551]), 3)
    >>> sample([2.0, 2.0, 1.0], 4, temperature=0.0, seed=0).index
    array([1, 0, 0, 0])
    """
    size, filters = _check_filters(size, top_k, top_p, min_p)
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
        raise InputError(f"axis={axis!r} is not one axis: pass an integer")
    xp, given = as_array(scores, "scores")
    if not is_readable(given) and "cuda" not in str(device(given)):
        raise InputError("scores cannot be read inside a trace: draw outside, or use gumbel_softmax with a key as seed")
    dtype = float_dtypes(xp, given.dtype)[0]
    where = None if where is None else plain_array(where, "where")
    temperature = temperature if isinstance(temperature, int | float) else plain_array(temperature, "temperature")
    rows = as_rows(plain_array(given, "scores"), int(axis), temperature, where, "zero", None)
    batch, entries = rows.scores.shape[:-1], rows.scores.shape[-1]
    z = rows.scores.reshape(-1, entries) if entries else np.full((math.prod(batch), 1), -math.inf)
    t = np.broadcast_to(np.asarray(rows.temperature, np.float64), batch).reshape(-1)
    uniforms = np.random.default_rng(seed).random((len(z), size))
    index, log_p, kept = np.empty(uniforms.shape, np.int64), np.empty(uniforms.shape), np.empty(len(z), np.int64)
    step = max(1, _BLOCK // max(entries, 1))
    memory = np.empty((2, min(step, len(z)), z.shape[1]))
    for begin in range(0, len(z), step):
        part = slice(begin, begin + step)
        scores_part, p = memory[:, : len(z[part])]
        np.copyto(scores_part, z[part])
        drawn = _draw_rows(scores_part, p, t[part], uniforms[part], filters, begin)
        index[part], log_p[part], kept[part] = drawn

    def restored(values: NDArray[Any], dtype: Any) -> Array:
        shaped = np.moveaxis(values.reshape(*batch, size), -1, rows.axis) if len(rows.shape) else values.reshape(size)
        return shaped.astype(dtype, copy=False) if xp is np else _as_given(xp, shaped, dtype, given)

    counts = kept.reshape(batch)[()]
    return Draws(
        index=restored(index, np.intp if xp is np else None),
        log_probability=restored(log_p, dtype),
        kept=counts if xp is np else _as_given(xp, np.asarray(counts), None, given),
    )


def gumbel_softmax(
    scores: Array,
    axis: Axis = -1,
    *,
    temperature: Any = 1.0,
    where: Array | None = None,
    hard: bool = False,
    seed: Any = None,
) -> Array:
    """A relaxed draw, softmax((z + g) / T) with standard Gumbel noise g: with a gradient, and near one-hot at low T.

    The largest entry is a draw from softmax(z), whatever T is (Jang, Gu and Poole, 2017; Maddison, Mnih and Teh, 2017).

    - scores, axis, temperature, where: as `softmax`. Here T is the relaxation's: divide the scores for another
      distribution.
    - hard: give the one-hot draw; its gradient in torch and JAX is the relaxed one's (straight-through).
    - seed: as `sample`; inside a trace, where noise drawn once would be the same at each call, a key of JAX, or None in
      torch, whose generator draws.

    Returns an array as `softmax` does. Edge rows: ties at +inf share the draws; NaN gives NaN in its row; nothing
    possible gives zeros. Errors as `softmax`.

    >>> gumbel_softmax([2.0, 1.0, -1.0], temperature=0.5, seed=0).round(3)
    array([0.259, 0.364, 0.377])
    >>> gumbel_softmax([[2.0, 1.0, -1.0]] * 2, hard=True, seed=3)
    array([[1., 0., 0.],
           [0., 1., 0.]])
    """
    rows = as_rows(scores, axis, temperature, where, "zero", None)
    xp, z = rows.xp, rows.scores
    infinite = z == math.inf
    z = xp.where(xp.any(infinite, axis=-1, keepdims=True), xp.where(infinite, 0.0, -math.inf), z)
    soft = softmax(z + _gumbel_noise(xp, z, seed), temperature=rows.temperature)
    if hard:
        soft = _one_hot(xp, soft, z) + (soft - _constant(soft))
    return rows.restore(soft)


def _check_filters(size: Any, top_k: Any, top_p: Any, min_p: Any) -> tuple[int, tuple[int, float, float]]:
    """The size, and the filters, k of None as more than any row has; ValueError for what is out of range."""
    for name, value, least, remedy in (("size", size, 0, ""), ("top_k", top_k, 1, ", or None for all")):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not (name == "top_k" and value is None) and (not whole or value < least):
            raise InputError(f"{name}={value!r} is not a number of entries: pass an integer >= {least}{remedy}")
    for name, value in (("top_p", top_p), ("min_p", min_p)):
        if not isinstance(value, int | float | np.floating | np.integer) or not 0 <= value <= 1:
            raise InputError(f"{name}={value!r} is not a share: pass a number in [0, 1]")
    return int(size), (_ALL if top_k is None else min(int(top_k), _ALL), float(top_p), float(min_p))


def _draw_rows(
    z: NDArray[np.float64],
    p: NDArray[np.float64],
    temperature: NDArray[np.float64],
    uniforms: NDArray[np.float64],
    filters: tuple[int, float, float],
    first: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Index, log-probability and number kept of some rows, of which `first` is the number of the first; writes p."""
    leaders = z.argmax(axis=-1)
    softmax(z, temperature=temperature, out=p)
    top = np.take_along_axis(p, leaders[:, None], axis=-1)
    if not (top > 0).all():
        row = int(np.argmin(top > 0))
        problem = "contains NaN" if np.isnan(z[row]).any() else "has nothing possible"
        raise InputError(f"scores, row {first + row}: it {problem}, so that nothing can be drawn: leave such rows out")
    index, kept, others = _run(z, p, uniforms, leaders, *filters)
    chosen, rest = np.take_along_axis(p, index, axis=-1), others[:, None]
    # near 1 from the small rest, elsewhere from the whole
    log_p = np.where(chosen == top, -np.log1p(rest / top), np.log(chosen / (top + rest)))
    return index, log_p, kept


def draw_indices(p: NDArray[np.float64], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
    """Draws from rows of probabilities, one for each uniform number of a row."""
    return _run(p, p, uniforms, p.argmax(axis=-1), _ALL, 1.0, 0.0)[0]


def _run(*arguments: Any) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    return _draw(*arguments) if _kernels.core is None else _kernels.core.draw(*arguments)


def _draw(
    z: NDArray[np.float64],
    p: NDArray[np.float64],
    uniforms: NDArray[np.float64],
    leaders: NDArray[np.intp],
    top_k: int,
    top_p: float,
    min_p: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """What the kernel `draw` replaces, by sorting: index, number kept, what is kept beside the leader."""
    index = np.empty(uniforms.shape, np.int64)
    kept, others = np.empty(len(z), np.int64), np.empty(len(z))
    for row, (scores, weights) in enumerate(zip(z, p, strict=True)):
        places = np.flatnonzero(weights > 0)
        ranked = places[np.argsort(-scores[places], kind="stable")]
        cut = scores[ranked[min(top_k, len(ranked)) - 1]]
        ranked = ranked[scores[ranked] >= cut]
        if top_p < 1:
            sums = np.cumsum(weights[ranked])
            cut = scores[ranked[np.searchsorted(sums, top_p * sums[-1] * _NEARLY)]]
        places = places[(scores[places] >= cut) & (weights[places] >= min_p * weights[leaders[row]] * _NEARLY)]
        sums = np.cumsum(weights[places])
        found = np.searchsorted(sums, uniforms[row] * sums[-1], side="right")
        index[row], kept[row] = places[np.minimum(found, len(places) - 1)], len(places)
        others[row] = weights[places[places != leaders[row]]].sum()
    return index, kept, others


def _gumbel_noise(xp: Any, z: Array, seed: Any) -> Array:
    """Standard Gumbel noise like z: -log(-log u)."""
    if jax_of(seed) is not None:
        return sys.modules["jax"].random.gumbel(seed, z.shape, z.dtype)
    if xp is not np and not is_readable(z) and jax_of(z) is not None:
        raise InputError(
            "seed must be a key of JAX inside a trace: noise of another seed would be the same at each call"
        )
    if is_tensor(z) and _is_traced(z):
        if seed is not None:
            raise InputError(
                "seed must be None inside a trace of torch, which draws at each call: use torch.manual_seed"
            )
        return -xp.log(xp.empty_like(z).exponential_())
    noise = np.random.default_rng(seed).gumbel(size=tuple(z.shape))
    return noise.astype(z.dtype, copy=False) if xp is np else _as_given(xp, noise, z.dtype, z)


def _is_traced(z: Array) -> bool:
    from softly.torch.operators import is_traced

    return is_traced(z)


def _one_hot(xp: Any, soft: Array, z: Array) -> Array:
    """1 at the (first) largest entry of each row, 0 elsewhere and in rows with nothing possible; NaN in rows of NaN."""
    if 0 in soft.shape:
        return soft
    at = xp.arange(z.shape[-1], device=device(z)) == xp.argmax(soft, axis=-1, keepdims=True)
    return xp.where(xp.isnan(soft), soft, xp.astype(at & (z != -math.inf), soft.dtype))


def _constant(x: Array) -> Array:
    """x without its gradient."""
    if is_tensor(x):
        return x.detach()
    return x if jax_of(x) is None else sys.modules["jax"].lax.stop_gradient(x)


def _as_given(xp: Any, values: NDArray[Any], dtype: Any, like: Array) -> Array:
    """NumPy's values as an array of another namespace, where `like` lies."""
    array = xp.asarray(values, device=device(like))
    return array if dtype is None else xp.astype(array, dtype)
