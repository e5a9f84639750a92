"""Half precisions exhaustively: every number through the sigmoids, every pair through the maps of two columns."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import semantics
from accuracy import Array, extended, sigmoids

import softly

ROUNDED_ONCE = 0.51  # ULP
FAR = 18.0  # beyond a gap of 17.4 a probability rounds to 0 and its complement to 1
STRIDE = 16  # and every sixteenth pair is enough
CHUNKS = 64

pytestmark = pytest.mark.skipif(semantics.FORCED, reason="told for the default target")


def every(dtype: str) -> Array:
    """All finite numbers of a half precision, -0 aside, in ascending order."""
    numbers = np.arange(2**16, dtype=np.uint16).view(semantics.to_dtype(dtype))
    with np.errstate(invalid="ignore"):  # signalling NaNs
        return np.unique(numbers[np.isfinite(numbers)].astype(np.float32)).astype(numbers.dtype)


# ---------------------------------------------------------------- one number


@extended
@pytest.mark.parametrize("temperature", [1.0, 0.3, 1.7, 100.0])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sigmoids_of_every_number(dtype: str, temperature: float) -> None:
    z = every(dtype)
    assert len(z) > 63000
    for name, truth in sigmoids(z, temperature).items():
        ulps = semantics.error(getattr(softly, name)(z, temperature=temperature), truth)
        assert ulps.max() <= ROUNDED_ONCE, (name, float(ulps.max()), z[ulps.argmax()])


# ---------------------------------------------------------------- two numbers


def pairs(start: int) -> Iterator[tuple[np.float16, Array]]:
    """Each unordered pair of float16 once, in one order or the other: a first column, and all its second columns.

    Only every CHUNKS-th first column, from `start` on.
    """
    numbers = every("float16")
    wide = numbers.astype(np.float64)
    for i in range(start, len(numbers), CHUNKS):
        second = np.r_[i % 2 : i + 1 : 2, i + 1 : len(numbers) : 2]
        far = np.abs(wide[second] - wide[i]) >= FAR
        far[i % STRIDE :: STRIDE] = False
        yield numbers[i], numbers[second[~far]]


def neighbours() -> tuple[Array, Array]:
    """By the bits of a float16: the exact numbers that it may stand for, from and to; none for NaN."""
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    with np.errstate(all="ignore"):  # infinity stands where the next number would
        below, here, above = (
            np.clip(a.astype(np.float64), -65536, 65536)
            for a in (np.nextafter(values, np.float16(-np.inf)), values, np.nextafter(values, np.float16(np.inf)))
        )
        low, high = here - ROUNDED_ONCE * (here - below), here + ROUNDED_ONCE * (above - here)
    return np.where(values == -np.inf, -np.inf, low), np.where(values == np.inf, np.inf, high)


def gaps(name: str) -> tuple[Array, Array]:
    """By the bits of a result: the gaps between the score and the other one for which it is right, from and to."""
    low, high = neighbours()
    with np.errstate(all="ignore"):
        if name == "softmax":  # p = 1 / (1 + exp(-gap))
            low, high = np.clip(low, 0, 1), np.clip(high, 0, 1)
            return np.log(low) - np.log1p(-low), np.log(high) - np.log1p(-high)
        low, high = np.minimum(low, 0), np.minimum(high, 0)  # log p = -log(1 + exp(-gap))
        return low - np.log(-np.expm1(low)), high - np.log(-np.expm1(high))


def wrong_gaps(name: str, start: int) -> list[tuple[float, float]]:
    """Pairs of which one of the two results is not that of a gap which it may stand for."""
    function, (low, high), found = getattr(softly, name), gaps(name), []
    for first, second in pairs(start):
        z = np.stack([np.full_like(second, first), second], axis=-1)
        bits, gap = function(z).view(np.uint16), np.float64(first) - second.astype(np.float64)
        right = (low[bits[:, 0]] <= gap) & (gap <= high[bits[:, 0]])
        right &= (low[bits[:, 1]] <= -gap) & (-gap <= high[bits[:, 1]])
        found += [(float(first), float(b)) for b in second[~right]]
    return found


def wrong_sums(start: int) -> list[tuple[float, float]]:
    """Pairs whose logsumexp is off, in ULPs of max(|result|, |largest score|); float64 is truth enough."""
    found = []
    for first, second in pairs(start):
        z = np.stack([np.full_like(second, first), second], axis=-1)
        a, b = np.float64(first), second.astype(np.float64)
        largest = np.maximum(a, b)
        truth = largest + np.log1p(np.exp(-np.abs(a - b)))
        _, exponent = np.frexp(np.maximum(np.abs(truth), np.abs(largest)))
        off = np.abs(softly.logsumexp(z) - truth) / np.ldexp(1.0, np.maximum(exponent - 1, -14) - 10)
        with np.errstate(invalid="ignore"):
            found += [(float(first), float(b)) for b in second[~((off <= ROUNDED_ONCE) | (truth >= 65520))]]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_every_pair(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        if name == "logsumexp":
            wrong = list(pool.map(wrong_sums, range(CHUNKS)))
        else:
            wrong = list(pool.map(wrong_gaps, [name] * CHUNKS, range(CHUNKS)))
    assert [pair for part in wrong for pair in part] == []


def test_pairs_are_complete() -> None:
    """Of the first columns of one chunk: all close second columns, in one order or the other; half of all, both."""
    numbers = every("float16").astype(np.float64)
    close = sum(int((np.abs(numbers - float(a)) < FAR).sum()) for a, _ in pairs(5))
    met = sum(int((np.abs(b.astype(np.float64) - float(a)) < FAR).sum()) for a, b in pairs(5))
    assert abs(met / close - 0.5) < 0.01


@pytest.mark.parametrize("towards", [-np.inf, np.inf])
def test_sums_can_be_wrong(towards: float, monkeypatch: pytest.MonkeyPatch) -> None:
    logsumexp = softly.logsumexp
    monkeypatch.setattr(softly, "logsumexp", lambda z: np.nextafter(logsumexp(z), np.float16(towards)))
    monkeypatch.setattr(f"{__name__}.CHUNKS", 30000)
    assert len(wrong_sums(15000)) > 30000


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_the_table_of_gaps_can_fail(name: str) -> None:
    """The neighbour of a right result is wrong, to either side."""
    low, high = gaps(name)
    gap = np.random.default_rng(0).normal(size=1000) * 4
    truth = sigmoids(gap)[{"softmax": "sigmoid", "log_softmax": "log_sigmoid"}[name]].astype(np.float16)
    for step in (-1, 0, 1):
        bits = (truth.view(np.uint16).astype(np.int64) + step).astype(np.uint16)
        right = (low[bits] <= gap) & (gap <= high[bits])
        assert right.mean() > 0.999 if step == 0 else right.mean() < 0.03
