// Averages of values by a Gaussian kernel (Nadaraya-Watson): a lane is a query, so that nothing is summed across lanes. Of
// a block of points the squared distances, their least so far, by which all are shifted, the powers of 2, and their sums;
// the sums of earlier blocks shrink where a nearer point is found. No more than a block is ever stored.
constexpr long point_block = 128;
constexpr int query_vectors = 2;

// 2^t for t <= 0, to some 2^-22 (float) or 2^-52 of itself; what would be subnormal is the least that is not. NaN stays.
// Coefficients of (2^r - 1) / r: csrc/coefficients.py.
template <class T>
struct PowerOfTwo;
template <>
struct PowerOfTwo<float> {
    static constexpr float magic = 0x1.8p23f, least = -126;
    static constexpr float q[] = {0x1.62e43000p-1f, 0x1.ebfa4a00p-3f, 0x1.c6afee00p-5f, 0x1.3cbf8a00p-7f,
                                 0x1.5ec88800p-10f};
};
template <>
struct PowerOfTwo<double> {
    static constexpr double magic = 0x1.8p52, least = -1022;
    static constexpr double q[] = {0x1.62e42fefa39efp-1, 0x1.ebfbdff82c598p-3, 0x1.c6b08d704a0c2p-5,
                                 0x1.3b2ab6fba1dc6p-7, 0x1.5d87fe78a526dp-10, 0x1.4309130975155p-13,
                                 0x1.ffcbfc6712438p-17, 0x1.62bfd46781ef6p-20, 0x1.b524fad88ed30p-24,
                                 0x1.e6065f532c950p-28, 0x1.e9d419696e0e9p-32};
};
template <class T>
INLINE Vector<T> power_of_two(Vector<T> t) {
    using P = PowerOfTwo<T>;
    constexpr int terms = sizeof(P::q) / sizeof(T);
    t = maximum(broadcast(P::least), t);
    const Vector<T> shifted = t + P::magic, r = t - (shifted - P::magic);
    Vector<T> q = broadcast(P::q[terms - 1]);
#pragma GCC unroll 16
    for (int i = terms - 2; i >= 0; --i) q = fused(q, r, broadcast(P::q[i]));
    const Vector<T> mantissa = fused(q, r, broadcast(T(1)));
    return (Vector<T>)((Bits<T>)mantissa + ((Bits<T>)shifted << Exp<T>::mantissa_bits));
}

template <class T, bool uniform>
struct QueryGroup {
    static constexpr long size = query_vectors * lanes<T>;
    const Regression& r;
    const long first, count;
    const T *data, *values;
    T *query, *block, *sums;  // (width, size), (point_block, size), (outputs, size)
    Vector<T> nearest[query_vectors], total[query_vectors] = {}, squares[query_vectors] = {};
    T steepness;  // log2 of the kernel is - steepness times the squared distance

    QueryGroup(const Regression& task, long group, double* scratch)
        : r(task), first(group * size), count(r.queries - first < size ? r.queries - first : size),
          data(static_cast<const T*>(r.data)), values(static_cast<const T*>(r.values)),
          query(reinterpret_cast<T*>(scratch)), block(query + r.width * size), sums(block + point_block * size),
          steepness(T(1.44269504088896340736 * (uniform && r.width ? r.rate[0] * r.rate[0] : 1))) {
        const T* from = static_cast<const T*>(r.query);
        for (long f = 0; f < r.width; ++f)
            for (long i = 0; i < size; ++i) query[f * size + i] = i < count ? from[(first + i) * r.width + f] : T(0);
        for (long i = 0; i < r.outputs * size; ++i) sums[i] = 0;
        for (auto& v : nearest) v = broadcast(T(__builtin_inf()));
    }

    // Squared distances, over squared bandwidths if those differ, of points [begin, begin + n), and the least of all so far.
    INLINE void find_distances(long begin, long n) {
        if (r.width == 1 && uniform && !r.leave_out)
            find_distances_of<true>(begin, n);
        else
            find_distances_of<false>(begin, n);
    }
    template <bool on_a_line>
    INLINE void find_distances_of(long begin, long n) {
        const long width = on_a_line ? 1 : r.width;
        for (long j = 0; j < n; ++j) {
            const T* x = data + (begin + j) * width;
            Vector<T> distance[query_vectors] = {};
            for (long f = 0; f < width; ++f)
#pragma GCC unroll 4
                for (int v = 0; v < query_vectors; ++v) {
                    Vector<T> d = load(query + f * size + v * lanes<T>) - x[f];
                    if constexpr (!uniform) d *= T(r.rate[f]);
                    distance[v] = fused(d, d, distance[v]);
                }
            T* stored = block + j * size;
#pragma GCC unroll 4
            for (int v = 0; v < query_vectors; ++v) store(stored + v * lanes<T>, distance[v]);
            if constexpr (!on_a_line)
                if (const long own = begin + j - first; r.leave_out && own >= 0 && own < size) {
                    stored[own] = T(__builtin_inf());
                    for (int v = 0; v < query_vectors; ++v) distance[v] = load(stored + v * lanes<T>);
                }
#pragma GCC unroll 4
            for (int v = 0; v < query_vectors; ++v)
                nearest[v] = distance[v] < nearest[v] ? distance[v] : nearest[v];
        }
    }

    void add_block(long begin, long n) {
        Vector<T> before[query_vectors];
        for (int v = 0; v < query_vectors; ++v) before[v] = shift_of(v);
        find_distances(begin, n);
        r.outputs == 1 ? add_weights<true>(begin, n, before) : add_weights<false>(begin, n, before);
    }

    // A single output is summed with the weights, which then are not stored.
    template <bool single>
    INLINE void add_weights(long begin, long n, const Vector<T>* before) {
        Vector<T> shrunk[query_vectors], shift[query_vectors];
        Vector<T> sum[query_vectors] = {}, square[query_vectors] = {}, of_value[query_vectors] = {};
        for (int v = 0; v < query_vectors; ++v) {
            shift[v] = shift_of(v);
            shrunk[v] = power_of_two<T>(shift[v] - before[v]);
        }
        for (long j = 0; j < n; ++j)
#pragma GCC unroll 4
            for (int v = 0; v < query_vectors; ++v) {
                T* at = block + j * size + v * lanes<T>;
                const Vector<T> weight = power_of_two<T>(fused(load(at), broadcast(-steepness), shift[v]));
                if constexpr (single)
                    of_value[v] = fused(weight, broadcast(values[begin + j]), of_value[v]);
                else
                    store(at, weight);
                sum[v] += weight;
                square[v] = fused(weight, weight, square[v]);
            }
        for (int v = 0; v < query_vectors; ++v) {
            total[v] = fused(total[v], shrunk[v], sum[v]);
            squares[v] = fused(squares[v], shrunk[v] * shrunk[v], square[v]);
        }
        const auto add = [&](long k, const Vector<T>* of_values) {
            for (int v = 0; v < query_vectors; ++v) {
                T* at = sums + k * size + v * lanes<T>;
                store(at, fused(load(at), shrunk[v], of_values[v]));
            }
        };
        if constexpr (single) return add(0, of_value);
        for (long k = 0; k < r.outputs; ++k) {
            Vector<T> of_values[query_vectors] = {};
            for (long j = 0; j < n; ++j) {
                const Vector<T> value = broadcast(values[(begin + j) * r.outputs + k]);
#pragma GCC unroll 4
                for (int v = 0; v < query_vectors; ++v)
                    of_values[v] = fused(load(block + j * size + v * lanes<T>), value, of_values[v]);
            }
            add(k, of_values);
        }
    }

    // The least squared distance in the unit of the exponents, finite.
    INLINE Vector<T> shift_of(int v) const {
        const Vector<T> shift = nearest[v] * steepness, largest = broadcast(std::numeric_limits<T>::max());
        return shift < largest ? shift : largest;
    }

    void run() {
        for (long begin = 0; begin < r.points; begin += point_block)
            add_block(begin, r.points - begin < point_block ? r.points - begin : point_block);
        T *out = static_cast<T*>(r.out) + first * r.outputs, *sharing = static_cast<T*>(r.sharing) + first;
        for (long i = 0; i < count; ++i) {
            const T all = total[i / lanes<T>][i % lanes<T>];
            for (long k = 0; k < r.outputs; ++k) out[i * r.outputs + k] = sums[k * size + i] / all;
            sharing[i] = squares[i / lanes<T>][i % lanes<T>] / all / all;
            static_cast<T*>(r.nearest)[first + i] = nearest[i / lanes<T>][i % lanes<T>] * steepness;
        }
    }
};

template <class T>
void kernel_regression_groups(const Regression& r, long begin, long end, double* scratch) {
    constexpr long size = query_vectors * lanes<T>, groups = regression_group / size;
    const bool uniform = std::all_of(r.rate, r.rate + r.width, [&](double rate) { return rate == r.rate[0]; });
    for (long group = begin * groups; group < end * groups && group * size < r.queries; ++group)
        uniform ? QueryGroup<T, true>(r, group, scratch).run() : QueryGroup<T, false>(r, group, scratch).run();
}
