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

    if (u.terms) {
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
        const int reach = kind % 2 + 1;
        float sum = 0.f;
        for (int dy = -reach; dy <= reach; ++dy)
            for (int dx = -reach; dx <= reach; ++dx) sum += centre[dy * WIDE + dx];
        boxes[thread] = sum;
        barrier();
    }
    for (int i = thread; i < SIDE * SIDE * 8; i += 256) {
        const int pixel = i / 8, c = i % 8 * 8;
        const int y = top + pixel / SIDE, x = left + pixel % SIDE;
        if (y >= u.height || x >= u.width) continue;
        const long long at = ((long long)y * u.width + x) * 64 + c;
        const Values a = same ? read8(u.a + at)
                              : between(u.a, u.a_width, 64, place(y, u.a_height, u.height), place(x, u.a_width, u.width), c);
        const Values b = read8(u.b + at);
        Values r;
#pragma unroll
        for (int k = 0; k < 8; ++k) r.v[k] = magnitude(a.v[k] - b.v[k]);
        if (u.terms) {
#pragma unroll
            for (int k = 0; k < 8; ++k) {
#pragma unroll
                for (int g = 0; g < 2; ++g) {
                    const float alpha = u.terms[g * 128 + c + k], beta = u.terms[g * 128 + 64 + c + k];
                    const float of_a = positive(alpha * boxes[pixel * 4 + g] + beta);
                    const float of_b = positive(alpha * boxes[pixel * 4 + 2 + g] + beta);
                    r.v[k] += magnitude(of_a - of_b);
                }
            }
        }
        write8(u.out + at, r);
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

KERNEL(pool, Pool, 256) {
    follow();
    const int groups = p.channels / 8;
    const int i = block_index() * 256 + thread_index();
    const int pixel = i / groups, c = i % groups * 8;
    const bool real = pixel < p.height * p.width;
    float total = 0.f;
    if (real) {
        const int y = pixel / p.width, x = pixel % p.width;
        // The window's first row and column, and its size.
        const int stride = p.kind == 1 ? p.stride : 2, reach = p.kind == 2 ? 0 : 1, size = p.kind == 2 ? 2 : 3;
        Values r;
#pragma unroll
        for (int k = 0; k < 8; ++k) r.v[k] = 0.f;
        for (int dy = 0; dy < size; ++dy)
            for (int dx = 0; dx < size; ++dx) {
                const int sy = y * stride - reach + dy, sx = x * stride - reach + dx;
                // Zeros beyond the edge: counted in the average, and never above what follows a ReLU.
                if (sy < 0 || sy >= p.source_height || sx < 0 || sx >= p.source_width) continue;
                const Values s = read8(p.source + ((long long)sy * p.source_width + sx) * p.source_pitch + c);
#pragma unroll
                for (int k = 0; k < 8; ++k) r.v[k] = p.kind == 0 ? (r.v[k] >= s.v[k] ? r.v[k] : s.v[k]) : r.v[k] + s.v[k];
            }
        const float share = p.kind == 0 ? 1.f : p.kind == 1 ? 1.f / 9.f : 0.25f;
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            r.v[k] *= share;
            total += r.v[k];
        }
        write8(p.out + (long long)pixel * p.out_pitch + c, r);
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
        for (int tap = 0; tap < 9; ++tap) {
            const int sy = y + tap / 3 - 1, sx = x + tap % 3 - 1;
            if (!real || sy < 0 || sy >= p.height || sx < 0 || sx >= p.width) continue;
            const Values s = read8(p.source + ((long long)sy * p.width + sx) * 64 + c);
            const float *w = p.weights + (k * 9 + tap) * 64 + c;
#pragma unroll
            for (int j = 0; j < 8; ++j) sum += s.v[j] * w[j];
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
