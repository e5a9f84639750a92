"""JAX on the CPU: XLA calls the compiled core, with NumPy's bits; where it may not, programs hold the expressions."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import core_builds
import numpy as np
import pytest
from test_paths import same

import softly
from softly import _kernels

jax = pytest.importorskip("jax", exc_type=ImportError)
jnp = jax.numpy

from softly.jax import kernels  # noqa: E402

pytestmark = pytest.mark.skipif(_kernels.core is None, reason="no compiled core")

INF, NAN = float("inf"), float("nan")
NAMES = ("softmax", "log_softmax", "logsumexp", "sparsemax", "entmax", "sigmoid", "log_sigmoid")
MAPS: dict[str, Callable[..., Any]] = {
    **{name: getattr(softly, name) for name in NAMES},
    "entmax at 1.25": lambda z, **options: softly.entmax(z, alpha=1.25, **options),
    "entmax at 3": lambda z, **options: softly.entmax(z, alpha=3.0, **options),
}
SPECIAL = [[INF, 1, INF, 0], [-INF] * 4, [NAN, 0, 1, 2], [1, -INF, 1, 0], [INF, 0, -INF, 1], [88, 0, -30, 1], [0] * 4]
PRODUCTS = ("jacobian_product", "log_jacobian_product", "log_tangent", "sigmoid_gradient", "log_sigmoid_gradient")
every = pytest.mark.parametrize("name", MAPS)


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def drawn(*shape: int, dtype: str = "float64", spread: float = 3.0) -> np.ndarray:
    return (np.random.default_rng(len(shape)).standard_normal(shape) * spread).astype(dtype)


def text_of(program: Callable[..., Any], *arguments: Any) -> str:
    return jax.jit(program).lower(*arguments).as_text()


def gradient(function: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda z, v: jax.vjp(function, z)[1](v)[0]


# ---------------------------------------------------------------- bits


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every
def test_bits_are_those_of_numpy(name: str, dtype: str) -> None:
    """Of small and large rows, special ones, and temperatures as numbers, one for all and one a row."""
    function = MAPS[name]
    for z in (
        drawn(7, dtype=dtype),
        drawn(64, 10, dtype=dtype),
        drawn(2, 40, 1000, dtype=dtype),
        np.array(SPECIAL, dtype),
    ):
        one_a_row = np.resize([0.5, 2.0, 0.0, INF, 1.0], z.shape[:-1])
        if "sigmoid" in name:
            one_a_row = one_a_row[..., None]
        for t in (1.0, 0.25, 0.0, INF, one_a_row):
            given = t if isinstance(t, float) else t.astype(dtype)
            assert same(
                np.asarray(jax.jit(lambda z, t: function(z, temperature=t))(z, given)), function(z, temperature=t)
            )
        assert same(np.asarray(jax.jit(function)(z)), function(z))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every
def test_gradients_are_those_of_torch(name: str, dtype: str) -> None:
    """In every bit, for one kernel serves both; logsumexp's is left to XLA."""
    torch = pytest.importorskip("torch", exc_type=ImportError)
    function = MAPS[name]
    for z in (drawn(64, 10, dtype=dtype), drawn(5, 1000, dtype=dtype), np.array(SPECIAL, dtype)):
        v = drawn(*np.shape(function(z)), dtype=dtype, spread=1.0)
        scores = torch.tensor(z, requires_grad=True)
        function(scores, temperature=0.5).backward(torch.tensor(v))
        found = np.asarray(jax.jit(gradient(lambda z: function(z, temperature=0.5)))(z, v))
        if name == "logsumexp":
            np.testing.assert_allclose(found, scores.grad, rtol=4 * np.finfo(dtype).eps)
        else:
            assert same(found, scores.grad.numpy())


def test_subnormal_results_are_kept_and_xla_flushes_its_own_as_before() -> None:
    """The thread that computes the first result goes on with the second. NumPy compares: to XLA both are 0."""
    z = np.array([0.0, -100.0], np.float32)
    kept, flushed = (np.asarray(jax.jit(f)(z))[1] for f in (softly.softmax, lambda z: softly.softmax(z) * 2))
    assert kept == softly.softmax(z)[1] > 0
    assert flushed == 0


def test_bad_temperatures_and_alphas_give_nan_in_their_rows() -> None:
    z = drawn(6, 5)
    t = np.array([1.0, -1.0, NAN, 2.0, 1.0, 0.5])
    alpha = np.array([1.0, 2.0, 1.5, 0.5, NAN, 3.0])
    found = np.asarray(jax.vmap(lambda z, t, alpha: softly.entmax(z, temperature=t, alpha=alpha))(z, t, alpha))
    assert np.isnan(found).all(axis=1).tolist() == [False, True, True, True, True, False]
    for i in (0, 5):
        assert same(found[i], softly.entmax(z[i], temperature=t[i], alpha=alpha[i]))
    found = np.asarray(jax.jit(lambda z, t: softly.logsumexp(z, temperature=t))(z, t))
    assert np.isnan(found).tolist() == [False, True, True, False, False, False]


# ---------------------------------------------------------------- transforms


MAPPED = [
    axes
    for axes in itertools.product((None, 0, 1), (None, 0), (None, 0), (None, 0, 1))
    if any(a is not None for a in axes)
]


@pytest.mark.parametrize("axes", MAPPED, ids=str)
def test_vmap_of_any_operands(axes: tuple[int | None, ...]) -> None:
    """Of value and gradient, twice over: the second time over the temperature."""
    z, t, alpha, v = drawn(3, 4, 5), np.array([0.5, 1.0, 2.0]), np.array([1.0, 1.5, 2.5]), drawn(3, 4, 5, spread=1.0)

    def function(z: Any, t: Any, alpha: Any, v: Any) -> Any:
        p, pull = jax.vjp(lambda z, t: softly.entmax(z, temperature=t, alpha=alpha), z, t)
        return p, pull(v)

    def of_temperatures(z: Any, t: Any, alpha: Any, v: Any) -> Any:
        return jax.vmap(function, (None, 0, None, None))(z, jnp.stack([t, t + 0.25]), alpha, v)

    whole = [
        jnp.asarray(x) if axis is not None else jnp.asarray(x[0])
        for x, axis in zip((z, t, alpha, v), axes, strict=True)
    ]
    moved = [jnp.moveaxis(x, 0, axis or 0) if axis else x for x, axis in zip(whole, axes, strict=True)]
    found = jax.jit(jax.vmap(of_temperatures, axes))(*moved)
    for i in range(3):
        one = [x[i] if axis is not None else x for x, axis in zip(whole, axes, strict=True)]
        for j, change in enumerate((0, 0.25)):
            expected = function(one[0], one[1] + change, *one[2:])
            jax.tree.map(
                lambda a, b, at=(i, j): np.testing.assert_allclose(a[at], b, rtol=1e-12, atol=1e-15), found, expected
            )


@pytest.mark.parametrize("operation", [*PRODUCTS, "softmax", "log_softmax", "logsumexp", "entmax", "constant_rows"])
def test_the_expression_of_each_operation_agrees(operation: str) -> None:
    """With one temperature and alpha for all and one a row; rows at limits, of infinite scores and with ties."""
    z = np.vstack([drawn(10, 6), [[0, 0, 0, 0, 0, 0], [INF, 1, 0, INF, 1, 2], [-INF] * 6, [1, -INF, 50, 0, 0, 2]]])
    t, delta = np.array([0.5, 1, 2, 0, INF, -1, NAN] * 2), np.resize([0.0, 0.25, 0.5, 1.0, 2.0, INF], 14)
    v = drawn(14, 6, spread=1.0)
    source, others = z, [v]
    if "jacobian" in operation or operation == "log_tangent":
        source = softly.log_softmax(z) if operation.startswith("log") else softly.softmax(z)
    if operation == "constant_rows":  # where nothing is possible it does not matter
        z[-2] = 0
        source, others, t = z, [softly.softmax(z)], np.ones(14)
    elif "sigmoid" not in operation and operation not in PRODUCTS:
        others = []
    number = delta if operation in ("entmax", "jacobian_product") else np.zeros(())
    for temperature, number in ((t, number), (np.float64(0.5), number.ravel()[-1] / 2)):  # noqa: B020
        options = {"operation": operation, "alpha": None, "empty": "zero"}
        operands = [jnp.asarray(x) for x in (source, temperature, np.minimum(number, 5), *others)]
        called = jax.jit(lambda *o, options=options: kernels._rows.bind(*o, **options))(*operands)
        expressed = jax.jit(lambda *o, options=options: kernels._expression(*o, **options))(*operands)
        np.testing.assert_allclose(called, expressed, rtol=1e-12, atol=1e-15)
        assert np.isfinite(called).any()


def test_scores_of_float32_at_a_temperature_of_float64() -> None:
    """The vector of a derivative once was float64 then, and read as float32."""
    z, t = drawn(3, 4, dtype="float32"), jnp.asarray([0.5])[0]
    for name in NAMES:
        function = MAPS[name]
        found = jax.jvp(lambda t, f=function: f(z, temperature=t), (t,), (1.0,))[1]
        expected = jax.jvp(lambda t, f=function: f(z.astype("float64"), temperature=t), (t,), (1.0,))[1]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        slope = jax.grad(lambda t, f=function: (f(z, temperature=t) * 2).sum())(t)
        np.testing.assert_allclose(slope, 2 * np.sum(expected), atol=1e-4)
    with pytest.raises(TypeError, match="takes others of that dtype"):
        kernels._rows.bind(jnp.ones(3, "float32"), *jnp.ones(2), operation="softmax", alpha=1.0, empty="zero")


def test_without_jit() -> None:
    z = jnp.arange(4.0)
    with jax.disable_jit():
        assert same(np.asarray(softly.softmax(z)), softly.softmax(np.arange(4.0)))
        np.testing.assert_allclose(jax.grad(softly.logsumexp)(z), softly.softmax(z), rtol=1e-15)


# ---------------------------------------------------------------- which programs call the core


@pytest.mark.parametrize("name", NAMES)
def test_programs_call_the_core(name: str) -> None:
    function = MAPS[name]
    kernel = "entmax" if name == "sparsemax" else name
    z = drawn(3, 4)
    assert f"@softly_{kernel}(" in text_of(function, z)
    product = {"log_softmax": "log_jacobian_product", "logsumexp": "softmax"}.get(name, "jacobian_product")
    product = f"{name}_gradient" if "sigmoid" in name else product
    assert f"@softly_{product}(" in text_of(gradient(function), z, np.asarray(function(z)))
    assert f"@softly_{kernel}(" in text_of(function, z.astype("float16"))


def test_exported_programs_hold_the_expression() -> None:
    z = drawn(3, 4)
    exported = jax.export.export(jax.jit(softly.sparsemax))(z)
    assert "softly_" not in exported.mlir_module().replace("softly_rows", "")
    np.testing.assert_allclose(exported.call(z), softly.sparsemax(z), rtol=1e-14)


def test_importing_starts_no_backend() -> None:
    """Which would make JAX warn whoever forks, and fix its settings; the second case shows that the first can fail."""
    code = "import jax, softly.jax; {}; from jax._src import xla_bridge; print(bool(xla_bridge._backends))"
    for then, started in (("pass", "False"), ("softly.softmax(jax.numpy.ones(3))", "True")):
        done = subprocess.run([sys.executable, "-c", code.format(then)], capture_output=True, text=True)
        assert done.stdout.strip() == started, done.stderr


def test_programs_of_several_devices_are_divided() -> None:
    """Rows are brought together on no device, and where each device has a program of its own that calls the core."""
    code = """
import jax, numpy as np, softly
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
whole = []
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((2,), ("i",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        for spec in (P("i", None), P(None, "i")):
            z = jax.device_put(np.arange(32.0).reshape(4, 8) % 5, NamedSharding(mesh, spec))
            for function in (softly.softmax, softly.logsumexp, jax.grad(lambda z: (softly.sparsemax(z) ** 2).sum())):
                program = jax.jit(function).lower(z).compile()
                assert "softly_" not in program.as_text().replace("softly_rows", "")
                assert "all-gather" not in program.as_text()
                whole.append(np.asarray(program(z)))
for found in zip(*[iter(whole)] * 3):
    for one, other in zip(found, whole):
        np.testing.assert_allclose(one, other, rtol=1e-5)
mesh = jax.make_mesh((2,), ("i",), axis_types=(AxisType.Auto,))
shared = jax.shard_map(softly.softmax, mesh=mesh, in_specs=P("i", None), out_specs=P("i", None))
z = np.ones((4, 8), "float32")
assert "softly_softmax" in jax.jit(shared).lower(z).as_text()
np.testing.assert_array_equal(jax.jit(shared)(z), softly.softmax(z))

both = jax.make_mesh((2, 1), ("i", "j"), axis_types=(AxisType.Auto,) * 2)
partly = jax.shard_map(softly.softmax, mesh=both, in_specs=P("j", None), out_specs=P("j", None), axis_names={"j"})
z = jax.device_put(np.ones((4, 8)), NamedSharding(both, P(("j", "i"), None)))
assert "all-gather" not in jax.jit(partly).lower(z).compile().as_text()
assert "array expression" in softly.which("softmax", z)

z, t = np.arange(3.0), np.array([0.5, 2.0])
loss = lambda z, t: (softly.softmax(z, temperature=t) ** 2).sum()
of_all = jax.shard_map(lambda z, t: jax.lax.psum(loss(z, t[0]), "i"), mesh=mesh, in_specs=(P(), P("i")), out_specs=P())
for found, one, other in zip(jax.grad(of_all, (0, 1))(z, t), *(jax.grad(loss, (0, 1))(z, x) for x in t)):
    np.testing.assert_allclose(found, one + other if found.shape == (3,) and one.ndim else [one, other], rtol=1e-5)

with jax.set_mesh(jax.make_mesh((2,), ("i",), axis_types=(AxisType.Explicit,))):
    z, t = np.ones((4, 8)), jax.device_put(np.ones(4), P("i"))
    assert jax.vmap(lambda t: softly.softmax(z, temperature=t))(t).sharding.spec == P("i", None, None)

np.testing.assert_allclose(whole[0], softly.softmax(np.arange(32.0).reshape(4, 8) % 5), rtol=1e-5)
"""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_an_interface_that_is_refused_leaves_the_expressions(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: incompatible API version")

    monkeypatch.setattr(jax.ffi, "register_ffi_target", refuse)
    monkeypatch.setattr(kernels, "_callable", kernels._callable.__wrapped__)
    assert "softly_softmax" not in text_of(lambda z: softly.softmax(z, temperature=0.125), drawn(2, 3))
    assert "array expression" in softly.which("softmax", jnp.ones(3))


@pytest.mark.skipif(not core_builds.COMPILER, reason="no C++ compiler")
def test_the_interface_is_that_of_jaxlib(tmp_path: Path) -> None:
    """Offsets and codes in the header that comes with jaxlib; a field that is none shows that it can fail."""
    fields = {
        "Extension type": "Extension_Base type", "Extension next": "Extension_Base next",
        "Version major_version": "Api_Version major_version", "Version minor_version": "Api_Version minor_version",
        "Metadata version": "Metadata api_version", "Metadata traits": "Metadata traits",
        "MetadataExtension metadata": "Metadata_Extension metadata",
        "ErrorArguments message": "Error_Create_Args message", "ErrorArguments code": "Error_Create_Args errc",
        "Api version": "Api api_version", "Api create_error": "Api XLA_FFI_Error_Create",
        "Buffer dtype": "Buffer dtype", "Buffer data": "Buffer data", "Buffer rank": "Buffer rank",
        "Buffer dims": "Buffer dims", "Buffers size": "Args size", "Buffers types": "Args types",
        "Buffers entries": "Rets rets", "Scalar value": "Scalar value", "Attributes size": "Attrs size",
        "Attributes entries": "Attrs attrs", "CallFrame extensions": "CallFrame extension_start",
        "CallFrame api": "CallFrame api", "CallFrame stage": "CallFrame stage", "CallFrame arguments": "CallFrame args",
        "CallFrame results": "CallFrame rets", "CallFrame attributes": "CallFrame attrs",
    }  # fmt: skip
    codes = {"metadata_extension": "Extension_Metadata", "float32": "DataType_F32", "float64": "DataType_F64"}

    def compiles(fields: dict[str, str]) -> bool:
        lines = ['#include "xla/ffi/api/c_api.h"', '#include "xla_interface.hpp"', "#include <type_traits>"]
        for mine, theirs in fields.items():
            (a, field), (b, its_field) = mine.split(), theirs.split()
            offsets = f"offsetof(softly::xla::{a}, {field}) == offsetof(XLA_FFI_{b}, {its_field})"
            sizes = f"sizeof(softly::xla::{a}::{field}) == sizeof(XLA_FFI_{b}::{its_field})"
            lines.append(f"static_assert({offsets});")
            if a != "Metadata":  # whose version may have grown
                lines.append(f"static_assert({sizes});")
        lines += [f"static_assert(softly::xla::{a} == (int)XLA_FFI_{b});" for a, b in codes.items()]
        lines += ["static_assert(XLA_FFI_API_MAJOR == 0);"]
        (tmp_path / "same.cpp").write_text("\n".join(lines))
        headers = [f"-I{core_builds.ROOT / 'csrc'}", f"-I{jax.ffi.include_dir()}"]
        command = [core_builds.COMPILER, "-std=c++17", "-fsyntax-only", *headers, str(tmp_path / "same.cpp")]
        return subprocess.run(command, capture_output=True).returncode == 0

    assert compiles(fields)
    assert not compiles(fields | {"Buffer data": "Buffer rank"})


def test_many_threads_at_once() -> None:
    z = drawn(300, 1000, dtype="float32")  # other threads have no float64
    program, expected = jax.jit(softly.sparsemax), softly.sparsemax(z)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(program, [z] * 16):
            np.testing.assert_array_equal(found, expected)


def test_which_says_what_runs_on_jax_arrays() -> None:
    core = f"compiled core, {_kernels.core.active_target()}, {_kernels.core.threads()} threads"
    for dtype in ("float32", "float64", "float16", "bfloat16", "int32", "bool"):
        for operation in ("softmax", "entmax", "sigmoid"):
            assert softly.which(operation, jnp.ones((2, 3), dtype)) == f"{operation} {dtype}: {core}"
    for scores in (jnp.ones((2, 0)), jnp.ones(())):
        assert softly.which("softmax", scores) == "softmax float64: array expression"
    assert softly.which("cross_entropy", jnp.ones((2, 3))) == "cross_entropy float64: array expression"
    said: list[str] = []
    jax.jit(lambda z: said.append(softly.which("softmax", z)) or z)(jnp.ones((2, 3)))  # type: ignore[func-returns-value]
    assert said == [f"softmax float64: {core}"]


@pytest.mark.slow
def test_the_expressions_pass_the_tests_of_jax_too() -> None:
    """They are what other devices run: the same tests without the core."""
    files = ("test_jax.py", "test_jax_derivatives.py", "test_jax_check_grads.py", "test_losses_jax.py")
    here = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "slow or not slow"]
    done = subprocess.run(
        [*command, *(str(here / file) for file in files)],
        env=os.environ | {"SOFTLY_TARGET": "none"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.findall(r"^(\d+) passed", done.stdout, re.MULTILINE)
    assert int(passed[-1]) > 150, done.stdout[-300:]
