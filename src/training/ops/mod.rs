//! The operations of a training step, forward and backward.
//!
//! In: planes `[batch, channels, rows, columns]`, contiguous, f32 or f64. Out: planes, or gradients. Each is a pair of
//! plain functions over slices, parallel over pictures or channels; sums are taken in an order that does not depend on
//! the number of threads, so the same step gives the same bits on any of them. [`graph`] offers them to candle's own
//! graph.
//!
//! | file | forward, and backward |
//! |---|---|
//! | `convolution` | "same" convolutions of a stride of 1 or 2 |
//! | `batch_norm` | batch-norm by the batch's own statistics, a sum and a ReLU in one |
//! | `subtraction` | a subtraction unit with its all-ones convolutions collapsed |
//! | `resize` | bilinear, `align_corners = false` |
//! | `pool` | maximum 3x3, averages 3x3 and 2x2 |

pub mod batch_norm;
pub mod convolution;
pub mod graph;
pub mod pool;
pub mod resize;
pub mod subtraction;

#[cfg(test)]
pub(in crate::training) mod tests;
