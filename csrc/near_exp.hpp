// exp((z - max)/T) where the largest score is moderate. The scores themselves are reduced, not their differences from the
// maximum, whose rounding errors would have to be kept: with steps of h = ln 2 / steps, K = round(max / h) and C = max - K h_hi,
// exact as z - k h_hi is, exp(z - max) = 2^(k / steps) exp(r) for k = round((z - max) / h), r = (z - (K + k) h_hi - C) - k h_lo.
// The maximum has k = r = 0: ties share exactly.
// Other rows (large offsets, extreme temperatures) go the general way of row.hpp.

template <class T>
struct NearRange {
    static constexpr double largest = 512, temperature = 0x1p60;
};

template <class T>
INLINE bool is_near(T maximum_score, double temperature) {
    using R = NearRange<T>;
    return temperature < R::temperature && temperature > 1 / R::temperature &&
           __builtin_fabs((double)maximum_score) <= R::largest * temperature;
}

// An exponential times Exp<T>::scale: hi, and what is left of it beside a part of it.
template <class T>
struct Exponential;
template <>
struct Exponential<float> {
    Floats hi, power, y;  // power (1 + y)
    INLINE Floats beside(Floats part) const { return fused(power, y, power - part); }
};
template <>
struct Exponential<double> {
    Doubles hi, lo;
    INLINE Doubles beside(Doubles part) const { return (hi - part) + lo; }
};

// 2^(k / steps) and exp(r) = 1 + r + r^2 q(r). At `deepest` below the maximum the power is 0, and not subnormal.
// Coefficients: csrc/coefficients.py.
template <class T>
struct NearExp;

// Powers of 2^(1/8) and |r| <= ln 2 / 16. All are times `leader`, a number beside which the floats nearest to the eight are
// within 2^-27.7 of them; it cancels in probabilities.
template <>
struct NearExp<float> {
    static constexpr int steps = 8;
    static constexpr double deepest = 121.99390377854497;  // 176 ln 2: its power has an exponent of -1 beside the bias
    static constexpr double leader = 0x1.16747cp+0;
    static constexpr float magic = 0x1.8p23f;
    static constexpr float step_hi = has_fma ? 0x1.62e43p-4f : 0x1.63p-4f;  // without fma its products must be exact
    static constexpr float step_lo = has_fma ? -0x1.05c61p-32f : -0x1.bd0106p-16f;
    static constexpr float q[] = {0x1p-1f, 0x1.555b7cp-3f, 0x1.55597p-5f};
    static constexpr unsigned powers[] = {0x578b3a3e, 0x5787d424, 0x57859202, 0x57848e45,
                                          0x5784e5be, 0x5786b7da, 0x578a26de, 0x578f5829};  // of j, less j << 20

    static INLINE Exponential<float> exponential(FloatBits count, Floats k, const Pair<float>& coarse) {
        const Floats r = fused(k, broadcast(-step_lo), coarse.hi + coarse.lo);
        const Floats y = fused(r * r, fused(fused(broadcast(q[2]), r, broadcast(q[1])), r, broadcast(q[0])), r);
        const Floats power = (Floats)not_negative(looked_up(powers, count) + (count << 20));
        return {fused(power, y, power), power, y};
    }
};

template <>
struct NearExp<double> {
    static constexpr int steps = 1, bias = 1023 + 128;
    static constexpr double deepest = 797.81240346571395;  // 1151 ln 2: the power has the exponent -1023 - 128
    static constexpr double leader = 1, magic = 0x1.8p52 + bias;
    static constexpr double step_hi = Exp<double>::ln2_hi, step_lo = Exp<double>::ln2_lo;

    static INLINE Exponential<double> exponential(DoubleBits count, Doubles k, const Pair<double>& coarse) {
        const Doubles fine = fused(k, broadcast(-step_lo), coarse.lo);
        const Doubles r = coarse.hi + fine, r_lo = (coarse.hi - r) + fine;
        const Doubles one = r + 1.0, rest = (r - (one - 1.0)) + r_lo;
        const Doubles tail = fused(r * r, exp_quotient<double>(r), rest);
        const Doubles mantissa = one + tail, mantissa_lo = (one - mantissa) + tail;
        const Doubles power = (Doubles)(count << Exp<double>::mantissa_bits);
        return {mantissa * power, mantissa_lo * power};
    }
};

// Beside the largest score of a row, or, in each lane, of a row.
template <class T, bool scaled>
struct Near {
    using N = NearExp<T>;
    static constexpr Vector<T> no_rest = -Vector<T>{};  // x + -0 is x, which the compiler knows
    static constexpr T steps_per_unit = T(N::steps * 1.44269504088896340736);
    Vector<T> bound;                     // lower scores have the exponential 0
    Vector<T> start;                     // - max in steps
    Vector<T> origin, offset, offset_lo;  // magic - K, C, and the rounding error of max / T
    T reciprocal, reciprocal_error;

    INLINE Near(Vector<T> largest, double temperature) {
        const double r = 1 / temperature;
        reciprocal = T(r);
        reciprocal_error = sizeof(T) == 4 ? T(r - (double)reciprocal) : T(__builtin_fma(-r, temperature, 1.0) * r);
        bound = largest - T(N::deepest * temperature);
        const Pair<T> x = divided(largest);
        start = x.hi * -steps_per_unit;
        origin = start + T(N::magic);
        offset = fused(T(N::magic) - origin, broadcast(-N::step_hi), x.hi);
        offset_lo = x.lo;
    }

    INLINE Near of_row(int lane) const {
        Near row = *this;
        row.bound = broadcast(bound[lane]);
        row.start = broadcast(start[lane]);
        row.origin = broadcast(origin[lane]);
        row.offset = broadcast(offset[lane]);
        row.offset_lo = broadcast(offset_lo[lane]);
        return row;
    }

    // z / T as hi + lo.
    INLINE Pair<T> divided(Vector<T> z) const {
        if constexpr (!scaled) return {z, Vector<T>{}};
        const Vector<T> hi = z * reciprocal;
        return {hi, fused(z, broadcast(reciprocal_error), product_error(z, broadcast(reciprocal), hi))};
    }

    // To about 0.6 ULP of hi; NaN where the score is.
    INLINE Exponential<T> operator()(Vector<T> z) const {
        const Pair<T> x = divided(maximum(bound, z));
        const Vector<T> shifted = fused(x.hi, broadcast(steps_per_unit), start) + T(N::magic);
        const Vector<T> coarse = fused(shifted - origin, broadcast(-N::step_hi), x.hi) - offset;
        return N::exponential((Bits<T>)shifted, shifted - T(N::magic), {coarse, scaled ? x.lo - offset_lo : no_rest});
    }
};
