// exp((z - max)/T) where the largest score is moderate. The scores themselves are reduced, not their differences from the
// maximum, whose rounding errors would have to be kept: in steps of h = ln 2 / steps, z - k h is (z - k h_hi) - k h_lo, of which
// the first difference is exact. The maximum has r = 0 below: its exponential is exact, and ties share exactly.
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

// z / T as hi + lo.
template <class T, bool scaled>
struct OverTemperature {
    static constexpr Vector<T> no_rest = -Vector<T>{};  // x + -0 is x, which the compiler knows
    T reciprocal, reciprocal_error;

    INLINE explicit OverTemperature(double temperature) {
        const double r = 1 / temperature;
        reciprocal = T(r);
        reciprocal_error = sizeof(T) == 4 ? T(r - (double)reciprocal) : T(__builtin_fma(-r, temperature, 1.0) * r);
    }
    INLINE Pair<T> operator()(Vector<T> z) const {
        if constexpr (!scaled) return {z, no_rest};
        const Vector<T> hi = z * reciprocal;
        return {hi, fused(z, broadcast(reciprocal_error), product_error(z, broadcast(reciprocal), hi))};
    }
};

// An exponential times Exp<T>::scale: hi, and what is left of it beside a part of it. exp(r) = 1 + r + r^2 q(r); coefficients:
// csrc/coefficients.py.
template <class T>
struct Exponential;
template <>
struct Exponential<float> {
    // Of steps from the maximum, in the last bits. The lowest power is 2^(48 - 173.9) and no subnormal; what is lower is 0.
    static constexpr float magic = 0x1.8p23f, lowest = magic - 1391;
    Floats count, power, y, hi;  // power (1 + y)
    INLINE Exponential(Floats count, Floats power, Floats y)
        : count(count), power(power), y(y), hi(fused_from(count, lowest, power, y, power)) {}
    INLINE Floats beside(Floats part) const { return fused_from(count, lowest, power, y, power - part); }
};
template <>
struct Exponential<double> {
    Doubles hi, lo;
    INLINE Doubles beside(Doubles part) const { return (hi - part) + lo; }
};

// Beside the largest score of a row, or, in each lane, of a row.
template <class T, bool scaled>
struct Near;

// k = round(z / h) and K = round(max / h): exp(z - max) = 2^((k - K) / 8) exp(r) for r = (z - k h) - (max - K h) up to h.
// The powers of 2^(1/8) are all times a number beside which the floats nearest to the eight are within 2^-27.7 of them. It cancels.
struct NearFloat {
    static constexpr float magic = Exponential<float>::magic, steps_per_unit = 8 * 1.44269504088896340736;
    static constexpr float step_hi = has_fma ? 0x1.62e43p-4f : 0x1.63p-4f;  // without fma its products must be exact
    static constexpr float step_lo = has_fma ? -0x1.05c61p-32f : -0x1.bd0106p-16f;
    static constexpr float q[] = {0x1p-1f, 0x1.557216p-3f, 0x1.55688p-5f};
    static constexpr unsigned powers[] = {0x578b3a3e, 0x5787d424, 0x57859202, 0x57848e45,
                                          0x5784e5be, 0x5786b7da, 0x578a26de, 0x578f5829};  // of j, less j << 20
};
template <bool scaled>
struct Near<float, scaled> : NearFloat {
    OverTemperature<float, scaled> over_temperature;
    Floats origin, offset, leader;  // magic - K; max - K h; the exponential of the maximum

    INLINE Near(Floats largest, double temperature) : over_temperature(temperature) {
        origin = over_temperature(largest).hi * -steps_per_unit + magic;
        const Reduced of = reduced(largest);
        offset = of.hi;
        leader = power((FloatBits)of.lo);
    }
    INLINE Near of_row(int lane) const {
        Near row = *this;
        row.origin = broadcast(origin[lane]);
        row.offset = broadcast(offset[lane]);
        return row;
    }
    // z - k h, and k - K as the last bits of a number.
    using Reduced = Pair<float>;
    INLINE Reduced reduced(Floats z) const {
        const Pair<float> x = over_temperature(z);
        const Floats count = fused(x.hi, broadcast(steps_per_unit), origin), k = count - origin;
        return {fused(k, broadcast(-step_lo), fused(k, broadcast(-step_hi), x.hi) + x.lo), count};
    }
    static INLINE Floats power(FloatBits count) { return (Floats)(looked_up(powers, count) + (count << 20)); }
    // hi to about 0.6 ULP; NaN where the score is.
    INLINE Exponential<float> of_reduced(const Reduced& of) const {
        const Floats r = of.hi - offset;
        const Floats y = fused(r * r, fused(fused(broadcast(q[2]), r, broadcast(q[1])), r, broadcast(q[0])), r);
        return {of.lo, power((FloatBits)of.lo), y};
    }
    INLINE Exponential<float> operator()(Floats z) const { return of_reduced(reduced(z)); }
};

// k = round((z - max) / ln 2): exp(z - max) = 2^k exp(r) for r = (z - (K + k) ln 2) - C up to ln 2 / 2, where C = max - K ln 2.
struct NearDouble {
    static constexpr int bias = 1023 + 128;
    static constexpr double deepest = 797.81240346571395;  // 1151 ln 2: the power there has the exponent -1023 - 128 and is 0
    static constexpr double magic = 0x1.8p52 + bias, steps_per_unit = 1.44269504088896340736;
    static constexpr double step_hi = Exp<double>::ln2_hi, step_lo = Exp<double>::ln2_lo;
};
template <bool scaled>
struct Near<double, scaled> : NearDouble {
    OverTemperature<double, scaled> over_temperature;
    Doubles bound, start, origin, offset, offset_lo;  // the lowest score; - max in steps; magic - K; C, and what max / T lost
    Doubles leader = broadcast(Exp<double>::scale);   // the exponential of the maximum

    INLINE Near(Doubles largest, double temperature) : over_temperature(temperature) {
        bound = largest - deepest * temperature;
        const Pair<double> x = over_temperature(largest);
        start = x.hi * -steps_per_unit;
        origin = start + magic;
        offset = fused(magic - origin, broadcast(-step_hi), x.hi);
        offset_lo = x.lo;
    }
    INLINE Near of_row(int lane) const {
        Near row = *this;
        for (Doubles Near::*each : {&Near::bound, &Near::start, &Near::origin, &Near::offset, &Near::offset_lo})
            row.*each = broadcast((this->*each)[lane]);
        return row;
    }
    struct Reduced {
        Doubles r, r_lo, count;
    };
    INLINE Reduced reduced(Doubles z) const {
        const Pair<double> x = over_temperature(maximum(bound, z));
        const Doubles count = fused(x.hi, broadcast(steps_per_unit), start) + magic, k = count - magic;
        const Doubles coarse = fused(count - origin, broadcast(-step_hi), x.hi) - offset;
        const Doubles fine = fused(k, broadcast(-step_lo), scaled ? x.lo - offset_lo : x.lo);
        const Doubles r = coarse + fine;
        return {r, (coarse - r) + fine, count};
    }
    // NaN where the score is.
    INLINE Exponential<double> of_reduced(const Reduced& of) const {
        const Doubles r = of.r, one = r + 1.0, rest = (r - (one - 1.0)) + of.r_lo;
        const Doubles tail = fused(r * r, exp_quotient<double>(r), rest);
        const Doubles mantissa = one + tail, mantissa_lo = (one - mantissa) + tail;
        const Doubles power = (Doubles)((DoubleBits)of.count << Exp<double>::mantissa_bits);
        return {mantissa * power, mantissa_lo * power};
    }
    INLINE Exponential<double> operator()(Doubles z) const { return of_reduced(reduced(z)); }
};
