//! Polypscope: polyp segmentation on live and recorded colonoscopy video.
//!
//! Data flows left to right through these modules, and none of them knows the next one's user: `replay` and `live` tie
//! them together, `safety`, `telemetry` and `control` watch, `evaluation`, `phantom` and `bench` measure.
//!
//! ```text
//! capture ─▶ mailbox ─▶ worker (preprocess ─▶ engine | model ─▶ postprocess) ─▶ mask_slot ─▶ overlay ─▶ capture
//! ```
//!
//! Which module may use which is in ARCHITECTURE.md, and `tests/rooms` holds them to it.
//!
//! The crate as it is published carries no checkpoint: set `POLYPSCOPE_WEIGHTS` to one, or lay the repository's
//! `weights/` beside the program. What opens without a path looks there.
//!
//! A library's user opens a checkpoint, has a network built for this machine, and asks for the probability of a polyp
//! at each pixel of a picture ([`segment::Probabilities`]); with the feature `video` also for masks with their polyps
//! (`segment::Segmenter`), for a replay of a recording (`replay`) and for a live session (`live`):
//!
//! ```
//! use polypscope::engine::{self, Options};
//! use polypscope::frame::{Picture, PictureInfo, PixelFormat};
//! use polypscope::model::Checkpoint;
//! use polypscope::preprocess::FieldOfView;
//! use polypscope::segment::Probabilities;
//!
//! # fn main() -> polypscope::Result<()> {
//! // The checkpoint that comes with the program, on the fastest device and in the fastest precision that keeps the mask.
//! let checkpoint = Checkpoint::open(&Checkpoint::locate(None)?)?;
//! // A small input, to be quick here; `Options::default()` has the size that the network was trained at.
//! let network = engine::open(&checkpoint, Options { size: Some((96, 96)), ..Options::default() })?;
//! let mut probabilities = Probabilities::new(network, checkpoint.description(), FieldOfView::Full);
//!
//! // `polypscope::still::load_rgb` reads a file; this is a picture of one colour.
//! let pixels = [180u8, 90, 70].repeat(320 * 240);
//! let picture = Picture::packed(PictureInfo::new(PixelFormat::Rgb, 320, 240), &pixels).expect("3 bytes for each pixel");
//! let map = probabilities.of(&picture)?;
//! let marked = map.iter().filter(|p| f64::from(**p) >= checkpoint.description().threshold).count();
//! println!("{marked} of {} pixels belong to a polyp", map.len());
//! assert_eq!(map.len(), 320 * 240);
//! # Ok(())
//! # }
//! ```
//!
//! `examples/` in the repository has whole programs: segment a picture, outline polyps in a GStreamer pipeline of one's
//! own and follow its frames, score masks, drive a session. `model`, `engine`, `segment::Probabilities`, `training`,
//! `still` and `evaluation` build without the feature `video`, on a machine with neither GStreamer nor OpenCV.

#[cfg(feature = "video")]
pub(crate) mod analysis;
#[doc(hidden)]
pub mod bench;
#[cfg(feature = "video")]
pub mod capture;
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "video")]
pub mod control;
pub mod distribution;
pub mod engine;
pub mod error;
pub mod evaluation;
#[cfg(feature = "video")]
pub mod fleet;
pub mod frame;
mod hexadecimal;
#[cfg(feature = "video")]
pub(crate) mod json_path;
#[cfg(feature = "video")]
pub mod live;
mod lock;
pub mod mailbox;
#[cfg(feature = "video")]
pub(crate) mod mask_slot;
pub(crate) mod memory;
pub mod model;
pub mod motion;
pub mod overlay;
pub mod phantom;
#[cfg(feature = "video")]
pub mod plugin;
pub mod postprocess;
pub mod preprocess;
mod priority;
pub mod program;
#[cfg(feature = "video")]
pub mod replay;
mod result_file;
pub mod safety;
#[cfg(test)]
#[cfg(feature = "video")]
mod schema_tests;
pub mod segment;
mod shown;
#[cfg(test)]
#[path = "../tests/common/skipped.rs"]
mod skipped;
pub(crate) mod small_file;
pub mod still;
pub mod telemetry;
pub mod tracks;
pub mod training;
#[cfg(feature = "video")]
pub mod worker;

pub use error::{Error, Fault, Kind, Result};
