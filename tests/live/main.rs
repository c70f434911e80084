//! The live overlay without a real network: what the viewer sees when the worker is fast, slow, stuck or broken.
//!
//! The worker is the real one; only its network is a stand-in that draws a disc and misbehaves on command, so that the
//! pictures, the threads and the clock are those of a live session.
#![cfg(feature = "video")]

#[path = "../common/schema.rs"]
mod schema;
#[path = "../common/skipped.rs"]
mod skipped;

mod control;
mod faults;
mod outputs;
mod overlay;
mod pipelines;
mod sizes;
mod stand_in;
mod unit;
