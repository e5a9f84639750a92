#include "threads.hpp"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

namespace softly {
namespace {

constexpr int most_threads = 256;

int processors_allowed() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    return static_cast<int>(std::thread::hardware_concurrency());
}

// cgroup v2 `cpu.max` is "quota period" or "max period"; v1 keeps the two in files of their own, -1 for no quota.
int quota_processors() {
    long quota = -1, period = 0;
    if (std::FILE* f = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
        if (std::fscanf(f, "%ld %ld", &quota, &period) != 2) quota = -1;
        std::fclose(f);
    } else {
        for (const auto& [path, value] : {std::pair{"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", &quota},
                                          std::pair{"/sys/fs/cgroup/cpu/cpu.cfs_period_us", &period}})
            if (std::FILE* v1 = std::fopen(path, "r")) {
                if (std::fscanf(v1, "%ld", value) != 1) quota = -1;
                std::fclose(v1);
            }
    }
    if (quota <= 0 || period <= 0) return 1 << 20;
    return static_cast<int>(std::max(1L, (quota + period - 1) / period));
}

int count_threads() {
    int count = std::min(processors_allowed(), quota_processors());
    if (const char* text = std::getenv("OMP_NUM_THREADS"))
        if (const int wanted = std::atoi(text); wanted > 0) count = std::min(count, wanted);
    return std::clamp(count, 1, most_threads);
}

struct alignas(64) Share {  // of a loop, a thread's
    std::atomic<long> next{0};
    long end = 0;
};

struct Task {
    Piece piece;
    const void* body;
    long count, grain;
};

class Pool {
  public:
    // As many helpers as can be had; with none, run() does all of it. Never destroyed: helpers use it to the end.
    explicit Pool(int helpers) : threads_(1 + helpers) {
        try {
            helpers_.reserve(helpers);
            for (int i = 0; i < helpers; ++i) {
                std::thread thread([this, i] { work(1 + i); });
                helpers_.push_back(thread.native_handle());
                thread.detach();
            }
        } catch (...) {
        }
    }

    void run(const Task& task) {
        make_room();
        {
            const std::lock_guard lock(mutex_);
            task_ = &task;
            const long grains = (task.count + task.grain - 1) / task.grain;
            for (long i = 0; i < threads_; ++i) {
                shares_[i].next = grains * i / threads_ * task.grain;
                shares_[i].end = std::min(task.count, grains * (i + 1) / threads_ * task.grain);
            }
            ++round_;
        }
        start_.notify_all();
        take_pieces(task, 0);
        {
            const std::lock_guard lock(mutex_);
            task_ = nullptr;  // a helper that wakes late finds nothing to do
        }
        const auto done = [this] { return running_ == 0; };
        if (spin_until(done)) return;
        std::unique_lock lock(mutex_);
        done_.wait(lock, done);
    }

  private:
    // The kernel may wake a helper on the caller's processor and leave it there, behind the caller, for the milliseconds that a
    // loop takes: where it last slept, or, in a virtual machine, because a halted processor does not count as idle. (softmax of
    // 4096 x 1000 then took as long as on one thread.) So helpers are sent to the other processors that this thread may use.
    void make_room() {
#if defined(__linux__)
        const int here = sched_getcpu();
        cpu_set_t others;
        if (here < 0 || here >= CPU_SETSIZE || here == kept_free_) return;
        if (sched_getaffinity(0, sizeof others, &others) != 0) return;
        CPU_CLR(here, &others);
        if (CPU_COUNT(&others) == 0) return;
        for (const auto helper : helpers_) pthread_setaffinity_np(helper, sizeof others, &others);
        kept_free_ = here;
#endif
    }

    // Each thread begins with a share of its own, the same in each loop over as much, so that it finds in its cache what it had
    // there; and goes on with what others have left. Long pieces first, so that memory is read in order, then shorter ones, so
    // that all threads end together.
    void take_pieces(const Task& task, int thread) {
        for (int i = 0; i < threads_; ++i) {
            Share& share = shares_[(thread + i) % threads_];
            for (;;) {
                long begin = share.next, size;
                do size = std::max(1L, (share.end - begin) / 4 / task.grain) * task.grain;
                while (begin < share.end && !share.next.compare_exchange_weak(begin, begin + size));
                if (begin >= share.end) break;
                task.piece(task.body, begin, std::min(share.end, begin + size));
            }
        }
    }

    void work(int thread) {
        unsigned long seen = 0;
        for (;;) {
            const auto begun = [&] { return round_ != seen; };
            spin_until(begun);
            std::unique_lock lock(mutex_);
            start_.wait(lock, begun);
            seen = round_;
            if (!task_) continue;
            const Task& task = *task_;  // lives until running_ is 0 again
            ++running_;
            lock.unlock();
            take_pieces(task, thread);
            lock.lock();
            if (--running_ == 0) done_.notify_one();
        }
    }

    // A loop often follows a loop, with some code of Python's between, and the pieces of one end together: 200 us of patience
    // before the kernel is asked to sleep and be woken, which may take as long. Who yielded meanwhile would get the processor
    // back only after the time slice of a thread of another library that spins too, as OpenMP's do for milliseconds.
    template <class Happened>
    static bool spin_until(Happened happened) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(200);
        while (!happened()) {
            if (std::chrono::steady_clock::now() > end) return false;
            pause();
        }
        return true;
    }

    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }

    const int threads_;
    std::array<Share, most_threads> shares_;
    std::vector<std::thread::native_handle_type> helpers_;
    int kept_free_ = -1;  // the processor that helpers may not use
    std::mutex mutex_;
    std::condition_variable start_, done_;
    const Task* task_ = nullptr;
    std::atomic<unsigned long> round_{0};
    std::atomic<int> running_{0};
};

// After fork the child has no threads, so it forgets the
// pool (and a lock that the parent held) and makes its own at its first large call.
Pool* pool = nullptr;
std::atomic_flag busy = ATOMIC_FLAG_INIT;

void forget_pool() {
    pool = nullptr;
    busy.clear();
}

}  // namespace

int thread_count() {
    static const int count = count_threads();
    return count;
}

void run_pieces(long count, long grain, Piece piece, const void* body) {
    static const int registered = pthread_atfork(nullptr, nullptr, forget_pool);
    (void)registered;
    if (count <= grain || thread_count() == 1 || busy.test_and_set(std::memory_order_acquire)) {
        piece(body, 0, count);
        return;
    }
    if (!pool) pool = new (std::nothrow) Pool(thread_count() - 1);
    if (pool)
        pool->run({piece, body, count, grain});
    else
        piece(body, 0, count);
    busy.clear(std::memory_order_release);
}

}  // namespace softly
