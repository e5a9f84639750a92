"""Saturation, energy gaps and batch dependence against definitions in mpmath and layers whose behaviour is known."""

from __future__ import annotations

import json
import math

import hypothesis.strategies as st
import mpmath
import numpy as np
import properties  # noqa: F401  its hypothesis profile
import pytest
from derivatives import cross_entropy
from hypothesis import assume, given
from semantics_truth import exact

import softly
from softly import _kernels
from softly.diagnostics.batches import confidence_cap
from softly.diagnostics.sure_rows import FORMATS, rounding_gaps

# ---------------------------------------------------------------- rounding


@pytest.mark.parametrize(
    ("dtype", "one", "zero"),
    [("float16", 8.32, 17.3), ("bfloat16", 6.24, 92.9), ("float32", 17.33, 104.0), ("float64", 37.43, 745.1)],
)
def test_gaps_at_which_probabilities_round_fact_5(dtype, one, zero):
    """What the formula says is where softmax does it: just below it does not, just above it does."""
    if _kernels.core is None and dtype in ("float32", "float64"):
        pytest.skip("the array expressions are not correctly rounded")
    at_one, at_zero = rounding_gaps(dtype)
    assert at_one == pytest.approx(one, abs=0.006)
    assert at_zero == pytest.approx(zero, abs=0.06)
    if dtype == "bfloat16":
        torch = pytest.importorskip("torch", exc_type=ImportError)
        convert = lambda z: torch.tensor(z, dtype=torch.bfloat16)  # noqa: E731
    else:
        convert = lambda z: np.array(z, dtype)  # noqa: E731
    step = max(1e-4, 2.0 ** (2 - FORMATS[dtype][0]))  # two steps of the dtype on either side
    for gap, entry, limit in ((at_one, 0, 1.0), (at_zero, 1, 0.0)):
        below, above = (float(softly.softmax(convert([gap * f, 0.0]))[entry]) for f in (1 - step, 1 + step))
        assert below != limit
        assert above == limit


def test_what_rounds_is_told_in_its_own_dtype_fact_5():
    gaps = np.array([[5.0, 0], [7.0, 0], [9.0, 0], [20.0, 0], [50.0, 0], [800.0, 0]])
    for dtype, rounded, zeros in (("float16", 4, 3), ("float32", 3, 1), ("float64", 2, 1)):
        told = softly.saturation(gaps.astype(dtype))
        assert (told.dtype, told.rows_rounded, told.underflowed) == (dtype, rounded, zeros)
    torch = pytest.importorskip("torch", exc_type=ImportError)
    told = softly.saturation(torch.tensor(gaps, dtype=torch.bfloat16))
    assert (told.dtype, told.rows_rounded) == ("bfloat16", 5)
    assert softly.saturation(gaps.astype(np.float32), temperature=2.0).rounds_to_one_at == pytest.approx(
        2 * 17.32868, rel=1e-6
    )


# ---------------------------------------------------------------- saturation


def test_measures_of_a_row_are_their_definitions():
    z, t = np.array([[1.3, -0.4, 0.9, 0.2], [40.0, 0.0, 0.0, 1.0]]), 0.8
    told = softly.saturation(z, temperature=t)
    for i, row in enumerate(z):
        with mpmath.workdps(50):
            p = exact("softmax", row, t)
            entropy = -mpmath.fsum(v * mpmath.log(v) for v in p)
            hessian = mpmath.matrix(4, 4)
            for a in range(4):
                for b in range(4):
                    hessian[a, b] = p[a] * ((a == b) - p[b]) / mpmath.mpf(t) ** 2
            largest = max(mpmath.eigsy(hessian, eigvals_only=True))
        assert told.confidence[i] == pytest.approx(float(max(p)), rel=1e-15)
        assert told.entropy[i] == pytest.approx(float(entropy), rel=1e-12)
        assert told.curvature[i] == pytest.approx(float(largest), rel=1e-12)
    np.testing.assert_allclose(told.gap, [0.4, 39.0])
    assert told.groups == ()
    assert "Pass targets" in told.advice[-1]


def test_four_groups_fact_15_and_16():
    """Sure and right: no gradient, no curvature. Sure and wrong: a gradient of norm sqrt 2, and no curvature."""
    z = np.array([[15.0, 0, 0], [0, 15.0, 0], [0.3, 0, 0], [60.0, 0, 0], [0, 60.0, 0]])
    told = softly.saturation(z, [0, 0, 0, 0, 0])
    groups = {group.name: group for group in told.groups}
    assert {name: group.rows for name, group in groups.items()} == {
        "sure and right": 1, "sure and wrong": 1, "learning": 1, "rounded to 1": 2,
    }  # fmt: skip
    right, wrong, learning = groups["sure and right"], groups["sure and wrong"], groups["learning"]
    assert 0 < right.mean_gradient_norm < 1e-6 > right.mean_curvature > 0
    assert wrong.mean_gradient_norm == pytest.approx(math.sqrt(2), rel=1e-6)
    assert wrong.mean_curvature < 1e-6
    assert wrong.mean_loss == pytest.approx(15, rel=1e-5)
    assert learning.mean_curvature > 0.3
    assert groups["rounded to 1"].accuracy == 0.5
    assert groups["rounded to 1"].mean_loss == pytest.approx(30, rel=1e-5)
    assert any("50.0% of the rows rounded to 1 are wrong" in line for line in told.advice)
    alone = softly.saturation(z[3:4], [0]).groups[3]  # 60 ahead: p rounds to 1, the gradient is still there
    with mpmath.workdps(60):
        p = exact("softmax", z[3])
        norm = mpmath.sqrt((1 - p[0]) ** 2 + p[1] ** 2 + p[2] ** 2)
    assert alone.mean_gradient_norm == pytest.approx(float(norm), rel=1e-12)


def test_gradients_are_those_of_the_loss():
    rng = np.random.default_rng(0)
    z, y, t = rng.normal(size=(1, 4)), rng.dirichlet(np.ones(4), size=1), 0.6

    def loss(row):
        return cross_entropy(row, y[0], t)

    with mpmath.workdps(40):
        slopes = [
            mpmath.diff(lambda v, j=j: loss([*z[0, :j].tolist(), v, *z[0, j + 1 :].tolist()]), float(z[0, j]))
            for j in range(4)
        ]
        norm = float(mpmath.norm(slopes))
    (group,) = (g for g in softly.saturation(z, y, temperature=t).groups if g.rows)
    assert group.mean_gradient_norm == pytest.approx(norm, rel=1e-10)
    assert group.mean_loss == pytest.approx(float(loss(z[0].tolist())), rel=1e-12)


def test_the_demo_model_is_saturated(usps):
    """Trained on other digits, it is sure of most rows, right or wrong."""
    logits, labels = usps
    told = softly.saturation(logits, labels)
    groups = {group.name: group for group in told.groups}
    assert told.dtype == "float16"
    assert sum(group.rows for group in told.groups) == told.rows == len(labels)
    p = softly.softmax(logits.astype(np.float64))
    sure, right = p.max(axis=1) >= 0.99, p.argmax(axis=1) == labels
    rounded = softly.softmax(logits).max(axis=1) == 1
    assert groups["sure and wrong"].rows == int((sure & ~right & ~rounded).sum()) > 500
    assert groups["rounded to 1"].rows == int(rounded.sum())
    assert any("sure and wrong" in line for line in told.advice)
    np.testing.assert_allclose(told.entropy, -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1), rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------- energy gaps


@given(
    z=st.lists(st.floats(-20, 20), min_size=2, max_size=20),
    temperature=st.floats(0.1, 10),
    share=st.floats(0.05, 0.999),
)
def test_gaps_and_the_share_of_the_leader_fact_17(z, temperature, share):
    told = softly.energy_gap(z, temperature=temperature, share=share)
    ordered, n = sorted(z, reverse=True), len(z)
    assert told.gap == ordered[0] - ordered[1]
    assert told.gap_over_temperature == told.gap / temperature
    assert told.sufficient_gap == pytest.approx(max(0, temperature * math.log((n - 1) * share / (1 - share))))
    assert 1 - 1e-9 <= told.competitors <= n - 1 + 1e-9
    assert told.leader_share == pytest.approx(1 / (1 + told.competitors * math.exp(-told.gap / temperature)))
    if told.gap > told.sufficient_gap * (1 + 1e-9):
        assert told.leader_share >= share * (1 - 1e-9)
    least = softly.energy_gap([told.sufficient_gap] + [0.0] * (n - 1), temperature=temperature, share=share)
    assert least.leader_share >= share * (1 - 1e-9)
    at = float(told.share_temperature)
    assume(at > 1e-3 or math.isnan(at))
    if math.isnan(at):
        assert share > softly.softmax(z, temperature=1e-6).max() * (1 - 1e-9)
    elif at == math.inf:
        assert share <= 1 / n * (1 + 1e-9)
    else:
        reached = exact("softmax", np.array(z), at)
        assert float(max(reached)) == pytest.approx(share, rel=1e-7)


def test_known_gaps_fact_17():
    """4.6 T for two, 9.2 T for a hundred, at a share of .99; degenerate levels share."""
    assert softly.energy_gap([1.0, 0.0]).sufficient_gap == pytest.approx(4.6, abs=0.01)
    assert softly.energy_gap(np.arange(100.0)).sufficient_gap == pytest.approx(9.2, abs=0.02)
    two = softly.energy_gap([3.0, 0.0])
    assert two.share_temperature == pytest.approx(3 / math.log(99))
    tied = softly.energy_gap([2.0, 2.0, 1.0])
    assert (tied.gap, tied.competitors) == (0, 1 + math.exp(-1))
    assert math.isnan(tied.share_temperature)
    assert softly.energy_gap([2.0, 2.0, 1.0], share=0.4).share_temperature == pytest.approx(1 / math.log(2))
    assert math.isnan(softly.energy_gap([2.0, 2.0, 1.0], share=0.5).share_temperature)
    alone = softly.energy_gap([2.0, -np.inf])
    assert (alone.gap, alone.competitors, alone.sufficient_gap) == (np.inf, 0, 0)
    assert alone.share_temperature == np.inf
    assert softly.energy_gap([[1.0, 0.0], [3.0, 1.0]], 0).gap.tolist() == [2.0, 1.0]
    assert json.loads(tied.to_json())["share_temperature"] is None


# ---------------------------------------------------------------- batches


def statuses(told):
    return {at.mode: at.status for at in told.modes}


def test_functions_of_numpy_arrays():
    weight = np.random.default_rng(0).normal(size=(6, 4))
    batch = np.random.default_rng(1).normal(size=(9, 6))
    clean = softly.batch_dependence(lambda x: x @ weight, batch)
    assert statuses(clean) == {"as it is": "independent"}
    assert clean.advice == ("Rows do not depend on their batch.",)
    assert clean.lost_scale is None
    centred = softly.batch_dependence(lambda x: (x - x.mean(axis=0)) @ weight, batch)
    at = centred.modes[0]
    assert at.status == "depends on the batch"
    whole = (batch - batch.mean(axis=0)) @ weight
    assert at.alone_change == pytest.approx(np.abs(whole).max())  # alone, all are 0
    assert at.flipped_alone == int((whole.argmax(axis=1) != 0).sum())
    halves = np.concatenate([(part - part.mean(axis=0)) @ weight for part in (batch[:4], batch[4:])])
    assert at.change == pytest.approx(np.abs(halves - whole).max())
    assert at.flipped == int((halves.argmax(axis=1) != whole.argmax(axis=1)).sum())
    noise = np.random.default_rng(2)
    random = softly.batch_dependence(lambda x: x + noise.normal(size=x.shape), batch)
    assert statuses(random) == {"as it is": "random"}


def test_softmax_over_the_wrong_axis_is_found():
    batch = np.random.default_rng(1).normal(size=(6, 3))
    assert statuses(softly.batch_dependence(softly.softmax, batch)) == {"as it is": "independent"}
    wrong = softly.batch_dependence(lambda x: softly.softmax(x, 0), batch)
    assert statuses(wrong) == {"as it is": "depends on the batch"}


@pytest.mark.parametrize("classes", [2, 3, 10, 50])
@pytest.mark.parametrize("spread", [0.5, 1.0, 4.0])
def test_the_cap_on_confidence_is_the_most_that_can_be_fact_20(classes, spread):
    assert confidence_cap(3) == pytest.approx(0.807, abs=5e-4)
    assert confidence_cap(10) == pytest.approx(0.757, abs=5e-4)
    z = np.random.default_rng(0).normal(size=(2000, classes)) * 3
    z[0] = 0
    z[0, 0] = 1  # the extreme
    z -= z.mean(axis=1, keepdims=True)
    z *= spread / np.sqrt((z**2).mean(axis=1, keepdims=True))
    found = softly.softmax(z).max(axis=1)
    assert found.max() == pytest.approx(confidence_cap(classes, spread), rel=1e-12)
    assert found[0] == pytest.approx(found.max(), rel=1e-12)


def test_normalisation_of_torch_layers_fact_20():
    torch = pytest.importorskip("torch", exc_type=ImportError)
    torch.manual_seed(0)
    batch = torch.randn(16, 8)
    linear = torch.nn.Linear(8, 3)

    model = torch.nn.Sequential(linear, torch.nn.BatchNorm1d(3))
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    told = softly.batch_dependence(model, batch)
    assert statuses(told) == {"train": "depends on the batch", "eval": "independent"}
    train, evaluated = told.modes
    assert train.change > 0.01
    assert train.flipped > 0
    assert "ValueError" in train.alone_error
    assert evaluated.alone_change < evaluated.tolerance
    assert "Depends on the batch in train mode" in told.advice[0]
    assert not model.training
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name])
    expected = torch.cat([model.train()(part) for part in (batch[:8], batch[8:])]) - model(batch)
    assert train.change == pytest.approx(float(expected.detach().abs().max()), rel=1e-5)

    normed = softly.batch_dependence(torch.nn.Sequential(linear, torch.nn.LayerNorm(3)), batch)
    assert statuses(normed) == {"train": "independent", "eval": "independent"}
    assert normed.lost_scale == pytest.approx(1, abs=1e-3)
    assert normed.confidence_cap == pytest.approx(0.807, abs=1e-3)
    assert "no softmax probability can pass 0.807" in normed.advice[0]

    plain = softly.batch_dependence(linear, batch)
    assert statuses(plain) == {"train": "independent", "eval": "independent"}
    assert plain.confidence_cap is None
    dropped = softly.batch_dependence(torch.nn.Sequential(linear, torch.nn.Dropout(0.5)), batch)
    assert statuses(dropped) == {"train": "random", "eval": "independent"}


def test_a_module_that_counts_its_batches_is_judged_in_one_state():
    torch = pytest.importorskip("torch", exc_type=ImportError)

    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            self.seen += 1
            return x * self.seen

    told = softly.batch_dependence(Counting(), torch.randn(6, 3))
    assert statuses(told) == {"train": "independent", "eval": "independent"}


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: softly.saturation(np.zeros((0, 3))), "scores have shape"),
        (lambda: softly.saturation([1.0, 0.0], sure=1.5), "sure=1.5"),
        (lambda: softly.saturation([1.0, 0.0], temperature=0.0), "temperature is 0 or inf"),
        (lambda: softly.saturation([[-np.inf, -np.inf]]), "row 0 has nothing possible"),
        (lambda: softly.saturation([[1.0, 0.0]], [2]), "targets contain 2"),
        (lambda: softly.energy_gap([1.0, 0.0], share=1.0), "share=1.0"),
        (lambda: softly.energy_gap([1.0, 0.0], temperature=0.0), "temperature is 0 or inf"),
        (lambda: softly.energy_gap([1.0, np.nan]), "NaN or .inf"),
        (lambda: softly.batch_dependence(abs, np.zeros((3, 2))), "at least four"),
        (lambda: softly.batch_dependence(lambda x: x[:1], np.zeros((4, 2))), "must return one a row"),
    ],
)
def test_what_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


@pytest.mark.parametrize("function", [softly.saturation, softly.energy_gap])
@pytest.mark.parametrize("scores", [["a", "b"], [1j, 0.0], np.ma.masked_array([1.0, 2.0], [True, False])])
def test_what_is_no_real_number_is_a_type_error(function, scores):
    with pytest.raises(TypeError, match="scores"):
        function(scores)


def test_results_are_told_and_kept():
    told = softly.saturation([[9.0, 0.0], [0.5, 0.0]], [0, 0])
    assert json.loads(told.to_json())["groups"][0]["name"] == "sure and right"
    assert "sure and right" in str(told)
    with pytest.raises(AttributeError):
        told.rows = 3
    assert "depends on the batch" in str(softly.batch_dependence(lambda x: x - x.mean(axis=0), np.eye(4)))


# ---------------------------------------------------------------- finite masks


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_finite_additive_mask_leaks_fact_19(dtype):
    """What `where` is for: -1e9 is -inf in float16, is beaten by a larger spread, and unmasks a fully masked row."""
    with np.errstate(over="ignore"):
        mask = np.array([0.0, -1e9, 0.0], dtype)
        assert np.isneginf(mask[1]) == (dtype == "float16")
        every = np.full(3, -1e9, dtype)
    scores = np.array([1.0, 2.0, 3.0], dtype)
    hidden = softly.softmax(scores, where=np.zeros(3, bool))
    assert not hidden.any()
    if dtype == "float32":
        assert softly.softmax(scores + every).sum() == pytest.approx(1)  # ordinary attention again
        wide = np.array([-3e9, 2.0, -3e9], dtype)
        assert softly.softmax(wide + mask)[1] == 1
        assert softly.softmax(wide, where=[True, False, True])[1] == 0
