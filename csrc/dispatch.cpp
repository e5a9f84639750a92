// Which instruction sets this processor has, and which one serves.

#include <cstring>

#include "kernels.hpp"

namespace softly {

const Target* targets(int* count) {
#if defined(__x86_64__)
    static const Target all[] = {
        {&kernels_avx512, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                              __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                              __builtin_cpu_supports("fma")},
        {&kernels_avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
                            __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")},
        {&kernels_baseline, true},
    };
#else
    static const Target all[] = {{&kernels_baseline, true}};
#endif
    *count = sizeof all / sizeof all[0];
    return all;
}

const Kernels* select_target(const char* name) {
    int count;
    const Target* all = targets(&count);
    for (int i = 0; i < count; ++i)
        if (all[i].available && (!name || std::strcmp(name, all[i].kernels->target) == 0)) return all[i].kernels;
    return nullptr;
}

}  // namespace softly
