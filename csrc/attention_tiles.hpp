// The two products of attention in registers: scores of a few keys, and averages of a few queries.

constexpr long query_block = attention_queries, key_block = attention_keys;
constexpr bool many_registers = SOFTLY_VECTOR_BYTES == 64;
constexpr int tile_keys = many_registers ? 8 : 4, tile_queries = many_registers ? 6 : 3;

// Scores of `keys` keys with the queries in `vectors` vectors.
template <class T, int keys, int vectors>
INLINE void score_tile(const T* query, const T* key, long width, T* scores) {
    Vector<T> sum[keys][vectors] = {};
    for (long c = 0; c < width; ++c) {
        Vector<T> q[vectors];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) q[v] = load(query + c * query_block + v * lanes<T>);
#pragma GCC unroll 8
        for (int t = 0; t < keys; ++t) {
            const Vector<T> k = broadcast(key[t * width + c]);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; ++v) sum[t][v] = fused(k, q[v], sum[t][v]);
        }
    }
#pragma GCC unroll 8
    for (int t = 0; t < keys; ++t)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) store(scores + t * query_block + v * lanes<T>, sum[t][v]);
}
template <class T, int vectors>
INLINE void score_keys(const T* query, const T* key, long width, T* scores, long keys) {
    long j = 0;
    for (; j + tile_keys <= keys; j += tile_keys)
        score_tile<T, tile_keys, vectors>(query, key + j * width, width, scores + j * query_block);
    for (; j < keys; ++j) score_tile<T, 1, vectors>(query, key + j * width, width, scores + j * query_block);
}

// average = average * factor + sum over keys of share * value, for `rows` queries and `vectors` vectors of the value's
// columns, the last of which has `last` columns.
template <class T, int rows, int vectors, bool partial>
INLINE void average_tile(const T* share, long share_row, long share_key, const T* value, long width, long keys,
                         T* average, long stride, const T* factor, int last) {
    Vector<T> sum[rows][vectors];
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) sum[r][v] = load(average + r * stride + v * lanes<T>) * factor[r];
    for (long j = 0; j < keys; ++j) {
        Vector<T> p[rows];
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) p[r] = broadcast(share[j * share_key + r * share_row]);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) {
            const T* at = value + j * width + v * lanes<T>;
            const Vector<T> x = partial ? load_first(at, last, Vector<T>{}) : load(at);
#pragma GCC unroll 8
            for (int r = 0; r < rows; ++r) sum[r][v] = fused(p[r], x, sum[r][v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) store(average + r * stride + v * lanes<T>, sum[r][v]);
}
template <class T, int rows>
INLINE void average_rows(const T* share, long share_row, long share_key, const T* value, long width, long keys,
                         T* average, long stride, const T* factor) {
    long c = 0;
    const auto tile = [&](auto vectors, auto partial) {
        average_tile<T, rows, vectors.value, partial.value>(share, share_row, share_key, value + c, width, keys,
                                                            average + c, stride, factor, (int)(width - c));
        c += vectors.value * lanes<T>;
    };
    using One = std::integral_constant<int, 1>;
    using Four = std::integral_constant<int, 4>;
    while (c + 4 * lanes<T> <= width) tile(Four{}, No{});
    while (c + lanes<T> <= width) tile(One{}, No{});
    if (c < width) tile(One{}, Yes{});
}
