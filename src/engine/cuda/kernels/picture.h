// From a picture's bytes to the network's input, and from logits to marked pixels: what preprocess::fused and
// postprocess::threshold do, with the same fixed-point arithmetic.
#pragma once
#include "params.h"

// Fractional bits of a resize coefficient.
constexpr int BITS = 22;

DEVICE int clip(int v) { return v < 0 ? 0 : v > 255 ? 255 : v; }
DEVICE int word10(const unsigned char *row, int i, int shift) { return ((row[2 * i] | row[2 * i + 1] << 8) >> shift) & 0x3ff; }
DEVICE int v210(const unsigned char *group, int index) {
    const unsigned char *at = group + index / 3 * 4;
    const unsigned word = at[0] | at[1] << 8 | at[2] << 16 | (unsigned)at[3] << 24;
    return (int)(word >> (10 * (index % 3))) & 0x3ff;
}

struct Colour {
    int r;
    int g;
    int b;
};

DEVICE Colour colour(const Rows &p, int y, int u, int v) {
    const int *m = p.matrix;
    const int l = (y - m[1]) * m[0] + (1 << 15);
    u -= m[2];
    v -= m[2];
    return {clip((l + v * m[3]) >> 16), clip((l + u * m[4] + v * m[5]) >> 16), clip((l + u * m[6]) >> 16)};
}

// Where a row of the picture lies: what does not change from pixel to pixel.
struct Line {
    const unsigned char *luma;
    const unsigned char *u;
    const unsigned char *v;
};

template <int LAYOUT> DEVICE Line line_at(const Rows &p, int row) {
    Line line = {p.planes[0] + ((long long)row * p.line_step + p.line_first) * p.strides[0], nullptr, nullptr};
    if (LAYOUT == 2 || LAYOUT == 3) {
        // Fields are subsampled apart.
        const int chroma = smaller((row >> p.sub_y) * p.line_step + p.line_first, p.chroma_rows - 1);
        const int u = LAYOUT == 2 ? p.places[1] : 1, v = LAYOUT == 2 ? p.places[2] : 1;
        line.u = p.planes[u] + (long long)chroma * p.strides[u];
        line.v = p.planes[v] + (long long)chroma * p.strides[v];
    }
    return line;
}

template <int LAYOUT> DEVICE Colour pixel_at(const Rows &p, const Line &line, int x) {
    const unsigned char *const luma = line.luma;
    if (LAYOUT == 0) return {luma[x], luma[x], luma[x]};
    if (LAYOUT == 1) {
        const unsigned char *at = luma + x * p.places[0];
        return {at[p.places[1]], at[p.places[2]], at[p.places[3]]};
    }
    if (LAYOUT == 4) {
        const unsigned char *at = luma + (x >> 1) * 4;
        return colour(p, at[p.places[1] + (x & 1) * 2], at[p.places[2]], at[p.places[3]]);
    }
    if (LAYOUT == 5) {
        const unsigned char *group = luma + x / 6 * 16;
        const int i = x % 6;
        return colour(p, v210(group, 2 * i + 1), v210(group, i / 2 * 4), v210(group, i / 2 * 4 + 2));
    }
    const int c = x >> p.sub_x;
    const int u = LAYOUT == 2 ? c : 2 * c + p.places[1], v = LAYOUT == 2 ? c : 2 * c + p.places[2];
    if (p.depth == 8) return colour(p, luma[x], line.u[u], line.v[v]);
    return colour(p, word10(luma, x, p.shift), word10(line.u, u, p.shift), word10(line.v, v, p.shift));
}

template <int LAYOUT> DEVICE void reduce_row(const Rows &p, int row, int x) {
    const Line line = line_at<LAYOUT>(p, p.top + row);
    const int first = p.x0 + p.spans[2 * x], n = p.spans[2 * x + 1];
    const int *const weights = p.weights + x * p.taps;
    int r = 1 << (BITS - 1), g = r, b = r;
#pragma unroll 4
    for (int k = 0; k < n; ++k) {
        const Colour c = pixel_at<LAYOUT>(p, line, first + k);
        const int w = weights[k];
        r += c.r * w;
        g += c.g * w;
        b += c.b * w;
    }
    unsigned char *out = p.narrow + (long long)row * 3 * p.width + x;
    out[0] = (unsigned char)clip(r >> BITS);
    out[p.width] = (unsigned char)clip(g >> BITS);
    out[2 * p.width] = (unsigned char)clip(b >> BITS);
}

KERNEL(rows, Rows, 256) {
    follow();
    const int i = block_index() * 256 + thread_index();
    if (i >= p.rows * p.width) return;
    const int row = i / p.width, x = i - row * p.width;
    switch (p.layout) {
    case 0: return reduce_row<0>(p, row, x);
    case 1: return reduce_row<1>(p, row, x);
    case 2: return reduce_row<2>(p, row, x);
    case 3: return reduce_row<3>(p, row, x);
    case 4: return reduce_row<4>(p, row, x);
    default: return reduce_row<5>(p, row, x);
    }
}

KERNEL(columns, Columns, 256) {
    follow();
    const int i = block_index() * 256 + thread_index();
    if (i == 0) forget(p.statistics);
    if (i >= p.height * p.width) return;
    const int y = i / p.width, x = i - y * p.width;
    const int first = p.spans[2 * y], n = p.spans[2 * y + 1];
    Values r = {{0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f}};
    for (int c = 0; c < 3; ++c) {
        int sum = 1 << (BITS - 1);
        for (int k = 0; k < n; ++k) sum += p.narrow[((long long)(first + k) * 3 + c) * p.width + x] * p.weights[y * p.taps + k];
        r.v[c] = ((float)clip(sum >> BITS) / 255.f - p.mean[c]) / p.deviation[c];
    }
    write8(p.out + (long long)i * 8, r);
}

// Sorts as floats do.
DEVICE unsigned sortable(float v) {
    const unsigned b = bits(v);
    return b >> 31 ? ~b : b | 0x80000000u;
}

// A thread takes eight pixels of a row: one byte of marks.
KERNEL(mark, Mark, 256) {
    follow();
    const int i = block_index() * 256 + thread_index(), across = (p.width + 7) / 8;
    unsigned area = 0, left = ~0u, top = ~0u, right = 0, bottom = 0, highest = 0;
    if (i < across * p.height) {
        const int row = i / across, x0 = (i - row * across) * 8;
        const Place y = place(row, p.source_height, p.height);
        unsigned marks = 0;
        for (int x = x0; x < smaller(x0 + 8, p.width); ++x) {
            const Place at = place(x, p.source_width, p.width);
            float v = 0.f;
            // Classes are joined before the enlargement: a pixel belongs to the largest.
            const int plane = p.source_height * p.source_width;
            const int corners[4] = {y.low * p.source_width + at.low, y.low * p.source_width + at.high,
                                    y.high * p.source_width + at.low, y.high * p.source_width + at.high};
            float c[4];
            for (int k = 0; k < 4; ++k) {
                c[k] = p.logits[corners[k]];
                for (int n = 1; n < p.classes; ++n) {
                    const float other = p.logits[n * plane + corners[k]];
                    c[k] = other > c[k] ? other : c[k];
                }
            }
            const float above = c[0] + (c[1] - c[0]) * at.t, below = c[2] + (c[3] - c[2]) * at.t;
            v = above + (below - above) * y.t;
            const bool inside = v >= p.level;
            marks |= (inside ? 1u : 0u) << (x - x0);
            const unsigned key = sortable(v);
            highest = key > highest ? key : highest;
            if (inside) {
                ++area;
                left = (unsigned)x < left ? (unsigned)x : left;
                right = (unsigned)x + 1;
                top = (unsigned)row;
                bottom = (unsigned)row + 1;
            }
        }
        p.inside[i] = (unsigned char)marks;
    }
    for (int step = 1; step < 32; step *= 2) {
        area += shuffle_xor(area, step);
        unsigned other = shuffle_xor(highest, step);
        highest = other > highest ? other : highest;
        other = shuffle_xor(left, step);
        left = other < left ? other : left;
        other = shuffle_xor(top, step);
        top = other < top ? other : top;
        other = shuffle_xor(right, step);
        right = other > right ? other : right;
        other = shuffle_xor(bottom, step);
        bottom = other > bottom ? other : bottom;
    }
    if (thread_index() % 32 == 0) {
        atomic_max(&p.statistics->highest, highest);
        if (area) {
            atomic_add(&p.statistics->area, area);
            atomic_min(&p.statistics->left, left);
            atomic_min(&p.statistics->top, top);
            atomic_max(&p.statistics->right, right);
            atomic_max(&p.statistics->bottom, bottom);
        }
    }
}
