// The device's own words, once for nvcc and once for a processor that plays the device in tests (emulator.h).
#pragma once

#ifdef __CUDACC__
#include <cuda_fp16.h>

#define DEVICE __device__ __forceinline__
// The compiler's own choice of registers spills a few of them for the newest cards; one block at least is no bound at all.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
#define BOUNDS(threads) __launch_bounds__(threads, 1)
#else
#define BOUNDS(threads) __launch_bounds__(threads)
#endif
#define KERNEL(name, Params, threads) extern "C" __global__ void BOUNDS(threads) name(const __grid_constant__ Params p)

extern __shared__ __align__(16) unsigned char shared_bytes[];

DEVICE int thread_index() { return threadIdx.x; }
DEVICE int block_index() { return blockIdx.x; }
DEVICE int block_threads() { return blockDim.x; }
DEVICE unsigned char *shared_memory() { return shared_bytes; }
DEVICE void barrier() { __syncthreads(); }

// From Hopper on a launch may begin while the one before it still runs (programmatic dependent launch). A kernel waits before
// it touches anything that another kernel writes, and only then lets its follower begin: no more than two are under way, so
// that waiting blocks do not fill the card.
DEVICE void let_next_begin() {
#if __CUDA_ARCH__ >= 900 && !defined(NO_TRIGGER)
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
DEVICE void await_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// 16 bytes from global to shared memory without passing through registers; zeros if not `valid`.
DEVICE void copy_async(void *to, const void *from, bool valid) {
    unsigned at = (unsigned)__cvta_generic_to_shared(to);
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(bytes) : "memory");
}
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING> DEVICE void copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory"); }

// Four 8x8 matrices; lane l names row l % 8 of matrix l / 8.
DEVICE void load_matrices(unsigned (&r)[4], const half *row) {
    unsigned at = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

// c += a * b: 16x16 times 16x8, f16 with f32 sums.
DEVICE void multiply_add(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

DEVICE float shuffle_xor(float v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
DEVICE unsigned shuffle_xor(unsigned v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
DEVICE unsigned atomic_add(unsigned *to, unsigned v) { return atomicAdd(to, v); }
// Counts this block in: what its threads wrote before the last barrier is seen by whoever counts in later, and what those
// wrote who counted in earlier is seen by this block behind its next barrier.
DEVICE unsigned arrive(unsigned *at) {
    unsigned before;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(at) : "memory");
    return before;
}
DEVICE void atomic_min(unsigned *to, unsigned v) { atomicMin(to, v); }
DEVICE void atomic_max(unsigned *to, unsigned v) { atomicMax(to, v); }
DEVICE unsigned bits(float v) { return __float_as_uint(v); }
DEVICE float to_float(half v) { return __half2float(v); }
DEVICE half to_half(float v) { return __float2half_rn(v); }
// NaN stays NaN.
DEVICE float positive(float v) {
    float r;
    asm("max.NaN.f32 %0, %1, 0f00000000;" : "=f"(r) : "f"(v));
    return r;
}
// Two values, the lower half first; f16 ends at 65504, where larger ones are held. NaN stays NaN, so that a broken frame is
// known as one.
DEVICE unsigned narrow2(float low, float high) {
    unsigned r;
    asm("cvt.rn.satfinite.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
#else
#include "emulator.h"
#endif

// What a kernel without constants of its own to fetch first begins with.
DEVICE void follow() {
    await_previous();
    let_next_begin();
}

// Eight channels, 16 bytes.
struct alignas(16) Eight {
    half v[8];
};

struct Values {
    float v[8];
};

struct alignas(8) Two {
    float v[2];
};

struct alignas(16) Four {
    float v[4];
};

// What another block wrote during this launch: not from the nearest cache.
DEVICE Four read_fresh(const Four *from) {
#ifdef __CUDACC__
    const float4 f = __ldcg((const float4 *)from);
    return {{f.x, f.y, f.z, f.w}};
#else
    return *from;
#endif
}

// Eight values that begin at a multiple of 16 bytes.
DEVICE Values read8(const float *from) {
    const Four a = ((const Four *)from)[0], b = ((const Four *)from)[1];
    return {{a.v[0], a.v[1], a.v[2], a.v[3], b.v[0], b.v[1], b.v[2], b.v[3]}};
}

DEVICE Values widen(const Eight &e) {
    Values r;
#pragma unroll
    for (int i = 0; i < 8; ++i) r.v[i] = to_float(e.v[i]);
    return r;
}

DEVICE Values read8(const half *from) { return widen(*(const Eight *)from); }

struct alignas(16) Words {
    unsigned v[4];
};

DEVICE void write8(half *to, const Values &r) {
    Words w;
#pragma unroll
    for (int i = 0; i < 4; ++i) w.v[i] = narrow2(r.v[2 * i], r.v[2 * i + 1]);
    *(Words *)to = w;
}

DEVICE float magnitude(float v) { return v < 0.f ? -v : v; }
DEVICE bool is_number(float v) { return (bits(v) & 0x7f800000u) != 0x7f800000u; }
DEVICE double square_root(double v) { return sqrt(v); }
DEVICE int smaller(int a, int b) { return a < b ? a : b; }

// One output coordinate of a bilinear resize, align_corners false: its two neighbours and the second one's weight.
struct Place {
    int low;
    int high;
    float t;
};

DEVICE Place place(int i, int from, int to) {
    float at = (float)from / (float)to * ((float)i + 0.5f) - 0.5f;
    at = at < 0.f ? 0.f : at;
    int low = smaller((int)at, from - 1);
    return {low, smaller(low + 1, from - 1), at - (float)low};
}
