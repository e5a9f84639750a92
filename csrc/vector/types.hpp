// The compiler's vector types, as wide as the instruction set. SOFTLY_VECTOR_BYTES is set by the target's file.
typedef float Floats __attribute__((vector_size(SOFTLY_VECTOR_BYTES)));
typedef double Doubles __attribute__((vector_size(SOFTLY_VECTOR_BYTES)));
typedef unsigned int FloatBits __attribute__((vector_size(SOFTLY_VECTOR_BYTES)));
typedef unsigned long long DoubleBits __attribute__((vector_size(SOFTLY_VECTOR_BYTES)));

template <class>
struct Types;  // of a scalar or of its vector
template <>
struct Types<float> {
    using scalar = float;
    using vector = Floats;
    using integer = unsigned int;
    using bits = FloatBits;
};
template <>
struct Types<double> {
    using scalar = double;
    using vector = Doubles;
    using integer = unsigned long long;
    using bits = DoubleBits;
};
template <>
struct Types<Floats> : Types<float> {};
template <>
struct Types<Doubles> : Types<double> {};

template <class T>
using Vector = typename Types<T>::vector;
template <class V>
using Scalar = typename Types<V>::scalar;
template <class T>
using Int = typename Types<T>::integer;
template <class T>
using Bits = typename Types<T>::bits;
template <class T>
constexpr int lanes = SOFTLY_VECTOR_BYTES / sizeof(T);

INLINE float fused_scalar(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
INLINE double fused_scalar(double a, double b, double c) { return __builtin_fma(a, b, c); }

template <class T>
INLINE Vector<T> load(const T* p) {
    Vector<T> v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
template <class V>
INLINE void store(Scalar<V>* p, V v) {
    __builtin_memcpy(p, &v, sizeof v);
}

// Lane i of the result is lane i ^ distance; the distance, a power of two, is a template argument so that the compiler sees a
// constant shuffle.
template <int distance, class V>
INLINE V exchanged(V v) {
    Bits<Scalar<V>> from;
    for (int i = 0; i < lanes<Scalar<V>>; ++i) from[i] = (Int<Scalar<V>>)(i ^ distance);
    return __builtin_shuffle(v, from);
}

// All lanes combined, in each lane: lane i and i + half, then ...
template <int distance, class V, class Combine>
INLINE V across(V v, Combine combine) {
    if constexpr (distance > 0)
        return across<distance / 2>(combine(v, exchanged<distance>(v)), combine);
    else
        return v;
}

// Truth as an argument of generic lambdas.
struct Yes {
    static constexpr bool value = true;
};
struct No {
    static constexpr bool value = false;
};
