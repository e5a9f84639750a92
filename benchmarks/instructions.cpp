// Runs one kernel so many times on the same scores, for instructions.py to count: operation dtype rows columns alpha heads spread times.
// With heads above 0 the rows are segments of some `columns` entries, of so many heads; with -1 the map goes along axis 0. Scores
// are nearly N(0, spread).
// jacobian_product is that of entmax.
#include <cstdlib>
#include <cstring>
#include <vector>

#include "../csrc/kernels.hpp"

using namespace softly;

template <class T>
void run(RowsKernel kernel, RowsKernel before, long rows, long columns, double alpha, long heads, double spread, long times) {
    const long size = rows * columns * (heads > 0 ? heads : 1);
    std::vector<T> scores(size), out(size);
    unsigned state = 1;
    for (T& z : scores) {  // a sum of uniform numbers, nearly normal
        double sum = -6;
        for (int i = 0; i < 12; ++i) sum += (state = state * 1664525u + 1013904223u) * 0x1p-32;
        z = T(spread * sum);
    }
    const double temperature = 1;
    Rows task{};
    task.scores = scores.data();
    task.out = out.data();
    task.rows = rows;
    task.columns = task.longest = columns;
    task.temperature = &temperature;
    task.alpha = alpha;
    task.inner = 1;
    std::vector<long long> offsets(rows + 1);
    if (heads < 0) {
        task.columns = task.longest = rows;
        task.rows = task.inner = columns;
    }
    if (heads > 0) {
        for (long i = 0; i < rows; ++i) offsets[i + 1] = i + 1 == rows ? rows * columns : (i + 1) * columns + (i * 5 % 13 - 6);
        task.offsets = offsets.data();
        task.segments = rows;
        task.columns = rows * columns;
        task.longest = columns + 6;
        task.inner = heads;
        task.rows = rows * heads;
    }
    std::vector<long long> labels(rows);
    for (long i = 0; i < rows; ++i) labels[i] = i % columns;
    std::vector<T> losses(rows);
    task.labels = labels.data();
    task.scale = &temperature;
    task.losses = losses.data();
    std::vector<double> scratch(tile_scratch(task) + sparse_scratch(task.longest));
    std::vector<T> shares(size);
    if (before) {
        task.out = shares.data();
        before(task, 0, rows, scratch.data());
        task.vector = scores.data();
        task.scores = shares.data();
        task.out = out.data();
    }
    for (long i = 0; i < times; ++i) kernel(task, 0, task.inner > 1 ? tile_count(task) : rows, scratch.data());
}

int main(int, char** argument) {
    const Kernels* kernels = &kernels_avx2;
    const char* operation = argument[1];
    const int is_double = std::strcmp(argument[2], "float64") == 0;
    const RowsKernel kernel = (std::strcmp(operation, "softmax") == 0         ? kernels->softmax
                               : std::strcmp(operation, "log_softmax") == 0   ? kernels->log_softmax
                               : std::strcmp(operation, "logsumexp") == 0     ? kernels->logsumexp
                               : std::strcmp(operation, "cross_entropy") == 0 ? kernels->cross_entropy
                               : std::strcmp(operation, "sigmoid") == 0       ? kernels->sigmoid
                               : std::strcmp(operation, "entmax") == 0        ? kernels->entmax
                                                                              : kernels->jacobian_product)[is_double];
    const RowsKernel before = std::strcmp(operation, "jacobian_product") == 0 ? kernels->entmax[is_double] : nullptr;
    const long rows = std::atol(argument[3]), columns = std::atol(argument[4]), heads = std::atol(argument[6]), times = std::atol(argument[8]);
    const double alpha = std::atof(argument[5]), spread = std::atof(argument[7]);
    (is_double ? run<double> : run<float>)(kernel, before, rows, columns, alpha, heads, spread, times);
}
