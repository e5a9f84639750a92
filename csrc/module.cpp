// softly._core: the kernels on NumPy arrays. Arguments were checked by the Python callers; what would be unsafe is
// checked again here. Arrays are C-contiguous, aligned, in native byte order.

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <numpy/arrayobject.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
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

// An array like the result, or `out` if it is one. Returns a new reference.
PyObject* result_array(PyObject* out, int ndim, const npy_intp* shape, PyArrayObject* scores) {
    if (out == Py_None) return PyArray_SimpleNew(ndim, shape, PyArray_TYPE(scores));
    PyArrayObject* given = as_array(out, PyArray_TYPE(scores), "out");
    if (!given) return nullptr;
    if (!PyArray_ISWRITEABLE(given) || PyArray_SIZE(given) != PyArray_MultiplyList(shape, ndim))
        return PyErr_Format(PyExc_ValueError, "out must be writable and of the result's size");
    Py_INCREF(out);
    return out;
}

bool run_rows(RowsKernel kernel, const Rows& task, long rows, long size, long scratch_size) {
    std::atomic<bool> out_of_memory{false};
    const auto body = [&](long begin, long end) {
        std::unique_ptr<double[]> scratch(scratch_size ? new (std::nothrow) double[scratch_size] : nullptr);
        if (scratch_size && !scratch)
            out_of_memory = true;
        else
            kernel(task, begin, end, scratch.get());
    };
    if (size <= 4096) {
        body(0, rows);
    } else {
        Py_BEGIN_ALLOW_THREADS;
        over_rows(rows, size / std::max(1L, rows), body);
        Py_END_ALLOW_THREADS;
    }
    if (out_of_memory) PyErr_NoMemory();
    return !out_of_memory;
}

// softmax(scores, temperature, empty, out, offsets, alpha): scores with at least one axis and one column; temperature a
// number or an array of one a row; out None or an array like the result; offsets None or the bounds of the segments of
// each row, which are rows of their own then; alpha for entmax alone. Returns out. Derivatives take a vector like the scores
// last: jacobian_product(result, ..., vector), constant_rows(scores, ..., alpha=what is no share, result).
template <RowsKernel (Kernels::*table)[2], bool reduces = false, bool needs_scratch = false, bool takes_vector = false>
PyObject* rows_operation(PyObject*, PyObject* const* args, Py_ssize_t count) {
    constexpr int expected = takes_vector ? 7 : 6;
    if (count != expected) return PyErr_Format(PyExc_TypeError, "takes %d arguments, got %zd", expected, count);
    PyArrayObject* scores = as_array(args[0], -1, "scores");
    Dtype dtype;
    if (!scores || !dtype_of(scores, &dtype)) return nullptr;
    const int ndim = PyArray_NDIM(scores);
    const long columns = ndim ? PyArray_DIM(scores, ndim - 1) : 0;
    if (columns == 0) return PyErr_Format(PyExc_ValueError, "scores must have at least one column");
    long rows = PyArray_SIZE(scores) / columns, longest = columns;

    Rows task{};
    task.scores = PyArray_DATA(scores);
    task.columns = columns;
    task.rows = rows;
    std::vector<long long> offsets;
    npy_intp shape[NPY_MAXDIMS];
    std::copy_n(PyArray_DIMS(scores), ndim, shape);
    if (args[4] != Py_None) {
        if (!copy_offsets(args[4], columns, &offsets)) return nullptr;
        task.offsets = offsets.data();
        task.segments = (long)offsets.size() - 1;
        rows *= task.segments;
        task.rows = rows;
        longest = longest_segment(offsets);
        if (reduces) shape[ndim - 1] = task.segments;
    }
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
    task.alpha = PyFloat_AsDouble(args[5]);
    if (task.alpha == -1.0 && PyErr_Occurred()) return nullptr;

    if (takes_vector) {
        PyArrayObject* vector = as_array(args[6], PyArray_TYPE(scores), "vector");
        if (!vector) return nullptr;
        if (PyArray_SIZE(vector) != PyArray_SIZE(scores)) return PyErr_Format(PyExc_ValueError, "vector has another size");
        task.vector = PyArray_DATA(vector);
    }

    PyObject* out = result_array(args[3], reduces && !task.offsets ? ndim - 1 : ndim, shape, scores);
    if (!out) return nullptr;
    task.out = PyArray_DATA(reinterpret_cast<PyArrayObject*>(out));
    if (!run_rows((kernels->*table)[(int)dtype], task, rows, PyArray_SIZE(scores),
                  needs_scratch ? sparse_scratch(longest) : 0)) {
        Py_DECREF(out);
        return nullptr;
    }
    return out;
}

// group(index, segments) -> (offsets, order or None): where each segment's entries begin, and the stable order that brings
// them together (None: they stand so). index: int64, each in [0, segments).
PyObject* group(PyObject*, PyObject* const* args, Py_ssize_t count) {
    if (count != 2) return PyErr_Format(PyExc_TypeError, "takes 2 arguments, got %zd", count);
    PyArrayObject* index = as_array(args[0], NPY_INT64, "index");
    if (!index) return nullptr;
    const npy_intp entries = PyArray_SIZE(index), segments = PyLong_AsLongLong(args[1]);
    if (segments < 0) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "segments must not be negative");
        return nullptr;
    }
    const npy_intp bounds = segments + 1;
    PyObject* offsets = PyArray_ZEROS(1, &bounds, NPY_INT64, 0);
    if (!offsets) return nullptr;
    auto* next = static_cast<long long*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(offsets)));
    const auto* segment = static_cast<const long long*>(PyArray_DATA(index));
    bool sorted = true;
    for (npy_intp i = 0; i < entries; ++i) {
        if (segment[i] < 0 || segment[i] >= segments) {
            Py_DECREF(offsets);
            return PyErr_Format(PyExc_ValueError, "index must lie in [0, segments)");
        }
        ++next[segment[i] + 1];
        sorted &= i == 0 || segment[i - 1] <= segment[i];
    }
    for (npy_intp i = 0; i < segments; ++i) next[i + 1] += next[i];
    if (sorted) return Py_BuildValue("NO", offsets, Py_None);
    PyObject* order = PyArray_SimpleNew(1, &entries, NPY_INT64);
    if (!order) {
        Py_DECREF(offsets);
        return nullptr;
    }
    auto* at = static_cast<long long*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(order)));
    for (npy_intp i = 0; i < entries; ++i) at[next[segment[i]]++] = i;
    for (npy_intp i = segments; i > 0; --i) next[i] = next[i - 1];  // each begin had moved to its end
    next[0] = 0;
    return Py_BuildValue("NN", offsets, order);
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

PyObject* error_bounds(PyObject*, PyObject*) {
    PyObject* result = PyDict_New();
    for (const Bound& bound : bounds) {
        PyObject* ulp = result ? PyFloat_FromDouble(bound.ulp) : nullptr;
        if (!ulp || PyDict_SetItemString(result, bound.operation, ulp) < 0) Py_CLEAR(result);
        Py_XDECREF(ulp);
    }
    return result;
}

PyObject* active_target(PyObject*, PyObject*) { return PyUnicode_FromString(kernels->target); }
PyObject* threads(PyObject*, PyObject*) { return PyLong_FromLong(thread_count()); }

template <class F>
constexpr PyCFunction method(F* function) {
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

PyMethodDef methods[] = {
    {"softmax", method(rows_operation<&Kernels::softmax>), METH_FASTCALL, "softmax over the last axis"},
    {"log_softmax", method(rows_operation<&Kernels::log_softmax>), METH_FASTCALL, "log of softmax"},
    {"logsumexp", method(rows_operation<&Kernels::logsumexp, true>), METH_FASTCALL, "log of the sum of exponentials"},
    {"entmax", method(rows_operation<&Kernels::entmax, false, true>), METH_FASTCALL, "entmax, alpha > 1"},
    {"jacobian_product", method(rows_operation<&Kernels::jacobian_product, false, true, true>), METH_FASTCALL,
     "the Jacobian of entmax times a vector"},
    {"log_jacobian_product", method(rows_operation<&Kernels::log_jacobian_product, false, false, true>), METH_FASTCALL,
     "the transposed Jacobian of log_softmax times a vector"},
    {"constant_rows", method(rows_operation<&Kernels::constant_rows, true, false, true>), METH_FASTCALL,
     "1 for each row whose largest score is infinite"},
    {"sigmoid", method(rows_operation<&Kernels::sigmoid>), METH_FASTCALL, "sigmoid of each entry"},
    {"log_sigmoid", method(rows_operation<&Kernels::log_sigmoid>), METH_FASTCALL, "log of sigmoid"},
    {"group", method(group), METH_FASTCALL, "offsets and order of the entries of segments"},
    {"temperature_statistics", method(temperature_statistics), METH_FASTCALL, "exact sums for a temperature fit"},
    {"targets", list_targets, METH_NOARGS, "instruction sets this processor has, best first"},
    {"bounds", error_bounds, METH_NOARGS, "the largest error of each operation, in ULPs"},
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
