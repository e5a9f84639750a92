// Rows whose entries stand `inner` apart: another axis than the last, or heads of segments. Up to 16 entries, a lane is a row and
// each entry of the rows one vector; else a tile of some columns is transposed, and is rows as any others.

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

// of_batch(batch, out, stride) does up to 16 entries of lanes<T> rows and stores them; rows_kernel does a tile.
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
        long done = 0;
        if constexpr (has_batches)
            if (in_lanes && t.size > 0 && t.size <= short_columns)
                for (; done + lane_count <= t.width; done += lane_count) {
                    ShortRows<T> batch(scores + done, t.size, r.inner);
                    if (!all_near<T>(batch.largest, *r.temperature)) break;
                    of_batch(batch, out + done, r.inner);
                }
        if (done == t.width) return;
        const long width = t.width - done;
        transpose_tile(scores + done, r.inner, tile, t.size, t.size, width);
        constexpr long long empty_segment[2] = {};
        Rows rows = r;
        rows.inner = 1;
        rows.offsets = t.size ? nullptr : empty_segment;
        rows.segments = 1;
        rows.scores = tile;
        rows.out = reduces ? out + done : tile;
        rows.rows = width;
        rows.columns = t.size;
        rows.temperature += (t.first + done) * r.temperature_stride;
        rows_kernel(rows, 0, width, scratch + tile_scratch(r));
        if (!reduces) transpose_tile<T>(tile, t.size, out + done, r.inner, width, t.size);
    };
    if constexpr (has_batches)
        if (in_lanes && r.offsets && r.inner <= lane_count / 2) return each_pack<T, reduces>(r, begin, end, tile, of_batch, of_tile);
    for (long i = begin; i < end; ++i) of_tile(i);
}
