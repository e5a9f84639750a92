// Products of a row with the Jacobian in two passes of its dtype, for rows of moderate numbers: sums of floats in double, sums of
// doubles carried on after every eight steps. Each result is rounded two or three times. Other rows: gradient.hpp.

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

// Between these nothing overflows, and what underflows is nothing beside the sum.
INLINE bool is_moderate(float, double x) { return __builtin_fabs(x) <= 0x1p100; }
INLINE bool is_moderate(double, double x) {
    return x == 0 || (__builtin_fabs(x) >= 0x1p-960 && __builtin_fabs(x) <= 0x1p960);
}
INLINE bool is_moderate_temperature(double temperature) { return temperature >= 0x1p-60 && temperature <= 0x1p60; }

// 1 / T as hi + lo.
template <class T>
struct Inverse {
    bool is_one;
    Vector<T> hi, lo;

    INLINE explicit Inverse(double temperature) : is_one(temperature == 1) {
        const double r = 1 / temperature;
        hi = broadcast(T(r));
        lo = broadcast(sizeof(T) == 4 ? T(r - (double)hi[0]) : T(__builtin_fma(-r, temperature, 1.0) * r));
    }
    INLINE Vector<T> operator()(Vector<T> x) const { return is_one ? x : times_pair(x, hi, lo); }
};

template <class T>
struct RowSum;  // entry i in accumulator i mod 16
template <>
struct RowSum<float> {
    Doubles all[parts<double>] = {};

    INLINE void add(int part, Floats x) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) all[2 * part + half] += widened(x, half);
    }
    INLINE void add_product(int part, Floats q, Floats v, double pivot) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
            Doubles& sum = all[2 * part + half];
            sum = fused(widened(q, half), widened(v, half) - pivot, sum);
        }
    }
    INLINE void add_whole(int part, Floats x) { add(part, x); }
    INLINE void carry() {}
    INLINE Pair<double> total() const { return {combined(all), Doubles{}}; }
};
template <>
struct RowSum<double> {
    Doubles few[parts<double>] = {};
    Pair<double> all[parts<double>] = {};

    INLINE void add(int part, Doubles x) { few[part] += x; }
    INLINE void add_whole(int part, Doubles x) { accumulate(all[part], x); }  // with its rounding error
    INLINE void add_product(int part, Doubles q, Doubles v, double pivot) { few[part] = fused(q, v - pivot, few[part]); }
    INLINE void carry() {
        for (int part = 0; part < parts<double>; ++part) {
            accumulate(all[part], few[part]);
            few[part] = Doubles{};
        }
    }
    INLINE Pair<double> total() const { return combined(all); }
};

INLINE double as_number(const Pair<double>& sum) { return sum.hi[0] + sum.lo[0]; }

// Visits a row as for_each_vector, and carries the sums.
template <class T, class Visit, class... Sums>
INLINE void for_each_step(long n, Visit visit, Sums&... sums) {
    constexpr long columns = sizeof(T) == 4 ? 1L << 40 : 8 * accumulators;
    for (long begin = 0; begin < n; begin += columns) {
        for_each_vector<T>(n - begin < columns ? n - begin : columns,
                           [&](int part, long offset, int count) { visit(part, begin + offset, count); });
        (sums.carry(), ...);
    }
}

// <q, v - pivot> / sum q, and the largest p.
template <class T, class Weight>
INLINE double mean_of_row(const T* p, const T* v, long n, double pivot, Weight weight, T* largest) {
    RowSum<T> of_q, of_v;
    Vector<T> best[parts<T>] = {};
    for_each_step<T>(
        n,
        [&](int part, long offset, int count) {
            const Vector<T> here = load_or_zero(p + offset, count), q = weight(here);
            best[part] = maximum(here, best[part]);
            of_q.add(part, q);
            of_v.add_product(part, q, load_or_zero(v + offset, count), pivot);
        },
        of_q, of_v);
    *largest = across<lanes<T> / 2>(largest_parts<T>(best), Maximum{})[0];
    return as_number(of_v.total()) / as_number(of_q.total());
}

// q (v - <q, v> / sum q) / T. The mean is taken of v less its value at a p above 1/2, which may round to 1, and is hi + lo, so that
// what it differs by there is whole; of doubles else less a first mean, so that what all v share costs nothing. False where the
// row is not for this: what has no share may hold infinities and NaN, and there are rows without an ordinary mean.
template <class T, class Weight>
INLINE bool near_product_of_row(const T* p, const T* v, T* out, long n, double temperature, Weight weight) {
    if (!is_moderate_temperature(temperature)) return false;
    T largest;
    double pivot = 0, beyond = mean_of_row(p, v, n, pivot, weight, &largest);
    if (largest > T(0.5) || sizeof(T) == 8) {
        pivot = largest > T(0.5) ? (double)v[first_of(p, n, [&](Vector<T> x) { return x == largest; })] : beyond;
        beyond = mean_of_row(p, v, n, pivot, weight, &largest);
    }
    const double mean = pivot + beyond;
    if (!(largest > 0) || !is_moderate(T(), beyond) || !is_moderate(T(), mean)) return false;
    const T hi = T(mean), lo = T((pivot - (double)hi) + beyond);
    const Inverse<T> over(temperature);
    for_each_vector<T>(n, [&](int, long offset, int count) {
        const Vector<T> q = weight(load_or_zero(p + offset, count));
        const Vector<T> d = (load_or_zero(v + offset, count) - hi) - lo;
        store_counted(out + offset, count, over(q * d) + T(0));
    });
    return true;
}

// v - p sum(v) over T, from log p; the entry of a p above 1/2 apart: there 1 - p is -expm1(log p), and the sum that of the others.
template <class T>
INLINE bool near_log_product_of_row(const T* log_p, const T* v, T* out, long n, T largest, double temperature) {
    if (!is_moderate_temperature(temperature)) return false;
    const bool leads = largest > T(-0.69);
    const T apart = leads ? largest : T(1);
    RowSum<T> sum;
    for_each_vector<T>(n, [&](int part, long offset, int count) {
        const auto leader = load_or_zero(log_p + offset, count) == apart;
        sum.add_whole(part, (Vector<T>)((Bits<T>)load_or_zero(v + offset, count) & ~(Bits<T>)leader));
    });
    const Pair<double> rest = sum.total();
    const long leader = leads ? first_of(log_p, n, [&](Vector<T> x) { return x == largest; }) : 0;
    const double first = leads ? (double)v[leader] : 0.0, others = as_number(rest);
    const Pair<double> all = two_sum(rest.hi, broadcast(first));  // may cancel
    const double total = all.hi[0] + (all.lo[0] + rest.lo[0]);
    if (!is_moderate(T(), others) || !is_moderate(T(), total)) return false;
    const Inverse<T> over(temperature);
    for_each_vector<T>(n, [&](int part, long offset, int count) {
        const Vector<T> log = load_padded(log_p + offset, count);
        const Vector<T> p = scaled_exp<false>(log).hi * Exp<T>::unscale;
        const Vector<T> product = fused(p, broadcast(T(-total)), load_or_zero(v + offset, count));
        store_counted(out + offset, count, log == -T(__builtin_inf()) ? Vector<T>{} : over(product) + T(0));
    });
    if (leads) out[leader] = T((-expm1((double)largest) * first - exp((double)largest) * others) / temperature);
    return true;
}
