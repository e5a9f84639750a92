// softly._core: the kernels on NumPy arrays. Arguments were checked by the Python callers; what would be unsafe is
// checked again here. Arrays are C-contiguous, aligned, in native byte order.

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <numpy/arrayobject.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels.hpp"
#include "threads.hpp"

namespace softly {
namespace {

const Kernels* kernels = nullptr;

// Below this many elements a loop stays on its thread: some 30 us of work.
constexpr long parallel_elements = 1 << 16;

PyArrayObject* as_array(PyObject* object, int type, const char* name) {
    if (PyArray_Check(object)) {
        auto* array = reinterpret_cast<PyArrayObject*>(object);
        const bool fits = type < 0 || PyArray_EquivTypenums(PyArray_TYPE(array), type);
        if (PyArray_ISCARRAY_RO(array) && fits) return array;
    }
    PyErr_Format(PyExc_TypeError, "%s must be a C-contiguous, aligned, native array of its type, got %R", name,
                 reinterpret_cast<PyObject*>(Py_TYPE(object)));
    return nullptr;
}

bool dtype_of(PyArrayObject* array, Dtype* dtype) {
    const int type = PyArray_TYPE(array);
    if (type != NPY_FLOAT32 && type != NPY_FLOAT64) {
        PyErr_SetString(PyExc_TypeError, "the compiled core takes float32 and float64");
        return false;
    }
    *dtype = type == NPY_FLOAT32 ? Dtype::float32 : Dtype::float64;
    return true;
}

template <class Body>
void over_rows(long rows, long columns, const Body& body) {
    const long grain = std::max(1L, parallel_elements / std::max(1L, columns));
    parallel_for(rows, grain, body);
}

// softmax(scores, temperature, empty, out): scores with at least one axis and one column; temperature a number or
// an array of one a row; out None or an array like the result. Returns out.
template <RowsKernel (Kernels::*table)[2], bool reduces>
PyObject* rows_operation(PyObject*, PyObject* const* args, Py_ssize_t count) {
    if (count != 4) return PyErr_Format(PyExc_TypeError, "takes 4 arguments, got %zd", count);
    PyArrayObject* scores = as_array(args[0], -1, "scores");
    Dtype dtype;
    if (!scores || !dtype_of(scores, &dtype)) return nullptr;
    const int ndim = PyArray_NDIM(scores);
    const long columns = ndim ? PyArray_DIM(scores, ndim - 1) : 0;
    if (columns == 0) return PyErr_Format(PyExc_ValueError, "scores must have at least one column");
    const long rows = PyArray_SIZE(scores) / columns;

    Rows task{PyArray_DATA(scores), nullptr, columns, nullptr, 0, 0};
    double temperature;
    if (PyArray_Check(args[1])) {
        PyArrayObject* temperatures = as_array(args[1], NPY_FLOAT64, "temperature");
        if (!temperatures) return nullptr;
        if (PyArray_SIZE(temperatures) != rows) return PyErr_Format(PyExc_ValueError, "temperature needs one a row");
        task.temperature = static_cast<const double*>(PyArray_DATA(temperatures));
        task.temperature_stride = 1;
    } else {
        temperature = PyFloat_AsDouble(args[1]);
        if (temperature == -1.0 && PyErr_Occurred()) return nullptr;
        task.temperature = &temperature;
    }
    task.empty = (int)PyLong_AsLong(args[2]);
    if (task.empty == -1 && PyErr_Occurred()) return nullptr;

    const int out_ndim = reduces ? ndim - 1 : ndim;
    PyObject* out = args[3];
    if (out == Py_None) {
        out = PyArray_SimpleNew(out_ndim, PyArray_DIMS(scores), PyArray_TYPE(scores));
        if (!out) return nullptr;
    } else {
        PyArrayObject* given = as_array(out, PyArray_TYPE(scores), "out");
        if (!given) return nullptr;
        if (!PyArray_ISWRITEABLE(given) || PyArray_SIZE(given) != (reduces ? rows : rows * columns))
            return PyErr_Format(PyExc_ValueError, "out must be writable and of the result's size");
        Py_INCREF(out);
    }
    task.out = PyArray_DATA(reinterpret_cast<PyArrayObject*>(out));
    const RowsKernel kernel = (kernels->*table)[(int)dtype];
    if (rows * columns <= 4096) {
        kernel(task, 0, rows);
    } else {
        Py_BEGIN_ALLOW_THREADS;
        over_rows(rows, columns, [&](long begin, long end) { kernel(task, begin, end); });
        Py_END_ALLOW_THREADS;
    }
    return out;
}

bool labels_fit(PyArrayObject* labels, long rows, long classes) {
    const auto* label = static_cast<const long long*>(PyArray_DATA(labels));
    bool fit = PyArray_SIZE(labels) == rows;
    for (long i = 0; fit && i < rows; ++i) fit = label[i] >= 0 && label[i] < classes;
    if (!fit) PyErr_SetString(PyExc_ValueError, "labels must be one a row, in [0, classes)");
    return fit;
}

// temperature_statistics(scores, labels, weights or None, folds or None, betas, fold_count) ->
// (int64 array [fold_count, 1 + 3 betas, chunks] of exact sums, first unusable row or -1)
PyObject* temperature_statistics(PyObject*, PyObject* const* args, Py_ssize_t count) {
    if (count != 6) return PyErr_Format(PyExc_TypeError, "takes 6 arguments, got %zd", count);
    PyArrayObject *scores = as_array(args[0], -1, "scores"), *labels = nullptr, *weights = nullptr, *folds = nullptr,
                  *betas = nullptr;
    Dtype dtype;
    if (!scores || !dtype_of(scores, &dtype)) return nullptr;
    if (PyArray_NDIM(scores) != 2) return PyErr_Format(PyExc_ValueError, "scores must have two axes");
    const long rows = PyArray_DIM(scores, 0), classes = PyArray_DIM(scores, 1);
    if (!(labels = as_array(args[1], NPY_INT64, "labels")) || !labels_fit(labels, rows, classes)) return nullptr;
    if (args[2] != Py_None && !(weights = as_array(args[2], NPY_FLOAT64, "weights"))) return nullptr;
    if (args[3] != Py_None && !(folds = as_array(args[3], NPY_UINT8, "folds"))) return nullptr;
    if (!(betas = as_array(args[4], NPY_FLOAT64, "betas"))) return nullptr;
    const long fold_count = PyLong_AsLong(args[5]);
    if (fold_count < 1 || fold_count > 255)
        return PyErr_Occurred() ? nullptr : PyErr_Format(PyExc_ValueError, "fold_count must lie in 1..255");
    if ((weights && PyArray_SIZE(weights) != rows) || (folds && PyArray_SIZE(folds) != rows))
        return PyErr_Format(PyExc_ValueError, "weights and folds must have one entry a row");
    if (folds) {
        const auto* fold = static_cast<const unsigned char*>(PyArray_DATA(folds));
        if (std::any_of(fold, fold + rows, [&](unsigned char f) { return f >= fold_count; }))
            return PyErr_Format(PyExc_ValueError, "folds must lie below fold_count");
    }
    TemperatureProblem problem{PyArray_DATA(scores),
                               static_cast<const long long*>(PyArray_DATA(labels)),
                               weights ? static_cast<const double*>(PyArray_DATA(weights)) : nullptr,
                               folds ? static_cast<const unsigned char*>(PyArray_DATA(folds)) : nullptr,
                               static_cast<const double*>(PyArray_DATA(betas)),
                               classes,
                               (int)PyArray_SIZE(betas),
                               (int)fold_count};
    npy_intp shape[3] = {fold_count, 1 + 3 * problem.betas, exact_sum_chunks};
    PyObject* result = PyArray_ZEROS(3, shape, NPY_INT64, 0);
    if (!result) return nullptr;
    auto* total = static_cast<long long*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(result)));
    const long size = shape[0] * shape[1] * shape[2];
    long first_bad = -1;
    bool out_of_memory = false;
    std::mutex merging;
    const TemperatureKernel kernel = kernels->temperature_statistics[(int)dtype];
    const auto body = [&](long begin, long end) {
        try {
            std::vector<double> scratch(temperature_scratch(classes, problem.betas) + 8);
            void* aligned = scratch.data();
            std::size_t room = scratch.size() * sizeof(double);
            std::align(64, room - 64, aligned, room);
            std::vector<long long> sums(size);
            const long bad = kernel(problem, begin, end, static_cast<double*>(aligned), sums.data());
            const std::lock_guard lock(merging);
            for (long i = 0; i < size; ++i) total[i] += sums[i];
            if (bad >= 0 && (first_bad < 0 || bad < first_bad)) first_bad = bad;
        } catch (const std::bad_alloc&) {
            const std::lock_guard lock(merging);
            out_of_memory = true;
        }
    };
    Py_BEGIN_ALLOW_THREADS;
    const long grain = std::max(512L, parallel_elements / std::max(1L, classes * problem.betas));
    if (rows) parallel_for(rows, (grain + block_rows - 1) / block_rows * block_rows, body);
    Py_END_ALLOW_THREADS;
    if (out_of_memory) {
        Py_DECREF(result);
        return PyErr_NoMemory();
    }
    return Py_BuildValue("Nl", result, first_bad);
}

std::string available_targets() {
    int count;
    const Target* all = targets(&count);
    std::string names;
    for (int i = 0; i < count; ++i)
        if (all[i].available) names += (names.empty() ? "" : ", ") + std::string(all[i].kernels->target);
    return names;
}

PyObject* list_targets(PyObject*, PyObject*) {
    int count, found = 0;
    const Target* all = targets(&count);
    for (int i = 0; i < count; ++i) found += all[i].available;
    PyObject* tuple = PyTuple_New(found);
    if (!tuple) return nullptr;
    for (int i = 0, at = 0; i < count; ++i)
        if (all[i].available) PyTuple_SET_ITEM(tuple, at++, PyUnicode_FromString(all[i].kernels->target));
    return tuple;
}

PyObject* active_target(PyObject*, PyObject*) { return PyUnicode_FromString(kernels->target); }
PyObject* threads(PyObject*, PyObject*) { return PyLong_FromLong(thread_count()); }

template <class F>
constexpr PyCFunction method(F* function) {
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

PyMethodDef methods[] = {
    {"softmax", method(rows_operation<&Kernels::softmax, false>), METH_FASTCALL, "softmax over the last axis"},
    {"log_softmax", method(rows_operation<&Kernels::log_softmax, false>), METH_FASTCALL, "log of softmax"},
    {"logsumexp", method(rows_operation<&Kernels::logsumexp, true>), METH_FASTCALL, "log of the sum of exponentials"},
    {"temperature_statistics", method(temperature_statistics), METH_FASTCALL, "exact sums for a temperature fit"},
    {"targets", list_targets, METH_NOARGS, "instruction sets this processor has, best first"},
    {"active_target", active_target, METH_NOARGS, "the instruction set in use"},
    {"threads", threads, METH_NOARGS, "how many threads large calls use"},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_core", "softly's compiled kernels", -1, methods,
                          nullptr, nullptr, nullptr, nullptr};

}  // namespace
}  // namespace softly

PyMODINIT_FUNC PyInit__core() {
    import_array();
    const char* wanted = std::getenv("SOFTLY_TARGET");
    softly::kernels = softly::select_target(wanted && *wanted ? wanted : nullptr);
    if (!softly::kernels)
        return PyErr_Format(PyExc_ImportError, "SOFTLY_TARGET=%s is not available here; available: %s, none", wanted,
                            softly::available_targets().c_str());
    return PyModule_Create(&softly::definition);
}
