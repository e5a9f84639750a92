// The table of kernels that each instruction set fills, and what they take.
#pragma once

#include <cstddef>

namespace softly {

enum class Dtype : int { float32, float64 };

struct Rows {  // contiguous rows of scores, and one temperature for all (stride 0) or one a row (stride 1)
    const void* scores;
    void* out;
    long columns;
    const double* temperature;
    long temperature_stride;
    int empty;
};

struct TemperatureProblem {
    const void* scores;
    const long long* labels;      // one a row, checked to lie in [0, classes)
    const double* weights;        // or null: 1
    const unsigned char* folds;   // or null: 0
    const double* beta;
    long classes;
    int betas, fold_count;
};

constexpr int exact_sum_chunks = 67;
constexpr int block_rows = 128;  // rows whose temperature statistics are summed at a time

// Rows [begin, end). Sums have fold_count x (1 + 3 betas) x 67 chunks; the scratch memory of the temperature kernel
// has temperature_scratch() doubles.
using RowsKernel = void (*)(const Rows&, long begin, long end);
using TemperatureKernel = long (*)(const TemperatureProblem&, long begin, long end, double* scratch, long long* sums);

struct Kernels {
    const char* target;
    RowsKernel softmax[2], log_softmax[2], logsumexp[2];  // by Dtype
    TemperatureKernel temperature_statistics[2];
};

constexpr long temperature_scratch(long classes, int betas) { return 8 * classes + (1 + 3 * betas) * block_rows; }

extern const Kernels kernels_baseline;
#if defined(__x86_64__)
extern const Kernels kernels_avx2, kernels_avx512;
#endif

struct Target {
    const Kernels* kernels;
    bool available;
};
// Best first.
const Target* targets(int* count);
const Kernels* select_target(const char* name);  // null name: the best; null result: not available

}  // namespace softly
