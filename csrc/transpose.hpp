// Vectors of rows to vectors of columns.

// Lane i is entry from(i) of a and b, one after the other. Only constants written so become single instructions.
template <class From, class V, std::size_t... lane>
INLINE V picked(V a, V b, From from, std::index_sequence<lane...>) {
    return __builtin_shuffle(a, b, Bits<Scalar<V>>{(Int<Scalar<V>>)from((int)lane)...});
}
template <class T, class From>
INLINE Vector<T> picked(Vector<T> a, Vector<T> b, From from) {
    return picked(a, b, from, std::make_index_sequence<lanes<T>>{});
}

// In each group of four lanes, rows a, b, c, d to columns.
template <class T>
INLINE void transpose_quads(Vector<T>& a, Vector<T>& b, Vector<T>& c, Vector<T>& d) {
    constexpr int n = lanes<T>;
    constexpr auto low = [](int i) { return (i & ~3) + (i & 3) / 2 + (i & 1) * n; };
    constexpr auto high = [](int i) { return (i & ~3) + 2 + (i & 3) / 2 + (i & 1) * n; };
    constexpr auto first = [](int i) { return (i & 3) < 2 ? i : i - 2 + n; };
    constexpr auto second = [](int i) { return (i & 3) < 2 ? i + 2 : i + n; };
    const Vector<T> ab = picked<T>(a, b, low), ab_high = picked<T>(a, b, high);
    const Vector<T> cd = picked<T>(c, d, low), cd_high = picked<T>(c, d, high);
    a = picked<T>(ab, cd, first);
    b = picked<T>(ab, cd, second);
    c = picked<T>(ab_high, cd_high, first);
    d = picked<T>(ab_high, cd_high, second);
}

// Block [lanes][lanes] transposed in place: stage d exchanges the off-diagonal halves of blocks of 2 d.
template <class T, int d = lanes<T> / 2>
INLINE void transpose_block(Vector<T>* block) {
    if constexpr (d == 2 && sizeof(T) == 4) {
        for (int i = 0; i < lanes<T>; i += 4) transpose_quads<T>(block[i], block[i + 1], block[i + 2], block[i + 3]);
    } else if constexpr (d > 0) {
#pragma GCC unroll 16
        for (int i = 0; i < lanes<T>; ++i)
            if (!(i & d)) {
                const Vector<T> a = block[i], b = block[i | d];
                block[i] = picked<T>(a, b, [](int lane) { return lane & d ? lanes<T> + (lane ^ d) : lane; });
                block[i | d] = picked<T>(a, b, [](int lane) { return lane & d ? lanes<T> + lane : lane ^ d; });
            }
        transpose_block<T, d / 2>(block);
    }
}
