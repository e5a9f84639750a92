// The entries of a row above a bound: the few scores that may have a share, or the shares that are not 0.

// A bit for each lane above the bound, or NaN.
template <class T>
INLINE unsigned lanes_above(Vector<T> v, T bound) {
    return lanes_set((Bits<T>)!(v <= broadcast(bound)));
}

// Calls visit(part, offset, count, entries, above) for each vector of the row, padded with the bound, or none_above(offset, count)
// where no entry of a block of 64 is above it: one branch, that most rows make predictable, for many vectors.
template <class T, class Visit, class NoneAbove>
INLINE void for_each_above(const T* row, long n, T bound, Visit visit, NoneAbove none_above) {
    constexpr int block = 64, vectors = block / lanes<T>;
    long begin = 0;
    for (; begin + block <= n; begin += block) {
        unsigned above[vectors], any = 0;
#pragma GCC unroll 16
        for (int i = 0; i < vectors; ++i)
            any |= above[i] = lanes_above(load(row + begin + i * lanes<T>), bound);
#pragma GCC unroll 16
        for (int i = 0; i < vectors; ++i) {
            const long offset = begin + i * lanes<T>;
            any ? visit(i % parts<T>, offset, lanes<T>, load(row + offset), above[i]) : none_above(offset, lanes<T>);
        }
    }
    for_each_vector<T>(n - begin, [&](int part, long offset, int count) {
        const T* at = row + begin + offset;
        const Vector<T> v = count == lanes<T> ? load(at) : load_first(at, count, broadcast(bound));
        visit(part, begin + offset, count, v, lanes_above(v, bound));
    });
}

// The scores above the bound, in order, widened; -1 if there is a NaN. Up to 16 entries beyond the last are written.
template <class T>
INLINE long keep_above(const T* scores, long n, T bound, double* kept) {
    long count = 0;
    Bits<T> nan = {};
    const auto keep = [&](int, long, int, Vector<T> z, unsigned above) {
        nan |= (Bits<T>)(z != z);
        const Vector<T> front = compressed(z, above);
        for (int half = 0; half < halves<T>; ++half) store(kept + count + half * lanes<double>, widened(front, half));
        count += __builtin_popcount(above);
    };
    for_each_above(scores, n, bound, keep, [](long, int) {});
    return lanes_set(nan) ? -1 : count;
}

// The shares of the kept scores back to where they stood, 0 elsewhere. The scores may lie where the shares go.
template <class T>
INLINE void spread_above(const T* scores, long n, T bound, const double* shares, T* out) {
    const auto spread = [&](int, long offset, int count, Vector<T>, unsigned above) {
        Doubles wide[halves<T>];
        for (int half = 0; half < halves<T>; ++half) wide[half] = load(shares + half * lanes<double>);
        Vector<T> front;
        narrowed(wide, &front);
        store_counted(out + offset, count, expanded(front, above));
        shares += __builtin_popcount(above);
    };
    for_each_above(scores, n, bound, spread, [&](long offset, int count) { store_counted(out + offset, count, Vector<T>{}); });
}

// How many entries are the largest if all others are -inf, else 0.
template <class T>
INLINE long leaders_of_equal(const T* row, long n, T largest) {
    long leaders = 0;
    Bits<T> others = {};
    for_each_vector<T>(n, [&](int, long offset, int count) {
        const Vector<T> v = load_padded(row + offset, count);
        const Bits<T> leads = (Bits<T>)(v == largest);
        others |= ~leads & (Bits<T>)!(v == -T(__builtin_inf()));
        leaders += __builtin_popcount(lanes_set(leads));
    });
    return lanes_set(others) ? 0 : leaders;
}
