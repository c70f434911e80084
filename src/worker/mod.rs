//! From a frame to its mask, and the thread that does it.
//!
//! In: pictures. Out: masks, with the time each stage took. The thread that runs a [`Segmenter`] owns its device; a
//! panic in it becomes an error that names the frame. Replay runs one thread ([`spawn`]) and stops at its first error;
//! live runs [`Workers`], which are started anew.

// Nothing panics on a streaming thread.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

mod segmenter;
mod supervisor;
mod thread;

pub use segmenter::{Segmenter, Spans};
pub use supervisor::{Analyst, Care, Factory, HANGING, LiveJob, Threshold, Workers};
pub use thread::{Finished, Job, log_panics, spawn};
