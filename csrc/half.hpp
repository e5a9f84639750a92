// Half precisions: a block of rows is widened to float, computed there, and rounded once on the way back.

struct Float16 {
    unsigned short bits;
};
struct BFloat16 {
    unsigned short bits;
};
typedef unsigned short HalfBits __attribute__((vector_size(SOFTLY_VECTOR_BYTES / 2)));

INLINE Floats widened(const Float16* p) { return float16_to_floats(p); }
INLINE void narrowed(Floats v, Float16* p) { floats_to_float16(v, p); }

INLINE Floats widened(const BFloat16* p) {
    HalfBits bits;
    __builtin_memcpy(&bits, p, sizeof bits);
    return (Floats)(__builtin_convertvector(bits, FloatBits) << 16);
}
INLINE void narrowed(Floats v, BFloat16* p) {  // to the nearest, ties to even; NaN stays one
    const FloatBits bits = (FloatBits)v, nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, nan = bits >> 16 | 0x40;
    const HalfBits half = __builtin_convertvector(v == v ? nearest : nan, HalfBits);
    __builtin_memcpy(p, &half, sizeof half);
}

template <class Half>
INLINE void widen(const Half* from, float* to, long n) {
    constexpr int width = lanes<float>;
    long i = 0;
    for (; i + width <= n; i += width) store(to + i, widened(from + i));
    if (i == n) return;
    Half last[width] = {};
    for (long j = i; j < n; ++j) last[j - i] = from[j];
    store_first(to + i, (int)(n - i), widened(last));
}
template <class Half>
INLINE void narrow_all(const float* from, Half* to, long n) {
    constexpr int width = lanes<float>;
    long i = 0;
    for (; i + width <= n; i += width) narrowed(load(from + i), to + i);
    if (i == n) return;
    Half last[width];
    narrowed(load_first(from + i, (int)(n - i), Floats{}), last);
    for (long j = i; j < n; ++j) to[j] = last[j - i];
}

template <class Half, RowsKernel kernel, bool reduces = false>
void half_rows(const Rows& r, long begin, long end, double* scratch) {
    float* wide = reinterpret_cast<float*>(scratch);
    const long most = half_block_rows(r);
    for (long i = begin; i < end; i += most) {
        const long count = end - i < most ? end - i : most, results = reduces ? 1 : r.columns;
        Rows rows = r.rest_from(i);
        rows.scores = wide;
        rows.out = !r.out ? nullptr : reduces ? wide + most * r.columns : wide;
        rows.rows = count;
        widen(static_cast<const Half*>(r.scores) + i * r.columns, wide, count * r.columns);
        kernel(rows, 0, count, nullptr);
        if (r.out) narrow_all(static_cast<const float*>(rows.out), static_cast<Half*>(r.out) + i * results, count * results);
    }
}
