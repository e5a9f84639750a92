// What backward of sigmoid and log_sigmoid makes of a vector v, each entry by itself from its score: p (1 - p) v / T and
// (1 - p) v / T, in double, rounded once. With e = exp(-|x|), p (1 - p) is e / (1 + e)^2, and 1 - p is 1 / (1 + e) or, above
// x = 0, e / (1 + e). At T = 0 and inf, and where the score is infinite, the slope is 0.
// Error: half an ULP of floats, 4 ULP of doubles, where e is above exp(-780): below it counts as 0.

// Of floats: no scale is needed, and no correction.
template <bool of_logarithm>
INLINE Doubles slope_times(float, Doubles z, Doubles v, double temperature) {
    const Doubles x = with_limits(z, z * (1 / temperature), Doubles{}).hi;
    const auto positive = x > 0.0;
    const Doubles e = scaled_exp<false>(positive ? -x : x).hi * Exp<double>::unscale, under = e + 1.0;
    if constexpr (!of_logarithm) return e * v / (under * under * temperature);
    const Doubles over = positive ? e : z == -__builtin_inf() ? Doubles{} : broadcast(1.0);
    return over * v / (under * temperature);
}

template <bool of_logarithm>
INLINE Doubles slope_times(double, Doubles z, Doubles v, double temperature) {
    constexpr double scale = Exp<double>::scale, unscale = Exp<double>::unscale;
    const Pair<double> x = divide(z, temperature);
    const Complement<double> e(x);
    Doubles over = e.scaled.hi, over_lo = e.scaled.lo;
    Doubles under = e.near + 1.0, under_lo = ((1.0 - under) + e.near) + e.near_lo;
    if constexpr (of_logarithm) {
        const auto below = x.hi <= 0.0;
        over = below ? (z == -__builtin_inf() ? Doubles{} : broadcast(scale)) : over;
        over_lo = below ? Doubles{} : over_lo;
    } else {
        const Doubles square = under * under;
        under_lo = product_error(under, under, square) + 2.0 * under * under_lo;
        under = square;
    }
    const Pair<double> slope = quotient_of_pairs(over, over_lo, under, under_lo, 1.0 / under);
    // The scale is taken from large v before the product, which could overflow, and a small T comes after it.
    const auto is_large = (v > 1.0) | (v < -1.0);
    const Doubles factor = is_large ? v * unscale : v;
    Doubles g = slope.hi + slope.lo;
    if (temperature < 0x1p-500) {
        g = g * factor / (temperature * scale);
        return is_large ? g * scale : g;
    }
    if (temperature != 1) g /= temperature;
    g *= factor;
    return is_large ? g : g * unscale;
}

template <class T, bool of_logarithm>
void sigmoid_gradient_rows(const Rows& r, long begin, long end, double*) {
    each_temperature(r, begin, end, [&](long first, long n, double temperature) {
        const T* scores = static_cast<const T*>(r.scores) + first;
        const T* vector = static_cast<const T*>(r.vector) + first;
        T* out = static_cast<T*>(r.out) + first;
        if (is_limit(temperature)) return fill(out, n, T(0));
        for (long i = 0; i < n; i += lanes<T>) {
            const int count = n - i < lanes<T> ? (int)(n - i) : lanes<T>;
            const Vector<T> z = load_or_zero(scores + i, count), v = load_or_zero(vector + i, count);
            Doubles wide[halves<T>];
            for (int half = 0; half < halves<T>; ++half)
                wide[half] = slope_times<of_logarithm>(T(), widened(z, half), widened(v, half), temperature);
            Vector<T> g;
            narrowed(wide, &g);
            store_counted(out + i, count, g);
        }
    });
}
