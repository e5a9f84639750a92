// Every operation, compiled by the target file that includes this: all names are local to it, so that the linker
// cannot replace one target's function by another's.

namespace {
#include "vector/types.hpp"
#include SOFTLY_VECTOR_FILE
#include "elementary.hpp"
#include "row.hpp"
#include "near.hpp"
//
#include "softmax.hpp"
#include "log_softmax.hpp"
#include "logsumexp.hpp"
#include "short_rows.hpp"
//
#include "entmax.hpp"
#include "gradient.hpp"
#include "exact_sum.hpp"
#include "sigmoid.hpp"
#include "temperature_statistics.hpp"

// Batches of short rows by of_batch, where they fit and are near; all others by of_row.
template <class T, class OfBatch, class OfRow>
INLINE void each_row(const Rows& r, long begin, long end, OfBatch of_batch, OfRow of_row) {
    constexpr int width = lanes<T>;
    const T* scores = static_cast<const T*>(r.scores);
    const bool is_short = !r.offsets && r.columns <= short_columns && r.temperature_stride == 0 &&
                          is_near(T(0), *r.temperature);
    long i = begin;
    while (i < end) {
        // A batch reads up to 16 entries beyond its rows.
        if (is_short && i + width <= end && (i + width) * r.columns + short_columns <= r.rows * r.columns) {
            ShortRows<T> batch(scores + i * r.columns, r.columns);
            if (batch.are_near(*r.temperature)) {
                *r.temperature == 1 ? of_batch(i, batch, No{}) : of_batch(i, batch, Yes{});
                i += width;
                continue;
            }
        }
        const long stop = is_short && i + width <= end ? i + width : end;
        for (; i < stop; ++i) of_row(i, r.row(i));
    }
}

template <class T>
void softmax_rows(const Rows& r, long begin, long end, double*) {
    const T* scores = static_cast<const T*>(r.scores);
    T* out = static_cast<T*>(r.out);
    each_row<T>(
        r, begin, end,
        [&](long i, auto& batch, auto scaled) {
            softmax_of<T, scaled.value>(batch, out + i * r.columns, *r.temperature);
        },
        [&](long i, Span row) {
            softmax_row(scores + row.begin, out + row.begin, row.size, r.temperature_of(i), Empty(r.empty));
        });
}

template <class T>
void log_softmax_rows(const Rows& r, long begin, long end, double*) {
    const T* scores = static_cast<const T*>(r.scores);
    T* out = static_cast<T*>(r.out);
    each_row<T>(
        r, begin, end,
        [&](long i, auto& batch, auto scaled) {
            log_softmax_of<T, scaled.value>(batch, out + i * r.columns, *r.temperature);
        },
        [&](long i, Span row) {
            log_softmax_row(scores + row.begin, out + row.begin, row.size, r.temperature_of(i), Empty(r.empty));
        });
}

template <class T>
void logsumexp_rows(const Rows& r, long begin, long end, double*) {
    const T* scores = static_cast<const T*>(r.scores);
    T* out = static_cast<T*>(r.out);
    each_row<T>(
        r, begin, end,
        [&](long i, auto& batch, auto scaled) { logsumexp_of<T, scaled.value>(batch, out + i, *r.temperature); },
        [&](long i, Span row) {
            out[i] = logsumexp_row(scores + row.begin, row.size, r.temperature_of(i), Empty(r.empty));
        });
}

template <class T>
void entmax_rows(const Rows& r, long begin, long end, double* scratch) {
    for (long i = begin; i < end; ++i) {
        const Span row = r.row(i);
        entmax_row(static_cast<const T*>(r.scores) + row.begin, static_cast<T*>(r.out) + row.begin, row.size, r.alpha,
                   r.temperature_of(i), Empty(r.empty), scratch);
    }
}

template <class T>
void jacobian_product_rows(const Rows& r, long begin, long end, double* scratch) {
    for (long i = begin; i < end; ++i) {
        const Span row = r.row(i);
        jacobian_product_row(static_cast<const T*>(r.scores) + row.begin, static_cast<const T*>(r.vector) + row.begin,
                             static_cast<T*>(r.out) + row.begin, row.size, r.alpha, r.temperature_of(i), scratch);
    }
}

template <class T>
void log_jacobian_product_rows(const Rows& r, long begin, long end, double*) {
    for (long i = begin; i < end; ++i) {
        const Span row = r.row(i);
        log_jacobian_product_row(static_cast<const T*>(r.scores) + row.begin, static_cast<const T*>(r.vector) + row.begin,
                                 static_cast<T*>(r.out) + row.begin, row.size, r.temperature_of(i));
    }
}

template <class T>
void constant_rows(const Rows& r, long begin, long end, double*) {
    for (long i = begin; i < end; ++i) {
        const Span row = r.row(i);
        static_cast<T*>(r.out)[i] =
            is_constant_row(static_cast<const T*>(r.scores) + row.begin, static_cast<const T*>(r.vector) + row.begin,
                            row.size, T(r.alpha));
    }
}

template <class T>
void sigmoid_rows(const Rows& r, long begin, long end, double*) {
    elementwise<T>(r, begin, end, Sigmoid{});
}

template <class T>
void log_sigmoid_rows(const Rows& r, long begin, long end, double*) {
    elementwise<T>(r, begin, end, LogSigmoid{});
}

template <class T>
long temperature_statistics_rows(const TemperatureProblem& p, long begin, long end, double* scratch, long long* sums) {
    return temperature_statistics<T>(p, begin, end, scratch, reinterpret_cast<ExactSum*>(sums));
}

#define SOFTLY_BOTH(kernel) {kernel<float>, kernel<double>}
constexpr Kernels all_kernels(const char* target) {
    return {target,
            SOFTLY_BOTH(softmax_rows),
            SOFTLY_BOTH(log_softmax_rows),
            SOFTLY_BOTH(logsumexp_rows),
            SOFTLY_BOTH(entmax_rows),
            SOFTLY_BOTH(jacobian_product_rows),
            SOFTLY_BOTH(log_jacobian_product_rows),
            SOFTLY_BOTH(constant_rows),
            SOFTLY_BOTH(sigmoid_rows),
            SOFTLY_BOTH(log_sigmoid_rows),
            SOFTLY_BOTH(temperature_statistics_rows)};
}
}  // namespace
