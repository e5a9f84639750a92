// softmax of one row: exp((z - max)/T) / sum, in three passes with the exponentials kept in the output.
// Range: every T from 0 to inf, every score. Error: at most 2 ULP.

template <class T, bool scaled>
INLINE bool softmax_ordinary(const T* scores, T* out, long n, T maximum_score, const Division<T>& by) {
    const Sum s = sum_of_exponentials<T, scaled, true>(scores, n, maximum_score, by, out);
    const double total = s.leaders + s.rest;
    if (total != total) return false;
    // 1/total as hi + lo in T, so that the product is rounded once.
    const double r = 1 / total;
    const T reciprocal = T(r);
    T reciprocal_error;
    if constexpr (sizeof(T) == 4) {
        reciprocal_error = T(r - (double)reciprocal);
    } else {
        const double lost = (s.leaders - (total - (total - s.leaders))) + (s.rest - (total - s.leaders));
        reciprocal_error = (__builtin_fma(-r, total, 1.0) - (lost + s.rest_error) * r) * r;
    }
    for_each_vector<T>(n, [&](int, long offset, int count) {
        const Vector<T> e = load_padded(out + offset, count);
        store_counted(out + offset, count, fused(e, broadcast(reciprocal), e * reciprocal_error));
    });
    return true;
}

template <class T>
void softmax_row(const T* scores, T* out, long n, double temperature, Empty empty) {
    const T largest = row_maximum(scores, n);
    RowKind kind = kind_of_row(scores, n, largest);
    if (kind == RowKind::ordinary) {
        const Division<T> by(temperature);
        const bool done = by.is_one ? softmax_ordinary<T, false>(scores, out, n, largest, by)
                                    : softmax_ordinary<T, true>(scores, out, n, largest, by);
        if (done) return;
        kind = RowKind::not_a_number;
    }
    if (kind == RowKind::infinite) {
        const T share = T(1) / T(count_infinite(scores, n));
        for (long i = 0; i < n; ++i) out[i] = scores[i] == T(__builtin_inf()) ? share : T(0);
    } else {
        const bool nan = kind == RowKind::not_a_number || empty == Empty::nan;
        fill(out, n, nan ? T(__builtin_nan("")) : empty == Empty::uniform ? T(1) / T(n) : T(0));
    }
}
