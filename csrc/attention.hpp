// Attention of blocks of queries, softmax(scale q k + bias) v, without the matrix of scores.
//
// A lane is a query: 48 queries stand transposed, and the scores of a block of 64 keys lie as [key][query], so that neither
// keys nor values are rearranged and nothing is summed across lanes. Each score is one chain of fma over the width, each
// average one over the keys in their order; a maximum and a sum run along, and where the maximum grows what was averaged so
// far is scaled down. Blocks begin at multiples of 64 keys, and keys that a query may not see add 0 and change no maximum:
// so a query's result has the same bits with or without them, whatever they hold.
// Sparse maps keep all scores of 48 queries, and of the values pass over every 16 keys without a share.

template <class T>
struct QueryBlock {
    static constexpr T infinity = T(__builtin_inf());
    const Attention& a;
    const long matrix, first, count, stride;  // stride: of the averages, whole vectors
    const T *key, *value;
    long end;  // of the keys that any query sees
    bool plain = true;  // all temperatures are 1
    T *query, *scores, *average, *largest, *total, *factor, *rate, *clean, *beyond, *rows;
    double* spare;

    QueryBlock(const Attention& task, long item, double* scratch)
        : a(task), matrix(item / attention_blocks(task)), first(item % attention_blocks(task) * query_block),
          count(a.queries - first < query_block ? a.queries - first : query_block),
          stride(attention_stride(a.value_width)),
          key(static_cast<const T*>(a.key) + a.key_of[matrix] * a.keys * a.width),
          value(static_cast<const T*>(a.value) + a.value_of[matrix] * a.keys * a.value_width) {
        const long seen = a.visible >= a.keys ? a.keys : first + count + a.visible;
        end = seen < 0 ? 0 : seen < a.keys ? seen : a.keys;
        T* next = reinterpret_cast<T*>((reinterpret_cast<std::uintptr_t>(scratch) + 63) & ~std::uintptr_t(63));
        const auto take = [&](T*& array, long size) { array = next, next += size; };
        take(query, a.width * query_block);
        take(scores, key_block * query_block);
        take(average, query_block * stride);
        for (T** each : {&largest, &total, &factor, &rate}) take(*each, query_block);
        take(clean, key_block * a.value_width);
        take(beyond, query_block * stride);
        take(rows, a.alpha == 1 ? 0 : query_block * attention_row(a.keys));
        spare = reinterpret_cast<double*>((reinterpret_cast<std::uintptr_t>(next) + 7) & ~std::uintptr_t(7));
    }

    double temperature(long i) const { return a.temperature[(matrix * a.queries + first + i) * a.temperature_stride]; }

    void take_queries() {
        const T* from = static_cast<const T*>(a.query) + (matrix * a.queries + first) * a.width;
        const T scale = T(a.scale);
        for (long c = 0; c < a.width; ++c)
            for (long i = 0; i < query_block; ++i)
                query[c * query_block + i] = i < count ? from[i * a.width + c] * scale : T(0);
        for (long i = 0; i < query_block; ++i) {
            const double t = i < count ? temperature(i) : 1;
            plain &= t == 1;
            rate[i] = T(1 / t);
        }
    }

    // Of the keys [begin, begin + n).
    INLINE void find_scores(long begin, long n) {
        const T* keys = key + begin * a.width;
        const long vectors = (count + lanes<T> - 1) / lanes<T>;
        long v = 0;
        for (; v + 3 <= vectors; v += 3)
            score_keys<T, 3>(query + v * lanes<T>, keys, a.width, scores + v * lanes<T>, n);
        for (; v < vectors; ++v) score_keys<T, 1>(query + v * lanes<T>, keys, a.width, scores + v * lanes<T>, n);
        if (a.bias) add_bias(begin, n);
        if (a.where) hide_masked(begin, n);
        const long visible = first + a.visible;  // the last key that the first query sees
        for (long j = visible - begin < -1 ? 0 : visible - begin + 1; j < n; ++j)
            for (long i = 0; i < query_block && i < begin + j - visible; ++i) scores[j * query_block + i] = -infinity;
    }
    void add_bias(long begin, long n) {
        const Plane& plane = a.bias_plane;
        for (long i = 0; i < count; ++i) {
            const T* row = static_cast<const T*>(a.bias) + plane.at(matrix, first + i, begin);
            for (long j = 0; j < n; ++j) {
                T& score = scores[j * query_block + i];
                const T bias = row[j * plane.column];
                score = bias == -infinity ? bias : score + bias;
            }
        }
    }
    void hide_masked(long begin, long n) {
        const Plane& plane = a.where_plane;
        constexpr unsigned long long all = 0x0101010101010101ull;
        for (long i = 0; i < count; ++i) {
            const unsigned char* row = a.where + plane.at(matrix, first + i, begin);
            for (long j = 0; j < n;) {
                unsigned long long eight;
                if (plane.column == 1 && j + 8 <= n && (__builtin_memcpy(&eight, row + j, 8), eight == all)) {
                    j += 8;
                    continue;
                }
                if (!row[j * plane.column]) scores[j * query_block + i] = -infinity;
                ++j;
            }
        }
    }

    // Scores of n keys to exponentials beside the largest so far; `factor` is what the former largest is beside it.
    INLINE void exponentiate(long n) {
        for (long v = 0; v < count; v += lanes<T>) {
            const Vector<T> former = load(largest + v);
            Vector<T> top = former;
            for (long j = 0; j < n; ++j) top = maximum(load(scores + j * query_block + v), top);
            const bool ordinary = plain && !lanes_set((Bits<T>)(top == infinity));
            ordinary ? exponentiate<true>(n, v, former, top) : exponentiate<false>(n, v, former, top);
        }
    }
    template <bool ordinary>
    INLINE void exponentiate(long n, long v, Vector<T> former, Vector<T> top) {
        const Vector<T> pivot = top == -infinity ? Vector<T>{} : top, per = load(rate + v);
        const auto power = [&](Vector<T> score) {
            const Vector<T> gap = score - pivot;
            if constexpr (ordinary) return scaled_exp<false>(gap).hi * Exp<T>::unscale;
            const Vector<T> x = score == top ? Vector<T>{} : gap * per;
            return scaled_exp<false>(gap == -infinity ? gap : x).hi * Exp<T>::unscale;
        };
        const Vector<T> beside = power(former);
        Vector<T> sum[4] = {};
        long j = 0;
        const auto add = [&](int part, T* at) {
            const Vector<T> e = power(load(at));
            store(at, e);
            sum[part] += e;
        };
        for (; j + 4 <= n; j += 4)
#pragma GCC unroll 4
            for (int part = 0; part < 4; ++part) add(part, scores + (j + part) * query_block + v);
        for (int part = 0; j < n; ++j, ++part) add(part, scores + j * query_block + v);
        store(total + v, fused(load(total + v), beside, (sum[0] + sum[2]) + (sum[1] + sum[3])));
        store(largest + v, top);
        store(factor + v, beside);
    }

    // Values of n keys without what is not finite, which every query that may see them is given in `beyond`.
    const T* finite_values(const T* from, long n, const T* share, long share_row, long share_key, T none) {
        for (long j = 0; j < n; ++j)
            for (long c = 0; c < a.value_width; ++c) {
                const T x = from[j * a.value_width + c];
                clean[j * a.value_width + c] = x - x == 0 ? x : T(0);
                if (x - x == 0) continue;
                for (long i = 0; i < count; ++i)
                    if (share[j * share_key + i * share_row] != none) beyond[i * stride + c] += x;
            }
        return clean;
    }

    template <int queries>
    INLINE void average_queries(const T* values, long n) {
        for (long i = 0; i < count; i += queries)
            average_rows<T, queries>(scores + i, 1, query_block, values, a.value_width, n, average + i * stride, stride,
                                     factor + i);
    }
    void dense(bool careful) {
        fill(largest, query_block, -infinity);
        fill(total, query_block, T(0));
        for (long begin = 0; begin < end; begin += key_block) {
            const long n = end - begin < key_block ? end - begin : key_block;
            find_scores(begin, n);
            const T* values = value + begin * a.value_width;
            if (careful) values = finite_values(values, n, scores, 1, query_block, -infinity);
            exponentiate(n);
            count == 1 ? average_queries<1>(values, n) : average_queries<tile_queries>(values, n);
        }
    }

    // All rows of shares first: their threshold needs every score.
    void find_shares() {
        const long row = attention_row(a.keys);
        for (long begin = 0; begin < end; begin += key_block) {
            find_scores(begin, end - begin < key_block ? end - begin : key_block);
            for (long j = 0; j < key_block; j += lanes<T>)
                for (long i = 0; i < count; i += lanes<T>) {
                    Vector<T> block[lanes<T>];
                    for (int t = 0; t < lanes<T>; ++t) block[t] = load(scores + (j + t) * query_block + i);
                    transpose_block<T>(block);
                    for (int t = 0; t < lanes<T>; ++t) store(rows + (i + t) * row + begin + j, block[t]);
                }
        }
        for (long i = 0; i < query_block; ++i) {
            const long seen = a.visible >= a.keys ? a.keys : first + i + a.visible + 1;
            const long n = i >= count || seen < 0 ? 0 : seen < a.keys ? seen : a.keys;
            T* shares = rows + i * row;
            factor[i] = 1;
            total[i] = n && kind_of_row(shares, n, row_maximum(shares, n)) != RowKind::empty;
            if (n) entmax_row(shares, shares, n, a.alpha, temperature(i), Empty::zero, spare);
            fill(shares + n, row - n, T(0));
        }
    }
    void sparse(bool careful) {
        constexpr long step = 16;
        const long row = attention_row(a.keys);
        for (long begin = 0; begin < end; begin += key_block) {
            const T* values = value + begin * a.value_width;
            const long n = end - begin < key_block ? end - begin : key_block;
            if (careful) values = finite_values(values, n, rows + begin, row, 1, T(0));
            for (long i = 0; i < count; i += tile_queries)
                for (long j = 0; j < n; j += step) {
                    const T* shares = rows + i * row + begin + j;
                    if (!any_share(shares, row)) continue;
                    average_rows<T, tile_queries>(shares, row, 1, values + j * a.value_width, a.value_width,
                                                  n - j < step ? n - j : step, average + i * stride, stride,
                                                  factor + i);
                }
        }
    }
    static INLINE bool any_share(const T* shares, long row) {
        Bits<T> any = {};
        for (int r = 0; r < tile_queries; ++r)
            for (int part = 0; part < parts<T>; ++part) any |= (Bits<T>)load(shares + r * row + part * lanes<T>);
        return lanes_set((Bits<T>)(any != 0));
    }

    // Returns the first query with nothing possible, or -1; *finite: whether all results are.
    long give(bool* finite) {
        long nothing = -1;
        T check = 0;
        for (long i = 0; i < count; ++i) {
            T* out = static_cast<T*>(a.out) + (matrix * a.queries + first + i) * a.value_width;
            const T *sum = average + i * stride, *more = beyond + i * stride;
            if (total[i] == 0) {
                nothing = nothing < 0 ? matrix * a.queries + first + i : nothing;
                give_empty(out);
            } else {
                for (long c = 0; c < a.value_width; ++c) out[c] = sum[c] / total[i] + more[c];
                for (long c = 0; c < a.value_width; ++c) check += out[c] * 0;
            }
            if (a.logsumexp) give_logsumexp(i);
        }
        *finite = check == 0;
        return nothing;
    }
    void give_empty(T* out) const {
        for (long c = 0; c < a.value_width; ++c) {
            double mean = 0;
            if (Empty(a.empty) == Empty::uniform)
                for (long j = 0; j < a.keys; ++j) mean += (double)value[j * a.value_width + c] / (double)a.keys;
            out[c] = Empty(a.empty) == Empty::nan ? T(__builtin_nan("")) : T(mean);
        }
    }
    void give_logsumexp(long i) const {
        const T nan = T(__builtin_nan(""));
        T& lse = static_cast<T*>(a.logsumexp)[matrix * a.queries + first + i];
        if (total[i] == 0)
            lse = Empty(a.empty) == Empty::nan ? nan : -infinity;
        else if (total[i] != total[i])
            lse = nan;
        else if (largest[i] == infinity)
            lse = infinity;
        else {
            const Doubles log_sum = log_of_sum(broadcast((double)total[i]));
            lse = T(potential(broadcast((double)largest[i]), temperature(i), log_sum)[0]);
        }
    }
};

// Where a value that no query may see is not finite, 0 times it is not 0: a block whose results are not all finite is done
// again with care.
template <class T>
long attention_items(const Attention& a, long begin, long end, double* scratch) {
    long nothing = -1;
    for (long item = begin; item < end; ++item) {
        QueryBlock<T> block(a, item, scratch);
        block.take_queries();
        if (a.alpha != 1) block.find_shares();
        bool finite = false;
        long empty = -1;
        for (int careful = 0; careful < 2 && !finite; ++careful) {
            fill(block.average, query_block * block.stride, T(0));
            fill(block.beyond, query_block * block.stride, T(0));
            a.alpha == 1 ? block.dense(careful) : block.sparse(careful);
            empty = block.give(&finite);
        }
        if (nothing < 0) nothing = empty;
    }
    return nothing;
}
