// Memory of large new results: what was dropped is kept for the next one, for fresh pages cost more than a softmax. At most
// `pool_limit` bytes wait, in large pages where the system has them.
// Arrays own this memory by NumPy's way for other allocators (NEP 49): they are as any other. Part of module.cpp.
#pragma once

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace softly {
namespace {

constexpr size_t pool_from = size_t(1) << 20, pool_limit = size_t(64) << 20;
constexpr size_t header = 4096;  // a page before the array, which holds the size

struct Pool {
    struct Block {
        void* start;
        size_t size;
    };
    std::mutex mutex;
    std::vector<Block> free;  // the oldest first
    size_t held = 0;

    // The smallest that holds `size` bytes and is at most a quarter larger; none while another thread looks.
    Block take(size_t size) {
        std::unique_lock<std::mutex> lock(mutex, std::try_to_lock);
        size_t best = free.size();
        if (lock)
            for (size_t i = 0; i < free.size(); ++i)
                if (free[i].size >= size && free[i].size <= size + size / 4 &&
                    (best == free.size() || free[i].size < free[best].size))
                    best = i;
        if (!lock || best == free.size()) return {nullptr, size};
        const Block found = free[best];
        free.erase(free.begin() + (long)best);
        held -= found.size;
        return found;
    }

    void give(Block block) {
        std::unique_lock<std::mutex> lock(mutex, std::try_to_lock);
        if (!lock || block.size > pool_limit) return release(block);
        while (held + block.size > pool_limit) drop_oldest();
        try {
            free.push_back(block);
            held += block.size;
        } catch (const std::bad_alloc&) {
            release(block);
        }
    }

    void clear() {
        const std::lock_guard<std::mutex> lock(mutex);
        while (!free.empty()) drop_oldest();
    }

    void drop_oldest() {
        held -= free.front().size;
        release(free.front());
        free.erase(free.begin());
    }

    // Not from malloc, which may keep what is released.
    static void* fresh(size_t size) {
#ifdef __linux__
        void* start = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (start == MAP_FAILED) return nullptr;
        madvise(start, size, MADV_HUGEPAGE);
        return start;
#else
        return ::operator new(size, std::align_val_t(header), std::nothrow);
#endif
    }
    static void release(Block block) {
#ifdef __linux__
        munmap(block.start, block.size);
#else
        ::operator delete(block.start, std::align_val_t(header));
#endif
    }
};

Pool& pool() {
    static Pool* const only = new Pool;  // never destroyed: arrays outlive the module
    return *only;
}

void* pool_malloc(void*, size_t size) {
    if (size > PTRDIFF_MAX - header) return nullptr;
    Pool::Block block = pool().take(size + header);
    if (!block.start) {
        block.start = Pool::fresh(block.size);
        if (!block.start) return nullptr;
    }
    *static_cast<size_t*>(block.start) = block.size;
    return static_cast<char*>(block.start) + header;
}

void pool_free(void*, void* data, size_t) {
    if (!data) return;
    char* start = static_cast<char*>(data) - header;
    pool().give({start, *reinterpret_cast<size_t*>(start)});
}

void* pool_calloc(void*, size_t count, size_t size) {
    if (size && count > SIZE_MAX / size) return nullptr;
    void* data = pool_malloc(nullptr, count * size);
    return data ? std::memset(data, 0, count * size) : nullptr;
}

void* pool_realloc(void*, void* data, size_t size) {
    if (!data) return pool_malloc(nullptr, size);
    void* moved = pool_malloc(nullptr, size);
    if (!moved) return nullptr;
    const size_t old = *reinterpret_cast<size_t*>(static_cast<char*>(data) - header) - header;
    std::memcpy(moved, data, old < size ? old : size);
    pool_free(nullptr, data, 0);
    return moved;
}

PyDataMem_Handler handler = {"softly_output_memory", 1, {nullptr, pool_malloc, pool_calloc, pool_realloc, pool_free}};
PyObject* handler_capsule = nullptr;

// A new array, not filled; steals the reference to `type`.
PyObject* new_array(int ndim, const npy_intp* shape, PyArray_Descr* type) {
    const size_t bytes = (size_t)PyArray_MultiplyList(shape, ndim) * (size_t)PyDataType_ELSIZE(type);
    PyObject* usual = nullptr;
    if (bytes >= pool_from && bytes + header <= pool_limit) {
        if (!handler_capsule) handler_capsule = PyCapsule_New(&handler, "mem_handler", nullptr);
        usual = handler_capsule ? PyDataMem_SetHandler(handler_capsule) : nullptr;
        if (!usual) {
            Py_DECREF(type);
            return nullptr;
        }
    }
    PyObject* array = PyArray_NewFromDescr(&PyArray_Type, type, ndim, shape, nullptr, nullptr, 0, nullptr);
    if (usual) {
        PyObject* ours = PyDataMem_SetHandler(usual);
        Py_DECREF(usual);
        if (!ours) Py_CLEAR(array);
        Py_XDECREF(ours);
    }
    return array;
}

// empty_like(array): a new array of its shape and dtype, in C order.
PyObject* empty_like(PyObject*, PyObject* like) {
    if (!PyArray_Check(like)) return PyErr_Format(PyExc_TypeError, "takes an array");
    auto* array = reinterpret_cast<PyArrayObject*>(like);
    Py_INCREF(PyArray_DESCR(array));
    return new_array(PyArray_NDIM(array), PyArray_DIMS(array), PyArray_DESCR(array));
}

PyObject* release_memory(PyObject*, PyObject*) {
    pool().clear();
    Py_RETURN_NONE;
}

}  // namespace
}  // namespace softly
