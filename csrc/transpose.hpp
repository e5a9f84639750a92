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

// Of two vectors, in lanes whose bit d is clear from a and in the others from b: entries whose bit d is clear, or set.
template <int d, class V>
INLINE V lower_of(V a, V b) {
    constexpr int n = lanes<Scalar<V>>;
    return picked<Scalar<V>>(a, b, [](int lane) { return lane & d ? n + (lane ^ d) : lane; });
}
template <int d, class V>
INLINE V upper_of(V a, V b) {
    constexpr int n = lanes<Scalar<V>>;
    return picked<Scalar<V>>(a, b, [](int lane) { return lane & d ? n + lane : lane ^ d; });
}
template <int d>
INLINE Pair<double> lower_of(const Pair<double>& a, const Pair<double>& b) {
    return {lower_of<d>(a.hi, b.hi), lower_of<d>(a.lo, b.lo)};
}
template <int d>
INLINE Pair<double> upper_of(const Pair<double>& a, const Pair<double>& b) {
    return {upper_of<d>(a.hi, b.hi), upper_of<d>(a.lo, b.lo)};
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
                block[i] = lower_of<d>(a, b);
                block[i | d] = upper_of<d>(a, b);
            }
        transpose_block<T, d / 2>(block);
    }
}

// The lanes of 2 d rows combined, those of row i in lane i, by the tree of across(). Half the moves of a transposition.
template <int d, class Row, class Combine>
INLINE Row across_rows(Row* rows, Combine combine) {
    if constexpr (d > 0) {
#pragma GCC unroll 16
        for (int i = 0; i < d; ++i) rows[i] = combine(lower_of<d>(rows[i], rows[i + d]), upper_of<d>(rows[i], rows[i + d]));
        return across_rows<d / 2>(rows, combine);
    }
    return rows[0];
}
