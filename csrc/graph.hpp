// Attention over the edges of a graph: the scores of a target's edges, their map by the kernels of rows, and the
// average of the values, while all of them are in cache. Backward the same by targets, then by sources, so that no two
// threads add to one place and sums have one order. Scores and weights are (edges, heads): the heads of a target's
// edges are rows that stand `heads` apart. What has no share is not read: NaN behind a mask does not leak.

constexpr long edge_chunk = 256;  // edges that are summed up at a time: long sums keep their digits
constexpr long edges_ahead = 8;   // whose rows are fetched: they lie anywhere

template <class T>
INLINE T dot_product(const T* a, const T* b, long n) {
    Vector<T> sum[parts<T>] = {};
    for_each_vector<T>(n, [&](int part, long offset, int count) {
        sum[part] = fused(load_or_zero(a + offset, count), load_or_zero(b + offset, count), sum[part]);
    });
    return combined(sum)[0];
}

template <class T>
INLINE void prefetch_row(const T* row, long n) {
    constexpr long line = 64 / sizeof(T), most = 16;
    for (long i = 0; i < n && i < most * line; i += line) __builtin_prefetch(row + i);
}

// Scores of a query and a key, and what an edge adds to their gradient in one of the two, `mine`.
template <class T>
struct DotProduct {
    explicit DotProduct(const Graph&) {}
    INLINE T operator()(const T* query, const T* key, long n) const { return dot_product(query, key, n); }
    INLINE Vector<T> add(Vector<T> sum, T slope, Vector<T>, Vector<T> other) const {
        return fused(broadcast(slope), other, sum);
    }
};
// The sum of leaky_relu(query + key), as in graph attention networks.
template <class T>
struct LeakySum {
    T negative_slope;
    explicit LeakySum(const Graph& graph) : negative_slope(T(graph.negative_slope)) {}
    INLINE T operator()(const T* query, const T* key, long n) const {
        T sum = 0;
        for (long i = 0; i < n; ++i) {
            const T x = query[i] + key[i];
            sum += x > 0 ? x : x * negative_slope;
        }
        return sum;
    }
    INLINE Vector<T> add(Vector<T> sum, T slope, Vector<T> mine, Vector<T> other) const {
        return sum + (mine + other > T(0) ? broadcast(slope) : broadcast(slope * negative_slope));
    }
};

// Columns of out = the sum over edges [begin, end) of what score adds for weight(edge), mine and row(edge). Nothing is
// added, nor read, where the weight is 0.
template <int vectors, class T, class Score, class Weight, class Row>
INLINE void sum_columns(T* out, int count, long begin, long end, const Score& score, const T* mine, Weight weight,
                        Row row) {
    Vector<T> total[vectors] = {}, lost[vectors] = {}, own[vectors] = {};
    for (int v = 0; mine && v < vectors; ++v) own[v] = load_or_zero(mine + v * lanes<T>, count);
    for (long first = begin; first < end; first += edge_chunk) {
        Vector<T> sum[vectors] = {};
        for (long edge = first; edge < end && edge < first + edge_chunk; ++edge) {
            const T w = weight(edge);
            if (w == 0) continue;
            const T* x = row(edge);
            for (int v = 0; v < vectors; ++v)
                sum[v] = score.add(sum[v], w, own[v], load_or_zero(x + v * lanes<T>, count));
        }
        for (int v = 0; v < vectors; ++v) {
            const Pair<T> next = two_sum(total[v], sum[v]);
            total[v] = next.hi;
            lost[v] += next.lo;
        }
    }
    for (int v = 0; v < vectors; ++v)
        store_counted(out + v * lanes<T>, count, end - begin > edge_chunk ? total[v] + lost[v] : total[v]);
}
template <class T, class Score, class Weight, class Row>
INLINE void sum_rows(T* out, long width, long begin, long end, const Score& score, const T* mine, Weight weight,
                     Row row) {
    constexpr int block = 4;
    for (long at = 0; at < width;) {
        const auto columns = [&](long edge) { return row(edge) + at; };
        const T* own = mine ? mine + at : nullptr;
        if (width - at >= block * lanes<T>) {
            sum_columns<block>(out + at, lanes<T>, begin, end, score, own, weight, columns);
            at += block * lanes<T>;
        } else {
            const int count = width - at < lanes<T> ? (int)(width - at) : lanes<T>;
            sum_columns<1>(out + at, count, begin, end, score, own, weight, columns);
            at += count;
        }
    }
}

template <class T, class Visit>
INLINE void each_score(const Graph& g, long target, Visit visit) {
    for (long edge = g.offsets[target]; edge < g.offsets[target + 1]; ++edge) {
        if (edge + edges_ahead < g.offsets[g.targets]) {
            const long ahead = g.sources[edge + edges_ahead] * g.heads;
            prefetch_row(static_cast<const T*>(g.key) + ahead * g.width, g.heads * g.width);
            prefetch_row(static_cast<const T*>(g.value) + ahead * g.depth, g.heads * g.depth);
        }
        for (long head = 0; head < g.heads; ++head) visit(edge, head, g.sources[edge] * g.heads + head);
    }
}

// The rows of one target: its heads, whose entries are its edges.
template <class T>
INLINE Rows rows_of_target(const Graph& g, long target, T* entries) {
    Rows r{};
    r.scores = r.out = entries;
    r.rows = r.inner = g.heads;
    r.columns = r.longest = g.offsets[target + 1] - g.offsets[target];
    r.temperature = g.temperature + target * g.heads * g.temperature_stride;
    r.temperature_stride = g.temperature_stride;
    r.alpha = g.alpha;
    return r;
}

template <class T, class Score>
void graph_averages(const Graph& g, long begin, long end, double* scratch) {
    const Score score(g);
    const T *query = static_cast<const T*>(g.query), *key = static_cast<const T*>(g.key);
    const T *value = static_cast<const T*>(g.value), *bias = static_cast<const T*>(g.bias);
    T *weights = static_cast<T*>(g.weights), *out = static_cast<T*>(g.out);
    const T scale = T(g.scale), impossible = -T(__builtin_inf());
    for (long target = begin; target < end; ++target) {
        const long first = g.offsets[target], last = g.offsets[target + 1];
        each_score<T>(g, target, [&](long edge, long head, long source) {
            const T beside = bias ? bias[edge * g.heads + head] : T(0);
            const T* q = query + (target * g.heads + head) * g.width;
            weights[edge * g.heads + head] =
                beside == impossible ? impossible : score(q, key + source * g.width, g.width) * scale + beside;
        });
        if (first < last) {
            const Rows r = rows_of_target(g, target, weights + first * g.heads);
            const long count = r.inner > 1 ? tile_count(r) : r.rows;
            g.alpha == 1 ? softmax_rows<T>(r, 0, count, scratch) : entmax_rows<T>(r, 0, count, scratch);
        }
        for (long head = 0; head < g.heads; ++head)
            sum_rows(out + (target * g.heads + head) * g.depth, g.depth, first, last, DotProduct<T>(g),
                     (const T*)nullptr, [&](long edge) { return weights[edge * g.heads + head]; },
                     [&](long edge) { return value + (g.sources[edge] * g.heads + head) * g.depth; });
    }
}

// The gradients in the scores and the queries of targets [begin, end).
template <class T, class Score>
void graph_target_gradients(const Graph& g, long begin, long end, double* scratch) {
    const Score score(g);
    const T *query = static_cast<const T*>(g.query), *key = static_cast<const T*>(g.key);
    const T *value = static_cast<const T*>(g.value), *cotangent = static_cast<const T*>(g.cotangent);
    const T* weights = static_cast<const T*>(g.weights);
    T *in_scores = static_cast<T*>(g.in_scores), *in_query = static_cast<T*>(g.in_query);
    double* of_row = scratch + 2 * g.heads * g.longest;
    const T scale = T(g.scale);
    for (long target = begin; target < end; ++target) {
        const long first = g.offsets[target], last = g.offsets[target + 1], n = last - first;
        T *p = reinterpret_cast<T*>(scratch), *slopes = p + g.heads * n;
        transpose_tile(weights + first * g.heads, g.heads, p, n, n, g.heads);
        each_score<T>(g, target, [&](long edge, long head, long source) {
            const long at = head * n + edge - first;
            const T* c = cotangent + (target * g.heads + head) * g.depth;
            slopes[at] = p[at] == 0 ? T(0) : dot_product(c, value + source * g.depth, g.depth);
        });
        for (long head = 0; n && head < g.heads; ++head) {
            const double temperature = g.temperature[(target * g.heads + head) * g.temperature_stride];
            jacobian_product_row(p + head * n, slopes + head * n, slopes + head * n, n, g.alpha, temperature, of_row);
        }
        transpose_tile(slopes, n, in_scores + first * g.heads, g.heads, g.heads, n);
        for (long head = 0; head < g.heads; ++head) {
            const long own = (target * g.heads + head) * g.width;
            sum_rows(in_query + own, g.width, first, last, score, query + own,
                     [&](long edge) { return in_scores[edge * g.heads + head] * scale; },
                     [&](long edge) { return key + (g.sources[edge] * g.heads + head) * g.width; });
        }
    }
}

// The gradients in the keys and values of sources [begin, end), of what graph_target_gradients left in in_scores.
template <class T, class Score>
void graph_source_gradients(const Graph& g, long begin, long end, double*) {
    const Score score(g);
    const T *query = static_cast<const T*>(g.query), *key = static_cast<const T*>(g.key);
    const T *cotangent = static_cast<const T*>(g.cotangent), *weights = static_cast<const T*>(g.weights);
    const T* in_scores = static_cast<const T*>(g.in_scores);
    T *in_key = static_cast<T*>(g.in_key), *in_value = static_cast<T*>(g.in_value);
    const T scale = T(g.scale);
    for (long source = begin; source < end; ++source) {
        const long first = g.source_offsets[source], last = g.source_offsets[source + 1];
        for (long i = first; i < last; ++i)
            if (const long ahead = i + edges_ahead; ahead < g.source_offsets[g.source_count]) {
                prefetch_row(query + g.source_targets[ahead] * g.heads * g.width, g.heads * g.width);
                prefetch_row(cotangent + g.source_targets[ahead] * g.heads * g.depth, g.heads * g.depth);
                prefetch_row(in_scores + g.source_edges[ahead] * g.heads, g.heads);
                prefetch_row(weights + g.source_edges[ahead] * g.heads, g.heads);
            }
        for (long head = 0; head < g.heads; ++head) {
            const long own = source * g.heads + head;
            sum_rows(in_key + own * g.width, g.width, first, last, score, key + own * g.width,
                     [&](long i) { return in_scores[g.source_edges[i] * g.heads + head] * scale; },
                     [&](long i) { return query + (g.source_targets[i] * g.heads + head) * g.width; });
            sum_rows(in_value + own * g.depth, g.depth, first, last, DotProduct<T>(g), (const T*)nullptr,
                     [&](long i) { return weights[g.source_edges[i] * g.heads + head]; },
                     [&](long i) { return cotangent + (g.source_targets[i] * g.heads + head) * g.depth; });
        }
    }
}
