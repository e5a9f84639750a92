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
