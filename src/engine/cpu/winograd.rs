//! 3x3 convolution by Winograd's minimal filtering: F(4x4, 3x3) does 36 multiplications where the definition does 144,
//! F(2x2, 3x3) 16 for 36. Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, arXiv
//! 1509.09308.
//!
//! In: a source map with a border of zeros. Out: what the direct convolution's epilogue writes. A task takes some rows
//! of output tiles: input transform of a block of channels, one small matrix product for each of the transformed
//! domain's points (the same register tiles as the direct convolution), output transform, epilogue. Nothing of the
//! transformed domain leaves the core's own cache.

use super::conv::{Epilogue, Panel, TileKernels, Tiles, finish, prefetch};
use super::lanes::Lanes;
use super::maps::View;
use super::tile::{Run, Tile};

/// Channels transformed at a time.
pub(crate) const BLOCK: usize = 64;

pub(crate) struct Winograd {
    /// Output (and source) size.
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) source: View,
    /// Output pixels of a tile along each axis: 2 or 4.
    pub(crate) tile: usize,
    /// Rows of tiles in a task.
    pub(crate) band: usize,
    /// First channel and number of channels of each block.
    pub(crate) blocks: Vec<(usize, usize)>,
    /// Panels; `weights` of each is where its first block's first point begins.
    pub(crate) panels: Vec<Panel>,
    pub(crate) epilogue: Epilogue,
    pub(crate) per_word: usize,
    pub(crate) kernels: &'static TileKernels,
}

impl Winograd {
    fn tiles(&self) -> (usize, usize) {
        (self.height.div_ceil(self.tile), self.width.div_ceil(self.tile))
    }

    pub(crate) fn tasks(&self) -> usize {
        self.tiles().0.div_ceil(self.band)
    }

    fn points(&self) -> usize {
        (self.tile + 2) * (self.tile + 2)
    }

    fn out(&self, lanes: usize) -> usize {
        self.panels.iter().map(|p| p.vectors * lanes).sum()
    }

    fn widest_block(&self) -> usize {
        self.blocks.iter().map(|b| b.1).max().unwrap_or(0)
    }

    /// f32 values: transformed input, transformed output, one tile's result.
    pub(crate) fn scratch(&self, lanes: usize) -> usize {
        let tiles = self.band * self.tiles().1;
        let out = self.out(lanes);
        self.points() * tiles * (self.widest_block() + out) + self.tile * self.tile * out + 64
    }
}

/// The matrix products of one block of channels, one for each point of the transformed domain.
pub(crate) struct Products {
    pub(crate) points: usize,
    /// Tiles of the task.
    pub(crate) tiles: usize,
    /// Of a tile at one point.
    pub(crate) words: usize,
    /// `[point][tile][word]`.
    pub(crate) source: *const u32,
    /// Words before this block in a panel's packed weights.
    pub(crate) weights_before: usize,
    /// Whether sums of earlier blocks are there to go on from.
    pub(crate) more: bool,
    /// `[point][tile][out]`, 32 bits each.
    pub(crate) sums: *mut f32,
    pub(crate) out: usize,
}

impl Products {
    /// # Safety
    /// Source, weights and sums are as long as the fields say; see [`Lanes`].
    #[inline(always)]
    pub(crate) unsafe fn run<L: Lanes>(&self, panels: &[Panel], kernels: &TileKernels) {
        // SAFETY: the caller's promise: source, weights and sums are as long as the fields say; tiles cut
        // them without a rest.
        unsafe {
            let run = Run { offset: 0, words: self.words };
            let mut column = 0;
            for panel in panels {
                let width = panel.vectors * L::COUNT;
                let tiles = Tiles::of(self.tiles, L::pixels(panel.vectors));
                for point in 0..self.points {
                    let source = self.source.add(point * self.tiles * self.words);
                    let weights = panel.weights.add((self.weights_before + point * self.words) * width);
                    for t in 0..tiles.count {
                        let (at, pixels) = tiles.at(t);
                        let sums = self.sums.add((point * self.tiles + at) * self.out + column);
                        let tile = Tile {
                            source: source.add(at * self.words),
                            step: self.words,
                            runs: &run,
                            run_count: 1,
                            weights,
                            start: if self.more { sums } else { std::ptr::null() },
                            sums,
                            sums_step: self.out,
                            two_words: false,
                        };
                        kernels[panel.vectors - 1][pixels - 1](&tile);
                    }
                }
                column += width;
            }
        }
    }
}

/// The kernel's transform, `G g Gᵀ`: `alpha²` values from nine.
pub(crate) fn transform_weights(tile: usize, g: &[f32], to: &mut [f32]) {
    const G2: [[f32; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];
    const G4: [[f32; 3]; 6] = [
        [0.25, 0.0, 0.0],
        [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
        [0.0, 0.0, 1.0],
    ];
    let rows: &[[f32; 3]] = if tile == 2 { &G2 } else { &G4 };
    let alpha = rows.len();
    for (i, left) in rows.iter().enumerate() {
        let mut row = [0.0; 3];
        for (x, value) in row.iter_mut().enumerate() {
            *value = left[0] * g[x] + left[1] * g[3 + x] + left[2] * g[6 + x];
        }
        for (j, right) in rows.iter().enumerate() {
            to[i * alpha + j] = right[0] * row[0] + right[1] * row[1] + right[2] * row[2];
        }
    }
}

/// `S` reads and multiplies what the source holds, `L` stores the result: on an integer path the source of this
/// algorithm is f32 all the same. Both have as many lanes.
///
/// # Safety
/// As for [`super::conv::task`].
#[inline(always)]
pub(crate) unsafe fn task<S: Lanes, L: Lanes>(w: &Winograd, task: usize, scratch: *mut f32) {
    const { assert!(S::COUNT == L::COUNT) }
    // SAFETY: the caller keeps the contract of `task`, which is that of `run`.
    unsafe {
        if w.tile == 2 { run::<S, L, 4, 2>(w, task, scratch) } else { run::<S, L, 6, 4>(w, task, scratch) }
    }
}

#[inline(always)]
unsafe fn run<S: Lanes, L: Lanes, const ALPHA: usize, const TILE: usize>(
    w: &Winograd,
    task: usize,
    scratch: *mut f32,
) {
    // SAFETY: the caller runs each task once, and on a processor with these instructions. A task's rows
    // are its own, and `scratch` has what `Winograd::scratch` asks for.
    unsafe {
        let (down, across) = w.tiles();
        let rows = task * w.band..((task + 1) * w.band).min(down);
        let count = rows.len() * across;
        let out = w.out(L::COUNT);
        let points = ALPHA * ALPHA;
        let transformed = scratch.cast::<S::Elem>();
        let sums = scratch.add(points * w.band * across * w.widest_block());
        let result = sums.add(points * w.band * across * out);

        let mut weights_before = 0;
        for (b, &(first, channels)) in w.blocks.iter().enumerate() {
            for (r, ty) in rows.clone().enumerate() {
                for tx in 0..across {
                    // What the tile after next brings that this one has not seen: farther than the processor looks.
                    let (y, x) = ((ty * TILE) as isize - 1, ((tx + 2) * TILE) as isize + 1);
                    if x < w.width as isize {
                        for i in 0..(ALPHA as isize).min(w.height as isize + 1 - y) {
                            prefetch::<S>(w.source.channel(first), y + i, x, TILE, channels);
                        }
                    }
                    let to = transformed.add((r * across + tx) * channels);
                    let mut c = 0;
                    while c < channels {
                        let n = (channels - c).min(L::COUNT);
                        input_tile::<S, ALPHA>(w, ty, tx, first + c, n, to.add(c), count * channels);
                        c += L::COUNT;
                    }
                }
            }
            let words = channels / w.per_word;
            let products = Products {
                points,
                tiles: count,
                words,
                source: transformed.cast_const().cast(),
                weights_before,
                more: b > 0,
                sums,
                out,
            };
            products.run::<S>(&w.panels, w.kernels);
            weights_before += points * words;
        }

        for (r, ty) in rows.enumerate() {
            for tx in 0..across {
                let from = sums.add((r * across + tx) * out);
                let mut c = 0;
                while c < out {
                    output_tile::<S, ALPHA, TILE>(from.add(c), count * out, result.add(c), out);
                    c += L::COUNT;
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

/// `Bᵀ d`: one axis of the input transform.
#[inline(always)]
unsafe fn input_axis<L: Lanes, const ALPHA: usize>(d: [L::Vector; ALPHA]) -> [L::Vector; ALPHA] {
    // SAFETY: arithmetic on vectors; the caller's processor has these instructions.
    unsafe {
        let mut t = d;
        if ALPHA == 4 {
            t[0] = L::sub(d[0], d[2]);
            t[1] = L::add(d[1], d[2]);
            t[2] = L::sub(d[2], d[1]);
            t[3] = L::sub(d[1], d[3]);
        } else {
            let (two, four, minus_four, minus_five) =
                (L::splat(2.0), L::splat(4.0), L::splat(-4.0), L::splat(-5.0));
            t[0] = L::fma(four, d[0], L::fma(minus_five, d[2], d[4]));
            let even = L::fma(minus_four, d[2], d[4]);
            let odd = L::fma(minus_four, d[1], d[3]);
            t[1] = L::add(even, odd);
            t[2] = L::sub(even, odd);
            let even = L::sub(d[4], d[2]);
            let odd = L::mul(two, L::sub(d[3], d[1]));
            t[3] = L::add(even, odd);
            t[4] = L::sub(even, odd);
            t[5] = L::fma(four, d[1], L::fma(minus_five, d[3], d[5]));
        }
        t
    }
}

/// `Bᵀ d B` of one tile's window, `n` channels from `c` on; points lie `stride` elements apart.
#[inline(always)]
unsafe fn input_tile<L: Lanes, const ALPHA: usize>(
    w: &Winograd,
    ty: usize,
    tx: usize,
    c: usize,
    n: usize,
    to: *mut L::Elem,
    stride: usize,
) {
    // SAFETY: what lies beyond the source's border of one pixel is left out, and `to` has a point every
    // `stride` elements.
    unsafe {
        let (y, x) = ((ty * w.tile) as isize - 1, (tx * w.tile) as isize - 1);
        // Beyond the border of zeros lies something else.
        let (deep, wide) = (w.height as isize + 1 - y, w.width as isize + 1 - x);
        let whole = deep >= ALPHA as isize && wide >= ALPHA as isize && n == L::COUNT;
        let first = w.source.at::<L::Elem>(y, x).cast_const().add(c);
        let (row, pixel) = (w.source.row, w.source.pixel);
        let mut t = [[L::zero(); ALPHA]; ALPHA];
        for j in 0..ALPHA {
            let mut d = [L::zero(); ALPHA];
            for i in 0..ALPHA {
                if whole {
                    d[i] = L::read(first.add(i * row + j * pixel));
                } else if (i as isize) < deep && (j as isize) < wide {
                    d[i] = L::read_part(first.add(i * row + j * pixel), n);
                }
            }
            let d = input_axis::<L, ALPHA>(d);
            for i in 0..ALPHA {
                t[i][j] = d[i];
            }
        }
        for i in 0..ALPHA {
            let d = input_axis::<L, ALPHA>(t[i]);
            for j in 0..ALPHA {
                let to = to.add((i * ALPHA + j) * stride);
                if n == L::COUNT {
                    L::write(to, d[j]);
                } else {
                    L::write_part(to, d[j], n);
                }
            }
        }
    }
}

/// `Aᵀ m`: one axis of the output transform.
#[inline(always)]
unsafe fn output_axis<L: Lanes, const ALPHA: usize, const TILE: usize>(
    m: [L::Vector; ALPHA],
) -> [L::Vector; TILE] {
    // SAFETY: arithmetic on vectors; the caller's processor has these instructions.
    unsafe {
        let mut t = [L::zero(); TILE];
        let (sum, difference) = (L::add(m[1], m[2]), L::sub(m[1], m[2]));
        if ALPHA == 4 {
            t[0] = L::add(m[0], sum);
            t[1] = L::sub(difference, m[3]);
        } else {
            let (sum2, difference2) = (L::add(m[3], m[4]), L::sub(m[3], m[4]));
            t[0] = L::add(L::add(m[0], sum), sum2);
            t[1] = L::fma(L::splat(2.0), difference2, difference);
            t[2] = L::fma(L::splat(4.0), sum2, sum);
            t[3] = L::add(L::fma(L::splat(8.0), difference2, difference), m[5]);
        }
        t
    }
}

/// `Aᵀ m A`: `TILE²` pixels, `step` apart, from points that lie `stride` apart.
#[inline(always)]
unsafe fn output_tile<L: Lanes, const ALPHA: usize, const TILE: usize>(
    from: *const f32,
    stride: usize,
    to: *mut f32,
    step: usize,
) {
    // SAFETY: `from` has a point every `stride` values, `to` a pixel every `step`, each with a whole
    // vector.
    unsafe {
        let mut t = [[L::zero(); ALPHA]; TILE];
        for j in 0..ALPHA {
            let mut m = [L::zero(); ALPHA];
            for i in 0..ALPHA {
                m[i] = L::load(from.add((i * ALPHA + j) * stride));
            }
            let m = output_axis::<L, ALPHA, TILE>(m);
            for i in 0..TILE {
                t[i][j] = m[i];
            }
        }
        for i in 0..TILE {
            let m = output_axis::<L, ALPHA, TILE>(t[i]);
            for j in 0..TILE {
                L::store(to.add((i * TILE + j) * step), m[j]);
            }
        }
    }
}
