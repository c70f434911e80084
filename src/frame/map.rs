//! The maps a network gives: how large they are, and what was found in one.
//!
//! In: nothing. Out: the words that engines, post-processing and those who wrap a network share.

/// Size of a network's input and number of its output maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Pixels; multiples of 32.
    pub height: usize,
    /// Pixels in a row; a multiple of 32.
    pub width: usize,
    /// Number of output maps, one a class.
    pub classes: usize,
}

impl Shape {
    /// Values of the input, `[3, height, width]`.
    pub const fn input_len(&self) -> usize {
        3 * self.height * self.width
    }

    /// Values of the output, `[classes, height, width]`.
    pub const fn logits_len(&self) -> usize {
        self.classes * self.height * self.width
    }
}

/// Rectangle of pixels that may be inside: `left..right`, `top..bottom`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// One past the last column.
    pub right: usize,
    /// One past the last row.
    pub bottom: usize,
}

impl Extent {
    /// Whether no pixel is inside.
    pub fn is_empty(&self) -> bool {
        self.left >= self.right || self.top >= self.bottom
    }
}

/// What one map was found to hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Pixels that reach the level.
    pub area: u64,
    /// Largest value of the enlarged map.
    pub top: f32,
    /// Smallest rectangle around all pixels that reach the level; empty if there are none.
    pub extent: Extent,
}
