// Batches of rows of more columns, up to where a batch leaves the first cache: vectors run along the rows, but what comes once a
// row (the end of its maximum and of its sum, division, logarithm) is done for all rows of the batch in a vector.
constexpr long medium_columns = 512;

template <class T>
struct MediumRows {
    static constexpr int width = lanes<T>;
    const T* scores;
    long n;  // of the first row
    Places<T> at;
    bool anywhere;
    Vector<T> largest;

    // Rows one after the other.
    INLINE MediumRows(const T* begin, long columns) : scores(begin), n(columns), anywhere(false) {
        for (int row = 0; row < width; ++row) at.add(row, {row * columns, columns});
        find_largest();
    }
    INLINE MediumRows(const T* begin, const Places<T>& where) : scores(begin), n(where.size[0]), at(where), anywhere(true) {
        find_largest();
    }
    INLINE void find_largest() {
        Vector<T> best[width];
        for (int row = 0; row < width; ++row) best[row] = largest_parts(scores + at.begin[row], at.size[row]);
        largest = across_rows<width / 2>(best, Maximum{});
    }

    // The sums of exponentials, which visit(row, part, offset, count, exponentials) sees. Returns those of the largest scores.
    template <bool scaled, class Visit>
    INLINE Vector<T> exponentials(double temperature, Pair<double>* total, Visit visit) const {
        using Exp = Near<T, scaled>;
        const Exp near(largest, temperature);
        Doubles sum[width];
        Vector<T> lost[width];
        Ahead<T, Exp> ahead;
        const auto has_block = [&](int row) { return at.size[row] >= ahead.block; };
        Exp exponential = near.of_row(0);
        if (has_block(0)) ahead.begin(exponential, scores + at.begin[0]);
        for (int row = 0; row < width; ++row) {  // lanes without a row repeat one
            const int next = row + 1 < width ? row + 1 : row;
            const Exp exponential_of_next = near.of_row(next);
            ExponentialSum<T> sums;
            const T* z = scores + at.begin[row];
            const T* z_of_next = scores + at.begin[has_block(next) ? next : row];
            const long columns = at.size[row], batch = width * columns;
            for_each_exponential(exponential, z, columns, ahead, exponential_of_next, z_of_next,
                                 [&](int part, long offset, int count, const Exponential<T>& e) {
                                     prefetch(z + batch + offset, part);
                                     visit(row, part, offset, count, e.hi);
                                     sums.add(part, e);
                                 });
            exponential = exponential_of_next;
            if (!has_block(row) && has_block(next)) ahead.begin(exponential, z_of_next);
            const Pair<double> left = sums.across_parts();
            sum[row] = left.hi;
            if constexpr (sizeof(T) == 4)
                lost[row] = combined_parts(sums.lost);
            else
                lost[row] = left.lo;
        }
        if constexpr (sizeof(T) == 4) {
            const Vector<T> all_lost = across_rows<width / 2>(lost, Plus{});
            for (int half = 0; half < halves<T>; ++half)
                total[half] = {across_rows<lanes<double> / 2>(sum + half * lanes<double>, Plus{}), widened(all_lost, half)};
        } else {
            Pair<double> pairs[width];
            for (int row = 0; row < width; ++row) pairs[row] = {sum[row], lost[row]};
            *total = across_rows<width / 2>(pairs, Plus{});
        }
        return near.leader;
    }

    // Each of the maps returns one bit for each row that it leaves undone.
    template <bool scaled>
    INLINE unsigned softmax(T* out, double temperature) const {
        Pair<double> total[halves<T>];
        exponentials<scaled>(temperature, total, [&](int row, int part, long offset, int count, Vector<T> e) {
            prefetch_result(out + at.begin[row] + offset, part);
            store_counted(out + at.begin[row] + offset, count, e);
        });
        const Pair<T> inverse = reciprocals<T>(total);
        for (int row = 0; row < at.count; ++row)
            multiply_row(out + at.begin[row], at.size[row], 0, broadcast(inverse.hi[row]), broadcast(inverse.lo[row]));
        return 0;
    }

    template <bool scaled>
    INLINE unsigned logs(double temperature, Doubles* log_sum) const {
        Pair<double> total[halves<T>];
        const Vector<T> leader = exponentials<scaled>(temperature, total, [](int, int, long, int, Vector<T>) {});
        return logs_of_sums<T>(total, leader, n, log_sum);
    }

    template <bool scaled>
    INLINE unsigned log_softmax(T* out, double temperature) const {
        Doubles log_sum[halves<T>];
        const unsigned undone = logs<scaled>(temperature, log_sum);
        const Division<T> by(temperature);
        for (int row = 0; row < at.count; ++row) {
            const double log_total = log_sum[row / lanes<double>][row % lanes<double>];
            const T* z = scores + at.begin[row];
            T* to = out + at.begin[row];
            if (log_total != log_total)
                fill(to, at.size[row], T(__builtin_nan("")));
            else if (!(undone >> row & 1))
                log_probabilities<T, scaled>(z, to, at.size[row], 0, largest[row], by, log_total);
        }
        return undone;
    }

    template <bool scaled>
    INLINE unsigned logsumexp(T* out, double temperature) const {
        Doubles log_sum[halves<T>];
        const unsigned undone = logs<scaled>(temperature, log_sum);
        const Vector<T> result = potentials<T>(largest, temperature, log_sum);
        if (anywhere)
            at.store_each(out, result);
        else
            store(out, result);
        return undone;
    }
};
