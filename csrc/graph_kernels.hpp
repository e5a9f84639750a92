// What the kernels of attention over a graph take.
#pragma once

namespace softly {

struct Graph {  // all contiguous; edges lie by target
    const void *query, *key, *value;  // (targets, heads, width), (sources, heads, width), (sources, heads, depth)
    const void* bias;                 // (edges, heads), or null; -inf where an edge does not count
    void *weights, *out;              // (edges, heads), (targets, heads, depth)
    const long long *offsets, *sources;  // of each target its edges, of each edge its source
    long targets, source_count, heads, width, depth, longest;
    double scale, alpha, negative_slope;
    bool is_additive;
    const double* temperature;  // for all (stride 0), or one a target and head (stride 1)
    long temperature_stride;
    // Backward: the gradient in `out`, and what it makes.
    const void* cotangent;
    void *in_scores, *in_query, *in_key, *in_value;                         // in_scores: (edges, heads)
    const long long *source_offsets, *source_edges, *source_targets;  // of each source its edges, and their targets
};

// Targets or sources [begin, end); graph_scratch() doubles.
using GraphKernel = void (*)(const Graph&, long begin, long end, double* scratch);

}  // namespace softly
