// What XLA hands to a function that it calls, and what it asks of one: the binary interface of its custom calls ("FFI", major
// version 0), as far as it is used here. tests/test_jax_kernels.py compares it with the header that comes with jaxlib.
#pragma once

#include <cstddef>
#include <cstdint>

namespace softly::xla {

struct Extension {
    std::size_t struct_size;
    int type;
    Extension* next;
};
constexpr int metadata_extension = 1;

struct Version {
    std::size_t struct_size;
    Extension* extensions;
    int major_version, minor_version;
};

struct Metadata {  // to be filled
    std::size_t struct_size;
    Version version;
    std::uint32_t traits;
};
struct MetadataExtension {
    Extension base;
    Metadata* metadata;
};

struct Error;
struct ErrorArguments {
    std::size_t struct_size;
    Extension* extensions;
    const char* message;
    int code;
};

struct Api {
    std::size_t struct_size;
    Extension* extensions;
    Version version;
    const void* internal;
    Error* (*create_error)(ErrorArguments*);
};

constexpr int float32 = 11, float64 = 12;
struct Buffer {
    std::size_t struct_size;
    Extension* extensions;
    int dtype;
    void* data;
    std::int64_t rank;
    std::int64_t* dims;
};

struct Buffers {  // arguments or results
    std::size_t struct_size;
    Extension* extensions;
    std::int64_t size;
    int* types;
    void** entries;
};

struct Scalar {
    int dtype;
    void* value;
};
struct Attributes {  // by name in order
    std::size_t struct_size;
    Extension* extensions;
    std::int64_t size;
    int* types;
    void** names;
    void** entries;
};

struct CallFrame {
    std::size_t struct_size;
    Extension* extensions;
    const Api* api;
    void* context;
    int stage;
    Buffers arguments, results;
    Attributes attributes;

    const Buffer& argument(int i) const { return *static_cast<const Buffer*>(arguments.entries[i]); }
    const Buffer& result() const { return *static_cast<const Buffer*>(results.entries[0]); }
    int integer(int i) const {
        return *static_cast<const std::int32_t*>(static_cast<const Scalar*>(attributes.entries[i])->value);
    }

    Error* out_of_memory() const {
        constexpr int resource_exhausted = 8;
        ErrorArguments arguments{sizeof(ErrorArguments), nullptr, "softly: out of memory", resource_exhausted};
        return api->create_error(&arguments);
    }
};

// Whether XLA asks what it has before it: it serves every minor version, for nothing is read that came later than the first.
inline bool is_asked(CallFrame* frame) {
    if (!frame->extensions || frame->extensions->type != metadata_extension) return false;
    Metadata* metadata = reinterpret_cast<MetadataExtension*>(frame->extensions)->metadata;
    metadata->version.major_version = 0;
    metadata->version.minor_version = frame->api ? frame->api->version.minor_version : 1;
    metadata->traits = 0;
    return true;
}

}  // namespace softly::xla
