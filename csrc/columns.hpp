// Rows whose entries stand `inner` apart: another axis than the last, or heads of segments. A lane is a row and each entry of the
// rows one vector, from where they stand (up to 16 entries) or from a copy of a tile of some columns. What does not go so is
// transposed, and is rows as any others.

template <class T>
INLINE void transpose_tile(const T* from, long from_stride, T* to, long to_stride, long rows, long columns) {
    constexpr long width = lanes<T>;
    const long whole_rows = rows / width * width, whole_columns = columns / width * width;
    for (long i = 0; i < whole_rows; i += width)
        for (long j = 0; j < whole_columns; j += width) {
            Vector<T> block[width];
#pragma GCC unroll 16
            for (int k = 0; k < width; ++k) block[k] = load(from + (i + k) * from_stride + j);
            transpose_block<T>(block);
#pragma GCC unroll 16
            for (int k = 0; k < width; ++k) store(to + (j + k) * to_stride + i, block[k]);
        }
    for (long i = 0; i < rows; ++i)
        for (long j = i < whole_rows ? whole_columns : 0; j < columns; ++j) to[j * to_stride + i] = from[i * from_stride + j];
}

struct ColumnTile {  // entries [begin, begin + size) of columns [column, column + width), of which row `first` is the first
    long begin, size, column, width, first;
};

INLINE ColumnTile tile_of(const Rows& r, long i) {
    const long width = tile_columns(r), blocks = (r.inner + width - 1) / width;
    const long group = i / blocks, column = (i - group * blocks) * width;
    const long left = r.inner - column;
    const Span entries = r.row(group);
    return {entries.begin, entries.size, column, left < width ? left : width, group * r.inner + column};
}

// Copies `groups` vectors of each of n entries between where they stand, `stride` apart, and groups of one vector an entry. Each
// entry lies on another page: it is fetched some entries ahead.
constexpr long entries_ahead = 12;
template <class T>
INLINE void pack_columns(const T* from, long stride, T* packed, long n, long groups) {
    for (long j = 0; j < n; ++j)
        for (long g = 0; g < groups; ++g) {
            __builtin_prefetch(from + (j + entries_ahead) * stride + g * lanes<T>);
            store(packed + (g * n + j) * lanes<T>, load(from + j * stride + g * lanes<T>));
        }
}
template <class T>
INLINE void unpack_columns(const T* packed, T* to, long stride, long n, long groups) {
    for (long j = 0; j < n; ++j)
        for (long g = 0; g < groups; ++g) {
            __builtin_prefetch(to + (j + entries_ahead) * stride + g * lanes<T>, 1);
            store(to + j * stride + g * lanes<T>, load(packed + (g * n + j) * lanes<T>));
        }
}

// of_batch(batch, out, stride) does lanes<T> rows and stores them; rows_kernel does a tile.
template <class T, bool reduces, class OfBatch>
INLINE void each_tile(const Rows& r, long begin, long end, double* scratch, RowsKernel rows_kernel, OfBatch of_batch) {
    constexpr long lane_count = lanes<T>;
    constexpr bool has_batches = !std::is_same_v<OfBatch, No>;
    T* tile = reinterpret_cast<T*>(scratch);
    const bool in_lanes = has_batches && r.temperature_stride == 0 && is_near(T(0), *r.temperature);
    const auto of_tile = [&](long i) {
        const ColumnTile t = tile_of(r, i);
        const T* scores = static_cast<const T*>(r.scores) + t.begin * r.inner + t.column;
        T* out = static_cast<T*>(r.out) + (reduces ? t.first : t.begin * r.inner + t.column);
        const auto by_rows = [&](long column, long width) {
            transpose_tile(scores + column, r.inner, tile, t.size, t.size, width);
            constexpr long long empty_segment[2] = {};
            Rows rows = r;
            rows.inner = 1;
            rows.offsets = t.size ? nullptr : empty_segment;
            rows.segments = 1;
            rows.scores = tile;
            rows.out = reduces ? out + column : tile;
            rows.rows = width;
            rows.columns = t.size;
            rows.temperature += (t.first + column) * r.temperature_stride;
            rows_kernel(rows, 0, width, scratch + tile_scratch(r));
            if (!reduces) transpose_tile<T>(tile, t.size, out + column, r.inner, width, t.size);
        };
        long done = 0;
        if constexpr (has_batches) {
            if (in_lanes && t.size > 0 && t.size <= short_columns) {
                for (; done + lane_count <= t.width; done += lane_count) {
                    ShortRows<T> batch(scores + done, t.size, r.inner);
                    if (!all_near<T>(batch.largest, *r.temperature)) break;
                    of_batch(batch, out + done, r.inner);
                }
            } else if (in_lanes && t.size > 0 && t.size <= chunk_columns) {
                const long groups = t.width / lane_count;
                bool finished[most_columns], all = true;
                pack_columns(scores, r.inner, tile, t.size, groups);
                for (long g = 0; g < groups; ++g) {
                    T* packed = tile + g * t.size * lane_count;
                    LongColumns<T> batch(packed, t.size, lane_count);
                    finished[g] = all_near<T>(batch.largest, *r.temperature) &&
                                  !of_batch(batch, reduces ? out + g * lane_count : packed, lane_count);
                    all &= finished[g];
                }
                done = groups * lane_count;
                if (all) {
                    if (!reduces) unpack_columns(tile, out, r.inner, t.size, groups);
                } else {
                    for (long g = 0; g < groups; ++g)
                        if (!reduces && finished[g])
                            unpack_columns(tile + g * t.size * lane_count, out + g * lane_count, r.inner, t.size, 1);
                    for (long g = 0; g < groups; ++g)
                        if (!finished[g]) by_rows(g * lane_count, lane_count);
                }
            }
        }
        if (done < t.width) by_rows(done, t.width - done);
    };
    if constexpr (has_batches)
        if (in_lanes && r.offsets && r.inner <= lane_count / 2) return each_pack<T, reduces>(r, begin, end, tile, of_batch, of_tile);
    for (long i = begin; i < end; ++i) of_tile(i);
}
