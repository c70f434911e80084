//! 3x3 convolution of integers by Winograd's F(2x2, 3x3), exactly: 16 multiplications where the definition does 36.
//!
//! In: a map of u8 with a border of zeros, weights from -127 to 127. Out: the sums of the direct convolution, to the
//! bit, and what its epilogue writes. The transformed input has 11 bits (sums and differences of four values), four
//! times the transformed weights have 12, so that both fit 16 bits and products are summed in 32 bits. Sums may pass
//! beyond 32 bits on their way; four times the convolution itself must not, which whoever chooses this algorithm
//! checks.
//!
//! The blocks and tasks are those of [`super::winograd`].

use super::conv::{Epilogue, Panel, TileKernels, finish};
use super::lanes::Lanes;
use super::maps::View;
use super::winograd::Products;

/// Points of the transformed domain.
pub(crate) const POINTS: usize = 16;
/// Output pixels of a tile along each axis.
const TILE: usize = 2;
/// Rows and columns of source a tile reads.
const WINDOW: usize = 4;
/// Channels transformed at a time.
const CHUNK: usize = 16;

pub(crate) struct WinogradI16 {
    /// Output (and source) size.
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) source: View,
    /// Rows of tiles in a task.
    pub(crate) band: usize,
    /// First channel and number of channels of each block, even.
    pub(crate) blocks: Vec<(usize, usize)>,
    /// `[block][point][word][vectors · lanes]`, a word being two i16.
    pub(crate) panels: Vec<Panel>,
    pub(crate) epilogue: Epilogue,
    pub(crate) kernels: &'static TileKernels,
}

impl WinogradI16 {
    fn tiles(&self) -> (usize, usize) {
        (self.height.div_ceil(TILE), self.width.div_ceil(TILE))
    }

    pub(crate) fn tasks(&self) -> usize {
        self.tiles().0.div_ceil(self.band)
    }

    fn out(&self, lanes: usize) -> usize {
        self.panels.iter().map(|p| p.vectors * lanes).sum()
    }

    fn widest_block(&self) -> usize {
        self.blocks.iter().map(|b| b.1).max().unwrap_or(0)
    }

    /// Values of 32 bits: transformed input (two in each), transformed output, one tile's result.
    pub(crate) fn scratch(&self, lanes: usize) -> usize {
        let tiles = self.band * self.tiles().1;
        let out = self.out(lanes);
        POINTS * tiles * (self.widest_block() / 2 + out) + TILE * TILE * out + CHUNK + 64
    }
}

/// Four times the kernel's transform, `(2G) g (2G)ᵀ`: whole numbers from whole numbers.
pub(crate) fn transform_weights(g: &[i32; 9]) -> [i32; POINTS] {
    const G: [[i32; 3]; 4] = [[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]];
    let mut to = [0; POINTS];
    for (i, left) in G.iter().enumerate() {
        let mut row = [0; 3];
        for (x, value) in row.iter_mut().enumerate() {
            *value = left[0] * g[x] + left[1] * g[3 + x] + left[2] * g[6 + x];
        }
        for (j, right) in G.iter().enumerate() {
            to[i * 4 + j] = right[0] * row[0] + right[1] * row[1] + right[2] * row[2];
        }
    }
    to
}

/// # Safety
/// As for [`super::conv::task`].
#[inline(always)]
pub(crate) unsafe fn task<L: Lanes>(w: &WinogradI16, task: usize, scratch: *mut f32) {
    // SAFETY: the caller runs each task once, and on a processor with these instructions. A task's rows
    // are its own, and `scratch` has what `WinogradI16::scratch` asks for.
    unsafe {
        let (down, across) = w.tiles();
        let rows = task * w.band..((task + 1) * w.band).min(down);
        let count = rows.len() * across;
        let out = w.out(L::COUNT);
        let transformed = scratch.cast::<i16>();
        let sums = scratch.add(POINTS * w.band * across * w.widest_block() / 2);
        let result = sums.add(POINTS * w.band * across * out);

        let mut weights_before = 0;
        for (b, &(first, channels)) in w.blocks.iter().enumerate() {
            for (r, ty) in rows.clone().enumerate() {
                for tx in 0..across {
                    let to = transformed.add((r * across + tx) * channels);
                    let mut c = 0;
                    while c < channels {
                        let n = (channels - c).min(CHUNK);
                        input_tile(w, ty, tx, first + c, n, to.add(c), count * channels);
                        c += CHUNK;
                    }
                }
            }
            let words = channels / 2;
            let products = Products {
                points: POINTS,
                tiles: count,
                words,
                source: transformed.cast_const().cast(),
                weights_before,
                more: b > 0,
                sums,
                out,
            };
            products.run::<L>(&w.panels, w.kernels);
            weights_before += POINTS * words;
        }

        for (r, ty) in rows.enumerate() {
            for tx in 0..across {
                let from = sums.add((r * across + tx) * out).cast::<i32>();
                let mut c = 0;
                while c < out {
                    output_tile(from.add(c), count * out, result.cast::<i32>().add(c), out);
                    c += LANES;
                }
                let (y, x) = (ty * TILE, tx * TILE);
                let wide = (w.width - x).min(TILE);
                for i in 0..(w.height - y).min(TILE) {
                    finish::<L>(&w.epilogue, y + i, x, wide, result.add(i * TILE * out), out, 0, out);
                }
            }
        }
    }
}

/// `Bᵀ d` along one axis, channel by channel.
#[inline(always)]
fn input_axis(d: [[i16; CHUNK]; WINDOW]) -> [[i16; CHUNK]; WINDOW] {
    let mut t = [[0; CHUNK]; WINDOW];
    for c in 0..CHUNK {
        t[0][c] = d[0][c] - d[2][c];
        t[1][c] = d[1][c] + d[2][c];
        t[2][c] = d[2][c] - d[1][c];
        t[3][c] = d[1][c] - d[3][c];
    }
    t
}

/// `Bᵀ d B` of one tile's window, `n` channels from `c` on; points lie `stride` values apart.
#[inline(always)]
unsafe fn input_tile(w: &WinogradI16, ty: usize, tx: usize, c: usize, n: usize, to: *mut i16, stride: usize) {
    // SAFETY: what lies beyond the source's border of one pixel is left out, the block has room behind its
    // last pixel for a whole chunk, and `to` has a point every `stride` values.
    unsafe {
        let (y, x) = ((ty * TILE) as isize - 1, (tx * TILE) as isize - 1);
        // Beyond the border of zeros lies something else.
        let (deep, wide) = (w.height as isize + 1 - y, w.width as isize + 1 - x);
        let first = w.source.channel(c).bytes_at(y, x);
        let (row, pixel) = (w.source.row, w.source.pixel);
        let mut t = [[[0i16; CHUNK]; WINDOW]; WINDOW];
        for j in 0..WINDOW {
            let mut d = [[0i16; CHUNK]; WINDOW];
            for i in 0..WINDOW {
                if (i as isize) < deep && (j as isize) < wide {
                    // Maps have room behind their last pixel, so that a whole chunk may be read.
                    let from = first.add(i * row + j * pixel).cast::<[u8; CHUNK]>().read_unaligned();
                    for k in 0..CHUNK {
                        d[i][k] = i16::from(from[k]);
                    }
                }
            }
            let d = input_axis(d);
            for i in 0..WINDOW {
                t[i][j] = d[i];
            }
        }
        for i in 0..WINDOW {
            let d = input_axis(t[i]);
            for j in 0..WINDOW {
                let to = to.add((i * WINDOW + j) * stride);
                if n == CHUNK {
                    to.cast::<[i16; CHUNK]>().write_unaligned(d[j]);
                } else {
                    std::ptr::copy_nonoverlapping(d[j].as_ptr(), to, n);
                }
            }
        }
    }
}

/// Output channels transformed at a time; every path's vectors are whole multiples.
const LANES: usize = 8;

/// `Aᵀ m` along one axis.
#[inline(always)]
fn output_axis(m: [[i32; LANES]; WINDOW]) -> [[i32; LANES]; TILE] {
    let mut t = [[0; LANES]; TILE];
    for c in 0..LANES {
        t[0][c] = m[0][c].wrapping_add(m[1][c]).wrapping_add(m[2][c]);
        t[1][c] = m[1][c].wrapping_sub(m[2][c]).wrapping_sub(m[3][c]);
    }
    t
}

/// `Aᵀ m A / 4`: the convolution's sums of a tile's pixels, `step` apart, from points that lie `stride` apart.
#[inline(always)]
unsafe fn output_tile(from: *const i32, stride: usize, to: *mut i32, step: usize) {
    // SAFETY: `from` has a point every `stride` values, `to` a pixel every `step`, each with `LANES`
    // values.
    unsafe {
        let mut t = [[[0i32; LANES]; WINDOW]; TILE];
        for j in 0..WINDOW {
            let mut m = [[0i32; LANES]; WINDOW];
            for i in 0..WINDOW {
                m[i] = from.add((i * WINDOW + j) * stride).cast::<[i32; LANES]>().read_unaligned();
            }
            let m = output_axis(m);
            for i in 0..TILE {
                t[i][j] = m[i];
            }
        }
        for i in 0..TILE {
            let m = output_axis(t[i]);
            for j in 0..TILE {
                // Four times the sum: nothing is lost.
                to.add((i * TILE + j) * step).cast::<[i32; LANES]>().write_unaligned(m[j].map(|v| v >> 2));
            }
        }
    }
}
