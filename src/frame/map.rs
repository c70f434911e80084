//! The maps a network gives: how large they are, and what was found in one.
//!
//! In: nothing. Out: the words that engines, post-processing and those who wrap a network share.

/// Size of a network's input and number of its output maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Pixels; multiples of 32.
    pub height: usize,
    pub width: usize,
    pub classes: usize,
}

impl Shape {
    pub const fn input_len(&self) -> usize {
        3 * self.height * self.width
    }

    pub const fn logits_len(&self) -> usize {
        self.classes * self.height * self.width
    }
}

/// Rectangle of pixels that may be inside: `left..right`, `top..bottom`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    pub left: usize,
    pub top: usize,
    pub right: usize,
    pub bottom: usize,
}

impl Extent {
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
