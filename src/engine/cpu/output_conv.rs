//! The last convolution: 3x3, straight into planes of f32.
//!
//! In: a decoder map with a border of zeros. Out: `[classes, height, width]` f32.

use super::conv::Plane;
use super::lanes::Lanes;
use super::maps::View;

/// The last convolution, 3x3 to one map a class.
pub(crate) struct OutputConv {
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

// SAFETY: packed weights are written while the plan is built and only read afterwards; the map and the plane belong to
// the plan, whose waves decide who touches them when.
unsafe impl Send for OutputConv {}
// SAFETY: packed weights are only read, and waves end before what they wrote to map or plane is read by
// another thread.
unsafe impl Sync for OutputConv {}

impl OutputConv {
    /// A task is a row.
    pub(crate) fn tasks(&self) -> usize {
        self.height
    }
}

/// # Safety
/// As for [`super::conv::task`].
#[inline(always)]
pub(crate) unsafe fn output_conv<L: Lanes>(conv: &OutputConv, y: usize) {
    // SAFETY: the caller runs each row once, and on a processor with these instructions. The source has a
    // border of one pixel, the weights nine taps a class, and the row of the plane is this task's.
    unsafe {
        for class in 0..conv.bias.len() {
            let out = conv.out.start.add((class * conv.height + y) * conv.width);
            let weights = conv.weights.add(class * 9 * conv.words);
            for x in 0..conv.width {
                let mut sums = [L::no_sums(); 3];
                for ky in 0..3 {
                    // Three pixels side by side are contiguous: the map is dense.
                    let row = conv.source.at::<L::Elem>(y as isize + ky as isize - 1, x as isize - 1);
                    let row = row.cast_const().cast::<u32>();
                    let weights = weights.add(ky * 3 * conv.words);
                    let mut k = 0;
                    while k < 3 * conv.words {
                        sums[ky] = L::dot(sums[ky], L::words(row.add(k)), L::words(weights.add(k)));
                        k += L::COUNT;
                    }
                }
                let sums = sums.map(|s| L::summed(s));
                let sum = L::sum(L::add(L::add(sums[0], sums[1]), sums[2]));
                *out.add(x) = sum * conv.scale[class] + conv.bias[class];
            }
        }
    }
}
