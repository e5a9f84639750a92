// Cross-entropy of labels, log(sum of exponentials) - (z_y - max)/T, and its gradient (p - y)/T times the scale of the row. The
// entry of the label is (e_y - sum)/sum of the exponentials e: where it leads, e_y is exact, and the sum keeps what is beside it
// after p rounds to 1. The gradient may stand where the scores did.
// Range: every T from 0 to inf, every score. Labels below 0: ignored rows, with loss and gradient 0 whatever they hold.

template <class T>
struct Losses {  // of a batch of rows, or of one
    const long long* label;
    const double* scale;
    long scale_stride;
    T* out;
    int count;
    double temperature;

    // In each lane; all ones where the row is ignored or there is none.
    INLINE Bits<T> labels() const {
        Int<T> each[lanes<T>];
        if (count == lanes<T>)
            for (int row = 0; row < lanes<T>; ++row) each[row] = (Int<T>)label[row];
        else
            for (int row = 0; row < lanes<T>; ++row) each[row] = row < count ? (Int<T>)label[row] : (Int<T>)-1;
        Bits<T> all;
        __builtin_memcpy(&all, each, sizeof all);
        return all;
    }
    // The scale over T, in each lane.
    INLINE void factors(Doubles* factor) const {
        double each[lanes<T>] = {};
        for (int row = 0; row < count; ++row) each[row] = scale[row * scale_stride];
        for (int half = 0; half < halves<T>; ++half)
            factor[half] = (scale_stride ? load(each + half * lanes<double>) : broadcast(*scale)) / temperature;
    }
    INLINE Vector<T> gathered(const T* rows, long n) const {
        Vector<T> of_label = {};
        for (int row = 0; row < count; ++row)
            if (label[row] >= 0) of_label[row] = rows[row * n + label[row]];
        return of_label;
    }
    // Of ignored rows 0.
    INLINE void store_all(Vector<T> loss) const {
        const auto none = labels() == (Int<T>)-1;
        store_counted(out, count, (Vector<T>)((Bits<T>)loss & ~(Bits<T>)none));
    }
    INLINE void clear_ignored(T* gradient, long n) const {
        unsigned none = lanes_set((Bits<T>)(labels() == (Int<T>)-1)) & ((1u << count) - 1);
        for (; none; none &= none - 1) fill(gradient + __builtin_ctz(none) * n, n, T(0));
    }
};

template <class T, bool scaled>
INLINE Vector<T> losses_of(Vector<T> score, Vector<T> largest, double temperature, const Doubles* log_sum) {
    const Doubles none[halves<T>] = {};
    const Pair<T> log_total = split<T>(log_sum, none);
    return T(0) - log_probability<T, scaled>(score, largest, Division<T>(temperature), log_total.hi, log_total.lo);
}

// (e_y - sum)/sum times the factor; 0 of an impossible label.
template <class T>
INLINE Vector<T> slopes_of_labels(Vector<T> score, Vector<T> power, const Pair<double>* total, const Doubles* factor) {
    Doubles slope[halves<T>];
    for (int half = 0; half < halves<T>; ++half) {
        const Pair<double> sum = normalised(total[half]);
        slope[half] = ((widened(power, half) - sum.hi) - sum.lo) / sum.hi * factor[half];
    }
    Vector<T> result;
    narrowed(slope, &result);
    return score == -T(__builtin_inf()) ? Vector<T>{} : result + T(0);  // where nothing is beside it 0, not -0
}

template <class T>
INLINE Pair<T> as_factor(const Doubles* factor) {
    const Doubles none[halves<T>] = {};
    return split<T>(factor, none);
}

template <class T, bool scaled>
INLINE unsigned cross_entropy(ShortRows<T>& batch, T* gradient, const Losses<T>& losses) {
    const Bits<T> label = losses.labels();
    const auto of_label = [&] {
        Vector<T> found = {};
        for (long j = 0; j < batch.n; ++j) found = label == (Int<T>)j ? batch.column[j] : found;
        return found;
    };
    const Vector<T> score = of_label();
    Pair<double> total[halves<T>];
    Doubles log_sum[halves<T>];
    const Vector<T> leader = batch.template exponentials<scaled, true>(losses.temperature, batch.column, total);
    logs_of_sums<T>(total, leader, batch.n, log_sum);
    losses.store_all(losses_of<T, scaled>(score, batch.largest, losses.temperature, log_sum));
    if (!gradient) return 0;
    Doubles factor[halves<T>];
    losses.factors(factor);
    const Vector<T> of_truth = slopes_of_labels<T>(score, of_label(), total, factor);
    const Pair<T> inverse = reciprocals<T>(total), times = as_factor<T>(factor);
    for (long j = 0; j < batch.n; ++j) {
        const Vector<T> p = times_pair(batch.column[j], inverse.hi, inverse.lo);
        batch.column[j] = label == (Int<T>)j ? of_truth : times_pair(p, times.hi, times.lo);
    }
    batch.store_rows(gradient);
    losses.clear_ignored(gradient, batch.n);
    return 0;
}

// Of exponentials, without the one of the label.
template <class T>
INLINE double sum_of_others(const T* e, long n, long label) {
    Doubles sum[parts<double>] = {};
    for_each_vector<T>(n, [&](int part, long offset, int count) {
        Vector<T> v = load_or_zero(e + offset, count);
        if (label >= offset && label < offset + count) v[label - offset] = 0;
        for (int half = 0; half < halves<T>; ++half) sum[part * halves<T> + half] += widened(v, half);
    });
    return combined(sum)[0];
}

// From the exponentials of rows, which stand where the gradient will.
template <class T, bool scaled>
INLINE void finish_rows(T* e, long n, Vector<T> score, Vector<T> largest, Vector<T> leader, Pair<double>* total,
                        const Losses<T>& losses) {
    Doubles log_sum[halves<T>], factor[halves<T>];
    unsigned lost = logs_of_sums<T>(total, leader, n, log_sum);
    for (; lost; lost &= lost - 1) {
        const int row = __builtin_ctz(lost), half = row / lanes<double>, lane = row % lanes<double>;
        if (row >= losses.count || losses.label[row] < 0 || score[row] != largest[row]) continue;
        const double others = sum_of_others(e + row * n, n, losses.label[row]);
        log_sum[half][lane] = log1p(others / leader[row]);
        total[half].hi[lane] = leader[row];
        total[half].lo[lane] = others;
    }
    losses.store_all(losses_of<T, scaled>(score, largest, losses.temperature, log_sum));
    losses.factors(factor);
    const Vector<T> of_truth = slopes_of_labels<T>(score, losses.gathered(e, n), total, factor);
    const Pair<T> inverse = reciprocals<T>(total), times = as_factor<T>(factor);
    for (int row = 0; row < losses.count; ++row) {
        T* out = e + row * n;
        const Vector<T> hi = broadcast(inverse.hi[row]), lo = broadcast(inverse.lo[row]);
        const Vector<T> times_hi = broadcast(times.hi[row]), times_lo = broadcast(times.lo[row]);
        for_each_vector<T>(n, [&](int, long offset, int count) {
            const Vector<T> p = times_pair(load_padded(out + offset, count), hi, lo);
            store_counted(out + offset, count, times_pair(p, times_hi, times_lo));
        });
        if (losses.label[row] >= 0) out[losses.label[row]] = of_truth[row];
    }
    losses.clear_ignored(e, n);
}

template <class T, bool scaled>
INLINE unsigned cross_entropy(MediumRows<T>& batch, T* gradient, const Losses<T>& losses) {
    const Vector<T> score = losses.gathered(batch.scores, batch.n);
    if (!gradient) {
        Doubles log_sum[halves<T>];
        const unsigned undone = batch.template logs<scaled>(losses.temperature, log_sum);
        losses.store_all(losses_of<T, scaled>(score, batch.largest, losses.temperature, log_sum));
        return undone;
    }
    Pair<double> total[halves<T>];
    const auto kept = [&](int row, int part, long offset, int count, Vector<T> e) {
        prefetch_result(gradient + row * batch.n + offset, part);
        store_counted(gradient + row * batch.n + offset, count, e);
    };
    const Vector<T> leader = batch.template exponentials<scaled>(losses.temperature, total, kept);
    finish_rows<T, scaled>(gradient, batch.n, score, batch.largest, leader, total, losses);
    return 0;
}

template <class T, bool scaled>
INLINE void cross_entropy_near(const T* scores, T* gradient, long n, const T* next, T largest, const Losses<T>& losses) {
    const Vector<T> score = broadcast(scores[*losses.label]);
    const Near<T, scaled> exponential(broadcast(largest), losses.temperature);
    Pair<double> total[halves<T>];
    total[0] = near_sum<T, true>(exponential, scores, n, next_beside_results(scores, n, next),
                                 [&](int part, long offset, int count, Vector<T> e) {
                                     prefetch_result(gradient + offset, part);
                                     store_counted(gradient + offset, count, e);
                                 });
    for (int half = 1; half < halves<T>; ++half) total[half] = total[0];
    finish_rows<T, scaled>(gradient, n, score, broadcast(largest), exponential.leader, total, losses);
}

template <class T>
void cross_entropy_row(const T* scores, T* gradient, long n, const T* next, const Losses<T>& losses) {
    constexpr T infinity = T(__builtin_inf());
    const auto result = [&](T loss, T slope) {
        *losses.out = loss;
        if (gradient) fill(gradient, n, slope);
    };
    if (*losses.label < 0) return result(0, 0);
    const double temperature = losses.temperature;
    const T largest = row_maximum(scores, n), score = scores[*losses.label];
    const RowKind kind = kind_of_row(scores, n, largest);
    if (kind == RowKind::not_a_number) return result(T(__builtin_nan("")), T(__builtin_nan("")));
    if (kind == RowKind::empty) return result(infinity, 0);
    if (kind == RowKind::infinite)
        return result(score == infinity ? T(log((double)count_infinite(scores, n))) : infinity, 0);
    if (gradient && is_near(largest, temperature))
        return temperature == 1 ? cross_entropy_near<T, false>(scores, gradient, n, next, largest, losses)
                                : cross_entropy_near<T, true>(scores, gradient, n, next, largest, losses);
    const double log_sum = log_of_sum_of_row(scores, n, next, largest, temperature);
    if (log_sum != log_sum) return result(T(__builtin_nan("")), T(__builtin_nan("")));
    Doubles log_sums[halves<T>];
    for (auto& each : log_sums) each = broadcast(log_sum);
    const T loss = (temperature == 1 ? losses_of<T, false>(broadcast(score), broadcast(largest), 1, log_sums)
                                     : losses_of<T, true>(broadcast(score), broadcast(largest), temperature, log_sums))[0];
    *losses.out = loss;
    if (!gradient) return;
    if (is_limit(temperature)) return fill(gradient, n, T(0));
    softmax_row(scores, gradient, n, next, temperature, Empty::zero);
    const double scale = *losses.scale;
    for (long i = 0; i < n; ++i) gradient[i] = T((double)gradient[i] * scale / temperature);
    gradient[*losses.label] = score == -infinity ? T(0) : T(expm1(-(double)loss) * scale / temperature);
}
