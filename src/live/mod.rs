//! Live overlay: the newest-wins policy over capture, worker and overlay.
//!
//! In: a pipeline file and an engine. Out: the source's picture with the newest mask on it, and what the session comes to.
//! The video path never waits for anything in here.

mod core;

pub use core::{Core, CoreSettings};
