//! A training step's passes on an NVIDIA GPU.
//!
//! In: parameters, a batch. Out: losses, gradients, batch statistics, as [`super::passes`] has them from the processor.
//! The parameters' first copy, the optimiser and the average stay with the processor: each step sends all parameters up
//! and fetches all gradients, 105 MB each way, a few hundredths of a second.
//!
//! | file | holds |
//! |---|---|
//! | `card` | a device with convolutions: by their definition, or ([`cudnn`], feature `cuda`) by cuDNN |
//! | `memory` | maps' memory, parameters and gradients on the card |
//! | `tape` | what was done, as [`super::tape`] records it, in launches |
//! | `passes` | a batch through the network and back |
//!
//! Maps are `[batch][channels][height][width]` in f32, as on the processor; cuDNN multiplies in TF32 (f32 with ten bits
//! of mantissa, sums in f32). The kernels are `engine/cuda/kernels/training.h`; tests run them on a processor that
//! plays the card, beside the processor's own tape.

mod card;
#[cfg(feature = "cuda")]
mod cudnn;
mod memory;
mod passes;
mod tape;
#[cfg(test)]
mod tests;

#[cfg(feature = "cuda")]
pub use passes::open;
