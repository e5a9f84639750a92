// exp and log on vectors, error-free sums and products. Included once per instruction set, after vector/<isa>.hpp.

template <class T>
INLINE Vector<T> broadcast(T value) {
    return value - Vector<T>{};
}

// A vector in double, half by half, and back.
template <class T>
constexpr int halves = lanes<T> / lanes<double>;
INLINE Doubles widened(Floats v, int half) { return half ? upper_doubles(v) : lower_doubles(v); }
INLINE Doubles widened(Doubles v, int) { return v; }
INLINE void narrowed(const Doubles* wide, Floats* v) { *v = narrow(wide[0], wide[1]); }
INLINE void narrowed(const Doubles* wide, Doubles* v) { *v = *wide; }

template <class T>
struct Pair {  // the unevaluated sum hi + lo
    Vector<T> hi, lo;
};

// a + b exactly (Knuth's TwoSum); lo is NaN where hi overflows.
template <class V>
INLINE Pair<Scalar<V>> two_sum(V a, V b) {
    const V sum = a + b, b_part = sum - a;
    return {sum, (a - (sum - b_part)) + (b - b_part)};
}

// a * b - product, exactly: one fma, or Dekker's split (27 or 12 bits). The split overflows for |a|, |b| above 2^996
// or 2^115; the error is then given up.
template <class V>
INLINE V product_error(V a, V b, V product) {
    if constexpr (has_fma) {
        return fused(a, b, -product);
    } else {
        constexpr Scalar<V> splitter = sizeof(Scalar<V>) == 8 ? 0x1p27 + 1 : 0x1p12 + 1;
        const V a_big = a * splitter, b_big = b * splitter;
        const V a_hi = a_big - (a_big - a), a_lo = a - a_hi;
        const V b_hi = b_big - (b_big - b), b_lo = b - b_hi;
        const V error = ((a_hi * b_hi - product) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo;
        return error == error ? error : V{};
    }
}

// a * (hi + lo), rounded once or nearly so.
template <class V>
INLINE V times_pair(V a, V hi, V lo) {
    if constexpr (has_fma) return fused(a, hi, a * lo);
    const V product = a * hi;
    return product + (product_error(a, hi, product) + a * lo);
}

// Coefficients: csrc/coefficients.py.
template <class T>
struct Exp;
template <>
struct Exp<float> {
    static constexpr float underflow = -118.0f;  // 2^17 of what is left out do not round to a subnormal
    static constexpr float round_magic = 0x1.8p23f, scale = 0x1p48f, unscale = 0x1p-48f;
    static constexpr int bias = 127 + 48, mantissa_bits = 23;
    // ln 2 in two parts; the first has 9 bits, so that a count of 8 bits times it is exact without fma.
    static constexpr float ln2_hi = 0x1.63p-1f, ln2_lo = -0x1.bd0106p-13f;
    static constexpr float q[] = {0x1p-1f, 0x1.5554dcp-3f, 0x1.55551ap-5f, 0x1.120b6ep-7f, 0x1.6d110ap-10f};
};
template <>
struct Exp<double> {
    static constexpr double underflow = -780.0;
    static constexpr double round_magic = 0x1.8p52, scale = 0x1p128, unscale = 0x1p-128;
    static constexpr int bias = 1023 + 128, mantissa_bits = 52;
    static constexpr double ln2_hi = 0x1.62e42feep-1, ln2_lo = 0x1.a39ef35793c76p-33;
    static constexpr double q[] = {0x1.0000000000001p-1, 0x1.5555555555556p-3, 0x1.5555555553d63p-5,
                                   0x1.11111111109b3p-7, 0x1.6c16c1788bd90p-10, 0x1.a01a01a7c41d5p-13,
                                   0x1.a019b90d2ae7ap-16, 0x1.71de0dae63bb3p-19, 0x1.289185613a3d6p-22,
                                   0x1.af38a9b0ec855p-26};
};

// (exp(r) - 1 - r) / r^2 for |r| <= ln 2 / 2.
template <class T>
INLINE Vector<T> exp_quotient(Vector<T> r) {
    constexpr int terms = sizeof(Exp<T>::q) / sizeof(T);
    Vector<T> q = broadcast(Exp<T>::q[terms - 1]);
#pragma GCC unroll 16
    for (int i = terms - 2; i >= 0; --i) q = fused(q, r, broadcast(Exp<T>::q[i]));
    return q;
}

// exp(hi + lo) times 2^48 (float) or 2^128 (double), as the sum of two, for hi <= 0 and |lo| small; exactly 0 below
// the underflow bound and for -inf; NaN stays NaN. The scale keeps what will be subnormal whole until sums are done.
// hi = k ln 2 + r + r_lo with |r| <= ln 2 / 2, exp(r) = 1 + r + r^2 q(r). Error: hi 0.51 ULP, hi + lo 0.1 ULP.
// Not refined, r_lo is left out (lo must be 0): hi within 1 ULP, with a fifth fewer instructions.
template <bool refined = true, class V>
INLINE Pair<Scalar<V>> scaled_exp(V hi, V lo = V{}) {
    using T = Scalar<V>;
    using E = Exp<T>;
    constexpr T log2_e = T(1.44269504088896340736);
    const V shifted = fused(hi, broadcast<T>(log2_e), broadcast(E::round_magic));
    const V k = shifted - E::round_magic;
    const V coarse = fused(k, broadcast(-E::ln2_hi), hi), fine = k * E::ln2_lo;  // coarse is exact
    const V near = coarse - fine, r = refined ? near + lo : near;
    const V r_lo = refined ? ((near - r) + lo) + ((coarse - near) - fine) : V{};
    const V q = exp_quotient<T>(r);
    const V rest = refined ? fused(r * r, q, fused(r_lo, r, r_lo)) : r * r * q;
    const V p = r + rest, p_lo = (r - p) + rest;
    const V mantissa = p + T(1), mantissa_lo = ((T(1) - mantissa) + p) + p_lo;
    const V power = (V)(((Bits<T>)shifted + (Int<T>)E::bias) << E::mantissa_bits);
    const auto underflows = hi < E::underflow;
    return {underflows ? V{} : mantissa * power, underflows ? V{} : mantissa_lo * power};
}

// (2 atanh(u) / u - 2) / u^2 by powers of z = u^2.
struct Log {
    static constexpr double q[] = {0x1.5555555555558p-1, 0x1.99999999952d7p-2, 0x1.2492492df281ap-2,
                                   0x1.c71c62e3f11e6p-3, 0x1.7462b51cb66b1p-3, 0x1.39fe51a7c18f9p-3,
                                   0x1.2b5900de53b32p-3};
};

// log(s) for finite s >= 1, in double. s = 2^k m with m in [sqrt 1/2, sqrt 2), u = (m - 1)/(m + 1), z = u^2,
// log m = 2 atanh u = u (2 + z q(z)). Error below 2 ULP (of 2^-53 near s = 1).
INLINE Doubles log_of_sum(Doubles s) {
    constexpr long long one = 0x3ff0000000000000, sqrt_half = 0x3fe6a09e667f3bcd;
    const DoubleBits shifted = (DoubleBits)s + (unsigned long long)(one - sqrt_half);
    const DoubleBits magic = (DoubleBits)broadcast(0x1.8p52);
    const Doubles k = (Doubles)((shifted >> 52) + magic) - (0x1.8p52 + 1023);
    const Doubles m =
        (Doubles)((shifted & 0x000fffffffffffffull) + (unsigned long long)sqrt_half);
    const Doubles u = (m - 1.0) / (m + 1.0), z = u * u;
    Doubles p = broadcast(Log::q[6]);
#pragma GCC unroll 8
    for (int i = 5; i >= 0; --i) p = fused(p, z, broadcast(Log::q[i]));
    const Doubles log_m = fused(u * z, p, u + u);
    return fused(k, broadcast(Exp<double>::ln2_hi), fused(k, broadcast(Exp<double>::ln2_lo), log_m));
}

// log(u + u_lo) for u in [2^-53, 2], |u_lo| at most half an ULP of u: as log_of_sum, the rounding errors of the sum and of the
// quotient kept. Error below 0.6 ULP of the result, 1 ULP of 1 below u = 1/2.
INLINE Doubles log_of_pair(Doubles u, Doubles u_lo) {
    constexpr long long one = 0x3ff0000000000000, sqrt_half = 0x3fe6a09e667f3bcd;
    const DoubleBits shifted = (DoubleBits)u + (unsigned long long)(one - sqrt_half);
    const DoubleBits magic = (DoubleBits)broadcast(0x1.8p52);
    const Doubles k = (Doubles)((shifted >> 52) + magic) - (0x1.8p52 + 1023);
    const Doubles m = (Doubles)((shifted & 0x000fffffffffffffull) + (unsigned long long)sqrt_half);
    const Doubles inverse_power = (Doubles)((DoubleBits)broadcast(1.0) - ((shifted & 0xfff0000000000000ull) - (unsigned long long)one));
    const Doubles m_lo = u_lo * inverse_power;
    const Doubles over = m - 1.0, under = m + 1.0, under_lo = (m - (under - 1.0)) + m_lo;
    const Doubles f = over / under;
    const Doubles left = (over - f * under) - product_error(f, under, f * under);
    const Doubles f_lo = (left + m_lo - f * under_lo) / under;
    const Doubles z = f * f;
    Doubles p = broadcast(Log::q[6]);
#pragma GCC unroll 8
    for (int i = 5; i >= 0; --i) p = fused(p, z, broadcast(Log::q[i]));
    const Doubles tail = fused(f * z, p, f_lo + f_lo), log_hi = f + f;
    const Pair<double> sum = two_sum(k * Exp<double>::ln2_hi, log_hi);
    return sum.hi + (sum.lo + fused(k, broadcast(Exp<double>::ln2_lo), tail));
}
