"""Attention inspected: heads, finite masks, the scale of dot products, leaks of the future."""

from __future__ import annotations

import numpy as np
import pytest

import softly


def test_heads_against_their_definitions():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2, 3, 5, 7)) * 4
    told = softly.inspect_attention(z, temperature=2.0)
    p = np.exp(z / 2) / np.exp(z / 2).sum(-1, keepdims=True)
    entropy = -(p * np.log(p)).sum(-1)
    top = np.sort(z, -1)
    np.testing.assert_allclose(told.entropy, entropy.mean(-1))
    np.testing.assert_allclose(told.effective_support, np.exp(entropy).mean(-1))
    np.testing.assert_allclose(told.saturated, (p.max(-1) >= 0.99).mean(-1))
    np.testing.assert_allclose(told.gap_over_temperature, np.median((top[..., -1] - top[..., -2]) / 2, axis=-1))
    np.testing.assert_array_equal(told.sink, p.mean(-2).argmax(-1))
    np.testing.assert_allclose(told.sink_mass, p.mean(-2).max(-1))
    assert told.sufficient_gap == pytest.approx(np.full((2, 3), np.log(6 * 99)))
    assert not told.masked_entries.any()
    assert (told.queries, told.keys) == (5, 7)


def test_a_sink_and_a_saturated_head_are_told():
    z = np.zeros((2, 6, 6))
    z[0, :, 2] = 30
    told = softly.inspect_attention(z)
    assert (told.sink[0], told.saturated.tolist()) == (2, [1.0, 0.0])
    assert "1 of 2 heads are saturated" in told.advice[0]
    assert "1 of 2 heads put most of their weight on one key, a sink" in told.advice[1]


@pytest.mark.parametrize("level", [-1e4, -1e9, float(np.finfo(np.float32).min)])
def test_a_finite_mask_is_told_with_the_mass_behind_it(level):
    z = np.random.default_rng(0).normal(size=(2, 4, 4))
    mask = np.tril(np.ones((4, 4), bool), -1)  # strictly causal: the first row has nothing
    told = softly.inspect_attention(np.where(mask, z, level))
    assert told.masked_entries.tolist() == [10, 10]
    assert told.fully_masked_rows.tolist() == [1, 1]
    assert told.largest_masked_mass == pytest.approx([1, 1])
    assert told.masked_mass == pytest.approx([0.25, 0.25])
    assert ".25 of the weight lies behind it, 1 in the worst row; 2 rows are masked entirely" in str(told)
    exact = softly.inspect_attention(z, where=mask)
    assert exact.empty_rows.tolist() == [1, 1]
    assert not exact.masked_entries.any()
    assert not exact.masked_mass.any()


def test_a_larger_spread_beats_a_finite_mask():
    told = softly.inspect_attention([[-30000.0, -20000.0, -10000.0]], mask_below=-9000)
    assert told.largest_masked_mass == 1
    mixed = softly.inspect_attention([[-11000.0, -10000.0]], mask_below=-10000)
    assert mixed.masked_entries == 2
    harmless = softly.inspect_attention([[3.0, -1e9]])
    assert "no weight lies behind it here" in harmless.advice[0]


def test_heads_without_a_possible_key():
    told = softly.inspect_attention(np.full((1, 2, 3), -np.inf))
    assert told.empty_rows.tolist() == [2]
    assert np.isnan(told.entropy).all()
    assert told.sink.tolist() == [-1]
    assert softly.inspect_attention(np.zeros((2, 1))).gap_over_temperature == np.inf


@pytest.mark.parametrize(
    ("scores", "options", "said"),
    [
        ([1.0, 2.0], {}, "queries, keys"),
        (np.zeros((2, 0)), {}, "at least one"),
        ([[np.nan, 1.0]], {}, "NaN or"),
        ([[1.0]], {"sure": 1.0}, "sure=1.0"),
        ([[1.0]], {"mask_below": 0}, "mask_below=0"),
        ([[1.0]], {"temperature": 0.0}, "temperature"),
    ],
)
def test_bad_scores_are_named(scores, options, said):
    with pytest.raises(ValueError, match=said):
        softly.inspect_attention(scores, **options)


# ---------------------------------------------------------------- scale


@pytest.mark.parametrize("d", [1, 4, 64, 1024, 4096])
def test_independent_entries_have_the_variance_d(d):
    rng = np.random.default_rng(d)
    told = softly.inspect_scaling(rng.normal(size=(256, d)), rng.normal(size=(256, d)))
    assert told.variance_over_dimension == pytest.approx(1, abs=0.35 if d < 5 else 0.05)
    assert abs(told.correlation) < 0.1
    assert told.scaled.saturated < 0.01
    assert told.scaled.scale == d**-0.5
    if d >= 1024:
        assert told.unscaled.saturated > 0.6
        assert told.unscaled.gradient_norm < 0.5 * told.scaled.effective_support


def test_correlated_entries_saturate_all_the_same():
    rng = np.random.default_rng(0)
    query = rng.normal(size=(256, 1024))
    told = softly.inspect_scaling(query, query + 0.3 * rng.normal(size=query.shape))
    assert told.own_correlation == pytest.approx(0.958, abs=0.01)
    assert told.scaled.saturated == 1
    assert told.scaled.gradient_norm < 1e-4
    assert "does not prevent saturation: 100% of queries" in told.advice[1]


def test_the_gradient_norm_is_that_of_the_jacobian():
    rng = np.random.default_rng(0)
    for spread in (0.1, 1.0, 4.0):
        query, key = spread * rng.normal(size=(3, 5)), rng.normal(size=(4, 5))
        told = softly.inspect_scaling(query, key, scale=0.7)
        norms = [np.linalg.norm(softly.jacobian(row)) for row in 0.7 * query @ key.T]
        assert told.scaled.gradient_norm == pytest.approx(np.mean(norms), rel=1e-12)
        assert told.mean == pytest.approx((query @ key.T).mean())
        assert told.variance_over_dimension == pytest.approx((query @ key.T).var() / 5)


def test_leading_axes_are_pooled():
    rng = np.random.default_rng(1)
    query, key = rng.normal(size=(2, 3, 4, 8)), rng.normal(size=(2, 3, 5, 8))
    told = softly.inspect_scaling(query, key)
    dots = query @ np.swapaxes(key, -1, -2)
    assert told.variance_over_dimension == pytest.approx(dots.var() / 8)
    assert np.isnan(told.own_correlation)
    with pytest.raises(ValueError, match="query has shape"):
        softly.inspect_scaling(query, key[..., :7])
    with pytest.raises(ValueError, match="all finite"):
        softly.inspect_scaling(query * np.nan, key)
    with pytest.raises(ValueError, match="scale=0"):
        softly.inspect_scaling(query, key, scale=0)


# ---------------------------------------------------------------- leaks

LENGTH = 9


def attend(x, mask, level=-np.inf):
    """Self-attention of rows with an additive mask, as it is often written."""
    z = np.where(mask, x @ x.T, level)
    top = z.max(-1, keepdims=True)
    e = np.exp(z - np.where(np.isfinite(top), top, 0))
    total = e.sum(-1, keepdims=True)
    p = np.divide(e, total, out=np.zeros_like(e), where=total > 0)
    return np.where(p[..., None] > 0, p[..., None] * x, 0).sum(1)


def causal(offset=0):
    return np.tril(np.ones((LENGTH, LENGTH), bool), offset)


@pytest.fixture
def sequence():
    return np.random.default_rng(0).normal(size=(LENGTH, 4))


def test_a_causal_function_keeps_its_past(sequence):
    told = softly.leak_test(lambda x: attend(x, causal()), sequence)
    assert (told.status, told.change, told.cuts) == ("causal", 0, LENGTH - 1)
    assert not told.reads_ahead.any()
    strict = softly.leak_test(lambda x: attend(x, causal(-1)), sequence)
    assert strict.status == "causal"
    mine = softly.leak_test(lambda x: softly.attention(x, x, x, causal=True), sequence)
    assert mine.status == "causal"


def test_a_mask_that_is_off_by_one_is_caught(sequence):
    told = softly.leak_test(lambda x: attend(x, causal(1)), sequence)
    assert told.status == "leaks"
    assert told.reads_ahead.tolist() == [1] * (LENGTH - 1) + [0]
    assert "off by one" in told.advice[0]


def test_a_finite_mask_on_a_row_with_nothing_possible_is_caught(sequence):
    told = softly.leak_test(lambda x: attend(x, causal(-1), -1e9), sequence[:, :1] * 1e-3)
    assert told.status == "leaks"
    assert told.reads_ahead[0] == LENGTH - 1
    assert not told.reads_ahead[1:].any()
    assert "Positions 0 read ahead" in told.advice[0]


def test_a_finite_mask_that_large_scores_beat_is_caught(sequence):
    told = softly.leak_test(lambda x: softly.softmax(x @ x.T + np.where(causal(), 0, -1e9)) @ x, sequence)
    assert told.status == "leaks"
    exact = softly.leak_test(lambda x: softly.softmax(x @ x.T, where=causal()) @ np.clip(x, -9, 9), sequence)
    assert exact.status == "causal"


def test_a_normalisation_over_time_is_caught(sequence):
    told = softly.leak_test(lambda x: (x - x.mean(0)) / x.std(0), sequence)
    assert told.reads_ahead.tolist() == list(range(LENGTH - 1, -1, -1))
    assert "normalised over time" in told.advice[0]
    assert softly.leak_test(lambda x: x - x.mean(1, keepdims=True), sequence).status == "causal"


def test_tokens_axes_randomness_and_bad_input(sequence):
    tokens = np.array([3, 1, 4, 1, 5, 9, 2, 6])
    assert softly.leak_test(np.cumsum, tokens).status == "causal"
    assert softly.leak_test(lambda x: x[::-1].cumsum(), tokens).status == "leaks"
    assert softly.leak_test(lambda x: np.cumsum(x, axis=1), sequence[None], axis=1).status == "causal"
    rng = np.random.default_rng(0)
    assert softly.leak_test(lambda x: x + rng.normal(), sequence).status == "random"
    long = softly.leak_test(np.cumsum, np.arange(300.0))
    assert (long.status, long.cuts) == ("causal", 64)
    with pytest.raises(ValueError, match="at least two positions"):
        softly.leak_test(np.cumsum, [1.0])
    with pytest.raises(ValueError, match="one a position"):
        softly.leak_test(lambda x: x[:3], sequence)


def test_modules_of_torch_are_called_without_gradients(sequence):
    torch = pytest.importorskip("torch", exc_type=ImportError)
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(LENGTH)
    x = torch.tensor(sequence[None], dtype=torch.float32)
    causal = softly.leak_test(lambda x: layer(x, src_mask=mask, is_causal=True), x, axis=1)
    assert causal.status == "causal"
    assert softly.leak_test(layer, x, axis=1).status == "leaks"
