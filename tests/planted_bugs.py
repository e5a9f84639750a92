"""Bugs planted in a copy of the compiled core, one at a time: a test must turn red for each.

`python tests/planted_bugs.py` prints which test did, and exits with 1 if a bug survives.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import core_builds
import semantics


@dataclass(frozen=True)
class Bug:
    """`wrong` in place of an expression or statement, `right`, in a file of csrc/; and the test that must see it."""

    name: str
    file: str
    right: str
    wrong: str
    seen_by: str = "test_semantics.py::test_table"


BUGS: tuple[Bug, ...] = (
    Bug(
        "log_softmax adds the log of the sum", "log_softmax.hpp", "(z - maximum_score) - hi", "(z - maximum_score) + hi"
    ),
    Bug("the tail of a row is dropped", "row.hpp", "n - i - part * lanes<T>", "0"),
    Bug(
        "half the lanes are summed twice",
        "vector/types.hpp",
        "(Int<Scalar<V>>)(i ^ distance)",
        "(Int<Scalar<V>>)(i ^ 1)",
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
        "i < half && i + half < n",
        "i < half && i + half < n - 1",
    ),
    Bug("log forgets the low part of the sum", "elementary.hpp", "u_lo * inverse_power", "u_lo * 0.0"),
    Bug(
        "the last block is reduced from the one before",
        "near.hpp",
        "done + 2 * block <= n ? done + block : done",
        "done + 3 * block <= n ? done + block : done",
        seen_by="test_accuracy.py::test_within_the_bounds",
    ),
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
        "if (begin >= share.end) break;",
        "if (begin + task.grain > share.end) break;",
    ),
    Bug(
        "the support of entmax is one short",
        "support.hpp",
        "return lanes_set(nan) ? -1 : count;",
        "return lanes_set(nan) ? -1 : count - (count > 2);",
    ),
    Bug("sparsemax keeps entries at the bound", "entmax.hpp", "return v > 0.0 ? v : Doubles{};", "return v;"),
    Bug(
        "large vectors are not scaled back in the gradient of sigmoid",
        "sigmoid_gradient.hpp",
        "return is_large ? g : g * unscale;",
        "return g * unscale;",
        "test_derivative_kernels.py::test_gradients_of_sigmoids_are_within_four_ulps",
    ),
    Bug(
        "log_sigmoid moves where its score is -inf",
        "sigmoid_gradient.hpp",
        "(z == -__builtin_inf() ? Doubles{} : broadcast(scale))",
        "broadcast(scale)",
        "test_derivative_kernels.py::test_gradients_of_sigmoids_are_within_four_ulps",
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
        "store_first(out + row * n + b * width, (int)(left < width ? left : width), column[b * width + row]);",
        "store_first(out + row * n + b * width, width, column[b * width + row]);",
        "test_layouts.py::test_large_calls_give_the_bits_of_small_ones",
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
        "test_accuracy.py::test_within_the_bounds",
    ),
    Bug(
        "a tiny rest beside the leader of a batch's row is lost",
        "batch.hpp",
        "lost |= lanes_set((DoubleBits)(sum.hi < rest_is_kept)) << half * lanes<double>;",
        "",
        "test_layouts_segments.py::TestSegments::test_temperatures_masks_and_empty",
    ),
    Bug("a coefficient of exp by eighths of a power", "near_exp.hpp", "0x1.557216p-3f", "0x1.5d7216p-3f"),
    Bug("an eighth of a power of two", "near_exp.hpp", "0x57859202", "0x57859206"),
    Bug(
        "a batch's rows are shifted as its first",
        "near_exp.hpp",
        "row.offset = broadcast(offset[lane]);",
        "row.offset = broadcast(offset[0]);",
        "test_layouts.py::TestLayouts::test_batches",
    ),
    Bug("a long row keeps its first chunk alone", "near.hpp", "begin += chunk_columns", "begin += n"),
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
        "",
    ),
    Bug("ties at +inf share with everyone", "row.hpp", "T(1) / T(count_infinite(scores, n))", "T(1) / T(n)"),
    Bug(
        "the product with the Jacobian is not measured from the leader",
        "gradient.hpp",
        "(double)v[first_of(p, n, [&](Vector<T> x) { return x == largest; })]",
        "0",
        "test_derivative_kernels.py::test_products_are_within_four_ulps_of_their_terms",
    ),
    Bug(
        "a batch of products is not measured from its leaders",
        "softmax_gradient.hpp",
        "needs_pivot[i] || is_limit(temperature)",
        "is_limit(temperature)",
        "test_derivative_kernels.py::test_products_are_within_four_ulps_of_their_terms",
    ),
    Bug(
        "what has no share enters the product",
        "gradient.hpp",
        "q == 0.0 ? Doubles{} : q * d",
        "q * d",
        "test_derivative_kernels.py::test_what_has_no_share_never_matters",
    ),
    Bug(
        "the leader's entry of log_softmax's product forgets its own share",
        "gradient.hpp",
        "-expm1((double)largest) * first",
        "first",
        "test_derivative_kernels.py::test_log_products_are_within_four_ulps_of_their_terms",
    ),
    Bug(
        "what stands apart in log_softmax's product is summed with the others",
        "gradient.hpp",
        "is_apart ? Vector<T>{} : values",
        "values",
        "test_derivative_kernels.py::test_log_products_are_within_four_ulps_of_their_terms",
    ),
    Bug(
        "a row at +inf moves with its scores",
        "gradient.hpp",
        "return scores[i] - scores[i] != 0;",
        "return scores[i] == -scores[i] && scores[i] != 0;",
        "test_derivative_kernels.py::test_rows_that_do_not_move",
    ),
    Bug(
        "the gradient of a fit has the wrong sign",
        "temperature_statistics.hpp",
        "mean - d_y",
        "d_y - mean",
        "test_semantics.py::test_temperature_fit",
    ),
    Bug(
        "statistics forget the weights",
        "temperature_statistics.hpp",
        "problem.weights ? problem.weights[row] : 1",
        "1",
        "test_semantics.py::test_temperature_fit",
    ),
    Bug(
        "exact sums drop the carry of a mantissa",
        "exact_sum.hpp",
        "mantissa >> (31 - shift) >> 1",
        "mantissa >> (31 - shift) >> 2",
        "test_semantics.py::test_temperature_fit",
    ),
    Bug(
        "the label's slope loses what is left beside it",
        "cross_entropy.hpp",
        "((widened(power, half) - sum.hi) - sum.lo)",
        "(widened(power, half) - sum.hi)",
        "test_cross_entropy_kernel.py::test_within_the_bounds",
    ),
    Bug(
        "an ignored row keeps its gradient",
        "cross_entropy.hpp",
        "losses.clear_ignored(e, n);",
        "",
        "test_cross_entropy_kernel.py::test_within_the_bounds",
    ),
    Bug(
        "edges without a share are read",
        "graph.hpp",
        "if (w == 0) continue;",
        "",
        "test_graph_attention.py::test_what_does_not_count_never_leaks",
    ),
    Bug(
        "a point sees itself where it is left out",
        "kernel_regression.hpp",
        "stored[own] = T(__builtin_inf());",
        "",
        "test_kernel_regression.py::test_the_expression_agrees_with_the_kernel",
    ),
    Bug(
        "one scale for all rows",
        "cross_entropy.hpp",
        "each[row] = scale[row * scale_stride];",
        "each[row] = scale[0];",
        "test_cross_entropy_kernel.py::test_within_the_bounds",
    ),
    Bug(
        "top_p counts what top_k left out",
        "sampling.hpp",
        "z[i] >= cut ? p[i] : 0",
        "p[i]",
        "test_sampling.py::test_draws_follow_the_distribution_and_tell_its_logarithm",
    ),
    Bug(
        "a draw forgets what is before its block",
        "sampling.hpp",
        "before[at]",
        "0",
        "test_sampling.py::test_the_kernel_draws_what_the_definition_draws",
    ),
    Bug(
        "what was averaged before a larger score is kept as it was",
        "attention.hpp",
        "store(factor + v, beside);",
        "store(factor + v, broadcast(T(1)));",
        "test_attention.py::test_values_are_those_of_the_definition",
    ),
    Bug(
        "a query sees one key of the future",
        "attention.hpp",
        "first + a.visible",
        "first + a.visible + 1",
        "test_attention.py::test_values_are_those_of_the_definition",
    ),
)
if importlib.util.find_spec("jax"):
    BUGS += (
        Bug(
            "XLA's threads flush subnormal results",
            "xla_rows.hpp",
            "std::fesetenv(FE_DFL_ENV);",
            ";",
            seen_by="test_jax_kernels.py::test_subnormal_results_are_kept_and_xla_flushes_its_own_as_before",
        ),
        Bug(
            "XLA goes on with our arithmetic",
            "xla_rows.hpp",
            "std::fesetenv(&before);",
            ";",
            seen_by="test_jax_kernels.py::test_subnormal_results_are_kept_and_xla_flushes_its_own_as_before",
        ),
        Bug(
            "all rows have the alpha of the first",
            "xla_rows.hpp",
            "number[end] == of_run",
            "true",
            seen_by="test_jax_kernels.py::test_the_expression_of_each_operation_agrees",
        ),
        Bug(
            "bad temperatures in programs of JAX pass",
            "xla_rows.hpp",
            "!valid && i < rows",
            "!valid && i < 0",
            seen_by="test_jax_kernels.py::test_bad_temperatures_and_alphas_give_nan_in_their_rows",
        ),
    )


def red_tests() -> Iterator[tuple[str, str]]:
    """(name of the bug, the first red case of its test) for each, "" where it survives.

    One core holds them all, told by its environment which one counts; AssertionError if a test is red without any.
    """
    target = next(name for name in ("avx2", "baseline") if name in semantics.targets())
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        directory = Path(name)
        source = core_builds.copy_sources(directory / "source", {target})
        for number, bug in enumerate(BUGS, 1):
            core_builds.plant(source, number, bug.file, bug.right, bug.wrong)
        packages = core_builds.build(source, directory)

        def red_case(number: int, tests: Collection[str]) -> str:
            options = ("-x", "--tb=no", "-rf", "-k", "not torch and not every_target")
            status, printed = core_builds.pytest(packages, tests, *options, SOFTLY_TARGET=target, PLANTED=str(number))
            if status == 0:
                return ""
            failed = re.search(r"^FAILED \S*?([\w.]+::\S.*?)( - |$)", printed, re.M)
            assert failed, f"exit status {status}: {printed[-3000:]}"
            return failed[1]

        without = pool.submit(red_case, 0, sorted({bug.seen_by for bug in BUGS}))
        found = [pool.submit(red_case, number, [bug.seen_by]) for number, bug in enumerate(BUGS, 1)]
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
