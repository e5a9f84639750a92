"""No kernel touches a subnormal number where neither scores nor results are any.

On Intel's processors each instruction that does takes some 150 cycles: softmax took six times as long.
"""

from __future__ import annotations

import ctypes
import platform

import numpy as np
import pytest

import softly
from softly import _kernels

pytestmark = pytest.mark.skipif(
    _kernels.core is None or platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc",
    reason="reads the flags of x86-64 by glibc's fegetenv",
)

DENORMAL_OPERAND, UNDERFLOW, ALL_FLAGS = 0x02, 0x10, 0x3F


class Environment(ctypes.Structure):
    """glibc's fenv_t on x86-64."""

    _fields_ = (("x87", ctypes.c_uint32 * 7), ("mxcsr", ctypes.c_uint32))


def subnormals_met(call):
    """The flags of subnormal operands and results that a call leaves in this thread; small calls start no others."""
    libm, state = ctypes.CDLL("libm.so.6"), Environment()
    libm.fegetenv(ctypes.byref(state))
    state.mxcsr &= ~ALL_FLAGS
    libm.fesetenv(ctypes.byref(state))
    call()
    libm.fegetenv(ctypes.byref(state))
    return state.mxcsr & (DENORMAL_OPERAND | UNDERFLOW)


FUNCTIONS = {
    "softmax": softly.softmax,
    "softmax at T = 2": lambda z: softly.softmax(z, temperature=2.0),
    "softmax of columns": lambda z: softly.softmax(z, axis=0),
    "log_softmax": softly.log_softmax,
    "logsumexp": softly.logsumexp,
    "sparsemax": softly.sparsemax,
    "entmax": softly.entmax,
    "sigmoid": softly.sigmoid,
    "log_sigmoid": softly.log_sigmoid,
    "cross_entropy": lambda z: softly.cross_entropy_and_gradient(z, np.zeros(len(z), int)),
    "segment_softmax": lambda z: softly.segment_softmax(z[:, 0].copy(), offsets=[0, 3, 12]),
    "attention": lambda z: softly.attention(z, z, z),
}


def test_flags_are_seen():
    assert subnormals_met(lambda: softly.softmax(np.float32([0, -95]))) & UNDERFLOW
    assert subnormals_met(lambda: np.float32([1e-40]) * np.float32(0.5)) & DENORMAL_OPERAND
    assert subnormals_met(lambda: None) == 0


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("columns", [3, 10, 16, 17, 64, 100, 600, 1000, 20000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_subnormal_is_met(name, dtype, columns, masked):
    z = np.random.default_rng(0).normal(size=(12, columns)).astype(dtype)
    if masked and name not in ("sigmoid", "log_sigmoid", "attention"):
        z[:, 1::2] = -np.inf
    assert subnormals_met(lambda: FUNCTIONS[name](z)) == 0
