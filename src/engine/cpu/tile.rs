//! The register tile: a few pixels times a few vectors of output channels, accumulated over one or more runs of words.
//!
//! In: words of activations at equal distances (one pixel after another), packed weights. Out: raw f32 sums.
//! Every convolution of this engine spends its time here.

use super::lanes::Dot;

/// A stretch of the reduction that is contiguous in memory for every pixel: one tap's channels, or a row of taps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Words from the pixel's own address to the first one.
    pub(crate) offset: isize,
    pub(crate) words: usize,
}

/// One register tile's work.
pub(crate) struct Tile {
    /// The first pixel's own address in the source.
    pub(crate) source: *const u32,
    /// Words to the next pixel.
    pub(crate) step: usize,
    pub(crate) runs: *const Run,
    pub(crate) run_count: usize,
    /// `[word][vectors · lanes]`, in the order of the runs.
    pub(crate) weights: *const u32,
    /// Sums to start from, laid out as `sums`; null starts from zero.
    pub(crate) start: *const f32,
    /// `[pixel][sums_step]`.
    pub(crate) sums: *mut f32,
    pub(crate) sums_step: usize,
    /// Whether [`Dot::dot2`] may be used: see `quantise`.
    pub(crate) two_words: bool,
}

/// A compiled tile of some number of pixels and vectors.
pub(crate) type TileKernel = unsafe fn(&Tile);

/// # Safety
/// Every pointer of the tile is valid for what it names; see [`super::lanes::Lanes`] for processor features.
#[inline(always)]
pub(crate) unsafe fn accumulate<L: Dot, const PIXELS: usize, const VECTORS: usize>(tile: &Tile) {
    // SAFETY: the caller's promise: every pointer of the tile is valid for what its field says, and the
    // processor has these instructions.
    unsafe {
        let width = VECTORS * L::LANES;
        let mut sums = [[L::no_sums(); VECTORS]; PIXELS];
        if !tile.start.is_null() {
            for p in 0..PIXELS {
                for v in 0..VECTORS {
                    sums[p][v] = L::load_sums(tile.start.add(p * tile.sums_step + v * L::LANES));
                }
            }
        }
        let mut weights = tile.weights;
        for r in 0..tile.run_count {
            let run = &*tile.runs.add(r);
            let first = tile.source.offset(run.offset);
            let mut pixels = [first; PIXELS];
            for p in 1..PIXELS {
                pixels[p] = first.add(p * tile.step);
            }
            let mut k = 0;
            while L::PAIRED && tile.two_words && k + 1 < run.words {
                let mut w = [[L::words(weights), L::words(weights.add(width))]; VECTORS];
                for v in 1..VECTORS {
                    let second = weights.add(width + v * L::LANES);
                    w[v] = [L::words(weights.add(v * L::LANES)), L::words(second)];
                }
                for p in 0..PIXELS {
                    let x = [L::splat_word(pixels[p].add(k)), L::splat_word(pixels[p].add(k + 1))];
                    for v in 0..VECTORS {
                        sums[p][v] = L::dot2(sums[p][v], x, w[v]);
                    }
                }
                weights = weights.add(2 * width);
                k += 2;
            }
            while k < run.words {
                let mut w = [L::words(weights); VECTORS];
                for v in 1..VECTORS {
                    w[v] = L::words(weights.add(v * L::LANES));
                }
                for p in 0..PIXELS {
                    let x = L::splat_word(pixels[p].add(k));
                    for v in 0..VECTORS {
                        sums[p][v] = L::dot(sums[p][v], x, w[v]);
                    }
                }
                weights = weights.add(width);
                k += 1;
            }
        }
        for p in 0..PIXELS {
            for v in 0..VECTORS {
                L::store_sums(tile.sums.add(p * tile.sums_step + v * L::LANES), sums[p][v]);
            }
        }
    }
}
