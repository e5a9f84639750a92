// Kernel regression, as Python calls it. Part of module.cpp.
#pragma once

#include "python_graph.hpp"

namespace softly {
namespace {

// kernel_regression(query, data, values, rate, leave_out, out, sharing, nearest): arrays of two axes; rate float64, one
// a feature; the last three, of the queries, are written.
PyObject* kernel_regression(PyObject*, PyObject* const* args, Py_ssize_t count) {
    if (count != 8) return PyErr_Format(PyExc_TypeError, "takes 8 arguments, got %zd", count);
    PyArrayObject *query = as_array(args[0], -1, "query"), *data = nullptr, *values = nullptr, *rate = nullptr;
    Dtype dtype;
    if (!query || !dtype_of(query, &dtype) || !(data = as_array(args[1], PyArray_TYPE(query), "data")) ||
        !(values = as_array(args[2], PyArray_TYPE(query), "values")) ||
        !(rate = as_array(args[3], NPY_FLOAT64, "rate")))
        return nullptr;
    if (PyArray_NDIM(query) != 2 || PyArray_NDIM(data) != 2 || PyArray_NDIM(values) != 2)
        return PyErr_Format(PyExc_ValueError, "query, data and values must have two axes");
    Regression r{};
    r.query = PyArray_DATA(query), r.data = PyArray_DATA(data), r.values = PyArray_DATA(values);
    r.rate = static_cast<const double*>(PyArray_DATA(rate));
    r.queries = PyArray_DIM(query, 0), r.width = PyArray_DIM(query, 1);
    r.points = PyArray_DIM(data, 0), r.outputs = PyArray_DIM(values, 1);
    if (PyArray_DIM(data, 1) != r.width || PyArray_DIM(values, 0) != r.points || PyArray_SIZE(rate) != r.width)
        return PyErr_Format(PyExc_ValueError, "query, data, values and rate do not fit");
    r.leave_out = PyObject_IsTrue(args[4]) == 1;
    if (!like_shape(args[5], "out", query, r.queries * r.outputs, &r.out) ||
        !like_shape(args[6], "sharing", query, r.queries, &r.sharing) ||
        !like_shape(args[7], "nearest", query, r.queries, &r.nearest))
        return nullptr;
    const long groups = (r.queries + regression_group - 1) / regression_group, scratch_size = regression_scratch(r);
    const RegressionKernel kernel = kernels->kernel_regression[(int)dtype];
    const long work = regression_group * std::max(1L, r.points) * (r.width + r.outputs + 8);
    std::atomic<bool> out_of_memory{false};
    Py_BEGIN_ALLOW_THREADS;
    parallel_for(groups, std::max(1L, (1L << 20) / work), [&](long begin, long end) {
        std::unique_ptr<double[]> scratch(new (std::nothrow) double[scratch_size]);
        if (scratch)
            kernel(r, begin, end, scratch.get());
        else
            out_of_memory = true;
    });
    Py_END_ALLOW_THREADS;
    if (out_of_memory) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

}  // namespace
}  // namespace softly
