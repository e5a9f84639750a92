// Batches of rows of up to 16 columns: a lane is a row, so that nothing is summed across lanes.
constexpr long short_columns = 16;

template <class T, bool anywhere = false>
struct ShortRows {
    static constexpr int width = lanes<T>, blocks = short_columns / width;
    long n;
    int used = 0;                     // blocks
    Vector<T> column[short_columns];  // column[j] holds entry j of each row
    Vector<T> largest;
    const Places<T>* places = nullptr;

    // Rows one after the other. Reads up to 16 entries beyond the last.
    INLINE ShortRows(const T* scores, long columns) : n(columns), used((int)((columns + width - 1) / width)) {
        for (int b = 0; b < used; ++b) {
#pragma GCC unroll 16
            for (int row = 0; row < width; ++row) column[b * width + row] = load(scores + row * n + b * width);
            transpose_block<T>(column + b * width);
        }
        find_largest();
    }
    // Rows that stand anywhere, those with fewer entries than others filled up with impossible ones.
    INLINE ShortRows(const T* scores, const Places<T>& where) : n(where.longest()), places(&where) {
        for (auto& entries : column) entries = broadcast(T(-__builtin_inf()));
        used = (int)((n + width - 1) / width);
        for (int b = 0; b < used; ++b) {
            for (int row = 0; row < width; ++row) column[b * width + row] = load_part(scores, row, b);
            transpose_block<T>(column + b * width);
        }
        find_largest();
    }
    INLINE Vector<T> load_part(const T* scores, int row, int b) const {
        const long left = places->size[row] - b * width;
        if (left <= 0) return broadcast(T(-__builtin_inf()));
        return load_padded(scores + places->begin[row] + b * width, (int)(left < width ? left : width));
    }
    // Entry j of each row `stride` after entry j - 1.
    INLINE ShortRows(const T* scores, long columns, long stride) : n(columns) {
        for (long j = 0; j < n; ++j) column[j] = load(scores + j * stride);
        find_largest();
    }
    INLINE void find_largest() {
        largest = broadcast(T(-__builtin_inf()));
        for (long j = 0; j < n; ++j) largest = maximum(column[j], largest);
    }

    // The exponentials, to e, which may be column, and their sums as sum_of_few's. Returns those of the largest scores.
    template <bool scaled, bool exact>
    INLINE Vector<T> exponentials(double temperature, Vector<T>* e, Pair<double>* total) const {
        const Near<T, scaled> exponential(largest, temperature);
        Vector<T> lost[short_columns];
        for (long j = 0; j < n; ++j) {
            const Exponential<T> power = exponential(column[j]);
            e[j] = power.hi;
            lost[j] = power.beside(power.hi);
        }
        for (int half = 0; half < halves<T>; ++half) {
            if constexpr (exact || sizeof(T) == 8) {
                Pair<double> sum[short_columns];
                for (long j = 0; j < n; ++j) sum[j] = {widened(e[j], half), sizeof(T) == 8 ? widened(lost[j], half) : Doubles{}};
                total[half] = combined_columns(sum, n);
            } else {
                Doubles sum[short_columns];
                for (long j = 0; j < n; ++j) sum[j] = widened(e[j], half);
                total[half] = {combined_columns(sum, n), Doubles{}};
            }
        }
        if constexpr (sizeof(T) == 4) {
            const Vector<T> all_lost = combined_columns(lost, n);
            for (int half = 0; half < halves<T>; ++half) total[half].lo += widened(all_lost, half);
        }
        return exponential.leader;
    }

    INLINE void store_rows(T* out) {
        for (int b = 0; b < used; ++b) transpose_block<T>(column + b * width);
        if constexpr (anywhere) {
            for (int row = 0; row < places->count; ++row)
                for (int b = 0; b * width < places->size[row]; ++b) {
                    const long left = places->size[row] - b * width;
                    store_counted(out + places->begin[row] + b * width, (int)(left < width ? left : width), column[b * width + row]);
                }
            return;
        }
        // A row's last vector may run into the next rows, which are written after it, but not beyond them.
        const long whole = (width * n - used * width) / n;
        for (long row = 0; row <= whole; ++row)
            for (int b = 0; b < used; ++b) store(out + row * n + b * width, column[b * width + row]);
        for (long row = whole + 1; row < width; ++row)
            for (int b = 0; b < used; ++b) {
                const long left = n - b * width;
                store_first(out + row * n + b * width, (int)(left < width ? left : width), column[b * width + row]);
            }
    }

    INLINE void store_strided(T* out, long stride) const {
        for (long j = 0; j < n; ++j) store(out + j * stride, column[j]);
    }

    template <bool scaled>
    INLINE unsigned to_softmax(double temperature) {
        Pair<double> total[halves<T>];
        exponentials<scaled, false>(temperature, column, total);
        const Pair<T> inverse = reciprocals<T>(total);
        for (long j = 0; j < n; ++j) column[j] = times_pair(column[j], inverse.hi, inverse.lo);
        return 0;
    }

    template <bool scaled>
    INLINE void logs(double temperature, Doubles* log_sum) const {
        Vector<T> e[short_columns];
        Pair<double> total[halves<T>];
        const Vector<T> leader = exponentials<scaled, true>(temperature, e, total);
        logs_of_sums<T>(total, leader, n, log_sum);
    }

    template <bool scaled>
    INLINE unsigned to_log_softmax(double temperature) {
        Doubles log_sum[halves<T>], none[halves<T>] = {};
        logs<scaled>(temperature, log_sum);
        const Pair<T> log_total = split<T>(log_sum, none);
        const Division<T> by(temperature);
        for (long j = 0; j < n; ++j) {
            const Vector<T> result = log_probability<T, scaled>(column[j], largest, by, log_total.hi, log_total.lo);
            column[j] = log_total.hi == log_total.hi ? result : log_total.hi;  // NaN stays in its row, all of it
        }
        return 0;
    }

    // Each of the maps returns one bit for each row that it leaves undone.
    template <bool scaled>
    INLINE unsigned softmax(T* out, double temperature) {
        const unsigned undone = to_softmax<scaled>(temperature);
        store_rows(out);
        return undone;
    }
    template <bool scaled>
    INLINE unsigned log_softmax(T* out, double temperature) {
        const unsigned undone = to_log_softmax<scaled>(temperature);
        store_rows(out);
        return undone;
    }
    template <bool scaled>
    INLINE unsigned logsumexp(T* out, double temperature) const {
        Doubles log_sum[halves<T>];
        logs<scaled>(temperature, log_sum);
        const Vector<T> result = potentials<T>(largest, temperature, log_sum);
        if constexpr (anywhere)
            places->store_each(out, result);
        else
            store(out, result);
        return 0;
    }
};

// Segments of up to 16 entries that wait to be done together: with others of their size, so that no lane is filled up; those that
// are left at the end with each other.
template <class T>
class BySize {
  public:
    INLINE explicit BySize(int fit) : fit(fit) {}
    template <class Run>
    INLINE void add(long i, Span segment, Run run) {
        add_to(of_size[segment.size - 1], i, segment, run);
    }
    template <class Run>
    INLINE void finish(Run run) {
        Places<T> left;
        for (const Places<T>& places : of_size)
            for (int lane = 0; lane < places.count; ++lane)
                add_to(left, places.row[lane], {places.begin[lane], places.size[lane]}, run);
        if (left.count) run(left);
    }

  private:
    template <class Run>
    INLINE void add_to(Places<T>& places, long i, Span segment, Run run) {
        places.add(i, segment);
        if (places.count == fit) run(places);
    }

    const int fit;  // segments in a batch
    Places<T> of_size[short_columns];
};
