"""Bugs planted in a copy of the compiled core, one at a time: the tests must turn red for each.

`python tests/planted_bugs.py` prints which test did, and exits with 1 if a bug survives.
"""

from __future__ import annotations

import os
import queue
import re
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import core_builds
import semantics

TESTS = (
    "test_semantics.py",
    "test_temperature_statistics.py",
    "test_derivative_kernels.py",
    "test_layouts_segments.py",
    "test_layouts.py",
    "test_accuracy.py",
)
TESTS_OF_FILE = {  # where no other test calls what it holds
    "cross_entropy.hpp": ("test_cross_entropy_kernel.py",),
    "graph.hpp": ("test_graph_attention.py",),
    "kernel_regression.hpp": ("test_kernel_regression.py",),
    "sampling.hpp": ("test_sampling.py",),
    "attention.hpp": ("test_attention.py",),
}
OPTIONS = ("-x", "--tb=no", "-rf", "-k", "not torch and not every_target")


@dataclass(frozen=True)
class Bug:
    """A wrong line: `new` in place of `old`, in a file of csrc/."""

    name: str
    file: str
    old: str
    new: str


BUGS = (
    Bug(
        "log_softmax adds the log of the sum",
        "log_softmax.hpp",
        "return (z - maximum_score) - hi;",
        "return (z - maximum_score) + hi;",
    ),
    Bug("the tail of a row is dropped", "row.hpp", "    if (i < n)\n#pragma", "    if (false)\n#pragma"),
    Bug(
        "half the lanes are summed twice",
        "vector/types.hpp",
        "(Int<Scalar<V>>)(i ^ distance);",
        "(Int<Scalar<V>>)(i ^ 1);",
    ),
    Bug(
        "the halves of a float vector change places",
        "elementary.hpp",
        "half ? upper_doubles(v) : lower_doubles(v)",
        "half ? lower_doubles(v) : upper_doubles(v)",
    ),
    Bug(
        "the tree over columns forgets the last one",
        "row.hpp",
        "for (long i = 0; i < half && i + half < n; ++i)",
        "for (long i = 0; i < half && i + half < n - 1; ++i)",
    ),
    Bug("log forgets the low part of the sum", "elementary.hpp", "m_lo = u_lo * inverse_power", "m_lo = u_lo * 0.0"),
    Bug("a coefficient of exp in float", "elementary.hpp", "0x1.5554dcp-3f", "0x1.5564dcp-3f"),
    Bug("a coefficient of exp in double", "elementary.hpp", "0x1.5555555553d63p-5", "0x1.555555a553d63p-5"),
    Bug("a coefficient of log", "elementary.hpp", "0x1.99999999952d7p-2", "0x1.99999989952d7p-2"),
    Bug(
        "-inf is not checked where T is inf",
        "row.hpp",
        "return {z == impossible ? impossible : hi, lo};",
        "return {hi, lo};",
    ),
    Bug(
        "every row has the first row's temperature",
        "kernels.hpp",
        "temperature[i * temperature_stride]",
        "temperature[0 * temperature_stride]",
    ),
    Bug(
        "a segment is one entry short",
        "kernels.hpp",
        "(long)(offsets[segment + 1] - offsets[segment])",
        "(long)(offsets[segment + 1] - offsets[segment]) - (segment > 0 && segment + 1 == segments)",
    ),
    Bug(
        "the last chunk of the threads is dropped",
        "threads.cpp",
        "if (begin >= task.count) return;",
        "if (begin + task.grain > task.count) return;",
    ),
    Bug(
        "the support of entmax is one short",
        "entmax.hpp",
        "return lanes_set(nan) ? -1 : count;",
        "return lanes_set(nan) ? -1 : count - (count > 2);",
    ),
    Bug(
        "sparsemax keeps entries at the bound",
        "entmax.hpp",
        "Doubles positive_part(Doubles v) { return v > 0.0 ? v : Doubles{}; }",
        "Doubles positive_part(Doubles v) { return v; }",
    ),
    Bug(
        "large vectors are not scaled back in the gradient of sigmoid",
        "sigmoid_gradient.hpp",
        "return is_large ? g : g * unscale;",
        "return g * unscale;",
    ),
    Bug(
        "log_sigmoid moves where its score is -inf",
        "sigmoid_gradient.hpp",
        "(z == -__builtin_inf() ? Doubles{} : broadcast(scale))",
        "broadcast(scale)",
    ),
    Bug(
        "sigmoid's log of 1 + e is that of a rounded e",
        "sigmoid.hpp",
        "quotient_of_pairs(e.scaled.hi, e.scaled.lo, under, under_lo, inverse)",
        "quotient_of_pairs(e.near * Exp<T>::scale, e.near_lo, under, under_lo, inverse)",
    ),
    Bug(
        "short rows are transposed with two lanes exchanged",
        "transpose.hpp",
        "return lane & d ? n + lane : lane ^ d;",
        "return lane & d ? n + lane : lane;",
    ),
    Bug(
        "a batch of short rows writes beyond its end",
        "short_rows.hpp",
        "store_first(out + row * n + b * width, (int)(left < width ? left : width)",
        "store_first(out + row * n + b * width, width",
    ),
    Bug(
        "shorter segments of a pack are filled up with zeros",
        "packed.hpp",
        "fill(to + j * lanes<T>, heads, T(-__builtin_inf()))",
        "fill(to + j * lanes<T>, heads, T(0))",
    ),
    Bug(
        "the sum of a row loses its low part",
        "near.hpp",
        "lost += e.beside(next - sum);",
        "lost += T(0) * e.beside(next - sum);",
    ),
    Bug(
        "a tiny rest beside the leader of a long row is lost",
        "near.hpp",
        "return sizeof(T) == 8 || n <= accumulators || !(sum < rest_is_kept);",
        "return true;",
    ),
    Bug(
        "a tiny rest beside the leader of a batch's row is lost",
        "batch.hpp",
        "lost |= lanes_set",
        "lost &= lanes_set",
    ),
    Bug("a coefficient of exp by eighths of a power", "near_exp.hpp", "0x1.557216p-3f", "0x1.5d7216p-3f"),
    Bug("an eighth of a power of two", "near_exp.hpp", "0x57859202", "0x57859206"),
    Bug(
        "a batch's rows are shifted as its first",
        "near_exp.hpp",
        "row.offset = broadcast(offset[lane]);",
        "row.offset = broadcast(offset[0]);",
    ),
    Bug(
        "a long row keeps its first chunk alone",
        "near.hpp",
        "begin < n; begin += chunk_columns",
        "begin < n; begin += n",
    ),
    Bug(
        "the end of a batch is copied one row short",
        "operations.hpp",
        "__builtin_memcpy(out + i * results, result, count * results * sizeof(T));",
        "__builtin_memcpy(out + i * results, result, (count - 1) * results * sizeof(T));",
    ),
    Bug(
        "NaN is taken for the maximum's neighbour",
        "row.hpp",
        "if (scores[i] != scores[i]) return RowKind::not_a_number;",
        "if (false) return RowKind::not_a_number;",
    ),
    Bug(
        "ties at +inf share with everyone",
        "row.hpp",
        "const T share = T(1) / T(count_infinite(scores, n));",
        "const T share = T(1) / T(n);",
    ),
    Bug(
        "the product with the Jacobian is not measured from the leader",
        "gradient.hpp",
        "const double pivot = (double)v[first_of(p, n, [&](Vector<T> x) { return x == largest; })];",
        "const double pivot = 0 * (double)v[first_of(p, n, [&](Vector<T> x) { return x == largest; })];",
    ),
    Bug(
        "a batch of products is not measured from its leaders",
        "softmax_gradient.hpp",
        "if (needs_pivot[i] || is_limit",
        "if (is_limit",
    ),
    Bug(
        "what has no share enters the product",
        "gradient.hpp",
        "return q == 0.0 ? Doubles{} : q * d; };",
        "return q * d; };",
    ),
    Bug(
        "the leader's entry of log_softmax's product forgets its own share",
        "gradient.hpp",
        "T((rest * first - share * others) / temperature)",
        "T((first - share * others) / temperature)",
    ),
    Bug(
        "a row at +inf moves with its scores",
        "gradient.hpp",
        "return scores[i] - scores[i] != 0;",
        "return scores[i] == -scores[i] && scores[i] != 0;",
    ),
    Bug("the gradient of a fit has the wrong sign", "temperature_statistics.hpp", "mean - d_y);", "d_y - mean);"),
    Bug(
        "statistics forget the weights", "temperature_statistics.hpp", "problem.weights ? problem.weights[row] : 1", "1"
    ),
    Bug(
        "exact sums drop the carry of a mantissa",
        "exact_sum.hpp",
        "mantissa >> (31 - shift) >> 1",
        "mantissa >> (31 - shift) >> 2",
    ),
    Bug(
        "the label's slope loses what is left beside it",
        "cross_entropy.hpp",
        "((widened(power, half) - sum.hi) - sum.lo)",
        "(widened(power, half) - sum.hi)",
    ),
    Bug(
        "an ignored row keeps its gradient",
        "cross_entropy.hpp",
        "losses.clear_ignored(e, n);",
        "",
    ),
    Bug(
        "edges without a share are read",
        "graph.hpp",
        "            if (w == 0) continue;\n",
        "",
    ),
    Bug(
        "a point sees itself where it is left out",
        "kernel_regression.hpp",
        "stored[own] = T(__builtin_inf());",
        "stored[own] = stored[own];",
    ),
    Bug(
        "one scale for all rows",
        "cross_entropy.hpp",
        "each[row] = scale[row * scale_stride];",
        "each[row] = scale[0];",
    ),
    Bug("top_p counts what top_k left out", "sampling.hpp", "total += z[i] >= cut ? p[i] : 0;", "total += p[i];"),
    Bug("a draw forgets what is before its block", "sampling.hpp", "running = before[at];", "running = 0;"),
    Bug(
        "what was averaged before a larger score is kept as it was",
        "attention.hpp",
        "store(factor + v, beside);",
        "store(factor + v, broadcast(T(1)));",
    ),
    Bug(
        "a query sees one key of the future",
        "attention.hpp",
        "const long visible = first + a.visible;",
        "const long visible = first + a.visible + 1;",
    ),
)


class Workshop:
    """A copy of the sources and its build, for one bug after the other."""

    def __init__(self, directory: Path) -> None:
        self.target = next(name for name in ("avx2", "baseline") if name in semantics.targets())
        self.directory = directory
        self.source = core_builds.copy_sources(directory / "source", {self.target})

    def red_test(self, bug: Bug | None = None) -> str:
        """The first test that fails with the bug, or "" if all pass."""
        file = self.source / "csrc" / bug.file if bug else None
        kept = file.read_bytes() if file else b""
        if bug and file:
            core_builds.replace_once(file, bug.old, bug.new)
        try:
            packages = core_builds.build(self.source, self.directory)
            tests = TESTS_OF_FILE.get(bug.file, TESTS) if bug else (*TESTS, *sum(TESTS_OF_FILE.values(), ()))
            status, printed = core_builds.pytest(packages, tests, *OPTIONS, SOFTLY_TARGET=self.target)
        finally:
            if file:
                file.write_bytes(kept)
        if status == 0:
            return ""
        failed = re.search(r"^FAILED \S*?([\w.]+::\S.*?)( - |$)", printed, re.M)
        assert failed, f"exit status {status}: {printed[-3000:]}"
        return failed[1]


@contextmanager
def workshops() -> Iterator[queue.Queue[Workshop]]:
    """A workshop for each processor."""
    with tempfile.TemporaryDirectory() as directory:
        idle: queue.Queue[Workshop] = queue.Queue()
        for i in range(min(4, os.cpu_count() or 1)):
            idle.put(Workshop(Path(directory) / str(i)))
        yield idle


def red_tests() -> Iterator[tuple[str, str]]:
    """(name of the bug, first red test) for each, "" where it survives; AssertionError if tests are red without."""
    with workshops() as idle, ThreadPoolExecutor(idle.qsize()) as pool:

        def try_out(bug: Bug | None) -> str:
            workshop = idle.get()
            try:
                return workshop.red_test(bug)
            finally:
                idle.put(workshop)

        without, *found = (pool.submit(try_out, bug) for bug in (None, *BUGS))
        assert not without.result(), f"red without a bug: {without.result()}"
        for bug, red in zip(BUGS, found, strict=True):
            yield bug.name, red.result()


def main() -> int:
    """Prints the table; returns whether a bug survives."""
    width = max(len(bug.name) for bug in BUGS)
    survivors = 0
    for name, red in red_tests():
        survivors += not red
        print(f"{name:{width}} | {red or 'SURVIVES'}", flush=True)
    return survivors > 0


if __name__ == "__main__":
    sys.exit(main())
