//! The three passes of a 3x3 convolution with a stride of one by Winograd's F(4x4, 3x3): a quarter of the products.
//!
//! In: planes `[batch, channels, rows, columns]` and weights `[out, in, 3, 3]`. Out: planes, or the weights' gradient.
//!
//! Every 4x4 tile of the output and the 6x6 pixels under it become 36 points (`Bᵀ d B`), the weights too (`G g Gᵀ`). A
//! convolution is then one matrix product for each point, and `Aᵀ m A` turns its results into pixels. The weights'
//! gradient is the transposed map: `Gᵀ [Σ (A dy Aᵀ) (Bᵀ d B)] G`, the sum over all tiles. Lavin and Gray, "Fast Algorithms
//! for Convolutional Neural Networks", CVPR 2016, arXiv 1509.09308.
//!
//! Sixteen tiles that follow each other, across the ends of rows and pictures, are the lanes of one [`Strip`]. The
//! transforms work on sixteen tiles at once, and their results are the panels that the matrix products read. Every sum is
//! taken in an order that does not depend on the number of threads.

use std::cell::Cell;

use rayon::prelude::*;

use super::fast::{Kept, Shared, with_buffer, with_kept};
use super::geometry::Geometry;
use super::kernel::{DOT_COLUMNS, DOT_ROWS, Kernels, LANES, ROWS};

/// Output pixels of a tile along each axis, and pixels under it.
pub const TILE: usize = 4;
pub const SIDE: usize = TILE + 2;
pub const POINTS: usize = SIDE * SIDE;

/// One value of each tile of a strip.
pub type Lane = [f32; LANES];

thread_local! {
    static WEIGHTS: Kept = const { Cell::new(Vec::new()) };
    static SUMS: Kept = const { Cell::new(Vec::new()) };
    static POINTS_OF_BOTH: Kept = const { Cell::new(Vec::new()) };
}

/// Strips of a task of [`multiply`]: the weights are read once for all of them.
const STRIPS: usize = 2;

/// Channels whose points are at hand at once.
const BLOCK: usize = 64;

/// Values of both operands' points that the weights' gradient keeps: they should stay in a third-level cache.
const POINT_VALUES: usize = 2 << 20;
const MOST_STRIPS: usize = 16;

/// From one point to the next, at least `len` values: never a whole number of pages, for then all points of a channel would
/// compete for the same few lines of the first-level cache.
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

/// `G g Gᵀ`
fn kernel_points(taps: &[f32; 9]) -> [f32; POINTS] {
    let axis = |g: [f32; 3]| {
        let (even, odd) = (g[0] + g[2], g[1]);
        let (far, half) = (g[0] + 4.0 * g[2], 2.0 * g[1]);
        [g[0] / 4.0, -(even + odd) / 6.0, -(even - odd) / 6.0, (far + half) / 24.0, (far - half) / 24.0, g[2]]
    };
    let columns: [[f32; SIDE]; 3] = std::array::from_fn(|x| axis([taps[x], taps[3 + x], taps[6 + x]]));
    let mut out = [0f32; POINTS];
    for y in 0..SIDE {
        out[y * SIDE..][..SIDE].copy_from_slice(&axis([columns[0][y], columns[1][y], columns[2][y]]));
    }
    out
}

/// `Gᵀ m G`: the adjoint of [`kernel_points`].
fn kernel_taps(points: &[f32; POINTS]) -> [f32; 9] {
    let axis = |m: [f32; SIDE]| {
        let (even, odd) = (m[1] + m[2], m[1] - m[2]);
        let (far, half) = (m[3] + m[4], m[3] - m[4]);
        [m[0] / 4.0 - even / 6.0 + far / 24.0, half / 12.0 - odd / 6.0, far / 6.0 - even / 6.0 + m[5]]
    };
    let rows: [[f32; 3]; SIDE] = std::array::from_fn(|y| axis(std::array::from_fn(|x| points[y * SIDE + x])));
    let mut out = [0f32; 9];
    for x in 0..3 {
        let column = axis(std::array::from_fn(|y| rows[y][x]));
        (out[x], out[3 + x], out[6 + x]) = (column[0], column[1], column[2]);
    }
    out
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
        with_buffer(strips.len() * (sources + sums), |buffer| {
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
                        for (source, sum) in source.chunks_exact(sources).zip(sum.chunks_exact_mut(sums)) {
                            let b = &source[point * stride..][..n * LANES];
                            let to = &mut sum[(point * blocks + block) * ROWS * LANES..][..ROWS * LANES];
                            // SAFETY: all three were sliced to what the kernel reads and writes.
                            unsafe { kernels.tile(n, a.as_ptr(), b.as_ptr(), to.as_mut_ptr(), LANES, start) };
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
    let (shared, lent) = (Shared(sums.as_mut_ptr()), Shared(points.as_mut_ptr()));
    for first in (0..tiles.strips()).step_by(at_once) {
        let strips: Vec<Strip> =
            (first..tiles.strips().min(first + at_once)).map(|strip| Strip::new(tiles, strip)).collect();
        let n = strips.len() * LANES;
        let stride = apart(channels * n);
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
            let inputs = &points[point * stride..][..g.cin * n];
            let grads = &points[point * stride + g.cin * n..][..g.cout * n];
            for group in share * groups / shares..(share + 1) * groups / shares {
                let o = group * DOT_ROWS;
                let rows = std::array::from_fn(|r| grads[(o + r).min(g.cout - 1) * n..][..n].as_ptr());
                for c in (0..g.cin).step_by(DOT_COLUMNS) {
                    let columns = std::array::from_fn(|i| inputs[(c + i).min(g.cin - 1) * n..][..n].as_ptr());
                    let mut sums = [0f32; 12];
                    // SAFETY: rows and columns have `n` tiles; the sums are this task's outputs of its point.
                    unsafe {
                        kernels.dots(n, rows, columns, &mut sums);
                        for r in 0..DOT_ROWS.min(g.cout - o) {
                            for i in 0..DOT_COLUMNS.min(g.cin - c) {
                                *shared.at((point * g.cout + o + r) * g.cin + c + i) +=
                                    sums[DOT_COLUMNS * r + i];
                            }
                        }
                    }
                }
            }
        });
    }
}

/// The transforms of sixteen tiles in plain Rust: they are compiled once for any processor and once for AVX2, and give
/// the same bits.
pub mod transform {
    use super::{LANES, Lane, SIDE, TILE};

    #[inline(always)]
    fn map<const N: usize, const M: usize>(of: [&Lane; N], f: impl Fn([f32; N]) -> [f32; M]) -> [Lane; M] {
        let mut out = [[0f32; LANES]; M];
        for l in 0..LANES {
            let values = f(std::array::from_fn(|i| of[i][l]));
            for (out, v) in out.iter_mut().zip(values) {
                out[l] = v;
            }
        }
        out
    }

    /// `Bᵀ d`
    #[inline(always)]
    fn input_axis(d: [f32; SIDE]) -> [f32; SIDE] {
        let (even, odd) = (d[4] - 4.0 * d[2], d[3] - 4.0 * d[1]);
        let (near, twice) = (d[4] - d[2], 2.0 * (d[3] - d[1]));
        [
            4.0 * d[0] - 5.0 * d[2] + d[4],
            even + odd,
            even - odd,
            near + twice,
            near - twice,
            4.0 * d[1] - 5.0 * d[3] + d[5],
        ]
    }

    /// `Aᵀ m`
    #[inline(always)]
    fn output_axis(m: [f32; SIDE]) -> [f32; TILE] {
        let (even, odd) = (m[1] + m[2], m[1] - m[2]);
        let (far, half) = (m[3] + m[4], m[3] - m[4]);
        [m[0] + even + far, odd + 2.0 * half, even + 4.0 * far, odd + 8.0 * half + m[5]]
    }

    /// `A y`
    #[inline(always)]
    fn gradient_axis(y: [f32; TILE]) -> [f32; SIDE] {
        let (even, odd) = (y[0] + y[2], y[1] + y[3]);
        let (far, half) = (y[0] + 4.0 * y[2], 2.0 * y[1] + 8.0 * y[3]);
        [y[0], even + odd, even - odd, far + half, far - half, y[3]]
    }

    /// Splits `4 · tiles` pixels of a row into its four phases; pixels behind its end are zero.
    #[inline(always)]
    pub fn split(row: &[f32], lane: usize, tiles: usize, phases: [&mut Lane; TILE]) {
        let [p0, p1, p2, p3] = phases;
        let whole = tiles.min(row.len() / TILE);
        for (i, four) in row.as_chunks::<TILE>().0[..whole].iter().enumerate() {
            p0[lane + i] = four[0];
            p1[lane + i] = four[1];
            p2[lane + i] = four[2];
            p3[lane + i] = four[3];
        }
        if whole < tiles {
            for (phase, v) in [p0, p1, p2].into_iter().zip(&row[whole * TILE..]) {
                phase[lane + whole] = *v;
            }
        }
    }

    /// Puts the pixels under `tiles` tiles into their lanes: `phases[row][column of the tile][lane]`. The first tile's
    /// output begins at column `x`; its pixels one before that.
    #[inline(always)]
    pub fn input_rows(
        rows: [Option<&[f32]>; SIDE],
        x: usize,
        lane: usize,
        tiles: usize,
        phases: &mut [[Lane; SIDE]; SIDE],
    ) {
        for (row, phases) in rows.into_iter().zip(phases) {
            let Some(row) = row else { continue };
            let [p0, p1, p2, p3, p4, p5] = phases;
            // Columns x .. x + 4 tiles are the phases 1, 2, 3 and 4; the last of a tile is the next one's first.
            split(&row[x..], lane, tiles, [&mut *p1, &mut *p2, &mut *p3, &mut *p4]);
            let end = lane + tiles;
            p0[lane] = if x > 0 { row[x - 1] } else { 0.0 };
            p0[lane + 1..end].copy_from_slice(&p4[lane..end - 1]);
            p5[lane..end - 1].copy_from_slice(&p1[lane + 1..end]);
            p5[end - 1] = row.get(x + tiles * TILE).copied().unwrap_or(0.0);
        }
    }

    /// `Bᵀ d B`, point by point to `out[point · stride..]`.
    ///
    /// # Safety
    /// A lane may be written at each of them.
    #[inline(always)]
    pub unsafe fn input(phases: &[[Lane; SIDE]; SIDE], out: *mut f32, stride: usize) {
        let mut half = [[[0f32; LANES]; SIDE]; SIDE];
        for x in 0..SIDE {
            let column = map(std::array::from_fn(|y| &phases[y][x]), input_axis);
            for y in 0..SIDE {
                half[y][x] = column[y];
            }
        }
        for (y, row) in half.iter().enumerate() {
            let points = map(std::array::from_fn(|x| &row[x]), input_axis);
            for (x, point) in points.iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { *out.add((y * SIDE + x) * stride).cast::<Lane>() = *point };
            }
        }
    }

    /// `A y Aᵀ`, laid out alike.
    ///
    /// # Safety
    /// As [`input`].
    #[inline(always)]
    pub unsafe fn gradient(pixels: &[[Lane; TILE]; TILE], out: *mut f32, stride: usize) {
        let mut half = [[[0f32; LANES]; TILE]; SIDE];
        for x in 0..TILE {
            let column = map(std::array::from_fn(|y| &pixels[y][x]), gradient_axis);
            for y in 0..SIDE {
                half[y][x] = column[y];
            }
        }
        for (y, row) in half.iter().enumerate() {
            let points = map(std::array::from_fn(|x| &row[x]), gradient_axis);
            for (x, point) in points.iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { *out.add((y * SIDE + x) * stride).cast::<Lane>() = *point };
            }
        }
    }

    /// `Aᵀ m A` of the points at `from[point · stride..]`: rows of pixels, the tiles beside each other.
    #[inline(always)]
    pub fn output(from: &[f32], stride: usize, pixels: &mut [[f32; TILE * LANES]; TILE]) {
        let mut half = [[[0f32; LANES]; SIDE]; TILE];
        for x in 0..SIDE {
            let points: [&Lane; SIDE] = std::array::from_fn(|y| {
                from[(y * SIDE + x) * stride..].first_chunk().expect("a lane of every point")
            });
            let column = map(points, output_axis);
            for y in 0..TILE {
                half[y][x] = column[y];
            }
        }
        for (row, pixels) in half.iter().zip(pixels) {
            let [a, b, c, d] = map(std::array::from_fn(|x| &row[x]), output_axis);
            for (l, four) in pixels.as_chunks_mut::<TILE>().0.iter_mut().enumerate() {
                *four = [a[l], b[l], c[l], d[l]];
            }
        }
    }
}
