// What a temperature fit needs of each row, at each inverse temperature b = 1/T, d = z - max and p = softmax(b d):
//   log-likelihood  b d_y - log sum exp(b d)
//   gradient        <d, p> - d_y         (of the negative log-likelihood, in b)
//   curvature       <d^2, p> - <d, p>^2
// and once per row the regret max z - z_y. Everything times the row's weight, summed exactly.
//
// Eight rows are transposed to one tile, so that a lane is a row: no horizontal sums, vector logs and divisions.
// A block of tiles keeps each quantity of its rows, and is added to the sums at its end.

constexpr int tile_rows = 8;
constexpr int tile_vectors = tile_rows / lanes<double>;
static_assert(block_rows % tile_rows == 0 && block_rows < additions_until_normalised);

enum class Tile { finite, some_impossible, unusable };

// gaps [classes][8]: d = z - max of eight rows, -inf where impossible; unusable if there is NaN or +inf.
template <class T>
INLINE Tile transpose(const T* const* rows, long classes, double* gaps) {
    const double infinity = __builtin_inf();
    Tile kind = Tile::finite;
    for (int v = 0; v < tile_vectors; ++v) {
        double* column = gaps + v * lanes<double>;
        Doubles largest = broadcast(-infinity), check = {};
        for (long j = 0; j < classes; ++j, column += tile_rows) {
            Doubles z;
            for (int lane = 0; lane < lanes<double>; ++lane) z[lane] = rows[v * lanes<double> + lane][j];
            largest = maximum(z, largest);
            check += z * 0.0;  // NaN for NaN and infinities, which are looked at again below
            store(column, z);
        }
        bool finite = true;
        for (int lane = 0; lane < lanes<double>; ++lane) finite &= check[lane] == 0;
        Doubles beyond = {};  // NaN for gaps of -inf, also where a difference of finite scores overflows
        column = gaps + v * lanes<double>;
        for (long j = 0; j < classes; ++j, column += tile_rows) {
            const Doubles z = load(column), gap = z - largest;
            if (!finite)
                for (int lane = 0; lane < lanes<double>; ++lane)
                    if (!(z[lane] < infinity)) kind = Tile::unusable;
            beyond += gap * 0.0;
            store(column, gap);
        }
        for (int lane = 0; lane < lanes<double>; ++lane)
            if (beyond[lane] != 0 && kind == Tile::finite) kind = Tile::some_impossible;
    }
    return kind;
}

// The three quantities of a tile's rows at one b; value[q * block_rows] holds quantity q. At b = 0, where a fit begins,
// every possible entry counts as one.
template <bool all_finite, bool at_zero>
INLINE void likelihood(const double* gaps, long classes, const double* label_gap, double beta, double* value) {
    const Doubles impossible = broadcast(-__builtin_inf());
    for (int v = 0; v < tile_rows; v += lanes<double>) {
        const double* column = gaps + v;
        Doubles sum = {}, first = {}, second = {};
        for (long j = 0; j < classes; ++j, column += tile_rows) {
            const Doubles d = load(column);
            Doubles x = d * beta, gap = d, e = broadcast(1.0);
            if constexpr (!all_finite) {
                x = d == impossible ? d : x;
                gap = d == impossible ? Doubles{} : gap;
                e = d == impossible ? Doubles{} : e;
            }
            if constexpr (!at_zero) e = scaled_exp<false>(x).hi * Exp<double>::unscale;
            const Doubles e_gap = e * gap;
            sum += e;
            first += e_gap;
            second = fused(e_gap, gap, second);
        }
        const Doubles inverse = 1.0 / sum, mean = first * inverse, d_y = load(label_gap + v);
        store(value + v, fused(d_y, broadcast(beta), -log_of_sum(sum)));
        store(value + block_rows + v, mean - d_y);
        store(value + 2 * block_rows + v, second * inverse - mean * mean);
    }
}

// Rows [start, start + count) of one block: values [1 + 3 betas][block_rows], weighted, 0 for rows that do not exist.
// Returns whether every row has a likelihood.
template <class T>
INLINE bool block_values(const TemperatureProblem& problem, long start, int count, double* gaps, double* values) {
    const int quantities = 1 + 3 * problem.betas;
    double label_gap[tile_rows], weight[block_rows] = {};
    bool usable = true;
    for (int at = 0; at < count; at += tile_rows) {
        const T* rows[tile_rows];
        for (int lane = 0; lane < tile_rows; ++lane) {  // rows that do not exist repeat the last one
            const long row = start + (at + lane < count ? at + lane : count - 1);
            rows[lane] = static_cast<const T*>(problem.scores) + row * problem.classes;
            if (at + lane < count) weight[at + lane] = problem.weights ? problem.weights[row] : 1;
        }
        const Tile kind = transpose(rows, problem.classes, gaps);
        usable &= kind != Tile::unusable;
        for (int lane = 0; lane < tile_rows; ++lane) {
            const long row = start + (at + lane < count ? at + lane : count - 1);
            // Checked before, but another thread may have written since.
            const unsigned long long label = (unsigned long long)problem.labels[row];
            const bool valid = label < (unsigned long long)problem.classes;
            label_gap[lane] = gaps[(valid ? label : 0) * tile_rows + lane];
            usable &= valid && label_gap[lane] > -__builtin_inf();
            values[at + lane] = -label_gap[lane];
        }
        for (int m = 0; m < problem.betas; ++m) {
            double* value = values + (1 + 3 * m) * block_rows + at;
            const auto evaluate = [&](auto all_finite, auto at_zero) {
                likelihood<all_finite.value, at_zero.value>(gaps, problem.classes, label_gap, problem.beta[m], value);
            };
            if (kind == Tile::finite)
                problem.beta[m] == 0 ? evaluate(Yes{}, Yes{}) : evaluate(Yes{}, No{});
            else
                problem.beta[m] == 0 ? evaluate(No{}, Yes{}) : evaluate(No{}, No{});
        }
    }
    Doubles check = {};
    const int padded = (count + tile_rows - 1) / tile_rows * tile_rows;
    for (int q = 0; q < quantities; ++q)
        for (int i = 0; i < padded; i += lanes<double>) {
            const Doubles product = load(values + q * block_rows + i) * load(weight + i);
            check += product * 0.0;
            store(values + q * block_rows + i, product);
        }
    for (int lane = 0; lane < lanes<double>; ++lane) usable &= check[lane] == 0;
    return usable;
}

// scratch: 8 classes + (1 + 3 betas) block_rows doubles, to begin at a multiple of 64 bytes.
// Returns the first row with NaN, +inf, -inf at its label, or scores too far apart for doubles; -1 if there is none.
template <class T>
long temperature_statistics(const TemperatureProblem& problem, long begin, long end, double* scratch, ExactSum* sums) {
    const int quantities = 1 + 3 * problem.betas;
    double *values = scratch, *gaps = scratch + quantities * block_rows;
    int additions = 0;
    for (long start = begin; start < end; start += block_rows) {
        const int count = end - start < block_rows ? (int)(end - start) : block_rows;
        if (!block_values<T>(problem, start, count, gaps, values)) {
            long row = start;
            while (block_values<T>(problem, row, 1, gaps, values)) ++row;
            return row;
        }
        const int padded = (count + tile_rows - 1) / tile_rows * tile_rows;
        int most = 0;
        for (int q = 0; q < quantities; ++q) {
            const double* value = values + q * block_rows;
            if (!problem.folds) {
                const int added = sums[q].add(value, padded);
                most = added > most ? added : most;
                continue;
            }
            for (int fold = 0; fold < problem.fold_count; ++fold) {
                double only[block_rows] = {};
                for (int i = 0; i < count; ++i) only[i] = problem.folds[start + i] == fold ? value[i] : 0.0;
                const int added = sums[fold * quantities + q].add(only, padded);
                most = added > most ? added : most;
            }
        }
        additions += most;
        if (additions > additions_until_normalised - block_rows || start + block_rows >= end) {
            for (int s = 0; s < problem.fold_count * quantities; ++s) sums[s].normalise();
            additions = 0;
        }
    }
    return -1;
}
