"""Segments give the bits of rows: however the scores are split, ordered, laid out and shared among threads."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import semantics
from layouts import DTYPES, FMA, Array, bits, fingerprints_elsewhere, from_torch, layouts, rows, to_torch

import softly

MAPS = {  # over segments, over rows
    "softmax": (softly.segment_softmax, softly.softmax),
    "log_softmax": (softly.segment_log_softmax, softly.log_softmax),
    "logsumexp": (softly.segment_logsumexp, softly.logsumexp),
    "entmax": (softly.segment_entmax, softly.entmax),
} | {
    f"entmax at {alpha}": tuple(functools.partial(f, alpha=alpha) for f in (softly.segment_entmax, softly.entmax))
    for alpha in (1, 1.3, 2, 3.0)
}
SPLITS = ("one", "ones", "few", "many", "with empty ones", "lengths of vectors")
SHARED = [(300007, "many"), (300007, "few"), (200000, "ones")]  # enough work for several threads


def entries(n: int, dtype: str, seed: int = 0) -> Array:
    """Scores with ties and impossible entries, among them one NaN and one +inf."""
    return rows((n, 1), dtype, seed)[:, 0] if n else np.zeros(0, semantics.to_dtype(dtype))


def split(kind: str, n: int) -> Array:
    """Offsets of segments of one kind, the last one running to n."""
    rng = np.random.default_rng([n, len(kind)])
    if kind == "lengths of vectors":
        inner = np.cumsum([1, 15, 16, 17, 31, 32, 33, 64, 128, 129, 0, 2])
    else:
        inner = {
            "one": np.zeros(0, int),
            "ones": np.arange(1, n),
            "few": rng.integers(0, n + 1, size=3),
            "many": rng.integers(0, n + 1, size=n // 5),
            "with empty ones": np.repeat(rng.integers(0, n + 1, size=n // 9), 2),
        }[kind]
    return np.concatenate([[0], np.sort(np.minimum(inner, n)), [n]]).astype(np.int64)


def alone(function: Any, scores: Array, offsets: Array, temperature: Any = 1.0, **options: Any) -> bytes:
    """The bits of a map over rows, one call for each segment along axis 0; a temperature may be one a segment."""
    temperatures = np.broadcast_to(temperature, (len(offsets) - 1, *np.shape(temperature)[1:]))
    where, found = options.pop("where", None), []
    for (a, b), t in zip(itertools.pairwise(offsets), temperatures, strict=True):
        mask = None if where is None else where[a:b]
        found.append(bits(function(scores[a:b], axis=0, temperature=t, where=mask, **options)))
    return b"".join(found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("over_segments", "over_rows"), MAPS.values(), ids=MAPS)
class TestSegments:
    def test_any_split(self, over_segments: Any, over_rows: Any, dtype: str) -> None:
        for kind in SPLITS:
            scores, offsets = entries(700, dtype), split(kind, 700)
            assert bits(over_segments(scores, offsets=offsets)) == alone(over_rows, scores, offsets), kind

    def test_temperatures_masks_and_empty(self, over_segments: Any, over_rows: Any, dtype: str) -> None:
        for kind in SPLITS:
            scores, offsets = entries(500, dtype, 1), split(kind, 500)
            rng = np.random.default_rng(len(offsets))
            options: dict[str, Any] = {"where": rng.random(500) < 0.5}
            temperatures = rng.choice([0.0, 0.3, 1.0, 2.5, np.inf], size=len(offsets) - 1)
            for temperature in (0.0, 0.7, np.inf, temperatures):
                for options["empty"] in ("zero", "nan", "uniform"):
                    expected = alone(over_rows, scores, offsets, temperature, **options)
                    result = over_segments(scores, offsets=offsets, temperature=temperature, **options)
                    assert bits(result) == expected, (kind, temperature, options["empty"])

    def test_any_order(self, over_segments: Any, over_rows: Any, dtype: str) -> None:
        """By index, entries of a segment count in the order in which they come."""
        reduces = over_segments is softly.segment_logsumexp
        for kind in SPLITS:
            scores, offsets = entries(700, dtype), split(kind, 700)
            sizes = np.diff(offsets)
            sorted_index = np.repeat(np.arange(len(sizes)), sizes)
            count, order = len(sizes), np.random.default_rng(2).permutation(700)
            expected = alone(over_rows, scores, offsets)
            assert bits(over_segments(scores, index=sorted_index, num_segments=count)) == expected, kind
            index, grouped = sorted_index[order], order[np.argsort(sorted_index[order], kind="stable")]
            result = over_segments(scores[order], index=index, num_segments=count)
            if not reduces:
                result = result[np.argsort(index, kind="stable")]
            assert bits(result) == alone(over_rows, scores[grouped], offsets), kind

    def test_heads(self, over_segments: Any, over_rows: Any, dtype: str) -> None:
        """Further axes are independent, each with its own temperature if they have several."""
        for shape in ((200, 1), (200, 3), (200, 2, 5), (200, 17), (200, 0), (0, 3)):
            flat = entries(int(np.prod(shape)), dtype)
            scores, offsets = flat.reshape(shape), split("many", shape[0])
            assert bits(over_segments(scores, offsets=offsets)) == alone(over_rows, scores, offsets), shape
            for axes in (shape[1:], (1,) * (len(shape) - 1)):
                temperature = np.random.default_rng(3).uniform(0.1, 5, size=(len(offsets) - 1, *axes))
                broadcast = np.broadcast_to(temperature, (len(offsets) - 1, *shape[1:]))
                result = over_segments(scores, offsets=offsets, temperature=temperature)
                assert bits(result) == alone(over_rows, scores, offsets, broadcast), shape

    def test_layouts(self, over_segments: Any, over_rows: Any, dtype: str) -> None:
        offsets = split("many", 120)
        scores = entries(120 * 7, dtype).reshape(120, 7)
        index = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        expected = bits(over_segments(scores, offsets=offsets))
        for name, view in layouts(scores):
            assert bits(over_segments(view, offsets=offsets)) == expected, name
            for column in (0, 6):
                result = over_segments(view[:, column], offsets=offsets)
                assert bits(result) == bits(over_segments(scores[:, column].copy(), offsets=offsets)), name
        for kind in (np.int8, np.uint8, np.int32, ">i4", np.uint64):
            assert bits(over_segments(scores, offsets=offsets.astype(kind))) == expected
            assert bits(over_segments(scores, index=index.astype(kind), num_segments=len(offsets) - 1)) == expected
        spread = np.repeat(offsets, 2)[::2], np.repeat(index, 3)[::3]
        assert bits(over_segments(scores, offsets=spread[0])) == expected
        assert bits(over_segments(scores, index=spread[1], num_segments=len(offsets) - 1)) == expected
        assert bits(over_segments(scores, offsets=offsets.tolist())) == expected

    def test_into_out(self, over_segments: Any, over_rows: Any, dtype: str) -> None:
        offsets, order = split("many", 120), np.random.default_rng(4).permutation(120)
        index = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))[order]
        scores = entries(120 * 7, dtype).reshape(120, 7)
        for groups in ({"offsets": offsets}, {"index": index, "num_segments": len(offsets) - 1}):
            expected = over_segments(scores, **groups)
            for name, out in layouts(np.zeros_like(expected)):
                if out.flags.writeable and out.dtype.isnative:
                    assert over_segments(scores, **groups, out=out) is out
                    assert bits(out) == bits(expected), name
                    column = over_segments(scores[:, 2].copy(), **groups, out=out[:, 2])
                    assert bits(column) == bits(expected[:, 2]), name
        in_place = scores[:, 0].copy()
        if over_segments is not softly.segment_logsumexp:
            over_segments(in_place, index=index, out=in_place)
            assert bits(in_place) == bits(over_segments(scores[:, 0], index=index))

    def test_torch_tensors_on_cpu(self, over_segments: Any, over_rows: Any, dtype: str) -> None:
        torch = pytest.importorskip("torch", exc_type=ImportError)
        offsets, order = split("many", 120), np.random.default_rng(4).permutation(120)
        index = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))[order]
        scores = entries(120 * 3, dtype).reshape(120, 3)
        temperature = np.random.default_rng(3).uniform(0.1, 5, size=(len(offsets) - 1, 1))
        for groups in ({"offsets": offsets}, {"index": index}):
            tensors = {name: torch.from_numpy(group) for name, group in groups.items()}
            count = {"num_segments": len(offsets) - 1} if "index" in groups else {}
            given, t = to_torch(torch, scores), torch.from_numpy(temperature)
            for tensor in (given, given.T.contiguous().T):
                result = from_torch(torch, over_segments(tensor, **tensors, **count))
                assert bits(result) == bits(over_segments(scores, **groups, **count)), groups.keys()
                result = from_torch(torch, over_segments(tensor, temperature=t, **tensors, **count))
                assert bits(result) == bits(over_segments(scores, temperature=temperature, **groups, **count))


def fingerprints() -> Iterator[str]:
    """One line for each function, dtype and split: a hash of the bits of its results."""
    for dtype in ("float32", "float64", "float16", "bfloat16"):
        for n, kind in (*((700, kind) for kind in SPLITS), *(SHARED if dtype in ("float32", "float64") else ())):
            scores, offsets = entries(n, dtype), split(kind, n)
            temperature = np.random.default_rng(1).uniform(0.1, 5, size=len(offsets) - 1)
            index = np.random.default_rng(2).integers(0, 50, size=n)
            for name, (over_segments, _) in MAPS.items():
                results = (
                    over_segments(scores, offsets=offsets),
                    over_segments(scores, offsets=offsets, temperature=temperature),
                    over_segments(scores, index=index),
                )
                yield f"{name} {dtype} {n} {kind} {hashlib.sha256(b''.join(map(bits, results))).hexdigest()[:16]}"


def test_same_bits_on_every_target_with_fma_and_any_threads() -> None:
    if not FMA or semantics.FORCED:
        pytest.skip("no target with FMA here, or one was forced")
    printed = fingerprints_elsewhere("test_layouts_segments")
    reference = next(iter(printed.values()))
    assert len(reference) > 4 * len(SPLITS) * len(MAPS)
    for run, lines in printed.items():
        assert [pair for pair in zip(lines, reference, strict=True) if pair[0] != pair[1]] == [], run


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("over_segments", "over_rows"), MAPS.values(), ids=MAPS)
def test_large_calls_give_the_bits_of_rows(over_segments: Any, over_rows: Any, dtype: str) -> None:
    """Work that threads share, against some of its segments alone."""
    for n, kind in SHARED:
        scores, offsets = entries(n, dtype), split(kind, n)
        result = np.asarray(over_segments(scores, offsets=offsets))
        reduces = over_segments is softly.segment_logsumexp
        for i in range(0, len(offsets) - 1, max(1, (len(offsets) - 1) // 50)):
            a, b = offsets[i], offsets[i + 1]
            part = result[i : i + 1] if reduces else result[a:b]
            assert bits(part) == alone(over_rows, scores[a:b], np.array([0, b - a])), (kind, i)


@pytest.mark.parametrize("target", semantics.other_targets())
def test_under_every_target(target: str) -> None:
    semantics.run_again(__file__, target)
