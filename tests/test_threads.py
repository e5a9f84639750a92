"""The core's threads: fork, many callers at once, OMP_NUM_THREADS, and the GIL."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import softly
from softly import _kernels

pytestmark = pytest.mark.skipif(_kernels.core is None, reason="no compiled core")
TWO_THREADS = _kernels.core is not None and _kernels.core.threads() > 1


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environment,
    )


FORK = """
import os
import numpy as np, softly
scores = np.random.default_rng(0).normal(size=(4000, 500))
expected = softly.softmax(scores).tobytes()
for _ in range(20):
    child = os.fork()
    if child == 0:
        same = softly.softmax(scores).tobytes() == expected and softly.softmax(scores).tobytes() == expected
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert softly.softmax(scores).tobytes() == expected
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_computes_and_so_does_its_parent():
    done = python(FORK)
    assert done.stdout == "done\n", done.stderr


FORK_WHILE_BUSY = """
import os, threading
import numpy as np, softly
scores = np.random.default_rng(0).normal(size=(2000, 500))
expected, stop = softly.softmax(scores).tobytes(), threading.Event()
def work():
    while not stop.is_set():
        softly.softmax(scores)
thread = threading.Thread(target=work)
thread.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        os._exit(0 if softly.softmax(scores).tobytes() == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
thread.join()
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_another_thread_computes_does_not_hang():
    done = python(FORK_WHILE_BUSY)
    assert done.stdout == "done\n", done.stderr


def test_many_threads_at_once_get_their_own_results():
    arrays = [np.random.default_rng(i).normal(size=(300 + i, 400)) for i in range(16)]
    expected = [softly.softmax(a[:3]) for a in arrays]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for found, wanted in zip(pool.map(softly.softmax, arrays), expected, strict=True):
                assert found[:3].tobytes() == wanted.tobytes()


@pytest.mark.parametrize(("given", "threads"), [("1", 1), ("2", 2), ("0", None), ("many", None)])
def test_omp_num_threads_bounds_the_threads(given, threads):
    done = python("from softly import _core; print(_core.threads())", OMP_NUM_THREADS=given)
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert 1 <= int(done.stdout) <= min(available, threads or available)
    if threads == 1:
        assert int(done.stdout) == 1


HELPER_OF_A_MOVING_CALLER = """
import os
import numpy as np, softly
scores = np.random.default_rng(0).normal(size=(4000, 500))
both = sorted(os.sched_getaffinity(0))[:2]
os.sched_setaffinity(0, both)
before = set(os.listdir("/proc/self/task"))
softly.softmax(scores)
(helper,) = map(int, set(os.listdir("/proc/self/task")) - before)
for here, other in (both, both[::-1]):
    for _ in range(20):
        os.sched_setaffinity(0, [here])
        os.sched_setaffinity(0, both)
        softly.softmax(scores)
        if os.sched_getaffinity(helper) == {other}:
            print("elsewhere")
            break
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or not TWO_THREADS, reason="one processor")
def test_a_helper_runs_elsewhere_than_its_caller():
    """It woke on the caller's processor, behind the caller, and short calls of two threads took as long as of one."""
    done = python(HELPER_OF_A_MOVING_CALLER, OMP_NUM_THREADS="2")
    assert done.stdout == "elsewhere\nelsewhere\n", done.stderr


ONE_LONG_ROW = """
import time
import numpy as np, softly
scores = np.random.default_rng(0).normal(size=4_000_000).astype("float32")
out = np.empty_like(scores)
for function in (softly.sigmoid, softly.log_sigmoid):
    function(scores, out=out)  # starts the helper
    cpu, own = time.process_time(), time.thread_time()
    for _ in range(10):
        function(scores, out=out)
    print(1 - (time.thread_time() - own) / (time.process_time() - cpu))
"""


@pytest.mark.skipif(not TWO_THREADS, reason="one processor")
def test_threads_share_the_entries_of_one_long_row():
    """Of sigmoids, where each entry goes by itself: helpers do their part of the work."""
    done = python(ONE_LONG_ROW)
    assert all(float(share) > 0.05 for share in done.stdout.split()), done.stdout
    assert len(done.stdout.split()) == 2, done.stderr


GIL = """
import threading, time
import numpy as np, softly
scores = np.ones((3000, 3000))
softly.softmax(scores)
ticks, stop = [], threading.Event()
def tick():
    while not stop.is_set():
        ticks.append(time.perf_counter())
        time.sleep(0.001)
thread = threading.Thread(target=tick)
thread.start()
start = time.perf_counter()
inside = 0
for _ in range(10):
    begin = time.perf_counter()
    softly.softmax(scores, out=scores)
    end = time.perf_counter()
    inside += sum(begin + 0.001 < t < end - 0.001 for t in list(ticks))
stop.set()
thread.join()
print(inside)
"""


def test_other_python_threads_run_during_a_large_call():
    assert int(python(GIL, OMP_NUM_THREADS="1").stdout) > 3


def test_bad_arguments_to_the_core_are_errors_not_crashes():
    core, z, y = _kernels.core, np.ones((4, 3)), np.zeros(4, np.int64)
    beta = np.ones(1)

    def softmax(scores, temperature=1.0, empty=0, out=None, offsets=None, alpha=1.0, axis=1):
        return core.softmax(scores, temperature, empty, out, offsets, alpha, axis)

    assert softmax(z).shape == z.shape
    for call in (
        lambda: core.softmax(),
        lambda: core.softmax(z, 1.0, 0, None, None, 1.0),
        lambda: softmax([1.0]),
        lambda: softmax(z.astype(int)),
        lambda: softmax(z[:, ::2]),
        lambda: softmax(z[:, :0]),
        lambda: softmax(np.float64(1)),
        lambda: softmax(np.array(1.0)),
        lambda: softmax(z, "warm"),
        lambda: softmax(z, np.ones(3)),
        lambda: softmax(z, np.ones(4, np.float32)),
        lambda: softmax(z, 1.0, "zero"),
        lambda: softmax(z, 1.0, 0, np.ones((4, 2))),
        lambda: softmax(z, 1.0, 0, np.ones((4, 3), np.float32)),
        lambda: softmax(z, offsets=np.array([0, 2])),
        lambda: softmax(z, offsets=np.array([0, 2, 1, 3])),
        lambda: softmax(z, alpha="two"),
        lambda: softmax(z, axis=2),
        lambda: softmax(z, axis=-1),
        lambda: softmax(z, axis="rows"),
        lambda: core.logsumexp(z, 1.0, 0, np.ones(3), None, 1.0, 1),
        lambda: core.softmax_direct(z, 1.0, None),
        lambda: core.softmax_direct(z, 1.0, None, "two"),
        lambda: core.temperature_statistics(z, y[:3], None, None, beta, 1),
        lambda: core.temperature_statistics(z, y + 3, None, None, beta, 1),
        lambda: core.temperature_statistics(z, y - 1, None, None, beta, 1),
        lambda: core.temperature_statistics(z, y, np.ones(3), None, beta, 1),
        lambda: core.temperature_statistics(z, y, None, np.ones(4, np.uint8), beta, 1),
        lambda: core.temperature_statistics(z, y, None, None, beta, 0),
        lambda: core.temperature_statistics(z, y, None, None, beta, 2**40),
        lambda: core.temperature_statistics(z[0], y, None, None, beta, 1),
    ):
        with pytest.raises((TypeError, ValueError)):
            call()
    for not_plain in ([1.0], z[:, ::2], z.astype(int), z[:0], np.array(1.0)):
        assert core.softmax_direct(not_plain, 1.0, None, 1.0) is None
    for temperature in (1, -1.0, 0.0, np.nan, np.ones(4), "warm"):
        assert core.softmax_direct(z, temperature, None, 1.0) is None
    for out in (
        z[:2],
        z[::-1],
        z.astype(np.float32),
        [0.0],
        np.broadcast_to(0.0, z.shape),
        np.ones(17)[1:13].reshape(3, 4),
    ):
        assert core.softmax_direct(z, 1.0, out, 1.0) is None
    shared = np.ones((5, 3))
    assert core.softmax_direct(shared[:4], 1.0, shared[1:], 1.0) is None
