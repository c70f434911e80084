//! The network, ready to run: normalised pixels in, logits out.
//!
//! In: one frame of normalised RGB planes. Out: one map of logits per class at the same size.
//! [`Reference`] runs the plain candle model and is what faster engines are measured against; [`cpu`] is the fused engine
//! for processors; [`open`] chooses.

mod choice;
pub mod cpu;
mod reference;

pub use choice::{DeviceChoice, Options, Precision, open, open_cpu};
pub use reference::Reference;

use crate::Result;

/// A network built for one device, precision and input size.
///
/// Owned by one thread (the one that owns the device).
pub trait Network: Send {
    /// What it takes and gives.
    fn shape(&self) -> Shape;

    /// Runs one frame: `input` is `[3, height, width]` normalised R, G, B planes; `logits` is `[classes, height, width]`.
    ///
    /// # Errors
    /// Whatever the device says; a slice of the wrong length is [`crate::Kind::Internal`].
    fn run(&mut self, input: &[f32], logits: &mut [f32]) -> Result<()>;

    /// One line for logs and reports: device and precision.
    fn describe(&self) -> String;
}

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
