// The fast path of rows whose largest score is moderate. The scores themselves are reduced, not their differences from the
// maximum, whose rounding errors would have to be kept: with K = round(max / ln 2) and C = max - K ln2_hi, exact as
// z - k ln2_hi is, exp(z - max) = 2^k exp(r) for k = round((z - max) / ln 2), r = (z - (K + k) ln2_hi - C) - k ln2_lo.
// The maximum has k = r = 0 and the exponential 1: ties share exactly.
// Other rows (large offsets, extreme temperatures) go the general way of row.hpp.

template <class T>
struct NearRange {
    static constexpr double largest = 512, deepest = sizeof(T) == 4 ? 110 : 760, temperature = 0x1p60;
};

// One row, or a row in each lane.
template <class T, bool scaled>
struct Near {
    static constexpr T log2_e = T(1.44269504088896340736);
    Vector<T> bound;  // lower scores have the exponential 0
    Vector<T> start;  // - max / ln 2
    Vector<T> count, rest, rest_lo;  // K, C, and the rounding error of max / T
    T reciprocal, reciprocal_error;

    INLINE Near(Vector<T> maximum_score, double temperature) {
        const double r = 1 / temperature;
        reciprocal = T(r);
        reciprocal_error = sizeof(T) == 4 ? T(r - (double)reciprocal) : T(__builtin_fma(-r, temperature, 1.0) * r);
        bound = maximum_score - T(NearRange<T>::deepest * temperature);
        const Pair<T> x = divided(maximum_score);
        start = x.hi * -log2_e;
        count = (Exp<T>::round_magic - start) - Exp<T>::round_magic;
        rest = fused(count, broadcast(-Exp<T>::ln2_hi), x.hi);
        rest_lo = x.lo;
    }

    // z / T as hi + lo.
    INLINE Pair<T> divided(Vector<T> z) const {
        if constexpr (!scaled) return {z, Vector<T>{}};
        const Vector<T> hi = z * reciprocal;
        return {hi, fused(z, broadcast(reciprocal_error), product_error(z, broadcast(reciprocal), hi))};
    }

    // exp((z - max)/T) times Exp<T>::scale as hi + lo, to about 0.3 ULP of hi; hi is NaN where the score is.
    INLINE Pair<T> operator()(Vector<T> z) const {
        using V = Vector<T>;
        using E = Exp<T>;
        const Pair<T> x = divided(maximum(bound, z));
        const V shifted = fused(x.hi, broadcast(log2_e), start) + E::round_magic;
        const V k = shifted - E::round_magic;
        const V coarse = fused(k + count, broadcast(-E::ln2_hi), x.hi) - rest;
        const V fine = scaled ? fused(k, broadcast(-E::ln2_lo), x.lo - rest_lo) : k * -E::ln2_lo;
        const V r = coarse + fine, r_lo = (coarse - r) + fine;
        constexpr int terms = sizeof(E::q) / sizeof(T);
        V q = broadcast(E::q[terms - 1]);
#pragma GCC unroll 16
        for (int i = terms - 2; i >= 0; --i) q = fused(q, r, broadcast(E::q[i]));
        const V one = r + T(1), tail = fused(r * r, q, (r - (one - T(1))) + r_lo);
        const V mantissa = one + tail, mantissa_lo = (one - mantissa) + tail;
        const V any_power = (V)(((Bits<T>)shifted + (Int<T>)E::bias) << E::mantissa_bits);
        const V power = z < bound ? V{} : any_power;
        return {mantissa * power, mantissa_lo * power};
    }
};

template <class T>
INLINE bool is_near(T maximum_score, double temperature) {
    using R = NearRange<T>;
    return temperature < R::temperature && temperature > 1 / R::temperature &&
           __builtin_fabs((double)maximum_score) <= R::largest * temperature;
}

// The sum of a row's exponentials, each as hi + lo, wider than they are: entry i to accumulator i mod 16.
template <class T>
struct WideSum;
template <>
struct WideSum<float> {
    Doubles sum[parts<double>] = {};
    Floats lost[parts<float>] = {};

    INLINE void add(int part, const Pair<float>& e) {
        sum[2 * part] += lower_doubles(e.hi);
        sum[2 * part + 1] += upper_doubles(e.hi);
        lost[part] += e.lo;
    }
    INLINE Pair<double> total() const {
        Pair<double> all[parts<double>];
        for (int part = 0; part < parts<float>; ++part) {
            all[2 * part] = {sum[2 * part], lower_doubles(lost[part])};
            all[2 * part + 1] = {sum[2 * part + 1], upper_doubles(lost[part])};
        }
        return combined(all);
    }
};
template <>
struct WideSum<double> {
    Pair<double> sum[parts<double>] = {};

    INLINE void add(int part, const Pair<double>& e) {
        const Pair<double> next = two_sum(sum[part].hi, e.hi);
        sum[part] = {next.hi, sum[part].lo + (next.lo + e.lo)};
    }
    INLINE Pair<double> total() const { return combined(sum); }
};

INLINE Pair<double> reciprocal(const Pair<double>& sum) {
    const Doubles r = 1.0 / sum.hi;
    const Doubles product = r * sum.hi;
    return {r, (((1.0 - product) - product_error(r, sum.hi, product)) - sum.lo * r) * r};
}

template <class T, bool scaled>
INLINE bool softmax_near(const T* scores, T* out, long n, T maximum_score, double temperature) {
    const Near<T, scaled> exponential(broadcast(maximum_score), temperature);
    WideSum<T> sum;
    for_each_vector<T>(n, [&](int part, long offset, int count) {
        const Pair<T> e = exponential(load_padded(scores + offset, count));
        store_counted(out + offset, count, e.hi);
        sum.add(part, e);
    });
    const Pair<double> total = sum.total();
    if (total.hi[0] != total.hi[0]) return false;
    const Pair<double> inverse = reciprocal(total);
    const T r = T(inverse.hi[0]), lost = T((inverse.hi[0] - (double)r) + inverse.lo[0]);
    for_each_vector<T>(n, [&](int, long offset, int count) {
        const Vector<T> e = load_padded(out + offset, count);
        store_counted(out + offset, count, times_pair(e, broadcast(r), broadcast(lost)));
    });
    return true;
}

// The sum of exp((z - max)/T), at least 1.
template <class T, bool scaled>
INLINE Pair<double> near_sum(const T* scores, long n, T maximum_score, double temperature) {
    const Near<T, scaled> exponential(broadcast(maximum_score), temperature);
    WideSum<T> sum;
    for_each_vector<T>(n, [&](int part, long offset, int count) {
        sum.add(part, exponential(load_padded(scores + offset, count)));
    });
    const Pair<double> total = sum.total();
    return {total.hi * (double)Exp<T>::unscale, total.lo * (double)Exp<T>::unscale};
}

// log of that sum; NaN where there is a NaN. Sums of float rows are doubles in 16 accumulators: beyond 16 entries a tiny
// rest beside the leader would lose digits there, and goes the general way.
template <class T>
INLINE double log_of_sum_of_row(const T* scores, long n, T maximum_score, double temperature) {
    if (is_near(maximum_score, temperature)) {
        const Pair<double> sum = temperature == 1 ? near_sum<T, false>(scores, n, maximum_score, temperature)
                                                  : near_sum<T, true>(scores, n, maximum_score, temperature);
        if (sizeof(T) == 8 || n <= accumulators || !(sum.hi[0] < 1 + 0x1p-20)) return log_of_pair(sum.hi, sum.lo)[0];
    }
    const Division<T> by(temperature);
    return log_of(by.is_one ? sum_of_exponentials<T, false, false>(scores, n, maximum_score, by, nullptr)
                            : sum_of_exponentials<T, true, false>(scores, n, maximum_score, by, nullptr));
}
