// log_softmax of one row: (z - max)/T - log(sum of exponentials). Both terms have the same sign: nothing cancels.
// Range: every T from 0 to inf, every score. Error: kernels.hpp.

// Beside the maximum of the row (or, in each lane, of a row) and its log(sum) as hi + lo. At T = 1 three roundings of at most
// half an ULP of the result are all there is; a quotient needs its rounding error and that of the difference.
template <class T, bool scaled>
INLINE Vector<T> log_probability(Vector<T> z, Vector<T> maximum_score, const Division<T>& by, Vector<T> hi, Vector<T> lo) {
    if constexpr (!scaled) {
        return (z - maximum_score) - hi;
    } else {
        const T lowest = -(sizeof(T) == 4 ? T(0x1.fffffep127f) : T(0x1.fffffffffffffp1023));
        const Pair<T> x = shifted_score<T, scaled>(z, maximum_score, by);
        const Pair<T> y = two_sum(x.hi, -hi);
        const Vector<T> exact = y.hi + (y.lo + (x.lo - lo));
        return y.hi < lowest ? y.hi : exact;  // -inf has no rounding error
    }
}

template <class T, bool scaled>
INLINE void log_probabilities(const T* scores, T* out, long n, long first, T maximum_score, const Division<T>& by,
                              double log_sum) {
    const T hi = T(log_sum), lo = T(log_sum - (double)hi);
    for_each_vector_after<T>(first, n, [&](int part, long offset, int count) {
        prefetch_result(out + offset, part);
        const Vector<T> z = load_padded(scores + offset, count);
        store_counted(out + offset, count,
                      log_probability<T, scaled>(z, broadcast(maximum_score), by, broadcast(hi), broadcast(lo)));
    });
}

template <class T>
void log_softmax_row(const T* scores, T* out, long n, const T* next, double temperature, Empty empty) {
    constexpr T infinity = T(__builtin_inf());
    const T largest = row_maximum(scores, n);
    RowKind kind = kind_of_row(scores, n, largest);
    if (kind == RowKind::ordinary) {
        const double log_sum = log_of_sum_of_row(scores, n, next, largest, temperature);
        if (log_sum == log_sum) {
            const Division<T> by(temperature);
            const long first = entries_to_align(out, n);
            by.is_one ? log_probabilities<T, false>(scores, out, n, first, largest, by, log_sum)
                      : log_probabilities<T, true>(scores, out, n, first, largest, by, log_sum);
            return;
        }
        kind = RowKind::not_a_number;
    }
    if (kind == RowKind::infinite) {
        const T share = T(-log((double)count_infinite(scores, n)));
        for (long i = 0; i < n; ++i) out[i] = scores[i] == infinity ? share : -infinity;
    } else {
        const bool nan = kind == RowKind::not_a_number || empty == Empty::nan;
        fill(out, n, nan ? T(__builtin_nan("")) : empty == Empty::uniform ? T(-log((double)n)) : -infinity);
    }
}
