// Every operation, compiled by the target file that includes this: all names are local to it, so that the linker
// cannot replace one target's function by another's.

namespace {
#include "vector/types.hpp"
#include SOFTLY_VECTOR_FILE
#include "elementary.hpp"
#include "row.hpp"
//
#include "exact_sum.hpp"
#include "log_softmax.hpp"
#include "logsumexp.hpp"
#include "softmax.hpp"
#include "temperature_statistics.hpp"

template <class T>
void softmax_rows(const Rows& r, long begin, long end) {
    for (long i = begin; i < end; ++i)
        softmax_row(static_cast<const T*>(r.scores) + i * r.columns, static_cast<T*>(r.out) + i * r.columns, r.columns,
                    r.temperature[i * r.temperature_stride], Empty(r.empty));
}

template <class T>
void log_softmax_rows(const Rows& r, long begin, long end) {
    for (long i = begin; i < end; ++i)
        log_softmax_row(static_cast<const T*>(r.scores) + i * r.columns, static_cast<T*>(r.out) + i * r.columns,
                        r.columns, r.temperature[i * r.temperature_stride], Empty(r.empty));
}

template <class T>
void logsumexp_rows(const Rows& r, long begin, long end) {
    for (long i = begin; i < end; ++i)
        static_cast<T*>(r.out)[i] = logsumexp_row(static_cast<const T*>(r.scores) + i * r.columns, r.columns,
                                                  r.temperature[i * r.temperature_stride], Empty(r.empty));
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
            SOFTLY_BOTH(temperature_statistics_rows)};
}
}  // namespace
