// The maps over rows or segments, as Python calls them. Part of module.cpp.
#pragma once

#include "python_arrays.hpp"

namespace softly {
namespace {

// Below this many elements a loop stays on its thread: some 30 us of work. Pieces are no shorter than some 3 us.
constexpr long parallel_elements = 1 << 16, piece_elements = 1 << 13;

template <class Body>
void over_rows(long rows, long columns, const Body& body) {
    if (rows * columns < parallel_elements) return body(0, rows);
    const long grain = std::max(1L, piece_elements / std::max(1L, columns));
    parallel_for(rows, grain < 16 ? grain : grain / 16 * 16, body);  // whole batches
}

// Bounds of segments, copied so that nobody can change them any more.
bool copy_offsets(PyObject* object, long columns, std::vector<long long>* offsets) {
    PyArrayObject* array = as_array(object, NPY_INT64, "offsets");
    if (!array) return false;
    const auto* bounds = static_cast<const long long*>(PyArray_DATA(array));
    offsets->assign(bounds, bounds + PyArray_SIZE(array));
    const bool fit = !offsets->empty() && offsets->front() == 0 && offsets->back() == columns &&
                     std::is_sorted(offsets->begin(), offsets->end());
    if (!fit) PyErr_SetString(PyExc_ValueError, "offsets must run from 0 to the last axis of scores, not decreasing");
    return fit;
}

long longest_segment(const std::vector<long long>& offsets) {
    long longest = 0;
    for (std::size_t i = 1; i < offsets.size(); ++i) longest = std::max(longest, (long)(offsets[i] - offsets[i - 1]));
    return longest;
}

// A number for all rows, or an array of one a row.
bool number_a_row(PyObject* object, const char* name, long rows, double* number, const double** numbers, long* stride) {
    *numbers = number;
    *stride = 0;
    if (!PyArray_Check(object)) {
        *number = PyFloat_AsDouble(object);
        return *number != -1.0 || !PyErr_Occurred();
    }
    PyArrayObject* array = as_array(object, NPY_FLOAT64, name);
    if (!array) return false;
    if (PyArray_SIZE(array) != rows) {
        PyErr_Format(PyExc_ValueError, "%s needs one a row", name);
        return false;
    }
    *numbers = static_cast<const double*>(PyArray_DATA(array));
    *stride = 1;
    return true;
}

template <RowsKernel (Kernels::*table)[4]>
constexpr bool is_elementwise = table == &Kernels::sigmoid || table == &Kernels::log_sigmoid ||
                                table == &Kernels::sigmoid_gradient || table == &Kernels::log_sigmoid_gradient;

// Where each entry goes by itself, and at one temperature, it is a row: threads share a long row.
template <RowsKernel (Kernels::*table)[4]>
void split_into_entries(Rows* task) {
    if (!is_elementwise<table> || task->temperature_stride != 0) return;
    task->rows *= task->columns;
    task->columns = task->longest = task->inner = 1;
}

// False: out of memory.
template <class Kernel>
bool run_over_rows(const Kernel& kernel, const Rows& task, long size, long more_scratch) {
    const long scratch_size = tile_scratch(task) + more_scratch;
    const long count = task.inner > 1 ? tile_count(task) : task.rows;
    std::atomic<bool> out_of_memory{false};
    const auto body = [&](long begin, long end) {
        std::unique_ptr<double[]> scratch(scratch_size ? new (std::nothrow) double[scratch_size] : nullptr);
        if (scratch_size && !scratch)
            out_of_memory = true;
        else
            kernel(task, begin, end, scratch.get());
    };
    over_rows(count, size / std::max(1L, count), body);
    return !out_of_memory;
}

// Other threads of Python run meanwhile, unless it is over in no time.
template <class Kernel>
bool run_rows(const Kernel& kernel, const Rows& task, long size, long more_scratch) {
    PyThreadState* others = size > 4096 ? PyEval_SaveThread() : nullptr;
    const bool done = run_over_rows(kernel, task, size, more_scratch);
    if (others) PyEval_RestoreThread(others);
    if (!done) PyErr_NoMemory();
    return done;
}

long product(const npy_intp* begin, const npy_intp* end) { return std::accumulate(begin, end, 1L, std::multiplies<long>()); }

// softmax(scores, temperature, empty, out, offsets, alpha, axis): scores with at least one entry along the axis, which has a row
// for each place of the others; temperature a number or an array of one a row; out None or an array like the result; offsets
// None or the bounds of the segments of each row, which are rows of their own then; alpha for entmax alone. Returns out.
// Derivatives go over the last axis and take a vector like the scores last: jacobian_product(result, ..., axis, vector),
// constant_rows(scores, ..., alpha=what is no share, axis, result).
template <RowsKernel (Kernels::*table)[4], bool reduces = false, bool needs_scratch = false, bool takes_vector = false>
PyObject* rows_operation(PyObject*, PyObject* const* args, Py_ssize_t count) {
    constexpr int expected = takes_vector ? 8 : 7;
    if (count != expected) return PyErr_Format(PyExc_TypeError, "takes %d arguments, got %zd", expected, count);
    PyArrayObject* scores = as_array(args[0], -1, "scores");
    Dtype dtype;
    if (!scores || !dtype_of(scores, &dtype)) return nullptr;
    const int ndim = PyArray_NDIM(scores);
    const long axis = PyLong_AsLong(args[6]);
    if (axis == -1 && PyErr_Occurred()) return nullptr;
    if (axis < 0 || axis >= ndim || (takes_vector && axis != ndim - 1)) return PyErr_Format(PyExc_ValueError, "axis must be one of scores");
    npy_intp shape[NPY_MAXDIMS];
    std::copy_n(PyArray_DIMS(scores), ndim, shape);

    Rows task{};
    task.scores = PyArray_DATA(scores);
    task.columns = task.longest = shape[axis];
    if (task.columns == 0) return PyErr_Format(PyExc_ValueError, "scores must have at least one entry along the axis");
    task.inner = product(shape + axis + 1, shape + ndim);
    task.rows = product(shape, shape + axis) * task.inner;
    std::vector<long long> offsets;
    int result_ndim = ndim;
    if (args[4] != Py_None) {
        if (!copy_offsets(args[4], task.columns, &offsets)) return nullptr;
        task.offsets = offsets.data();
        task.segments = (long)offsets.size() - 1;
        task.rows *= task.segments;
        task.longest = longest_segment(offsets);
        if (reduces) shape[axis] = task.segments;
    } else if (reduces) {
        std::copy(shape + axis + 1, shape + ndim, shape + axis);
        --result_ndim;
    }
    double temperature;
    if (!number_a_row(args[1], "temperature", task.rows, &temperature, &task.temperature, &task.temperature_stride)) return nullptr;
    task.empty = (int)PyLong_AsLong(args[2]);
    if (task.empty == -1 && PyErr_Occurred()) return nullptr;
    task.alpha = PyFloat_AsDouble(args[5]);
    if (task.alpha == -1.0 && PyErr_Occurred()) return nullptr;

    if (takes_vector) {
        PyArrayObject* vector = as_array(args[7], PyArray_TYPE(scores), "vector");
        if (!vector) return nullptr;
        if (PyArray_SIZE(vector) != PyArray_SIZE(scores)) return PyErr_Format(PyExc_ValueError, "vector has another size");
        task.vector = PyArray_DATA(vector);
    }

    split_into_entries<table>(&task);
    PyObject* out = result_array(args[3], result_ndim, shape, scores);
    if (!out) return nullptr;
    task.out = PyArray_DATA(reinterpret_cast<PyArrayObject*>(out));
    if (PyArray_SIZE(scores) && !run_rows((kernels->*table)[(int)dtype], task, PyArray_SIZE(scores),
                                          needs_scratch ? sparse_scratch(task.longest) : 0)) {
        Py_DECREF(out);
        return nullptr;
    }
    return out;
}

bool is_bfloat16(PyArrayObject* array) {  // the dtype of the package ml_dtypes
    return PyArray_TYPE(array) >= NPY_USERDEF && PyArray_ITEMSIZE(array) == 2 &&
           std::string_view(PyArray_DESCR(array)->typeobj->tp_name).find("bfloat16") != std::string_view::npos;
}

// A NumPy array, no subclass, with entries and axes, as the kernels need it.
bool is_plain(PyObject* object, Dtype* dtype) {
    if (!PyArray_CheckExact(object)) return false;
    auto* array = reinterpret_cast<PyArrayObject*>(object);
    switch (PyArray_TYPE(array)) {
        case NPY_FLOAT32: *dtype = Dtype::float32; break;
        case NPY_FLOAT64: *dtype = Dtype::float64; break;
        case NPY_FLOAT16: *dtype = Dtype::float16; break;
        default:
            if (!is_bfloat16(array)) return false;
            *dtype = Dtype::bfloat16;
    }
    return PyArray_ISCARRAY_RO(array) && PyArray_NDIM(array) > 0 && PyArray_SIZE(array) > 0;
}

// Where the scores stand, or like them and apart from them.
bool can_be_out(PyObject* object, PyArrayObject* scores) {
    Dtype dtype;
    if (!is_plain(object, &dtype)) return false;
    auto* out = reinterpret_cast<PyArrayObject*>(object);
    if (!PyArray_ISWRITEABLE(out) || PyArray_TYPE(out) != PyArray_TYPE(scores) || !PyArray_SAMESHAPE(out, scores)) return false;
    const char *a = PyArray_BYTES(out), *b = PyArray_BYTES(scores);
    const npy_intp size = PyArray_NBYTES(out);
    return a == b || a + size <= b || b + size <= a;
}

// softmax_direct(scores, temperature, out, alpha): the operation over the last axis where nothing is to prepare or to
// check: a plain array of floats, a temperature above 0 as a float. None where there is.
template <RowsKernel (Kernels::*table)[4], bool reduces = false, bool needs_scratch = false>
PyObject* direct_operation(PyObject*, PyObject* const* args, Py_ssize_t count) {
    if (count != 4) return PyErr_Format(PyExc_TypeError, "takes 4 arguments, got %zd", count);
    auto* scores = reinterpret_cast<PyArrayObject*>(args[0]);
    const double temperature = PyFloat_CheckExact(args[1]) ? PyFloat_AS_DOUBLE(args[1]) : 0;
    Dtype dtype;
    if (!(temperature > 0) || !is_plain(args[0], &dtype) || !(kernels->*table)[(int)dtype]) Py_RETURN_NONE;
    if (args[2] != Py_None && (reduces || !can_be_out(args[2], scores))) Py_RETURN_NONE;
    const int ndim = PyArray_NDIM(scores);
    const npy_intp* shape = PyArray_DIMS(scores);
    Rows task{};
    task.scores = PyArray_DATA(scores);
    task.columns = task.longest = shape[ndim - 1];
    task.inner = 1;
    task.rows = PyArray_SIZE(scores) / task.columns;
    task.temperature = &temperature;
    task.alpha = PyFloat_AsDouble(args[3]);
    if (task.alpha == -1 && PyErr_Occurred()) return nullptr;
    split_into_entries<table>(&task);
    PyObject* out = args[2];
    if (out == Py_None) {
        PyArray_Descr* kind = PyArray_DESCR(scores);
        Py_INCREF(kind);
        out = new_array(reduces ? ndim - 1 : ndim, shape, kind);
    } else {
        Py_INCREF(out);
    }
    if (!out) return nullptr;
    task.out = PyArray_DATA(reinterpret_cast<PyArrayObject*>(out));
    const long scratch = (int)dtype >= (int)Dtype::float16 ? half_scratch(task)
                         : needs_scratch                    ? sparse_scratch(task.longest)
                                                            : 0;
    if (!run_rows((kernels->*table)[(int)dtype], task, PyArray_SIZE(scores), scratch)) {
        Py_DECREF(out);
        return nullptr;
    }
    return PyArray_Return(reinterpret_cast<PyArrayObject*>(out));
}

}  // namespace
}  // namespace softly
