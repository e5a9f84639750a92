// One row of scores: its maximum, its shifted and scaled scores, and the sum of their exponentials.
//
// Element i of a row goes to accumulator i mod 16 in every instruction set, short rows are padded with impossible
// entries, and the accumulators are combined in one fixed order: hence the same bits everywhere.

constexpr int accumulators = 16;
template <class T>
constexpr int parts = accumulators / lanes<T>;  // vectors that hold the 16 accumulators

// Calls visit(part, offset, count) for each vector of the row; only the last block has counts below a full vector.
template <class T, class Visit>
INLINE void for_each_vector(long n, Visit visit) {
    long i = 0;
    for (; i + accumulators <= n; i += accumulators)
#pragma GCC unroll 16
        for (int part = 0; part < parts<T>; ++part) visit(part, i + part * lanes<T>, lanes<T>);
    if (i < n)
#pragma GCC unroll 16
        for (int part = 0; part < parts<T>; ++part) {
            const long left = n - i - part * lanes<T>;
            if (left > 0) visit(part, i + part * lanes<T>, left < lanes<T> ? (int)left : lanes<T>);
        }
}

// A vector across two lines of the cache takes two turns, and NumPy's arrays begin 16 bytes into a line. So where a pass over a
// long row does little but read and write, the entries before the first line's end go by themselves.
constexpr long fewest_to_align = 512;
template <class T>
INLINE long entries_to_align(const T* row, long n) {
    return n > fewest_to_align ? long(-(reinterpret_cast<std::uintptr_t>(row) / sizeof(T)) % lanes<T>) : 0;
}
// Calls visit(part, offset, count) for the first entries and then for each vector.
template <class T, class Visit>
INLINE void for_each_vector_after(long first, long n, Visit visit) {
    if (first) visit(0, 0, (int)first);
    for_each_vector<T>(n - first, [&](int part, long offset, int count) { visit(part, first + offset, count); });
}

template <class T>
INLINE Vector<T> load_padded(const T* p, int count) {
    return count == lanes<T> ? load(p) : load_first(p, count, broadcast(T(-__builtin_inf())));
}
template <class V>
INLINE void store_counted(Scalar<V>* p, int count, V v) {
    if (count == lanes<Scalar<V>>)
        store(p, v);
    else
        store_first(p, count, v);
}

// What comes next is on its way while this is computed: scores of the next batch or row, of rows one by one so many entries ahead
// at least, for memory takes longer than a short row; places of results as many ahead. Addresses beyond the arrays are no harm.
template <class T>
constexpr long fewest_ahead = 8192 / sizeof(T);
template <class T>
INLINE bool begins_line(int part) {
    return part * lanes<T> * sizeof(T) % 64 == 0;
}
template <class T>
INLINE void prefetch(const T* p, int part) {
    if (begins_line<T>(part)) __builtin_prefetch(p);
}
template <class T>
INLINE void prefetch_result(const T* p, int part) {
    if (begins_line<T>(part)) __builtin_prefetch(p + fewest_ahead<T>, 1);
}

struct Maximum {
    template <class V>
    INLINE V operator()(V a, V b) const {
        return maximum(a, b);
    }
};

// The largest score in each accumulator; NaN scores are passed over here and found by the sum. Several at a time, so that no
// comparison waits for the last.
template <class T>
INLINE void find_largest(const T* scores, long n, Vector<T> (&best)[parts<T>]) {
    constexpr int together = 4;
    for (auto& b : best) b = broadcast(T(-__builtin_inf()));
    long done = 0;
    if (n >= together * accumulators) {
        Vector<T> each[together][parts<T>];
        const auto score = [&](int block, int part) { return load(scores + done + block * accumulators + part * lanes<T>); };
        for (int block = 0; block < together; ++block)
            for (int part = 0; part < parts<T>; ++part) each[block][part] = maximum(score(block, part), best[part]);
        for (done = together * accumulators; done + together * accumulators <= n; done += together * accumulators)
            for (int block = 0; block < together; ++block)
                for (int part = 0; part < parts<T>; ++part) each[block][part] = maximum(score(block, part), each[block][part]);
        for (int part = 0; part < parts<T>; ++part)
            best[part] = maximum(maximum(each[0][part], each[1][part]), maximum(each[2][part], each[3][part]));
    }
    for_each_vector<T>(n - done, [&](int part, long offset, int count) {
        best[part] = maximum(load_padded(scores + done + offset, count), best[part]);
    });
}
template <class T>
INLINE Vector<T> largest_parts(const Vector<T> (&best)[parts<T>]) {
    Vector<T> largest = best[0];
#pragma GCC unroll 16
    for (int part = 1; part < parts<T>; ++part) largest = maximum(best[part], largest);
    return largest;
}
template <class T>
INLINE Vector<T> largest_parts(const T* scores, long n) {
    Vector<T> best[parts<T>];
    find_largest(scores, n, best);
    return largest_parts<T>(best);
}
template <class T>
INLINE T row_maximum(const T* scores, long n) {
    const long begin = entries_to_align(scores, n);
    const Vector<T> aligned = largest_parts(scores + begin, n - begin);
    return across<lanes<T> / 2>(begin ? maximum(load(scores), aligned) : aligned, Maximum{})[0];
}

// How scores are divided by a temperature: x = ((z - max) * before) * after / T', everything a power of two but
// T', so that neither the difference nor the quotient overflows or loses bits for any T from 0 to inf.
template <class T>
struct Division {
    T before, after, reciprocal, reciprocal_error;
    bool is_one;

    explicit Division(double temperature) {
        constexpr double large = sizeof(T) == 8 ? 0x1p512 : 0x1p64, limit = sizeof(T) == 8 ? 0x1p1000 : 0x1p120;
        is_one = temperature == 1.0;
        before = after = 1;
        double scaled = temperature;
        if (temperature > large) {
            before = T(1 / large);
            scaled = temperature / large;
        } else if (temperature > 1) {
            before = T(0.5);
            scaled = temperature / 2;
        } else if (temperature < 1 / large) {
            after = T(large);
            scaled = temperature * large;
        }
        // At T = 0 any reciprocal large enough to underflow every gap is the limit.
        const double r = scaled < 1 / limit ? limit : 1 / scaled;
        reciprocal = T(r);
        const bool exact = scaled < 1 / limit || r == 0;
        reciprocal_error = exact                ? T(0)
                           : sizeof(T) == 4 ? T(r - (double)reciprocal)
                                                : T(__builtin_fma(-r, scaled, 1.0) * r);
    }
};

// (z - max) / T as hi + lo, the rounding errors of the difference and of the quotient kept in lo. Impossible
// entries give hi = -inf, also where T = inf makes -inf * 0.
template <class T, bool scaled>
INLINE Pair<T> shifted_score(Vector<T> z, Vector<T> maximum_score, const Division<T>& by) {
    if constexpr (!scaled) {
        return two_sum(z, -maximum_score);
    } else {
        Pair<T> d = two_sum(z * by.before, -maximum_score * by.before);
        d.hi = d.hi * by.after;
        d.lo = d.lo * by.after;
        const Vector<T> r = broadcast(by.reciprocal), hi = d.hi * r;
        const Vector<T> lo = product_error(d.hi, r, hi) + (d.hi * by.reciprocal_error + d.lo * r);
        const Vector<T> impossible = broadcast(T(-__builtin_inf()));
        return {z == impossible ? impossible : hi, lo};
    }
}

struct Sum {         // of exp((z - max) / T) over a row, the leaders apart: leaders + rest + rest_error
    double leaders;  // how many entries equal the maximum
    double rest, rest_error;
};

// Sixteen accumulators to one, in lane 0, by a fixed tree: i and i + 8, then i and i + 4, ...
INLINE Floats plus(Floats a, Floats b) { return a + b; }
INLINE Doubles plus(Doubles a, Doubles b) { return a + b; }
INLINE Pair<double> plus(const Pair<double>& a, const Pair<double>& b) {
    const Pair<double> sum = two_sum(a.hi, b.hi);
    return {sum.hi, (a.lo + b.lo) + sum.lo};
}
template <int distance>
INLINE Pair<double> exchanged(const Pair<double>& v) {
    return {exchanged<distance>(v.hi), exchanged<distance>(v.lo)};
}
struct Plus {
    template <class Sum>
    INLINE Sum operator()(const Sum& a, const Sum& b) const {
        return plus(a, b);
    }
};
template <class Sum, int count>
INLINE Sum combined_parts(const Sum (&accumulator)[count]) {
    Sum sum[count];
    for (int i = 0; i < count; ++i) sum[i] = accumulator[i];
#pragma GCC unroll 8
    for (int half = count / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) sum[i] = plus(sum[i], sum[i + half]);
    return sum[0];
}
template <class Sum, int count>
INLINE Sum combined(const Sum (&accumulator)[count]) {
    return across<accumulators / count / 2>(combined_parts(accumulator), Plus{});
}
// The same tree over columns in vectors whose lanes are rows: of a row of up to 16 entries, which has one in each accumulator,
// or of what is left in the lanes of its accumulators.
template <class Sum>
INLINE Sum combined_columns(Sum* sum, long n) {
    for (long half = accumulators / 2; half > 0; half /= 2)
        for (long i = 0; i < half && i + half < n; ++i) sum[i] = plus(sum[i], sum[i + half]);
    return sum[0];
}

// The sum of exponentials; with keep, they are written to out for the maps that divide them later.
template <class T, bool scaled, bool keep>
INLINE Sum sum_of_exponentials(const T* scores, long n, T maximum_score, const Division<T>& by, T* out) {
    Vector<T> sum[parts<T>] = {}, error[parts<T>] = {};
    Bits<T> leaders[parts<T>] = {};
    for_each_vector<T>(n, [&](int part, long offset, int count) {
        const Vector<T> z = load_padded(scores + offset, count);
        const Pair<T> x = shifted_score<T, scaled>(z, broadcast(maximum_score), by);
        const Pair<T> e = scaled_exp(x.hi, x.lo);
        if constexpr (keep) store_counted(out + offset, count, e.hi * Exp<T>::unscale);
        const Bits<T> leads = (Bits<T>)(z == broadcast(maximum_score));
        leaders[part] -= leads;  // a true comparison is all ones, -1
        const Pair<T> next = two_sum(sum[part], (Vector<T>)((Bits<T>)e.hi & ~leads));
        sum[part] = next.hi;
        error[part] += next.lo + (Vector<T>)((Bits<T>)e.lo & ~leads);
    });
    Pair<double> wide[parts<double>];
    double count = 0;
    for (int i = 0; i < accumulators; ++i) {
        wide[i / lanes<double>].hi[i % lanes<double>] = sum[i / lanes<T>][i % lanes<T>];
        wide[i / lanes<double>].lo[i % lanes<double>] = error[i / lanes<T>][i % lanes<T>];
        count += (double)leaders[i / lanes<T>][i % lanes<T>];
    }
    const Pair<double> total = combined(wide);
    const double rest = total.hi[0] + total.lo[0], rest_error = (total.hi[0] - rest) + total.lo[0];
    return {count, rest * (double)Exp<T>::unscale, rest_error * (double)Exp<T>::unscale};
}

// log of the sum of exponentials: 1 + (leaders - 1 + rest), so that no bit of a tiny rest is lost.
INLINE double log_of(const Sum& s) {
    const Pair<double> sum = two_sum(broadcast(s.leaders), broadcast(s.rest));
    return log_of_pair(sum.hi, sum.lo + s.rest_error)[0];
}

// Rows that have no ordinary sum. `possible` entries of a row at +inf are its ties; an empty row follows `empty`.
enum class Empty : int { zero, nan, uniform };
enum class RowKind { ordinary, empty, infinite, not_a_number };

template <class T>
INLINE RowKind kind_of_row(const T* scores, long n, T maximum_score) {
    if (maximum_score - maximum_score == 0) return RowKind::ordinary;
    for (long i = 0; i < n; ++i)
        if (scores[i] != scores[i]) return RowKind::not_a_number;
    return maximum_score > 0 ? RowKind::infinite : RowKind::empty;
}

template <class T>
INLINE long count_infinite(const T* scores, long n) {
    long count = 0;
    for (long i = 0; i < n; ++i) count += scores[i] == T(__builtin_inf());
    return count;
}

template <class T>
INLINE void fill(T* out, long n, T value) {
    for (long i = 0; i < n; ++i) out[i] = value;
}

// A row of probabilities without an ordinary sum: ties at +inf share, the rest is one number everywhere.
template <class T>
INLINE void probabilities_of_special_row(RowKind kind, const T* scores, T* out, long n, Empty empty) {
    if (kind == RowKind::infinite) {
        const T share = T(1) / T(count_infinite(scores, n));
        for (long i = 0; i < n; ++i) out[i] = scores[i] == T(__builtin_inf()) ? share : T(0);
    } else {
        const bool nan = kind == RowKind::not_a_number || empty == Empty::nan;
        fill(out, n, nan ? T(__builtin_nan("")) : empty == Empty::uniform ? T(1) / T(n) : T(0));
    }
}
