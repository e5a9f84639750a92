// Products of one row with the one Jacobian of the family, from what the map gave: with q = p^(2 - alpha) where p > 0,
// J v = q (v - <q, v> / sum q) / T. For log_softmax v - p sum(v), which is the transposed Jacobian. At T = 0, where ties
// alone would move, and at T = inf they are 0. In double for both dtypes, but for exp.

template <class T>
INLINE Vector<T> load_or_zero(const T* row, int count) {
    return count == lanes<T> ? load(row) : load_first(row, count, Vector<T>{});
}

// The first entry that a comparison finds, n if there is none.
template <class T, class Compare>
INLINE long first_of(const T* row, long n, Compare compare) {
    for (long i = 0; i < n; i += lanes<T>) {
        const int count = n - i < lanes<T> ? (int)(n - i) : lanes<T>;
        const unsigned found = lanes_set((Bits<T>)compare(load_or_zero(row + i, count))) & ((1ull << count) - 1);
        if (found) return i + __builtin_ctz(found);
    }
    return n;
}

template <class T>
INLINE void store_over_temperature(T* out, int count, Doubles* wide, double temperature) {
    if (temperature != 1)
        for (int half = 0; half < halves<T>; ++half) wide[half] /= temperature;
    Vector<T> v;
    narrowed(wide, &v);
    store_counted(out, count, v);
}

// Doubles hold sums of floats; sums of doubles keep their rounding errors.
template <class T>
struct Accumulator;
template <>
struct Accumulator<float> {
    using type = Doubles;
};
template <>
struct Accumulator<double> {
    using type = Pair<double>;
};
INLINE void accumulate(Doubles& sum, Doubles added) { sum += added; }
INLINE void accumulate(Pair<double>& sum, Doubles added) {
    const Pair<double> next = two_sum(sum.hi, added);
    sum = {next.hi, sum.lo + next.lo};
}
INLINE Pair<double> as_pair(Doubles sum) { return {sum, Doubles{}}; }
INLINE Pair<double> as_pair(const Pair<double>& sum) { return sum; }

// What p excludes never matters, infinite or NaN as v may be there.
INLINE Doubles term_of(Doubles q, Doubles d) { return q == 0.0 ? Doubles{} : q * d; }
template <class Sum, int count>
INLINE double mean_of(const Sum (&of_q)[count], const Sum (&of_terms)[count]) {
    const Pair<double> total = as_pair(combined(of_q)), terms = as_pair(combined(of_terms));
    return (terms.hi[0] + terms.lo[0]) / (total.hi[0] + total.lo[0]);
}

// v is measured from its value at the largest p: where that p rounds to 1, its entry is minus the sum of the others.
// weight(p, offset) is q.
template <class T, class Weight>
INLINE void product_of_row(const T* p, const T* v, T* out, long n, T largest, double temperature, Weight weight) {
    const double pivot = (double)v[first_of(p, n, [&](Vector<T> x) { return x == largest; })];
    typename Accumulator<T>::type sum[2][parts<double>] = {};  // of q and of q (v - pivot)
    const auto add = [&](int part, long offset, int count, Vector<T> narrow_p, unsigned) {
        const Vector<T> narrow_v = load_or_zero(v + offset, count);
#pragma GCC unroll 2
        for (int half = 0; half < halves<T>; ++half) {
            const int at = part * halves<T> + half;
            const Doubles q = weight(widened(narrow_p, half), offset + half * lanes<double>);
            accumulate(sum[0][at], q);
            accumulate(sum[1][at], term_of(q, widened(narrow_v, half) - pivot));
        }
    };
    for_each_above(p, n, T(0), add, [&](long offset, int) { __builtin_prefetch(v + offset + 256); });
    const double mean = mean_of(sum[0], sum[1]);
    const auto multiply = [&](int, long offset, int count, Vector<T> narrow_p, unsigned) {
        const Vector<T> narrow_v = load_or_zero(v + offset, count);
        Doubles g[halves<T>];
#pragma GCC unroll 2
        for (int half = 0; half < halves<T>; ++half) {
            const Doubles q = weight(widened(narrow_p, half), offset + half * lanes<double>);
            g[half] = term_of(q, (widened(narrow_v, half) - pivot) - mean);
        }
        store_over_temperature(out + offset, count, g, temperature);
    };
    for_each_above(p, n, T(0), multiply, [&](long offset, int count) { store_counted(out + offset, count, Vector<T>{}); });
}

// q of p, or where it stands; NaN where p is.
struct WeightAtOne {
    INLINE Doubles operator()(Doubles p, long) const { return p; }
};
struct WeightAtTwo {
    INLINE Doubles operator()(Doubles p, long) const { return p == 0.0 ? Doubles{} : broadcast(1.0); }
};
struct WeightAtThreeHalves {
    INLINE Doubles operator()(Doubles p, long) const {
        for (int lane = 0; lane < lanes<double>; ++lane) p[lane] = __builtin_sqrt(p[lane]);
        return p;
    }
};
struct StoredWeight {
    const double* powers;
    INLINE Doubles operator()(Doubles, long at) const { return load(powers + at); }
};

// The same for sparse maps' longer rows: the few entries with a share are kept in scratch, of sparse_scratch(n), and go back to
// where they stood. Short rows lose by it.
constexpr long fewest_to_keep = 64;
template <class T>
INLINE void sparse_product_of_row(const T* p, const T* v, T* out, long n, T largest, double alpha, double temperature, double* scratch) {
    double *q = scratch, *values = scratch + n + accumulators;
    long kept = 0;
    const auto keep = [&](int, long offset, int count, Vector<T> shares, unsigned above) {
        const Vector<T> front = compressed(shares, above), front_v = compressed(load_or_zero(v + offset, count), above);
        for (int half = 0; half < halves<T>; ++half) {
            store(q + kept + half * lanes<double>, widened(front, half));
            store(values + kept + half * lanes<double>, widened(front_v, half));
        }
        kept += __builtin_popcount(above);
    };
    for_each_above(p, n, T(0), keep, [&](long offset, int) { __builtin_prefetch(v + offset + 256); });
    const double pivot = values[first_of(q, kept, [&](Doubles x) { return x == (double)largest; })];
    for (long i = 0; i < kept; ++i) q[i] = alpha == 2 ? 1 : alpha == 1.5 ? __builtin_sqrt(q[i]) : pow(q[i], 2 - alpha);
    for (long i = kept; i < kept + accumulators; ++i) q[i] = values[i] = 0;
    typename Accumulator<T>::type sum[2][parts<double>] = {};  // of q and of q (v - pivot)
    for (long i = 0; i < kept; i += accumulators)
        for (int part = 0; part < parts<double>; ++part) {
            const Doubles weight = load(q + i + part * lanes<double>), value = load(values + i + part * lanes<double>);
            accumulate(sum[0][part], weight);
            accumulate(sum[1][part], term_of(weight, value - pivot));
        }
    const double mean = mean_of(sum[0], sum[1]);
    for (long i = 0; i < kept; i += lanes<double>) {
        const Doubles g = term_of(load(q + i), (load(values + i) - pivot) - mean);
        store(values + i, temperature == 1 ? g : g / temperature);
    }
    spread_above(p, n, T(0), values, out);
}

INLINE bool is_limit(double temperature) { return temperature == 0 || temperature == __builtin_inf(); }

template <class T>
void jacobian_product_row(const T* p, const T* v, T* out, long n, double alpha, double temperature, double* scratch) {
    const T largest = row_maximum(p, n);
    if (!(largest >= 0)) return fill(out, n, T(__builtin_nan("")));  // a row of NaN
    if (largest == 0 || alpha == __builtin_inf() || is_limit(temperature)) return fill(out, n, T(0));
    if (alpha == 1) return product_of_row(p, v, out, n, largest, temperature, WeightAtOne{});
    if (n >= fewest_to_keep) return sparse_product_of_row(p, v, out, n, largest, alpha, temperature, scratch);
    if (alpha == 2) return product_of_row(p, v, out, n, largest, temperature, WeightAtTwo{});
    if (alpha == 1.5) return product_of_row(p, v, out, n, largest, temperature, WeightAtThreeHalves{});
    for (long i = 0; i < n; ++i) scratch[i] = p[i] > 0 ? pow((double)p[i], 2 - alpha) : 0;
    for (long i = n; i < n + accumulators; ++i) scratch[i] = 0;
    product_of_row(p, v, out, n, largest, temperature, StoredWeight{scratch});
}

// An entry of more than half the share stands apart: there 1 - p is -expm1(log p), and the sum that of the other v, so that
// nothing cancels. There is one at most: log p of two that share alike is below the bound, however it was rounded.
constexpr double more_than_half = -0.69;  // log 2 is 0.693

template <class T>
struct LogProductSums {
    typename Accumulator<T>::type others[parts<double>] = {};
    Vector<T> largest[parts<T>], apart[parts<T>] = {};  // of log p, NaN passed over; the v that stands apart, among zeros

    INLINE LogProductSums(const T* log_p, const T* v, long n) {
        for (auto& l : largest) l = broadcast(-T(__builtin_inf()));
        for_each_vector<T>(n, [&](int part, long offset, int count) {
            const Vector<T> logs = load_padded(log_p + offset, count), values = load_or_zero(v + offset, count);
            const auto is_apart = logs > T(more_than_half);
            const Vector<T> rest = is_apart ? Vector<T>{} : values;
            apart[part] = is_apart ? values : apart[part];
            largest[part] = maximum(logs, largest[part]);
#pragma GCC unroll 2
            for (int i = 0; i < halves<T>; ++i) accumulate(others[part * halves<T> + i], widened(rest, i));
        });
    }
};

// exp_of: exponentials beside the largest logarithm there is, 0.
template <class T>
INLINE void log_jacobian_product_row(const T* log_p, const T* v, T* out, long n, double temperature, const Near<T, false>& exp_of) {
    constexpr T nothing = -T(__builtin_inf());
    const LogProductSums<T> sums(log_p, v, n);
    const T largest = across<lanes<T> / 2>(largest_parts<T>(sums.largest), Maximum{})[0];
    if (largest == nothing || is_limit(temperature)) {
        const bool has_nan = first_of(log_p, n, [](Vector<T> x) { return x != x; }) < n;
        return fill(out, n, has_nan ? T(__builtin_nan("")) : T(0));
    }
    const Pair<double> of_others = as_pair(combined(sums.others));
    double total = of_others.hi[0] + of_others.lo[0];
    T standing_apart = 0;
    if (largest > T(more_than_half)) {
        double first = 0;
        for (int part = 0; part < parts<T>; ++part)
            for (int lane = 0; lane < lanes<T>; ++lane) first += sums.apart[part][lane];
        standing_apart = T((-expm1((double)largest) * first - exp((double)largest) * total) / temperature);
        const Pair<double> all = two_sum(of_others.hi, broadcast(first));  // may cancel
        total = all.hi[0] + (all.lo[0] + of_others.lo[0]);
    }
    const double unscale = 1 / (double)exp_of.leader[0];
    for_each_vector<T>(n, [&](int, long offset, int count) {
        const Vector<T> logs = load_padded(log_p + offset, count), values = load_or_zero(v + offset, count);
        const Vector<T> p = exp_of(logs).hi;
        Doubles wide[halves<T>];
#pragma GCC unroll 2
        for (int i = 0; i < halves<T>; ++i) {
            wide[i] = widened(values, i) - widened(p, i) * unscale * total;
            if (temperature != 1) wide[i] /= temperature;
        }
        Vector<T> g;
        narrowed(wide, &g);
        g = logs > T(more_than_half) ? broadcast(standing_apart) : g;
        store_counted(out + offset, count, logs == nothing ? Vector<T>{} : g);
    });
}

// Whether a row does not move with its scores: its largest is infinite. Told by the first score that has a share; by all
// where the shares are NaN. `none` is the result that is no share: 0, or -inf of logarithms.
template <class T>
INLINE bool is_constant_row(const T* scores, const T* result, long n, T none) {
    const long i = first_of(result, n, [&](Vector<T> x) { return x != none; });
    if (i == n) return false;  // and nothing to move
    if (result[i] == result[i]) return scores[i] - scores[i] != 0;
    const T largest = row_maximum(scores, n);
    return kind_of_row(scores, n, largest) != RowKind::not_a_number && largest - largest != 0;
}
