// Draws from rows of probabilities, as Python calls them. Part of module.cpp.
#pragma once

#include "python_rows.hpp"
#include "sampling.hpp"

namespace softly {
namespace {

// draw(scores, probabilities, uniforms, leaders, top_k, top_p, min_p) -> (index, kept, others): of rows of float64
// scores and their probabilities; uniforms [rows, size] in [0, 1); leaders int64, where the highest score of each is.
// See draw_row; index int64 [rows, size]; kept int64 and others one a row.
PyObject* draw(PyObject*, PyObject* const* args, Py_ssize_t count) {
    if (count != 7) return PyErr_Format(PyExc_TypeError, "takes 7 arguments, got %zd", count);
    PyArrayObject* given[3];
    const char* names[] = {"scores", "probabilities", "uniforms"};
    for (int i = 0; i < 3; ++i)
        if (!(given[i] = as_array(args[i], NPY_FLOAT64, names[i]))) return nullptr;
    PyArrayObject* leaders = as_array(args[3], NPY_INT64, "leaders");
    if (!leaders) return nullptr;
    Filter filter{PyLong_AsLong(args[4]), PyFloat_AsDouble(args[5]), PyFloat_AsDouble(args[6])};
    if (PyErr_Occurred()) return nullptr;
    if (PyArray_NDIM(given[0]) != 2 || PyArray_NDIM(given[2]) != 2 || !PyArray_SAMESHAPE(given[0], given[1]))
        return PyErr_Format(PyExc_ValueError, "scores and probabilities must have one shape; all, two axes");
    const long rows = PyArray_DIM(given[0], 0), n = PyArray_DIM(given[0], 1), size = PyArray_DIM(given[2], 1);
    if (PyArray_SIZE(leaders) != rows || PyArray_DIM(given[2], 0) != rows)
        return PyErr_Format(PyExc_ValueError, "leaders and uniforms must have one entry a row");
    const auto* leader = static_cast<const long long*>(PyArray_DATA(leaders));
    if (std::any_of(leader, leader + rows, [&](long long i) { return i < 0 || i >= n; }))
        return PyErr_Format(PyExc_ValueError, "leaders must be places in a row");
    PyObject* results[3] = {PyArray_SimpleNew(2, PyArray_DIMS(given[2]), NPY_INT64),
                            PyArray_SimpleNew(1, PyArray_DIMS(given[0]), NPY_INT64),
                            PyArray_SimpleNew(1, PyArray_DIMS(given[0]), NPY_FLOAT64)};
    const auto give_up = [&] {
        for (PyObject* result : results) Py_XDECREF(result);
        return nullptr;
    };
    for (PyObject* result : results)
        if (!result) return give_up();
    const auto data = [](auto* array) { return PyArray_DATA(reinterpret_cast<PyArrayObject*>(array)); };
    const auto *z = static_cast<const double*>(data(given[0])), *p = static_cast<const double*>(data(given[1])),
               *u = static_cast<const double*>(data(given[2]));
    auto *index = static_cast<long long*>(data(results[0])), *kept = static_cast<long long*>(data(results[1]));
    auto* others = static_cast<double*>(data(results[2]));
    std::atomic<bool> out_of_memory{false};
    const auto body = [&](long begin, long end) {
        try {
            DrawScratch scratch;
            for (long i = begin; i < end; ++i)
                kept[i] = draw_row(z + i * n, p + i * n, n, leader[i], filter, u + i * size, size, index + i * size,
                                   others + i, scratch);
        } catch (const std::bad_alloc&) {
            out_of_memory = true;
        }
    };
    Py_BEGIN_ALLOW_THREADS;
    over_rows(rows, n + size, body);
    Py_END_ALLOW_THREADS;
    if (out_of_memory) {
        give_up();
        return PyErr_NoMemory();
    }
    return Py_BuildValue("NNN", results[0], results[1], results[2]);
}

}  // namespace
}  // namespace softly
