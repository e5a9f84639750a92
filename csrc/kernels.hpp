// The table of kernels that each instruction set fills, and what they take.
#pragma once

#include <atomic>
#include <cstddef>

namespace softly {

enum class Dtype : int { float32, float64, float16, bfloat16 };

struct Span {  // of scores: where a row begins, and how many entries it has
    long begin, size;
};

struct Rows {  // contiguous scores, and one temperature for all (stride 0) or one a row (stride 1)
    const void* scores;
    void* out;
    long rows;
    long columns;              // of a row; with offsets of a head, which holds all its segments
    const long long* offsets;  // null, or the bounds of the segments of each head: from 0 to columns, not decreasing
    long segments;
    const double* temperature;
    long temperature_stride;
    int empty;
    double alpha;
    long inner;    // how far the entries of a row stand apart: 1, or rows are (outer, inner) and scores (outer, columns, inner)
    long longest;  // row or segment
    const void* vector;  // of derivatives: like the scores, in whose place stands what the map gave
    const long long* labels;  // of losses: one a row, below 0 where it is ignored; out, the gradient, may be null
    const double* scale;      // of the gradient: for all (stride 0) or one a row (stride 1)
    long scale_stride;
    void* losses;  // one a row; of half precisions floats
    std::atomic<bool>* any;  // of constant_rows, whose out may be null: set if there is one

    // With inner > 1 in entries of all inner rows.
    Span row(long i) const {
        if (!offsets) return {i * columns, columns};
        const long head = i / segments, segment = i - head * segments;
        return {head * columns + (long)offsets[segment], (long)(offsets[segment + 1] - offsets[segment])};
    }
    double temperature_of(long i) const { return temperature[i * temperature_stride]; }

    // What comes once a row, of rows from the i-th on; losses are floats.
    Rows rest_from(long i) const {
        Rows rest = *this;
        rest.temperature += i * temperature_stride;
        if (labels) {
            rest.labels += i;
            rest.scale += i * scale_stride;
            rest.losses = static_cast<float*>(losses) + i;
        }
        return rest;
    }
};

// Columns that are transposed together: some 64k entries.
inline long tile_columns(const Rows& r) {
    const long fit = (1 << 16) / (r.longest + 1) / 16 * 16;
    return fit < 16 ? 16 : fit > 256 ? 256 : fit;
}
inline long tile_count(const Rows& r) {
    return r.rows / r.inner * ((r.inner + tile_columns(r) - 1) / tile_columns(r));
}
inline long tile_scratch(const Rows& r) { return r.inner > 1 ? tile_columns(r) * r.longest + 16 : 0; }

// Rows of half precision that are widened together.
inline long half_block_rows(const Rows& r) {
    const long fit = 8192 / (r.columns + 1) / 16 * 16;
    return fit < 16 ? 16 : fit;
}
inline long half_scratch(const Rows& r) { return (half_block_rows(r) * (r.columns + 1) + 1) / 2; }

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

// Rows [begin, end), or tiles where inner > 1. The scratch memory has tile_scratch() doubles and, of the sparse maps,
// sparse_scratch(longest row) more; of half precisions half_scratch(); that of the temperature kernel temperature_scratch(); sums have fold_count x (1 + 3 betas) x 67 chunks.
using RowsKernel = void (*)(const Rows&, long begin, long end, double* scratch);
using TemperatureKernel = long (*)(const TemperatureProblem&, long begin, long end, double* scratch, long long* sums);

struct Kernels {
    const char* target;
    // By Dtype; null: none.
    RowsKernel softmax[4], log_softmax[4], logsumexp[4], entmax[4];
    RowsKernel jacobian_product[4], log_jacobian_product[4], constant_rows[4];
    RowsKernel cross_entropy[4];
    RowsKernel sigmoid[4], log_sigmoid[4];
    TemperatureKernel temperature_statistics[2];
};

// The largest error of each operation, over every score and temperature. softmax, log_softmax, sigmoid, log_sigmoid,
// cross_entropy and its gradient: in ULPs of the result. logsumexp: of max(|result|, |largest score / T|). sparsemax, entmax: of 1.
struct Bound {
    const char* operation;
    double ulp;
};
constexpr Bound bounds[] = {{"softmax", 2},   {"log_softmax", 2}, {"logsumexp", 2},   {"sparsemax", 2},
                            {"entmax", 4}, {"sigmoid", 2},     {"log_sigmoid", 2},
                            {"cross_entropy", 2}, {"cross_entropy_gradient", 3}};

constexpr long sparse_scratch(long longest) { return 2 * (longest + 16); }
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
