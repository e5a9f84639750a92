// log_softmax of one row: (z - max)/T - log(sum of exponentials). Both terms have the same sign: nothing cancels.
// Range: every T from 0 to inf, every score. Error: at most 2 ULP, also where the probability is near 1.

template <class T, bool scaled>
INLINE bool log_softmax_ordinary(const T* scores, T* out, long n, T maximum_score, const Division<T>& by) {
    const Log log_sum = log_of(sum_of_exponentials<T, scaled, false>(scores, n, maximum_score, by, nullptr));
    if (log_sum.hi != log_sum.hi) return false;
    const T hi = T(log_sum.hi), lo = T((log_sum.hi - (double)hi) + log_sum.lo);
    const Vector<T> lowest = broadcast(-(sizeof(T) == 4 ? T(0x1.fffffep127f) : T(0x1.fffffffffffffp1023)));
    for_each_vector<T>(n, [&](int, long offset, int count) {
        const Vector<T> z = load_padded(scores + offset, count);
        const Pair<T> x = shifted_score<T, scaled>(z, maximum_score, by);
        const Pair<T> y = two_sum(x.hi, broadcast(-hi));
        const Vector<T> exact = y.hi + (y.lo + (x.lo - lo));
        store_counted(out + offset, count, y.hi < lowest ? y.hi : exact);  // -inf has no rounding error
    });
    return true;
}

template <class T>
void log_softmax_row(const T* scores, T* out, long n, double temperature, Empty empty) {
    constexpr T infinity = T(__builtin_inf());
    const T largest = row_maximum(scores, n);
    RowKind kind = kind_of_row(scores, n, largest);
    if (kind == RowKind::ordinary) {
        const Division<T> by(temperature);
        const bool done = by.is_one ? log_softmax_ordinary<T, false>(scores, out, n, largest, by)
                                    : log_softmax_ordinary<T, true>(scores, out, n, largest, by);
        if (done) return;
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
