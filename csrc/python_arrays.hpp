// NumPy arrays as the kernels need them: C-contiguous, aligned, in native byte order. Part of module.cpp.
#pragma once

#include "output_memory.hpp"

namespace softly {
namespace {

const Kernels* kernels = nullptr;

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

// An array like the result, or `out` if it is one. Returns a new reference.
PyObject* result_array(PyObject* out, int ndim, const npy_intp* shape, PyArrayObject* scores) {
    if (out == Py_None) return new_array(ndim, shape, PyArray_DescrFromType(PyArray_TYPE(scores)));
    PyArrayObject* given = as_array(out, PyArray_TYPE(scores), "out");
    if (!given) return nullptr;
    if (!PyArray_ISWRITEABLE(given) || PyArray_SIZE(given) != PyArray_MultiplyList(shape, ndim))
        return PyErr_Format(PyExc_ValueError, "out must be writable and of the result's size");
    Py_INCREF(out);
    return out;
}

}  // namespace
}  // namespace softly
