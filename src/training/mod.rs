//! How the network learns: pictures and their masks flow in, a checkpoint flows out.
//!
//! Everything up to a step's gradients is plain functions over slices of numbers ([`ops`]), recorded on a [`tape`] and
//! walked backwards; the losses of the paper start the walk, an optimiser ends it. On a GPU ([`passes`]) the
//! same network is recorded as launches.

pub mod augment;
pub mod data;
#[cfg(any(test, feature = "cuda"))]
pub mod gpu;
pub mod loader;
pub mod loss;
pub mod network;
pub mod objective;
pub mod ops;
pub mod optimiser;
pub mod parameters;
pub mod passes;
pub mod random;
pub mod real;
pub mod run;
pub mod tape;

pub use real::Real;
