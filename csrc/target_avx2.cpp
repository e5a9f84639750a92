#include <immintrin.h>

#include "target.hpp"

// After all includes: a function shared with other files must not be compiled for this instruction set.
SOFTLY_BEGIN_TARGET("avx2,bmi2,fma,f16c")
#define SOFTLY_VECTOR_BYTES 32
#define SOFTLY_VECTOR_FILE "vector/avx2.hpp"
namespace softly {
#include "operations.hpp"
extern const Kernels kernels_avx2 = all_kernels("avx2");
}  // namespace softly
SOFTLY_END_TARGET
