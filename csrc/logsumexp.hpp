// logsumexp of one row: max/T + log(sum of exponentials).
// Range: every T from 0 to inf, every score. Error: kernels.hpp.

// The sum of the two terms, with the rounding errors of the quotient and of the sum; of one row, or of a row in each lane.
INLINE Doubles potential(Doubles largest, double temperature, Doubles log_sum) {
    const Doubles quotient = largest / temperature, top = largest == 0.0 ? Doubles{} : quotient;
    const Doubles product = top * temperature;
    const Doubles left = ((largest - product) - product_error(top, broadcast(temperature), product)) / temperature;
    const Pair<double> sum = two_sum(top, log_sum);
    const auto exact = (left - left == 0.0) & ((largest > 0x1p-900) | (largest < -0x1p-900));  // not of subnormals
    const Doubles rest = sum.lo + (exact ? left : Doubles{});
    return sum.hi - sum.hi == 0.0 ? sum.hi + rest : sum.hi;
}

template <class T>
T logsumexp_row(const T* scores, long n, const T* next, double temperature, Empty empty) {
    constexpr T infinity = T(__builtin_inf()), nan = T(__builtin_nan(""));
    const T largest = row_maximum(scores, n);
    const RowKind kind = kind_of_row(scores, n, largest);
    if (kind == RowKind::not_a_number) return nan;
    if (kind == RowKind::infinite) return infinity;
    if (kind == RowKind::empty) return empty == Empty::nan ? nan : -infinity;
    const double log_sum = log_of_sum_of_row(scores, n, next, largest, temperature);
    return T(potential(broadcast((double)largest), temperature, broadcast(log_sum))[0]);
}
