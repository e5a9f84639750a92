"""The kernels of rows in programs of JAX: one primitive, on the CPU a call of the compiled core, else the expression.

Operands: the scores; the temperature and alpha - 1, one for all rows or one a row; of a derivative its vector, which it
is linear in.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad, batching, mlir

from softly import _kernels
from softly._arrays import EMPTY_CODES, Array
from softly._rows import Rows
from softly.jax.expressions import evaluate

_TRANSPOSED = {
    "jacobian_product": "jacobian_product",
    "log_jacobian_product": "log_tangent",
    "log_tangent": "log_jacobian_product",
    "sigmoid_gradient": "sigmoid_gradient",
    "log_sigmoid_gradient": "log_sigmoid_gradient",
}
_REDUCE = ("logsumexp", "constant_rows")

_rows = jax.extend.core.Primitive("softly_rows")


def run(operation: str, rows: Rows, delta: Any, alpha: float | None, *vector: Array) -> Array:
    """An operation of softly.jax.expressions on rows (*batch, n) with entries; delta and alpha as there.

    Gives (*batch, n), of logsumexp and constant_rows (*batch). Numbers out of range give NaN in their row.
    """
    numbers = (jnp.asarray(x, rows.scores.dtype) for x in (rows.temperature, delta))
    operands = _varying_alike(rows.scores, *numbers, *vector)
    result: Array = _rows.bind(*operands, operation=operation, alpha=alpha, empty=rows.empty)
    return result


def _varying_alike(*operands: Array) -> list[Array]:
    """In a shard_map all vary over the axes that any does."""
    varying: list[frozenset[Any]] = [
        getattr(getattr(jax.typeof(x), "mat", None), "varying", frozenset()) for x in operands
    ]
    of_any = frozenset[Any]().union(*varying)
    return [
        x if axes == of_any else jax.lax.pcast(x, tuple(of_any - axes), to="varying")
        for x, axes in zip(operands, varying, strict=True)
    ]


def _expression(*operands: Array, operation: str, alpha: float | None, empty: Any) -> Array:
    scores, temperature, delta, *vector = operands
    rows = Rows(jnp, scores, temperature, empty, scores.dtype, scores.shape, (scores.ndim - 1,), False, False, None)
    return evaluate(operation, rows, delta, alpha, *vector)


def _shape(scores: Any, *others: Any, operation: str, **__: Any) -> Any:
    if any(x.dtype != scores.dtype for x in others):
        raise TypeError(f"{operation} of {scores.dtype} takes others of that dtype, not {[x.dtype for x in others]}")
    if operation not in _REDUCE:
        return scores
    kept = jax.sharding.PartitionSpec(*scores.sharding.spec[:-1])
    return scores.update(shape=scores.shape[:-1], sharding=scores.sharding.update(spec=kept))


_compiled = jax.jit(_rows.bind, static_argnames=("operation", "alpha", "empty"))


@_rows.def_impl
def _evaluated(*operands: Any, **options: Any) -> Array:
    with jax.disable_jit(False):  # there is no other way to evaluate it
        result: Array = _compiled(*operands, **options)
    return result


_rows.def_abstract_eval(_shape)


# ---------------------------------------------------------------- lowering

_expressed = mlir.lower_fun(_expression, multiple_results=False)


def _called(context: Any, *operands: Any, **options: Any) -> Any:
    """A call of the compiled core, if it has the kernel and XLA need not look into it.

    Exported programs may run where softly is not, and those of several devices are divided among them.
    """
    module = context.module_context
    is_float = context.avals_in[0].dtype in (jnp.float32, jnp.float64)
    is_looked_into = _is_divided(module.axis_context) or module.lowering_parameters.for_export
    if options["operation"] not in _callable() or not is_float or is_looked_into:
        return _expressed(context, *operands, **options)
    lower = jax.ffi.ffi_lowering(_name(options["operation"]))
    return lower(context, *operands, empty=np.int32(EMPTY_CODES[options["empty"]]))


def _is_divided(axes: Any) -> bool:
    """Whether XLA divides the program among devices, along all axes of their mesh or those that are not manual."""
    if isinstance(axes, mlir.ShardingContext):
        return bool(axes.num_devices > 1)
    return isinstance(axes, mlir.SPMDAxisContext) and set(axes.manual_axes) != set(axes.mesh.axis_names)


def _name(operation: str) -> str:
    return f"softly_{operation}"


@cache
def _callable() -> frozenset[str]:
    """The operations that XLA may call in the core, made known to it: none where it asks for another interface."""
    if _kernels.core is None:
        return frozenset()
    functions = _kernels.core.xla_functions()
    try:
        jax.local_devices(backend="cpu")  # so that it refuses here, not when somebody first asks for this backend
        for operation, function in functions.items():
            jax.ffi.register_ffi_target(_name(operation), function, platform="cpu")
    except RuntimeError:
        return frozenset()
    return frozenset(functions)


mlir.register_lowering(_rows, _expressed)
mlir.register_lowering(_rows, _called, platform="cpu")


def calls_core(scores: jax.Array) -> bool:
    """Whether programs of these scores call the core."""
    if isinstance(scores, jax.core.Tracer):
        return bool(_callable()) and jax.default_backend() == "cpu"
    return bool(_callable()) and [device.platform for device in scores.devices()] == ["cpu"]


# ---------------------------------------------------------------- transforms


def _jvp(primals: Any, tangents: Any, **options: Any) -> tuple[Array, Any]:
    """Of derivatives, which alone are differentiated here: linear in the vector, by the expression in all else."""
    assert options["operation"] in _TRANSPOSED, "maps have a rule of their own"
    (*at, vector), (*d_at, d_vector) = primals, tangents
    parts = [] if isinstance(d_vector, ad.Zero) else [_rows.bind(*at, d_vector, **options)]
    if not all(isinstance(tangent, ad.Zero) for tangent in d_at):
        d_at = [ad.instantiate_zeros(tangent) for tangent in d_at]
        parts.append(jax.jvp(lambda *at: _expression(*at, vector, **options), tuple(at), tuple(d_at))[1])
    return _rows.bind(*primals, **options), sum(parts)


def _transpose(cotangent: Any, *operands: Any, operation: str, **options: Any) -> list[Any]:
    *at, _ = operands
    return [*(None for _ in at), _rows.bind(*at, cotangent, operation=_TRANSPOSED[operation], **options)]


def _batch(operands: Any, axes: Any, **options: Any) -> tuple[Array, int]:
    """One more axis in front; numbers that are mapped, or one a row, become one a row of all."""
    if any(jax.sharding.AxisType.Explicit in jax.typeof(x).sharding.mesh.axis_types for x in operands):
        expression = partial(_expression, **options)  # whose parts know how they are laid out
        return jax.vmap(expression, tuple(axes))(*operands), 0
    count = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
    moved = [x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(operands, axes, strict=True)]
    shape = (count, *moved[0].shape[axes[0] is not None :])

    def of_entries(x: Array, axis: int | None) -> Array:
        return jnp.broadcast_to(x, shape) if axis is None else x

    def of_rows(x: Array, axis: int | None) -> Array:
        if axis is None and x.ndim == 0:
            return x
        one_for_all = axis is not None and x.ndim == 1
        return jnp.broadcast_to(x.reshape(count, *(1,) * (len(shape) - 2)) if one_for_all else x, shape[:-1])

    takes = of_entries, of_rows, of_rows, of_entries
    batched = [take(x, axis) for take, x, axis in zip(takes, moved, axes, strict=False)]
    return _rows.bind(*batched, **options), 0


ad.primitive_jvps[_rows] = _jvp
ad.primitive_transposes[_rows] = _transpose
batching.primitive_batchers[_rows] = _batch
