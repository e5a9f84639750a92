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
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "kernels.hpp"
#include "threads.hpp"
//
#include "python_regression.hpp"
#include "python_addresses.hpp"
#include "python_attention.hpp"
#include "python_losses.hpp"
#include "python_sampling.hpp"
#include "xla_rows.hpp"

namespace softly {
namespace {

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
    if (!(labels = as_array(args[1], NPY_INT64, "labels")) || !labels_fit(labels, rows, 0, classes)) return nullptr;
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
#define SOFTLY_ROWS(name, text, ...)                                                                        \
    {#name, method(rows_operation<&Kernels::name, ##__VA_ARGS__>), METH_FASTCALL, text}, \
        {#name "_direct", method(direct_operation<&Kernels::name, ##__VA_ARGS__>), METH_FASTCALL, text}, \
        {#name "_at", method(operation_at<&Kernels::name, ##__VA_ARGS__>), METH_FASTCALL, text}
    SOFTLY_ROWS(softmax, "softmax over the last axis"),
    SOFTLY_ROWS(log_softmax, "log of softmax"),
    SOFTLY_ROWS(logsumexp, "log of the sum of exponentials", true),
    SOFTLY_ROWS(entmax, "entmax, alpha > 1", false, true),
    SOFTLY_ROWS(sigmoid, "sigmoid of each entry"),
    SOFTLY_ROWS(log_sigmoid, "log of sigmoid"),
#undef SOFTLY_ROWS
    {"jacobian_product", method(rows_operation<&Kernels::jacobian_product, false, true, true>), METH_FASTCALL,
     "the Jacobian of entmax times a vector"},
    {"log_jacobian_product", method(rows_operation<&Kernels::log_jacobian_product, false, false, true>), METH_FASTCALL,
     "the transposed Jacobian of log_softmax times a vector"},
    {"jacobian_product_at", method(product_at<&Kernels::jacobian_product, true>), METH_FASTCALL,
     "the Jacobian of entmax times a vector"},
    {"log_jacobian_product_at", method(product_at<&Kernels::log_jacobian_product>), METH_FASTCALL,
     "the transposed Jacobian of log_softmax times a vector"},
    {"sigmoid_gradient", method(rows_operation<&Kernels::sigmoid_gradient, false, false, true>), METH_FASTCALL,
     "the slopes of sigmoid times a vector"},
    {"log_sigmoid_gradient", method(rows_operation<&Kernels::log_sigmoid_gradient, false, false, true>), METH_FASTCALL,
     "the slopes of log_sigmoid times a vector"},
    {"sigmoid_gradient_at", method(product_at<&Kernels::sigmoid_gradient>), METH_FASTCALL,
     "the slopes of sigmoid times a vector"},
    {"log_sigmoid_gradient_at", method(product_at<&Kernels::log_sigmoid_gradient>), METH_FASTCALL,
     "the slopes of log_sigmoid times a vector"},
    {"constant_rows", method(rows_operation<&Kernels::constant_rows, true, false, true>), METH_FASTCALL,
     "1 for each row whose largest score is infinite"},
    {"cross_entropy", method(cross_entropy), METH_FASTCALL, "cross-entropy of labels, and its gradient"},
    {"draw", method(draw), METH_FASTCALL, "draws from rows of probabilities"},
    {"empty_like", empty_like, METH_O, "a new array like another, not filled"},
    {"release_memory", release_memory, METH_NOARGS, "give memory kept for new results back to the system"},
    {"graph_averages", method(graph_averages), METH_FASTCALL, "attention over the edges of a graph"},
    {"graph_gradients", method(graph_gradients), METH_FASTCALL, "its gradients"},
    {"attention", method(attention), METH_FASTCALL, "averages of values, weighted by the scores of queries and keys"},
    {"kernel_regression", method(kernel_regression), METH_FASTCALL, "averages of values by a Gaussian kernel"},
    {"group", method(group), METH_FASTCALL, "offsets and order of the entries of segments"},
    {"temperature_statistics", method(temperature_statistics), METH_FASTCALL, "exact sums for a temperature fit"},
    {"targets", list_targets, METH_NOARGS, "instruction sets this processor has, best first"},
    {"xla_functions", xla_functions, METH_NOARGS, "the kernels of rows as custom calls of XLA, by name"},
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
