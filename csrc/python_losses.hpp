// Losses of rows, as Python calls them. Part of module.cpp.
#pragma once

#include "python_rows.hpp"

namespace softly {
namespace {

bool labels_fit(PyArrayObject* labels, long rows, long lowest, long classes) {
    const auto* label = static_cast<const long long*>(PyArray_DATA(labels));
    bool fit = PyArray_SIZE(labels) == rows;
    for (long i = 0; fit && i < rows; ++i) fit = label[i] >= lowest && label[i] < classes;
    if (!fit) PyErr_SetString(PyExc_ValueError, "labels must be one a row, below the number of classes");
    return fit;
}

// cross_entropy(scores, labels, temperature, scale, losses, gradient): of the rows of scores, whose last axis is the classes;
// labels int64, -1 where a row is ignored; temperature and the gradient's scale a number or one a row; losses written, floats or,
// of doubles, doubles; gradient written, like the scores, which it may be, or None.
PyObject* cross_entropy(PyObject*, PyObject* const* args, Py_ssize_t count) {
    if (count != 6) return PyErr_Format(PyExc_TypeError, "takes 6 arguments, got %zd", count);
    Dtype dtype;
    if (!is_plain(args[0], &dtype)) return PyErr_Format(PyExc_TypeError, "scores must be a plain array of floats, not empty");
    auto* scores = reinterpret_cast<PyArrayObject*>(args[0]);
    Rows task{};
    task.scores = PyArray_DATA(scores);
    task.columns = task.longest = PyArray_DIM(scores, PyArray_NDIM(scores) - 1);
    task.inner = 1;
    task.rows = PyArray_SIZE(scores) / task.columns;
    PyArrayObject* labels = as_array(args[1], NPY_INT64, "labels");
    if (!labels || !labels_fit(labels, task.rows, -1, task.columns)) return nullptr;
    task.labels = static_cast<const long long*>(PyArray_DATA(labels));
    double temperature, scale;
    if (!number_a_row(args[2], "temperature", task.rows, &temperature, &task.temperature, &task.temperature_stride) ||
        !number_a_row(args[3], "scale", task.rows, &scale, &task.scale, &task.scale_stride))
        return nullptr;
    PyArrayObject* losses = as_array(args[4], dtype == Dtype::float64 ? NPY_FLOAT64 : NPY_FLOAT32, "losses");
    if (!losses) return nullptr;
    if (!PyArray_ISWRITEABLE(losses) || PyArray_SIZE(losses) != task.rows)
        return PyErr_Format(PyExc_ValueError, "losses must be writable, one a row");
    task.losses = PyArray_DATA(losses);
    if (args[5] != Py_None) {
        if (!can_be_out(args[5], scores)) return PyErr_Format(PyExc_ValueError, "gradient must be like scores, or they");
        task.out = PyArray_DATA(reinterpret_cast<PyArrayObject*>(args[5]));
    }
    const long scratch = (int)dtype >= (int)Dtype::float16 ? half_scratch(task) : 0;
    if (!run_rows(kernels->cross_entropy[(int)dtype], task, PyArray_SIZE(scores), scratch)) return nullptr;
    Py_RETURN_NONE;
}

}  // namespace
}  // namespace softly
