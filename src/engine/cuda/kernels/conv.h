// Convolution as an implicit matrix product: pixels times output channels, reduced over taps and channels.
//
// A block computes a tile of ROWS pixels by COLUMNS channels, or one of `splits` shares of its reduction. Both operands
// stream through shared memory STAGES deep; each warp multiplies on the tensor cores. What follows the sums (scale, shift,
// residual, ReLU, a second destination, the channel sum) happens before they leave the chip. Shares of a split reduction
// are added in their order by whichever block comes last, so that results do not depend on the schedule.
#pragma once
#include "params.h"

// Where a thread's 16 bytes of a step lie in the reduction.
struct Cursor {
    int part;
    int steps_left;
    int c;
    int ky;
    int kx;
};

DEVICE void settle(Cursor &at, const Part &part) {
    while (at.c >= part.channels) {
        at.c -= part.channels;
        if (++at.kx == part.kernel) {
            at.kx = 0;
            ++at.ky;
        }
    }
}

template <int STEP> DEVICE Cursor seek(const Conv &p, int step, int offset) {
    Cursor at = {0, p.parts[0].length / STEP, 0, 0, 0};
    if (step >= at.steps_left) {
        step -= at.steps_left;
        at.part = 1;
        at.steps_left = p.parts[1].length / STEP;
    }
    const Part &part = p.parts[at.part];
    at.steps_left -= step;
    int k = step * STEP + offset;
    int tap = k / part.channels;
    at.c = k - tap * part.channels;
    at.ky = tap / part.kernel;
    at.kx = tap - at.ky * part.kernel;
    return at;
}

template <int STEP> DEVICE void advance(Cursor &at, const Conv &p, int offset) {
    if (--at.steps_left == 0 && at.part + 1 < p.part_count) {
        ++at.part;
        at.steps_left = p.parts[at.part].length / STEP;
        at.c = offset;
        at.ky = 0;
        at.kx = 0;
    } else {
        at.c += STEP;
    }
    settle(at, p.parts[at.part]);
}

template <int ROWS, int COLUMNS, int STEP, int WARPS_DOWN, int WARPS_ACROSS, int STAGES>
DEVICE void convolve(const ConvGroup &group) {
    constexpr int THREADS = WARPS_DOWN * WARPS_ACROSS * 32;
    // A row of shared memory is 16 bytes longer than what it holds: eight rows of a matrix lie in different banks.
    constexpr int PITCH = STEP + 8;
    constexpr int VECTORS = STEP / 8;
    constexpr int A_LOADS = ROWS * VECTORS / THREADS;
    constexpr int B_LOADS = COLUMNS * VECTORS / THREADS;
    constexpr int DOWN = ROWS / WARPS_DOWN / 16;
    constexpr int ACROSS = COLUMNS / WARPS_ACROSS / 16;
    static_assert(A_LOADS * THREADS == ROWS * VECTORS && B_LOADS * THREADS == COLUMNS * VECTORS, "whole loads");
    static_assert(DOWN * WARPS_DOWN * 16 == ROWS && ACROSS * WARPS_ACROSS * 16 == COLUMNS, "whole fragments");
    constexpr int TILE_PITCH = COLUMNS + 4;
    static_assert(ROWS * TILE_PITCH * 4 <= STAGES * (ROWS + COLUMNS) * PITCH * 2, "sums fit where operands were");

    let_next_begin();
    int block = block_index();
    int which = 0;
    while (which + 1 < group.count && block >= group.convs[which + 1].first_block) ++which;
    const Conv &p = group.convs[which];
    block -= p.first_block;
    const int tile = block / p.splits, split = block - tile * p.splits;
    const int tile_y = tile / p.tiles_across, tile_x = tile - tile_y * p.tiles_across;
    const int pixels = p.height * p.width;
    const int thread = thread_index(), lane = thread & 31, warp = thread >> 5;

    half *const a_shared = (half *)shared_memory();
    half *const b_shared = a_shared + STAGES * ROWS * PITCH;

    const int length = p.parts[0].length + (p.part_count > 1 ? p.parts[1].length : 0);
    const int all = length / STEP;
    const int first = (int)((long long)all * split / p.splits);
    const int steps = (int)((long long)all * (split + 1) / p.splits) - first;

    // This thread's share of the loads: the same place in a step for all its rows.
    const int offset = thread % VECTORS * 8;
    int ys[A_LOADS], xs[A_LOADS];
#pragma unroll
    for (int j = 0; j < A_LOADS; ++j) {
        const int pixel = tile_y * ROWS + (thread + j * THREADS) / VECTORS;
        const int y = pixel / p.width;
        // A row that lies in no picture: rows beyond the last are read as zeros.
        ys[j] = pixel < pixels ? y : -(1 << 20);
        xs[j] = pixel - y * p.width;
    }
    const half *weights = p.weights + (long long)(tile_x * COLUMNS + thread / VECTORS) * length + first * STEP + offset;
    Cursor cursor = seek<STEP>(p, first, offset);

    auto load_weights = [&](int stage) {
#pragma unroll
        for (int j = 0; j < B_LOADS; ++j) {
            const half *from = weights + (long long)(j * (THREADS / VECTORS)) * length;
            copy_async(b_shared + (stage * COLUMNS + (thread + j * THREADS) / VECTORS) * PITCH + offset, from, true);
        }
        weights += STEP;
    };
    auto load_source = [&](int stage) {
        const Part &part = p.parts[cursor.part];
        const int reach = part.kernel >> 1;
        const bool tap = cursor.ky < part.kernel;
#pragma unroll
        for (int j = 0; j < A_LOADS; ++j) {
            const int y = ys[j] * part.stride + cursor.ky - reach, x = xs[j] * part.stride + cursor.kx - reach;
            const bool valid = tap && y >= 0 && y < part.height && x >= 0 && x < part.width;
            const half *from = valid ? part.source + ((long long)y * part.width + x) * part.pitch + cursor.c : part.source;
            copy_async(a_shared + (stage * ROWS + (thread + j * THREADS) / VECTORS) * PITCH + offset, from, valid);
        }
        advance<STEP>(cursor, p, offset);
    };

    float sums[DOWN][2 * ACROSS][4];
#pragma unroll
    for (int i = 0; i < DOWN; ++i)
#pragma unroll
        for (int j = 0; j < 2 * ACROSS; ++j)
#pragma unroll
            for (int k = 0; k < 4; ++k) sums[i][j][k] = 0.f;

    // No kernel writes weights: the first ones come while the launch before this one still runs.
#pragma unroll
    for (int s = 0; s < STAGES - 1; ++s)
        if (s < steps) load_weights(s);
    await_previous();
#pragma unroll
    for (int s = 0; s < STAGES - 1; ++s) {
        if (s < steps) load_source(s);
        copy_commit();
    }
    const int warp_row = warp / WARPS_ACROSS * (DOWN * 16), warp_column = warp % WARPS_ACROSS * (ACROSS * 16);
    for (int step = 0; step < steps; ++step) {
        copy_wait<STAGES - 2>();
        // Everybody's copies of this step have arrived, and everybody is done with the stage that is filled next.
        barrier();
        if (step + STAGES - 1 < steps) {
            load_weights((step + STAGES - 1) % STAGES);
            load_source((step + STAGES - 1) % STAGES);
        }
        copy_commit();
        const half *a = a_shared + (step % STAGES * ROWS + warp_row + lane % 16) * PITCH + lane / 16 * 8;
        const half *b = b_shared + (step % STAGES * COLUMNS + warp_column + lane / 16 * 8 + lane % 8) * PITCH + lane / 8 % 2 * 8;
#pragma unroll
        for (int k = 0; k < STEP; k += 16) {
            unsigned as[DOWN][4], bs[ACROSS][4];
#pragma unroll
            for (int i = 0; i < DOWN; ++i) load_matrices(as[i], a + i * 16 * PITCH + k);
#pragma unroll
            for (int j = 0; j < ACROSS; ++j) load_matrices(bs[j], b + j * 16 * PITCH + k);
#pragma unroll
            for (int i = 0; i < DOWN; ++i)
#pragma unroll
                for (int j = 0; j < ACROSS; ++j) {
                    multiply_add(sums[i][2 * j], as[i], bs[j][0], bs[j][1]);
                    multiply_add(sums[i][2 * j + 1], as[i], bs[j][2], bs[j][3]);
                }
        }
    }
    copy_wait<0>();
    barrier();

    // Sums to shared memory, rows of pixels.
    float *const done = (float *)shared_memory();
#pragma unroll
    for (int i = 0; i < DOWN; ++i)
#pragma unroll
        for (int j = 0; j < 2 * ACROSS; ++j)
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                const int row = warp_row + i * 16 + lane / 4 + k / 2 * 8, column = warp_column + j * 8 + lane % 4 * 2 + k % 2;
                done[row * TILE_PITCH + column] = sums[i][j][k];
            }
    barrier();

    if (p.splits > 1) {
        constexpr int AREA = ROWS * COLUMNS;
        float *const mine = p.partial + ((long long)tile * p.splits + split) * AREA;
        for (int i = thread; i < AREA; i += THREADS) mine[i] = done[i / COLUMNS * TILE_PITCH + i % COLUMNS];
        fence();
        barrier();
        unsigned *const last = (unsigned *)(done + ROWS * TILE_PITCH - 1);
        if (thread == 0) *last = atomic_add(&p.arrived[tile], 1u) == (unsigned)(p.splits - 1) ? 1u : 0u;
        barrier();
        const bool finish = *last != 0;
        barrier();
        if (!finish) return;
        fence();
        const volatile float *const theirs = p.partial + (long long)tile * p.splits * AREA;
        for (int i = thread; i < AREA; i += THREADS) {
            float sum = 0.f;
            for (int s = 0; s < p.splits; ++s) sum += theirs[(long long)s * AREA + i];
            done[i / COLUMNS * TILE_PITCH + i % COLUMNS] = sum;
        }
        if (thread == 0) p.arrived[tile] = 0u;
        barrier();
    }

    constexpr int GROUPS = COLUMNS / 8;
    for (int v = thread; v < ROWS * GROUPS; v += THREADS) {
        const int row = v / GROUPS, column = v % GROUPS * 8;
        const int pixel = tile_y * ROWS + row, channel = tile_x * COLUMNS + column;
        const bool real = pixel < pixels && channel < p.channels;
        float total = 0.f;
        if (real) {
            Values r;
#pragma unroll
            for (int i = 0; i < 8; ++i)
                r.v[i] = done[row * TILE_PITCH + column + i] * p.scale[channel + i] + p.shift[channel + i];
            if (p.residual) {
                const Values add = read8(p.residual + (long long)pixel * p.residual_pitch + channel);
#pragma unroll
                for (int i = 0; i < 8; ++i) r.v[i] += add.v[i];
            }
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                if (p.relu) r.v[i] = positive(r.v[i]);
                total += r.v[i];
            }
            if (channel >= p.split_at)
                write8(p.rest + (long long)pixel * p.rest_pitch + channel - p.split_at, r);
            else if (p.out)
                write8(p.out + (long long)pixel * p.out_pitch + channel, r);
            if (p.also) {
                const Values add = read8(p.add + (long long)pixel * p.add_pitch + channel);
#pragma unroll
                for (int i = 0; i < 8; ++i) r.v[i] += add.v[i];
                write8(p.also + (long long)pixel * p.also_pitch + channel, r);
            }
        }
        if (COLUMNS == 64 && p.sum) {
            // Eight neighbouring lanes hold a pixel.
            total += shuffle_xor(total, 1);
            total += shuffle_xor(total, 2);
            total += shuffle_xor(total, 4);
            if (real && column == 0) p.sum[pixel] = total;
        }
    }
}

KERNEL(conv_128x64, ConvGroup, 256) { convolve<128, 64, 32, 4, 2, 3>(p); }
KERNEL(conv_64x64, ConvGroup, 128) { convolve<64, 64, 32, 2, 2, 4>(p); }
KERNEL(conv_64x64_deep, ConvGroup, 128) { convolve<64, 64, 64, 2, 2, 3>(p); }
KERNEL(conv_32x64, ConvGroup, 128) { convolve<32, 64, 64, 2, 2, 4>(p); }
KERNEL(conv_64x32, ConvGroup, 128) { convolve<64, 32, 32, 4, 1, 4>(p); }
KERNEL(conv_32x32, ConvGroup, 128) { convolve<32, 32, 64, 2, 2, 4>(p); }
