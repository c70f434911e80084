//! Polypscope: polyp segmentation on live and recorded colonoscopy video.
//!
//! Data flows left to right through these modules, and none calls back up the path:
//!
//! ```text
//! capture ─▶ mailbox ─▶ worker (preprocess ─▶ engine | model ─▶ postprocess) ─▶ overlay ─▶ capture (encoder, sink)
//!                                  telemetry and safety watch; evaluation and phantom measure
//! ```
//!
//! `model`, `engine` and `evaluation` build without the `video` feature, on a machine with neither GStreamer nor OpenCV.

pub mod cli;
pub mod engine;
pub mod error;
pub mod frame;
pub mod mailbox;
pub mod model;
pub mod replay;
pub mod telemetry;

pub use error::{Error, Kind, Result};
