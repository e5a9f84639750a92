// Attention, as Python calls it. Part of module.cpp.
#pragma once

#include "python_rows.hpp"

namespace softly {
namespace {

// Which of `count` matrices serves each of `matrices` matrices of queries.
const long long* matrix_of(PyObject* object, const char* name, long matrices, long count) {
    PyArrayObject* array = as_array(object, NPY_INT64, name);
    if (!array) return nullptr;
    const auto* of = static_cast<const long long*>(PyArray_DATA(array));
    const auto exists = [&](long long matrix) { return matrix >= 0 && matrix < count; };
    if (PyArray_SIZE(array) == matrices && std::all_of(of, of + matrices, exists)) return of;
    PyErr_Format(PyExc_ValueError, "%s needs one of its matrices for each matrix of queries", name);
    return nullptr;
}

// Matrices (matrix, rows, columns) of a type; rows or columns below 0: any.
PyArrayObject* as_matrices(PyObject* object, int type, const char* name, long rows, long columns) {
    PyArrayObject* array = as_array(object, type, name);
    if (!array) return nullptr;
    const bool fits = PyArray_NDIM(array) == 3 && (rows < 0 || PyArray_DIM(array, 1) == rows) &&
                      (columns < 0 || PyArray_DIM(array, 2) == columns);
    if (fits) return array;
    PyErr_Format(PyExc_ValueError, "%s must be matrices that fit the others", name);
    return nullptr;
}

// None, or matrices with one entry for each query and key, or one for all (an axis of length 1).
bool plane_of(PyObject* object, PyObject* of, int type, const char* name, const Attention& task, const void** data,
              Plane* plane) {
    if (object == Py_None) return true;
    PyArrayObject* array = as_matrices(object, type, name, -1, -1);
    if (!array || !(plane->of = matrix_of(of, name, task.matrices, PyArray_DIM(array, 0)))) return false;
    const long rows = PyArray_DIM(array, 1), columns = PyArray_DIM(array, 2);
    if ((rows != 1 && rows != task.queries) || (columns != 1 && columns != task.keys)) {
        PyErr_Format(PyExc_ValueError, "%s must have one entry for each query and key, or one for all", name);
        return false;
    }
    *data = PyArray_DATA(array);
    plane->size = rows * columns;
    plane->row = rows == 1 ? 0 : columns;
    plane->column = columns == 1 ? 0 : 1;
    return true;
}

// Room for the results of every query.
template <class Void>
bool results_of(PyObject* object, int type, const char* name, long size, Void** data) {
    PyArrayObject* array = as_array(object, type, name);
    if (!array) return false;
    if (!PyArray_ISWRITEABLE(array) || PyArray_SIZE(array) != size) {
        PyErr_Format(PyExc_ValueError, "%s must be writable and of the result's size", name);
        return false;
    }
    *data = PyArray_DATA(array);
    return true;
}

// attention(query, key, value, key_of, value_of, where, where_of, bias, bias_of, visible, scale, alpha, temperature, empty,
// out, logsumexp): query (matrix, queries, width); key (matrix, keys, width); value (matrix, keys, columns); X_of int64,
// which matrix of X serves each of query; where bool and bias like query, or None; query i sees the keys up to i + visible;
// temperature a number or one a query; out (matrix, queries, columns) and logsumexp (matrix, queries; or None) are written.
// Returns the first query with nothing possible, counted over all matrices, or -1.
PyObject* attention(PyObject*, PyObject* const* args, Py_ssize_t count) {
    if (count != 16) return PyErr_Format(PyExc_TypeError, "takes 16 arguments, got %zd", count);
    PyArrayObject* query = as_matrices(args[0], -1, "query", -1, -1);
    Dtype dtype;
    if (!query || !dtype_of(query, &dtype)) return nullptr;
    const int type = PyArray_TYPE(query);
    Attention task{};
    task.query = PyArray_DATA(query);
    task.matrices = PyArray_DIM(query, 0);
    task.queries = PyArray_DIM(query, 1);
    task.width = PyArray_DIM(query, 2);
    PyArrayObject* key = as_matrices(args[1], type, "key", -1, task.width);
    if (!key) return nullptr;
    task.key = PyArray_DATA(key);
    task.keys = PyArray_DIM(key, 1);
    PyArrayObject* value = as_matrices(args[2], type, "value", task.keys, -1);
    if (!value) return nullptr;
    task.value = PyArray_DATA(value);
    task.value_width = PyArray_DIM(value, 2);
    const void* where = nullptr;
    const long results = task.matrices * task.queries;
    double temperature;
    if (!(task.key_of = matrix_of(args[3], "key", task.matrices, PyArray_DIM(key, 0))) ||
        !(task.value_of = matrix_of(args[4], "value", task.matrices, PyArray_DIM(value, 0))) ||
        !plane_of(args[5], args[6], NPY_BOOL, "where", task, &where, &task.where_plane) ||
        !plane_of(args[7], args[8], type, "bias", task, &task.bias, &task.bias_plane) ||
        !number_a_row(args[12], "temperature", results, &temperature, &task.temperature, &task.temperature_stride) ||
        !results_of(args[14], type, "out", results * task.value_width, &task.out) ||
        (args[15] != Py_None && !results_of(args[15], type, "logsumexp", results, &task.logsumexp)))
        return nullptr;
    task.where = static_cast<const unsigned char*>(where);
    task.visible = PyLong_AsLong(args[9]);
    task.scale = PyFloat_AsDouble(args[10]);
    task.alpha = PyFloat_AsDouble(args[11]);
    task.empty = (int)PyLong_AsLong(args[13]);
    if (PyErr_Occurred()) return nullptr;
    if (!(task.alpha >= 1)) return PyErr_Format(PyExc_ValueError, "alpha must be at least 1");
    task.visible = std::clamp(task.visible, -task.queries, task.keys);

    const long items = task.matrices * attention_blocks(task), scratch_size = attention_scratch(task);
    const long cost = attention_queries * task.keys * (task.width + task.value_width + 8) + 1;
    const long grain = std::max({1L, items / 128, (1L << 20) / cost});
    std::atomic<bool> out_of_memory{false};
    std::atomic<long> nothing{results};
    Py_BEGIN_ALLOW_THREADS;
    parallel_for(items, grain, [&](long begin, long end) {
        std::unique_ptr<double[]> scratch(new (std::nothrow) double[scratch_size]);
        if (!scratch) {
            out_of_memory = true;
            return;
        }
        const long found = kernels->attention[(int)dtype](task, begin, end, scratch.get());
        for (long least = nothing; found >= 0 && found < least && !nothing.compare_exchange_weak(least, found);) {
        }
    });
    Py_END_ALLOW_THREADS;
    if (out_of_memory) return PyErr_NoMemory();
    return PyLong_FromLong(nothing == results ? -1 : nothing.load());
}

}  // namespace
}  // namespace softly
