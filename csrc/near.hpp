// Sums of exponentials of rows whose largest score is moderate, and the maps made from them.

constexpr long chunk_columns = 16384;  // of a row, summed by itself

// Exponentials summed as sum + lost - floor, entry i in accumulator i mod 16. The sum begins above every exponential: what a
// sum of a larger and a smaller number loses takes two subtractions to find.
template <class T>
struct ExponentialSum {
    static constexpr T floor = Exp<T>::scale * 2;
    Vector<T> sum[parts<T>], lost[parts<T>] = {};

    INLINE ExponentialSum() {
        for (auto& s : sum) s = broadcast(floor);
    }
    INLINE void add(int part, const Exponential<T>& e) { add(sum[part], lost[part], e); }
    static INLINE void add(Vector<T>& sum, Vector<T>& lost, const Exponential<T>& e) {
        const Vector<T> next = sum + e.hi;
        lost += e.beside(next - sum);
        sum = next;
    }
    // In the accumulators' order; what is left is to be combined over lanes.
    INLINE Pair<double> across_parts() const {
        if constexpr (sizeof(T) == 4) {
            Doubles wide[parts<double>];
            for (int part = 0; part < parts<float>; ++part) {
                wide[2 * part] = lower_doubles(sum[part]);
                wide[2 * part + 1] = upper_doubles(sum[part]);
            }
            return {combined_parts(wide) - (double)floor * parts<double>, Doubles{}};
        } else {
            Pair<double> wide[parts<double>];
            for (int part = 0; part < parts<double>; ++part) wide[part] = {sum[part] - floor, lost[part]};
            return combined_parts(wide);
        }
    }
    INLINE Pair<double> total() const {
        const Pair<double> parts_sum = across_parts();
        if constexpr (sizeof(T) == 4)
            return {across<lanes<double> / 2>(parts_sum.hi, Plus{}), broadcast((double)combined(lost)[0])};
        else
            return across<lanes<double> / 2>(parts_sum, Plus{});
    }
};

// Of up to 16 entries, each alone in its accumulator. Exact, no bit of a tiny rest beside the leader is lost.
template <bool exact>
INLINE Pair<double> sum_of_few(const Floats (&e)[parts<float>], const Floats (&lost)[parts<float>]) {
    Doubles wide[parts<double>];
    for (int part = 0; part < parts<double>; ++part) wide[part] = widened(e[part / 2], part % 2);
    const Doubles all_lost = broadcast((double)combined(lost)[0]);
    if constexpr (!exact) return {combined(wide), all_lost};
    Pair<double> pairs[parts<double>];
    for (int part = 0; part < parts<double>; ++part) pairs[part] = {wide[part], Doubles{}};
    const Pair<double> total = combined(pairs);
    return {total.hi, total.lo + all_lost};
}
template <bool exact>
INLINE Pair<double> sum_of_few(const Doubles (&e)[parts<double>], const Doubles (&lost)[parts<double>]) {
    Pair<double> pairs[parts<double>];
    for (int part = 0; part < parts<double>; ++part) pairs[part] = {e[part], lost[part]};
    return combined(pairs);
}

// An exponential takes so many cycles, one after the other, that the processor does not find enough of the next ones to fill
// them. So scores are reduced a block before, in registers: blocks of all accumulators, and of an eighth of the registers.
template <class T, class Exp>
struct Ahead {
    static constexpr int together = std::max(parts<T>, SOFTLY_VECTOR_BYTES == 64 ? 4 : 2);
    static constexpr long block = together * lanes<T>;
    typename Exp::Reduced of[together];

    INLINE void begin(const Exp& exponential, const T* scores) {
        for (int i = 0; i < together; ++i) of[i] = exponential.reduced(load(scores + i * lanes<T>));
    }
    // Calls visit(part, vector, exponential) for the block while the next one is reduced.
    template <class Visit>
    INLINE void step(const Exp& exponential, const Exp& exponential_of_next, const T* next, Visit visit) {
#pragma GCC unroll 16
        for (int i = 0; i < together; ++i) {
            const auto reduced = of[i];
            of[i] = exponential_of_next.reduced(load(next + i * lanes<T>));
            visit(i % parts<T>, i * lanes<T>, exponential.of_reduced(reduced));
        }
    }
};

// Calls visit(part, offset, count, exponential) for the vectors from `done` on, which are no block.
template <class T, class Exp, class Visit>
INLINE void for_each_last_exponential(const Exp& exponential, const T* scores, long done, long n, Visit visit) {
    for_each_vector<T>(n - done, [&](int part, long offset, int count) {
        visit(part, done + offset, count, exponential(load_padded(scores + done + offset, count)));
    });
}

// Calls visit(part, offset, count, exponential) for each vector of a row, whose last block is reduced twice: in one loop body, for a
// second one as below took long rows up to 7 % more on AVX2.
template <class T, class Exp, class Visit>
INLINE void for_each_exponential(const Exp& exponential, const T* scores, long n, Visit visit) {
    Ahead<T, Exp> ahead;
    constexpr long block = ahead.block;
    long done = 0;
    if (n >= block) ahead.begin(exponential, scores);
    for (; done + block <= n; done += block) {
        const T* next = scores + (done + 2 * block <= n ? done + block : done);
        ahead.step(exponential, exponential, next, [&](int part, long i, const auto& e) { visit(part, done + i, lanes<T>, e); });
    }
    for_each_last_exponential(exponential, scores, done, n, visit);
}

// For each vector of a row whose first block, if it has one, is ahead; leaves that of the next row there.
template <class T, class Exp, class Visit>
INLINE void for_each_exponential(const Exp& exponential, const T* scores, long n, Ahead<T, Exp>& ahead,
                                 const Exp& exponential_of_next, const T* next, Visit visit) {
    constexpr long block = Ahead<T, Exp>::block;
    long done = 0;
    const auto of_block = [&](int part, long i, const Exponential<T>& e) { visit(part, done + i, lanes<T>, e); };
    for (; done + 2 * block <= n; done += block) ahead.step(exponential, exponential, scores + done + block, of_block);
    if (done + block <= n) {
        ahead.step(exponential, exponential_of_next, next, of_block);
        done += block;
    }
    for_each_last_exponential(exponential, scores, done, n, visit);
}

// The sum of a row's exponentials, which visit(part, offset, count, exponentials) sees, while the next row is fetched.
template <class T, bool exact, class Exp, class Visit>
INLINE Pair<double> near_sum(const Exp& exponential, const T* scores, long n, const T* next, Visit visit) {
    if (n <= accumulators) {
        Vector<T> e[parts<T>] = {}, lost[parts<T>] = {};
        for_each_vector<T>(n, [&](int part, long offset, int count) {
            const Exponential<T> one = exponential(load_padded(scores + offset, count));
            visit(part, offset, count, e[part] = one.hi);
            lost[part] = one.beside(one.hi);
        });
        return sum_of_few<exact>(e, lost);
    }
    Pair<double> total = {};
    for (long begin = 0; begin < n; begin += chunk_columns) {
        ExponentialSum<T> sum;
        const long columns = n - begin < chunk_columns ? n - begin : chunk_columns;
        for_each_exponential(exponential, scores + begin, columns, [&](int part, long offset, int count, const auto& e) {
            prefetch(next + begin + offset, part);
            visit(part, begin + offset, count, e.hi);
            sum.add(part, e);
        });
        total = plus(total, sum.total());
    }
    return total;
}

// lo less than the last place of hi. Of many entries far below the leader most is in what a sum lost.
INLINE Pair<double> normalised(const Pair<double>& sum) {
    const Doubles hi = sum.hi + sum.lo;
    return {hi, (sum.hi - hi) + sum.lo};
}

INLINE Pair<double> reciprocal(const Pair<double>& of) {
    const Pair<double> sum = normalised(of);
    const Doubles r = 1.0 / sum.hi;
    const Doubles product = r * sum.hi;
    return {r, (((1.0 - product) - product_error(r, sum.hi, product)) - sum.lo * r) * r};
}

template <class T>
INLINE void multiply_row(T* out, long n, long first, Vector<T> hi, Vector<T> lo) {
    for_each_vector_after<T>(first, n, [&](int, long offset, int count) {
        store_counted(out + offset, count, times_pair(load_padded(out + offset, count), hi, lo));
    });
}

// What is fetched beside results that are kept. Where a row of floats, its results and the next row are more than the second cache
// (1 MB) holds, the next one stays where it is: softmax of 64 x 128256 took 2.5 ms with it, 1.8 without. Doubles take longer than
// memory.
template <class T>
INLINE const T* next_beside_results(const T* scores, long n, const T* next) {
    return sizeof(T) == 4 && n > 1 << 16 ? scores : next;
}

template <class T, bool scaled>
INLINE bool softmax_near(const T* scores, T* out, long n, const T* next, T largest, double temperature) {
    const Near<T, scaled> exponential(broadcast(largest), temperature);
    const Pair<double> total = near_sum<T, false>(
        exponential, scores, n, next_beside_results(scores, n, next), [&](int part, long offset, int count, Vector<T> e) {
            prefetch_result(out + offset, part);
            store_counted(out + offset, count, e);
        });
    if (total.hi[0] != total.hi[0]) return false;
    const Pair<double> inverse = reciprocal(total);
    const T hi = T(inverse.hi[0]), lo = T((inverse.hi[0] - (double)hi) + inverse.lo[0]);
    multiply_row(out, n, entries_to_align(out, n), broadcast(hi), broadcast(lo));
    return true;
}

// A sum of exponentials over the one of the maximum, at least 1. Of floats the rest alone is divided, which is rounded far below
// the last place of a float; of doubles that of the maximum is their scale.
template <class T>
INLINE Pair<double> beside_leader(const Pair<double>& of, Doubles leader) {
    if constexpr (sizeof(T) == 4) return two_sum(broadcast(1.0), ((of.hi - leader) + of.lo) / leader);
    const Pair<double> sum = normalised(of);
    return {sum.hi * Exp<double>::unscale, sum.lo * Exp<double>::unscale};
}

// Whether a sum keeps every bit of a tiny rest beside the leader; that of 16 accumulators of floats may not.
constexpr double rest_is_kept = 1 + 0x1p-20;
template <class T>
INLINE bool keeps_rest(double sum, long n) {
    return sizeof(T) == 8 || n <= accumulators || !(sum < rest_is_kept);
}

// log of the sum of exp((z - max)/T); NaN where there is a NaN.
template <class T>
INLINE double log_of_sum_of_row(const T* scores, long n, const T* next, T largest, double temperature) {
    if (is_near(largest, temperature)) {
        const auto sum_of = [&](auto exponential) {
            return beside_leader<T>(near_sum<T, true>(exponential, scores, n, next, [](int, long, int, Vector<T>) {}),
                                    broadcast((double)exponential.leader[0]));
        };
        const Pair<double> sum = temperature == 1 ? sum_of(Near<T, false>(broadcast(largest), temperature))
                                                  : sum_of(Near<T, true>(broadcast(largest), temperature));
        if (keeps_rest<T>(sum.hi[0], n)) return log_of_pair(sum.hi, sum.lo)[0];
    }
    const Division<T> by(temperature);
    return log_of(by.is_one ? sum_of_exponentials<T, false, false>(scores, n, largest, by, nullptr)
                            : sum_of_exponentials<T, true, false>(scores, n, largest, by, nullptr));
}
