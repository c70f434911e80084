//! Convolution with everything around it fused: scale and bias (batch-norm), residual, ReLU, the next split's addend,
//! the channel sum of a subtraction unit, and output straight into slices of other maps.
//!
//! In: one or two source maps. Out: slices of destination maps. Weights are packed by [`super::pack`].
//!
//! The reduction over taps and channels is cut into *passes* whose packed weights stay in the second-level cache, the
//! output channels into *panels* as wide as a register tile, the output rows into *bands*. A task is one band of one
//! group of panels.

use std::ops::Range;

use super::access;
use super::lanes::Lanes;
use super::maps::View;
use super::tile::{Run, Tile, TileKernel};

/// Words of a pass at most: with 64 output channels, 256 KiB of packed weights.
pub(crate) const PASS_WORDS: usize = 1024;

/// Part of the reduction: one source map, some of its taps and channels.
pub(crate) struct Pass {
    pub(crate) source: View,
    /// Source pixels from one output pixel to the next.
    pub(crate) stride: usize,
    /// Elements of the source in a word.
    pub(crate) per_word: usize,
    pub(crate) runs: Vec<Run>,
    /// Words before this pass in a panel's packed weights.
    pub(crate) words_before: usize,
    /// Factor of each output channel for everything summed so far, once this pass is through.
    pub(crate) rescale: Option<Vec<f32>>,
}

/// Output channels computed together.
#[derive(Clone, Copy)]
pub(crate) struct Panel {
    /// First output channel.
    pub(crate) first: usize,
    pub(crate) vectors: usize,
    /// `[word][vectors · lanes]`.
    pub(crate) weights: *const u32,
}

// SAFETY: packed weights are written while the plan is built and only read afterwards.
unsafe impl Send for Panel {}
// SAFETY: packed weights are written while the plan is built and only read afterwards, from any thread.
unsafe impl Sync for Panel {}

/// Where some output channels go.
#[derive(Clone, Copy)]
pub(crate) struct Out {
    pub(crate) channels: (usize, usize),
    /// Points at the place of channel `channels.0`.
    pub(crate) view: View,
}

/// `out = result + add`, besides the result itself.
#[derive(Clone, Copy)]
pub(crate) struct Also {
    pub(crate) add: View,
    pub(crate) out: View,
}

/// One f32 a pixel.
#[derive(Clone, Copy)]
pub(crate) struct Plane {
    pub(crate) start: *mut f32,
    pub(crate) width: usize,
}

// SAFETY: a plane points into a block, which is plain memory; who may touch it when is the plan's business: waves end
// before what they wrote is read.
unsafe impl Send for Plane {}
// SAFETY: a plane points into a block, which is plain memory; waves end before what they wrote is read by
// another thread.
unsafe impl Sync for Plane {}

/// What happens to a finished sum.
pub(crate) struct Epilogue {
    pub(crate) channels: usize,
    /// Per output channel, padded to whole vectors.
    pub(crate) scale: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    /// Added before the ReLU.
    pub(crate) residual: Option<View>,
    pub(crate) relu: bool,
    /// May be empty where only `also` is wanted.
    pub(crate) outs: Vec<Out>,
    pub(crate) also: Option<Also>,
    /// Sum over all channels.
    pub(crate) sum: Option<Plane>,
    /// Scales of what is added and written, for paths whose storage has scales.
    pub(crate) factors: Factors,
}

/// What turns steps of one map's scale into steps of another's. The epilogue's own scale and bias give steps of the
/// result's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Factors {
    /// From the residual's to the result's.
    pub(crate) residual: f32,
    /// From the result's and from the addend's to those of `also`.
    pub(crate) result: f32,
    pub(crate) add: f32,
    /// From the result's to the plane's, which has none.
    pub(crate) sum: f32,
    /// Whether sums are integers: they are where the source is.
    pub(crate) integer: bool,
    /// Whether the result is stored as integers, so that the plane sums what is stored.
    pub(crate) stored: bool,
    /// Whether the weights are so small that products of two words may be summed in 16 bits.
    pub(crate) two_words: bool,
}

impl Default for Factors {
    fn default() -> Self {
        Self {
            residual: 1.0,
            result: 1.0,
            add: 1.0,
            sum: 1.0,
            integer: false,
            stored: false,
            two_words: false,
        }
    }
}

/// A fused convolution, ready to run.
pub(crate) struct Conv {
    /// Output rows and columns.
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) passes: Vec<Pass>,
    pub(crate) panels: Vec<Panel>,
    pub(crate) epilogue: Epilogue,
    /// Rows of a band.
    pub(crate) band: usize,
    pub(crate) groups: Vec<Range<usize>>,
    /// The source is too large to be near: ask for the next tile's pixels while this one is computed.
    pub(crate) far: bool,
    /// `[vectors - 1][pixels - 1]`.
    pub(crate) kernels: &'static TileKernels,
}

/// Compiled register tiles by vectors and pixels, both counted from one.
pub(crate) type TileKernels = [[TileKernel; 12]; 4];

impl Conv {
    fn bands(&self) -> usize {
        self.height.div_ceil(self.band)
    }

    pub(crate) fn tasks(&self) -> usize {
        self.bands() * self.groups.len()
    }

    /// f32 values a task needs for itself.
    pub(crate) fn scratch(&self, lanes: usize) -> usize {
        let widest = self
            .groups
            .iter()
            .map(|g| self.panels[g.clone()].iter().map(|p| p.vectors * lanes).sum::<usize>())
            .max()
            .unwrap_or(0);
        if self.by_tile() { 12 * widest } else { self.band * self.width * widest }
    }

    /// Whether a register tile is finished at once: one pass, and no epilogue that wants every channel of a pixel.
    fn by_tile(&self) -> bool {
        self.passes.len() == 1 && (self.epilogue.sum.is_none() || self.panels.len() == 1)
    }
}

/// # Safety
/// Task numbers of one convolution run at most once at a time; views and weights are valid; see [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn task<L: Lanes>(conv: &Conv, task: usize, scratch: *mut f32) {
    // SAFETY: the caller runs each task once, and on a processor with these instructions. A task touches
    // the rows and channels of its number alone, and `scratch` has what `Conv::scratch` asks for.
    unsafe {
        let bands = conv.bands();
        let group = conv.groups[task / bands].clone();
        let top = (task % bands) * conv.band;
        let rows = top..(top + conv.band).min(conv.height);
        if conv.by_tile() {
            let pass = &conv.passes[0];
            for (i, panel) in conv.panels[group].iter().enumerate() {
                let width = panel.vectors * L::COUNT;
                let tiles = Tiles::of(conv.width, L::pixels(panel.vectors));
                for y in rows.clone() {
                    for t in 0..tiles.count {
                        let (x, pixels) = tiles.at(t);
                        if let Some(residual) = conv.epilogue.residual {
                            let residual = residual.channel(panel.first);
                            prefetch::<L>(residual, y as isize, x as isize, pixels, width);
                        }
                        if i == 0 && conv.far {
                            // Later panels find these pixels in the cache.
                            let (y, t) = if t + 1 < tiles.count { (y, t + 1) } else { (y + 1, 0) };
                            if y < rows.end {
                                let (x, pixels) = tiles.at(t);
                                let words: usize = pass.runs.iter().map(|r| r.words).sum();
                                let step = pass.stride;
                                let (y, x) = ((y * step) as isize, (x * step) as isize);
                                prefetch::<L>(pass.source, y, x, pixels * step, words * pass.per_word);
                            }
                        }
                        run_tile::<L>(conv, pass, panel, y, x, pixels, std::ptr::null(), scratch, width);
                        finish::<L>(&conv.epilogue, y, x, pixels, scratch, width, panel.first, width);
                    }
                }
            }
            return;
        }
        let panels = &conv.panels[group];
        let first = panels[0].first;
        let step = panels.iter().map(|p| p.vectors * L::COUNT).sum::<usize>();
        for panel in panels {
            for (i, pass) in conv.passes.iter().enumerate() {
                for y in rows.clone() {
                    let row = scratch.add((y - top) * conv.width * step + (panel.first - first));
                    let tiles = Tiles::of(conv.width, L::pixels(panel.vectors));
                    for t in 0..tiles.count {
                        let (x, pixels) = tiles.at(t);
                        let sums = row.add(x * step);
                        let start = if i == 0 { std::ptr::null() } else { sums.cast_const() };
                        run_tile::<L>(conv, pass, panel, y, x, pixels, start, sums, step);
                        if let Some(factors) = &pass.rescale {
                            for p in 0..pixels {
                                for c in (0..panel.vectors * L::COUNT).step_by(L::COUNT) {
                                    let at = sums.add(p * step + c);
                                    let factor = L::load(factors.as_ptr().add(panel.first + c));
                                    L::store(at, L::mul(L::load(at), factor));
                                }
                            }
                        }
                    }
                }
            }
        }
        for y in rows {
            let row = scratch.add((y - top) * conv.width * step);
            finish::<L>(&conv.epilogue, y, 0, conv.width, row, step, first, step);
        }
    }
}

/// Asks for `channels` channels of some pixels of a row.
#[inline(always)]
pub(crate) unsafe fn prefetch<L: Lanes>(view: View, y: isize, x: isize, pixels: usize, channels: usize) {
    // SAFETY: a prefetch reads nothing: any address will do.
    unsafe {
        let first = view.bytes_at(y, x);
        let (pixel, length) = (view.pixel * view.storage().bytes(), channels * view.storage().bytes());
        for p in 0..pixels {
            let mut line = 0;
            while line < length {
                L::prefetch(first.wrapping_add(p * pixel + line));
                line += 64;
            }
        }
    }
}

/// A row cut into tiles of nearly equal size.
pub(crate) struct Tiles {
    pub(crate) count: usize,
    each: usize,
    longer: usize,
}

impl Tiles {
    #[inline(always)]
    pub(crate) fn of(width: usize, most: usize) -> Self {
        let count = width.div_ceil(most);
        Self { count, each: width / count, longer: width % count }
    }

    /// First pixel and number of pixels.
    #[inline(always)]
    pub(crate) fn at(&self, t: usize) -> (usize, usize) {
        (t * self.each + t.min(self.longer), self.each + usize::from(t < self.longer))
    }
}

#[inline(always)]
unsafe fn run_tile<L: Lanes>(
    conv: &Conv,
    pass: &Pass,
    panel: &Panel,
    y: usize,
    x: usize,
    pixels: usize,
    start: *const f32,
    sums: *mut f32,
    sums_step: usize,
) {
    // SAFETY: the caller's pixels lie in the source with its border, the panel's weights are as long as
    // the pass's words, and `start` and `sums` have a row for each pixel.
    unsafe {
        let (y, x) = ((y * pass.stride) as isize, (x * pass.stride) as isize);
        let tile = Tile {
            source: pass.source.bytes_at(y, x).cast(),
            step: pass.source.pixel * pass.stride / pass.per_word,
            runs: pass.runs.as_ptr(),
            run_count: pass.runs.len(),
            weights: panel.weights.add(pass.words_before * panel.vectors * L::COUNT),
            start,
            sums,
            sums_step,
            two_words: conv.epilogue.factors.two_words,
        };
        conv.kernels[panel.vectors - 1][pixels - 1](&tile);
    }
}

/// Finishes `pixels` pixels of row `y` from column `x` on: `sums` holds `width` channels of each, from `first` on.
///
/// # Safety
/// As for [`task`]; `sums` is overwritten.
#[inline(always)]
pub(crate) unsafe fn finish<L: Lanes>(
    e: &Epilogue,
    y: usize,
    x: usize,
    pixels: usize,
    sums: *mut f32,
    step: usize,
    first: usize,
    width: usize,
) {
    // SAFETY: the caller is a task of this convolution: its pixels and channels are its own, `sums` has
    // them all, and scale and bias are padded to whole vectors.
    unsafe {
        let (y, x) = (y as isize, x as isize);
        let end = (first + width).min(e.channels);
        let (scale, bias, f) = (e.scale.as_ptr(), e.bias.as_ptr(), &e.factors);
        let zero = L::zero();
        let simple = e.outs.len() == 1 && e.also.is_none() && e.sum.is_none();
        for p in 0..pixels {
            let sums = sums.add(p * step);
            let px = x + p as isize;
            let residual = e.residual.as_ref().map(|view| access::pixel::<L>(view, y, px));
            let only = e.outs.first().map(|out| access::pixel::<L>(&out.view, y, px));
            let mut c = first;
            while c < end {
                let n = (end - c).min(L::COUNT);
                let at = sums.add(c - first);
                let total = if L::SCALED && f.integer { L::summed(L::load_sums(at)) } else { L::load(at) };
                let mut v = L::fma(total, L::load(scale.add(c)), L::load(bias.add(c)));
                if let Some(r) = residual {
                    let r = if n == L::COUNT { r.read::<L>(c) } else { r.read_part::<L>(c, n) };
                    v = if L::SCALED { L::fma(r, L::splat(f.residual), v) } else { L::add(v, r) };
                }
                if e.relu {
                    // In this order a NaN stays a NaN.
                    v = L::max(zero, v);
                }
                match only {
                    Some(only) if simple && n == L::COUNT => only.write::<L>(c, v),
                    Some(only) if simple => only.write_part::<L>(c, v, n),
                    _ => L::store(sums.add(c - first), if L::SCALED && f.stored { L::stored(v) } else { v }),
                }
                c += L::COUNT;
            }
            if simple {
                continue;
            }
            for out in &e.outs {
                let (from, to) = (out.channels.0.max(first), out.channels.1.min(end));
                if from < to {
                    let target = access::pixel::<L>(&out.view, y, px);
                    spread::<L>(sums.add(from - first), target, from - out.channels.0, to - from);
                }
            }
            if let Some(also) = &e.also {
                let add = access::pixel::<L>(&also.add, y, px);
                let out = access::pixel::<L>(&also.out, y, px);
                for c in (0..end - first).step_by(L::COUNT) {
                    let n = (end - first - c).min(L::COUNT);
                    let (result, add) = (L::load(sums.add(c)), add.read_part::<L>(first + c, n));
                    let v = if L::SCALED {
                        L::fma(result, L::splat(f.result), L::mul(add, L::splat(f.add)))
                    } else {
                        L::add(result, add)
                    };
                    out.write_part::<L>(first + c, v, n);
                }
            }
            if let Some(plane) = &e.sum {
                let mut total = zero;
                for c in (0..end - first).step_by(L::COUNT) {
                    total = L::add(total, L::load_part(sums.add(c), end - first - c));
                }
                let total = if L::SCALED { L::sum(total) * f.sum } else { L::sum(total) };
                *plane.start.add(y as usize * plane.width + px as usize) = total;
            }
        }
    }
}

/// `count` values of f32 to storage.
#[inline(always)]
unsafe fn spread<L: Lanes>(from: *const f32, to: access::Pixel, first: usize, count: usize) {
    // SAFETY: the caller is a task that owns these channels of the pixel, and `from` has `count` values.
    unsafe {
        let mut c = 0;
        while c + L::COUNT <= count {
            to.write::<L>(first + c, L::load(from.add(c)));
            c += L::COUNT;
        }
        if c < count {
            to.write_part::<L>(first + c, L::load_part(from.add(c), count - c), count - c);
        }
    }
}
