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
        store_counted(out + offset, count, times_pair(e, broadcast(reciprocal), broadcast(reciprocal_error)));
    });
    return true;
}

template <class T>
void softmax_row(const T* scores, T* out, long n, const T* next, double temperature, Empty empty) {
    const T largest = row_maximum(scores, n);
    RowKind kind = kind_of_row(scores, n, largest);
    if (kind == RowKind::ordinary) {
        if (is_near(largest, temperature)) {
            if (temperature == 1 ? softmax_near<T, false>(scores, out, n, next, largest, temperature)
                                 : softmax_near<T, true>(scores, out, n, next, largest, temperature))
                return;
            probabilities_of_special_row(RowKind::not_a_number, scores, out, n, empty);
            return;
        }
        const Division<T> by(temperature);
        const bool done = by.is_one ? softmax_ordinary<T, false>(scores, out, n, largest, by)
                                    : softmax_ordinary<T, true>(scores, out, n, largest, by);
        if (done) return;
        kind = RowKind::not_a_number;
    }
    probabilities_of_special_row(kind, scores, out, n, empty);
}
