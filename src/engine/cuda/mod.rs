//! The fused engine on NVIDIA GPUs.
//!
//! In: a checkpoint, a device, an input size. Out: an engine that runs a frame as one CUDA graph: the picture's bytes
//! (or normalised planes) up, the network in f16 with f32 sums, the mask (and logits) down.
//!
//! | file | holds |
//! |---|---|
//! | `kernels/` | the kernels, in CUDA C++; `kernels/emulator.h` lets a processor play the device in tests |
//! | `params`, `launch` | what a kernel is told, and what a device has to do |
//! | `tile` | how a convolution is cut into blocks |
//! | `pack`, `maps`, `assemble`, `lower` | from a program and a checkpoint to launches in order |
//! | `picture` | from a picture's bytes to the network's input, and from logits to marks |
//! | `driver` | the GPU as a device: context, memory, module, graphs (feature `cuda`) |
//! | `codes` | what a driver's error number means for who has to act |
//! | `engine` | the engine itself (feature `cuda`) |
//!
//! Maps are `[height][width][channels]`; a convolution is an implicit matrix product on the tensor cores through
//! `mma.sync`, which every card from Ampere on has, so that one source serves them all. Independent convolutions share
//! a launch, and long reductions over few pixels are split over the card's multiprocessors. How each launch is cut is
//! measured when the engine is built.

mod assemble;
mod codes;
#[cfg(feature = "cuda")]
mod driver;
#[cfg(test)]
mod emulated;
#[cfg(feature = "cuda")]
mod engine;
mod launch;
mod lower;
mod maps;
mod pack;
mod params;
mod picture;
#[cfg(test)]
mod tests;
mod tile;

// For a training step's passes, which run on the same device.
#[cfg(feature = "cuda")]
pub(crate) use driver::Gpu;
#[cfg(test)]
pub(crate) use emulated::Emulated;
pub(crate) use launch::{Device, Kernel, Launch, Train, bytes_of, bytes_of_mut};
#[cfg(test)]
pub(crate) use params::TrainConv;
pub(crate) use params::{
    Address, Params, TrainApply, TrainBias, TrainBox, TrainChannels, TrainEach, TrainNorm, TrainPlanes,
    TrainPool, TrainResize, TrainSums, TrainUnit,
};

#[cfg(feature = "candle-cuda")]
pub(crate) use driver::fault_of_candle;
#[cfg(feature = "cuda")]
pub use engine::{Cuda, LaunchReport, card};
