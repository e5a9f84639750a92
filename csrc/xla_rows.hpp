// The kernels of rows as XLA's custom calls: (scores, temperature, number, vector of derivatives) -> out. The number is
// alpha - 1 or, of constant_rows, what is no share; it and the temperature are one for all rows or one a row, and rows where
// they are out of range are NaN. Part of module.cpp.
#pragma once

#include <cfenv>

#include "python_rows.hpp"
#include "xla_interface.hpp"

namespace softly {
namespace {

// XLA's threads flush subnormal numbers to 0.
struct UsualArithmetic {
    std::fenv_t before;
    UsualArithmetic() {
        std::fegetenv(&before);
        std::fesetenv(FE_DFL_ENV);
    }
    ~UsualArithmetic() { std::fesetenv(&before); }
};

struct Numbers {  // one for all rows or one a row
    const xla::Buffer& buffer;

    bool one_a_row() const { return buffer.rank != 0; }
    double operator[](long row) const {
        const long i = one_a_row() ? row : 0;
        return buffer.dtype == xla::float64 ? static_cast<const double*>(buffer.data)[i] : static_cast<const float*>(buffer.data)[i];
    }
};

void fill_with_nan(const xla::Buffer& out, long row, long columns) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    if (out.dtype == xla::float64)
        std::fill_n(static_cast<double*>(out.data) + row * columns, columns, nan);
    else
        std::fill_n(static_cast<float*>(out.data) + row * columns, columns, (float)nan);
}

char* moved_by(const void* data, long entries, const xla::Buffer& like) {
    return static_cast<char*>(const_cast<void*>(data)) + entries * (like.dtype == xla::float64 ? 8 : 4);
}

// Rows [begin, end), which share an alpha.
template <RowsKernel (Kernels::*table)[4], bool needs_scratch>
bool run_of_one_alpha(Rows task, Dtype dtype) {
    RowsKernel kernel = (kernels->*table)[(int)dtype];
    if (table == &Kernels::entmax && task.alpha == 1) kernel = kernels->softmax[(int)dtype];
    const long size = task.rows * task.columns;
    split_into_entries<table>(&task);
    return run_over_rows(kernel, task, size, needs_scratch ? sparse_scratch(task.longest) : 0);
}

template <RowsKernel (Kernels::*table)[4], bool reduces = false, bool needs_scratch = false>
xla::Error* rows_for_xla(xla::CallFrame* frame) {
    if (xla::is_asked(frame)) return nullptr;
    constexpr bool has_alpha = table == &Kernels::entmax || table == &Kernels::jacobian_product;
    const xla::Buffer &scores = frame->argument(0), &out = frame->result();
    const Numbers temperature{frame->argument(1)}, number{frame->argument(2)};
    const void* vector = frame->arguments.size > 3 ? frame->argument(3).data : nullptr;
    const long columns = scores.dims[scores.rank - 1], out_columns = reduces ? 1 : columns;
    const long rows = std::accumulate(scores.dims, scores.dims + scores.rank - 1, 1L, std::multiplies<long>());
    if (rows == 0 || columns == 0) return nullptr;
    const UsualArithmetic usual;
    const long stride = temperature.one_a_row();
    const std::unique_ptr<double[]> temperatures(new (std::nothrow) double[stride ? rows : 1]);
    if (!temperatures) return frame->out_of_memory();
    bool valid = true;
    for (long i = 0; i < (stride ? rows : 1); ++i) {
        const double t = temperature[i];
        valid &= t >= 0;
        temperatures[i] = t >= 0 ? t : 1;
    }
    for (long begin = 0, end = 0; begin < rows; begin = end) {
        const double of_run = number[begin];
        for (end = number.one_a_row() ? begin + 1 : rows; end < rows && number[end] == of_run;) ++end;
        valid &= !has_alpha || of_run >= 0;
        Rows task{};
        task.scores = moved_by(scores.data, begin * columns, scores);
        task.out = moved_by(out.data, begin * out_columns, scores);
        if (vector) task.vector = moved_by(vector, begin * columns, scores);
        task.rows = end - begin;
        task.columns = task.longest = columns;
        task.inner = 1;
        task.temperature = temperatures.get() + begin * stride;
        task.temperature_stride = stride;
        task.empty = frame->integer(0);
        task.alpha = !has_alpha ? of_run : of_run >= 0 ? 1 + of_run : 2;
        if (!run_of_one_alpha<table, needs_scratch>(task, scores.dtype == xla::float64 ? Dtype::float64 : Dtype::float32))
            return frame->out_of_memory();
    }
    for (long i = 0; !valid && i < rows; ++i)
        if (!(temperature[i] >= 0) || (has_alpha && !(number[i] >= 0))) fill_with_nan(out, i, out_columns);
    return nullptr;
}

// name of the operation -> capsule with the address of its function
PyObject* xla_functions(PyObject*, PyObject*) {
    struct Function {
        const char* name;
        xla::Error* (*call)(xla::CallFrame*);
    };
    const Function functions[] = {
        {"softmax", rows_for_xla<&Kernels::softmax>},
        {"log_softmax", rows_for_xla<&Kernels::log_softmax>},
        {"logsumexp", rows_for_xla<&Kernels::logsumexp, true>},
        {"entmax", rows_for_xla<&Kernels::entmax, false, true>},
        {"sigmoid", rows_for_xla<&Kernels::sigmoid>},
        {"log_sigmoid", rows_for_xla<&Kernels::log_sigmoid>},
        {"constant_rows", rows_for_xla<&Kernels::constant_rows, true>},
        {"jacobian_product", rows_for_xla<&Kernels::jacobian_product, false, true>},
        {"log_jacobian_product", rows_for_xla<&Kernels::log_jacobian_product>},
        {"sigmoid_gradient", rows_for_xla<&Kernels::sigmoid_gradient>},
        {"log_sigmoid_gradient", rows_for_xla<&Kernels::log_sigmoid_gradient>},
    };
    PyObject* found = PyDict_New();
    for (const Function& function : functions) {
        PyObject* capsule = found ? PyCapsule_New(reinterpret_cast<void*>(function.call), nullptr, nullptr) : nullptr;
        if (!capsule || PyDict_SetItemString(found, function.name, capsule) < 0) Py_CLEAR(found);
        Py_XDECREF(capsule);
    }
    return found;
}

}  // namespace
}  // namespace softly
