// What the compiler's vector types lack, by AVX2 and FMA instructions.
constexpr bool has_fma = true;

INLINE Floats fused(Floats a, Floats b, Floats c) {
    return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
INLINE Doubles fused(Doubles a, Doubles b, Doubles c) {
    return (Doubles)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
// maximum(a, NaN) would be NaN and maximum(NaN, b) is b: a NaN never enters an accumulator b.
INLINE Floats maximum(Floats a, Floats b) {
    return (Floats)_mm256_max_ps((__m256)a, (__m256)b);
}
INLINE Doubles maximum(Doubles a, Doubles b) {
    return (Doubles)_mm256_max_pd((__m256d)a, (__m256d)b);
}

INLINE __m256i first_floats(int count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE __m256i first_doubles(int count) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3));
}
INLINE Floats load_first(const float* p, int count, Floats fill) {
    const __m256i first = first_floats(count);
    return (Floats)_mm256_blendv_ps((__m256)fill, _mm256_maskload_ps(p, first), (__m256)first);
}
INLINE Doubles load_first(const double* p, int count, Doubles fill) {
    const __m256i first = first_doubles(count);
    return (Doubles)_mm256_blendv_pd((__m256d)fill, _mm256_maskload_pd(p, first), (__m256d)first);
}
INLINE void store_first(float* p, int count, Floats v) {
    _mm256_maskstore_ps(p, first_floats(count), (__m256)v);
}
INLINE void store_first(double* p, int count, Doubles v) {
    _mm256_maskstore_pd(p, first_doubles(count), (__m256d)v);
}
// One bit a lane, of a comparison's result.
INLINE unsigned lanes_set(FloatBits v) { return (unsigned)_mm256_movemask_ps((__m256)v); }
INLINE unsigned lanes_set(DoubleBits v) { return (unsigned)_mm256_movemask_pd((__m256d)v); }
// The lanes of a mask, first and in order, then anything; and the first lanes back to where the mask has them, 0 elsewhere. A byte says where a
// lane's 4 bytes come from; those of a double's two halves differ by 1.
constexpr unsigned long long each_byte = 0x0101010101010101, byte_numbers = 0x0706050403020100;
INLINE __m256 lanes_from(__m256 v, unsigned long long bytes) {
    return _mm256_permutevar8x32_ps(v, _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)bytes)));
}
INLINE unsigned long long bytes_of_floats(unsigned mask) { return _pdep_u64(mask, each_byte) * 0xff; }
INLINE unsigned long long bytes_of_doubles(unsigned mask) { return _pdep_u64(mask, each_byte & 0x00ff00ff00ff00ff) * 0xffff; }
INLINE Floats compressed(Floats v, unsigned mask) {
    return (Floats)lanes_from((__m256)v, _pext_u64(byte_numbers, bytes_of_floats(mask)));
}
INLINE Doubles compressed(Doubles v, unsigned mask) {
    return (Doubles)lanes_from((__m256)v, _pext_u64(byte_numbers, bytes_of_doubles(mask)));
}
INLINE __m256 lanes_to(__m256 v, unsigned long long bytes) {
    const __m256i there = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128((long long)bytes));
    return _mm256_and_ps(lanes_from(v, _pdep_u64(byte_numbers, bytes)), _mm256_castsi256_ps(there));
}
INLINE Floats expanded(Floats v, unsigned mask) { return (Floats)lanes_to((__m256)v, bytes_of_floats(mask)); }
INLINE Doubles expanded(Doubles v, unsigned mask) { return (Doubles)lanes_to((__m256)v, bytes_of_doubles(mask)); }
INLINE Doubles lower_doubles(Floats v) { return (Doubles)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)v)); }
INLINE Doubles upper_doubles(Floats v) { return (Doubles)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)v, 1)); }
INLINE Floats narrow(Doubles lower, Doubles upper) {
    return (Floats)_mm256_set_m128(_mm256_cvtpd_ps((__m256d)upper), _mm256_cvtpd_ps((__m256d)lower));
}
INLINE Doubles load_doubles(const float* p) { return (Doubles)_mm256_cvtps_pd(_mm_loadu_ps(p)); }

// Entry `at` mod 8 of a table, in each lane.
INLINE FloatBits looked_up(const unsigned* table, FloatBits at) {
    return (FloatBits)_mm256_permutevar8x32_epi32(_mm256_loadu_si256((const __m256i*)table), (__m256i)at);
}
// fused(a, b, c), and 0 where `at` is below the limit, whatever a, b and c are; NaN is not below.
INLINE Floats fused_from(Floats at, float limit, Floats a, Floats b, Floats c) {
    const __m256 kept = _mm256_cmp_ps((__m256)at, _mm256_set1_ps(limit), _CMP_NLT_UQ);
    return (Floats)_mm256_and_ps(kept, (__m256)fused(a, b, c));
}
INLINE Floats float16_to_floats(const void* p) {
    return (Floats)_mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
INLINE void floats_to_float16(Floats v, void* p) {
    _mm_storeu_si128(static_cast<__m128i*>(p), _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
}
