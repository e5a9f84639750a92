"""The table of special values: every row on every function and dtype, its numbers against mpmath, its completeness."""

from __future__ import annotations

import collections
import warnings
from typing import Any

import mpmath
import numpy as np
import pytest
import semantics
import semantics_rows
import semantics_truth

import softly

TABLE = list(semantics.every())
IDS = [f"{name}-{dtype}-{case.name}" for case, name, dtype in TABLE]
FITS = list(semantics.sections("fit"))
EXISTING = (*semantics.FUNCTIONS, *semantics.ELEMENTWISE, *semantics.SEGMENTS)


@pytest.mark.parametrize(("case", "name", "dtype"), TABLE, ids=IDS)
def test_table(case: semantics.Case, name: str, dtype: str) -> None:
    semantics.check(getattr(softly, name), case, name, dtype, least_ulp=semantics.LEAST_ULP)


@pytest.mark.parametrize(("name", "alpha"), [("softmax", 1.0), ("sparsemax", 2.0), ("segment_softmax", 1.0)])
def test_entmax_has_the_bits_of_its_members(name: str, alpha: float) -> None:
    """On every row of theirs in the table."""
    over = softly.segment_entmax if "segment" in name else softly.entmax
    checked = 0
    for case, other, dtype in TABLE:
        if other == name and not case.raises:
            scores, options = semantics.scores_of(case, dtype), semantics.options_of(case, dtype)
            with np.errstate(all="ignore"):
                results = [
                    np.array(getattr(softly, name)(scores, **options)),
                    np.array(over(scores, alpha=alpha, **options)),
                ]
            assert results[0].dtype == results[1].dtype, (case.name, dtype)
            for result in results:
                result[np.isnan(result)] = np.nan
            assert results[0].tobytes() == results[1].tobytes(), (case.name, dtype)
            checked += 1
    assert checked > 80


# ---------------------------------------------------------------- the table itself


def test_rows_are_named_once_and_sourced() -> None:
    every = [(kind, row) for kind in semantics.KINDS for row in semantics.sections(kind)]
    names = collections.Counter((kind, row["name"]) for kind, row in every)
    assert [name for name, count in names.items() if count > 1] == []
    for _, row in every:
        assert row["source"], row["name"]
        assert ("raises" in row) != ("expected" in row), row["name"]
    for case in semantics.cases():
        assert set(case.tested()) <= set(EXISTING), case.name
        assert set(case.dtypes) == set(dict.fromkeys(case.dtypes)), case.name


def test_every_function_has_ordinary_rows_limits_and_errors() -> None:
    for name in EXISTING:
        own = [case for case in semantics.cases() if name in case.tested()]
        assert len(own) > 40, name
        for part in ("definition", "limit", "NaN", "possible", "temperature", "TypeError", "subnormal|exact shift"):
            assert any(word in case.source for case in own for word in part.split("|")), (name, part)
        assert any(case.raises for case in own), name


def spoilt(result: Any) -> Any:
    """One number three ULPs off."""
    result = np.array(result)
    result.flat[0] += 3 * np.spacing(result.flat[0])
    return result


def test_a_wrong_answer_is_seen() -> None:
    def by(change: Any) -> Any:
        return lambda scores, **options: change(softly.softmax(scores, **options))

    def writes(scores: Any) -> Any:
        result = softly.softmax(scores)
        scores[0] = 0
        return result

    named = {case.name: case for case in semantics.cases()}
    ordinary, error = named["three scores"], named["temperature -1"]
    semantics.check(softly.softmax, ordinary, "softmax", "float64")
    wrong = [
        by(spoilt),
        by(lambda p: p[:2]),
        by(np.float32),
        by(lambda p: (p, p)),
        by(np.sqrt),
        by(lambda p: p / 0),
        writes,
    ]
    for function in wrong:
        with pytest.raises(AssertionError):
            semantics.check(function, ordinary, "softmax", "float64")
    with pytest.raises(AssertionError, match="no ValueError"):
        semantics.check(lambda scores, temperature: scores, error, "softmax", "float64")


def test_numbers_agree_with_mpmath() -> None:
    """Every ordinary row of the table (something finite, nothing NaN or +inf, 0 < T < inf), recomputed."""
    checked: collections.Counter[str] = collections.Counter()
    wrong = []
    for case, name, dtype in TABLE:
        if case.raises or isinstance(case.input, dict) or case.options.get("alpha") == np.inf:
            continue
        kind = semantics_rows.kind_of(dtype)
        for row in semantics_rows.rows(case, name, dtype):
            if row.scores.size and row.is_ordinary:
                for found, true in zip(row.expected, semantics_rows.truth(case, name, row), strict=True):
                    narrow = kind if kind.kind != "c" or np.iscomplexobj(true) else np.float64
                    with np.errstate(all="ignore"):
                        same = np.asarray(found).astype(narrow) == np.asarray(true).astype(narrow)
                        if not np.all(same | (np.isnan(found) & np.isnan(true))):
                            wrong.append((case.name, name, dtype, found, true))
                checked[name] += 1
    assert wrong == []
    assert {name for name in EXISTING if checked[name] > 50} == set(EXISTING), checked


def test_the_truth_of_entmax_joins_softmax_and_sparsemax() -> None:
    """Its root agrees with the closed form at alpha 2, and with softmax as alpha -> 1."""
    for row in ([2.0, 1.0, -1.0, -np.inf], [0.3, 0.2, 0.25, 0.1]):
        with mpmath.workdps(40):
            for alpha, name, near in ((2.0, "sparsemax", 1e-38), (1 + 2.0**-40, "softmax", 1e-11)):
                both = semantics.exact("entmax", row, 0.7, alpha), semantics.exact(name, row, 0.7)
                for found, closed in zip(*both, strict=True):
                    assert abs(found - closed) < near, (row, alpha)


# The lines of the list of special values that the table stands for: each must be the source of some row.
LINES = (
    "possible entries",
    "row with nothing possible",
    "over the whole row",
    "NaN or +-inf behind a mask",
    "also in masked keys and values of attention",
    "the limit: torch#6864, jax#21495",
    "NaN in a row",
    "logsumexp(NaN, inf) = NaN",
    "logsumexp with weights: negative: scipy#22903",
    "logsumexp with weights: zero with +inf score",
    "logsumexp with weights: derivative at weight 0: exp(s - lse): jax#37729",
    "return_sign as SciPy",
    "phase in (-pi, pi]",
    "converted before any subtraction",
    "wraps and comes out inverted in scipy and jax",
    "float16, bfloat16: 0 or inf in scipy and jax",
    "float16, bfloat16: gradients too",
    "exact shift: torch#11752, mlx#4169",
    "a 1e16 offset in sparsemax",
    "log1p path: scipy#19521, torch#113708",
    "subnormal results are kept",
    "1/n",
    "empty axis",
    "0-d: 1",
    "axis: None",
    "axis: tuple",
    "axis: negative",
    "axis: AxisError",
    "strided, Fortran, negative strides, byte-swapped, unaligned, read-only, stride 0",
    "axis 0 against transposed axis -1",
    "TypeError",
    "numpy masked array: TypeError that names where=~x.mask",
    'np.errstate(all="raise"), warnings as errors',
    "temperature near 0; shift before dividing",
    "temperature exactly 0: the limit",
    "temperature inf: uniform over possible entries",
    "temperature < 0: tabfm#93",
    "temperature NaN",
    "temperature as an array: the shape of scores with axis removed",
    "temperature as an array: its gradient exists",
    "sparsemax/entmax: ties: entmax#9, entmax#19",
    "sparsemax/entmax: keras#23425 summed to 0.25",
    "sparsemax/entmax: +-inf, all -inf",
    "alpha = 1: softmax",
    "alpha = 2: sparsemax",
    "alpha near 1: continuous",
    "alpha < 1: ValueError",
    "labels out of range",
    "labels: wrong length",
    "float labels",
    "labels: any integer dtype: tf#3739, paddle#10945",
    "all labels ignored: NaN as torch: torch#70348",
    "weight + smoothing + ignore_index: formula and denominator as torch: torch#69339, torch#73205",
    "an ignored row equals a dropped row",
    "soft targets that do not sum to one",
    "0 * -inf is 0",
    "causal with different lengths: align must be said: torch#108108, mlx#2835, onnx#8068",
    "causal with different lengths: without align ValueError",
    "segments: empty allowed",
    "segments: unsorted allowed",
    "segments: id out of range: ValueError: pyg#723",
    "segments: id negative: ValueError: pyg#723",
    "temperature fit: separable (all right)",
    "temperature fit: anti-correlated (all wrong)",
    "temperature fit: constant",
    "temperature fit: class never seen",
    "-inf at the true label: ValueError that names the row",
    "temperature fit: all labels of one class",
    "temperature fit: n = 0",
    "temperature fit: NaN",
    "temperature fit: fewer than two columns of scores",
    "temperature fit: label >= k",
    "temperature fit: scores scaled by c",
    "temperature fit: weights: a weight counts repetitions",
)


def test_every_line_of_the_list_has_rows() -> None:
    sources = [row["source"] for kind in semantics.KINDS for row in semantics.sections(kind)]
    assert [line for line in LINES if not any(line in source for source in sources)] == []


# ---------------------------------------------------------------- temperature fits


@pytest.mark.parametrize("row", FITS, ids=[row["name"] for row in FITS])
def test_temperature_fit(row: dict[str, Any]) -> None:
    scores, labels = semantics.fill(row["scores"]), semantics.fill(row["labels"])
    weights = semantics.fill(row["sample_weight"]) if "sample_weight" in row else None
    with np.errstate(all="raise"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if "raises" in row:
            with pytest.raises(semantics.EXCEPTIONS[row["raises"]], match=row["match"]):
                softly.fit_calibrator(scores, labels, sample_weight=weights)
            return
        fitted = softly.fit_calibrator(scores, labels, sample_weight=weights)
    expected = row["expected"]
    assert [bool(row.get("warning"))] == [bool(caught)], caught
    for warning in caught:
        assert warning.category is softly.DegenerateFitWarning
        assert row["warning"] in str(warning.message)
    assert fitted.status == expected["status"]
    if fitted.status != "ok":
        assert (fitted.temperature, fitted.standard_error, fitted.interval) == (expected["temperature"], None, None)
        return
    assert fitted.temperature == pytest.approx(expected["temperature"], rel=1e-8)
    assert fitted.standard_error == pytest.approx(expected["standard_error"], rel=1e-4)
    low, high = fitted.interval
    assert low * high == pytest.approx(expected["temperature"] ** 2, rel=1e-8)  # symmetric in log T
    half_width = 1.959963984540054 * expected["standard_error"] / expected["temperature"]
    assert np.log(high / low) / 2 == pytest.approx(half_width, rel=1e-4)


def test_fitted_temperatures_agree_with_mpmath() -> None:
    """A root found by bisection in 40 digits; a single column of scores s is the pair [0, s]."""
    checked = 0
    for row in FITS:
        if row.get("expected", {}).get("status") == "ok":
            scores = semantics.fill(row["scores"])
            pair = np.stack([np.zeros_like(scores), scores], axis=1) if scores.ndim == 1 else scores
            with mpmath.workdps(40):
                found = semantics_truth.fitted_temperature(pair, row["labels"], row.get("sample_weight"))
            assert [float(value) for value in found] == [row["expected"][k] for k in ("temperature", "standard_error")]
            checked += 1
    assert checked > 10
