"""Memory of dropped results serves the next ones: arrays stay ordinary, little is kept, all can be given back."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import softly
from softly import _kernels

pytestmark = pytest.mark.skipif(_kernels.core is None, reason="no compiled core")
MEGABYTE = 2**20
SCORES = np.zeros((4 * MEGABYTE // 40, 10), np.float32)  # a result of 4 MB


@pytest.fixture(autouse=True)
def nothing_kept():
    softly.release_memory()
    yield
    softly.release_memory()


def address(array):
    return array.ctypes.data


def test_a_dropped_result_is_where_the_next_one_will_be():
    result = softly.softmax(SCORES)
    first = address(result)
    del result
    assert address(softly.softmax(SCORES)) == first
    assert address(softly.log_softmax(SCORES)) == first
    assert address(_kernels.empty_like(SCORES[: len(SCORES) * 9 // 10])) == first
    _, gradient = softly.cross_entropy_and_gradient(SCORES, np.zeros(len(SCORES), int))
    assert address(gradient) == first


def test_a_result_that_lives_or_has_a_view_is_left_alone():
    result = softly.softmax(SCORES)
    kept, expected = result[5:], result[5:].copy()
    del result
    other = softly.softmax(SCORES + np.arange(10, dtype=np.float32))
    assert not np.shares_memory(kept, other)
    np.testing.assert_array_equal(kept, expected)


def test_arrays_are_ordinary():
    result = softly.softmax(SCORES)
    assert result.flags.owndata
    assert result.flags.writeable
    assert result.flags.c_contiguous
    assert address(result) % 64 == 0
    result.resize((len(SCORES) * 2, 10), refcheck=False)
    np.testing.assert_array_equal(result[: len(SCORES)], softly.softmax(SCORES))
    result.resize((3, 10), refcheck=False)
    assert result.shape == (3, 10)


def test_torch_takes_it_without_a_copy_and_keeps_it():
    torch = pytest.importorskip("torch")
    result = softly.softmax(SCORES)
    tensor = torch.from_numpy(result)
    assert tensor.data_ptr() == address(result)
    del result
    softly.softmax(SCORES + np.arange(10, dtype=np.float32))
    assert tensor.sum().item() == pytest.approx(len(SCORES))
    assert float(tensor[0, 0]) == np.float32(0.1)


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no /proc")
def test_at_most_64_megabytes_wait_and_all_are_given_back():
    sizes = [np.zeros((m * MEGABYTE // 8, 2), np.float32) for m in (20, 20, 30, 30)]
    softly.softmax(sizes[0][:10])
    before = resident()
    results = [softly.softmax(z) for z in sizes]
    assert resident() - before > 95 * MEGABYTE
    del results
    assert resident() - before < 70 * MEGABYTE
    softly.release_memory()
    assert resident() - before < 5 * MEGABYTE


def test_a_child_of_a_fork_goes_on():
    code = (
        "import os, numpy as np, softly\n"
        "z = np.zeros((200000, 10), np.float32); softly.softmax(z)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    softly.release_memory(); os._exit(int(softly.softmax(z)[0, 0] != np.float32(0.1)))\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    if not hasattr(os, "fork"):
        pytest.skip("no fork")
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)
