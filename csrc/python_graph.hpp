// Attention over a graph, as Python calls it. Part of module.cpp.
#pragma once

#include "python_rows.hpp"

namespace softly {
namespace {

// An array of three axes and the first one's type.
bool floats_of_heads(PyObject* object, const char* name, PyArrayObject* like, PyArrayObject** array) {
    *array = as_array(object, like ? PyArray_TYPE(like) : -1, name);
    if (*array && PyArray_NDIM(*array) == 3) return true;
    if (*array) PyErr_Format(PyExc_ValueError, "%s must have three axes", name);
    return false;
}

template <class Pointer>
bool like_shape(PyObject* object, const char* name, PyArrayObject* like, long size, Pointer* data) {
    PyArrayObject* array = as_array(object, PyArray_TYPE(like), name);
    if (!array) return false;
    constexpr bool is_written = !std::is_const_v<std::remove_pointer_t<Pointer>>;
    if (PyArray_SIZE(array) != size || (is_written && !PyArray_ISWRITEABLE(array))) {
        PyErr_Format(PyExc_ValueError, "%s has another size or is read-only", name);
        return false;
    }
    *data = PyArray_DATA(array);
    return true;
}

bool indices(PyObject* object, const char* name, long size, long limit, const long long** data) {
    PyArrayObject* array = as_array(object, NPY_INT64, name);
    if (!array) return false;
    *data = static_cast<const long long*>(PyArray_DATA(array));
    const auto is_index = [&](long long i) { return i >= 0 && i < limit; };
    const bool below = std::all_of(*data, *data + PyArray_SIZE(array), is_index);
    if (below && PyArray_SIZE(array) == size) return true;
    PyErr_Format(PyExc_ValueError, "%s must be %ld indices below %ld", name, size, limit);
    return false;
}

// A graph of (query, key, value, offsets, sources, temperature, alpha, scale, negative_slope or None, weights): arrays
// of three axes, bounds of each target's edges, each edge's source. The offsets are copied.
struct GraphArguments {
    Graph graph{};
    Dtype dtype;
    PyArrayObject *query, *key, *value;
    std::vector<long long> offsets, source_offsets;
    double temperature;
    long edges;

    bool parse(PyObject* const* args) {
        Graph& g = graph;
        if (!floats_of_heads(args[0], "query", nullptr, &query) || !dtype_of(query, &dtype) ||
            !floats_of_heads(args[1], "key", query, &key) || !floats_of_heads(args[2], "value", query, &value))
            return false;
        const npy_intp *of_query = PyArray_DIMS(query), *of_key = PyArray_DIMS(key), *of_value = PyArray_DIMS(value);
        if (of_query[1] != of_key[1] || of_query[2] != of_key[2] || of_key[0] != of_value[0] ||
            of_key[1] != of_value[1]) {
            PyErr_SetString(PyExc_ValueError, "query, key and value do not fit");
            return false;
        }
        g.query = PyArray_DATA(query), g.key = PyArray_DATA(key), g.value = PyArray_DATA(value);
        g.targets = of_query[0], g.heads = of_query[1], g.width = of_query[2];
        g.source_count = of_key[0], g.depth = of_value[2];
        PyArrayObject* sources = as_array(args[4], NPY_INT64, "sources");
        if (!sources) return false;
        edges = PyArray_SIZE(sources);
        if (!copy_offsets(args[3], edges, &offsets) || !indices(args[4], "sources", edges, g.source_count, &g.sources))
            return false;
        if ((long)offsets.size() != g.targets + 1) {
            PyErr_SetString(PyExc_ValueError, "offsets must be one more than the targets");
            return false;
        }
        g.offsets = offsets.data();
        g.longest = longest_segment(offsets);
        const long rows = g.targets * g.heads;
        if (!number_a_row(args[5], "temperature", rows, &temperature, &g.temperature, &g.temperature_stride)) return false;
        g.alpha = PyFloat_AsDouble(args[6]);
        g.scale = PyFloat_AsDouble(args[7]);
        g.is_additive = args[8] != Py_None;
        if (g.is_additive) g.negative_slope = PyFloat_AsDouble(args[8]);
        return !PyErr_Occurred() && like_shape(args[9], "weights", query, edges * g.heads, &g.weights);
    }
};

// kernel(graph, begin, end, scratch) over [0, count), in pieces of some 64k numbers.
bool run_graph(GraphKernel kernel, const Graph& graph, long count, long edges) {
    const long scratch_size = graph_scratch(graph);
    const long size = (edges + count) * graph.heads * (graph.width + graph.depth + 8);
    std::atomic<bool> out_of_memory{false};
    Py_BEGIN_ALLOW_THREADS;
    over_rows(count, size / std::max(1L, count), [&](long begin, long end) {
        std::unique_ptr<double[]> scratch(new (std::nothrow) double[scratch_size]);
        if (scratch)
            kernel(graph, begin, end, scratch.get());
        else
            out_of_memory = true;
    });
    Py_END_ALLOW_THREADS;
    if (out_of_memory) PyErr_NoMemory();
    return !out_of_memory;
}

// graph_averages(graph's ten arguments, bias or None, out): weights (edges, heads) and out (targets, heads, depth) are
// written.
PyObject* graph_averages(PyObject*, PyObject* const* args, Py_ssize_t count) {
    if (count != 12) return PyErr_Format(PyExc_TypeError, "takes 12 arguments, got %zd", count);
    GraphArguments given;
    if (!given.parse(args)) return nullptr;
    Graph& g = given.graph;
    if (args[10] != Py_None && !like_shape(args[10], "bias", given.query, given.edges * g.heads, &g.bias))
        return nullptr;
    if (!like_shape(args[11], "out", given.query, g.targets * g.heads * g.depth, &g.out)) return nullptr;
    if (!run_graph(kernels->graph_averages[g.is_additive][(int)given.dtype], g, g.targets, given.edges)) return nullptr;
    Py_RETURN_NONE;
}

// graph_gradients(graph's ten arguments, cotangent, source_offsets, source_edges, source_targets, in_scores, in_query,
// in_key, in_value): of each source its edges and their targets; the last four are written.
PyObject* graph_gradients(PyObject*, PyObject* const* args, Py_ssize_t count) {
    if (count != 18) return PyErr_Format(PyExc_TypeError, "takes 18 arguments, got %zd", count);
    GraphArguments given;
    if (!given.parse(args)) return nullptr;
    Graph& g = given.graph;
    const long queries = g.targets * g.heads * g.width, keys = g.source_count * g.heads * g.width;
    if (!like_shape(args[10], "cotangent", given.query, g.targets * g.heads * g.depth, &g.cotangent) ||
        !copy_offsets(args[11], given.edges, &given.source_offsets) ||
        !indices(args[12], "source_edges", given.edges, given.edges, &g.source_edges) ||
        !indices(args[13], "source_targets", given.edges, g.targets, &g.source_targets) ||
        !like_shape(args[14], "in_scores", given.query, given.edges * g.heads, &g.in_scores) ||
        !like_shape(args[15], "in_query", given.query, queries, &g.in_query) ||
        !like_shape(args[16], "in_key", given.query, keys, &g.in_key) ||
        !like_shape(args[17], "in_value", given.query, g.source_count * g.heads * g.depth, &g.in_value))
        return nullptr;
    if ((long)given.source_offsets.size() != g.source_count + 1)
        return PyErr_Format(PyExc_ValueError, "source_offsets must be one more than the sources");
    g.source_offsets = given.source_offsets.data();
    const int dtype = (int)given.dtype;
    if (!run_graph(kernels->graph_target_gradients[g.is_additive][dtype], g, g.targets, given.edges) ||
        !run_graph(kernels->graph_source_gradients[g.is_additive][dtype], g, g.source_count, given.edges))
        return nullptr;
    Py_RETURN_NONE;
}

}  // namespace
}  // namespace softly
