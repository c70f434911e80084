//! The three passes of a convolution in f32 on our own kernels.
//!
//! In: planes `[batch, channels, rows, columns]` and weights `[out, in, k, k]`. Out: planes, or the weights' gradient.
//!
//! Sixteen output pixels that follow each other in memory read, for one tap of the kernel, sixteen input pixels that
//! follow each other too, across the ends of rows: all taps of a stride of one are shifts of the flat plane. What a
//! shift brings in from the neighbouring row is masked. So nothing is padded, and a panel of pixels is packed with two
//! loads and two stores a tap. Every sum is taken in an order that does not depend on the number of threads.

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::geometry::Geometry;
use super::kernel::{DOT_COLUMNS, DOT_ROWS, Kernels, LANES, ROWS};
use super::scratch::{Kept, PANEL, Shared, WEIGHTS, with_kept};

/// Pixel tiles that share a packed panel, and products in it at most: together they fill half of a second-level cache.
const TILES: usize = 12;
const DEPTH: usize = 256;

/// Values of both operands that a block of the weights' gradient keeps at hand.
const BLOCK: usize = 80_000;

/// Planes of fewer pixels are joined over the batch for the weights' gradient.
const JOINED: usize = 2000;

thread_local! {
    static SPREAD: Kept = const { Cell::new(Vec::new()) };
    static JOINED_INPUT: Kept = const { Cell::new(Vec::new()) };
    static JOINED_GRADIENT: Kept = const { Cell::new(Vec::new()) };
}

/// Weights in panels of [`ROWS`] output channels: `[out / ROWS][depth][ROWS]`, zeros where channels are missing.
fn with_packed_rows(
    rows: usize,
    depth: usize,
    at: impl Fn(usize, usize) -> f32 + Sync,
    work: impl FnOnce(&[f32]),
) {
    with_kept(&WEIGHTS, rows.div_ceil(ROWS) * ROWS * depth, |panels| {
        panels.par_chunks_mut(ROWS * depth).enumerate().for_each(|(block, panel)| {
            for (k, column) in panel.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
                for (r, value) in column.iter_mut().enumerate() {
                    let row = block * ROWS + r;
                    *value = if row < rows { at(row, k) } else { 0.0 };
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
    let depth = g.depth();
    with_packed_rows(
        g.cout,
        depth,
        |o, k| weights[o * depth + k],
        |panels| multiply(g, kernels, x, panels, bias, out),
    );
}

/// The input's gradient: the gradient of the output, correlated with the mirrored weights.
pub fn backward_input(g: &Geometry, kernels: Kernels, weights: &[f32], grad: &[f32], out: &mut [f32]) {
    let back = g.backwards();
    let (depth, taps) = (g.depth(), g.taps());
    let mirrored = |c: usize, k: usize| {
        let (o, tap) = (k / taps, k % taps);
        weights[o * depth + c * taps + (taps - 1 - tap)]
    };
    with_packed_rows(g.cin, g.cout * taps, mirrored, |panels| {
        if g.stride == 1 {
            return multiply(&back, kernels, grad, panels, None, out);
        }
        // With a stride, the gradient stands at every second pixel of an otherwise empty plane.
        with_kept(&SPREAD, g.batch * g.cout * g.px(), |spread| {
            let (oh, ow) = (g.out_h(), g.out_w());
            spread.par_chunks_mut(g.px()).zip(grad.par_chunks(oh * ow)).for_each(|(plane, small)| {
                plane.fill(0.0);
                for (y, row) in small.chunks_exact(ow).enumerate() {
                    for (x, &v) in row.iter().enumerate() {
                        plane[y * g.stride * g.w + x * g.stride] = v;
                    }
                }
            });
            multiply(&back, kernels, spread, panels, None, out);
        });
    });
}

/// Packed weights times the shifted planes.
fn multiply(
    g: &Geometry,
    kernels: Kernels,
    x: &[f32],
    panels: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    assert_eq!((x.len(), out.len()), (g.input_len(), g.output_len()), "planes of a convolution");
    let (depth, px) = (g.depth(), g.out_px());
    let blocks = g.cout.div_ceil(ROWS);
    let mut starts = vec![0f32; blocks * ROWS];
    if let Some(bias) = bias {
        starts[..g.cout].copy_from_slice(bias);
    }
    // Whole channels, so that a packed piece begins at a tap.
    let channels = (DEPTH / g.taps()).max(1);
    let tiles = px.div_ceil(LANES);
    let groups = tiles.div_ceil(TILES);
    let shared = Shared(out.as_mut_ptr());
    (0..g.batch * groups).into_par_iter().for_each(|task| {
        let (picture, group) = (task / groups, task % groups);
        let tiles = group * TILES..tiles.min((group + 1) * TILES);
        let planes = &x[picture * g.cin * g.px()..][..g.cin * g.px()];
        let taps = Taps::new(g, tiles.clone());
        with_kept(&PANEL, tiles.len() * channels * g.taps() * LANES, |panel| {
            let mut c0 = 0;
            while c0 < g.cin {
                let n = channels.min(g.cin - c0);
                let k = n * g.taps();
                for c in 0..n {
                    let plane = &planes[(c0 + c) * g.px()..][..g.px()];
                    taps.pack(plane, c * g.taps(), k, panel);
                }
                for block in 0..blocks {
                    let a = panels[(block * depth + c0 * g.taps()) * ROWS..][..k * ROWS].as_ptr();
                    let rows = ROWS.min(g.cout - block * ROWS);
                    let start = if c0 == 0 { starts[block * ROWS..].as_ptr() } else { std::ptr::null() };
                    let panel_of = |i: usize| panel[i * k * LANES..][..k * LANES].as_ptr();
                    let place = |i: usize| (picture * g.cout + block * ROWS) * px + (tiles.start + i) * LANES;
                    // Whole tiles two by two.
                    let whole = if rows == ROWS { tiles.end.min(px / LANES) - tiles.start } else { 0 };
                    let paired = whole / 2 * 2;
                    for i in (0..paired).step_by(2) {
                        // SAFETY: the panels were sliced to their lengths; both tiles lie in this task's pixels of this
                        // picture.
                        unsafe {
                            let to = [shared.at(place(i)), shared.at(place(i + 1))];
                            kernels.pair(k, a, [panel_of(i), panel_of(i + 1)], to, px, start);
                        }
                    }
                    for i in paired..tiles.len() {
                        let lanes = LANES.min(px - (tiles.start + i) * LANES);
                        // SAFETY: the panels were sliced to their lengths. A whole tile lies in this task's pixels of
                        // this picture; of another one only the `rows` rows of `lanes` pixels that lie there are read
                        // and written, and the kernel works in a buffer of a whole tile's size.
                        unsafe {
                            let to = shared.at(place(i));
                            if i < whole {
                                kernels.tile(k, a, panel_of(i), to, px, start);
                                continue;
                            }
                            let mut edge = [0f32; ROWS * LANES];
                            if start.is_null() {
                                for r in 0..rows {
                                    let from = to.add(r * px);
                                    edge[r * LANES..][..lanes]
                                        .copy_from_slice(std::slice::from_raw_parts(from, lanes));
                                }
                            }
                            kernels.tile(k, a, panel_of(i), edge.as_mut_ptr(), LANES, start);
                            for r in 0..rows {
                                let row = std::slice::from_raw_parts_mut(to.add(r * px), lanes);
                                row.copy_from_slice(&edge[r * LANES..][..lanes]);
                            }
                        }
                    }
                }
                c0 += n;
            }
        });
    });
}

/// Where the pixels of some tiles come from, for every tap.
struct Taps<'a> {
    g: &'a Geometry,
    first: usize,
    /// For each tile and tap: whether its sixteen pixels lie in the plane as they are, the first one's place, and which
    /// of them count.
    places: Vec<(bool, isize, [u32; LANES])>,
}

impl<'a> Taps<'a> {
    fn new(g: &'a Geometry, tiles: Range<usize>) -> Self {
        let (ow, px) = (g.out_w(), g.out_px());
        let half = (g.kernel / 2) as isize;
        let mut places = Vec::with_capacity(tiles.len() * g.taps());
        for tile in tiles.clone() {
            let mut at = [(0isize, 0isize); LANES];
            for (l, at) in at.iter_mut().enumerate() {
                let p = tile * LANES + l;
                // Beyond the end: rows that lie nowhere.
                *at = match p < px {
                    true => (((p / ow) * g.stride) as isize, ((p % ow) * g.stride) as isize),
                    false => (isize::MIN / 2, 0),
                };
            }
            for ky in 0..g.kernel as isize {
                for kx in 0..g.kernel as isize {
                    let (dy, dx) = (ky - half, kx - half);
                    let mask = at.map(|(y, x)| {
                        let inside =
                            (0..g.h as isize).contains(&(y + dy)) && (0..g.w as isize).contains(&(x + dx));
                        if inside { u32::MAX } else { 0 }
                    });
                    let start = (tile * LANES) as isize + dy * g.w as isize + dx;
                    let whole = g.stride == 1 && start >= 0 && start + LANES as isize <= g.px() as isize;
                    places.push((whole, start, mask));
                }
            }
        }
        Self { g, first: tiles.start, places }
    }

    /// Packs one channel's taps from row `k0` of panels `[tiles][depth][LANES]`.
    fn pack(&self, plane: &[f32], k0: usize, depth: usize, panel: &mut [f32]) {
        let taps = self.g.taps();
        for (i, places) in self.places.chunks_exact(taps).enumerate() {
            let rows = panel[(i * depth + k0) * LANES..][..taps * LANES].as_chunks_mut::<LANES>().0;
            for ((tap, &(whole, start, ref mask)), row) in places.iter().enumerate().zip(rows) {
                if whole {
                    let from = &plane[start as usize..][..LANES];
                    for ((to, &v), &m) in row.iter_mut().zip(from).zip(mask) {
                        *to = f32::from_bits(v.to_bits() & m);
                    }
                } else {
                    self.gather(plane, self.first + i, tap, mask, row);
                }
            }
        }
    }

    /// One by one: at the plane's ends, and with a stride.
    fn gather(&self, plane: &[f32], tile: usize, tap: usize, mask: &[u32; LANES], row: &mut [f32; LANES]) {
        let g = self.g;
        let ow = g.out_w();
        let half = g.kernel / 2;
        let (ky, kx) = (tap / g.kernel, tap % g.kernel);
        let p = tile * LANES;
        let (mut y, mut x) = (p / ow, p % ow);
        for (to, &m) in row.iter_mut().zip(mask) {
            *to = if m == 0 {
                0.0
            } else {
                // The mask says that neither falls below zero.
                plane[(y * g.stride + ky - half) * g.w + x * g.stride + kx - half]
            };
            x += 1;
            if x == ow {
                (x, y) = (0, y + 1);
            }
        }
    }
}

/// The weights' gradient, added to `out`.
pub fn backward_weight(g: &Geometry, kernels: Kernels, x: &[f32], grad: &[f32], out: &mut [f32]) {
    assert_eq!((x.len(), grad.len()), (g.input_len(), g.output_len()), "planes of a convolution");
    assert_eq!(out.len(), g.weight_len(), "weights of a convolution");
    // Small planes make short sums, whose ends cost more than they: then all pictures' planes of a channel are put
    // behind one another first. Larger kernels see rows of zeros between pictures.
    if g.batch == 1 || g.out_px() >= JOINED || g.stride != 1 {
        return weights_of_pictures(g, kernels, x, grad, out);
    }
    let rows = g.kernel / 2;
    let whole = Geometry { batch: 1, h: g.batch * (g.h + rows) + rows, ..*g };
    with_kept(&JOINED_INPUT, whole.input_len(), |joined| {
        join(x, (g.batch, g.cin, g.h, g.w), rows, joined);
        with_kept(&JOINED_GRADIENT, whole.output_len(), |joined_grad| {
            join(grad, (g.batch, g.cout, g.h, g.w), rows, joined_grad);
            weights_of_pictures(&whole, kernels, joined, joined_grad, out);
        });
    });
}

fn weights_of_pictures(g: &Geometry, kernels: Kernels, x: &[f32], grad: &[f32], out: &mut [f32]) {
    let shared = Shared(out.as_mut_ptr());
    let flat = g.kernel == 1 && g.stride == 1;
    // A task owns some input channels of the weights; pictures follow each other inside it. Every task reads the whole
    // gradient, so there are no more of them than threads.
    let share = if flat { DOT_COLUMNS } else { 1 };
    let units = g.cin.div_ceil(share);
    let tasks = units.min(rayon::current_num_threads());
    (0..tasks).into_par_iter().for_each(|task| {
        let units = task * units / tasks..(task + 1) * units / tasks;
        let channels = units.start * share..(units.end * share).min(g.cin);
        for picture in 0..g.batch {
            let planes = &x[picture * g.cin * g.px()..][..g.cin * g.px()];
            let grads = &grad[picture * g.cout * g.out_px()..][..g.cout * g.out_px()];
            if flat {
                flat_weights(g, kernels, planes, grads, channels.clone(), shared);
            } else {
                spatial_weights(g, kernels, planes, grads, channels.clone(), shared);
            }
        }
    });
}

/// `[batch, channels, rows, columns]` to `[channels, batch · rows, columns]`, with `zeros` rows of zeros before each
/// picture and at the end.
fn join(x: &[f32], (batch, channels, h, w): (usize, usize, usize, usize), zeros: usize, out: &mut [f32]) {
    let px = h * w;
    let each = px + zeros * w;
    out.par_chunks_mut(batch * each + zeros * w).enumerate().for_each(|(c, plane)| {
        for n in 0..batch {
            let (border, to) = plane[n * each..][..each].split_at_mut(zeros * w);
            border.fill(0.0);
            to.copy_from_slice(&x[(n * channels + c) * px..][..px]);
        }
        plane[batch * each..].fill(0.0);
    });
}

/// Kernels of one pixel: products of planes with planes.
fn flat_weights(
    g: &Geometry,
    kernels: Kernels,
    planes: &[f32],
    grads: &[f32],
    channels: Range<usize>,
    out: Shared,
) {
    let px = g.px();
    let block = (BLOCK / (g.cout + g.cin)).clamp(256, 2048) / 8 * 8;
    for p in (0..px).step_by(block) {
        let n = block.min(px - p);
        let (x, grads) = (Planes { values: planes, px, from: p }, Planes { values: grads, px, from: p });
        // SAFETY: the weights are this task's channels.
        unsafe { add_products(kernels, n, (&grads, 0..g.cout), (&x, channels.clone()), g.cin, out) };
    }
}

/// Planes one behind another, looked at from some pixel on.
pub struct Planes<'a> {
    pub values: &'a [f32],
    /// Values of a plane.
    pub px: usize,
    pub from: usize,
}

impl Planes<'_> {
    /// `n` values of each plane of a range, the last one repeated where there are fewer than asked for.
    fn rows<const N: usize>(&self, range: Range<usize>, n: usize) -> [*const f32; N] {
        std::array::from_fn(|i| {
            let plane = (range.start + i).min(range.end - 1);
            self.values[plane * self.px + self.from..][..n].as_ptr()
        })
    }
}

/// Outputs that [`dots`] takes at once.
const OUTPUTS: usize = 2 * DOT_ROWS;

/// `Σ grads[o][p] · columns[c][p]` over `n` pixels for [`OUTPUTS`] outputs at most; `add` gets an output and its sums.
///
/// # Safety
/// Every column may be read at `n` values.
unsafe fn dots(
    kernels: Kernels,
    n: usize,
    (grads, outputs): (&Planes, Range<usize>),
    columns: [*const f32; DOT_COLUMNS],
    mut add: impl FnMut(usize, &[f32; DOT_COLUMNS]),
) {
    let mut sums = [[0f32; 12]; 2];
    // SAFETY: every row has `n` values, and of the columns the caller says it.
    unsafe {
        if outputs.len() > DOT_ROWS {
            kernels.double_dots(n, grads.rows(outputs.clone(), n), columns, &mut sums);
        } else {
            kernels.dots(n, grads.rows(outputs.clone(), n), columns, &mut sums[0]);
        }
    }
    outputs.zip(sums.as_flattened().as_chunks().0).for_each(|(o, sums)| add(o, sums));
}

/// `out[o · columns + c] += Σ grads[o][p] · x[c][p]` over `n` pixels, for some outputs and some channels.
///
/// # Safety
/// Nobody else writes these places of `out`, which has `columns` values a row.
pub unsafe fn add_products(
    kernels: Kernels,
    n: usize,
    (grads, outputs): (&Planes, Range<usize>),
    (x, channels): (&Planes, Range<usize>),
    columns: usize,
    out: Shared,
) {
    for o in outputs.clone().step_by(OUTPUTS) {
        let outputs = o..outputs.end.min(o + OUTPUTS);
        for c in channels.clone().step_by(DOT_COLUMNS) {
            let channels = c..channels.end.min(c + DOT_COLUMNS);
            let add = |o: usize, sums: &[f32; DOT_COLUMNS]| {
                for (c, sum) in channels.clone().zip(sums) {
                    // SAFETY: the places are the caller's promise.
                    unsafe { *out.at(o * columns + c) += sum };
                }
            };
            // SAFETY: every column has `n` values.
            unsafe { dots(kernels, n, (grads, outputs.clone()), x.rows(channels.clone(), n), add) };
        }
    }
}

/// Larger kernels: for every tap the plane as that tap sees it, then products of planes with planes. With a stride of
/// one the three taps of a kernel's row need one copy each, and the rows of taps are shifts of it.
fn spatial_weights(
    g: &Geometry,
    kernels: Kernels,
    planes: &[f32],
    grads: &[f32],
    channels: Range<usize>,
    out: Shared,
) {
    let (oh, ow, px) = (g.out_h(), g.out_w(), g.out_px());
    let half = g.kernel / 2;
    // Rows of the output in one block.
    let rows_at_once = (BLOCK / g.cout / ow).clamp(1, 2048 / ow.min(2048)).max(1);
    // A copy for each column of taps holds the rows above and below too; with a stride there is a copy a tap.
    let copy_rows = if g.stride == 1 { rows_at_once + 2 * half } else { rows_at_once };
    let copies = if g.stride == 1 { g.kernel } else { g.taps() };
    with_kept(&PANEL, copies * copy_rows * ow, |scratch| {
        for y0 in (0..oh).step_by(rows_at_once) {
            let rows_here = rows_at_once.min(oh - y0);
            let n = rows_here * ow;
            let grads = Planes { values: grads, px, from: y0 * ow };
            for c in channels.clone() {
                let plane = &planes[c * g.px()..][..g.px()];
                for (copy, to) in scratch.chunks_exact_mut(copy_rows * ow).enumerate() {
                    let (ky, kx) = if g.stride == 1 { (0, copy) } else { (copy / g.kernel, copy % g.kernel) };
                    let lines = if g.stride == 1 { rows_here + 2 * half } else { rows_here };
                    for (i, line) in to.chunks_exact_mut(ow).take(lines).enumerate() {
                        let y = ((y0 + i) * g.stride + ky).wrapping_sub(half);
                        if y >= g.h {
                            line.fill(0.0);
                            continue;
                        }
                        shifted(&plane[y * g.w..][..g.w], kx, half, g.stride, line);
                    }
                }
                for ky in 0..g.kernel {
                    for kx in (0..g.kernel).step_by(DOT_COLUMNS) {
                        let columns = std::array::from_fn(|i| {
                            let kx = (kx + i).min(g.kernel - 1);
                            let at = if g.stride == 1 {
                                (kx * copy_rows + ky) * ow
                            } else {
                                (ky * g.kernel + kx) * copy_rows * ow
                            };
                            scratch[at..][..n].as_ptr()
                        });
                        for o in (0..g.cout).step_by(OUTPUTS) {
                            let add = |o: usize, sums: &[f32; DOT_COLUMNS]| {
                                let at = (o * g.cin + c) * g.taps() + ky * g.kernel;
                                for (kx, sum) in (kx..g.kernel).zip(sums) {
                                    // SAFETY: the weights are this task's channels.
                                    unsafe { *out.at(at + kx) += sum };
                                }
                            };
                            // SAFETY: the columns have `n` pixels from here on.
                            unsafe {
                                dots(kernels, n, (&grads, o..g.cout.min(o + OUTPUTS)), columns, add);
                            }
                        }
                    }
                }
            }
        }
    });
}

/// A row as one column of taps sees it: `line[x] = row[x · stride + kx − half]`, zeros outside.
fn shifted(row: &[f32], kx: usize, half: usize, stride: usize, line: &mut [f32]) {
    if stride == 1 {
        let n = line.len();
        if kx < half {
            let by = (half - kx).min(n);
            line[..by].fill(0.0);
            line[by..].copy_from_slice(&row[..n - by]);
        } else {
            let by = (kx - half).min(n);
            line[..n - by].copy_from_slice(&row[by..]);
            line[n - by..].fill(0.0);
        }
        return;
    }
    for (x, to) in line.iter_mut().enumerate() {
        let from = (x * stride + kx).wrapping_sub(half);
        *to = row.get(from).copied().unwrap_or(0.0);
    }
}
