"""JAX: values, derivatives and transforms of every function, against NumPy's core, finite differences and mpmath."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import semantics
import semantics_rows

import softly

jax = pytest.importorskip("jax", exc_type=ImportError)
jnp = jax.numpy

ROWS, ENTRIES = 6, 5
ORDER = np.random.default_rng(5).permutation(ROWS * ENTRIES)  # of entries told by index
INDEX = np.repeat(np.arange(ROWS), ENTRIES)[ORDER]
WEIGHTS = np.array([1.0, -0.25, 2.0, 0.5, 0.0])
ALPHAS = (1.0, 1.25, 1.5, 2.0, 3.0)
STEP = 1e-6
GRADIENTS = [
    row
    for row in semantics.sections("planned")
    if row["function"].removeprefix("gradient_of_") in (*semantics.FUNCTIONS, *semantics.ELEMENTWISE)
]


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


# ---------------------------------------------------------------- the functions, one row each

Call = Callable[..., Any]  # (scores (ROWS, ENTRIES), one temperature a row, mask, alpha)


def over_rows(name: str, **options: Any) -> Call:
    return lambda z, t, where, alpha: getattr(softly, name)(z, temperature=t, where=where, **options)


def over_scores(name: str) -> Call:
    return lambda z, t, where, alpha: getattr(softly, name)(z, temperature=t[..., None], where=where)


def over_offsets(name: str) -> Call:
    """The rows as segments, end to end."""

    def call(z: Any, t: Any, where: Any, alpha: Any) -> Any:
        offsets = ENTRIES * np.arange(ROWS + 1)
        return getattr(softly, name)(z.reshape(-1), offsets=offsets, temperature=t, where=where.reshape(-1))

    return call


def over_index(name: str, takes_alpha: bool = False) -> Call:
    """The rows as segments, their entries in disorder."""

    def call(z: Any, t: Any, where: Any, alpha: Any) -> Any:
        options = {"alpha": alpha} if takes_alpha else {}
        return getattr(softly, name)(
            z.reshape(-1)[ORDER],
            index=INDEX,
            temperature=t,
            where=where.reshape(-1)[ORDER],
            **options,
        )

    return call


CALLS: dict[str, Call] = {
    "softmax": over_rows("softmax"),
    "log_softmax": over_rows("log_softmax"),
    "logsumexp": over_rows("logsumexp"),
    "logsumexp, weights": lambda *arguments: over_rows("logsumexp", weights=WEIGHTS, return_sign=True)(*arguments)[0],
    "sparsemax": over_rows("sparsemax"),
    "entmax": lambda z, t, where, alpha: softly.entmax(z, temperature=t, where=where, alpha=alpha),
    "entmax 1.5": over_rows("entmax"),
    "sigmoid": over_scores("sigmoid"),
    "log_sigmoid": over_scores("log_sigmoid"),
    "segment_softmax": over_offsets("segment_softmax"),
    "segment_log_softmax": over_index("segment_log_softmax"),
    "segment_logsumexp": over_index("segment_logsumexp"),
    "segment_entmax": over_index("segment_entmax", takes_alpha=True),
}
QUICK = ("softmax", "log_softmax", "logsumexp", "logsumexp, weights", "sparsemax", "entmax", "segment_softmax")
TAKE_ALPHA = ("entmax", "segment_entmax")


def arguments(seed: int = 0, alpha: float = 1.25) -> list[Any]:
    """Scores with all of a row's entries possible but where masked, temperatures, mask, alpha."""
    rng = np.random.default_rng(seed)
    where = rng.random((ROWS, ENTRIES)) < 0.7
    where[0], where[:, 0] = True, True
    return [rng.standard_normal((ROWS, ENTRIES)), rng.uniform(0.5, 2, ROWS), where, alpha]


def hopeless(alpha: float = 1.25) -> list[Any]:
    """The same shapes: nothing possible, NaN and infinities behind the mask, ties at +inf, limits of T."""
    z, t, where, _ = arguments()
    z[0], z[1], where[2] = -np.inf, [np.inf, 1, np.inf, -np.inf, 0], False
    z[3], where[3] = [np.nan, np.inf, 1, 2, -np.inf], [False, False, True, True, True]
    z[4], t[4] = [1, 2, 2, 0, -np.inf], np.inf
    z[5], t[5], where[5] = [1, 2, 3, 0, -1], 0, True
    return [z, t, where, alpha]


def slow_but(*quick: str, of: Iterable[str]) -> list[Any]:
    """Parameters of which only a few are not slow: XLA takes seconds for a program."""
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in of]


def quick_rows() -> list[Any]:
    """The table's gradients; slow are those that the test of derivatives that are 0 is about too."""
    again = "nothing possible", "behind a mask"
    return [
        pytest.param(row, id=row["name"], marks=pytest.mark.slow if row["name"].endswith(again) else ())
        for row in GRADIENTS
    ]


# ---------------------------------------------------------------- derivatives


@pytest.fixture(scope="module")
def derivatives() -> Callable[[str], Callable[..., dict[str, Any]]]:
    """By function: one program for its value and its derivatives of first and second order along a direction."""
    programs = {}

    def build(name: str) -> Any:
        def program(
            point: tuple[Any, Any, Any], direction: tuple[Any, Any, Any], cotangent: Any, where: Any
        ) -> dict[str, Any]:
            def function(z: Any, t: Any, alpha: Any) -> Any:
                return CALLS[name](z, t, where, alpha)

            def gradient(*at: Any) -> Any:
                return jax.vjp(function, *at)[1](cotangent)

            value, forward = jax.jvp(function, point, direction)
            reverse, second = jax.jvp(gradient, point, direction)
            return {"value": value, "forward": forward, "reverse": reverse, "second": second}

        return jax.jit(program)

    def of(name: str) -> Any:
        if name not in programs:
            programs[name] = build(name)
        return programs[name]

    return of


def direction_of(name: str, alpha_moves: bool = True) -> tuple[tuple[Any, ...], Any]:
    """A direction of scores, temperatures and alpha, and a cotangent of the result."""
    rng = np.random.default_rng(7)
    flat = name.startswith("segment")
    shape: tuple[int, ...] = (ROWS,) if "logsumexp" in name else (ROWS * ENTRIES,) if flat else (ROWS, ENTRIES)
    moves = rng.standard_normal((ROWS, ENTRIES)), rng.standard_normal(ROWS), 0.7 * alpha_moves
    return moves, rng.standard_normal(shape)


def moved(point: tuple[Any, ...], direction: tuple[Any, ...], step: float) -> tuple[Any, ...]:
    return tuple(a + step * d for a, d in zip(point, direction, strict=True))


def finite(x: Any) -> Any:
    """-inf, which an impossible entry keeps, as 0."""
    return np.where(np.isneginf(x), 0, x)


@pytest.mark.parametrize("name", slow_but(*QUICK, of=CALLS))
def test_derivatives_are_finite_differences(name: str, derivatives: Any) -> None:
    """Forward, reverse, and forward over reverse; reverse is the transpose of forward."""
    program = derivatives(name)
    for alpha in ALPHAS if name in TAKE_ALPHA else ALPHAS[:1]:
        z, t, where, alpha = arguments(alpha=alpha)
        direction, cotangent = direction_of(name, alpha_moves=alpha > 1)
        cotangent = np.where(np.isneginf(CALLS[name](z, t, where, alpha)), 0, cotangent)  # no difference has a limit
        point = z, t, alpha
        here, up, down = (
            jax.tree.map(np.asarray, program(moved(point, direction, s), direction, cotangent, where))
            for s in (0, STEP, -STEP)
        )
        first = (finite(up["value"]) - finite(down["value"])) / (2 * STEP)
        possible = np.isfinite(here["value"])
        np.testing.assert_allclose(
            here["forward"][possible], first[possible], rtol=1e-6, atol=1e-8, err_msg=f"alpha {alpha}"
        )
        inner = sum(np.sum(r * d) for r, d in zip(here["reverse"], direction, strict=True))
        np.testing.assert_allclose(inner, np.sum(cotangent * here["forward"]), rtol=1e-10, err_msg=f"alpha {alpha}")
        for found, above, below in zip(here["second"], up["reverse"], down["reverse"], strict=True):
            second = (above - below) / (2 * STEP)
            np.testing.assert_allclose(found, second, rtol=1e-5, atol=1e-6, err_msg=f"alpha {alpha}")


@pytest.mark.parametrize("name", slow_but(*QUICK, of=[n for n in CALLS if "sigmoid" not in n and "weights" not in n]))
def test_derivatives_are_0_where_nothing_can_change(name: str, derivatives: Any) -> None:
    """Rows with nothing possible, ties at +inf, the limits of T: 0, of both orders; behind a mask: never NaN."""
    z, t, where, alpha = hopeless()
    found = derivatives(name)((z, t, alpha), *direction_of(name), where)
    for order in ("reverse", "second"):
        scores, temperature, of_alpha = (np.asarray(part) for part in found[order])
        assert not np.isnan(scores).any()
        assert not scores[[0, 1, 2, 4, 5]].any()
        assert not scores[3][~where[3]].any()
        assert scores[3][:4].any()
        assert np.isfinite(temperature).all()
        assert np.isfinite(of_alpha)


@pytest.mark.parametrize("alpha", [*ALPHAS, 1 + 1e-9, 1.02, 10.0])
def test_the_derivative_in_alpha_is_mpmaths(alpha: float, derivatives: Any) -> None:
    """One-sided at alpha = 1."""
    z, t, where, _ = arguments()
    direction = np.zeros_like(z), np.zeros_like(t), 1.0
    found = derivatives("entmax")((z, t, alpha), direction, np.zeros_like(z), where)["forward"]
    step = 2.0**-50
    for row in range(ROWS):
        scores = np.where(where[row], z[row], -np.inf)
        with mpmath.workdps(60):
            sides = [semantics.exact("entmax", scores, t[row], a) for a in (alpha + step, alpha)]
        truth = [float((up - down) / step) for up, down in zip(*sides, strict=True)]
        np.testing.assert_allclose(found[row], truth, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", slow_but("float64", of=("float32", "float64")))
@pytest.mark.parametrize("row", quick_rows())
def test_gradients_of_the_table(row: dict[str, Any], dtype: str) -> None:
    """The gradients that the table of special values plans for every backend."""
    options = dict(row["options"])
    cotangent, at = semantics.fill(options.pop("cotangent")), options.pop("argument", "scores")
    function = getattr(softly, row["function"].removeprefix("gradient_of_"))
    for kind in map(semantics.to_dtype, row.get("dtypes", (dtype,))):
        given = {k: jnp.asarray(semantics.fill(v)) if isinstance(v, list) else v for k, v in options.items()}
        given["scores"] = jnp.asarray(semantics.fill(row["input"], kind))
        moving = given.pop(at).astype(kind)

        def gradient(x: Any, c: Any, given: dict[str, Any] = given) -> Any:
            value, transpose = jax.vjp(lambda x: function(**{at: x}, **given), x)
            return transpose(jnp.broadcast_to(c, value.shape).astype(value.dtype))[0]

        found = np.asarray(jax.jit(gradient)(moving, cotangent))
        expected = semantics.fill(row["expected"], np.float64)
        assert found.dtype == kind
        semantics.compare(found, expected, row.get("ulp", 0), 0 if expected.ndim == 0 else np.abs(expected).max())


def test_the_hessian_is_the_closed_form() -> None:
    """Of T logsumexp(z / T): (diag p - p p^T) / T, which is the Jacobian of softmax."""
    z, t = np.random.default_rng(0).standard_normal(7), 0.75
    p = softly.softmax(z, temperature=t)
    closed = (np.diag(p) - np.outer(p, p)) / t
    hessian = jax.jit(jax.hessian(lambda z: t * softly.logsumexp(z, temperature=t)))(z)
    np.testing.assert_allclose(hessian, closed, rtol=1e-13, atol=1e-16)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(partial(softly.softmax, temperature=t)))(z), closed, rtol=1e-13)


@pytest.mark.parametrize("dtype", slow_but("float16", of=("float16", "bfloat16")))
@pytest.mark.parametrize(
    "name", slow_but("softmax", "log_softmax", of=("softmax", "log_softmax", "logsumexp", "sigmoid", "log_sigmoid"))
)
def test_gradients_in_half_precision_are_no_worse_than_jaxs(name: str, dtype: str) -> None:
    """Largest and mean error against JAX's own in float64."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((64, 50)).astype(semantics.to_dtype(dtype))
    c = rng.standard_normal((64, 50))[:, 0 if name == "logsumexp" else slice(None)].astype(z.dtype)
    options = {"axis": -1} if "sigmoid" not in name else {}

    def gradient(function: Callable[..., Any], z: Any, c: Any) -> Any:
        return np.asarray(jax.jit(lambda z, c: jax.vjp(function, z)[1](c)[0])(z, c)).astype(np.float64)

    theirs = partial(getattr(jax.nn, name), **options)
    truth = gradient(theirs, z.astype(np.float64), c.astype(np.float64))
    mine, jaxs = (np.abs(gradient(f, z, c) - truth) for f in (getattr(softly, name), theirs))
    assert mine.max() <= jaxs.max()
    assert mine.mean() <= jaxs.mean()


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
