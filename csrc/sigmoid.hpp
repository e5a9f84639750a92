// sigmoid and its logarithm, each entry by itself, in the scores' dtype with what rounding left out.
// Range: every T from 0 to inf, every score. Error: kernels.hpp.

// Infinite scores stay so at every T, and 0 / 0 is 0. What is left out of an infinite quotient is nothing.
template <class V>
INLINE Pair<Scalar<V>> with_limits(V z, V hi, V lo) {
    const V infinity = broadcast(Scalar<V>(__builtin_inf()));
    return {(z == Scalar<V>(0)) | (z == infinity) | (z == -infinity) ? z : hi, lo - lo == Scalar<V>(0) ? lo : V{}};
}

// z / T as hi + lo.
INLINE Pair<double> divide(Doubles z, double temperature) {
    if (temperature == 1) return {z, Doubles{}};
    // Keeps the remainder below out of the subnormals, and its factors from overflowing where they are split.
    const double scale = temperature < 0x1p-500 ? 0x1p500 : temperature > 0x1p500 ? 0x1p-500 : 1.0;
    z *= scale;
    const Doubles t = broadcast(temperature * scale), hi = z / t, product = hi * t;
    return with_limits(z, hi, ((z - product) - product_error(hi, t, product)) / t);
}

// Floats in double, by the reciprocal: it overflows and underflows only where every quotient of a float but 0 does.
INLINE Pair<float> divide(Floats z, double temperature) {
    if (temperature == 1) return {z, Floats{}};
    const double reciprocal = 1 / temperature;
    Doubles x[2] = {lower_doubles(z) * reciprocal, upper_doubles(z) * reciprocal};
    const Floats hi = narrow(x[0], x[1]);
    return with_limits(z, hi, narrow(x[0] - lower_doubles(hi), x[1] - upper_doubles(hi)));
}

constexpr int far = 64;  // exp(-far) is nothing beside 1

template <class T>
struct Complement {  // e = exp(-|x|), to about 0.1 ULP, times Exp<T>::scale; and without the scale, 0 where |x| > far
    Pair<T> scaled;
    Vector<T> near, near_lo;

    explicit INLINE Complement(const Pair<T>& x) {
        const auto positive = x.hi > T(0), is_far = (x.hi > T(far)) | (x.hi < T(-far));
        scaled = scaled_exp(positive ? -x.hi : x.hi, positive ? -x.lo : x.lo);
        near = (is_far ? Vector<T>{} : scaled.hi) * Exp<T>::unscale;  // subnormals are slow
        near_lo = (is_far ? Vector<T>{} : scaled.lo) * Exp<T>::unscale;
    }
};

// (over + over_lo) / (under + under_lo), from 1 / under: a quotient of rounded numbers, and its correction.
template <class V>
INLINE Pair<Scalar<V>> quotient_of_pairs(V over, V over_lo, V under, V under_lo, V inverse) {
    const V quotient = over * inverse, product = quotient * under;
    const V rest = (over - product) - product_error(quotient, under, product) + over_lo - quotient * under_lo;
    return {quotient, rest * inverse};
}

struct Sigmoid {  // 1 / (1 + e) or, below 0, e / (1 + e)
    template <class T>
    INLINE Vector<T> operator()(const Pair<T>& x) const {
        const Complement<T> e(x);
        const Vector<T> under = e.near + T(1), under_lo = ((T(1) - under) + e.near) + e.near_lo;
        const auto negative = x.hi < T(0);
        const Vector<T> over = negative ? e.scaled.hi : broadcast(Exp<T>::scale);
        const Vector<T> over_lo = negative ? e.scaled.lo : Vector<T>{};
        const Pair<T> p = quotient_of_pairs(over, over_lo, under, under_lo, T(1) / under);
        return (p.hi + p.lo) * Exp<T>::unscale;
    }
};

// (2 atanh(u) / u - 2) / u^2 by powers of z = u^2 <= 1/9. Coefficients: csrc/coefficients.py.
template <class T>
struct Atanh;
template <>
struct Atanh<float> {
    static constexpr float q[] = {0x1.555556p-1f, 0x1.9998d4p-2f, 0x1.24c92cp-2f, 0x1.bc8c5ep-3f, 0x1.dba57ap-3f};
};
template <>
struct Atanh<double> {
    static constexpr double q[] = {0x1.5555555555555p-1, 0x1.999999999a3dfp-2, 0x1.24924923d422cp-2,
                                   0x1.c71c727164156p-3, 0x1.745cf0aa6a011p-3, 0x1.3b18b34a260a3p-3,
                                   0x1.10ac6a3d3e5f6p-3, 0x1.eb913ba3ef69ep-4, 0x1.687604d0c86a1p-4,
                                   0x1.4b0ed4be611b2p-3};
};

struct LogSigmoid {  // min(x, 0) - log(1 + e), where log(1 + e) = 2 atanh u with u = e / (2 + e)
    template <class T>
    INLINE Vector<T> operator()(const Pair<T>& x) const {
        constexpr int terms = sizeof(Atanh<T>::q) / sizeof(T);
        const Complement<T> e(x);
        const Vector<T> under = e.near + T(2), under_lo = ((T(2) - under) + e.near) + e.near_lo;
        const Vector<T> inverse = T(1) / under, near = e.near * inverse, z = near * near;
        const Pair<T> u = quotient_of_pairs(e.scaled.hi, e.scaled.lo, under, under_lo, inverse);
        Vector<T> q = broadcast(Atanh<T>::q[terms - 1]);
#pragma GCC unroll 16
        for (int i = terms - 2; i >= 0; --i) q = fused(q, z, broadcast(Atanh<T>::q[i]));
        const Vector<T> hi = u.hi + u.hi, lo = fused(u.hi * z, q, u.lo + u.lo), log = hi + lo;
        const Vector<T> log_lo = (hi - log) + lo;
        const auto is_far = x.hi < T(-far);
        const Pair<T> sum = two_sum(x.hi, (is_far ? Vector<T>{} : log) * -Exp<T>::unscale);
        const Vector<T> below = sum.hi + (sum.lo + (x.lo - (is_far ? Vector<T>{} : log_lo) * Exp<T>::unscale));
        return is_far ? x.hi : x.hi < T(0) ? below : log * -Exp<T>::unscale;
    }
};

// body(first entry, how many, temperature) for the entries of rows [begin, end), all at once where one temperature serves.
template <class Body>
INLINE void each_temperature(const Rows& r, long begin, long end, Body body) {
    if (r.temperature_stride == 0) return body(begin * r.columns, (end - begin) * r.columns, *r.temperature);
    for (long i = begin; i < end; ++i) body(i * r.columns, r.columns, r.temperature_of(i));
}

template <class T, class Map>
INLINE void elementwise(const Rows& r, long begin, long end, Map map) {
    each_temperature(r, begin, end, [&](long first, long n, double temperature) {
        const T* scores = static_cast<const T*>(r.scores) + first;
        T* out = static_cast<T*>(r.out) + first;
        for (long i = 0; i < n; i += lanes<T>) {
            const int count = n - i < lanes<T> ? (int)(n - i) : lanes<T>;
            store_counted(out + i, count, map(divide(load_or_zero(scores + i, count), temperature)));
        }
    });
}
