"""Segments are held to the whole table: every case of the maps whose rows can be segments, and the bits of the rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import semantics
from semantics_rows import AS_SEGMENTS, as_segments, fits_segments

import softly

Array = np.ndarray[Any, Any]
SUITABLE = [row for row in semantics.every() if fits_segments(*row)]
IDS = [f"{name}-{dtype}-{case.name}" for case, name, dtype in SUITABLE]


def test_most_of_the_table_is_suitable() -> None:
    assert {name for _, name, _ in SUITABLE} == set(AS_SEGMENTS)
    assert len(SUITABLE) > 1000
    assert sum(bool(case.raises) for case, _, _ in SUITABLE) > 100


@pytest.mark.parametrize(("case", "name", "dtype"), SUITABLE, ids=IDS)
def test_each_row_as_a_segment(case: semantics.Case, name: str, dtype: str) -> None:
    over_segments = AS_SEGMENTS[name]
    own = as_segments(case, name, dtype)
    semantics.check(getattr(softly, over_segments), own, over_segments, dtype, least_ulp=semantics.LEAST_ULP)


def bits(result: Any) -> bytes:
    """The bits of a result; every NaN counts as the same."""
    result = np.array(result)
    result[np.isnan(result)] = np.nan
    return result.tobytes()


def alone(case: semantics.Case, name: str, order: Array) -> bytes:
    """The bits of the map over rows for each segment of a segment case, its entries in the order in which they come."""
    offsets, options = case.options["offsets"], case.options
    kept = {key: options[key] for key in ("empty", "alpha") if key in options}
    temperatures = np.broadcast_to(options.get("temperature", 1.0), len(offsets) - 1)
    segments = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))[order]
    found = []
    for i, temperature in enumerate(temperatures.tolist()):
        place = order[segments == i]
        where = options["where"][place] if "where" in options else None
        found.append(bits(getattr(softly, name)(case.input[place], temperature=temperature, where=where, **kept)))
    return b"".join(found)


def by_index(case: semantics.Case, order: Array) -> tuple[Array, dict[str, Any]]:
    """The entries of a segment case in another order, and the options that tell their segments."""
    options = dict(case.options)
    offsets = options.pop("offsets")
    options["index"] = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))[order]
    options["num_segments"] = len(offsets) - 1
    if "where" in options:
        options["where"] = options["where"][order]
    return case.input[order], options


def with_heads(cases: list[semantics.Case]) -> tuple[Array, dict[str, Any]]:
    """Segment cases that differ in scores and masks alone, as heads of one call."""
    options = dict(cases[0].options)
    if "where" in options:
        options["where"] = np.stack([case.options["where"] for case in cases], axis=1)
    if "temperature" in options:
        options["temperature"] = options["temperature"][:, None]
    return np.stack([case.input for case in cases], axis=1), options


@pytest.mark.skipif(semantics.LEAST_ULP > 0, reason="the bits of the compiled core")
@pytest.mark.parametrize("name", AS_SEGMENTS)
def test_segments_have_the_bits_of_rows(name: str) -> None:
    """As they come, unsorted (an entry counts where it comes in its segment), and with heads."""
    over, row_name = getattr(softly, AS_SEGMENTS[name]), "entmax" if name == "sparsemax" else name
    checked = 0
    for case, other, dtype in SUITABLE:
        if other != name or case.raises or np.size(semantics.fill(case.input)) > 10**5:
            continue
        segments = as_segments(case, name, dtype)
        as_given = np.arange(len(segments.input))
        expected = alone(segments, row_name, as_given)
        assert bits(over(segments.input, **segments.options)) == expected, (case.name, dtype)

        order = np.random.default_rng(checked).permutation(as_given)
        scores, options = by_index(segments, order)
        result = over(scores, **options)
        if name != "logsumexp":
            result = result[np.argsort(options["index"], kind="stable")]
        assert bits(result) == alone(segments, row_name, order), (case.name, dtype, "unsorted")

        masked = {"where": segments.options["where"][::-1]} if "where" in segments.options else {}
        reverse = replace(segments, input=segments.input[::-1], options=segments.options | masked)
        scores, options = with_heads([segments, reverse])
        if options.get("empty") != "raise":
            result = over(scores, **options)
            assert bits(result[:, 0]) == expected, (case.name, dtype, "first head")
            assert bits(result[:, 1]) == alone(reverse, row_name, as_given), (case.name, dtype, "second head")
        checked += 1
    assert checked > 100


@pytest.mark.parametrize("target", semantics.other_targets())
def test_under_every_target(target: str) -> None:
    semantics.run_again(__file__, target)
