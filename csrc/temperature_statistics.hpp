// What a temperature fit needs of each row, at each inverse temperature b = 1/T, d = z - max and p = softmax(b d):
//   log-likelihood  b d_y - log sum exp(b d)
//   gradient        <d, p> - d_y         (of the negative log-likelihood, in b)
//   curvature       <d^2, p> - <d, p>^2
// and once per row the regret max z - z_y. Everything times the row's weight, summed exactly.
//
// Eight rows are transposed to one tile, so that a lane is a row: no horizontal sums, vector logs and divisions.

constexpr int tile_rows = 8;
constexpr int tile_vectors = tile_rows / lanes<double>;
constexpr int normalise_every = 1000;

// One tile: rows from `start`, of which `count` exist; the last one stands in for those that do not.
template <class T>
INLINE void transpose_tile(const T* scores, long classes, long start, int count, double* tile) {
    for (int lane = 0; lane < tile_rows; ++lane) {
        const T* row = scores + (start + (lane < count ? lane : count - 1)) * classes;
        for (long j = 0; j < classes; ++j) tile[j * tile_rows + lane] = row[j];
    }
}

// Adds weight * value and says whether that is a finite number.
INLINE bool add_weighted(ExactSum& sum, double weight, double value) {
    const double product = weight * value;
    if (product - product != 0) return false;
    sum.add(product);
    return true;
}

// Returns the first row with NaN, +inf, -inf at its label, or scores too far apart for doubles; -1 if there is none.
template <class T>
long temperature_statistics(const TemperatureProblem& problem, long begin, long end, double* tile, ExactSum* sums) {
    const T* scores = static_cast<const T*>(problem.scores);
    const long classes = problem.classes;
    const int quantities = 1 + 3 * problem.betas;
    const double minus_infinity = -__builtin_inf();
    int since_normalised = 0;
    long bad_row = -1;
    for (long start = begin; start < end && bad_row < 0; start += tile_rows) {
        const int count = end - start < tile_rows ? (int)(end - start) : tile_rows;
        transpose_tile(scores, classes, start, count, tile);
        double label_score[tile_rows], regret[tile_rows], value[3][tile_rows];
        for (int lane = 0; lane < tile_rows; ++lane) {
            const long row = start + (lane < count ? lane : count - 1);
            label_score[lane] = tile[problem.labels[row] * tile_rows + lane];
        }
        for (int v = 0; v < tile_vectors; ++v) {
            double* column = tile + v * lanes<double>;
            Doubles largest = broadcast(minus_infinity), not_a_number = {};
            for (long j = 0; j < classes; ++j) {
                const Doubles z = load(column + j * tile_rows);
                largest = maximum(z, largest);
                not_a_number = (Doubles)((DoubleBits)not_a_number | (DoubleBits)(z != z));
            }
            for (long j = 0; j < classes; ++j)
                store(column + j * tile_rows, load(column + j * tile_rows) - largest);
            for (int lane = 0; lane < lanes<double>; ++lane) {
                const int i = v * lanes<double> + lane;
                regret[i] = largest[lane] - label_score[i];
                const bool bad = ((DoubleBits)not_a_number)[lane] || label_score[i] == minus_infinity ||
                                 largest[lane] == -minus_infinity;
                if (bad && i < count && bad_row < 0) bad_row = start + i;
            }
        }
        if (bad_row >= 0) break;
        for (int i = 0; i < count; ++i) {
            const double weight = problem.weights ? problem.weights[start + i] : 1.0;
            ExactSum* to = sums + (problem.folds ? problem.folds[start + i] : 0) * quantities;
            if (!add_weighted(*to, weight, regret[i])) return start + i;
        }
        for (int m = 0; m < problem.betas; ++m) {
            const double beta = problem.beta[m];
            for (int v = 0; v < tile_vectors; ++v) {
                const double* column = tile + v * lanes<double>;
                Doubles sum = {}, first = {}, second = {};
                for (long j = 0; j < classes; ++j) {
                    const Doubles d = load(column + j * tile_rows);
                    const auto impossible = d == broadcast(minus_infinity);
                    const Doubles x = impossible ? d : d * beta, gap = impossible ? Doubles{} : d;
                    const Doubles e = exp_of_negative(x, Doubles{}), e_gap = e * gap;
                    sum += e;
                    first += e_gap;
                    second = fused(e_gap, gap, second);
                }
                const Doubles mean = first / sum, gap_y = -load(regret + v * lanes<double>);
                store(value[0] + v * lanes<double>, fused(gap_y, broadcast(beta), -log_of_sum(sum)));
                store(value[1] + v * lanes<double>, mean - gap_y);
                store(value[2] + v * lanes<double>, second / sum - mean * mean);
            }
            for (int i = 0; i < count; ++i) {
                const double weight = problem.weights ? problem.weights[start + i] : 1.0;
                ExactSum* to = sums + (problem.folds ? problem.folds[start + i] : 0) * quantities + 1 + 3 * m;
                for (int q = 0; q < 3; ++q)
                    if (!add_weighted(to[q], weight, value[q][i])) return start + i;
            }
        }
        since_normalised += tile_rows;
        if (since_normalised + tile_rows > normalise_every || start + tile_rows >= end) {
            for (int s = 0; s < problem.fold_count * quantities; ++s) sums[s].normalise();
            since_normalised = 0;
        }
    }
    return bad_row;
}
