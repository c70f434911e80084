//! From logits to a mask over the source's pixels.
//!
//! In: the network's logits, and the field of view they belong to. Out: probabilities at the field of view's size, and
//! a [`Mask`](crate::frame::Mask) with the polyps it consists of. [`Upsampler`] is the plain way to the enlarged map,
//! [`Thresholder`] the fast one.
//!
//! A network of several classes marks a pixel if any class reaches the threshold there.

// Nothing panics on a streaming thread.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

#[cfg(feature = "video")]
mod polyps;
mod threshold;
mod upsample;

#[cfg(feature = "video")]
pub use polyps::Postprocessor;
pub use threshold::Thresholder;
pub use upsample::Upsampler;

use crate::{Error, Fault, Result};

/// `1 / (1 + e^-x)`
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// The logit whose sigmoid is `p`, 0 < p < 1.
pub fn logit(p: f64) -> f32 {
    (p / (1.0 - p)).ln() as f32
}

/// Refuses maps with NaN or infinity: a broken device or a broken checkpoint, never a mask.
pub fn check_finite(logits: &[f32]) -> Result<()> {
    // A sum of magnitudes is finite only if every term is; it vectorises where a search does not.
    let sum: f32 = logits.iter().map(|x| x.abs() * 1e-6).sum();
    if sum.is_finite() {
        return Ok(());
    }
    Err(not_a_number())
}

/// What is said of such maps.
pub(crate) fn not_a_number() -> Error {
    Error::inference("the network's output is not a number")
        .caused_by(Fault::NotANumber)
        .remedy("check the checkpoint with `polypscope weights verify`, or try --precision f32")
}
