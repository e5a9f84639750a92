"""softly.attention on NumPy: its values against the definition, masks, alignments, bits, bad input."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
import semantics

import softly

RNG = np.random.default_rng(20)
SHAPES = (  # heads of queries and keys, queries, keys, d, columns of values
    ((), (), 5, 3, 1, 1),
    ((2, 4), (2, 2), 50, 70, 7, 5),
    ((3,), (3,), 1, 200, 64, 64),
    ((2,), (1,), 130, 129, 16, 33),
    ((1, 6), (3,), 2, 66, 4, 17),
)
ULP = {"float32": 2.0**-24, "float64": 2.0**-53}
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"scale": 0.7},
    {"causal": True, "align": "top-left"},
    {"causal": True, "align": "bottom-right"},
    {"temperature": 0.3},
    {"temperature": 0.0},
    {"temperature": np.inf},
)


def drawn(shape: Any, dtype: str = "float64") -> tuple[Any, Any, Any]:
    heads, groups, queries, keys, width, columns = shape
    sizes = (*heads, queries, width), (*groups, keys, width), (*groups, keys, columns)
    query, key, value = (RNG.standard_normal(size).astype(dtype) for size in sizes)
    return query, key, value


def definition(query: Any, key: Any, value: Any, *, alpha: float = 1.0, **options: Any) -> tuple[Any, Any]:
    """(averages, weights) by softly.entmax of scores made in float64, one matrix at a time."""
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    groups = 1 if key.ndim < 3 else query.shape[-3] // key.shape[-3]
    if groups > 1:
        key, value = (np.repeat(x, groups, axis=-3) if x.ndim > 2 else x for x in (key, value))
    scores = options.get("scale", query.shape[-1] ** -0.5) * (query @ np.swapaxes(key, -1, -2))
    scores = scores + options.get("bias", 0.0)
    queries, keys = scores.shape[-2:]
    where = np.broadcast_to(options.get("where", True), scores.shape)
    if options.get("causal"):
        where = where & np.tri(queries, keys, keys - queries if options["align"] == "bottom-right" else 0, bool)
    weights = softly.entmax(scores, alpha=alpha, where=where, temperature=options.get("temperature", 1.0))
    return weights @ value, weights


@pytest.mark.parametrize("alpha", [1.0, 1.3, 1.5, 2.0])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_are_those_of_the_definition(shape: Any, dtype: str, alpha: float) -> None:
    arrays = drawn(shape, dtype)
    queries, keys = arrays[0].shape[-2], arrays[1].shape[-2]
    masks: tuple[dict[str, Any], ...] = (
        {"where": RNG.random(keys) < 0.6},
        {"where": RNG.random((*shape[0][-1:], queries, keys)) < 0.5},
        {"where": RNG.random((queries, 1)) < 0.5},
        {"bias": RNG.standard_normal((queries, keys)).astype(dtype)},
        {"bias": RNG.standard_normal(keys).astype(dtype), "where": RNG.random((queries, keys)) < 0.5},
        {"temperature": RNG.random(queries) + 0.1},
    )  # fmt: skip
    for options in (*OPTIONS, *masks):
        found = softly.attention(*arrays, alpha=alpha, **options)
        exact, _ = definition(*arrays, alpha=alpha, **options)
        assert found.dtype == dtype
        assert found.shape == exact.shape
        # scores of some units have errors of some ULPs, which a low temperature or a large scale multiplies
        limit = 100 * ULP[dtype] * (4 if {"temperature", "scale"} & options.keys() else 1)
        np.testing.assert_allclose(found, exact, rtol=0, atol=limit, err_msg=str(options))


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_are_those_of_the_definition(shape: Any) -> None:
    query, key, value = drawn(shape)
    for alpha, options in itertools.product((1.0, 1.5), OPTIONS):
        found = softly.attention_weights(query, key, alpha=alpha, **options)
        np.testing.assert_allclose(found, definition(query, key, value, alpha=alpha, **options)[1], atol=1e-14)


def test_leading_axes_broadcast() -> None:
    query, key, value = (
        RNG.standard_normal((4, 1, 3, 5, 2)),
        RNG.standard_normal((6, 1, 7, 2)),
        RNG.standard_normal((7, 4)),
    )
    found = softly.attention(query, key, value)
    assert found.shape == (4, 6, 3, 5, 4)
    np.testing.assert_allclose(found, definition(query, key, value)[0], atol=1e-14)


@pytest.mark.parametrize("alpha", [1.0, 1.5])
@pytest.mark.parametrize("target", semantics.other_targets())
def test_every_target_has_the_same_bits(target: str, alpha: float) -> None:
    code = (
        "import hashlib, numpy as np, softly; rng = np.random.default_rng(3); "
        "a = [rng.standard_normal((2, n, 33)).astype(t) for t in ('f4', 'f8') for n in (70, 130, 130)]; "
        f"o = [softly.attention(*x, alpha={alpha}, temperature=t) for x in (a[:3], a[3:]) for t in (1.0, 0.7)]; "
        "print(hashlib.sha256(b''.join(x.tobytes() for x in o)).hexdigest())"
    )
    digests = {semantics.python("-c", code, target=name).stdout for name in ("", target)}
    assert "" not in digests
    if target != "baseline":  # without fma products are rounded apart
        assert len(digests) == 1


def test_threads_and_batches_leave_the_bits() -> None:
    arrays = [RNG.standard_normal((12, n, 8)).astype(np.float32) for n in (200, 300, 300)]
    whole = softly.attention(*arrays)
    alone = np.stack([softly.attention(*each) for each in zip(*arrays, strict=True)])
    np.testing.assert_array_equal(whole, alone)
    one_by_one = np.concatenate([softly.attention(arrays[0][:, i : i + 1], *arrays[1:]) for i in range(200)], axis=1)
    np.testing.assert_array_equal(whole, one_by_one)


def test_layouts_leave_the_bits() -> None:
    query, key, value = (RNG.standard_normal((3, n, 8)) for n in (20, 30, 30))
    found = softly.attention(query, key, value)
    turned = [np.swapaxes(np.swapaxes(x, 0, 1).copy(), 0, 1) for x in (query, key, value)]
    np.testing.assert_array_equal(softly.attention(*turned), found)
    swapped = [x.astype(x.dtype.newbyteorder()) for x in (query, key, value)]
    np.testing.assert_array_equal(softly.attention(*swapped), found)
    odd = [semantics.unaligned(x) for x in (query, key, value)]
    np.testing.assert_array_equal(softly.attention(*odd), found)


# ---------------------------------------------------------------- what nobody may see


@pytest.mark.parametrize("alpha", [1.0, 1.5])
@pytest.mark.parametrize("change", [1e30, -3.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kept", [1, 40, 64, 100])
def test_the_future_leaves_the_past_bit_identical(alpha: float, change: float, kept: int) -> None:
    query, key, value = (RNG.standard_normal((2, 150, 9)).astype(np.float32) for _ in range(3))
    before = softly.attention(query, key, value, causal=True, alpha=alpha)
    for array in (query, key, value):
        array[:, kept:] = change if change < 0 else array[:, kept:] * 0 + change
    after = softly.attention(query, key, value, causal=True, alpha=alpha)
    assert np.isfinite(before).all()
    np.testing.assert_array_equal(after[:, :kept], before[:, :kept])


@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0])
def test_step_by_step_generation_has_the_bits_of_the_full_pass(alpha: float) -> None:
    query, key, value = (RNG.standard_normal((2, 140, 9)).astype(np.float32) for _ in range(3))
    whole = softly.attention(query, key, value, causal=True, alpha=alpha)
    for step in (0, 1, 15, 16, 17, 63, 64, 99, 139):
        seen = slice(0, step + 1)
        found = softly.attention(query[:, step : step + 1], key[:, seen], value[:, seen], alpha=alpha)
        np.testing.assert_array_equal(found[:, 0], whole[:, step])
        last = softly.attention(
            query[:, step : step + 1], key[:, seen], value[:, seen], causal=True, align="bottom-right", alpha=alpha
        )
        np.testing.assert_array_equal(last, found)


@pytest.mark.parametrize("alpha", [1.0, 1.5])
def test_padding_leaves_the_bits_whatever_it_holds(alpha: float) -> None:
    query, key, value = (RNG.standard_normal((2, n, 5)) for n in (30, 100, 100))
    where = np.arange(100) < np.array([70, 3])[:, None, None]
    clean = softly.attention(query, key, value, where=where, alpha=alpha)
    for junk in (np.nan, np.inf, 1e300):
        dirty_key, dirty_value = (np.where(np.swapaxes(where, -1, -2), x, junk) for x in (key, value))
        np.testing.assert_array_equal(softly.attention(query, dirty_key, dirty_value, where=where, alpha=alpha), clean)
    bias = np.where(where, 0.0, -np.inf)
    np.testing.assert_array_equal(softly.attention(query, dirty_key, dirty_value, bias=bias, alpha=alpha), clean)


def test_a_value_that_is_not_finite_reaches_those_that_see_it() -> None:
    key, value = np.zeros((100, 2)), np.ones((100, 3))
    value[80] = [np.inf, -np.inf, np.nan]
    value[90, 0] = -np.inf
    found = softly.attention(np.zeros((100, 2)), key, value, causal=True)
    np.testing.assert_array_equal(found[:80], np.ones((80, 3)))
    np.testing.assert_array_equal(found[80:90], [[np.inf, -np.inf, np.nan]] * 10)
    np.testing.assert_array_equal(found[90:], [[np.nan, -np.inf, np.nan]] * 10)
    code = (
        "import numpy as np, softly; v = np.ones((9, 1)); v[5] = np.inf; "
        "print(softly.attention(np.zeros((9, 2)), np.zeros((9, 2)), v, causal=True).ravel().tolist())"
    )
    assert semantics.python("-c", code, target="none").stdout == str([1.0] * 5 + [np.inf] * 4) + "\n"


def test_infinite_scores_share_and_nan_stays_in_its_row() -> None:
    query, key = np.array([[np.inf], [-np.inf], [np.nan], [1.0]]), np.array([[1.0], [2.0], [-1.0]])
    value = np.array([[1.0], [3.0], [10.0]])
    with np.errstate(all="raise"):
        found = softly.attention(query, key, value, scale=1.0)
    np.testing.assert_array_equal(found[:3], [[2.0], [10.0], [np.nan]])
    assert np.isfinite(found[3])


# ---------------------------------------------------------------- logsumexp, entropy, merging


def test_statistics_are_those_of_the_weights() -> None:
    query, key, value = drawn(SHAPES[1])
    for options in ({}, {"causal": True, "align": "top-left"}, {"temperature": 0.4}, {"where": np.arange(70) > 4}):
        _, weights = definition(query, key, value, **options)
        found = softly.attention_statistics(query, key, **options)
        entropy = -np.sum(np.where(weights == 0, 0, weights * np.log(np.where(weights == 0, 1, weights))), axis=-1)
        np.testing.assert_allclose(found.entropy, entropy, atol=1e-13)
        _, potential = softly.attention(query, key, value, return_logsumexp=True, **options)
        np.testing.assert_allclose(found.logsumexp, potential, rtol=1e-14, atol=1e-14)
    sharp = softly.attention_statistics([[40.0]], [[1.0], [0.0]], scale=1.0)
    assert sharp.entropy[0] == pytest.approx(41 * np.exp(-40), rel=1e-12)  # no bit is lost beside 1
    sparse = softly.attention_statistics([[9.0]], [[1.0], [0.0]], scale=1.0, alpha=2.0)
    assert sparse.entropy[0] == 0
    empty = softly.attention_statistics([[1.0]], [[1.0]], where=False)
    assert (empty.logsumexp[0], empty.entropy[0]) == (-np.inf, 0)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_merging_is_exact_and_associative_up_to_rounding(dtype: str) -> None:
    query, key, value = drawn(((3,), (3,), 20, 300, 8, 5), dtype)
    cuts = [slice(0, 10), slice(10, 130), slice(130, 131), slice(131, 300)]
    where = np.arange(300) != 130  # one part has no possible key
    parts = [
        softly.attention(query, key[:, cut], value[:, cut], where=where[cut], return_logsumexp=True) for cut in cuts
    ]
    whole, potential = softly.attention(query, key, value, where=where, return_logsumexp=True)
    assert whole.dtype == dtype
    limit = {"float16": 3e-3, "float32": 2e-6, "float64": 4e-15}[dtype]
    for order in itertools.permutations(range(4)):
        a, b, c, d = (parts[i] for i in order)
        merge = softly.merge_attention
        for merged in (
            merge((a, b, c, d)),
            merge((merge((a, b)), merge((c, d)))),
            merge((a, merge((b, merge((c, d)))))),
        ):
            assert merged[0].dtype == dtype
            np.testing.assert_allclose(merged[0], whole, atol=limit)
            np.testing.assert_allclose(merged[1], potential, rtol=1e-6 if dtype != "float64" else 1e-14)


def test_merging_passes_over_what_had_no_key() -> None:
    nothing = (np.full((1, 2), np.nan), np.array([-np.inf]))
    something = (np.array([[1.0, 2.0]]), np.array([0.5]))
    output, potential = softly.merge_attention([nothing, something, nothing])
    np.testing.assert_array_equal(output, something[0])
    np.testing.assert_array_equal(potential, something[1])
    output, potential = softly.merge_attention([nothing, nothing])
    assert not output.any()
    assert potential[0] == -np.inf


# ---------------------------------------------------------------- memory


@pytest.mark.skipif(not semantics.targets(), reason="the expression stores scores")
@pytest.mark.parametrize("alpha", [1.0, 1.5])
def test_a_length_of_8192_takes_inputs_outputs_and_little_more(alpha: float) -> None:
    """64 MB are allowed beside inputs and output; the scores would take 256."""
    code = (
        "import resource, numpy as np, softly\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "x = np.random.default_rng(0).standard_normal((1, 8192, 64), dtype=np.float32)\n"
        "softly.attention(x[:, :64], x[:, :64], x[:, :64])\n"
        "before = peak()\n"
        f"out = softly.attention(x, x, x, alpha={alpha})\n"
        "print(peak() - before - out.nbytes)"
    )
    assert int(semantics.python("-c", code).stdout) < 64e6


# ---------------------------------------------------------------- bad input

ONE = np.ones((2, 3))
BAD: tuple[tuple[str, Any, dict[str, Any], type[Exception], str], ...] = (
    ("no axes", (1.0, ONE, ONE), {}, ValueError, r"query has shape \(\).*at least two axes"),
    ("one axis", (ONE, np.ones(3), ONE), {}, ValueError, r"key has shape \(3,\)"),
    ("widths", (ONE, np.ones((2, 4)), ONE), {}, ValueError, r"\(2, 3\) and key \(2, 4\): their last axes"),
    ("values", (ONE, ONE, np.ones((3, 1))), {}, ValueError, "one value for each key"),
    ("heads", (np.ones((4, 2, 3)), np.ones((3, 2, 3)), np.ones((3, 2, 3))), {}, ValueError, "heads.*multiple"),
    ("batch", (np.ones((2, 1, 2, 3)), np.ones((3, 1, 2, 3)), ONE), {}, ValueError, "leading axes"),
    ("mask's shape", (ONE, ONE, ONE), {"where": np.ones((3, 2), bool)}, ValueError, r"where has shape \(3, 2\)"),
    ("mask's dtype", (ONE, ONE, ONE), {"where": np.ones((2, 2))}, TypeError, "where has dtype float64"),
    ("bias's shape", (ONE, ONE, ONE), {"bias": np.ones((2, 5))}, ValueError, r"bias has shape \(2, 5\)"),
    ("bias's dtype", (ONE, ONE, ONE), {"bias": np.array(["a"])}, TypeError, "bias have dtype"),
    ("scale", (ONE, ONE, ONE), {"scale": np.nan}, ValueError, "scale=nan must be finite"),
    ("scale's type", (ONE, ONE, ONE), {"scale": "1"}, TypeError, "scale must be a number, got str"),
    ("alpha", (ONE, ONE, ONE), {"alpha": 0.5}, ValueError, "alpha=0.5"),
    ("temperature", (ONE, ONE, ONE), {"temperature": -1.0}, ValueError, "temperature=-1.0"),
    ("temperatures", (ONE, ONE, ONE), {"temperature": np.ones(3)}, ValueError, "one for each query"),
    ("empty", (ONE, ONE, ONE), {"empty": "none"}, ValueError, "empty='none'"),
    ("strings", (np.array([["a"]]), ONE, ONE), {}, TypeError, "query have dtype"),
    ("complex", (ONE, ONE + 1j, ONE), {}, TypeError, "key have dtype complex128"),
    ("logsumexp", (ONE, ONE, ONE), {"alpha": 1.5, "return_logsumexp": True}, ValueError, "return_logsumexp=True needs"),
    ("masked", (np.ma.masked_array(ONE, ONE > 0), ONE, ONE), {}, TypeError, "query is a masked array"),
)  # fmt: skip


@pytest.mark.parametrize(("name", "arrays", "options", "error", "message"), BAD, ids=[bad[0] for bad in BAD])
def test_bad_input_says_what_is_wrong(name: str, arrays: Any, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error) as caught:
        softly.attention(*arrays, **options)
    assert re.search(message, str(caught.value), re.S), caught.value


def test_bad_parts_say_what_is_wrong() -> None:
    part = (np.ones((2, 3)), np.ones(2))
    for parts, message in (
        ([], "parts has no entry"),
        ([part, (np.ones((2, 4)), np.ones(2))], r"output \(2, 4\)"),
        ([part, (np.ones((2, 3)), np.ones(3))], r"logsumexp \(3,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            softly.merge_attention(parts)


def test_nothing_is_computed_of_nothing() -> None:
    for queries, keys, width, columns in itertools.product((0, 2), (0, 3), (0, 4), (0, 5)):
        found = softly.attention(np.ones((queries, width)), np.ones((keys, width)), np.ones((keys, columns)))
        assert found.shape == (queries, columns)
        assert np.all(found == (1.0 if keys else 0.0)) or not found.size
    assert softly.attention(np.ones((0, 4, 2, 3)), np.ones((0, 2, 2, 3)), np.ones((0, 2, 2, 3))).shape == (0, 4, 2, 3)


def test_empty_rows_are_what_is_asked_for() -> None:
    where = np.array([[True, False], [False, False]])
    value = np.array([[1.0], [4.0]])
    for alpha in (1.0, 2.0):
        for empty, expected in (("zero", 0.0), ("nan", np.nan), ("uniform", 2.5)):
            found = softly.attention(np.ones((2, 1)), np.ones((2, 1)), value, where=where, empty=empty, alpha=alpha)
            np.testing.assert_array_equal(found, [[1.0], [expected]])
        with pytest.raises(ValueError, match="query 1 has nothing possible"):
            softly.attention(np.ones((2, 1)), np.ones((2, 1)), value, where=where, empty="raise", alpha=alpha)


def test_integers_become_floats() -> None:
    found = softly.attention([[1, 0]], [[3, 1], [0, 200]], [[1], [2]])
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, definition([[1, 0]], [[3, 1], [0, 200]], [[1], [2]])[0])
