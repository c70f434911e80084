// What a launch is told: one of these by value, mirrored field by field in params.rs. Maps are [height][width][pitch] in
// f16, the pitch and every channel offset a multiple of 8 values (16 bytes); planes are [height][width] in f32.
#pragma once
#include "device.h"

// One source of a convolution.
struct Part {
    const half *source;
    int pitch;
    // Channels read, a multiple of 8; those beyond the layer's meet weights of zero.
    int channels;
    int height;
    int width;
    // 1 or 3; padding is half of it.
    int kernel;
    int stride;
    // Reduction length: taps times channels, padded to a multiple of 64 with zeros.
    int length;
    int unused;
};

// out = relu(scale * (weights * parts) + shift + residual)
struct Conv {
    Part parts[2];
    // [channels padded to a multiple of 64][sum of the parts' lengths]
    const half *weights;
    const float *scale;
    const float *shift;
    const half *residual;
    half *out;
    // Receives the channels from split_at on.
    half *rest;
    // also = add + result
    const half *add;
    half *also;
    // Sum over the channels; needs all of them in one block.
    float *sum;
    // Unfinished sums, [tile][split][rows of a tile][columns of a tile].
    float *partial;
    // Blocks of a tile that are done; zero between launches.
    unsigned *arrived;
    int residual_pitch;
    int out_pitch;
    int rest_pitch;
    int add_pitch;
    int also_pitch;
    int split_at;
    int part_count;
    int height;
    int width;
    int channels;
    int unused;
    int splits;
    int tiles_across;
    int first_block;
};

struct ConvGroup {
    Conv convs[5];
    int count;
    int unused;
};

// out = |a' - b| + |g3(a') - g3(b)| + |g5(a') - g5(b)| over 64 channels; a' is a at b's size.
struct Subtract {
    const half *a;
    const half *b;
    half *out;
    const float *a_sum;
    const float *b_sum;
    // [alpha 3, beta 3, alpha 5, beta 5][64]; null without the terms (MSNet).
    const float *terms;
    int a_height;
    int a_width;
    int height;
    int width;
    int tiles_across;
    int first_block;
};

struct SubtractGroup {
    Subtract units[4];
    int count;
    int unused;
};

// out = a at fine's size + fine, 64 channels.
struct Join {
    const half *coarse;
    const half *fine;
    half *out;
    int coarse_height;
    int coarse_width;
    int height;
    int width;
};

struct Pool {
    const half *source;
    half *out;
    // Sum over 64 channels, or null.
    float *sum;
    int source_pitch;
    int out_pitch;
    int channels;
    int source_height;
    int source_width;
    int height;
    int width;
    // 0: 3x3 maximum, stride 2. 1: 3x3 average with its padding counted. 2: 2x2 average, stride 2.
    int kind;
    int stride;
    int unused;
};

// Normalised planes into the stem's map.
struct Enter {
    const float *planes;
    half *out;
    struct Statistics *statistics;
    int height;
    int width;
};

// The last convolution: 3x3, 64 channels to a plane a class.
struct Last {
    const half *source;
    // [class][tap][64]
    const float *weights;
    const float *scale;
    const float *shift;
    float *out;
    int height;
    int width;
    int classes;
    int unused;
};

// Planes to the logits' size.
struct Exit {
    const float *source;
    float *out;
    struct Statistics *statistics;
    int source_height;
    int source_width;
    int height;
    int width;
    int classes;
    int unused;
};

// What is known of a frame's output.
struct Statistics {
    // Not 0: some logit is no number.
    unsigned broken;
    unsigned area;
    unsigned left;
    unsigned top;
    unsigned right;
    unsigned bottom;
    // The largest logit of the enlarged map, as an integer that sorts alike.
    unsigned highest;
    unsigned unused;
};

DEVICE void forget(Statistics *s) {
    s->broken = 0;
    s->area = 0;
    s->left = ~0u;
    s->top = ~0u;
    s->right = 0;
    s->bottom = 0;
    s->highest = 0;
}

// A rectangle of a picture, rows converted to RGB and reduced horizontally: narrow is [row][3][width] in bytes.
struct Rows {
    const unsigned char *planes[3];
    unsigned char *narrow;
    // (first source pixel, number) of each target pixel, and its weights.
    const int *spans;
    const int *weights;
    int strides[3];
    int taps;
    int width;
    int rows;
    // First row of the view in the field, first pixel.
    int top;
    int x0;
    // Frame line of row r: r * line_step + line_first.
    int line_step;
    int line_first;
    int chroma_rows;
    // 0 grey, 1 packed RGB, 2 planar YUV, 3 pairs, 4 packed 4:2:2, 5 v210
    int layout;
    // RGB: pixel bytes and offsets. Planar: unused, U plane, V plane. Pairs: unused, U, V. Packed 4:2:2: unused, Y, U, V.
    int places[4];
    int depth;
    int shift;
    int sub_x;
    int sub_y;
    // luma, luma offset, chroma offset, red of V, green of U, green of V, blue of U
    int matrix[7];
    int unused;
};

// The same reduced vertically and normalised.
struct Columns {
    const unsigned char *narrow;
    const int *spans;
    const int *weights;
    half *out;
    struct Statistics *statistics;
    int taps;
    int width;
    int height;
    int unused;
    float mean[3];
    float deviation[3];
};

// Logits enlarged to the view's size and compared with a level.
struct Mark {
    const float *logits;
    // [height][width / 8, rounded up]: bit k of a byte is its pixel k.
    unsigned char *inside;
    struct Statistics *statistics;
    int source_height;
    int source_width;
    int height;
    int width;
    int classes;
    float level;
};

// A training step's (training.h). Counts of items are below 2^32.
struct TrainEach {
    float *to;
    const float *from;
    unsigned count;
    float scale;
};

struct TrainBias {
    float *map;
    const float *bias;
    unsigned count;
    int channels;
    int pixels;
    int relu;
};

struct TrainChannels {
    const float *from;
    float *to;
    unsigned count;
    int pixels;
    int channels;
    int from_channels;
    int from_first;
    int to_channels;
    int to_first;
    int accumulate;
};

struct TrainSums {
    const float *x;
    // Backward: the gradient, the ReLU's output if there is one, and the channels' forms.
    float *grad;
    const float *output;
    const float *form;
    // [channels][splits][2]
    double *partial;
    int channels;
    int pixels;
    int batch;
    int splits;
};

struct TrainNorm {
    const double *partial;
    // Mean and variance, [channels][2].
    double *statistics;
    const float *gamma;
    const float *beta;
    const float *running_mean;
    const float *running_variance;
    float *gamma_gradient;
    float *beta_gradient;
    // [channels][4]
    float *form;
    double count;
    double epsilon;
    int channels;
    int splits;
    int fixed;
    int unused;
};

struct TrainApply {
    const float *x;
    const float *other;
    const float *form;
    float *out;
    unsigned count;
    int channels;
    int pixels;
    int relu;
};

struct TrainPool {
    const float *from;
    float *to;
    // Of a maximum; none for an average.
    int *places;
    unsigned count;
    int height;
    int width;
    int out_height;
    int out_width;
    int side;
    int stride;
    int pad;
};

struct TrainResize {
    const float *from;
    const float *added;
    float *to;
    unsigned count;
    int height;
    int width;
    int out_height;
    int out_width;
    int unused;
};

struct TrainPlanes {
    const float *from;
    float *to;
    unsigned count;
    int channels;
    int pixels;
    int unused;
};

struct TrainBox {
    const float *from;
    float *to;
    unsigned count;
    int height;
    int width;
    int side;
    int accumulate;
    int unused;
};

// A subtraction unit: operands, for each all-ones convolution the planes of a and b, and the channels' forms of them.
struct TrainUnit {
    const float *a;
    const float *b;
    // Forward the result, backward its gradient.
    float *out;
    float *a_gradient;
    float *b_gradient;
    const float *planes[2][2];
    float *plane_gradients[2][2];
    const float *forms[2];
    // [scales][channels][splits][2]
    double *partial;
    unsigned count;
    int channels;
    int pixels;
    int batch;
    int scales;
    int splits;
};

// Forward writes `output`; backward reads it as a gradient and writes `input`, or adds to `weights`.
struct TrainConv {
    float *input;
    float *weights;
    float *output;
    unsigned count;
    int batch;
    int inputs;
    int height;
    int width;
    int outputs;
    int out_height;
    int out_width;
    int kernel;
    int stride;
};
