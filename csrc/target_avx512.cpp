#include <immintrin.h>

#include "target.hpp"

// After all includes: a function shared with other files must not be compiled for this instruction set.
SOFTLY_BEGIN_TARGET("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#define SOFTLY_VECTOR_BYTES 64
#define SOFTLY_VECTOR_FILE "vector/avx512.hpp"
namespace softly {
#include "operations.hpp"
extern const Kernels kernels_avx512 = all_kernels("avx512");
}  // namespace softly
SOFTLY_END_TARGET
