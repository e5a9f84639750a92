// logsumexp of one row: max/T + log(sum of exponentials).
// Range: every T from 0 to inf, every score. Error: at most 2 ULP of max(|result|, |max/T|).

template <class T>
T logsumexp_row(const T* scores, long n, double temperature, Empty empty) {
    constexpr T infinity = T(__builtin_inf()), nan = T(__builtin_nan(""));
    const T largest = row_maximum(scores, n);
    const RowKind kind = kind_of_row(scores, n, largest);
    if (kind == RowKind::not_a_number) return nan;
    if (kind == RowKind::infinite) return infinity;
    if (kind == RowKind::empty) return empty == Empty::nan ? nan : -infinity;
    const Division<T> by(temperature);
    const Log log_sum =
        log_of(by.is_one ? sum_of_exponentials<T, false, false>(scores, n, largest, by, nullptr)
                         : sum_of_exponentials<T, true, false>(scores, n, largest, by, nullptr));
    if (log_sum.hi != log_sum.hi) return nan;
    const double top = largest == 0 ? 0.0 : (double)largest / temperature;
    const double sum = top + log_sum.hi;
    if (sum - sum != 0 || top == 0) return T(sum + (top == 0 ? log_sum.lo : 0.0));
    const double top_error = temperature - temperature != 0 ? 0.0 : __builtin_fma(-top, temperature, largest) / temperature;
    const double log_part = sum - top, lost = (top - (sum - log_part)) + (log_sum.hi - log_part);
    return T(sum + (lost + top_error + log_sum.lo));
}
