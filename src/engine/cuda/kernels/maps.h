// Everything between the convolutions: subtraction units, resizes, pools, and both ends of the network.
#pragma once
#include "params.h"

// Eight channels of a map between its pixels.
DEVICE Values between(const half *map, int width, int pitch, Place y, Place x, int c) {
    const Values a = read8(map + ((long long)y.low * width + x.low) * pitch + c);
    const Values b = read8(map + ((long long)y.low * width + x.high) * pitch + c);
    const Values d = read8(map + ((long long)y.high * width + x.low) * pitch + c);
    const Values e = read8(map + ((long long)y.high * width + x.high) * pitch + c);
    const float wa = (1.f - y.t) * (1.f - x.t), wb = (1.f - y.t) * x.t, wd = y.t * (1.f - x.t), we = y.t * x.t;
    Values r;
#pragma unroll
    for (int i = 0; i < 8; ++i) r.v[i] = wa * a.v[i] + wb * b.v[i] + wd * d.v[i] + we * e.v[i];
    return r;
}

DEVICE float between(const float *plane, int width, Place y, Place x) {
    const float *upper = plane + (long long)y.low * width, *lower = plane + (long long)y.high * width;
    const float above = upper[x.low] + (upper[x.high] - upper[x.low]) * x.t;
    const float below = lower[x.low] + (lower[x.high] - lower[x.low]) * x.t;
    return above + (below - above) * y.t;
}

// A block takes 8x8 pixels: the planes around them, their box sums, then the channels.
KERNEL(subtract, SubtractGroup, 256) {
    follow();
    constexpr int SIDE = 8, REACH = 2, WIDE = SIDE + 2 * REACH;
    float *const planes = (float *)shared_memory();
    float *const boxes = planes + 2 * WIDE * WIDE;
    int block = block_index(), which = 0;
    while (which + 1 < p.count && block >= p.units[which + 1].first_block) ++which;
    const Subtract &u = p.units[which];
    block -= u.first_block;
    const int top = block / u.tiles_across * SIDE, left = block % u.tiles_across * SIDE;
    const bool same = u.a_height == u.height && u.a_width == u.width;
    const int thread = thread_index();

    // Two groups of channels a thread; all that the arithmetic needs is on its way before the first barrier.
    constexpr int EACH = 2;
    static_assert(EACH * 256 == SIDE * SIDE * 8, "whole results");
    const int c = thread % 8 * 8;
    Values as[EACH], bs[EACH];
    bool real[EACH];
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
        const int pixel = thread / 8 + e * 32, y = top + pixel / SIDE, x = left + pixel % SIDE;
        real[e] = y < u.height && x < u.width;
        if (!real[e]) continue;
        as[e] = same ? read8(u.a + (y * u.width + x) * 64 + c)
                     : between(u.a, u.a_width, 64, place(y, u.a_height, u.height), place(x, u.a_width, u.width), c);
        bs[e] = read8(u.b + (y * u.width + x) * 64 + c);
    }
    Values alpha[2], beta[2];
    if (u.terms) {
#pragma unroll
        for (int g = 0; g < 2; ++g) {
            alpha[g] = read8(u.terms + g * 128 + c);
            beta[g] = read8(u.terms + g * 128 + 64 + c);
        }
        for (int i = thread; i < 2 * WIDE * WIDE; i += 256) {
            const int at = i % (WIDE * WIDE), y = top + at / WIDE - REACH, x = left + at % WIDE - REACH;
            float v = 0.f;
            if (y >= 0 && y < u.height && x >= 0 && x < u.width) {
                if (i >= WIDE * WIDE)
                    v = u.b_sum[y * u.width + x];
                else if (same)
                    v = u.a_sum[y * u.width + x];
                else
                    v = between(u.a_sum, u.a_width, place(y, u.a_height, u.height), place(x, u.a_width, u.width));
            }
            planes[i] = v;
        }
        barrier();
        // Four sums a pixel: 3 and 5 wide, of a and of b.
        const int pixel = thread / 4, kind = thread % 4;
        const float *centre = planes + (kind / 2) * WIDE * WIDE + (pixel / SIDE + REACH) * WIDE + pixel % SIDE + REACH;
        const bool five = kind % 2 == 1;
        float sum = 0.f;
#pragma unroll
        for (int dy = -2; dy <= 2; ++dy)
#pragma unroll
            for (int dx = -2; dx <= 2; ++dx)
                if (five || (dy >= -1 && dy <= 1 && dx >= -1 && dx <= 1)) sum += centre[dy * WIDE + dx];
        boxes[thread] = sum;
        barrier();
    }
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
        if (!real[e]) continue;
        const int pixel = thread / 8 + e * 32, y = top + pixel / SIDE, x = left + pixel % SIDE;
        Values r;
#pragma unroll
        for (int k = 0; k < 8; ++k) r.v[k] = magnitude(as[e].v[k] - bs[e].v[k]);
        if (u.terms) {
#pragma unroll
            for (int g = 0; g < 2; ++g) {
                const float box_a = boxes[pixel * 4 + g], box_b = boxes[pixel * 4 + 2 + g];
#pragma unroll
                for (int k = 0; k < 8; ++k) {
                    const float of_a = positive(alpha[g].v[k] * box_a + beta[g].v[k]);
                    const float of_b = positive(alpha[g].v[k] * box_b + beta[g].v[k]);
                    r.v[k] += magnitude(of_a - of_b);
                }
            }
        }
        write8(u.out + (y * u.width + x) * 64 + c, r);
    }
}

KERNEL(join, Join, 256) {
    follow();
    const int i = block_index() * 256 + thread_index();
    const int pixel = i / 8, c = i % 8 * 8;
    if (pixel >= p.height * p.width) return;
    const int y = pixel / p.width, x = pixel % p.width;
    Values r = between(p.coarse, p.coarse_width, 64, place(y, p.coarse_height, p.height), place(x, p.coarse_width, p.width), c);
    const Values fine = read8(p.fine + (long long)pixel * 64 + c);
#pragma unroll
    for (int k = 0; k < 8; ++k) r.v[k] += fine.v[k];
    write8(p.out + (long long)pixel * 64 + c, r);
}

// A window of SIZE x SIZE whose values are all fetched before the first is used.
template <int SIZE, bool GREATEST> DEVICE Values window(const Pool &p, int top, int left, int c) {
    Eight values[SIZE * SIZE];
#pragma unroll
    for (int i = 0; i < SIZE * SIZE; ++i) {
        const int y = top + i / SIZE, x = left + i % SIZE;
        // Zeros beyond the edge: counted in the average, and never above what follows a ReLU.
        values[i] = {};
        if (y >= 0 && y < p.source_height && x >= 0 && x < p.source_width)
            values[i] = *(const Eight *)(p.source + (y * p.source_width + x) * p.source_pitch + c);
    }
    Values r;
#pragma unroll
    for (int k = 0; k < 8; ++k) {
        float v = 0.f;
#pragma unroll
        for (int i = 0; i < SIZE * SIZE; ++i) {
            const float s = to_float(values[i].v[k]);
            // The value is kept where it is not below the other, so that NaN is never lost.
            v = !GREATEST ? v + s : v >= s ? v : (v != v ? v : s);
        }
        r.v[k] = v;
    }
    return r;
}

KERNEL(pool, Pool, 256) {
    follow();
    const int groups = p.channels / 8;
    const int i = block_index() * 256 + thread_index();
    const int pixel = i / groups, c = i % groups * 8;
    const bool real = pixel < p.height * p.width;
    float total = 0.f;
    if (real) {
        const int y = pixel / p.width, x = pixel % p.width;
        Values r = p.kind == 0   ? window<3, true>(p, 2 * y - 1, 2 * x - 1, c)
                   : p.kind == 1 ? window<3, false>(p, p.stride * y - 1, p.stride * x - 1, c)
                                 : window<2, false>(p, 2 * y, 2 * x, c);
        const float share = p.kind == 0 ? 1.f : p.kind == 1 ? 1.f / 9.f : 0.25f;
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            r.v[k] *= share;
            total += r.v[k];
        }
        write8(p.out + pixel * p.out_pitch + c, r);
    }
    if (p.sum) {
        total += shuffle_xor(total, 1);
        total += shuffle_xor(total, 2);
        total += shuffle_xor(total, 4);
        if (real && c == 0) p.sum[pixel] = total;
    }
}

KERNEL(enter, Enter, 256) {
    follow();
    const int pixel = block_index() * 256 + thread_index(), plane = p.height * p.width;
    if (pixel == 0) forget(p.statistics);
    if (pixel >= plane) return;
    Values r = {{p.planes[pixel], p.planes[plane + pixel], p.planes[2 * plane + pixel], 0.f, 0.f, 0.f, 0.f, 0.f}};
    write8(p.out + (long long)pixel * 8, r);
}

// Eight lanes a pixel.
KERNEL(last, Last, 256) {
    follow();
    const int i = block_index() * 256 + thread_index();
    const int pixel = i / 8, c = i % 8 * 8, pixels = p.height * p.width;
    const bool real = pixel < pixels;
    const int y = pixel / p.width, x = pixel % p.width;
    for (int k = 0; k < p.classes; ++k) {
        float sum = 0.f;
        Eight values[9];
#pragma unroll
        for (int tap = 0; tap < 9; ++tap) {
            const int sy = y + tap / 3 - 1, sx = x + tap % 3 - 1;
            values[tap] = {};
            if (real && sy >= 0 && sy < p.height && sx >= 0 && sx < p.width)
                values[tap] = *(const Eight *)(p.source + (sy * p.width + sx) * 64 + c);
        }
#pragma unroll
        for (int tap = 0; tap < 9; ++tap) {
            const Values w = read8(p.weights + (k * 9 + tap) * 64 + c);
#pragma unroll
            for (int j = 0; j < 8; ++j) sum += to_float(values[tap].v[j]) * w.v[j];
        }
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        sum += shuffle_xor(sum, 4);
        if (real && c == 0) p.out[k * pixels + pixel] = sum * p.scale[k] + p.shift[k];
    }
}

KERNEL(exit_planes, Exit, 256) {
    follow();
    const int i = block_index() * 256 + thread_index();
    const int plane = p.height * p.width;
    if (i >= plane * p.classes) return;
    const int k = i / plane, pixel = i - k * plane;
    const Place y = place(pixel / p.width, p.source_height, p.height), x = place(pixel % p.width, p.source_width, p.width);
    const float v = between(p.source + (long long)k * p.source_height * p.source_width, p.source_width, y, x);
    p.out[i] = v;
    if (!is_number(v)) p.statistics->broken = 1;
}
