// What the kernel of kernel regression takes.
#pragma once

namespace softly {

struct Regression {  // all contiguous
    const void *query, *data, *values;  // (queries, width), (points, width), (points, outputs)
    const double* rate;                 // (width): differences times it are squared and added up to -log of the kernel
    long queries, points, width, outputs;
    bool leave_out;  // query i does not see point i
    void *out, *sharing, *nearest;  // (queries, outputs); one a query: sum of squared weights, -log2 of the largest kernel
};

constexpr long regression_group = 64;  // queries: whole vectors of every instruction set, twice
constexpr long regression_scratch(const Regression& r) { return regression_group * (r.width + 128 + r.outputs); }

// Groups of queries [begin, end).
using RegressionKernel = void (*)(const Regression&, long begin, long end, double* scratch);

}  // namespace softly
