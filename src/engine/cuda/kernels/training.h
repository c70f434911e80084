// A training step between its convolutions, forward and backward. Maps are [batch][channels][height][width] in f32. Every
// result is gathered by the thread that owns it, so that a step does not depend on the order in which blocks run.
#pragma once
#include "params.h"

constexpr int TRAIN_THREADS = 256;

DEVICE unsigned own_item() { return (unsigned)block_index() * TRAIN_THREADS + thread_index(); }

// −1, 0 or 1; NaN is kept.
DEVICE float direction(float v) { return v > 0.f ? 1.f : v < 0.f ? -1.f : v; }

// Two sums of a block's threads, in an order that does not change; for all threads.
DEVICE void block_sums(double (&sums)[2]) {
    double *const all = (double *)shared_memory();
    const int thread = thread_index();
    barrier();
    all[2 * thread] = sums[0];
    all[2 * thread + 1] = sums[1];
    for (int half = TRAIN_THREADS / 2; half > 0; half /= 2) {
        barrier();
        if (thread < half) {
            all[2 * thread] += all[2 * (thread + half)];
            all[2 * thread + 1] += all[2 * (thread + half) + 1];
        }
    }
    barrier();
    sums[0] = all[0];
    sums[1] = all[1];
}

KERNEL(train_fill, TrainEach, 256) {
    follow();
    const unsigned i = own_item();
    if (i < p.count) p.to[i] = p.scale;
}

KERNEL(train_add, TrainEach, 256) {
    follow();
    const unsigned i = own_item();
    if (i < p.count) p.to[i] += p.from[i];
}

// to = (to - from) * scale
KERNEL(train_difference, TrainEach, 256) {
    follow();
    const unsigned i = own_item();
    if (i < p.count) p.to[i] = (p.to[i] - p.from[i]) * p.scale;
}

// A gradient cut where a ReLU's output is zero.
KERNEL(train_cut, TrainEach, 256) {
    follow();
    const unsigned i = own_item();
    if (i < p.count && !(p.from[i] > 0.f)) p.to[i] = 0.f;
}

// What follows a convolution without a norm, in place.
KERNEL(train_bias, TrainBias, 256) {
    follow();
    const unsigned i = own_item();
    if (i >= p.count) return;
    float v = p.map[i];
    if (p.bias) v += p.bias[i / p.pixels % p.channels];
    p.map[i] = p.relu ? positive(v) : v;
}

// Some channels of one map to some of another.
KERNEL(train_channels, TrainChannels, 256) {
    follow();
    const unsigned i = own_item();
    if (i >= p.count) return;
    const unsigned pixel = i % p.pixels, plane = i / p.pixels, c = plane % p.channels, n = plane / p.channels;
    const float v = p.from[((size_t)n * p.from_channels + p.from_first + c) * p.pixels + pixel];
    float &to = p.to[((size_t)n * p.to_channels + p.to_first + c) * p.pixels + pixel];
    to = p.accumulate ? to + v : v;
}

// Each channel's Σx and Σx², or backward Σg and Σg(x − centre) with the gradient cut by the ReLU first. A block takes a share of
// one channel.
KERNEL(train_sums, TrainSums, 256) {
    follow();
    const int c = block_index() / p.splits, split = block_index() % p.splits;
    const unsigned all = (unsigned)p.batch * p.pixels, each = (all + p.splits - 1) / p.splits;
    const unsigned begin = split * each, end = begin + each < all ? begin + each : all;
    const float centre = p.grad ? p.form[4 * c] : 0.f;
    double sums[2] = {0.0, 0.0};
    for (unsigned i = begin + thread_index(); i < end; i += TRAIN_THREADS) {
        const size_t at = ((size_t)(i / p.pixels) * p.channels + c) * p.pixels + i % p.pixels;
        const float x = p.x[at];
        if (p.grad) {
            float g = p.grad[at];
            if (p.output && !(p.output[at] > 0.f)) p.grad[at] = g = 0.f;
            sums[0] += g;
            sums[1] += (double)g * (x - centre);
        } else {
            sums[0] += x;
            sums[1] += (double)x * x;
        }
    }
    block_sums(sums);
    if (thread_index() == 0) {
        p.partial[2 * block_index()] = sums[0];
        p.partial[2 * block_index() + 1] = sums[1];
    }
}

// A thread makes a channel's form: y = (x − form[0]) * form[1] + form[2]; form[3] is the inverse deviation. Statistics are mean
// and biased variance, the batch's (partial) or the running ones.
KERNEL(train_norm, TrainNorm, 256) {
    follow();
    const unsigned c = own_item();
    if (c >= (unsigned)p.channels) return;
    double mean, variance;
    if (p.partial) {
        double sum = 0.0, squares = 0.0;
        for (int s = 0; s < p.splits; ++s) {
            sum += p.partial[2 * (c * p.splits + s)];
            squares += p.partial[2 * (c * p.splits + s) + 1];
        }
        mean = sum / p.count;
        variance = squares / p.count - mean * mean;
        if (variance < 0.0) variance = 0.0;
        p.statistics[2 * c] = mean;
        p.statistics[2 * c + 1] = variance;
    } else {
        mean = p.running_mean[c];
        // Without a variance only the mean is taken off.
        variance = p.running_variance ? p.running_variance[c] : 1.0 - p.epsilon;
    }
    const double inverse = 1.0 / square_root(variance + p.epsilon);
    const double scale = (p.gamma ? p.gamma[c] : 1.0) * inverse;
    const float centre = (float)mean;
    p.form[4 * c] = centre;
    p.form[4 * c + 1] = (float)scale;
    p.form[4 * c + 2] = (float)((p.beta ? p.beta[c] : 0.0) - scale * (mean - centre));
    p.form[4 * c + 3] = (float)inverse;
}

// Turns each channel's form into that of its gradient: dx = form[1] * (g − form[2] − form[3] * (x − form[0])), and adds to the
// gradients of scale and shift.
KERNEL(train_norm_back, TrainNorm, 256) {
    follow();
    const unsigned c = own_item();
    if (c >= (unsigned)p.channels) return;
    double level = 0.0, slope = 0.0;
    for (int s = 0; s < p.splits; ++s) {
        level += p.partial[2 * (c * p.splits + s)];
        slope += p.partial[2 * (c * p.splits + s) + 1];
    }
    const double inverse = p.form[4 * c + 3];
    slope *= inverse;
    if (p.gamma_gradient) p.gamma_gradient[c] += (float)slope;
    if (p.beta_gradient) p.beta_gradient[c] += (float)level;
    p.form[4 * c + 2] = p.fixed ? 0.f : (float)(level / p.count);
    p.form[4 * c + 3] = p.fixed ? 0.f : (float)(slope / p.count * inverse);
}

// y = relu((x − centre) * scale + shift + added)
KERNEL(train_apply, TrainApply, 256) {
    follow();
    const unsigned i = own_item();
    if (i >= p.count) return;
    const float *const form = p.form + 4 * (i / p.pixels % p.channels);
    float y = (p.x[i] - form[0]) * form[1] + form[2];
    if (p.other) y += p.other[i];
    p.out[i] = p.relu ? positive(y) : y;
}

// x becomes its own gradient; `other` is that of the output, already cut.
KERNEL(train_apply_back, TrainApply, 256) {
    follow();
    const unsigned i = own_item();
    if (i >= p.count) return;
    const float *const form = p.form + 4 * (i / p.pixels % p.channels);
    p.out[i] = form[1] * (p.other[i] - form[2] - form[3] * (p.x[i] - form[0]));
}

// The output rows (or columns) whose windows hold input row `at`.
struct Windows {
    int first;
    int last;
};

DEVICE Windows windows(int at, int outputs, int side, int stride, int pad) {
    const int low = at + pad - side + 1;
    const int first = low <= 0 ? 0 : (low + stride - 1) / stride;
    return {first, smaller((at + pad) / stride, outputs - 1)};
}

// Maximum (with `places`: the pixel each came from, the first of equals, NaN winning) or average with the padding counted.
KERNEL(train_pool, TrainPool, 256) {
    follow();
    const unsigned i = own_item();
    if (i >= p.count) return;
    const int ox = i % p.out_width, oy = i / p.out_width % p.out_height;
    const size_t plane = i / ((unsigned)p.out_width * p.out_height);
    const float *const from = p.from + plane * p.height * p.width;
    float total = 0.f, best = 0.f;
    int at = -1;
    for (int ky = 0; ky < p.side; ++ky) {
        const int y = oy * p.stride - p.pad + ky;
        for (int kx = 0; kx < p.side; ++kx) {
            const int x = ox * p.stride - p.pad + kx;
            if (y < 0 || x < 0 || y >= p.height || x >= p.width) continue;
            const float v = from[y * p.width + x];
            total += v;
            if (at < 0 || v > best || v != v) {
                best = v;
                at = y * p.width + x;
            }
        }
    }
    if (p.places) {
        p.to[i] = best;
        p.places[i] = at;
    } else {
        p.to[i] = total / (float)(p.side * p.side);
    }
}

// Adds the input's gradient to `to`; a thread takes a pixel of the input.
KERNEL(train_pool_back, TrainPool, 256) {
    follow();
    const unsigned i = own_item();
    if (i >= p.count) return;
    const int x = i % p.width, y = i / p.width % p.height;
    const size_t plane = i / ((unsigned)p.width * p.height) * (size_t)(p.out_height * p.out_width);
    const Windows rows = windows(y, p.out_height, p.side, p.stride, p.pad);
    const Windows columns = windows(x, p.out_width, p.side, p.stride, p.pad);
    float total = 0.f;
    for (int oy = rows.first; oy <= rows.last; ++oy)
        for (int ox = columns.first; ox <= columns.last; ++ox) {
            const size_t from = plane + oy * p.out_width + ox;
            if (!p.places || p.places[from] == y * p.width + x) total += p.from[from];
        }
    p.to[i] += p.places ? total : total / (float)(p.side * p.side);
}

KERNEL(train_resize, TrainResize, 256) {
    follow();
    const unsigned i = own_item();
    if (i >= p.count) return;
    const int ox = i % p.out_width, oy = i / p.out_width % p.out_height;
    const size_t plane = i / ((unsigned)p.out_width * p.out_height);
    const Place y = place(oy, p.height, p.out_height), x = place(ox, p.width, p.out_width);
    const float *const from = p.from + plane * p.height * p.width;
    const float *const upper = from + y.low * p.width, *const lower = from + y.high * p.width;
    const float above = upper[x.low] + (upper[x.high] - upper[x.low]) * x.t;
    const float below = lower[x.low] + (lower[x.high] - lower[x.low]) * x.t;
    const float v = above + (below - above) * y.t;
    p.to[i] = p.added ? v + p.added[i] : v;
}

// The outputs that input row (or column) `at` may have a share in: its own and a neighbour's worth on either side.
DEVICE Windows spread_of(int at, int from, int to) {
    const float ratio = (float)to / (float)from;
    const int first = (int)(((float)at - 0.5f) * ratio - 0.5f) - 1;
    const int last = at + 1 >= from ? to - 1 : (int)(((float)at + 1.5f) * ratio - 0.5f) + 1;
    return {at == 0 || first < 0 ? 0 : first, smaller(last, to - 1)};
}

DEVICE float share_of(int at, const Place &s) { return (s.low == at ? 1.f - s.t : 0.f) + (s.high == at ? s.t : 0.f); }

// Adds the input's gradient to `to`; a thread takes a pixel of the input.
KERNEL(train_resize_back, TrainResize, 256) {
    follow();
    const unsigned i = own_item();
    if (i >= p.count) return;
    const int x = i % p.width, y = i / p.width % p.height;
    const size_t plane = i / ((unsigned)p.width * p.height);
    const float *const from = p.from + plane * p.out_height * p.out_width;
    const Windows rows = spread_of(y, p.height, p.out_height), columns = spread_of(x, p.width, p.out_width);
    float total = 0.f;
    for (int oy = rows.first; oy <= rows.last; ++oy) {
        const float of_row = share_of(y, place(oy, p.height, p.out_height));
        if (of_row == 0.f) continue;
        float line = 0.f;
        for (int ox = columns.first; ox <= columns.last; ++ox) {
            const float of_column = share_of(x, place(ox, p.width, p.out_width));
            if (of_column != 0.f) line += of_column * from[oy * p.out_width + ox];
        }
        total += of_row * line;
    }
    p.to[i] += total;
}

// Sum over channels; a thread takes a pixel of a picture.
KERNEL(train_channel_sum, TrainPlanes, 256) {
    follow();
    const unsigned i = own_item();
    if (i >= p.count) return;
    const float *from = p.from + (size_t)(i / p.pixels) * p.channels * p.pixels + i % p.pixels;
    float total = 0.f;
    for (int c = 0; c < p.channels; ++c) total += from[(size_t)c * p.pixels];
    p.to[i] = total;
}

// Adds one plane a picture to all of its channels.
KERNEL(train_channel_spread, TrainPlanes, 256) {
    follow();
    const unsigned i = own_item();
    if (i >= p.count) return;
    const unsigned n = i / ((unsigned)p.pixels * p.channels);
    p.to[i] += p.from[(size_t)n * p.pixels + i % p.pixels];
}

// Sums over windows of `side`, zeros outside: its own adjoint. Added where `channels` is not 0.
KERNEL(train_box, TrainBox, 256) {
    follow();
    const unsigned i = own_item();
    if (i >= p.count) return;
    const int x = i % p.width, y = i / p.width % p.height, reach = p.side / 2;
    const float *const plane = p.from + (size_t)(i / ((unsigned)p.width * p.height)) * p.height * p.width;
    float total = 0.f;
    for (int yy = y - reach; yy <= y + reach; ++yy)
        for (int xx = x - reach; xx <= x + reach; ++xx)
            if (yy >= 0 && xx >= 0 && yy < p.height && xx < p.width) total += plane[yy * p.width + xx];
    p.to[i] = p.accumulate ? p.to[i] + total : total;
}

// What becomes of a plane in a channel before the ReLU: form[0] * plane + form[1]. With running statistics the plane has their
// first mean taken off, form[2] is the inverse deviation and form[3] what is still to be taken off.
KERNEL(train_unit_norm, TrainNorm, 256) {
    follow();
    const unsigned c = own_item();
    if (c >= (unsigned)p.channels) return;
    double inverse = 1.0, off = 0.0;
    if (p.fixed) {
        inverse = 1.0 / square_root(p.running_variance[c] + p.epsilon);
        off = (double)p.running_mean[c] - p.running_mean[0];
    }
    const double factor = p.gamma[c] * inverse;
    p.form[4 * c] = (float)factor;
    p.form[4 * c + 1] = (float)(p.beta[c] - factor * off);
    p.form[4 * c + 2] = (float)inverse;
    p.form[4 * c + 3] = (float)off;
}

// |a − b| + Σ |relu(form(plane of a)) − relu(form(plane of b))|
KERNEL(train_unit, TrainUnit, 256) {
    follow();
    const unsigned i = own_item();
    if (i >= p.count) return;
    const unsigned pixel = i % p.pixels, c = i / p.pixels % p.channels;
    const size_t at = (size_t)(i / ((unsigned)p.pixels * p.channels)) * p.pixels + pixel;
    float total = magnitude(p.a[i] - p.b[i]);
    for (int k = 0; k < p.scales; ++k) {
        const float *const form = p.forms[k] + 4 * c;
        const float ya = form[0] * p.planes[k][0][at] + form[1], yb = form[0] * p.planes[k][1][at] + form[1];
        total += magnitude(positive(ya) - positive(yb));
    }
    p.out[i] = total;
}

// Adds to the operands' gradients what |a − b| passes on, and writes those of the planes; a thread takes a pixel of a picture.
KERNEL(train_unit_back, TrainUnit, 256) {
    follow();
    const unsigned i = own_item();
    if (i >= (unsigned)p.batch * p.pixels) return;
    float pa[2], pb[2], ga[2] = {0.f, 0.f}, gb[2] = {0.f, 0.f};
    for (int k = 0; k < p.scales; ++k) {
        pa[k] = p.planes[k][0][i];
        pb[k] = p.planes[k][1][i];
    }
    for (int c = 0; c < p.channels; ++c) {
        const size_t at = ((size_t)(i / p.pixels) * p.channels + c) * p.pixels + i % p.pixels;
        const float g = p.out[at];
        const float s = g * direction(p.a[at] - p.b[at]);
        if (p.a_gradient) p.a_gradient[at] += s;
        if (p.b_gradient) p.b_gradient[at] -= s;
        for (int k = 0; k < p.scales; ++k) {
            const float *const form = p.forms[k] + 4 * c;
            const float ya = form[0] * pa[k] + form[1], yb = form[0] * pb[k] + form[1];
            const float of = form[0] * g * direction(positive(ya) - positive(yb));
            if (ya > 0.f) ga[k] += of;
            if (yb > 0.f) gb[k] -= of;
        }
    }
    for (int k = 0; k < p.scales; ++k) {
        p.plane_gradients[k][0][i] = ga[k];
        p.plane_gradients[k][1][i] = gb[k];
    }
}

// Each channel's share in the gradients of factor and shift, scale by scale; a block takes a share of one channel.
KERNEL(train_unit_sums, TrainUnit, 256) {
    follow();
    const int c = block_index() / p.splits, split = block_index() % p.splits;
    const unsigned all = (unsigned)p.batch * p.pixels, each = (all + p.splits - 1) / p.splits;
    const unsigned begin = split * each, end = begin + each < all ? begin + each : all;
    for (int k = 0; k < p.scales; ++k) {
        const float *const form = p.forms[k] + 4 * c;
        double sums[2] = {0.0, 0.0};
        for (unsigned i = begin + thread_index(); i < end; i += TRAIN_THREADS) {
            const float g = p.out[((size_t)(i / p.pixels) * p.channels + c) * p.pixels + i % p.pixels];
            const float pa = p.planes[k][0][i], pb = p.planes[k][1][i];
            const float ya = form[0] * pa + form[1], yb = form[0] * pb + form[1];
            const float s = g * direction(positive(ya) - positive(yb));
            const float ua = ya > 0.f ? s : 0.f, ub = yb > 0.f ? s : 0.f;
            sums[0] += (double)ua * pa - (double)ub * pb;
            sums[1] += (double)ua - ub;
        }
        block_sums(sums);
        if (thread_index() == 0) {
            double *const to = p.partial + 2 * ((size_t)k * p.channels * p.splits + block_index());
            to[0] = sums[0];
            to[1] = sums[1];
        }
    }
}

KERNEL(train_unit_norm_back, TrainNorm, 256) {
    follow();
    const unsigned c = own_item();
    if (c >= (unsigned)p.channels) return;
    double of_factor = 0.0, of_shift = 0.0;
    for (int s = 0; s < p.splits; ++s) {
        of_factor += p.partial[2 * (c * p.splits + s)];
        of_shift += p.partial[2 * (c * p.splits + s) + 1];
    }
    const double inverse = p.form[4 * c + 2], off = p.form[4 * c + 3];
    p.gamma_gradient[c] += (float)(inverse * (of_factor - off * of_shift));
    p.beta_gradient[c] += (float)of_shift;
}

// Convolutions by their definition, what cuDNN's are measured against. "Same" padding.
KERNEL(train_conv, TrainConv, 256) {
    follow();
    const unsigned i = own_item();
    if (i >= p.count) return;
    const int ox = i % p.out_width, oy = i / p.out_width % p.out_height, reach = p.kernel / 2;
    const unsigned plane = i / ((unsigned)p.out_width * p.out_height);
    const int o = plane % p.outputs;
    const size_t n = plane / p.outputs;
    float total = 0.f;
    for (int c = 0; c < p.inputs; ++c) {
        const float *const from = p.input + (n * p.inputs + c) * p.height * p.width;
        const float *const weights = p.weights + ((size_t)o * p.inputs + c) * p.kernel * p.kernel;
        for (int ky = 0; ky < p.kernel; ++ky)
            for (int kx = 0; kx < p.kernel; ++kx) {
                const int y = oy * p.stride + ky - reach, x = ox * p.stride + kx - reach;
                if (y < 0 || x < 0 || y >= p.height || x >= p.width) continue;
                total += weights[ky * p.kernel + kx] * from[y * p.width + x];
            }
    }
    p.output[i] = total;
}

KERNEL(train_conv_input, TrainConv, 256) {
    follow();
    const unsigned i = own_item();
    if (i >= p.count) return;
    const int x = i % p.width, y = i / p.width % p.height, reach = p.kernel / 2;
    const unsigned plane = i / ((unsigned)p.width * p.height);
    const int c = plane % p.inputs;
    const size_t n = plane / p.inputs;
    float total = 0.f;
    for (int o = 0; o < p.outputs; ++o) {
        const float *const from = p.output + (n * p.outputs + o) * p.out_height * p.out_width;
        const float *const weights = p.weights + ((size_t)o * p.inputs + c) * p.kernel * p.kernel;
        for (int ky = 0; ky < p.kernel; ++ky)
            for (int kx = 0; kx < p.kernel; ++kx) {
                const int yy = y + reach - ky, xx = x + reach - kx;
                if (yy < 0 || xx < 0 || yy % p.stride || xx % p.stride) continue;
                const int oy = yy / p.stride, ox = xx / p.stride;
                if (oy >= p.out_height || ox >= p.out_width) continue;
                total += weights[ky * p.kernel + kx] * from[oy * p.out_width + ox];
            }
    }
    p.input[i] = total;
}

// Added to the weights' gradient.
KERNEL(train_conv_weights, TrainConv, 256) {
    follow();
    const unsigned i = own_item();
    if (i >= p.count) return;
    const int kx = i % p.kernel, ky = i / p.kernel % p.kernel, reach = p.kernel / 2;
    const unsigned pair = i / ((unsigned)p.kernel * p.kernel);
    const int c = pair % p.inputs, o = pair / p.inputs;
    float total = 0.f;
    for (int n = 0; n < p.batch; ++n) {
        const float *const from = p.input + ((size_t)n * p.inputs + c) * p.height * p.width;
        const float *const grad = p.output + ((size_t)n * p.outputs + o) * p.out_height * p.out_width;
        for (int oy = 0; oy < p.out_height; ++oy) {
            const int y = oy * p.stride + ky - reach;
            if (y < 0 || y >= p.height) continue;
            for (int ox = 0; ox < p.out_width; ++ox) {
                const int x = ox * p.stride + kx - reach;
                if (x >= 0 && x < p.width) total += grad[oy * p.out_width + ox] * from[y * p.width + x];
            }
        }
    }
    p.weights[i] += total;
}
