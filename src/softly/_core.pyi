from typing import Any

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float32] | NDArray[np.float64]
_Temperature = float | NDArray[np.float64]
_Offsets = NDArray[np.int64] | None

def softmax(
    scores: _Floats, temperature: _Temperature, empty: int, out: Any, offsets: _Offsets, alpha: float, axis: int
) -> NDArray[Any]: ...

log_softmax = logsumexp = entmax = sigmoid = log_sigmoid = softmax

def softmax_direct(scores: Any, temperature: Any, out: Any, alpha: float) -> NDArray[Any] | None: ...

log_softmax_direct = logsumexp_direct = entmax_direct = sigmoid_direct = log_sigmoid_direct = softmax_direct

def jacobian_product(
    result: _Floats,
    temperature: _Temperature,
    empty: int,
    out: Any,
    offsets: _Offsets,
    alpha: float,
    axis: int,
    vector: _Floats,
) -> NDArray[Any]: ...

log_jacobian_product = sigmoid_gradient = log_sigmoid_gradient = constant_rows = jacobian_product

def cross_entropy(
    scores: Any,
    labels: NDArray[np.int64],
    temperature: _Temperature,
    scale: _Temperature,
    losses: _Floats,
    gradient: Any,
) -> None: ...
def kernel_regression(*arguments: Any) -> None: ...
def draw(
    scores: NDArray[np.float64],
    probabilities: NDArray[np.float64],
    uniforms: NDArray[np.float64],
    leaders: NDArray[np.int64],
    top_k: int,
    top_p: float,
    min_p: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]: ...
def empty_like(array: NDArray[Any], /) -> NDArray[Any]: ...
def release_memory() -> None: ...
def graph_averages(*arguments: Any) -> None: ...
def graph_gradients(*arguments: Any) -> None: ...
def group(index: NDArray[np.int64], segments: int) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]: ...
def temperature_statistics(
    scores: _Floats,
    labels: NDArray[np.int64],
    weights: NDArray[np.float64] | None,
    folds: NDArray[np.uint8] | None,
    betas: NDArray[np.float64],
    fold_count: int,
) -> tuple[NDArray[np.int64], int]: ...
def targets() -> tuple[str, ...]: ...
def bounds() -> dict[str, float]: ...
def active_target() -> str: ...
def threads() -> int: ...
def attention(
    query: _Floats,
    key: _Floats,
    value: _Floats,
    key_of: NDArray[np.int64],
    value_of: NDArray[np.int64],
    where: NDArray[np.bool_] | None,
    where_of: NDArray[np.int64] | None,
    bias: _Floats | None,
    bias_of: NDArray[np.int64] | None,
    visible: int,
    scale: float,
    alpha: float,
    temperature: _Temperature,
    empty: int,
    out: _Floats,
    logsumexp: _Floats | None,
) -> int: ...
