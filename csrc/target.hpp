// What each target file needs before it opens its instruction set.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "kernels.hpp"

#define SOFTLY_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define SOFTLY_BEGIN_TARGET(isa) \
    SOFTLY_PRAGMA(clang attribute push(__attribute__((target(isa))), apply_to = function))
#define SOFTLY_END_TARGET SOFTLY_PRAGMA(clang attribute pop)
#else
#define SOFTLY_BEGIN_TARGET(isa) _Pragma("GCC push_options") SOFTLY_PRAGMA(GCC target(isa))
#define SOFTLY_END_TARGET _Pragma("GCC pop_options")
#endif
#define INLINE inline __attribute__((always_inline))

using std::exp;
using std::expm1;
using std::log;
using std::log1p;
using std::pow;
