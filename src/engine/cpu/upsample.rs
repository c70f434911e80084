//! The logits: the last planes resized to the network's input.
//!
//! In: planes of f32. Out: `[classes, height, width]` in the caller's memory.

use super::conv::Plane;
use super::resize::Axis;

/// Resizes the last planes into the caller's logits.
pub(crate) struct Upsample {
    /// Size of the logits.
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) classes: usize,
    pub(crate) source: Plane,
    pub(crate) source_height: usize,
    pub(crate) vertical: Axis,
    pub(crate) horizontal: Axis,
}

impl Upsample {
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
pub(crate) unsafe fn upsample(upsample: &Upsample, task: usize, logits: *mut f32, scratch: *mut f32) {
    // SAFETY: the caller's promise: `logits` has room for every class. An axis names pixels inside the
    // source, `scratch` has a row of it, and the rows of a task are its own.
    unsafe {
        let (class, band) = (task / upsample.bands(), task % upsample.bands());
        let (w, from) = (
            upsample.source.width,
            upsample.source.start.add(class * upsample.source_height * upsample.source.width),
        );
        let top = band * Upsample::BAND;
        for y in top..(top + Upsample::BAND).min(upsample.height) {
            let (y0, y1, fy) = upsample.vertical.at(y);
            let (upper, lower) = (from.add(y0 as usize * w), from.add(y1 as usize * w));
            for x in 0..w {
                *scratch.add(x) = *upper.add(x) * (1.0 - fy) + *lower.add(x) * fy;
            }
            let out = logits.add((class * upsample.height + y) * upsample.width);
            for x in 0..upsample.width {
                let (x0, x1, fx) = upsample.horizontal.at(x);
                *out.add(x) = *scratch.add(x0 as usize) * (1.0 - fx) + *scratch.add(x1 as usize) * fx;
            }
        }
    }
}

/// Fills a task's logits with one value.
///
/// # Safety
/// As for [`upsample`].
pub(crate) unsafe fn fill(upsample: &Upsample, task: usize, logits: *mut f32, value: f32) {
    let (class, band) = (task / upsample.bands(), task % upsample.bands());
    let top = band * Upsample::BAND;
    let rows = top..(top + Upsample::BAND).min(upsample.height);
    let first = (class * upsample.height + rows.start) * upsample.width;
    // SAFETY: `logits` has room for every class, and this task's rows are nobody else's (the caller's promise).
    unsafe { std::slice::from_raw_parts_mut(logits.add(first), rows.len() * upsample.width) }.fill(value);
}
