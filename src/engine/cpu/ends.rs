//! Both ends of the network: normalised planes in, logits out.
//!
//! In: `[3, height, width]` f32, or 64 channels of the decoder. Out: the stem's first map, or `[classes, height, width]` f32.

use super::conv::Plane;
use super::lanes::Lanes;
use super::maps::View;
use super::resize::Axis;

/// Channels of the map the stem reads: R, G, B and a zero.
pub(crate) const INPUT_CHANNELS: usize = 4;

/// Interleaves the caller's planes into a map with a border.
pub(crate) struct Entry {
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// f32 at any precision.
    pub(crate) out: View,
}

impl Entry {
    const BAND: usize = 8;

    pub(crate) fn tasks(&self) -> usize {
        self.height.div_ceil(Self::BAND)
    }
}

/// # Safety
/// `input` holds `3 · height · width` values; else as for [`super::conv::task`].
#[inline(always)]
pub(crate) unsafe fn enter(entry: &Entry, task: usize, input: *const f32) {
    unsafe {
        let plane = entry.height * entry.width;
        let top = task * Entry::BAND;
        for y in top..(top + Entry::BAND).min(entry.height) {
            let out = entry.out.at::<f32>(y as isize, 0);
            let row = input.add(y * entry.width);
            for x in 0..entry.width {
                let pixel = [*row.add(x), *row.add(plane + x), *row.add(2 * plane + x), 0.0];
                out.add(x * INPUT_CHANNELS).cast::<[f32; INPUT_CHANNELS]>().write(pixel);
            }
        }
    }
}

/// The last convolution, 3x3 to one map a class.
pub(crate) struct Last {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) source: View,
    /// Words of a pixel: a multiple of every vector's lanes.
    pub(crate) words: usize,
    /// `[class][tap][word]`.
    pub(crate) weights: *const u32,
    /// Per class.
    pub(crate) scale: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    /// One after another, `height · width` each.
    pub(crate) out: Plane,
}

// SAFETY: as for panels.
unsafe impl Send for Last {}
unsafe impl Sync for Last {}

impl Last {
    /// A task is a row.
    pub(crate) fn tasks(&self) -> usize {
        self.height
    }
}

/// # Safety
/// As for [`super::conv::task`].
#[inline(always)]
pub(crate) unsafe fn last<L: Lanes>(last: &Last, y: usize) {
    unsafe {
        for class in 0..last.bias.len() {
            let out = last.out.start.add((class * last.height + y) * last.width);
            let weights = last.weights.add(class * 9 * last.words);
            for x in 0..last.width {
                let mut sums = [L::zero(); 3];
                for ky in 0..3 {
                    // Three pixels side by side are contiguous: the map is dense.
                    let row = last.source.at::<L::Elem>(y as isize + ky as isize - 1, x as isize - 1);
                    let row = row.cast_const().cast::<u32>();
                    let weights = weights.add(ky * 3 * last.words);
                    let mut k = 0;
                    while k < 3 * last.words {
                        sums[ky] = L::dot(sums[ky], L::words(row.add(k)), L::words(weights.add(k)));
                        k += L::COUNT;
                    }
                }
                let sum = L::sum(L::add(L::add(sums[0], sums[1]), sums[2]));
                *out.add(x) = sum * last.scale[class] + last.bias[class];
            }
        }
    }
}

/// Resizes the last planes into the caller's logits.
pub(crate) struct Exit {
    /// Size of the logits.
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) classes: usize,
    pub(crate) source: Plane,
    pub(crate) source_height: usize,
    pub(crate) vertical: Axis,
    pub(crate) horizontal: Axis,
}

impl Exit {
    const BAND: usize = 8;

    fn bands(&self) -> usize {
        self.height.div_ceil(Self::BAND)
    }

    pub(crate) fn tasks(&self) -> usize {
        self.classes * self.bands()
    }

    /// f32 values a task needs for itself.
    pub(crate) fn scratch(&self) -> usize {
        self.source.width
    }
}

/// # Safety
/// `logits` has room for every class; else as for [`super::conv::task`].
#[inline(always)]
pub(crate) unsafe fn exit(exit: &Exit, task: usize, logits: *mut f32, scratch: *mut f32) {
    unsafe {
        let (class, band) = (task / exit.bands(), task % exit.bands());
        let (w, from) =
            (exit.source.width, exit.source.start.add(class * exit.source_height * exit.source.width));
        let top = band * Exit::BAND;
        for y in top..(top + Exit::BAND).min(exit.height) {
            let (y0, y1, fy) = exit.vertical.at(y);
            let (upper, lower) = (from.add(y0 as usize * w), from.add(y1 as usize * w));
            for x in 0..w {
                *scratch.add(x) = *upper.add(x) * (1.0 - fy) + *lower.add(x) * fy;
            }
            let out = logits.add((class * exit.height + y) * exit.width);
            for x in 0..exit.width {
                let (x0, x1, fx) = exit.horizontal.at(x);
                *out.add(x) = *scratch.add(x0 as usize) * (1.0 - fx) + *scratch.add(x1 as usize) * fx;
            }
        }
    }
}
