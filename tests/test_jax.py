"""JAX: values under jit, vmap and scan, against NumPy's core and the table; bad input; imports; documentation."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import semantics
import semantics_rows
from jax_cases import CALLS, arguments, slow_but

import softly

jax = pytest.importorskip("jax", exc_type=ImportError)
jnp = jax.numpy


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


# ---------------------------------------------------------------- values and transforms


def listed_rows(name: str, dtype: str, most: int = 16) -> Iterator[tuple[semantics.Case, semantics_rows.Row]]:
    """The table's rows of at most so many scores that need no other option than a temperature, a mask and alpha."""
    for case, function, kind in semantics.every():
        if (function, kind) == (name, dtype) and not case.raises and not semantics.has_subnormals(case, dtype):
            unusual = {"weights", "return_sign", "offsets", "index", "empty"} & set(case.options)
            if not unusual and np.size(semantics.fill(case.input)) < 1000:
                yield from ((case, row) for row in semantics_rows.rows(case, name, dtype) if row.scores.size <= most)


@pytest.mark.parametrize("dtype", slow_but("float32", of=("float32", "float64")))
@pytest.mark.parametrize("name", [*semantics.FUNCTIONS, *semantics.ELEMENTWISE])
def test_the_table_in_one_program(name: str, dtype: str) -> None:
    """All its rows side by side under jit: impossible scores fill them up, temperatures and alphas are traced."""
    listed = list(listed_rows(name, dtype))
    assert len(listed) > 80 or name in semantics.ELEMENTWISE
    z = np.full((len(listed), 16), -np.inf, dtype)
    for i, (_, row) in enumerate(listed):
        z[i, : row.scores.size] = row.scores
    t = np.array([row.temperature for _, row in listed])
    alpha = np.array([case.options.get("alpha", 1.5) for case, _ in listed], float)
    function = getattr(softly, name)
    if name == "entmax":
        program = jax.vmap(lambda z, t, alpha: function(z, temperature=t, alpha=alpha))
    else:
        program = lambda z, t, alpha: function(z, temperature=t if name in semantics.FUNCTIONS else t[:, None])  # noqa: E731
    found = np.asarray(jax.jit(program)(z, t, alpha))
    for (case, row), result in zip(listed, found, strict=True):
        limit = max(case.ulp, semantics.EXPRESSION_ULP) if case.ulp else 0
        expected = np.asarray(row.expected[0], np.float64)
        part = result if name == "logsumexp" else result[: row.scores.size]
        try:
            semantics.compare(part, expected.reshape(part.shape), limit, case.scale)
        except AssertionError as failure:
            raise AssertionError(f"{case.name}: {row}") from failure


@pytest.mark.parametrize("name", slow_but("softmax", "segment_softmax", of=CALLS))
def test_jit_vmap_and_scan_give_what_numpy_does(name: str) -> None:
    """Of several sets of scores at once and in turn; the truth is the compiled core."""
    sets = [arguments(seed) for seed in range(3)]
    z, t, where, alpha = (np.stack(part) for part in zip(*sets, strict=True))

    def program(*stacked: Any) -> tuple[Any, Any]:
        in_turn = jax.lax.scan(lambda carry, one: (carry, CALLS[name](*one)), 0, stacked)[1]
        return jax.vmap(CALLS[name])(*stacked), in_turn

    for found in jax.jit(program)(z, t, where, alpha):
        for result, one in zip(found, sets, strict=True):
            np.testing.assert_allclose(result, CALLS[name](*one), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "name", slow_but("softmax", "sparsemax", "segments", of=(*semantics.FUNCTIONS, "signed logsumexp", "segments"))
)
def test_nan_stays_in_its_row_of_a_large_array(name: str) -> None:
    """XLA's maximum of many numbers drops NaN on the CPU."""
    z = np.random.default_rng(0).standard_normal((1000, 8))
    z[::4] = -np.inf
    z[::3, 2] = np.nan
    z[::5, 5] = np.inf

    def function(z: Any) -> Any:
        if name == "segments":
            offsets, flat = 8 * np.arange(1001), z.reshape(-1)
            return softly.segment_entmax(flat, offsets=offsets), softly.segment_logsumexp(flat, offsets=offsets)
        if name == "signed logsumexp":
            return softly.logsumexp(z, weights=np.ones(8), return_sign=True)
        return getattr(softly, name)(z)

    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-15), jax.jit(function)(z), function(z))


@pytest.mark.parametrize(
    "name", slow_but("sparsemax", of=("softmax", "sparsemax", "segment_softmax", "logsumexp, weights"))
)
def test_eager_is_jit(name: str) -> None:
    z, t, where, alpha = arguments()
    eager = CALLS[name](jnp.asarray(z), t, where, alpha)
    assert isinstance(eager, jax.Array)
    assert eager.devices() == jnp.asarray(z).devices()
    np.testing.assert_allclose(eager, jax.jit(CALLS[name])(z, t, where, alpha), rtol=1e-14)


@pytest.mark.parametrize("name", slow_but("softmax", "segment_softmax", of=CALLS))
def test_vmap_over_one_argument_beside_arrays_that_it_does_not_map(name: str) -> None:
    """A mask or temperature that vmap maps has no device to be moved to."""
    given, others = arguments(), arguments(seed=1)
    given[:3] = map(jnp.asarray, given[:3])
    for at in range(3):
        each = jnp.stack([given[at], jnp.asarray(others[at])])

        def call(one: Any, at: int = at) -> Any:
            return CALLS[name](*given[:at], one, *given[at + 1 :])

        np.testing.assert_allclose(jax.vmap(call)(each), jnp.stack([call(one) for one in each]), rtol=1e-14)


def test_a_traced_temperature_of_numpys_scores() -> None:
    z = np.array([2.0, 1.0, -1.0])
    found = jax.grad(lambda t: softly.logsumexp(z, temperature=t))(2.0)
    assert found == pytest.approx(-(softly.softmax(z, temperature=2.0) @ z) / 4)


# ---------------------------------------------------------------- bad input


INVALID = {
    "temperature -1": lambda bad: softly.softmax(jnp.ones((2, 3)), temperature=jnp.stack([bad, 1.0])),
    "alpha 1/2": lambda bad: softly.entmax(jnp.ones(3), alpha=bad + 1.5)[None],
    "index": lambda bad: softly.segment_softmax(jnp.ones(3), index=jnp.stack([bad.astype(int), 0, 0]), num_segments=2)[
        :, None
    ],
    "offsets": lambda bad: softly.segment_softmax(jnp.ones(3), offsets=jnp.stack([0, bad.astype(int), 3]))[None],
}


@pytest.mark.parametrize("what", INVALID)
def test_what_is_invalid_gives_nan_where_it_is_traced(what: str) -> None:
    bad = np.float64(-1)
    found = np.asarray(jax.jit(INVALID[what])(bad))
    assert np.isnan(found[0]).all()
    assert not np.isnan(found[1:]).any()
    with pytest.raises(ValueError, match=r"temperature|alpha|index|offsets"):
        INVALID[what](jnp.asarray(bad))


def test_numbers_are_checked_under_jit_too() -> None:
    z = jnp.ones(3)
    for options, said in (({"temperature": -1.0}, "temperature=-1.0"), ({"alpha": 0.5}, "alpha=0.5")):
        with pytest.raises(softly.InputError, match=said):
            jax.jit(lambda z, options=options: softly.entmax(z, **options))(z)
    with pytest.raises(softly.InputError, match="offsets fall from 2 to 1"):
        jax.jit(lambda z: softly.segment_softmax(z, offsets=np.array([0, 2, 1, 3])))(z)
    with pytest.raises(softly.InputError, match=r"alpha is an array of shape \(2,\)"):
        softly.entmax(z, alpha=jnp.ones(2))
    with pytest.raises(TypeError, match="masked array"):
        softly.softmax(np.ma.masked_array([1.0, 2.0]), temperature=jnp.ones(()))


# ---------------------------------------------------------------- imports


@pytest.mark.parametrize("caller", ["NumPy", "JAX"])
def test_jax_is_imported_only_if_the_caller_has(caller: str) -> None:
    """The second case shows that the first can fail."""
    scores = {"NumPy": "numpy", "JAX": "jax.numpy"}[caller]
    code = (
        f"import sys, numpy, softly, {scores}; z = {scores}.ones(3); softly.softmax(z); softly.entmax(z, alpha=1.2);"
        "softly.segment_softmax(z, offsets=[0, 1, 3]); softly.logsumexp(z, weights=z);"
        "print(sorted({'jax', 'softly.jax', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == str({"NumPy": [], "JAX": ["jax", "softly.jax"]}[caller]), done.stderr


# ---------------------------------------------------------------- documentation


def test_the_examples_of_the_documentation_run() -> None:
    page = Path(__file__).parent.parent / "docs" / "jax.md"
    test = doctest.DocTestParser().get_doctest(
        re.sub(r"^```.*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE), {}, page.name, str(page), 0
    )
    said: list[str] = []
    with jax.enable_x64(False), np.printoptions():
        failed, tried = doctest.DocTestRunner().run(test, out=said.append)
    assert tried > 10
    assert not failed, "".join(said)
