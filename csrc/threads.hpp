// A small pool of threads for loops over rows.
#pragma once

#include <functional>

namespace softly {

// How many threads a loop may use: the least of OMP_NUM_THREADS, the processors this process may run on and the
// control group's quota. Read at the first call.
int thread_count();

// body(begin, end) over [0, count) in pieces of `grain`, on this thread and the pool's. Runs here alone when there
// is one piece or when another thread is using the pool. The body must not throw.
void parallel_for(long count, long grain, const std::function<void(long, long)>& body);

}  // namespace softly
