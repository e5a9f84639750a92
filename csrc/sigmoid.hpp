// sigmoid and its logarithm, each entry by itself, in double for both dtypes.
// Range: every T from 0 to inf, every score. Error: kernels.hpp.

struct Quotient {  // z / T as hi + lo; infinite scores stay so at every T, and 0 / 0 is 0
    Doubles hi, lo;
};

INLINE Quotient divide(Doubles z, double temperature) {
    if (temperature == 1) return {z, Doubles{}};
    // Keeps the remainder below out of the subnormals, and its factors from overflowing where they are split.
    const double scale = temperature < 0x1p-500 ? 0x1p500 : temperature > 0x1p500 ? 0x1p-500 : 1.0;
    z *= scale;
    temperature *= scale;
    const Doubles t = broadcast(temperature), infinity = broadcast(__builtin_inf());
    const auto infinite = (z == infinity) | (z == -infinity);
    const Doubles hi = infinite ? z : z == 0.0 ? z : z / t;
    const Doubles product = hi * t;
    const Doubles lo = ((z - product) - product_error(hi, t, product)) / t;
    return {hi, lo - lo == 0.0 ? lo : Doubles{}};
}

// exp(-|x|), to about 0.1 ULP, times 2^128.
INLINE Pair<double> exp_of_minus_size(const Quotient& x) {
    const auto positive = x.hi > 0.0;
    return scaled_exp(positive ? -x.hi : x.hi, positive ? -x.lo : x.lo);
}

struct Sigmoid {  // 1 / (1 + e) or, below 0, e / (1 + e), with what rounding left out of numerator and denominator
    INLINE Doubles operator()(const Quotient& x) const {
        const Pair<double> e = exp_of_minus_size(x);
        const Doubles small = e.hi * Exp<double>::unscale, small_lo = e.lo * Exp<double>::unscale;
        const Doubles under = small + 1.0, under_lo = ((1.0 - under) + small) + small_lo;
        const auto negative = x.hi < 0.0;
        const Doubles over = negative ? e.hi : broadcast(Exp<double>::scale), over_lo = negative ? e.lo : Doubles{};
        const Doubles quotient = over / under, product = quotient * under;
        const Doubles rest =
            (over - product) - product_error(quotient, under, product) + over_lo - quotient * under_lo;
        return (quotient + rest / under) * Exp<double>::unscale;
    }
};

struct LogSigmoid {  // min(x, 0) - log(1 + e): both terms have the same sign
    INLINE Doubles operator()(const Quotient& x) const {
        const Pair<double> e = exp_of_minus_size(x);
        const Doubles small = e.hi * Exp<double>::unscale, small_lo = e.lo * Exp<double>::unscale;
        const Doubles sum = small + 1.0;
        const Doubles log = sum == 1.0 ? small : log_of_pair(sum, ((1.0 - sum) + small) + small_lo);
        const auto negative = x.hi < 0.0;
        return (negative ? x.hi : Doubles{}) + ((negative ? x.lo : Doubles{}) - log);
    }
};

INLINE Doubles load_doubles(const double* p) { return load(p); }
template <class T, class Map>
INLINE void map_entries(const T* scores, T* out, long n, double temperature, Map map) {
    constexpr int width = lanes<double>;
    long i = 0;
    for (; i + width <= n; i += width) {
        const Doubles y = map(divide(load_doubles(scores + i), temperature));
        for (int lane = 0; lane < width; ++lane) out[i + lane] = T(y[lane]);
    }
    if (i < n) {
        T rest[width] = {};
        for (long j = i; j < n; ++j) rest[j - i] = scores[j];
        const Doubles y = map(divide(load_doubles(rest), temperature));
        for (long j = i; j < n; ++j) out[j] = T(y[j - i]);
    }
}

template <class T, class Map>
INLINE void elementwise(const Rows& r, long begin, long end, Map map) {
    const T* scores = static_cast<const T*>(r.scores);
    T* out = static_cast<T*>(r.out);
    if (r.temperature_stride == 0) {
        map_entries(scores + begin * r.columns, out + begin * r.columns, (end - begin) * r.columns, *r.temperature, map);
        return;
    }
    for (long i = begin; i < end; ++i)
        map_entries(scores + i * r.columns, out + i * r.columns, r.columns, r.temperature_of(i), map);
}
