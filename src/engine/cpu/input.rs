//! The network's input: normalised planes into the map that the stem reads.
//!
//! In: `[3, height, width]` f32. Out: a map `[height][width][4]` in f32 with a border of zeros.

use super::maps::View;

/// Channels of the map the stem reads: R, G, B and a zero.
pub(crate) const INPUT_CHANNELS: usize = 4;

/// Interleaves the caller's planes into a map with a border.
pub(crate) struct Input {
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// f32 at any precision.
    pub(crate) out: View,
}

impl Input {
    const BAND: usize = 8;

    pub(crate) fn tasks(&self) -> usize {
        self.height.div_ceil(Self::BAND)
    }
}

/// # Safety
/// `input` holds `3 · height · width` values; else as for [`super::conv::task`].
#[inline(always)]
pub(crate) unsafe fn enter(map: &Input, task: usize, input: *const f32) {
    // SAFETY: the caller's promise: `input` has three planes. The rows of a task are its own, and each has
    // room for `width` pixels.
    unsafe {
        let plane = map.height * map.width;
        let top = task * Input::BAND;
        for y in top..(top + Input::BAND).min(map.height) {
            let out = map.out.at::<f32>(y as isize, 0);
            let row = input.add(y * map.width);
            for x in 0..map.width {
                let pixel = [*row.add(x), *row.add(plane + x), *row.add(2 * plane + x), 0.0];
                out.add(x * INPUT_CHANNELS).cast::<[f32; INPUT_CHANNELS]>().write(pixel);
            }
        }
    }
}

/// Whether everything a task brought in is a finite number.
///
/// # Safety
/// As for [`enter`].
pub(crate) unsafe fn is_finite(map: &Input, task: usize, input: *const f32) -> bool {
    let plane = map.height * map.width;
    let top = task * Input::BAND;
    let rows = top..(top + Input::BAND).min(map.height);
    (0..3).all(|c| {
        // SAFETY: `input` holds three planes, the rows lie in each of them (the caller's promise).
        let values = unsafe {
            std::slice::from_raw_parts(input.add(c * plane + rows.start * map.width), rows.len() * map.width)
        };
        // A number times zero is zero; NaN and infinity times zero are NaN, which a sum keeps.
        values.iter().map(|v| v * 0.0).sum::<f32>() == 0.0
    })
}
