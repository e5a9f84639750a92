// The kernels on memory of others, by address: contiguous, aligned rows that the caller holds and has checked, such as plain
// tensors of torch. Part of module.cpp.
#pragma once

#include "python_rows.hpp"

namespace softly {
namespace {

// scores, out, rows, columns, dtype (as Dtype), temperature above 0, alpha, other. False with an exception set.
bool rows_at(PyObject* const* args, Py_ssize_t count, Rows* task, double* temperature, Dtype* dtype) {
    if (count != 8) return PyErr_Format(PyExc_TypeError, "takes 8 arguments, got %zd", count);
    *task = Rows{};
    task->scores = PyLong_AsVoidPtr(args[0]);
    task->out = PyLong_AsVoidPtr(args[1]);
    task->rows = PyLong_AsLong(args[2]);
    task->columns = task->longest = PyLong_AsLong(args[3]);
    const long code = PyLong_AsLong(args[4]);
    *temperature = PyFloat_AsDouble(args[5]);
    task->alpha = PyFloat_AsDouble(args[6]);
    if (PyErr_Occurred()) return false;
    if (!task->scores || !task->out || task->rows < 1 || task->columns < 1 || code < 0 || code > 3 || !(*temperature >= 0))
        return PyErr_Format(PyExc_ValueError, "needs memory with entries, a dtype from 0 to 3 and a temperature"), false;
    task->inner = 1;
    task->temperature = temperature;
    *dtype = (Dtype)code;
    return true;
}

// softmax_at(..., none): whether a row does not move with its scores, because its largest is infinite, so that its derivatives
// are 0: what the map gives, `none` apart, does not tell. Not looked for where `none` is None.
template <RowsKernel (Kernels::*table)[4], bool = false, bool needs_scratch = false>
PyObject* operation_at(PyObject*, PyObject* const* args, Py_ssize_t count) {
    Rows task;
    double temperature;
    Dtype dtype;
    if (!rows_at(args, count, &task, &temperature, &dtype)) return nullptr;
    const RowsKernel kernel = (kernels->*table)[(int)dtype], constant = kernels->constant_rows[(int)dtype];
    const bool asked = args[7] != Py_None;
    split_into_entries<table>(&task);
    if (!kernel || (asked && !constant)) return PyErr_Format(PyExc_TypeError, "has no kernel for this dtype");
    std::atomic<bool> found{false};
    Rows looked = task;
    looked.vector = task.out;
    looked.out = nullptr;
    looked.any = &found;
    looked.alpha = asked ? PyFloat_AsDouble(args[7]) : 0;
    if (PyErr_Occurred()) return nullptr;
    const auto both = [&](const Rows& rows, long begin, long end, double* scratch) {
        kernel(rows, begin, end, scratch);
        if (asked) constant(looked, begin, end, nullptr);  // while the scores are near
    };
    const long scratch = (int)dtype >= (int)Dtype::float16 ? half_scratch(task)
                         : needs_scratch                    ? sparse_scratch(task.longest)
                                                            : 0;
    if (!run_rows(both, task, task.rows * task.columns, scratch)) return nullptr;
    return PyBool_FromLong(found);
}

// jacobian_product_at(result, ..., vector): of a vector like the result.
template <RowsKernel (Kernels::*table)[4], bool needs_scratch = false>
PyObject* product_at(PyObject*, PyObject* const* args, Py_ssize_t count) {
    Rows task;
    double temperature;
    Dtype dtype;
    if (!rows_at(args, count, &task, &temperature, &dtype)) return nullptr;
    const RowsKernel kernel = (kernels->*table)[(int)dtype];
    task.vector = PyLong_AsVoidPtr(args[7]);
    split_into_entries<table>(&task);
    if (PyErr_Occurred()) return nullptr;
    if (!kernel || !task.vector) return PyErr_Format(PyExc_ValueError, "needs a vector, and a dtype with a kernel");
    if (!run_rows(kernel, task, task.rows * task.columns, needs_scratch ? sparse_scratch(task.longest) : 0)) return nullptr;
    Py_RETURN_NONE;
}

}  // namespace
}  // namespace softly
