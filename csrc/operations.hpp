// Every operation, compiled by the target file that includes this: all names are local to it, so that the linker
// cannot replace one target's function by another's.

namespace {
#include "vector/types.hpp"
#include SOFTLY_VECTOR_FILE
#include "elementary.hpp"
#include "row.hpp"
#include "near_exp.hpp"
#include "near.hpp"
#include "transpose.hpp"
//
#include "softmax.hpp"
#include "log_softmax.hpp"
#include "logsumexp.hpp"
#include "batch.hpp"
#include "short_rows.hpp"
#include "medium_rows.hpp"
#include "packed.hpp"
#include "columns.hpp"
//
#include "support.hpp"
#include "entmax.hpp"
#include "gradient.hpp"
#include "softmax_gradient.hpp"
#include "cross_entropy.hpp"
#include "exact_sum.hpp"
#include "sigmoid.hpp"
#include "sigmoid_gradient.hpp"
#include "half.hpp"
#include "temperature_statistics.hpp"
#include "attention_tiles.hpp"
#include "attention.hpp"

// Batches of rows by of_batch(batch, out, scaled, i, count), which says what it left undone of rows i to i + count; all others by
// of_row(i, row).
// Short rows are read up to 16 entries beyond the last: at the end of the scores, from a copy.
template <class T, class Batch, class OfBatch, class OfRow>
INLINE void each_batch(const Rows& r, long begin, long end, long results, OfBatch of_batch, OfRow of_row) {
    constexpr long width = lanes<T>, fewest = 3;
    constexpr bool beyond = std::is_same_v<Batch, ShortRows<T>>;
    const T* scores = static_cast<const T*>(r.scores);
    T* out = static_cast<T*>(r.out);
    for (long i = begin; i < end; i += width) {
        const long count = end - i < width ? end - i : width;
        const auto run = [&](Batch& batch, T* to) {
            return *r.temperature == 1 ? of_batch(batch, to, No{}, i, (int)count) : of_batch(batch, to, Yes{}, i, (int)count);
        };
        unsigned undone = (1u << count) - 1;
        if (count == width && (!beyond || (i + width) * r.columns + short_columns <= r.rows * r.columns)) {
            Batch batch(scores + i * r.columns, r.columns);
            if (all_near<T>(batch.largest, *r.temperature)) undone = run(batch, out + i * results);
        } else if (beyond && count >= fewest) {
            T copy[(width + 1) * short_columns] = {}, result[width * short_columns];
            __builtin_memcpy(copy, scores + i * r.columns, count * r.columns * sizeof(T));
            Batch batch(copy, r.columns);
            if (all_near<T>(batch.largest, *r.temperature)) {
                undone = run(batch, result);
                if (results) __builtin_memcpy(out + i * results, result, count * results * sizeof(T));
            }
        }
        for (; undone; undone &= undone - 1) of_row(i + __builtin_ctz(undone), r.row(i + __builtin_ctz(undone)));
    }
}

template <class T, class Batch, class OfBatch, class OfRow>
__attribute__((noinline)) void run_places(const Rows& r, Places<T>& places, OfBatch of_batch, OfRow of_row) {
    if (!places.count) return;
    unsigned undone = (1u << places.count) - 1;
    places.fill_up();
    Batch batch(static_cast<const T*>(r.scores), places);
    T* out = static_cast<T*>(r.out);
    if (all_near<T>(batch.largest, *r.temperature))
        undone &= *r.temperature == 1 ? of_batch(batch, out, No{}, 0, 0) : of_batch(batch, out, Yes{}, 0, 0);
    for (; undone; undone &= undone - 1) {
        const int lane = __builtin_ctz(undone);
        of_row(places.row[lane], {places.begin[lane], places.size[lane]});
    }
    places.count = 0;
}

// Short segments wait for others of their size, longer ones for any, until they fill a batch.
template <class T, class OfBatch, class OfRow>
INLINE void each_segment(const Rows& r, long begin, long end, OfBatch of_batch, OfRow of_row) {
    BySize<T> few(lanes<T>);
    Places<T> more;
    const auto run_few = [&](Places<T>& places) { run_places<T, ShortRows<T, true>>(r, places, of_batch, of_row); };
    for (long i = begin; i < end; ++i) {
        const Span row = r.row(i);
        if (row.size == 0 || row.size > medium_columns) {
            of_row(i, row);
        } else if (row.size <= short_columns) {
            few.add(i, row, run_few);
        } else {
            more.add(i, row);
            if (more.count == lanes<T>) run_places<T, MediumRows<T>>(r, more, of_batch, of_row);
        }
    }
    few.finish(run_few);
    run_places<T, MediumRows<T>>(r, more, of_batch, of_row);
}

// What to fetch ahead: the next rows, unless they are another thread's.
template <class T>
INLINE const T* next_row(const T* scores, Span row, bool follows) {
    return scores + row.begin + (!follows ? 0 : row.size > fewest_ahead<T> ? row.size : fewest_ahead<T>);
}

template <class T, bool segments, class OfBatch, class OfRow>
INLINE void each_row(const Rows& r, long begin, long end, long results, OfBatch of_batch, OfRow of_row) {
    const bool in_batches = r.temperature_stride == 0 && is_near(T(0), *r.temperature);
    if constexpr (segments)
        if (in_batches && r.offsets) return each_segment<T>(r, begin, end, of_batch, of_row);
    if (in_batches && r.columns <= short_columns)
        each_batch<T, ShortRows<T>>(r, begin, end, results, of_batch, of_row);
    else if (in_batches && r.columns <= medium_columns)
        each_batch<T, MediumRows<T>>(r, begin, end, results, of_batch, of_row);
    else
        for (long i = begin; i < end; ++i) of_row(i, r.row(i));
}

template <class T>
void softmax_rows(const Rows& r, long begin, long end, double* scratch) {
    if (r.inner > 1)
        return each_tile<T, false>(r, begin, end, scratch, softmax_rows<T>, [&](auto& batch, T* to, long stride) {
            const unsigned undone = *r.temperature == 1 ? batch.template to_softmax<false>(1)
                                                        : batch.template to_softmax<true>(*r.temperature);
            batch.store_strided(to, stride);
            return undone;
        });
    const T* scores = static_cast<const T*>(r.scores);
    T* out = static_cast<T*>(r.out);
    each_row<T, true>(
        r, begin, end, r.columns,
        [&](auto& batch, T* to, auto scaled, long, int) { return batch.template softmax<scaled.value>(to, *r.temperature); },
        [&](long i, Span row) {
            softmax_row(scores + row.begin, out + row.begin, row.size, next_row(scores, row, i + 1 < end), r.temperature_of(i),
                        Empty(r.empty));
        });
}

template <class T>
void log_softmax_rows(const Rows& r, long begin, long end, double* scratch) {
    if (r.inner > 1)
        return each_tile<T, false>(r, begin, end, scratch, log_softmax_rows<T>, [&](auto& batch, T* to, long stride) {
            const unsigned undone = *r.temperature == 1 ? batch.template to_log_softmax<false>(1)
                                                        : batch.template to_log_softmax<true>(*r.temperature);
            batch.store_strided(to, stride);
            return undone;
        });
    const T* scores = static_cast<const T*>(r.scores);
    T* out = static_cast<T*>(r.out);
    each_row<T, true>(
        r, begin, end, r.columns,
        [&](auto& batch, T* to, auto scaled, long, int) { return batch.template log_softmax<scaled.value>(to, *r.temperature); },
        [&](long i, Span row) {
            log_softmax_row(scores + row.begin, out + row.begin, row.size, next_row(scores, row, i + 1 < end), r.temperature_of(i),
                        Empty(r.empty));
        });
}

template <class T>
void logsumexp_rows(const Rows& r, long begin, long end, double* scratch) {
    if (r.inner > 1)
        return each_tile<T, true>(r, begin, end, scratch, logsumexp_rows<T>, [&](auto& batch, T* to, long) {
            return *r.temperature == 1 ? batch.template logsumexp<false>(to, 1)
                                       : batch.template logsumexp<true>(to, *r.temperature);
        });
    const T* scores = static_cast<const T*>(r.scores);
    T* out = static_cast<T*>(r.out);
    each_row<T, true>(
        r, begin, end, 1,
        [&](auto& batch, T* to, auto scaled, long, int) { return batch.template logsumexp<scaled.value>(to, *r.temperature); },
        [&](long i, Span row) {
            out[i] = logsumexp_row(scores + row.begin, row.size, next_row(scores, row, i + 1 < end), r.temperature_of(i), Empty(r.empty));
        });
}

template <class T>
void entmax_rows(const Rows& r, long begin, long end, double* scratch) {
    if (r.inner > 1) return each_tile<T, false>(r, begin, end, scratch, entmax_rows<T>, No{});
    for (long i = begin; i < end; ++i) {
        const Span row = r.row(i);
        entmax_row(static_cast<const T*>(r.scores) + row.begin, static_cast<T*>(r.out) + row.begin, row.size, r.alpha,
                   r.temperature_of(i), Empty(r.empty), scratch);
    }
}

template <class T>
void jacobian_product_rows(const Rows& r, long begin, long end, double* scratch) {
    if constexpr (sizeof(T) == 4)
        if (r.alpha == 1) return softmax_gradient_rows(r, begin, end, scratch);
    for (long i = begin; i < end; ++i) {
        const Span row = r.row(i);
        jacobian_product_row(static_cast<const T*>(r.scores) + row.begin, static_cast<const T*>(r.vector) + row.begin,
                             static_cast<T*>(r.out) + row.begin, row.size, r.alpha, r.temperature_of(i), scratch);
    }
}

template <class T>
void log_jacobian_product_rows(const Rows& r, long begin, long end, double*) {
    const Near<T, false> exp_of(Vector<T>{}, 1);
    for (long i = begin; i < end; ++i) {
        const Span row = r.row(i);
        log_jacobian_product_row(static_cast<const T*>(r.scores) + row.begin, static_cast<const T*>(r.vector) + row.begin,
                                 static_cast<T*>(r.out) + row.begin, row.size, r.temperature_of(i), exp_of);
    }
}

template <class T>
void constant_rows(const Rows& r, long begin, long end, double*) {
    const T* scores = static_cast<const T*>(r.scores);
    const T* result = static_cast<const T*>(r.vector);
    T* out = static_cast<T*>(r.out);
    for (long i = begin; i < end; ++i) {
        const Span row = r.row(i);
        const bool constant = is_constant_row(scores + row.begin, result + row.begin, row.size, T(r.alpha));
        if (out) out[i] = constant;
        if (constant && r.any) r.any->store(true, std::memory_order_relaxed);
    }
}

template <class T>
void cross_entropy_rows(const Rows& r, long begin, long end, double*) {
    const T* scores = static_cast<const T*>(r.scores);
    T* out = static_cast<T*>(r.out);
    const auto losses_of_rows = [&](long i, int count) {
        return Losses<T>{r.labels + i, r.scale + i * r.scale_stride, r.scale_stride, static_cast<T*>(r.losses) + i,
                         count, r.temperature_of(i)};
    };
    each_row<T, false>(
        r, begin, end, out ? r.columns : 0,
        [&](auto& batch, T* to, auto scaled, long i, int count) {
            return cross_entropy<T, scaled.value>(batch, out ? to : nullptr, losses_of_rows(i, count));
        },
        [&](long i, Span row) {
            cross_entropy_row(scores + row.begin, out ? out + row.begin : nullptr, row.size, next_row(scores, row, i + 1 < end),
                              losses_of_rows(i, 1));
        });
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

#include "graph.hpp"
#include "kernel_regression.hpp"

#define SOFTLY_BOTH(kernel) {kernel<float>, kernel<double>}
#define SOFTLY_ALL(kernel, ...)                                                          \
    {kernel<float>, kernel<double>, half_rows<Float16, kernel<float>, ##__VA_ARGS__>, \
     half_rows<BFloat16, kernel<float>, ##__VA_ARGS__>}
#define SOFTLY_GRAPH(kernel)                                             \
    {{kernel<float, DotProduct<float>>, kernel<double, DotProduct<double>>}, \
     {kernel<float, LeakySum<float>>, kernel<double, LeakySum<double>>}}
constexpr Kernels all_kernels(const char* target) {
    return {target,
            SOFTLY_ALL(softmax_rows),
            SOFTLY_ALL(log_softmax_rows),
            SOFTLY_ALL(logsumexp_rows, true),
            SOFTLY_BOTH(entmax_rows),
            SOFTLY_BOTH(jacobian_product_rows),
            SOFTLY_BOTH(log_jacobian_product_rows),
            SOFTLY_BOTH(constant_rows),
            SOFTLY_ALL(cross_entropy_rows),
            SOFTLY_ALL(sigmoid_rows),
            SOFTLY_ALL(log_sigmoid_rows),
            {sigmoid_gradient_rows<float, false>, sigmoid_gradient_rows<double, false>},
            {sigmoid_gradient_rows<float, true>, sigmoid_gradient_rows<double, true>},
            SOFTLY_BOTH(temperature_statistics_rows),
            SOFTLY_GRAPH(graph_averages),
            SOFTLY_GRAPH(graph_target_gradients),
            SOFTLY_GRAPH(graph_source_gradients),
            SOFTLY_BOTH(attention_items),
            SOFTLY_BOTH(kernel_regression_groups)};
}
}  // namespace
