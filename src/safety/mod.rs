//! What the overlay may show: warm-up, active, degraded or bypass, and why.
//!
//! In: the age of the newest mask, the worker's heartbeat and faults, the user's switch. Out: a state with its reason,
//! for every frame; nothing here waits, allocates or knows GStreamer.

// Nothing panics on a streaming thread.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

mod reason;
mod state;
mod watch;
mod worker_health;

pub use reason::Reason;
pub use state::State;
pub use watch::{Limits, MAX_MASK_AGE, USUAL_PERIOD, Verdict, Watch};
pub use worker_health::WorkerHealth;
