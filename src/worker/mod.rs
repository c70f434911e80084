//! The threads that turn frames into masks.
//!
//! In: frames from the mailbox. Out: masks, with the time each stage took. The thread that runs an analyzer owns its
//! device; a panic in it becomes an error that names the frame. The loop of a thread is the same everywhere; replay
//! runs one thread ([`spawn`]) and stops at its first error, live runs [`Workers`], which are started anew.

// Nothing panics on a streaming thread.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

mod frames;
mod lossless;
mod supervisor;

pub(crate) use frames::contained;
pub use frames::{FrameAnalyzer, Job, log_panics};
pub use lossless::{Finished, RecordedJob, spawn};
pub use supervisor::{
    ANNOTATION_BUDGET, Factory, LiveJob, MAX_HUNG_WORKERS, SupervisorSettings, Threshold, Workers,
};
