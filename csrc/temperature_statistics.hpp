// What a temperature fit needs of each row, at each inverse temperature b = 1/T, d = z - max and p = softmax(b d):
//   log-likelihood  b d_y - log sum exp(b d)
//   gradient        <d, p> - d_y         (of the negative log-likelihood, in b)
//   curvature       <d^2, p> - <d, p>^2
// and once per row the regret max z - z_y. Everything times the row's weight, summed exactly.
//
// Eight rows are transposed to one tile, so that a lane is a row: no horizontal sums, vector logs and divisions.

constexpr int tile_rows = 8;
constexpr int tile_vectors = tile_rows / lanes<double>;
constexpr int additions_until_normalised = 960;

struct Tile {
    long start;               // the first row; rows that do not exist repeat the last one, with weight 0
    int count;                // rows that exist
    double* gaps;             // [classes][tile_rows]: d, -inf where impossible
    double label_gap[tile_rows], weight[tile_rows];
    bool usable;              // every row has a likelihood

    long row(int lane) const { return start + (lane < count ? lane : count - 1); }
};

template <class T>
INLINE Tile make_tile(const TemperatureProblem& problem, long start, int count, double* gaps) {
    Tile tile{start, count, gaps, {}, {}, true};
    const T* rows[tile_rows];
    for (int lane = 0; lane < tile_rows; ++lane)
        rows[lane] = static_cast<const T*>(problem.scores) + tile.row(lane) * problem.classes;

    Doubles largest[tile_vectors], unordered[tile_vectors] = {};
    for (auto& l : largest) l = broadcast(-__builtin_inf());
    for (long j = 0; j < problem.classes; ++j)
        for (int v = 0; v < tile_vectors; ++v) {
            Doubles z;
            for (int lane = 0; lane < lanes<double>; ++lane) z[lane] = rows[v * lanes<double> + lane][j];
            largest[v] = maximum(z, largest[v]);
            unordered[v] += z * 0.0;  // NaN for NaN, and for infinities, which are told apart below
            store(gaps + j * tile_rows + v * lanes<double>, z);
        }
    for (int v = 0; v < tile_vectors; ++v) {
        bool finite = true;
        for (int lane = 0; lane < lanes<double>; ++lane) finite &= unordered[v][lane] == 0 && largest[v][lane] < __builtin_inf();
        for (long j = 0; j < problem.classes; ++j) {
            double* column = gaps + j * tile_rows + v * lanes<double>;
            const Doubles z = load(column), gap = z - largest[v];
            if (!finite)
                for (int lane = 0; lane < lanes<double>; ++lane) tile.usable &= z[lane] < __builtin_inf();
            store(column, gap);
        }
    }
    for (int lane = 0; lane < tile_rows; ++lane) {
        const long row = tile.row(lane);
        tile.label_gap[lane] = gaps[problem.labels[row] * tile_rows + lane];
        tile.weight[lane] = lane >= count ? 0 : problem.weights ? problem.weights[row] : 1;
        tile.usable &= tile.label_gap[lane] > -__builtin_inf();
    }
    return tile;
}

// The three quantities of the tile's rows at one b.
INLINE void likelihood(const Tile& tile, long classes, double beta, double (*value)[tile_rows]) {
    const Doubles impossible = broadcast(-__builtin_inf());
    for (int v = 0; v < tile_vectors; ++v) {
        const double* column = tile.gaps + v * lanes<double>;
        Doubles sum = {}, first = {}, second = {};
        for (long j = 0; j < classes; ++j, column += tile_rows) {
            const Doubles d = load(column);
            const Doubles x = d == impossible ? d : d * beta, gap = d == impossible ? Doubles{} : d;
            const Doubles e = exp_of_negative(x, Doubles{}), e_gap = e * gap;
            sum += e;
            first += e_gap;
            second = fused(e_gap, gap, second);
        }
        const Doubles inverse = 1.0 / sum, mean = first * inverse, label_gap = load(tile.label_gap + v * lanes<double>);
        store(value[0] + v * lanes<double>, fused(label_gap, broadcast(beta), -log_of_sum(sum)));
        store(value[1] + v * lanes<double>, mean - label_gap);
        store(value[2] + v * lanes<double>, second * inverse - mean * mean);
    }
}

// Adds weight * value of the tile's rows; with folds, each row to its fold's sum. False if a product is not finite.
INLINE bool add_weighted(const TemperatureProblem& problem, const Tile& tile, const double* value, ExactSum* sums,
                         int stride) {
    double product[tile_rows], only[tile_rows];
    Doubles check = {};
    for (int v = 0; v < tile_rows; v += lanes<double>) {
        const Doubles p = load(value + v) * load(tile.weight + v);
        check += p * 0.0;
        store(product + v, p);
    }
    for (int lane = 0; lane < lanes<double>; ++lane)
        if (check[lane] != 0) return false;
    if (!problem.folds) {
        sums->add(product);
        return true;
    }
    for (int fold = 0; fold < problem.fold_count; ++fold) {
        bool any = false;
        for (int lane = 0; lane < tile_rows; ++lane) {
            const bool in = problem.folds[tile.row(lane)] == fold;
            any |= in;
            only[lane] = in ? product[lane] : 0.0;
        }
        if (any) sums[fold * stride].add(only);
    }
    return true;
}

// Returns the first row with NaN, +inf, -inf at its label, or scores too far apart for doubles; -1 if there is none.
// A tile that fails is done again row by row to find it.
template <class T>
long temperature_statistics(const TemperatureProblem& problem, long begin, long end, double* gaps, ExactSum* sums) {
    const int quantities = 1 + 3 * problem.betas;
    const auto normalise = [&] {
        for (int s = 0; s < problem.fold_count * quantities; ++s) sums[s].normalise();
    };
    int additions = 0, step = tile_rows;
    for (long start = begin; start < end; start += step) {
        const int count = end - start < step ? (int)(end - start) : step;
        const Tile tile = make_tile<T>(problem, start, count, gaps);
        double value[3][tile_rows];
        for (int lane = 0; lane < tile_rows; ++lane) value[0][lane] = -tile.label_gap[lane];
        bool good = tile.usable && add_weighted(problem, tile, value[0], sums, quantities);
        for (int m = 0; m < problem.betas && good; ++m) {
            likelihood(tile, problem.classes, problem.beta[m], value);
            for (int q = 0; q < 3 && good; ++q)
                good = add_weighted(problem, tile, value[q], sums + 1 + 3 * m + q, quantities);
        }
        if (!good) {
            if (step == 1) return start;
            step = 1;
            start -= 1;
        }
        if ((additions += tile_rows) >= additions_until_normalised) {
            normalise();
            additions = 0;
        }
    }
    normalise();
    return -1;
}
