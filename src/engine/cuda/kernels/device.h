// The device's own words, once for nvcc and once for a processor that plays the device in tests (emulator.h).
#pragma once

#ifdef __CUDACC__
#include <cuda_fp16.h>

#define DEVICE __device__ __forceinline__
#define KERNEL(name, Params, threads) extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ Params p)

extern __shared__ __align__(16) unsigned char shared_bytes[];

DEVICE int thread_index() { return threadIdx.x; }
DEVICE int block_index() { return blockIdx.x; }
DEVICE int block_threads() { return blockDim.x; }
DEVICE unsigned char *shared_memory() { return shared_bytes; }
DEVICE void barrier() { __syncthreads(); }
DEVICE void fence() { __threadfence(); }

// From Hopper on a launch may begin while the one before it still runs (programmatic dependent launch). A kernel says at its
// beginning that its follower may take up its place, and waits before it touches anything that another kernel writes.
DEVICE void let_next_begin() {
#if __CUDA_ARCH__ >= 900
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
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

DEVICE float shuffle_xor(float v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
DEVICE unsigned shuffle_xor(unsigned v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
DEVICE unsigned atomic_add(unsigned *to, unsigned v) { return atomicAdd(to, v); }
DEVICE void atomic_min(unsigned *to, unsigned v) { atomicMin(to, v); }
DEVICE void atomic_max(unsigned *to, unsigned v) { atomicMax(to, v); }
DEVICE unsigned bits(float v) { return __float_as_uint(v); }
DEVICE float to_float(half v) { return __half2float(v); }
DEVICE half to_half(float v) { return __float2half_rn(v); }
#else
#include "emulator.h"
#endif

// What a kernel without constants of its own to fetch first begins with.
DEVICE void follow() {
    let_next_begin();
    await_previous();
}

// Eight channels, 16 bytes.
struct alignas(16) Eight {
    half v[8];
};

struct Values {
    float v[8];
};

DEVICE Values read8(const half *from) {
    Eight e = *(const Eight *)from;
    Values r;
#pragma unroll
    for (int i = 0; i < 8; ++i) r.v[i] = to_float(e.v[i]);
    return r;
}

// f16 ends at 65504: larger sums are held there. NaN stays NaN, so that a broken frame is known as one.
DEVICE half narrow_half(float v) { return to_half(v > 65504.f ? 65504.f : v < -65504.f ? -65504.f : v); }

DEVICE void write8(half *to, const Values &r) {
    Eight e;
#pragma unroll
    for (int i = 0; i < 8; ++i) e.v[i] = narrow_half(r.v[i]);
    *(Eight *)to = e;
}

DEVICE float magnitude(float v) { return v < 0.f ? -v : v; }
DEVICE float positive(float v) { return v < 0.f ? 0.f : v; }
DEVICE bool is_number(float v) { return (bits(v) & 0x7f800000u) != 0x7f800000u; }
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
