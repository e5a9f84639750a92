// Segments of as many heads as a vector has lanes, or fewer: those that fit stand side by side in the lanes, entry after entry,
// shorter ones filled up with impossible entries. Nothing is transposed.
constexpr long packed_entries = 1024;  // of a segment; more go as a tile

// Rows of more than 16 entries, a lane each, their entries one vector after the other. Entry i goes to accumulator i mod 16 here
// as it does along a row.
template <class T>
struct LongColumns {
    T* column;
    long n;
    Vector<T> largest;

    INLINE LongColumns(T* entries, long count, long) : column(entries), n(count) {
        largest = broadcast(T(-__builtin_inf()));
        for (long j = 0; j < n; ++j) largest = maximum(load(column + j * lanes<T>), largest);
    }

    // Their sums; returns the exponentials of the largest scores.
    template <bool scaled, bool keep>
    INLINE Vector<T> exponentials(double temperature, Pair<double>* total) const {
        constexpr T floor = ExponentialSum<T>::floor;
        const Near<T, scaled> exponential(largest, temperature);
        Vector<T> sum[accumulators], lost[accumulators] = {};
        for (auto& s : sum) s = broadcast(floor);
        for (long j = 0; j < n; ++j) {
            const Exponential<T> e = exponential(load(column + j * lanes<T>));
            if constexpr (keep) store(column + j * lanes<T>, e.hi);
            ExponentialSum<T>::add(sum[j % accumulators], lost[j % accumulators], e);
        }
        for (int half = 0; half < halves<T>; ++half) {
            Pair<double> wide[accumulators];
            for (int i = 0; i < accumulators; ++i)
                wide[i] = {widened(sum[i], half) - (double)floor, sizeof(T) == 8 ? widened(lost[i], half) : Doubles{}};
            total[half] = combined_columns(wide, accumulators);
        }
        if constexpr (sizeof(T) == 4) {
            const Vector<T> all_lost = combined_columns(lost, accumulators);
            for (int half = 0; half < halves<T>; ++half) total[half].lo += widened(all_lost, half);
        }
        return exponential.leader;
    }

    // Each of the maps returns one bit for each row that it leaves undone.
    template <bool scaled>
    INLINE unsigned to_softmax(double temperature) {
        Pair<double> total[halves<T>];
        exponentials<scaled, true>(temperature, total);
        const Pair<T> inverse = reciprocals<T>(total);
        for (long j = 0; j < n; ++j) {
            T* e = column + j * lanes<T>;
            store(e, times_pair(load(e), inverse.hi, inverse.lo));
        }
        return 0;
    }

    template <bool scaled>
    INLINE unsigned to_log_softmax(double temperature) {
        Pair<double> total[halves<T>];
        Doubles log_sum[halves<T>], none[halves<T>] = {};
        const Vector<T> leader = exponentials<scaled, false>(temperature, total);
        const unsigned undone = logs_of_sums<T>(total, leader, n, log_sum);
        const Pair<T> log_total = split<T>(log_sum, none);
        const Division<T> by(temperature);
        for (long j = 0; j < n; ++j) {
            T* z = column + j * lanes<T>;
            const Vector<T> result = log_probability<T, scaled>(load(z), largest, by, log_total.hi, log_total.lo);
            store(z, log_total.hi == log_total.hi ? result : log_total.hi);
        }
        return undone;
    }

    template <bool scaled>
    INLINE unsigned logsumexp(T* out, double temperature) const {
        Pair<double> total[halves<T>];
        Doubles log_sum[halves<T>];
        const Vector<T> leader = exponentials<scaled, false>(temperature, total);
        const unsigned undone = logs_of_sums<T>(total, leader, n, log_sum);
        store(out, potentials<T>(largest, temperature, log_sum));
        return undone;
    }

    INLINE void store_strided(T*, long) const {}  // they stand there
};

// `heads` entries; whole groups of four by moves of constant size.
template <class T>
INLINE void copy_heads(const T* from, T* to, long heads) {
    long i = 0;
    for (; i + 4 <= heads; i += 4) __builtin_memcpy(to + i, from + i, 4 * sizeof(T));
    for (; i < heads; ++i) to[i] = from[i];
}

template <class T, bool reduces, class Batch, class OfBatch, class OfSegment>
__attribute__((noinline)) void run_pack(const Rows& r, Places<T>& places, T* packed, OfBatch of_batch, OfSegment of_segment) {
    const T* scores = static_cast<const T*>(r.scores);
    T* out = static_cast<T*>(r.out);
    const long heads = r.inner;
    const long n = places.longest();
    __builtin_memset(packed, 0, n * lanes<T> * sizeof(T));
    for (int s = 0; s < places.count; ++s) {
        T* to = packed + s * heads;
        const T* from = scores + places.begin[s] * heads;
        for (long j = 0; j < places.size[s]; ++j) {
            prefetch(from + j * heads + fewest_ahead<T>, 0);
            copy_heads(from + j * heads, to + j * lanes<T>, heads);
        }
        for (long j = places.size[s]; j < n; ++j) fill(to + j * lanes<T>, heads, T(-__builtin_inf()));
    }
    unsigned undone = ~0u;
    Batch batch(packed, n, lanes<T>);
    if (all_near<T>(batch.largest, *r.temperature)) undone = of_batch(batch, packed, lanes<T>);
    const unsigned every = (1u << heads) - 1;
    for (int s = 0; s < places.count; ++s) {
        const T* from = packed + s * heads;
        if (undone >> s * heads & every)
            of_segment(places.row[s]);
        else if (reduces)
            copy_heads(from, out + places.row[s] * heads, heads);
        else
            for (long j = 0; j < places.size[s]; ++j) {
                T* to = out + (places.begin[s] + j) * heads;
                prefetch_result(to, 0);
                copy_heads(from + j * lanes<T>, to, heads);
            }
    }
    places.count = 0;
}

// of_batch(batch, results, stride) does a pack, of_segment(i) a segment alone.
template <class T, bool reduces, class OfBatch, class OfSegment>
INLINE void each_pack(const Rows& r, long begin, long end, T* packed, OfBatch of_batch, OfSegment of_segment) {
    const int fit = (int)(lanes<T> / r.inner);
    Places<T> few, more;
    for (long i = begin; i < end; ++i) {
        const Span segment = r.row(i);
        if (segment.size == 0 || segment.size > packed_entries) {
            of_segment(i);
        } else if (segment.size <= short_columns) {
            few.add(i, segment);
            if (few.count == fit) run_pack<T, reduces, ShortRows<T>>(r, few, packed, of_batch, of_segment);
        } else {
            more.add(i, segment);
            if (more.count == fit) run_pack<T, reduces, LongColumns<T>>(r, more, packed, of_batch, of_segment);
        }
    }
    if (few.count) run_pack<T, reduces, ShortRows<T>>(r, few, packed, of_batch, of_segment);
    if (more.count) run_pack<T, reduces, LongColumns<T>>(r, more, packed, of_batch, of_segment);
}
