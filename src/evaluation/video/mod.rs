//! Video: per frame what was detected and what is really there flow in, the clinical measures of a detection aid flow out.
//!
//! - [`Region`]: a set of pixels, as the masks, boxes and outlines of both sides become.
//! - [`Truth`]: a phantom's folder, a folder of masks, or boxes.
//! - [`Detections`]: what a replay, another program or the network found, frame by frame.
//! - [`VideoScorer`]: takes both frame by frame, in memory that does not grow with the video, and measures them at several
//!   persistence settings at once.
//!
//! Measures and their names: per-polyp sensitivity (found in at least one frame), per-frame sensitivity and specificity,
//! first-detection time, false positives per minute (Bisschops et al. 2019; Lux et al. 2022), and the temporal flicker
//! of the mask. Two rules decide them, both options and both printed: what counts as a hit ([`HitRule`]), and which
//! regions of successive frames are the same thing ([`LinkRule`]).

mod detections;
mod link;
mod region;
mod report;
mod rules;
mod score;
mod truth;

pub use detections::{Detections, FrameDetections};
pub use link::Linker;
pub use region::{Bounds, Region, Run};
pub use report::{FrameTotals, PersistenceFigures, PolypFigures, VideoFigures, VideoReport};
pub use rules::{HitRule, LinkRule, VideoRules};
pub use score::{FrameJudgement, VideoScorer};
pub use truth::{SPECK_PX, Truth, TruthObject};

#[cfg(test)]
mod tests;
