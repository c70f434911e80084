//! What a step is to make small: logits and label maps flow in, a number and its gradient flow out.
//!
//! [`Structure`] is the paper's weighted BCE and weighted IoU, [`LossNet`] its training-free supervision "from pixels
//! to structure". Both take several classes: the background's logit is fixed at zero, so `softmax(0, z_1 … z_K)` is the
//! sigmoid where there is one class, and a pixel whose class is likelier than the background has a positive logit, as
//! every other command reads it.

mod lossnet;
mod structure;
mod vgg;

#[cfg(test)]
pub(in crate::training) use lossnet::on_processor;
pub use lossnet::{Compare, LossNet, StageLosses};
pub use structure::{Structure, Weighting};
pub use vgg::Vgg;

use rayon::prelude::*;

use super::real::Real;

/// Batch, classes and pixels of logits; label maps are `[batch, pixels]`, 0 for background, else the class plus one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maps {
    /// Pictures.
    pub batch: usize,
    /// Classes beside the background.
    pub classes: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
}

impl Maps {
    /// Pixels of a map.
    pub fn px(&self) -> usize {
        self.h * self.w
    }

    /// Logits in all.
    pub fn len(&self) -> usize {
        self.batch * self.classes * self.px()
    }

    /// Whether there is no logit.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Probability of each class at each pixel, `[batch, classes, pixels]`.
pub fn probabilities<T: Real>(maps: Maps, logits: &[T]) -> Vec<T> {
    let mut out = vec![T::ZERO; logits.len()];
    let (k, px) = (maps.classes, maps.px());
    out.par_chunks_mut(k * px).zip(logits.par_chunks(k * px)).for_each(|(out, logits)| {
        for p in 0..px {
            let most = (0..k).fold(0.0f64, |m, c| {
                let z = logits[c * px + p].wide();
                // NaN stays: every probability of the pixel becomes one.
                if z > m || z.is_nan() { z } else { m }
            });
            let mut total = (-most).exp();
            for c in 0..k {
                total += (logits[c * px + p].wide() - most).exp();
            }
            for c in 0..k {
                out[c * px + p] = T::of((logits[c * px + p].wide() - most).exp() / total);
            }
        }
    });
    out
}

/// Adds to `grad` (of the logits) what a gradient of the probabilities means for them.
fn through_probabilities<T: Real>(maps: Maps, probabilities: &[T], of: &[T], grad: &mut [T]) {
    let (k, px) = (maps.classes, maps.px());
    let pictures =
        grad.par_chunks_mut(k * px).zip(probabilities.par_chunks(k * px)).zip(of.par_chunks(k * px));
    pictures.for_each(|((grad, p), of)| {
        for at in 0..px {
            let mut mean = T::ZERO;
            for c in 0..k {
                mean += p[c * px + at] * of[c * px + at];
            }
            for c in 0..k {
                grad[c * px + at] += p[c * px + at] * (of[c * px + at] - mean);
            }
        }
    });
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(in crate::training) use tests::generated_vgg;
