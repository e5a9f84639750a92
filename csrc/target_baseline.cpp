#include "target.hpp"

#define SOFTLY_VECTOR_BYTES 16
#define SOFTLY_VECTOR_FILE "vector/baseline.hpp"
namespace softly {
#include "operations.hpp"
extern const Kernels kernels_baseline = all_kernels("baseline");
}  // namespace softly
