// A processor that plays the device, so that the kernels' own source runs in tests on machines without a GPU.
//
// One block after another; each of its threads is a fiber that runs until it has to wait for the others. Stricter than the
// device where that finds mistakes: shared memory begins as NaN, asynchronous copies arrive only when they are waited for,
// and lanes or threads that disagree about what they wait for are an error. The order in which warps run can be turned.
#pragma once
#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <vector>

typedef _Float16 half;
#define DEVICE static inline

namespace emulator {

constexpr int MOST_THREADS = 256;
constexpr size_t STACK = 96 << 10;

enum Waits { RUNS, AT_BARRIER, AT_WARP, DONE };

struct Copy {
    void *to;
    const void *from;
    bool valid;
};

struct Fiber {
    jmp_buf where;
    ucontext_t start;
    Waits waits;
    bool started;
    unsigned exchanges;
    std::vector<std::vector<Copy>> groups;
    std::vector<Copy> open;
};

struct Device {
    std::vector<Fiber> fibers;
    std::vector<char> stacks;
    std::vector<unsigned char> shared;
    jmp_buf scheduler;
    int thread = 0, block = 0, threads = 0;
    bool backwards = false;
    void (*body)(const void *) = nullptr;
    const void *params = nullptr;
    // What lanes of a warp hand one another, twice: nobody overwrites what somebody still reads.
    unsigned words[2][32];
    const void *rows[2][32];
    float a[2][16][16], b[2][8][16];
    Device() : fibers(MOST_THREADS), stacks(MOST_THREADS * STACK) {}
};

inline Device &device() {
    static thread_local Device d;
    return d;
}

inline void wait(Waits for_what) {
    Device &d = device();
    Fiber &f = d.fibers[d.thread];
    f.waits = for_what;
    if (_setjmp(f.where) == 0) _longjmp(d.scheduler, 1);
}

inline void begin() {
    Device &d = device();
    d.body(d.params);
    d.fibers[d.thread].waits = DONE;
    _longjmp(d.scheduler, 1);
}

inline void resume(int thread) {
    Device &d = device();
    d.thread = thread;
    Fiber &f = d.fibers[thread];
    f.waits = RUNS;
    if (_setjmp(d.scheduler) == 0) {
        if (f.started) _longjmp(f.where, 1);
        f.started = true;
        getcontext(&f.start);
        f.start.uc_stack.ss_sp = d.stacks.data() + thread * STACK;
        f.start.uc_stack.ss_size = STACK;
        f.start.uc_link = nullptr;
        makecontext(&f.start, begin, 0);
        setcontext(&f.start);
    }
}

// Runs a warp until all its lanes are at a barrier or done.
inline const char *run_warp(int warp) {
    Device &d = device();
    const int first = warp * 32;
    for (;;) {
        for (int lane = 0; lane < 32; ++lane) resume(first + lane);
        const Waits waits = d.fibers[first].waits;
        for (int lane = 1; lane < 32; ++lane)
            if (d.fibers[first + lane].waits != waits) return "lanes of a warp wait for different things";
        if (waits != AT_WARP) return nullptr;
    }
}

inline const char *run_block() {
    Device &d = device();
    for (int t = 0; t < d.threads; ++t) {
        Fiber &f = d.fibers[t];
        f.started = false;
        f.exchanges = 0;
        f.groups.clear();
        f.open.clear();
    }
    memset(d.shared.data(), 0xff, d.shared.size());
    const int warps = d.threads / 32;
    for (;;) {
        for (int w = 0; w < warps; ++w)
            if (const char *wrong = run_warp(d.backwards ? warps - 1 - w : w)) return wrong;
        const Waits waits = d.fibers[0].waits;
        for (int w = 1; w < warps; ++w)
            if (d.fibers[w * 32].waits != waits) return "some warps wait at a barrier, others are done";
        if (waits == DONE) break;
    }
    for (int t = 0; t < d.threads; ++t)
        for (const auto &group : d.fibers[t].groups)
            if (!group.empty()) return "an asynchronous copy was never waited for";
    return nullptr;
}

inline int run(void (*body)(const void *), const void *params, int grid, int threads, int shared) {
    Device &d = device();
    if (threads > MOST_THREADS || threads % 32 != 0) return 2;
    d.body = body;
    d.params = params;
    d.threads = threads;
    d.shared.resize(shared);
    for (int i = 0; i < grid; ++i) {
        d.block = d.backwards ? grid - 1 - i : i;
        if (const char *wrong = run_block()) {
            fprintf(stderr, "block %d: %s\n", d.block, wrong);
            return 1;
        }
    }
    return 0;
}

} // namespace emulator

#define KERNEL(name, Params, threads_of_a_block)                                                                     \
    static void name##_body(const Params &p);                                                                        \
    extern "C" int name(const void *params, int grid, int threads, int shared) {                                     \
        if (threads != threads_of_a_block) return 3;                                                                 \
        return emulator::run([](const void *q) { name##_body(*(const Params *)q); }, params, grid, threads, shared); \
    }                                                                                                                \
    static void name##_body(const Params &p)

DEVICE int thread_index() { return emulator::device().thread; }
DEVICE int block_index() { return emulator::device().block; }
DEVICE unsigned char *shared_memory() { return emulator::device().shared.data(); }
DEVICE void barrier() { emulator::wait(emulator::AT_BARRIER); }
// One launch after another.
DEVICE void let_next_begin() {}
DEVICE void await_previous() {}

DEVICE void copy_async(void *to, const void *from, bool valid) {
    emulator::Device &d = emulator::device();
    d.fibers[d.thread].open.push_back({to, from, valid});
}
DEVICE void copy_commit() {
    emulator::Device &d = emulator::device();
    emulator::Fiber &f = d.fibers[d.thread];
    f.groups.push_back(f.open);
    f.open.clear();
}
template <int PENDING> DEVICE void copy_wait() {
    emulator::Device &d = emulator::device();
    auto &groups = d.fibers[d.thread].groups;
    while (groups.size() > PENDING) {
        for (const emulator::Copy &c : groups.front()) {
            if (c.valid)
                memcpy(c.to, c.from, 16);
            else
                memset(c.to, 0, 16);
        }
        groups.erase(groups.begin());
    }
}

// This lane's side of an exchange: which of the two buffers.
DEVICE int exchange() {
    emulator::Device &d = emulator::device();
    return d.fibers[d.thread].exchanges++ & 1;
}

DEVICE void load_matrices(unsigned (&r)[4], const half *row) {
    emulator::Device &d = emulator::device();
    const int side = exchange(), lane = d.thread & 31;
    d.rows[side][lane] = row;
    emulator::wait(emulator::AT_WARP);
    for (int m = 0; m < 4; ++m) memcpy(&r[m], (const half *)d.rows[side][m * 8 + lane / 4] + lane % 4 * 2, 4);
}

DEVICE void multiply_add(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    emulator::Device &d = emulator::device();
    const int side = exchange(), lane = d.thread & 31, row = lane / 4, pair = lane % 4 * 2;
    for (int m = 0; m < 4; ++m) {
        half v[2];
        memcpy(v, &a[m], 4);
        for (int i = 0; i < 2; ++i) d.a[side][row + m % 2 * 8][pair + m / 2 * 8 + i] = (float)v[i];
    }
    const unsigned b[2] = {b0, b1};
    for (int m = 0; m < 2; ++m) {
        half v[2];
        memcpy(v, &b[m], 4);
        for (int i = 0; i < 2; ++i) d.b[side][row][pair + m * 8 + i] = (float)v[i];
    }
    emulator::wait(emulator::AT_WARP);
    for (int i = 0; i < 4; ++i) {
        float sum = 0.f;
        const float *x = d.a[side][row + i / 2 * 8], *y = d.b[side][pair + i % 2];
        for (int k = 0; k < 16; ++k) sum += x[k] * y[k];
        c[i] += sum;
    }
}

DEVICE unsigned shuffle_xor(unsigned v, int mask) {
    emulator::Device &d = emulator::device();
    const int side = exchange(), lane = d.thread & 31;
    d.words[side][lane] = v;
    emulator::wait(emulator::AT_WARP);
    return d.words[side][lane ^ mask];
}
DEVICE unsigned bits(float v) {
    unsigned r;
    memcpy(&r, &v, 4);
    return r;
}
DEVICE float shuffle_xor(float v, int mask) {
    const unsigned r = shuffle_xor(bits(v), mask);
    float f;
    memcpy(&f, &r, 4);
    return f;
}
// One block and one fiber at a time.
DEVICE unsigned arrive(unsigned *at) { return (*at)++; }
DEVICE unsigned atomic_add(unsigned *to, unsigned v) {
    const unsigned old = *to;
    *to = old + v;
    return old;
}
DEVICE void atomic_min(unsigned *to, unsigned v) { *to = v < *to ? v : *to; }
DEVICE void atomic_max(unsigned *to, unsigned v) { *to = v > *to ? v : *to; }
DEVICE float to_float(half v) { return (float)v; }
DEVICE half to_half(float v) { return (half)v; }
DEVICE float positive(float v) { return v < 0.f ? 0.f : v; }
DEVICE unsigned narrow2(float low, float high) {
    half pair[2];
    const float values[2] = {low, high};
    for (int i = 0; i < 2; ++i)
        pair[i] = to_half(values[i] > 65504.f ? 65504.f : values[i] < -65504.f ? -65504.f : values[i]);
    unsigned r;
    memcpy(&r, pair, sizeof r);
    return r;
}
