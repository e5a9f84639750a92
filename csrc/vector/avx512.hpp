// What the compiler's vector types lack, by AVX-512 instructions.
constexpr bool has_fma = true;

INLINE Floats fused(Floats a, Floats b, Floats c) {
    return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
INLINE Doubles fused(Doubles a, Doubles b, Doubles c) {
    return (Doubles)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
// maximum(a, NaN) would be NaN and maximum(NaN, b) is b: a NaN never enters an accumulator b.
INLINE Floats maximum(Floats a, Floats b) {
    return (Floats)_mm512_max_ps((__m512)a, (__m512)b);
}
INLINE Doubles maximum(Doubles a, Doubles b) {
    return (Doubles)_mm512_max_pd((__m512d)a, (__m512d)b);
}
INLINE Floats load_first(const float* p, int count, Floats fill) {
    return (Floats)_mm512_mask_loadu_ps((__m512)fill, (__mmask16)((1u << count) - 1), p);
}
INLINE Doubles load_first(const double* p, int count, Doubles fill) {
    return (Doubles)_mm512_mask_loadu_pd((__m512d)fill, (__mmask8)((1u << count) - 1), p);
}
INLINE void store_first(float* p, int count, Floats v) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), (__m512)v);
}
INLINE void store_first(double* p, int count, Doubles v) {
    _mm512_mask_storeu_pd(p, (__mmask8)((1u << count) - 1), (__m512d)v);
}
// One bit a lane, of a comparison's result.
INLINE unsigned lanes_set(FloatBits v) { return (unsigned)_mm512_movepi32_mask((__m512i)v); }
INLINE unsigned lanes_set(DoubleBits v) { return (unsigned)_mm512_movepi64_mask((__m512i)v); }
// The lanes of a mask, first and in order, then anything; and the first lanes back to where the mask has them, 0 elsewhere.
INLINE Floats compressed(Floats v, unsigned mask) { return (Floats)_mm512_maskz_compress_ps((__mmask16)mask, (__m512)v); }
INLINE Doubles compressed(Doubles v, unsigned mask) { return (Doubles)_mm512_maskz_compress_pd((__mmask8)mask, (__m512d)v); }
INLINE Floats expanded(Floats v, unsigned mask) { return (Floats)_mm512_maskz_expand_ps((__mmask16)mask, (__m512)v); }
INLINE Doubles expanded(Doubles v, unsigned mask) { return (Doubles)_mm512_maskz_expand_pd((__mmask8)mask, (__m512d)v); }
INLINE Doubles lower_doubles(Floats v) { return (Doubles)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)v)); }
INLINE Doubles upper_doubles(Floats v) { return (Doubles)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)v, 1)); }
INLINE Floats narrow(Doubles lower, Doubles upper) {
    return (Floats)_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps((__m512d)lower)),
                                      _mm512_cvtpd_ps((__m512d)upper), 1);
}
INLINE Doubles load_doubles(const float* p) { return (Doubles)_mm512_cvtps_pd(_mm256_loadu_ps(p)); }

// Entry `at` mod 8 of a table, in each lane.
INLINE FloatBits looked_up(const unsigned* table, FloatBits at) {
    return (FloatBits)_mm512_permutexvar_epi32((__m512i)at, _mm512_broadcast_i32x8(_mm256_loadu_si256((const __m256i*)table)));
}
// fused(a, b, c), and 0 where `at` is below the limit, whatever a, b and c are; NaN is not below.
INLINE Floats fused_from(Floats at, float limit, Floats a, Floats b, Floats c) {
    const __mmask16 kept = _mm512_cmp_ps_mask((__m512)at, _mm512_set1_ps(limit), _CMP_NLT_UQ);
    return (Floats)_mm512_maskz_fmadd_ps(kept, (__m512)a, (__m512)b, (__m512)c);
}
INLINE Floats float16_to_floats(const void* p) {
    return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}
INLINE void floats_to_float16(Floats v, void* p) {
    _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
}
