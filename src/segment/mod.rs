//! From a picture to its mask, without a thread or a video around it.
//!
//! In: a picture, and a network with the description of its checkpoint. Out: the mask with its polyps (`Segmenter`), a
//! probability for each pixel ([`Probabilities`], which needs no OpenCV), or a still picture with both
//! (`StillSegmenter`). [`quantisation`] finds out what 8-bit integers make of a network's masks.

mod probabilities;
pub mod quantisation;
#[cfg(feature = "video")]
mod segmenter;
#[cfg(feature = "video")]
mod stills;

pub use probabilities::Probabilities;
#[cfg(feature = "video")]
pub use segmenter::{Segmenter, Spans};
#[cfg(feature = "video")]
pub use stills::{SegmentedStill, StillSegmenter};
