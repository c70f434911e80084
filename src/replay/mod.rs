//! Replay of recorded procedures: every frame is inferred and carries its own mask, nothing is dropped, and the output
//! is a pure function of the input.
//!
//! In: a recording. Out: the annotated recording and a report.
//!
//! ```text
//! reader thread ─▶ mailbox (lossless) ─▶ worker thread ─▶ writer: overlay ─▶ encoder, report, masks
//! ```
//!
//! Every hand-over has room for a few frames and waits when it is full, so memory does not grow with the recording.

// Nothing panics on a streaming thread.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

mod clock;
pub mod episodes;
pub(crate) mod findings;
mod job;
mod masks;
pub mod polyps;
pub(crate) mod reader;
pub mod record;
pub mod report;
mod run;

pub use run::{Progress, Settings, replay};
pub(crate) use run::{same_file, thumbnail};
