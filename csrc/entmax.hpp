// entmax of one row, sparsemax at alpha = 2: p = [delta x + s]_+^(1/delta), delta = alpha - 1, x = (z - max)/T, with the s in
// (0, 1] at which they sum to 1. In double for both dtypes.
// Range: alpha > 1 up to inf, every T from 0 to inf, every score. Error: kernels.hpp.
//
// As s <= 1, only scores above max - s T/delta can have a share: they alone are kept, in scratch, and searched for s. With fewer
// entries s would be larger: that of the largest of each 32 scores bounds it, and leaves few to keep.

constexpr int most_steps = 200;  // bisection alone needs about 60
constexpr long block_columns = 32 * accumulators;

INLINE float next_below(float v) { return __builtin_nextafterf(v, -__builtin_inff()); }
INLINE double next_below(double v) { return __builtin_nextafter(v, -__builtin_inf()); }

// The largest score of each accumulator in each block, padded with -inf to whole blocks. Returns how many.
template <class T>
INLINE long largest_of_blocks(const T* scores, long n, T* largest) {
    long count = 0;
    for (long begin = 0; begin < n; begin += block_columns) {
        Vector<T> best[parts<T>];
        find_largest(scores + begin, n - begin < block_columns ? n - begin : block_columns, best);
        for (const auto& b : best) store(largest + count, b), count += lanes<T>;
    }
    return count;
}

// Sums over the kept scores: entry i to accumulator i mod 16, combined in one tree. Exact, with what each sum lost: many equal
// terms would be rounded the same way each time.
template <int sums, bool exact, class Terms>
INLINE void sum_kept(const double* kept, long padded, double* result, Terms terms) {
    Pair<double> sum[sums][parts<double>] = {};
    for (long i = 0; i < padded; i += accumulators)
#pragma GCC unroll 16
        for (int part = 0; part < parts<double>; ++part) {
            Doubles term[sums];
            terms(load(kept + i + part * lanes<double>), term);
            for (int q = 0; q < sums; ++q)
                if constexpr (exact) {
                    const Pair<double> next = two_sum(sum[q][part].hi, term[q]);
                    sum[q][part] = {next.hi, sum[q][part].lo + next.lo};
                } else {
                    sum[q][part].hi += term[q];
                }
        }
    for (int q = 0; q < sums; ++q)
        if constexpr (exact) {
            const Pair<double> total = combined(sum[q]);
            result[q] = total.hi[0] + total.lo[0];
        } else {
            Doubles plain[parts<double>];
            for (int part = 0; part < parts<double>; ++part) plain[part] = sum[q][part].hi;
            result[q] = combined(plain)[0];
        }
}

INLINE Doubles positive_part(Doubles v) { return v > 0.0 ? v : Doubles{}; }

// u = [x + s]_+ with sum u^power = 1 for power 1 or 2. The power-norm of u is convex in s and at least 1 at s = 1: Newton's
// steps from no less than the root fall towards it and do not pass it. For power 1 they are the closed form for the support.
template <int power, bool exact>
INLINE double newton(const double* x, long padded, double s) {
    double sum[2];
    sum_kept<2, exact>(x, padded, sum, [&](Doubles v, Doubles* term) {
        const Doubles u = positive_part(v + s);
        term[0] = power == 1 ? (u > 0.0 ? v : Doubles{}) : u * u;
        term[1] = power == 1 ? (u > 0.0 ? broadcast(1.0) : Doubles{}) : u;
    });
    return power == 1 ? (1 - sum[0]) / sum[1] : s - (sum[0] - __builtin_sqrt(sum[0])) / sum[1];
}

// Up to the rounding of plain sums.
template <int power>
INLINE double near_threshold(const double* x, long padded, double s) {
    for (int i = 0; i < most_steps; ++i) {
        const double next = newton<power, false>(x, padded, s);
        if (!(next < s * (1 - 0x1p-30))) break;
        s = next;
    }
    return s;
}

// The first exact step may rise: plain sums may have passed the root by what they lost. A small step ends it: for power 2 its
// square is left, for power 1 what was passed of an entry's share.
template <int power>
INLINE double threshold(const double* x, long padded, double s) {
    constexpr double small = power == 1 ? 0x1p-53 : 0x1p-28;
    s = near_threshold<power>(x, padded, s);
    for (int i = 0; i < most_steps; ++i) {
        const double next = newton<power, true>(x, padded, s), step = s - next;
        if (i > 0 && !(step > 0)) break;
        s = next;
        if (__builtin_fabs(step) <= small * s) break;
    }
    return s;
}

struct Ratio {  // to the leader's share: q = p / exp(m), and y = q^delta = [1 + delta x exp(-delta m)]_+
    Doubles q, y;
};

INLINE Ratio ratio_to_leader(Doubles delta_x, double factor, double delta) {
    const Doubles w = delta_x * factor, y = w + 1.0;
    const auto inside = y > 0.0;
    const Doubles safe = inside ? y : broadcast(1.0), lost = inside ? (1.0 - y) + w : Doubles{};
    const Doubles q = scaled_exp<false>(log_of_pair(safe, lost) / delta).hi * Exp<double>::unscale;
    return {inside ? q : Doubles{}, inside ? y : Doubles{}};
}

// The logarithm m of the leader's share, s = exp(delta m), solves m + log sum q = 0; its left side has the slope
// r = sum(q / y) / sum q >= 1. For delta <= 1 Newton's steps on exp(delta (m + log sum q)), convex in s, do not pass the
// root; beyond, bisection guards. At delta = 0 q would be exp(x): continuous.
INLINE double leader(const double* delta_x, long kept, long padded, double delta, double s) {
    double high = log(s) / delta, low = -log((double)kept), m = high, last_step = __builtin_inf();
    for (int i = 0; i < most_steps; ++i) {
        const double factor = __builtin_fmin(exp(-delta * m), 1e30);
        double sum[2];
        sum_kept<2, true>(delta_x, padded, sum, [&](Doubles v, Doubles* term) {
            const Ratio ratio = ratio_to_leader(v, factor, delta);
            term[0] = ratio.q;
            term[1] = ratio.y > 0.0 ? ratio.q / ratio.y : Doubles{};
        });
        const double excess = m + log(sum[0]);
        (excess >= 0 ? high : low) = m;
        const double step = log1p(expm1(-delta * excess) * sum[0] / sum[1]) / delta;
        const bool slow = delta > 1 && __builtin_fabs(step) > last_step / 2;
        const double next = m + step >= low && m + step <= high && !slow ? m + step : (low + high) / 2;
        last_step = __builtin_fabs(next - m);
        if (last_step <= 0x1p-52 * __builtin_fabs(m)) break;
        m = next;
    }
    return m;
}

// delta > 1, by the last share t of the support, that of the score z_r: p = (t^delta + delta (z - z_r)/T)^(1/delta). The power
// 1/delta < 1 is steep at 0: through s the small shares would lose most digits, while none changes faster than t.
// Their sum is convex in t, and t <= 1/k for k in the support. kept: scores, to shares; lowest: a score just outside.
INLINE void shares_by_last(double* kept, long count, double lowest, double delta, double temperature) {
    const double scale = temperature > 1 ? 0.5 : 1.0;
    const auto power_base = [&](double z, double last) { return delta * ((z * scale - last * scale) / (temperature * scale)); };
    double last;
    for (bool inside = false; !inside; lowest = last) {
        last = __builtin_inf();
        for (long i = 0; i < count; ++i)
            if (kept[i] > lowest && kept[i] < last) last = kept[i];
        double sum = 0;
        for (long i = 0; i < count; ++i)
            if (kept[i] > last) sum += pow(power_base(kept[i], last), 1 / delta);
        inside = sum < 1;
    }
    long in_support = 0;
    for (long i = 0; i < count; ++i) in_support += kept[i] >= last;
    double t = 1 / (double)in_support, sum;
    const auto share = [&](double z) {
        return z > last ? pow(pow(t, delta) + power_base(z, last), 1 / delta) : z == last ? t : 0;
    };
    for (int i = 0; i < most_steps; ++i) {
        double slope = 0;
        sum = 0;
        for (long j = 0; j < count; ++j)
            if (const double p = share(kept[j]); p > 0) {
                sum += p;
                slope += pow(t / p, delta - 1);
            }
        const double step = (sum - 1) / slope;
        if (!(t - step < t)) break;
        t -= step;
    }
    for (long i = 0; i < count; ++i) kept[i] = share(kept[i]) / sum;
}

// delta x of scores, in double; a gap that overflows may have a quotient.
template <class V>
INLINE V scaled_gap(V score, double largest, double delta, double temperature) {
    const double scale = temperature > 1 ? 0.5 : 1.0;
    const V gap = score * scale - largest * scale;
    return gap == 0 ? V{} : (temperature == 1 ? gap : gap / (temperature * scale)) * delta;
}

constexpr long fewest_to_bound = 64;  // below, the bound costs more than it saves

// No smaller than s: that of a part of the entries, the largest. x: room for their gaps.
template <class T>
INLINE double bound_of_s(const T* best, long count, double largest, double alpha, double temperature, double* x) {
    const double delta = alpha - 1;
    for (long i = 0; i < count; i += lanes<T>)
        for (int half = 0; half < halves<T>; ++half)
            store(x + i + half * lanes<double>, scaled_gap(widened(load(best + i), half), largest, delta, temperature));
    const double s = alpha == 2     ? near_threshold<1>(x, count, 1)
                     : alpha == 1.5 ? near_threshold<2>(x, count, 1)
                                    : exp(delta * leader(x, count, count, delta, 1));
    return s < 1 ? s * (1 + 0x1p-20) : 1;
}

// Scores to shares, in place; spare has room for as many. s is no less than the root.
INLINE void shares_of_kept(double* kept, long count, double largest, double alpha, double temperature, double s, double* spare) {
    const double delta = alpha - 1;
    const long padded = (count + accumulators - 1) / accumulators * accumulators;
    double* x = delta > 1 ? spare : kept;
    for (long i = count; i < padded; ++i) kept[i] = -__builtin_inf();
    DoubleBits leads = {};
    Doubles below = broadcast(-__builtin_inf());
    for (long i = 0; i < padded; i += lanes<double>) {
        const Doubles gap = scaled_gap(load(kept + i), largest, delta, temperature);
        leads -= (DoubleBits)(gap == 0.0);  // a true comparison is all ones, -1
        below = maximum(gap < 0.0 ? gap : below, below);
        store(x + i, gap);
    }
    for (long i = count; i < padded; ++i) x[i] = -__builtin_inf();
    long leaders = 0;
    for (int lane = 0; lane < lanes<double>; ++lane) leaders += (long)leads[lane];
    const double runner_up = across<lanes<double> / 2>(below, Maximum{})[0];
    const auto share = [&](auto of) {
        for (long i = 0; i < padded; i += lanes<double>) store(kept + i, of(load(x + i)));
    };
    const double equal = 1 / (double)leaders;
    const auto leaders_alone = [&](Doubles v) { return v == 0.0 ? broadcast(equal) : Doubles{}; };
    if (leaders == count) {
        share(leaders_alone);
    } else if (alpha == 2 || alpha == 1.5) {
        s = alpha == 2 ? threshold<1>(x, padded, s) : threshold<2>(x, padded, s);
        if (!(s + runner_up > 0))
            share(leaders_alone);
        else if (alpha == 2)
            share([&](Doubles v) { return positive_part(v + s); });
        else
            share([&](Doubles v) { return positive_part(v + s) * positive_part(v + s); });
    } else {
        const double m = leader(x, count, padded, delta, s);
        if (delta > 1) {
            double lowest = -__builtin_inf();
            const double outside = -exp(delta * m) * (1 + 0x1p-48);
            for (long i = 0; i < count; ++i)
                if (x[i] < 0 && x[i] <= outside && kept[i] > lowest) lowest = kept[i];
            shares_by_last(kept, count, lowest, delta, temperature);
        } else {
            const double factor = exp(-delta * m);
            double total;
            share([&](Doubles v) { return ratio_to_leader(v, factor, delta).q; });
            sum_kept<1, true>(kept, padded, &total, [](Doubles q, Doubles* term) { term[0] = q; });
            for (long i = 0; i < count; ++i) kept[i] /= total;
        }
    }
}

template <class T>
void entmax_row(const T* scores, T* out, long n, double alpha, double temperature, Empty empty, double* kept) {
    T* const best = reinterpret_cast<T*>(kept);
    double* const spare = kept + (n + accumulators);
    const long blocks = largest_of_blocks(scores, n, best);
    const T largest = row_maximum(best, blocks);
    RowKind kind = kind_of_row(scores, n, largest);
    if (kind == RowKind::ordinary) {
        // Equal scores, as models have them before they are trained.
        if (leaders_of_equal(best, blocks, largest))
            if (const long leaders = leaders_of_equal(scores, n, largest)) {
                const Vector<T> share = broadcast(T(1 / (double)leaders));
                return for_each_vector<T>(n, [&](int, long offset, int count) {
                    const Vector<T> z = load_padded(scores + offset, count);
                    store_counted(out + offset, count, z == largest ? share : Vector<T>{});
                });
            }
        // Where alpha and T are both infinite all gaps vanish before alpha grows.
        double window = temperature == __builtin_inf() ? temperature : temperature / (alpha - 1), s = 1;
        if (n >= fewest_to_bound && window > 0 && window < __builtin_inf())
            window *= s = bound_of_s(best, blocks, (double)largest, alpha, temperature, spare);
        const T bound = next_below(T((double)largest - window * (1 + 0x1p-50)));
        const long count = keep_above(scores, n, bound, kept);
        if (count >= 0) {
            if (temperature == __builtin_inf() && alpha == __builtin_inf()) alpha = 2;
            shares_of_kept(kept, count, (double)largest, alpha, temperature, s, spare);
            spread_above(scores, n, bound, kept, out);
            return;
        }
        kind = RowKind::not_a_number;
    }
    probabilities_of_special_row(kind, scores, out, n, empty);
}
