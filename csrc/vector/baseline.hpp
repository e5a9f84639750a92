// What the compiler's vector types lack, in portable C++: any processor with 16-byte vectors, or none.
#ifdef __FP_FAST_FMA
constexpr bool has_fma = true;
#else
constexpr bool has_fma = false;
#endif

// Without the instruction this is a product and a sum, rounded twice; where the rounding error itself is
// wanted, product_error() below splits the factors instead.
template <class V>
INLINE V fused(V a, V b, V c) {
    if constexpr (has_fma) {
        V r;
        for (int i = 0; i < lanes<Scalar<V>>; ++i) r[i] = fused_scalar(a[i], b[i], c[i]);
        return r;
    } else {
        return a * b + c;
    }
}
// maximum(NaN, b) is b: a NaN never enters an accumulator b.
template <class V>
INLINE V maximum(V a, V b) {
    return a > b ? a : b;
}
template <class V>
INLINE V load_first(const Scalar<V>* p, int count, V fill) {
    for (int i = 0; i < count; ++i) fill[i] = p[i];
    return fill;
}
template <class V>
INLINE void store_first(Scalar<V>* p, int count, V v) {
    for (int i = 0; i < count; ++i) p[i] = v[i];
}
// One bit a lane, of a comparison's result.
template <class B>
INLINE unsigned lanes_set(B v) {
    unsigned set = 0;
    for (unsigned i = 0; i < sizeof(B) / sizeof(v[0]); ++i) set |= (unsigned)(v[i] & 1) << i;
    return set;
}
// The lanes of a mask, first and in order, then anything; and the first lanes back to where the mask has them, 0 elsewhere.
template <class V>
INLINE V compressed(V v, unsigned mask) {
    V r = {};
    for (int i = 0; mask; mask &= mask - 1) r[i++] = v[__builtin_ctz(mask)];
    return r;
}
template <class V>
INLINE V expanded(V v, unsigned mask) {
    V r = {};
    for (int i = 0; mask; mask &= mask - 1) r[__builtin_ctz(mask)] = v[i++];
    return r;
}
INLINE Doubles lower_doubles(Floats v) {
    Doubles r;
    for (int i = 0; i < lanes<double>; ++i) r[i] = (double)v[i];
    return r;
}
INLINE Doubles upper_doubles(Floats v) {
    Doubles r;
    for (int i = 0; i < lanes<double>; ++i) r[i] = (double)v[lanes<double> + i];
    return r;
}
INLINE Floats narrow(Doubles lower, Doubles upper) {
    Floats r;
    for (int i = 0; i < lanes<double>; ++i) r[i] = (float)lower[i], r[lanes<double> + i] = (float)upper[i];
    return r;
}
INLINE Doubles load_doubles(const float* p) {
    Doubles r;
    for (int i = 0; i < lanes<double>; ++i) r[i] = (double)p[i];
    return r;
}

// Entry `at` mod 8 of a table, in each lane.
INLINE FloatBits looked_up(const unsigned* table, FloatBits at) {
    FloatBits r;
    for (int i = 0; i < lanes<float>; ++i) r[i] = table[at[i] & 7];
    return r;
}
// fused(a, b, c), and 0 where `at` is below the limit, whatever a, b and c are; NaN is not below.
INLINE Floats fused_from(Floats at, float limit, Floats a, Floats b, Floats c) {
    return at < limit ? Floats{} : fused(a, b, c);
}
// A float16's bits 13 to the left are a float 2^112 too small, subnormals included.
INLINE Floats float16_to_floats(const void* p) {
    unsigned short half[lanes<float>];
    __builtin_memcpy(half, p, sizeof half);
    FloatBits bits;
    for (int i = 0; i < lanes<float>; ++i) bits[i] = half[i];
    const FloatBits size = bits & 0x7fff, sign = (bits & 0x8000) << 16;
    const FloatBits finite = (FloatBits)((Floats)(size << 13) * 0x1p112f), beyond = size << 13 | 0x7f800000;
    return (Floats)((size < 0x7c00 ? finite : beyond) | sign);
}
// Adding half a float16's last place, as a float of that size, rounds to it, ties to even.
INLINE void floats_to_float16(Floats v, void* p) {
    const FloatBits bits = (FloatBits)v, sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    const Floats smallest = Floats{} + 0.5f;  // its last place is the smallest float16
    const FloatBits subnormal = (FloatBits)((Floats)size + smallest) - (FloatBits)smallest;
    const FloatBits normal = (size - (112u << 23) + 0xfff + (size >> 13 & 1)) >> 13;
    const FloatBits nan = (size >> 13 & 0x3ff) | 0x7e00;
    FloatBits half = size < 0x38800000 ? subnormal : normal;
    half = size >= 0x477ff000 ? FloatBits{} + 0x7c00 : half;
    half = (size > 0x7f800000 ? nan : half) | sign;
    unsigned short out[lanes<float>];
    for (int i = 0; i < lanes<float>; ++i) out[i] = (unsigned short)half[i];
    __builtin_memcpy(p, out, sizeof out);
}
