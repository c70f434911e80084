//! The network, ready to run: normalised pixels in, logits out.
//!
//! In: one frame of normalised RGB planes. Out: one map of logits per class at the same size. [`Reference`] runs the
//! plain candle model and is what faster engines are measured against; [`cpu`] is the fused engine for processors,
//! `cuda` the one for GPUs; [`open`] chooses.

mod candle_error;
pub mod cpu;
#[cfg(any(test, feature = "cuda"))]
pub mod cuda;
mod folded_conv;
#[cfg(test)]
mod node_tests;
mod open;
#[cfg(test)]
mod random;
mod reference;

pub use crate::frame::Shape;
#[cfg(feature = "candle-cuda")]
pub use open::open_candle;
pub use open::{DeviceChoice, Options, Precision, open, open_cpu};
pub use reference::Reference;

use crate::frame::{Found, Picture, Rect};
use crate::model::{Checkpoint, LARGEST_SIDE, is_side};
use crate::{Error, Result};

/// A network built for one device, precision and input size.
///
/// Owned by one thread (the one that owns the device).
pub trait Network: Send {
    /// What it takes and gives.
    fn shape(&self) -> Shape;

    /// Runs one frame: `input` is `[3, height, width]` normalised R, G, B planes; `logits` is
    /// `[classes, height, width]`.
    ///
    /// # Errors
    /// Whatever the device says; a slice of the wrong length is [`crate::Kind::Internal`].
    fn run(&mut self, input: &[f32], logits: &mut [f32]) -> Result<()>;

    /// One line for logs and reports: device and precision.
    fn describe(&self) -> String;

    /// What it is best given. There is no default: who wraps a network has to say that it takes what the wrapped one
    /// takes (see [`Route`]), and whoever measures through the wrapper measures the same route.
    fn route(&mut self) -> Route<'_>;
}

/// What a network is handed.
pub enum Route<'a> {
    /// Normalised planes, through [`Network::run`]. Every network takes these.
    Planes,
    /// Whole pictures; planes would only cost time.
    Pictures(&'a mut dyn Pictures),
}

/// An engine that converts, reduces and thresholds on its own device, so that planes never pass through the processor.
pub trait Pictures {
    /// Runs one frame of a picture's rectangle `view`, which lies in it and is not empty. `inside` receives 1 for each
    /// pixel of the view whose enlarged logit reaches `level`, else 0; `logits` as in [`Network::run`].
    ///
    /// # Errors
    /// As [`Network::run`]; an output that is no number.
    fn run_picture(
        &mut self,
        picture: &Picture,
        view: Rect,
        level: f32,
        logits: &mut [f32],
        inside: &mut [u8],
    ) -> Result<Found>;
}

impl Shape {
    /// Of a checkpoint's network at this (height, width), the checkpoint's own if `None`.
    ///
    /// # Errors
    /// A size that is not a multiple of 32, or beyond [`LARGEST_SIDE`].
    pub fn of(checkpoint: &Checkpoint, size: Option<(usize, usize)>) -> Result<Self> {
        let description = checkpoint.description();
        let (height, width) = size.unwrap_or((description.input_size[0], description.input_size[1]));
        if height == 0 || width == 0 || height % 32 != 0 || width % 32 != 0 {
            return Err(Error::usage(format!(
                "the network's input size {width}x{height} is not a multiple of 32"
            ))
            .remedy("choose one that is, such as 352x352"));
        }
        if !is_side(height) || !is_side(width) {
            return Err(Error::usage(format!("the network's input size {width}x{height} is too large"))
                .remedy(format!("choose at most {LARGEST_SIDE}x{LARGEST_SIDE}, such as 352x352")));
        }
        Ok(Self { height, width, classes: checkpoint.architecture().classes })
    }
}
