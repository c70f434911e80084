//! The three passes of a 3x3 convolution with a stride of one by Winograd's F(4x4, 3x3): a quarter of the products.
//!
//! In: planes `[batch, channels, rows, columns]` and weights `[out, in, 3, 3]`. Out: planes, or the weights' gradient.
//!
//! Every 4x4 tile of the output and the 6x6 pixels under it become 36 points (`Bᵀ d B`), the weights too (`G g Gᵀ`). A
//! convolution is then one matrix product for each point, and `Aᵀ m A` turns its results into pixels. The weights'
//! gradient is the transposed map: `Gᵀ [Σ (A dy Aᵀ) (Bᵀ d B)] G`, the sum over all tiles. Lavin and Gray, "Fast
//! Algorithms for Convolutional Neural Networks", CVPR 2016, arXiv 1509.09308.
//!
//! Sixteen tiles that follow each other, across the ends of rows and pictures, are the lanes of one [`Strip`]. The
//! transforms work on sixteen tiles at once, and their results are the panels that the matrix products read. Every sum
//! is taken in an order that does not depend on the number of threads.

use std::cell::Cell;

use rayon::prelude::*;

use super::fast::{self, Planes};
use super::geometry::Geometry;
use super::kernel::{DOT_ROWS, Kernels, LANES, ROWS};
use super::points::{POINTS, SIDE, TILE, kernel_points, kernel_taps};
use super::scratch::{Kept, PANEL, Shared, WEIGHTS, with_kept};

thread_local! {
    static SUMS: Kept = const { Cell::new(Vec::new()) };
    static POINTS_OF_BOTH: Kept = const { Cell::new(Vec::new()) };
}

/// Strips of a task of [`multiply`], whose tiles are multiplied as pairs: the weights are read once for both.
const STRIPS: usize = 2;

/// Channels whose points are at hand at once.
const BLOCK: usize = 64;

/// Values of both operands' points that the weights' gradient keeps: they should stay in a third-level cache.
const POINT_VALUES: usize = 2 << 20;
const MOST_STRIPS: usize = 16;

/// From one point to the next, at least `len` values: never a whole number of pages, for then all points of a channel
/// would compete for the same few lines of the first-level cache.
fn apart(len: usize) -> usize {
    if (len / LANES).is_multiple_of(2) { len + LANES } else { len }
}

/// With fewer tiles than this the transforms of the weights cost more than the products they save.
const FEWEST_TILES: usize = 96;

/// Whether this is the way to compute a convolution: narrow ones and small planes gain nothing.
pub fn suits(g: &Geometry) -> bool {
    let wide = g.cin >= LANES && g.cout >= LANES;
    g.kernel == 3 && g.stride == 1 && wide && Tiles::of(g).all >= FEWEST_TILES
}

/// The tiles of all pictures of a convolution.
#[derive(Clone, Copy)]
struct Tiles {
    across: usize,
    down: usize,
    all: usize,
}

impl Tiles {
    fn of(g: &Geometry) -> Self {
        let (down, across) = (g.h.div_ceil(TILE), g.w.div_ceil(TILE));
        Self { across, down, all: g.batch * down * across }
    }

    fn strips(&self) -> usize {
        self.all.div_ceil(LANES)
    }
}

/// Neighbouring tiles of one row of tiles, which fill some lanes of a strip.
#[derive(Clone, Copy)]
struct Run {
    lane: usize,
    tiles: usize,
    picture: usize,
    /// First row and column of the first tile's output.
    y: usize,
    x: usize,
}

/// Sixteen tiles in a row. The last strip may have fewer; its other lanes are zeros.
struct Strip {
    runs: Vec<Run>,
}

impl Strip {
    fn new(tiles: &Tiles, strip: usize) -> Self {
        let mut runs = Vec::new();
        let mut lane = 0;
        while lane < LANES && strip * LANES + lane < tiles.all {
            let at = strip * LANES + lane;
            let (row, x) = (at / tiles.across, at % tiles.across);
            let n = (tiles.across - x).min(LANES - lane).min(tiles.all - at);
            runs.push(Run {
                lane,
                tiles: n,
                picture: row / tiles.down,
                y: row % tiles.down * TILE,
                x: x * TILE,
            });
            lane += n;
        }
        Self { runs }
    }
}

/// The points of the weights, or of the mirrored weights that carry the gradient back, in panels
/// `[point][out / ROWS][in][ROWS]`, zeros where channels are missing.
fn with_weight_points(
    g: &Geometry,
    at: impl Fn(usize, usize, usize) -> f32 + Sync,
    work: impl FnOnce(&[f32]),
) {
    let blocks = g.cout.div_ceil(ROWS);
    let point = blocks * ROWS * g.cin;
    with_kept(&WEIGHTS, POINTS * point, |panels| {
        let shared = Shared(panels.as_mut_ptr());
        (0..blocks).into_par_iter().for_each(|block| {
            for c in 0..g.cin {
                let mut rows = [[0f32; POINTS]; ROWS];
                for (r, row) in rows.iter_mut().enumerate().take(g.cout - block * ROWS) {
                    *row = kernel_points(&std::array::from_fn(|tap| at(block * ROWS + r, c, tap)));
                }
                for p in 0..POINTS {
                    let column: [f32; ROWS] = std::array::from_fn(|r| rows[r][p]);
                    // SAFETY: this block's rows of each point.
                    unsafe { *shared.at(p * point + (block * g.cin + c) * ROWS).cast() = column };
                }
            }
        });
        work(panels);
    });
}

/// `out = conv(x, weights) + bias`.
pub fn forward(
    g: &Geometry,
    kernels: Kernels,
    x: &[f32],
    weights: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    with_weight_points(
        g,
        |o, c, tap| weights[(o * g.cin + c) * 9 + tap],
        |panels| multiply(g, kernels, x, panels, bias, out),
    );
}

/// The input's gradient: the gradient of the output, correlated with the mirrored weights.
pub fn backward_input(g: &Geometry, kernels: Kernels, weights: &[f32], grad: &[f32], out: &mut [f32]) {
    let back = g.backwards();
    with_weight_points(
        &back,
        |c, o, tap| weights[(o * g.cin + c) * 9 + 8 - tap],
        |panels| multiply(&back, kernels, grad, panels, None, out),
    );
}

fn multiply(
    g: &Geometry,
    kernels: Kernels,
    x: &[f32],
    panels: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    assert_eq!((x.len(), out.len()), (g.input_len(), g.output_len()), "planes of a convolution");
    let tiles = Tiles::of(g);
    let blocks = g.cout.div_ceil(ROWS);
    let depth = g.cin.min(BLOCK);
    let zeros = [0f32; ROWS];
    let shared = Shared(out.as_mut_ptr());
    (0..tiles.strips().div_ceil(STRIPS)).into_par_iter().for_each(|task| {
        let strips: Vec<Strip> = (task * STRIPS..tiles.strips().min((task + 1) * STRIPS))
            .map(|strip| Strip::new(&tiles, strip))
            .collect();
        let stride = apart(depth * LANES);
        let (sources, sums) = (POINTS * stride, POINTS * blocks * ROWS * LANES);
        with_kept(&PANEL, strips.len() * (sources + sums), |buffer| {
            let (source, sum) = buffer.split_at_mut(strips.len() * sources);
            for c0 in (0..g.cin).step_by(depth) {
                let n = depth.min(g.cin - c0);
                for (strip, source) in strips.iter().zip(source.chunks_exact_mut(sources)) {
                    for c in 0..n {
                        // SAFETY: the last point of the last channel ends with the strip's share.
                        unsafe {
                            let to = source.as_mut_ptr().add(c * LANES);
                            input_points(g, kernels, strip, x, c0 + c, to, stride);
                        }
                    }
                }
                let start = if c0 == 0 { zeros.as_ptr() } else { std::ptr::null() };
                for point in 0..POINTS {
                    for block in 0..blocks {
                        let a = &panels[((point * blocks + block) * g.cin + c0) * ROWS..][..n * ROWS];
                        let panel =
                            |strip: usize| source[strip * sources + point * stride..][..n * LANES].as_ptr();
                        let tile = (point * blocks + block) * ROWS * LANES;
                        let to = Shared(sum.as_mut_ptr());
                        // SAFETY: the panels were sliced to what the kernel reads, and each strip has its own sums.
                        unsafe {
                            if strips.len() == STRIPS {
                                let to = [to.at(tile), to.at(sums + tile)];
                                kernels.pair(n, a.as_ptr(), [panel(0), panel(1)], to, LANES, start);
                            } else {
                                kernels.tile(n, a.as_ptr(), panel(0), to.at(tile), LANES, start);
                            }
                        }
                    }
                }
            }
            for (strip, sum) in strips.iter().zip(sum.chunks_exact(sums)) {
                for o in 0..g.cout {
                    let from = &sum[o * LANES..];
                    let level = bias.map_or(0.0, |b| b[o]);
                    let mut pixels = [[0f32; TILE * LANES]; TILE];
                    kernels.output_transform(from, blocks * ROWS * LANES, &mut pixels);
                    for run in &strip.runs {
                        let columns = (run.tiles * TILE).min(g.w - run.x);
                        for (row, pixels) in pixels.iter().take(g.h - run.y).enumerate() {
                            let at = ((run.picture * g.cout + o) * g.h + run.y + row) * g.w + run.x;
                            // SAFETY: these tiles' pixels belong to this task, and lie inside of the plane.
                            let to = unsafe { std::slice::from_raw_parts_mut(shared.at(at), columns) };
                            for (to, v) in to.iter_mut().zip(&pixels[run.lane * TILE..]) {
                                *to = v + level;
                            }
                        }
                    }
                }
            }
        });
    });
}

/// The points of one input channel: `out[point · stride ..][lane]`.
///
/// # Safety
/// These places of `out` may be written, and nobody else does.
unsafe fn input_points(
    g: &Geometry,
    kernels: Kernels,
    strip: &Strip,
    x: &[f32],
    channel: usize,
    out: *mut f32,
    stride: usize,
) {
    let mut phases = [[[0f32; LANES]; SIDE]; SIDE];
    for run in &strip.runs {
        let plane = &x[(run.picture * g.cin + channel) * g.px()..][..g.px()];
        let mut rows: [Option<&[f32]>; SIDE] = [None; SIDE];
        for (i, row) in rows.iter_mut().enumerate() {
            let y = (run.y + i).wrapping_sub(1);
            if y < g.h {
                *row = Some(&plane[y * g.w..][..g.w]);
            }
        }
        kernels.input_rows(rows, run.x, run.lane, run.tiles, &mut phases);
    }
    // SAFETY: the caller's promise.
    unsafe { kernels.input_transform(&phases, out, stride) }
}

/// The points of one channel of the output's gradient, laid out alike.
///
/// # Safety
/// As [`input_points`].
unsafe fn gradient_points(
    g: &Geometry,
    kernels: Kernels,
    strip: &Strip,
    grad: &[f32],
    channel: usize,
    out: *mut f32,
    stride: usize,
) {
    let mut pixels = [[[0f32; LANES]; TILE]; TILE];
    for run in &strip.runs {
        let plane = &grad[(run.picture * g.cout + channel) * g.px()..][..g.px()];
        for (i, [a, b, c, d]) in pixels.iter_mut().enumerate().take(g.h - run.y) {
            let row = &plane[(run.y + i) * g.w..][run.x..g.w];
            kernels.split(row, run.lane, run.tiles, [a, b, c, d]);
        }
    }
    // SAFETY: the caller's promise.
    unsafe { kernels.gradient_transform(&pixels, out, stride) }
}

/// The weights' gradient, added to `out`.
pub fn backward_weight(g: &Geometry, kernels: Kernels, x: &[f32], grad: &[f32], out: &mut [f32]) {
    assert_eq!((x.len(), grad.len()), (g.input_len(), g.output_len()), "planes of a convolution");
    assert_eq!(out.len(), g.weight_len(), "weights of a convolution");
    let tiles = Tiles::of(g);
    let channels = g.cin + g.cout;
    let at_once = (POINT_VALUES / (POINTS * channels * LANES)).clamp(2, MOST_STRIPS).min(tiles.strips());
    with_kept(&SUMS, POINTS * g.cout * g.cin, |sums| {
        sums.fill(0.0);
        with_kept(&POINTS_OF_BOTH, POINTS * apart(channels * at_once * LANES), |points| {
            add_products(g, kernels, x, grad, &tiles, at_once, points, sums);
        });
        out.par_chunks_mut(9).enumerate().with_min_len(64).for_each(|(at, taps)| {
            let points = std::array::from_fn(|p| sums[p * g.cout * g.cin + at]);
            taps.iter_mut().zip(kernel_taps(&points)).for_each(|(to, v)| *to += v);
        });
    });
}

/// Adds `Σ (A dy Aᵀ) (Bᵀ d B)` to `sums`, `[point][out][in]`; `points` is memory for both factors of `at_once` strips.
fn add_products(
    g: &Geometry,
    kernels: Kernels,
    x: &[f32],
    grad: &[f32],
    tiles: &Tiles,
    at_once: usize,
    points: &mut [f32],
    sums: &mut [f32],
) {
    let channels = g.cin + g.cout;
    let shared = Shared(sums.as_mut_ptr());
    for first in (0..tiles.strips()).step_by(at_once) {
        let strips: Vec<Strip> =
            (first..tiles.strips().min(first + at_once)).map(|strip| Strip::new(tiles, strip)).collect();
        let n = strips.len() * LANES;
        let stride = apart(channels * n);
        let lent = Shared(points.as_mut_ptr());
        // `[point][channel][tile]`, the input's channels first.
        (0..channels).into_par_iter().for_each(|channel| {
            for (i, strip) in strips.iter().enumerate() {
                // SAFETY: each task writes the lanes of its own channel, in every point.
                unsafe {
                    let to = lent.at(channel * n + i * LANES);
                    if channel < g.cin {
                        input_points(g, kernels, strip, x, channel, to, stride);
                    } else {
                        gradient_points(g, kernels, strip, grad, channel - g.cin, to, stride);
                    }
                }
            }
        });
        let groups = g.cout.div_ceil(DOT_ROWS);
        // A task owns some outputs of one point; both operands of a point fit in a second-level cache.
        let shares = groups.min(rayon::current_num_threads().div_ceil(12));
        (0..POINTS * shares).into_par_iter().for_each(|task| {
            let (point, share) = (task / shares, task % shares);
            let inputs = Planes { values: &points[point * stride..][..g.cin * n], px: n, from: 0 };
            let grads =
                Planes { values: &points[point * stride + g.cin * n..][..g.cout * n], px: n, from: 0 };
            let outputs =
                share * groups / shares * DOT_ROWS..((share + 1) * groups / shares * DOT_ROWS).min(g.cout);
            // SAFETY: the sums are this task's outputs of its point.
            unsafe {
                let sums = Shared(shared.at(point * g.cout * g.cin));
                fast::add_products(kernels, n, (&grads, outputs), (&inputs, 0..g.cin), g.cin, sums);
            }
        });
    }
}
