// One multiprocessor kept busy, and how fast it ticks: on the device only.
#pragma once
#include "params.h"

#ifdef __CUDACC__
// out[0]: ticks, out[1]: nanoseconds that passed.
struct Spin {
    unsigned long long *out;
    long long nanoseconds;
};

extern "C" __global__ void __launch_bounds__(32) spin(const __grid_constant__ Spin p) {
    if (threadIdx.x != 0) return;
    unsigned long long begin, now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin));
    const long long ticks = clock64();
    do {
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    } while ((long long)(now - begin) < p.nanoseconds);
    p.out[0] = (unsigned long long)(clock64() - ticks);
    p.out[1] = now - begin;
}
#endif
