// The table of kernels that each instruction set fills, and what they take.
#pragma once

#include <atomic>
#include <cstddef>

#include "graph_kernels.hpp"
#include "regression_kernels.hpp"

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

// Columns that are copied or transposed together: some 64k entries.
constexpr long most_columns = 256;
inline long tile_columns(const Rows& r) {
    const long fit = (1 << 16) / (r.longest + 1) / 16 * 16;
    return fit < 16 ? 16 : fit > most_columns ? most_columns : fit;
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

struct Plane {  // of a matrix with one entry for each query and key: a stride of 0 where one serves all
    const long long* of;  // which of the matrices serves a matrix of queries
    long size, row, column;
    long at(long matrix, long query, long key) const { return (long)of[matrix] * size + query * row + key * column; }
};

struct Attention {  // matrices of queries (queries, width), of keys (keys, width) and of values (keys, value_width)
    const void *query, *key, *value;
    void* out;
    void* logsumexp;  // one a query, or null; of alpha 1
    const long long *key_of, *value_of;  // which of the matrices serves a matrix of queries
    long matrices, queries, keys, width, value_width;
    long visible;  // query i sees the keys up to i + visible; all of them from `keys` on
    const unsigned char* where;  // or null
    const void* bias;            // or null
    Plane where_plane, bias_plane;
    double scale, alpha;
    const double* temperature;
    long temperature_stride;
    int empty;
};
constexpr long attention_queries = 48, attention_keys = 64;  // of a block
inline long attention_blocks(const Attention& a) { return (a.queries + attention_queries - 1) / attention_queries; }
constexpr long attention_row(long keys) { return (keys + attention_keys - 1) / attention_keys * attention_keys; }
constexpr long attention_stride(long value_width) { return (value_width + 15) / 16 * 16; }
inline long attention_scratch(const Attention& a) {
    const long rows = a.alpha == 1 ? 0 : attention_queries * attention_row(a.keys) + 2 * (a.keys + 16);
    return rows + attention_queries * (a.width + attention_keys + 2 * attention_stride(a.value_width) + 4) +
           attention_keys * a.value_width + 16;  // entries are no longer than doubles; 64 bytes to begin at a multiple of 64
}

// Rows [begin, end), or tiles where inner > 1. The scratch memory has tile_scratch() doubles and, of the sparse maps,
// sparse_scratch(longest row) more; of half precisions half_scratch(); that of the temperature kernel temperature_scratch(); sums have fold_count x (1 + 3 betas) x 67 chunks.
using RowsKernel = void (*)(const Rows&, long begin, long end, double* scratch);
// Blocks of queries [begin, end), of each matrix attention_blocks(). Returns the first query with nothing possible, or -1.
using AttentionKernel = long (*)(const Attention&, long begin, long end, double* scratch);
using TemperatureKernel = long (*)(const TemperatureProblem&, long begin, long end, double* scratch, long long* sums);

struct Kernels {
    const char* target;
    // By Dtype; null: none.
    RowsKernel softmax[4], log_softmax[4], logsumexp[4], entmax[4];
    RowsKernel jacobian_product[4], log_jacobian_product[4], constant_rows[4];
    RowsKernel cross_entropy[4];
    RowsKernel sigmoid[4], log_sigmoid[4], sigmoid_gradient[4], log_sigmoid_gradient[4];
    TemperatureKernel temperature_statistics[2];
    GraphKernel graph_averages[2][2], graph_target_gradients[2][2], graph_source_gradients[2][2];  // is_additive, Dtype
    AttentionKernel attention[2];
    RegressionKernel kernel_regression[2];
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
// A tile of a target's rows, or its weights and slopes twice, and what a row of them needs.
constexpr long graph_scratch(const Graph& g) {
    const long tile = 16 * g.longest > 1 << 16 ? 16 * g.longest : 1 << 16, both = 2 * g.heads * g.longest;
    return (tile > both ? tile : both) + 16 + sparse_scratch(g.longest);
}
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
