"""The core's products with the Jacobian: against 80-bit arithmetic, at the limits, the same bits everywhere."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

import mpmath
import numpy as np
import pytest
import semantics
from accuracy import KINDS, Array, extended, scores, sigmoids
from layouts import FMA, bits, fingerprints_elsewhere, rows

import softly
from softly import _kernels

pytestmark = pytest.mark.skipif(_kernels.core is None, reason="no compiled core")
core: Any = _kernels.core

ALPHAS = (1.0, 1.25, 1.5, 2.0, 3.0)
FLOATS = (np.float32, np.float64)
LOCAL = ("sigmoid", "log_sigmoid")
LENGTHS = (1, 2, 3, 7, 15, 16, 17, 33, 100, 257, 1000)
INF, NAN = float("inf"), float("nan")


def product(p: Array, v: Array, alpha: float = 1.0, temperature: Any = 1.0, offsets: Any = None) -> Array:
    """J v from p."""
    found: Array = core.jacobian_product(p, temperature, 0, None, offsets, alpha, p.ndim - 1, v)
    return found


def log_product(log_p: Array, v: Array, temperature: Any = 1.0, offsets: Any = None) -> Array:
    """The transposed Jacobian of log_softmax times v, from log p."""
    found: Array = core.log_jacobian_product(log_p, temperature, 0, None, offsets, 1.0, log_p.ndim - 1, v)
    return found


def local_product(name: str, z: Array, v: Array, temperature: Any = 1.0) -> Array:
    """What backward of sigmoid or log_sigmoid makes of v, from the scores."""
    found: Array = getattr(core, f"{name}_gradient")(z, temperature, 0, None, None, 1.0, z.ndim - 1, v)
    return found


def constant(z: Array, result: Array, nothing: float = 0.0, offsets: Any = None) -> list[bool]:
    """Which rows do not move with their scores."""
    return (core.constant_rows(z, 1.0, 0, None, offsets, nothing, z.ndim - 1, result) != 0).tolist()


def exact(p: Array, v: Array, alpha: float, temperature: float) -> tuple[Array, Array]:
    """q (v - <q, v> / sum q) / T in long doubles, and the size of its terms."""
    p, v = p.astype(np.longdouble), v.astype(np.longdouble)
    with np.errstate(all="ignore"):
        q = np.where(p > 0, p ** np.longdouble(2 - alpha), 0)
    d = v - np.take_along_axis(v, p.argmax(axis=-1)[..., None], axis=-1)
    mean, size = ((q * x).sum(axis=-1, keepdims=True) / q.sum(axis=-1, keepdims=True) for x in (d, np.abs(d)))
    return q * (d - mean) / np.longdouble(temperature), q * (np.abs(d) + size) / np.longdouble(temperature)


# ---------------------------------------------------------------- errors


@extended
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_products_are_within_four_ulps_of_their_terms(dtype: Any, alpha: float) -> None:
    """float32 rows are rounded once: half an ULP and what double arithmetic adds."""
    for kind in KINDS:
        for n in (2, 3, 10, 33, 1000, 131072) if alpha in (1, 2) else (3, 33, 1000):
            rng = np.random.default_rng([n, len(kind)])
            z, temperatures = scores(kind, dtype, n, rng)
            v = (rng.normal(size=z.shape) * 10).astype(dtype)
            with np.errstate(all="ignore"):
                p = softly.entmax(z, alpha=alpha, temperature=temperatures[0])
                if p.dtype == np.float64 and ((p > 0) & (p < 1e-290)).any() and alpha > 2:
                    continue  # 1/p beyond the doubles
                for temperature in (1.0, 0.3):
                    truth, terms = exact(p, v, alpha, temperature)
                    ulps = semantics.error(product(p, v, alpha, temperature), truth, scale=terms.astype(np.longdouble))
            assert ulps.max() <= (0.51 if dtype is np.float32 else 4.0), (kind, n, temperature, float(ulps.max()))


@extended
@pytest.mark.parametrize("dtype", FLOATS)
def test_log_products_are_within_four_ulps_of_their_terms(dtype: Any) -> None:
    for kind in ("N(0,1)", "N(0,10)", "leader", "-inf mixture", "nearly equal"):
        for n in (2, 3, 10, 33, 1000, 131072):
            rng = np.random.default_rng([n, len(kind)])
            z, _ = scores(kind, dtype, n, rng)
            v = rng.normal(size=z.shape).astype(dtype)
            log_p = softly.log_softmax(z)
            with np.errstate(all="ignore"):
                wide, log_wide = v.astype(np.longdouble), log_p.astype(np.longdouble)
                leads = np.arange(n) == log_p.argmax(axis=-1)[..., None]
                others = np.where(leads, 0, wide).sum(axis=-1, keepdims=True)
                first = np.where(leads, wide, 0).sum(axis=-1, keepdims=True)
                p, rest = np.exp(log_wide), -np.expm1(log_wide)
                truth = np.where(leads, wide * rest - p * others, wide - p * (first + others))
                terms = np.where(
                    leads, np.abs(wide) * rest + p * np.abs(others), np.abs(wide) + p * np.abs(first + others)
                )
                truth = np.where(log_p == -np.inf, 0, truth)
            ulps = semantics.error(log_product(log_p, v), truth, scale=terms)
            assert ulps.max() <= (1.5 if dtype is np.float32 else 4.0), (kind, n, float(ulps.max()))


@extended
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", LOCAL)
def test_gradients_of_sigmoids_are_within_four_ulps(name: str, dtype: Any) -> None:
    """float32 is rounded once. The truth from p and 1 - p in long doubles; vectors of every size."""
    for kind in KINDS:
        z, temperatures = scores(kind, dtype, 1000, np.random.default_rng(len(kind)))
        v = np.random.default_rng(1).normal(size=z.shape) * np.resize([1, -1e3, 1e30, 1e-30], z.shape)
        v = v.astype(dtype)
        for temperature in temperatures:
            with np.errstate(all="ignore"):
                told = np.abs(z.astype(np.longdouble) / temperature) < 780  # beyond, exp(-|x|) counts as 0
                p, rest = (sigmoids(s[told], temperature)["sigmoid"] for s in (z, -z))
                slope = (p * rest if name == "sigmoid" else rest) / np.longdouble(temperature)
                found, truth = local_product(name, z, v, temperature), slope * v[told].astype(np.longdouble)
                ulps = semantics.error(found[told], truth)
            assert not ulps.size or ulps.max() <= (0.51 if dtype is np.float32 else 4.0), (kind, temperature)
            assert not found[np.isinf(z)].any()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", LOCAL)
def test_limits_of_the_gradients_of_sigmoids(name: str, dtype: Any) -> None:
    z = np.array([INF, -INF, NAN, 0, 1, -1] * 3, dtype)
    v = np.full_like(z, 2)
    for temperature in (0.0, INF):
        assert not local_product(name, z, v, temperature).any()
    for temperature in (1.0, 0.3, 5e-324, 1e300):
        found = local_product(name, z, v, temperature).reshape(3, 6)
        assert not found[:, :2].any()
        assert np.isnan(found[:, 2]).all()
        assert not np.isnan(found[:, 3:]).any()
        assert not np.isnan(local_product(name, z[3:6], 0 * v[3:6], temperature)).any()
    most = float(np.finfo(dtype).max)
    expected = most / (4 if name == "sigmoid" else 2)
    assert local_product(name, np.zeros(1, dtype), np.full(1, most, dtype)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_signal_survives_where_p_rounds_to_one(dtype: Any) -> None:
    for gap in (5.0, 20.0, 40.0, 80.0):  # 1 - p takes twice its digits
        z, v = np.array([gap, 0.0, 0.0], dtype), np.array([1.0, 0.0, 0.0], dtype)
        with mpmath.workdps(100):
            p = [mpmath.exp(float(s)) for s in z]
            p = [s / mpmath.fsum(p) for s in p]
            truth = [float(p[0] * (1 - p[0])), float(-p[0] * p[1]), float(-p[0] * p[2])]
            log_truth = [float(1 - p[0]), float(-p[1]), float(-p[2])]
        np.testing.assert_allclose(product(softly.softmax(z), v), truth, rtol=8 * np.finfo(dtype).eps)
        # log p = -40 rounds by 2^-20 in float32, and p with it
        rtol = max(8.0, gap) * np.finfo(dtype).eps
        np.testing.assert_allclose(log_product(softly.log_softmax(z), v), log_truth, rtol=rtol)


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_limits(dtype: Any, alpha: float) -> None:
    v = np.array([[1.0, 2.0, -3.0]] * 4, dtype)
    p = np.array([[0, 0, 0], [NAN, NAN, NAN], [0.5, 0.5, 0], [1, 0, 0]], dtype)
    found = product(p, v, alpha)
    assert not found[[0, 3]].any()
    assert np.isnan(found[1]).all()
    assert found[2, 2] == 0
    assert found[2, 0] == -found[2, 1] < 0
    for temperature in (0.0, INF):
        assert not product(p[[0, 2, 3]], v[:3], alpha, temperature).any()
    assert not product(p[2:], v[2:], INF).any()


@pytest.mark.parametrize("dtype", FLOATS)
def test_what_has_no_share_never_matters(dtype: Any) -> None:
    v = np.array([1.0, INF, NAN, 2.0, -INF] * 5, dtype)
    p = np.array([0.1, 0.0, 0.0, 0.1, 0.0] * 5, dtype)
    for alpha in ALPHAS:
        found = product(p, v, alpha)
        assert (found[p == 0] == 0).all()
        rtol = 50 * np.finfo(dtype).eps
        np.testing.assert_allclose(found[p > 0], product(p[p > 0], v[p > 0], alpha), rtol=rtol)


def test_rows_of_a_batch_go_their_own_ways() -> None:
    """Ordinary, almost one share alone, nothing possible, NaN, an infinite v, no share at an infinite v."""
    rng = np.random.default_rng(0)
    for n in (1, 5, 40, 600):
        p = softly.softmax(rng.normal(size=(21, n)).astype(np.float32))
        v = rng.normal(size=(21, n)).astype(np.float32)
        p[1::6] = softly.softmax(np.where(np.arange(n) == n // 2, np.float32(14), np.float32(0)))
        p[2::6] = 0
        p[3::6, n // 3] = NAN
        v[4::6, 0] = INF
        p[5::6, n - 1], v[5::6, n - 1] = 0, -INF
        temperatures = np.where(np.arange(21) % 4 == 0, 0.5, 1.0)
        together = product(p, v, 1.0, temperatures)
        for i in range(21):
            assert bits(together[i]) == bits(product(p[i], v[i], 1.0, temperatures[i])), (n, i)
        assert not (np.signbit(together) & (together == 0)).any()


def test_impossible_entries_count_in_the_sum_of_log_softmax_alone() -> None:
    log_p, v = softly.log_softmax([-INF, 0.5, 0.25]), np.array([3.0, 1.0, 0.0])
    np.testing.assert_allclose(log_product(log_p, v), [0.0, -1.2487060035431925, -1.7512939964568075], rtol=1e-15)
    assert not log_product(np.full(3, -INF), v).any()
    assert np.isnan(log_product(np.full(3, NAN), v)).all()


def test_rows_that_do_not_move() -> None:
    z = np.array([[INF, INF, 0], [1, 2, 3], [-INF, -INF, -INF], [NAN, INF, 0], [0, -INF, 0], [-INF, INF, 0]])
    with np.errstate(all="ignore"):
        for empty, second in (("zero", False), ("nan", True), ("uniform", True)):
            expected = [True, False, second, False, False, True]
            assert constant(z, softly.softmax(z, empty=empty)) == expected
            assert constant(z, softly.log_softmax(z, empty=empty), -INF) == expected
            assert constant(z, softly.sparsemax(z, empty=empty)) == expected


# ---------------------------------------------------------------- segments, arguments


def test_segments_are_rows() -> None:
    rng, offsets = np.random.default_rng(0), np.array([0, 3, 3, 20, 100])
    z, v = rng.normal(size=(2, 100)), rng.normal(size=(2, 100))
    temperature = rng.uniform(0.5, 2, size=(2, 4))
    for alpha in ALPHAS:
        whole = product(z**2, v, alpha, temperature, offsets)
        logs = log_product(-(z**2), v, temperature, offsets)
        for head in range(2):
            for i, (a, b) in enumerate(itertools.pairwise(offsets)):
                if a < b:
                    part, t = np.s_[head, a:b], float(temperature[head, i])
                    assert bits(whole[part]) == bits(product(z[part] ** 2, v[part].copy(), alpha, t))
                    assert bits(logs[part]) == bits(log_product(-(z[part] ** 2), v[part].copy(), t))


def test_bad_arguments_are_errors_not_crashes() -> None:
    p = np.full((2, 3), 1 / 3)
    for call in (
        lambda: core.jacobian_product(p, 1.0, 0, None, None, 1.0, 1),
        lambda: core.jacobian_product(p, 1.0, 0, None, None, 1.0, 0, p),
        lambda: product(p, p[0]),
        lambda: product(p, p.astype(np.float32)),
        lambda: product(p, np.full((3, 2), 1.0).T),
        lambda: product(p, None),
        lambda: product(p, p, 1.0, np.ones(3)),
        lambda: product(p, p, 1.0, 1.0, np.array([0, 2])),
        lambda: local_product("sigmoid", p, p[0]),
        lambda: local_product("log_sigmoid", p, p.astype(np.float32)),
    ):
        with pytest.raises((TypeError, ValueError)):
            call()  # type: ignore[no-untyped-call]


# ---------------------------------------------------------------- targets, threads


def fingerprints() -> Iterator[str]:
    """One line for each kernel, dtype and shape: a hash of the bits of its results."""
    for dtype in ("float32", "float64"):
        for shape in (*((37, n) for n in LENGTHS), (1200, 1000), (50021, 10)):
            z = rows(shape, dtype)
            v = np.random.default_rng(2).normal(size=shape).astype(dtype)
            temperature = np.random.default_rng(1).uniform(0.1, 5, size=shape[0])
            for alpha in ALPHAS if shape[0] == 37 else (1.0, 2.0):
                p = softly.entmax(z, alpha=alpha)
                found = hashlib.sha256(bits(product(p, v, alpha)) + bits(product(p, v, alpha, temperature)))
                yield f"{alpha} {dtype} {shape} {found.hexdigest()[:16]}"
            found = hashlib.sha256(bits(log_product(softly.log_softmax(z), v, temperature)))
            yield f"log {dtype} {shape} {found.hexdigest()[:16]}"
            for name in LOCAL:
                both = bits(local_product(name, z, v)) + bits(local_product(name, z, v, temperature))
                yield f"{name} {dtype} {shape} {hashlib.sha256(both).hexdigest()[:16]}"


def test_same_bits_on_every_target_with_fma_and_any_threads() -> None:
    if not FMA or semantics.FORCED:
        pytest.skip("no target with FMA here, or one was forced")
    printed = fingerprints_elsewhere("test_derivative_kernels")
    reference = next(iter(printed.values()))
    assert len(reference) > 2 * len(LENGTHS) * len(ALPHAS)
    for run, lines in printed.items():
        assert [pair for pair in zip(lines, reference, strict=True) if pair[0] != pair[1]] == [], run


@pytest.mark.parametrize("target", semantics.other_targets())
def test_under_every_target(target: str) -> None:
    semantics.run_again(__file__, target)
