// The softmax's Jacobian times a vector, rows of floats: J v = p (v - <p, v> / sum p) / T, sums and products in double. What comes
// once a row (the end of its sums, their quotient) is done for a batch of rows in a vector. Rows with almost everything in one
// entry need v measured from that entry's, and rows with NaN or infinities more care: they go the way of all alphas.
constexpr float most_without_pivot = 1 - 0x1p-12f;

INLINE Doubles entries_of(const float* row, long offset, int count, int half) {
    return count == lanes<float> ? load_doubles(row + offset + half * lanes<double>)
                                 : widened(load_or_zero(row + offset, count), half);
}

struct GradientSums {  // of p and of p v, in 16 accumulators
    Doubles p[parts<double>] = {}, product[parts<double>] = {};
    bool needs_pivot;

    INLINE GradientSums(const float* row, const float* v, long n) {
        Floats largest[parts<float>] = {};
        for_each_vector<float>(n, [&](int part, long offset, int count) {
            largest[part] = maximum(load_or_zero(row + offset, count), largest[part]);
#pragma GCC unroll 2
            for (int half = 0; half < halves<float>; ++half) {
                const int at = part * halves<float> + half;
                const Doubles share = entries_of(row, offset, count, half);
                p[at] += share;
                product[at] = fused(share, entries_of(v, offset, count, half), product[at]);
            }
        });
        needs_pivot = lanes_set((FloatBits)(largest_parts<float>(largest) > most_without_pivot)) != 0;
    }
};

// p (v - mean) / T. A product of 0 is 0, not -0.
INLINE void subtract_mean(const float* p, const float* v, float* out, long n, double mean, double temperature) {
    for_each_vector<float>(n, [&](int, long offset, int count) {
        Doubles g[halves<float>];
#pragma GCC unroll 2
        for (int half = 0; half < halves<float>; ++half)
            g[half] = fused(entries_of(p, offset, count, half), entries_of(v, offset, count, half) - mean, Doubles{});
        store_over_temperature(out + offset, count, g, temperature);
    });
}

// Of `count` rows from `first` on, at most lanes<double>.
INLINE void softmax_gradient_batch(const Rows& r, long first, int count, double* scratch) {
    const float* p = static_cast<const float*>(r.scores);
    const float* v = static_cast<const float*>(r.vector);
    float* out = static_cast<float*>(r.out);
    Doubles sum[lanes<double>] = {}, product[lanes<double>] = {};
    bool needs_pivot[lanes<double>];
    for (int i = 0; i < count; ++i) {
        const Span row = r.row(first + i);
        const GradientSums sums(p + row.begin, v + row.begin, row.size);
        sum[i] = combined_parts(sums.p);
        product[i] = combined_parts(sums.product);
        needs_pivot[i] = sums.needs_pivot;
    }
    const Doubles mean = across_rows<lanes<double> / 2>(product, Plus{}) / across_rows<lanes<double> / 2>(sum, Plus{});
    for (int i = 0; i < count; ++i) {
        const Span row = r.row(first + i);
        const double temperature = r.temperature_of(first + i);
        if (needs_pivot[i] || is_limit(temperature) || !(mean[i] - mean[i] == 0))
            jacobian_product_row(p + row.begin, v + row.begin, out + row.begin, row.size, 1, temperature, scratch);
        else
            subtract_mean(p + row.begin, v + row.begin, out + row.begin, row.size, mean[i], temperature);
    }
}

// A batch of rows stays in cache until its second pass.
inline void softmax_gradient_rows(const Rows& r, long begin, long end, double* scratch) {
    const int together = r.longest <= medium_columns ? lanes<double> : 1;
    for (long i = begin; i < end; i += together)
        softmax_gradient_batch(r, i, end - i < together ? (int)(end - i) : together, scratch);
}
