//! Polypscope: polyp segmentation on live and recorded colonoscopy video.
//!
//! Data flows left to right through these modules, and none of them knows the next one's user: `replay` and `live` tie them
//! together, `safety`, `telemetry` and `control` watch, `evaluation`, `phantom` and `bench` measure.
//!
//! ```text
//! capture ─▶ mailbox ─▶ worker (preprocess ─▶ engine | model ─▶ postprocess) ─▶ mask_slot ─▶ overlay ─▶ capture
//! ```
//!
//! Which module may use which is in ARCHITECTURE.md, and `tests/rooms` holds them to it.
//!
//! `model`, `engine`, `still` and `evaluation` build without the `video` feature, on a machine with neither GStreamer nor OpenCV.

pub mod bench;
#[cfg(feature = "video")]
pub mod capture;
pub mod cli;
#[cfg(feature = "video")]
pub mod control;
pub mod distribution;
pub mod engine;
pub mod error;
pub mod evaluation;
pub mod frame;
pub mod json_path;
#[cfg(feature = "video")]
pub mod live;
mod lock;
pub mod mailbox;
pub mod mask_slot;
pub mod memory;
pub mod model;
pub mod motion;
pub mod overlay;
pub mod phantom;
pub mod postprocess;
pub mod preprocess;
mod priority;
pub mod program;
#[cfg(feature = "video")]
pub mod replay;
mod result_file;
pub mod safety;
pub mod segment;
mod shown;
pub mod small_file;
pub mod still;
pub mod telemetry;
pub mod tracks;
#[cfg(feature = "video")]
pub mod worker;

pub use error::{Error, Fault, Kind, Result};
