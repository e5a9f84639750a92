"""Draws: against transformers' filters, chi-square tests and exact probabilities; ties; the same whatever varies."""

from __future__ import annotations

from pathlib import Path

import mpmath
import numpy as np
import pytest

import softly
from softly import _kernels, sampling

FILTERS = [
    {},
    {"top_k": 3},
    {"top_p": 0.5},
    {"min_p": 0.1},
    {"top_k": 20, "top_p": 0.9},
    {"top_p": 0.95, "min_p": 0.05},
    {"top_k": 12, "top_p": 0.97, "min_p": 0.02},
    {"top_p": 0.0},
    {"min_p": 1.0},
]


def processed(row, temperature=1.0, top_k=None, top_p=1.0, min_p=0.0):
    """The distribution that `sample` draws from, of a row without ties, one step after another."""
    order = sorted(range(len(row)), key=lambda i: -row[i])
    p = [mpmath.exp((mpmath.mpf(row[i]) - row[order[0]]) / temperature) for i in order]
    p = p[:top_k]
    total, sums = mpmath.fsum(p), 0
    for count, weight in enumerate(p, 1):
        sums += weight
        if sums >= top_p * total:
            p = p[:count]
            break
    p = [weight for weight in p if weight >= min_p * p[0]]
    found = np.zeros(len(row))
    found[order[: len(p)]] = [float(weight / mpmath.fsum(p)) for weight in p]
    return found


@pytest.fixture(scope="module")
def words():
    """Scores (4, 49152) of a language model's next words."""
    with np.load(Path(__file__).parent / "data" / "smollm2_logits.npz") as data:
        return data["logits"]


@pytest.mark.parametrize("options", FILTERS, ids=str)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_draws_follow_the_distribution_and_tell_its_logarithm(options, temperature):
    from scipy.stats import chisquare

    scores = np.random.default_rng(1).normal(size=40) * 2
    draws = softly.sample(scores, 20_000, temperature=temperature, seed=5, **options)
    expected = processed(scores, temperature, **options)
    counts = np.bincount(draws.index, minlength=40)
    possible = expected > 0
    assert draws.kept == possible.sum()
    assert not counts[~possible].any()
    np.testing.assert_allclose(draws.log_probability, np.log(expected[draws.index]), rtol=1e-13, atol=1e-15)
    rare = possible & (expected * 20_000 < 5)
    often = possible & ~rare
    if often.sum() > 1:
        groups = [*counts[often], counts[rare].sum()], [*expected[often], expected[rare].sum()]
        kept = np.array(groups[1]) > 0
        assert chisquare(np.array(groups[0])[kept], 20_000 * np.array(groups[1])[kept]).pvalue > 1e-4


def test_the_chi_square_test_can_fail():
    from scipy.stats import chisquare

    scores = np.random.default_rng(1).normal(size=10)
    counts = np.bincount(softly.sample(scores, 20_000, temperature=1.3, seed=5).index, minlength=10)
    assert chisquare(counts, 20_000 * softly.softmax(scores)).pvalue < 1e-4


@pytest.mark.parametrize("options", FILTERS[1:7], ids=str)
def test_filters_keep_what_those_of_transformers_keep(options):
    torch = pytest.importorskip("torch", exc_type=ImportError)
    process = pytest.importorskip("transformers.generation.logits_process")
    scores = np.random.default_rng(2).normal(size=(5, 1000)) * 3
    rest = torch.tensor(scores) / 1.3
    for name, of in (
        ("top_k", process.TopKLogitsWarper),
        ("top_p", process.TopPLogitsWarper),
        ("min_p", process.MinPLogitsWarper),
    ):
        if name in options:
            rest = of(options[name])(None, rest)
    draws = softly.sample(scores, 50, temperature=1.3, seed=0, **options)
    np.testing.assert_array_equal(draws.kept, (rest > -np.inf).sum(-1))
    theirs = rest.log_softmax(-1).numpy()
    np.testing.assert_allclose(draws.log_probability, np.take_along_axis(theirs, draws.index, -1), rtol=1e-11)


# ---------------------------------------------------------------- ties and limits


def test_ties_are_kept_or_left_out_together_wherever_they_stand():
    scores = np.array([1.0, 3.0, 2.0, 2.0, 2.0, 0.0])
    for order in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [2, 5, 0, 3, 1, 4]):
        for options, kept in (({"top_k": 2}, 4), ({"top_k": 1}, 1), ({"top_p": 0.5}, 4), ({"min_p": 0.36}, 4)):
            draws = softly.sample(scores[order], 200, seed=0, **options)
            assert draws.kept == kept, options
            assert set(scores[order][draws.index]) == ({3.0} if kept == 1 else {3.0, 2.0})


@pytest.mark.parametrize("options", [{}, {"top_k": 1}, {"top_p": 0.3}, {"min_p": 0.5}], ids=str)
def test_at_temperature_0_the_largest_share(options):
    draws = softly.sample([[5.0, 7.0, 7.0, -np.inf], [1e300, 0, 1, 2]], 4000, temperature=0.0, seed=1, **options)
    assert draws.kept.tolist() == [2, 1]
    assert set(draws.index[0].tolist()) == {1, 2}
    assert abs((draws.index[0] == 1).mean() - 0.5) < 0.04
    assert (draws.log_probability[0] == np.log(0.5)).all()
    assert (draws.index[1] == 0).all()
    assert (draws.log_probability[1] == 0).all()


def test_at_an_infinite_temperature_filters_keep_the_largest_scores():
    scores, hot = [4.0, 3.0, 2.0, 1.0, -np.inf], np.inf
    assert softly.sample(scores, temperature=hot, seed=0).kept == 4
    assert set(softly.sample(scores, 100, temperature=hot, top_k=2, seed=0).index.tolist()) == {0, 1}
    assert softly.sample(scores, temperature=hot, top_p=0.75, seed=0).kept == 3
    assert softly.sample(scores, temperature=hot, min_p=1.0, seed=0).kept == 4


def test_infinite_scores_share_and_what_is_masked_never_leaks():
    draws = softly.sample([np.inf, 1.0, np.inf], 500, seed=0)
    assert set(draws.index.tolist()) == {0, 2}
    assert (draws.log_probability == np.log(0.5)).all()
    draws = softly.sample([1.0, np.nan, 2.0], 500, where=[True, False, True], seed=0)
    np.testing.assert_array_equal(draws.index, softly.sample([1.0, -np.inf, 2.0], 500, seed=0).index)


def test_a_sum_that_meets_top_p_but_for_rounding_meets_it():
    scores = np.log([0.5, 0.3, 0.1, 0.1])
    for top_p, kept in ((0.5, 1), (0.8, 2), (0.8000001, 4), (0.4999999, 1), (1 - 1e-9, 4)):
        assert softly.sample(scores, top_p=top_p, seed=0).kept == kept, top_p
    assert softly.sample(np.log([0.4, 0.2, 0.1, 0.3]), min_p=0.5, seed=0).kept == 3


def test_the_log_probability_of_a_sure_entry_keeps_its_digits():
    draws = softly.sample([0.0, -40.0, -800.0], seed=0)
    assert float(draws.log_probability[0]) == pytest.approx(-4.248354255291589e-18, rel=1e-15)


@pytest.mark.parametrize("spread", [1e9, 1e300])
def test_a_finite_mask_does_not_hide_the_threshold(spread):
    scores = np.random.default_rng(0).normal(size=5000)
    masked = np.where(np.arange(5000) % 2, -spread, scores)
    for options in ({"top_k": 100}, {"top_p": 0.7}):
        mine = softly.sample(masked, 50, seed=0, **options)
        clean = softly.sample(np.where(np.arange(5000) % 2, -np.inf, scores), 50, seed=0, **options)
        assert mine.kept == clean.kept
        np.testing.assert_array_equal(mine.index, clean.index)


# ---------------------------------------------------------------- the same draws whatever varies


@pytest.mark.skipif(_kernels.core is None, reason="no compiled core")
@pytest.mark.parametrize("columns", [1, 2, 5, 64, 65, 300, 9000])
def test_the_kernel_draws_what_the_definition_draws(columns):
    rng = np.random.default_rng(columns)
    plain = rng.normal(size=(4, columns)) * 3
    uniforms = rng.random((4, 7))
    uniforms[:, 0], uniforms[:, 1] = 0, np.nextafter(1, 0)  # the last entries may lie within rounding of the whole
    for z in (plain, plain.round(), np.where(np.arange(columns) % 3 == 1, -np.inf, plain), plain - 1e9 * (plain < 0)):
        for temperature in (0.0, 0.3, 1.0, 1e300, np.inf):
            p, leaders = softly.softmax(z, temperature=temperature), z.argmax(-1)
            for filters in ((1 << 62, 1.0, 0.0), (3, 1.0, 0.0), (50, 0.9, 0.1), (1 << 62, 0.99, 0.01), (1, 0.0, 1.0)):
                mine = _kernels.core.draw(z, p, uniforms, leaders, *filters)
                defined = sampling._draw(z, p, uniforms, leaders, *filters)
                assert (np.take_along_axis(p, mine[0], -1) > 0).all()
                np.testing.assert_array_equal(np.delete(mine[0], 1, axis=1), np.delete(defined[0], 1, axis=1))
                np.testing.assert_array_equal(mine[1], defined[1])
                np.testing.assert_allclose(mine[2], defined[2], rtol=1e-12, atol=1e-300)


def test_draws_do_not_depend_on_layout_dtype_or_blocks(words, monkeypatch):
    options = {"top_p": 0.9, "seed": 3}
    draws = softly.sample(words, 6, **options)
    for same in (
        softly.sample(words.astype(np.float64), 6, **options),
        softly.sample(np.asfortranarray(words), 6, **options),
        softly.sample(words.astype(">f4"), 6, **options),
    ):
        np.testing.assert_array_equal(draws.index, same.index)
    np.testing.assert_array_equal(draws.index, softly.sample(words.T, 6, axis=0, **options).index.T)
    monkeypatch.setattr(sampling, "_BLOCK", 1)
    np.testing.assert_array_equal(draws.index, softly.sample(words, 6, **options).index)
    generator = np.random.default_rng(3)
    np.testing.assert_array_equal(draws.index, softly.sample(words, 6, top_p=0.9, seed=generator).index)
    assert (draws.index != softly.sample(words, 6, top_p=0.9, seed=generator).index).any()


def test_shapes_and_dtypes():
    scores = np.zeros((2, 3, 4), np.float32)
    for axis, shape in ((-1, (2, 3, 5)), (0, (5, 3, 4)), (1, (2, 5, 4))):
        draws = softly.sample(scores, 5, axis=axis, temperature=np.ones(scores.sum(axis).shape), seed=0)
        assert draws.index.shape == draws.log_probability.shape == shape
        assert draws.kept.shape == tuple(n for n in shape if n != 5)
        assert (draws.index.dtype, draws.log_probability.dtype) == (np.intp, np.float32)
        assert (draws.index < scores.shape[axis]).all()
    assert softly.sample(np.zeros((0, 3)), 2).index.shape == (0, 2)
    assert softly.sample([1, 2], 0).index.shape == (0,)
    assert softly.sample(3.0, 2).index.tolist() == [0, 0]


def test_tensors_and_jax_arrays_come_back_as_such():
    torch = pytest.importorskip("torch", exc_type=ImportError)
    jax = pytest.importorskip("jax")
    scores = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    draws = softly.sample(scores, 4, top_k=9, seed=2)
    mine = softly.sample(torch.tensor(scores, requires_grad=True), 4, top_k=torch.tensor(9).item(), seed=2)
    assert (mine.index.dtype, mine.log_probability.dtype) == (torch.int64, torch.float32)
    np.testing.assert_array_equal(draws.index, mine.index)
    mine = softly.sample(jax.numpy.asarray(scores), 4, top_k=9, seed=2)
    assert isinstance(mine.index, jax.Array)
    np.testing.assert_array_equal(draws.index, mine.index)
    half = softly.sample(torch.tensor(scores).bfloat16(), 4, seed=2)
    assert half.log_probability.dtype == torch.bfloat16
    with pytest.raises(ValueError, match="inside a trace"):
        jax.jit(lambda z: softly.sample(z, seed=0).index)(scores)


@pytest.mark.parametrize(
    ("scores", "options", "said"),
    [
        ([[1.0, 2], [np.nan, 1]], {}, "row 1: it contains NaN"),
        ([[1.0, 2], [-np.inf, -np.inf]], {}, "row 1: it has nothing possible"),
        (np.zeros((2, 0)), {}, "row 0: it has nothing possible"),
        ([1.0], {"where": [False]}, "nothing possible"),
        ([1.0], {"size": -1}, "size=-1"),
        ([1.0], {"size": 1.5}, "size=1.5"),
        ([1.0], {"size": True}, "size=True"),
        ([1.0], {"top_k": 0}, "top_k=0 is not a number of entries: pass an integer >= 1, or None for all"),
        ([1.0], {"top_k": 2.0}, "top_k=2.0"),
        ([1.0], {"top_p": 1.1}, r"top_p=1.1 is not a share: pass a number in \[0, 1\]"),
        ([1.0], {"top_p": np.nan}, "top_p=nan"),
        ([1.0], {"min_p": -0.1}, "min_p=-0.1"),
        ([1.0], {"min_p": "x"}, "min_p='x'"),
        ([1.0], {"temperature": -1.0}, "temperature=-1.0"),
        ([1.0], {"axis": None}, "axis=None is not one axis"),
    ],
)
def test_bad_input_is_named(scores, options, said):
    with pytest.raises(ValueError, match=said):
        softly.sample(scores, **{"size": 1, "seed": 0} | options)


# ---------------------------------------------------------------- Gumbel


def test_the_largest_entry_of_a_relaxed_draw_follows_the_softmax():
    from scipy.stats import chisquare

    scores = np.random.default_rng(1).normal(size=6)
    many = np.broadcast_to(scores, (20_000, 6))
    for temperature in (0.0, 0.5, 4.0):
        soft = softly.gumbel_softmax(many, temperature=temperature, seed=7)
        np.testing.assert_allclose(soft.sum(-1), 1)
        counts = np.bincount(soft.argmax(-1), minlength=6)
        assert chisquare(counts, 20_000 * softly.softmax(scores)).pvalue > 1e-4
    hard = softly.gumbel_softmax(many, temperature=4.0, hard=True, seed=7)
    np.testing.assert_array_equal(hard.argmax(-1), soft.argmax(-1))
    np.testing.assert_array_equal(np.sort(hard, -1)[:, -2:], np.broadcast_to([0.0, 1.0], (20_000, 2)))


def test_edge_rows_of_relaxed_draws():
    rows = np.array([[np.inf, 1, np.inf], [np.nan, 0, 0], [-np.inf] * 3, [0, -np.inf, 0]])
    drawn = np.stack([softly.gumbel_softmax(rows, hard=True, seed=seed) for seed in range(200)])
    assert 60 < drawn[:, 0, 0].sum() < 140
    assert (drawn[:, 0, 1] == 0).all()
    assert np.isnan(drawn[:, 1]).all()
    assert (drawn[:, 2] == 0).all()
    assert (drawn[:, 3, 1] == 0).all()
    assert softly.gumbel_softmax(rows.T, axis=0, seed=0).shape == (3, 4)
    assert softly.gumbel_softmax(np.zeros((2, 0)), hard=True).shape == (2, 0)
    assert softly.gumbel_softmax(np.zeros((2, 3), np.float16), axis=None, hard=True, seed=0).sum() == 1
    with pytest.raises(ValueError, match=r"temperature=-1\.0"):
        softly.gumbel_softmax(rows, temperature=-1.0)


def test_a_hard_draw_has_the_gradient_of_the_relaxed_one():
    torch = pytest.importorskip("torch", exc_type=ImportError)
    scores = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    toward = torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64)
    found = []
    for hard in (True, False):
        drawn = softly.gumbel_softmax(scores, temperature=0.7, hard=hard, seed=1)
        found.append(torch.autograd.grad((drawn * toward).sum(), scores)[0])
        noisy = (scores + torch.tensor(np.random.default_rng(1).gumbel(size=(1, 3)))).detach()
        if hard:
            assert drawn.tolist() == [[float(i == noisy.argmax()) for i in range(3)]]
    torch.testing.assert_close(*found)
    torch.testing.assert_close(found[0], softly.jacobian_product(noisy, toward, temperature=0.7))


def test_relaxed_draws_inside_a_trace_take_a_key():
    jax = pytest.importorskip("jax")
    scores = jax.numpy.zeros(5)
    draw = jax.jit(lambda z, key: softly.gumbel_softmax(z, hard=True, seed=key))
    drawn = [int(draw(scores, jax.random.key(i)).argmax()) for i in range(30)]
    assert set(drawn) == set(range(5))
    with pytest.raises(ValueError, match="seed must be a key"):
        jax.jit(lambda z: softly.gumbel_softmax(z, seed=0))(scores)
    loss = jax.grad(lambda z: softly.gumbel_softmax(z, hard=True, seed=jax.random.key(0))[0])
    assert np.isfinite(loss(scores)).all()
