// What batches of rows share: a batch holds lanes<T> rows, and each of their maxima, sums and logarithms in its lane.

template <class T>
INLINE bool all_near(Vector<T> largest, double temperature) {
    const T limit = T(NearRange<T>::largest * temperature);
    return lanes_set((Bits<T>)((largest <= limit) & (largest >= -limit))) == (1u << lanes<T>) - 1;
}

// Doubles as hi + lo in T.
template <class T>
INLINE Pair<T> split(const Doubles* hi, const Doubles* lo) {
    Pair<T> result;
    narrowed(hi, &result.hi);
    Doubles left[halves<T>];
    for (int half = 0; half < halves<T>; ++half) left[half] = (hi[half] - widened(result.hi, half)) + lo[half];
    narrowed(left, &result.lo);
    return result;
}

template <class T>
INLINE Pair<T> reciprocals(const Pair<double>* total) {
    Doubles hi[halves<T>], lo[halves<T>];
    for (int half = 0; half < halves<T>; ++half) {
        const Pair<double> inverse = reciprocal(total[half]);
        hi[half] = inverse.hi;
        lo[half] = inverse.lo;
    }
    return split<T>(hi, lo);
}

// Logarithms of sums of exp((z - max)/T), and one bit for each row whose sum does not keep a tiny rest.
template <class T>
INLINE unsigned logs_of_sums(const Pair<double>* total, Vector<T> leader, long n, Doubles* log_sum) {
    unsigned lost = 0;
    for (int half = 0; half < halves<T>; ++half) {
        const Pair<double> sum = beside_leader<T>(total[half], widened(leader, half));
        log_sum[half] = log_of_pair(sum.hi, sum.lo);
        if (!keeps_rest<T>(1, n)) lost |= lanes_set((DoubleBits)(sum.hi < rest_is_kept)) << half * lanes<double>;
    }
    return lost;
}

template <class T>
INLINE Vector<T> potentials(Vector<T> largest, double temperature, const Doubles* log_sum) {
    Doubles wide[halves<T>];
    for (int half = 0; half < halves<T>; ++half)
        wide[half] = potential(widened(largest, half), temperature, log_sum[half]);
    Vector<T> result;
    narrowed(wide, &result);
    return result;
}

// The rows of a batch that stand anywhere: where each begins, its entries and its number.
template <class T>
struct Places {
    long begin[lanes<T>], size[lanes<T>], row[lanes<T>];
    int count = 0;

    INLINE void add(long i, Span where) {
        begin[count] = where.begin;
        size[count] = where.size;
        row[count++] = i;
    }
    // Lanes without a row repeat the last one, and store nothing.
    INLINE void fill_up() {
        for (int lane = count; lane < lanes<T>; ++lane) {
            begin[lane] = begin[count - 1];
            size[lane] = size[count - 1];
        }
    }
    INLINE long longest() const {
        long most = 0;
        for (int lane = 0; lane < count; ++lane) most = size[lane] > most ? size[lane] : most;
        return most;
    }
    INLINE void store_each(T* out, Vector<T> results) const {
        for (int lane = 0; lane < count; ++lane) out[row[lane]] = results[lane];
    }
};
