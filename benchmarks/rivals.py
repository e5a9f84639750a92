"""Who computes a shape: softly, and every library that is installed and has the operation."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from shapes import Shape
from timing import Contenders

import softly

ALPHA = 1.5
_ONNX = {"softmax": "Softmax", "log_softmax": "LogSoftmax", "logsumexp": "ReduceLogSumExp"}


def optional(name: str) -> Any:
    """A module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def contenders(shape: Shape, threads: int) -> Contenders:
    """Calls that compute the shape; "copy" moves as many bytes, and no contender is faster by honest means."""
    z = shape.draw()
    if shape.segments:
        return _segments(z, shape)
    if shape.operation == "cross_entropy":
        return _cross_entropy(z, shape.labels(), threads)
    out = None if shape.operation == "logsumexp" else np.empty_like(z)
    function = getattr(softly, shape.operation)
    if out is None:
        found: Contenders = {"softly": lambda: function(z, shape.axis)}
    else:
        kept: list[Any] = [None]
        found = {
            "softly": lambda: function(z, shape.axis, out=out),
            "softly, fresh": lambda: function(z, shape.axis),
            "softly, kept": lambda: kept.__setitem__(0, function(z, shape.axis)),
        }
    for add in (_numpy, _scipy, _torch, _jax, _onnxruntime, _entmax):
        add(found, shape, z, out, threads)
    found["copy"] = lambda: np.copyto(into, z)
    into = np.empty_like(z)
    return found


def _numpy(found: Contenders, shape: Shape, z: Any, out: Any, threads: int) -> None:
    if z.dtype.kind != "f" or z.dtype.itemsize < 4:
        return

    def softmax() -> Any:
        e = np.exp(z - z.max(axis=shape.axis, keepdims=True))
        return e / e.sum(axis=shape.axis, keepdims=True)

    def logsumexp(keepdims: bool = False) -> Any:
        top = z.max(axis=shape.axis, keepdims=True)
        total = np.log(np.exp(z - top).sum(axis=shape.axis, keepdims=True)) + top
        return total if keepdims else total[..., 0]

    written: dict[str, Callable[[], Any]] = {
        "softmax": softmax,
        "logsumexp": logsumexp,
        "log_softmax": lambda: z - logsumexp(True),
    }
    if shape.operation in written:
        found["numpy"] = written[shape.operation]


def _scipy(found: Contenders, shape: Shape, z: Any, out: Any, threads: int) -> None:
    special = optional("scipy.special")
    if special is not None and z.dtype.kind == "f" and hasattr(special, shape.operation):
        function = getattr(special, shape.operation)
        found["scipy"] = lambda: function(z, axis=shape.axis)


def _torch(found: Contenders, shape: Shape, z: Any, out: Any, threads: int) -> None:
    torch = optional("torch")
    if torch is None or shape.operation not in _ONNX:
        return
    torch.set_num_threads(threads)
    tensor = _tensor(torch, z)
    function, axis = getattr(torch, shape.operation), shape.axis
    into = None if out is None else torch.empty_like(tensor)
    with_out = into is not None and shape.operation == "softmax"
    found["torch"] = lambda: function(tensor, axis, out=into) if with_out else function(tensor, axis)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: function(x, axis), dynamic=False)
    try:
        compiled(tensor)
    except Exception:  # without a compiler, or a shape beyond it: a rival less
        return
    found["torch.compile"] = lambda: compiled(tensor)


def _jax(found: Contenders, shape: Shape, z: Any, out: Any, threads: int) -> None:
    """JAX's own maps, projections onto the simplex of libraries on JAX, and softly's maps on JAX arrays."""
    jax = optional("jax")
    if jax is None:
        return
    jax.config.update("jax_enable_x64", True)
    array = jax.numpy.asarray(z)

    def add(who: str, function: Callable[..., Any]) -> None:
        compiled = jax.jit(function)
        found[who] = lambda: compiled(array).block_until_ready()

    add("softly, jax", lambda x: getattr(softly, shape.operation)(x, shape.axis))
    if shape.operation in _ONNX:
        add("jax", lambda x: getattr(jax.nn, shape.operation)(x, axis=shape.axis))
    if shape.operation == "sparsemax" and shape.axis == -1:
        for name in ("jaxopt.projection", "optax.projections"):
            if (module := optional(name)) is not None:
                add(name.partition(".")[0], jax.vmap(module.projection_simplex))


def _onnxruntime(found: Contenders, shape: Shape, z: Any, out: Any, threads: int) -> None:
    """Spinning threads, its default."""
    ort, onnx = optional("onnxruntime"), optional("onnx")
    if ort is None or onnx is None or shape.operation not in _ONNX or z.dtype.name not in ("float32", "float64"):
        return
    element = onnx.helper.np_dtype_to_tensor_dtype(z.dtype)
    reduces = shape.operation == "logsumexp"
    options = {"axes": [shape.axis], "keepdims": 0} if reduces else {"axis": shape.axis}
    node = onnx.helper.make_node(_ONNX[shape.operation], ["z"], ["p"], **options)
    given = [onnx.helper.make_tensor_value_info("z", element, z.shape)]
    made = [onnx.helper.make_tensor_value_info("p", element, None)]
    graph = onnx.helper.make_graph([node], "map", given, made)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    try:
        session = ort.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    except Exception:  # a dtype that it has no kernel for: a rival less
        return
    binding = session.io_binding()
    binding.bind_ortvalue_input("z", ort.OrtValue.ortvalue_from_numpy(z))
    result = np.empty(z.shape[:-1] if reduces else z.shape, z.dtype)
    binding.bind_ortvalue_output("p", ort.OrtValue.ortvalue_from_numpy(result))
    found["onnxruntime"] = lambda: session.run_with_iobinding(binding)


def _entmax(found: Contenders, shape: Shape, z: Any, out: Any, threads: int) -> None:
    torch, entmax = optional("torch"), optional("entmax")
    if torch is None or entmax is None or shape.operation not in ("sparsemax", "entmax"):
        return
    torch.set_num_threads(threads)
    tensor = _tensor(torch, z)
    function = entmax.sparsemax if shape.operation == "sparsemax" else entmax.entmax15
    found["entmax"] = lambda: function(tensor, dim=shape.axis)
    if shape.columns > 100:
        found["entmax, k=100"] = lambda: function(tensor, dim=shape.axis, k=100)


def _cross_entropy(z: Any, labels: Any, threads: int) -> Contenders:
    """The mean loss and its gradient."""
    every, into = np.arange(len(labels)), np.empty_like(z)

    def numpy() -> Any:
        p = np.exp(z - z.max(axis=-1, keepdims=True))
        total = p.sum(axis=-1, keepdims=True)
        p /= total
        loss = -np.log(p[every, labels]).mean()
        p[every, labels] -= 1
        p /= len(labels)
        return loss, p

    found: Contenders = {
        "softly": lambda: softly.cross_entropy_and_gradient(z, labels),
        "numpy": numpy,
        "copy": lambda: np.copyto(into, z),
    }
    if (torch := optional("torch")) is not None:
        torch.set_num_threads(threads)
        scores, target = torch.from_numpy(z).requires_grad_(), torch.from_numpy(labels)
        torch._dynamo.reset()

        def trained(function: Callable[..., Any]) -> Callable[[], Any]:
            def once() -> None:
                scores.grad = None
                function(scores, target).backward()

            return once

        found["softly, torch"] = trained(softly.cross_entropy)
        found["torch"] = trained(torch.nn.functional.cross_entropy)
        compiled = trained(torch.compile(torch.nn.functional.cross_entropy, dynamic=False))
        try:
            compiled()
            found["torch.compile"] = compiled
        except Exception:  # without a compiler: a rival less
            pass
    if (jax := optional("jax")) is not None:
        array, of_jax = jax.numpy.asarray(z), jax.numpy.asarray(labels)

        def mean(x: Any, y: Any) -> Any:
            return -jax.numpy.take_along_axis(jax.nn.log_softmax(x), y[:, None], axis=-1).mean()

        both = jax.jit(jax.value_and_grad(mean))
        found["jax"] = lambda: jax.block_until_ready(both(array, of_jax))
    return found


def _segments(z: Any, shape: Shape) -> Contenders:
    offsets = shape.offsets()
    sizes = np.diff(offsets)
    index = np.repeat(np.arange(shape.segments), sizes)
    out, into = np.empty_like(z), np.empty_like(z)
    found: Contenders = {
        "softly": lambda: softly.segment_softmax(z, offsets=offsets, out=out),
        "softly, by index": lambda: softly.segment_softmax(z, index=index, num_segments=shape.segments, out=out),
    }
    starts, filled = offsets[:-1][sizes > 0], sizes[sizes > 0]

    def reduceat() -> Any:
        e = np.exp(z - np.repeat(np.maximum.reduceat(z, starts), filled, axis=0))
        return e / np.repeat(np.add.reduceat(e, starts), filled, axis=0)

    found["numpy"] = reduceat
    torch, utils = optional("torch"), optional("torch_geometric.utils")
    if torch is not None and utils is not None:
        tensor, nodes = torch.from_numpy(z), torch.from_numpy(index)
        found["PyG"] = lambda: utils.softmax(tensor, nodes, num_nodes=shape.segments)
    if (jax := optional("jax")) is not None:
        groups, array = jax.numpy.asarray(index), jax.numpy.asarray(z)
        reduce = {"num_segments": shape.segments, "indices_are_sorted": True}

        def of_jax(x: Any) -> Any:
            e = jax.numpy.exp(x - jax.ops.segment_max(x, groups, **reduce)[groups])
            return e / jax.ops.segment_sum(e, groups, **reduce)[groups]

        compiled = jax.jit(of_jax)
        found["jax"] = lambda: compiled(array).block_until_ready()
    found["copy"] = lambda: np.copyto(into, z)
    return found


def _tensor(torch: Any, z: Any) -> Any:
    if z.dtype.name == "bfloat16":
        return torch.from_numpy(z.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(z)
