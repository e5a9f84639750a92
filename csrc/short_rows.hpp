// Up to 16 columns: a lane is a row, so that nothing is summed across lanes.
constexpr long short_columns = 16;

// Block [lanes][lanes] transposed in place: stage d exchanges the off-diagonal halves of blocks of 2 d.
template <class T, int d = lanes<T> / 2>
INLINE void transpose_block(Vector<T>* block) {
    if constexpr (d > 0) {
        Bits<T> first, second;
        for (int lane = 0; lane < lanes<T>; ++lane) {
            first[lane] = lane & d ? lanes<T> + (lane ^ d) : lane;
            second[lane] = lane & d ? lanes<T> + lane : lane ^ d;
        }
#pragma GCC unroll 16
        for (int i = 0; i < lanes<T>; ++i)
            if (!(i & d)) {
                const Vector<T> a = block[i], b = block[i | d];
                block[i] = __builtin_shuffle(a, b, first);
                block[i | d] = __builtin_shuffle(a, b, second);
            }
        transpose_block<T, d / 2>(block);
    }
}

// The sum of the columns' entries, by the tree of combined(): a row of up to 16 entries has one in each accumulator.
INLINE Pair<double> combined_columns(Pair<double>* sum, long n) {
    for (long half = accumulators / 2; half > 0; half /= 2)
        for (long i = 0; i < half && i + half < n; ++i) sum[i] = plus(sum[i], sum[i + half]);
    return sum[0];
}

INLINE Doubles widened(Floats v, int half) { return half ? upper_doubles(v) : lower_doubles(v); }
INLINE Doubles widened(Doubles v, int) { return v; }
INLINE void narrowed(const Doubles* wide, Floats* v) { *v = narrow(wide[0], wide[1]); }
INLINE void narrowed(const Doubles* wide, Doubles* v) { *v = *wide; }

// lanes<T> rows of up to 16 columns: column[j] holds entry j of each.
template <class T>
struct ShortRows {
    static constexpr int width = lanes<T>, blocks = short_columns / width, halves = lanes<T> / lanes<double>;
    long n;
    int used;  // blocks
    Vector<T> column[short_columns];
    Vector<T> largest;

    // Reads up to 16 entries beyond the last row.
    INLINE ShortRows(const T* scores, long columns) : n(columns), used((int)((columns + width - 1) / width)) {
        for (int b = 0; b < used; ++b) {
#pragma GCC unroll 16
            for (int row = 0; row < width; ++row) column[b * width + row] = load(scores + row * n + b * width);
            transpose_block<T>(column + b * width);
        }
        largest = broadcast(T(-__builtin_inf()));
        for (long j = 0; j < n; ++j) largest = maximum(column[j], largest);
    }

    INLINE bool are_near(double temperature) const {
        const T limit = T(NearRange<T>::largest * temperature);
        return lanes_set((Bits<T>)((largest <= limit) & (largest >= -limit))) == (1u << width) - 1;
    }

    // The rows' sums of exponentials, times Exp<T>::scale; the exponentials go to e, which may be column.
    template <bool scaled>
    INLINE void exponentials(double temperature, Vector<T>* e, Pair<double>* total) {
        const Near<T, scaled> exponential(largest, temperature);
        Vector<T> lost[short_columns];
        for (long j = 0; j < n; ++j) {
            const Pair<T> power = exponential(column[j]);
            e[j] = power.hi;
            lost[j] = power.lo;
        }
        for (int half = 0; half < halves; ++half) {
            Pair<double> sum[short_columns];
            for (long j = 0; j < n; ++j) sum[j] = {widened(e[j], half), widened(lost[j], half)};
            total[half] = combined_columns(sum, n);
        }
    }

    INLINE void store_rows(T* out) {
        for (int b = 0; b < used; ++b) transpose_block<T>(column + b * width);
        // A row's last vector may run into the next rows, which are written after it, but not beyond them.
        for (int row = 0; row < width; ++row)
            for (int b = 0; b < used; ++b) {
                const long at = row * n + b * width, left = n - b * width;
                if (at + width <= width * n)
                    store(out + at, column[b * width + row]);
                else
                    store_first(out + at, (int)(left < width ? left : width), column[b * width + row]);
            }
    }
};

template <class T, bool scaled>
INLINE void softmax_of(ShortRows<T>& rows, T* out, double temperature) {
    Pair<double> total[rows.halves];
    rows.template exponentials<scaled>(temperature, rows.column, total);
    Doubles r[rows.halves], left[rows.halves];
    for (int half = 0; half < rows.halves; ++half) r[half] = reciprocal(total[half]).hi;
    Vector<T> hi, lo;
    narrowed(r, &hi);
    for (int half = 0; half < rows.halves; ++half)
        left[half] = (r[half] - widened(hi, half)) + reciprocal(total[half]).lo;
    narrowed(left, &lo);
    for (long j = 0; j < rows.n; ++j) rows.column[j] = times_pair(rows.column[j], hi, lo);
    rows.store_rows(out);
}

template <class T, bool scaled>
INLINE void log_sums_of(ShortRows<T>& rows, double temperature, Doubles* log_sum) {
    Vector<T> e[short_columns];
    Pair<double> total[rows.halves];
    rows.template exponentials<scaled>(temperature, e, total);
    constexpr double unscale = (double)Exp<T>::unscale;
    for (int half = 0; half < rows.halves; ++half)
        log_sum[half] = log_of_pair(total[half].hi * unscale, total[half].lo * unscale);
}

template <class T, bool scaled>
INLINE void log_softmax_of(ShortRows<T>& rows, T* out, double temperature) {
    Doubles log_sum[rows.halves], left[rows.halves];
    log_sums_of<T, scaled>(rows, temperature, log_sum);
    Vector<T> hi, lo;
    narrowed(log_sum, &hi);
    for (int half = 0; half < rows.halves; ++half) left[half] = log_sum[half] - widened(hi, half);
    narrowed(left, &lo);
    const Division<T> by(temperature);
    for (long j = 0; j < rows.n; ++j)
        rows.column[j] = log_probability<T, scaled>(rows.column[j], rows.largest, by, hi, lo);
    for (long j = 0; j < rows.n; ++j)  // NaN stays in its row, all of it
        rows.column[j] = hi == hi ? rows.column[j] : hi;
    rows.store_rows(out);
}

template <class T, bool scaled>
INLINE void logsumexp_of(ShortRows<T>& rows, T* out, double temperature) {
    Doubles log_sum[rows.halves];
    log_sums_of<T, scaled>(rows, temperature, log_sum);
    for (int half = 0; half < rows.halves; ++half)
        log_sum[half] = potential(widened(rows.largest, half), temperature, log_sum[half]);
    Vector<T> result;
    narrowed(log_sum, &result);
    store(out, result);
}
