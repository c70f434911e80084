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
    // Most blocks begin at the first tap.
    int tap = k < part.channels ? 0 : k / part.channels;
    at.c = k - tap * part.channels;
    at.ky = part.kernel == 1 ? tap : tap / 3;
    at.kx = tap - at.ky * part.kernel;
    return at;
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
    // A thread finishes the same eight channels of EACH pixels.
    constexpr int GROUPS = COLUMNS / 8, EACH = ROWS * GROUPS / THREADS, ROW_STEP = THREADS / GROUPS;
    static_assert(EACH * THREADS == ROWS * GROUPS && ROW_STEP * GROUPS == THREADS, "whole results");

    int block = block_index();
    int which = 0;
    while (which + 1 < group.count && block >= group.convs[which + 1].first_block) ++which;
    const Conv &p = group.convs[which];
    block -= p.first_block;
    const int length = p.parts[0].length + (p.part_count > 1 ? p.parts[1].length : 0);
    int tile = block, split = 0, first = 0, steps = length / STEP;
    if (p.splits > 1) {
        const int all = steps;
        tile = block / p.splits;
        split = block - tile * p.splits;
        first = all * split / p.splits;
        steps = all * (split + 1) / p.splits - first;
    }
    const int tile_y = p.tiles_across > 1 ? tile / p.tiles_across : tile, tile_x = tile - tile_y * p.tiles_across;
    const int pixels = p.height * p.width;
    const int thread = thread_index(), lane = thread & 31, warp = thread >> 5;

    half *const a_shared = (half *)shared_memory();
    half *const b_shared = a_shared + STAGES * ROWS * PITCH;

    // This thread's share of the loads: the same place in a step for all its rows.
    const int offset = thread % VECTORS * 8;
    const half *weights = p.weights + (long long)(tile_x * COLUMNS + thread / VECTORS) * length + first * STEP + offset;
    auto load_weights = [&](int stage) {
#pragma unroll
        for (int j = 0; j < B_LOADS; ++j) {
            const half *from = weights + j * (THREADS / VECTORS) * length;
            copy_async(b_shared + (stage * COLUMNS + (thread + j * THREADS) / VECTORS) * PITCH + offset, from, true);
        }
        weights += STEP;
    };
    // No kernel writes weights: the first ones come while the launch before this one still runs.
#pragma unroll
    for (int s = 0; s < STAGES - 1; ++s)
        if (s < steps) load_weights(s);

    int ys[A_LOADS], xs[A_LOADS];
    {
        int pixel = tile_y * ROWS + thread / VECTORS;
        int y = pixel / p.width, x = pixel - y * p.width;
#pragma unroll
        for (int j = 0; j < A_LOADS; ++j) {
            // A row that lies in no picture: rows beyond the last are read as zeros.
            ys[j] = pixel < pixels ? y : -(1 << 20);
            xs[j] = x;
            pixel += THREADS / VECTORS;
            x += THREADS / VECTORS;
            while (x >= p.width) {
                x -= p.width;
                ++y;
            }
        }
    }
    Cursor cursor = seek<STEP>(p, first, offset);
    // The part under the cursor, and where its first tap of each row lies.
    const half *source;
    int pitch, channels, kernel, height, width;
    int tops[A_LOADS], lefts[A_LOADS], starts[A_LOADS];
    auto enter = [&]() {
        const Part &part = p.parts[cursor.part];
        source = part.source;
        pitch = part.pitch;
        channels = part.channels;
        kernel = part.kernel;
        height = part.height;
        width = part.width;
        const int reach = kernel >> 1;
#pragma unroll
        for (int j = 0; j < A_LOADS; ++j) {
            tops[j] = ys[j] * part.stride - reach;
            lefts[j] = xs[j] * part.stride - reach;
            starts[j] = ys[j] < 0 ? 0 : (tops[j] * width + lefts[j]) * pitch;
        }
    };
    enter();
    auto load_source = [&](int stage) {
        const bool tap = cursor.ky < kernel;
        const int shift = (cursor.ky * width + cursor.kx) * pitch + cursor.c;
#pragma unroll
        for (int j = 0; j < A_LOADS; ++j) {
            const bool valid = tap && (unsigned)(tops[j] + cursor.ky) < (unsigned)height &&
                               (unsigned)(lefts[j] + cursor.kx) < (unsigned)width;
            const half *from = valid ? source + (starts[j] + shift) : source;
            copy_async(a_shared + (stage * ROWS + (thread + j * THREADS) / VECTORS) * PITCH + offset, from, valid);
        }
        if (--cursor.steps_left == 0 && cursor.part + 1 < p.part_count) {
            ++cursor.part;
            cursor.steps_left = p.parts[cursor.part].length / STEP;
            cursor.c = offset;
            cursor.ky = 0;
            cursor.kx = 0;
            enter();
        } else {
            cursor.c += STEP;
        }
        while (cursor.c >= channels) {
            cursor.c -= channels;
            if (++cursor.kx == kernel) {
                cursor.kx = 0;
                ++cursor.ky;
            }
        }
    };

    float sums[DOWN][2 * ACROSS][4];
#pragma unroll
    for (int i = 0; i < DOWN; ++i)
#pragma unroll
        for (int j = 0; j < 2 * ACROSS; ++j)
#pragma unroll
            for (int k = 0; k < 4; ++k) sums[i][j][k] = 0.f;

    follow();
#pragma unroll
    for (int s = 0; s < STAGES - 1; ++s) {
        if (s < steps) load_source(s);
        copy_commit();
    }
    const int warp_row = warp / WARPS_ACROSS * (DOWN * 16), warp_column = warp % WARPS_ACROSS * (ACROSS * 16);
    const half *const a_first = a_shared + (warp_row + lane % 16) * PITCH + lane / 16 * 8;
    const half *const b_first = b_shared + (warp_column + lane / 16 * 8 + lane % 8) * PITCH + lane / 8 % 2 * 8;
    int stage = 0, next = STAGES - 1;
    for (int step = 0; step < steps; ++step) {
        copy_wait<STAGES - 2>();
        // Everybody's copies of this step have arrived, and everybody is done with the stage that is filled next.
        barrier();
        const half *const a = a_first + stage * ROWS * PITCH, *const b = b_first + stage * COLUMNS * PITCH;
        // The operands of the next product come while this one is computed.
        unsigned as[2][DOWN][4], bs[2][ACROSS][4];
#pragma unroll
        for (int i = 0; i < DOWN; ++i) load_matrices(as[0][i], a + i * 16 * PITCH);
#pragma unroll
        for (int j = 0; j < ACROSS; ++j) load_matrices(bs[0][j], b + j * 16 * PITCH);
        if (step + STAGES - 1 < steps) {
            load_weights(next);
            load_source(next);
        }
        copy_commit();
#pragma unroll
        for (int k = 0; k < STEP; k += 16) {
            constexpr int LAST = STEP - 16;
            const int now = k / 16 % 2, then = 1 - now;
            if (k < LAST) {
#pragma unroll
                for (int i = 0; i < DOWN; ++i) load_matrices(as[then][i], a + i * 16 * PITCH + k + 16);
#pragma unroll
                for (int j = 0; j < ACROSS; ++j) load_matrices(bs[then][j], b + j * 16 * PITCH + k + 16);
            }
#pragma unroll
            for (int i = 0; i < DOWN; ++i)
#pragma unroll
                for (int j = 0; j < ACROSS; ++j) {
                    multiply_add(sums[i][2 * j], as[now][i], bs[now][j][0], bs[now][j][1]);
                    multiply_add(sums[i][2 * j + 1], as[now][i], bs[now][j][2], bs[now][j][3]);
                }
        }
        stage = stage + 1 == STAGES ? 0 : stage + 1;
        next = next + 1 == STAGES ? 0 : next + 1;
    }
    copy_wait<0>();
    barrier();

    if (p.splits > 1) {
        // Unfinished sums lie as the threads hold them: [fragment][thread][4].
        constexpr int AREA = ROWS * COLUMNS;
        Four *const mine = (Four *)(p.partial + ((long long)tile * p.splits + split) * AREA) + thread;
#pragma unroll
        for (int i = 0; i < DOWN; ++i)
#pragma unroll
            for (int j = 0; j < 2 * ACROSS; ++j)
                mine[(i * 2 * ACROSS + j) * THREADS] = {{sums[i][j][0], sums[i][j][1], sums[i][j][2], sums[i][j][3]}};
        barrier();
        unsigned *const last = (unsigned *)shared_memory();
        if (thread == 0) *last = arrive(&p.arrived[tile]) == (unsigned)(p.splits - 1) ? 1u : 0u;
        barrier();
        const bool finish = *last != 0;
        barrier();
        if (!finish) return;
        const Four *theirs = (const Four *)(p.partial + (long long)tile * p.splits * AREA) + thread;
#pragma unroll
        for (int i = 0; i < DOWN; ++i)
#pragma unroll
            for (int j = 0; j < 2 * ACROSS; ++j)
#pragma unroll
                for (int k = 0; k < 4; ++k) sums[i][j][k] = 0.f;
#pragma unroll 2
        for (int s = 0; s < p.splits; ++s) {
            Four more[DOWN * 2 * ACROSS];
#pragma unroll
            for (int f = 0; f < DOWN * 2 * ACROSS; ++f) more[f] = read_fresh(theirs + f * THREADS);
#pragma unroll
            for (int f = 0; f < DOWN * 2 * ACROSS; ++f)
#pragma unroll
                for (int k = 0; k < 4; ++k) sums[f / (2 * ACROSS)][f % (2 * ACROSS)][k] += more[f].v[k];
            theirs += AREA / 4;
        }
        if (thread == 0) p.arrived[tile] = 0u;
    }

    // What each thread needs to finish its pixels is fetched before the sums change hands.
    const int column = thread % GROUPS * 8, channel = tile_x * COLUMNS + column, first_row = thread / GROUPS;
    const bool stored = channel < p.channels;
    Values scale = {}, shift = {};
    Eight residual[EACH] = {};
    half *to = nullptr;
    int to_pitch = 0;
    if (stored) {
        const bool rest = channel >= p.split_at;
        if (rest || p.out) {
            to = rest ? p.rest + (channel - p.split_at) : p.out + channel;
            to_pitch = rest ? p.rest_pitch : p.out_pitch;
        }
        scale = read8(p.scale + channel);
        shift = read8(p.shift + channel);
#pragma unroll
        for (int e = 0; e < EACH; ++e) {
            const int pixel = tile_y * ROWS + first_row + e * ROW_STEP;
            if (p.residual && pixel < pixels)
                residual[e] = *(const Eight *)(p.residual + pixel * p.residual_pitch + channel);
        }
    }
    // Sums to shared memory, rows of pixels.
    float *const done = (float *)shared_memory();
#pragma unroll
    for (int i = 0; i < DOWN; ++i)
#pragma unroll
        for (int j = 0; j < 2 * ACROSS; ++j)
#pragma unroll
            for (int k = 0; k < 4; k += 2) {
                const int row = warp_row + i * 16 + lane / 4 + k / 2 * 8, at = warp_column + j * 8 + lane % 4 * 2;
                *(Two *)(done + row * TILE_PITCH + at) = {{sums[i][j][k], sums[i][j][k + 1]}};
            }
    barrier();
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
        const int row = first_row + e * ROW_STEP, pixel = tile_y * ROWS + row;
        const bool real = pixel < pixels && stored;
        float total = 0.f;
        if (real) {
            Values r = read8(done + row * TILE_PITCH + column);
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                r.v[i] = positive(r.v[i] * scale.v[i] + shift.v[i] + to_float(residual[e].v[i]));
                total += r.v[i];
            }
            if (to) write8(to + pixel * to_pitch, r);
            if (p.also) {
                const Values add = read8(p.add + pixel * p.add_pitch + channel);
#pragma unroll
                for (int i = 0; i < 8; ++i) r.v[i] += add.v[i];
                write8(p.also + pixel * p.also_pitch + channel, r);
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
KERNEL(conv_128x64_deep, ConvGroup, 256) { convolve<128, 64, 64, 4, 2, 3>(p); }
KERNEL(conv_64x64, ConvGroup, 128) { convolve<64, 64, 32, 2, 2, 4>(p); }
KERNEL(conv_64x64_deep, ConvGroup, 128) { convolve<64, 64, 64, 2, 2, 3>(p); }
KERNEL(conv_64x64_wide, ConvGroup, 256) { convolve<64, 64, 64, 4, 2, 4>(p); }
KERNEL(conv_32x64, ConvGroup, 128) { convolve<32, 64, 64, 2, 2, 4>(p); }
KERNEL(conv_32x64_wide, ConvGroup, 256) { convolve<32, 64, 64, 2, 4, 4>(p); }
KERNEL(conv_64x32, ConvGroup, 128) { convolve<64, 32, 32, 4, 1, 4>(p); }
KERNEL(conv_64x32_wide, ConvGroup, 256) { convolve<64, 32, 64, 4, 2, 4>(p); }
KERNEL(conv_32x32, ConvGroup, 128) { convolve<32, 32, 64, 2, 2, 4>(p); }
