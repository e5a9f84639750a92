// A small pool of threads for loops over rows.
#pragma once

namespace softly {

// How many threads a loop may use: the least of OMP_NUM_THREADS, the processors this process may run on and the
// control group's quota. Read at the first call.
int thread_count();

using Piece = void (*)(const void* body, long begin, long end);
void run_pieces(long count, long grain, Piece piece, const void* body);

// body(begin, end) over [0, count) in pieces of multiples of `grain`, on this thread and the pool's. Runs here alone when
// there is one piece or when another thread is using the pool. Nothing is allocated; the body must not throw.
template <class Body>
void parallel_for(long count, long grain, const Body& body) {
    run_pieces(count, grain, [](const void* b, long begin, long end) { (*static_cast<const Body*>(b))(begin, end); },
               &body);
}

}  // namespace softly
