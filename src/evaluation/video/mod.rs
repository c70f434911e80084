//! Video: per frame what was detected and what is really there flow in, the clinical measures of a detection aid flow
//! out.
//!
//! - [`Region`]: a set of pixels, as the masks, boxes and outlines of both sides become.
//! - [`Truth`]: a phantom's folder, a folder of masks, or boxes.
//! - [`Detections`]: what a replay, another program or the network found, frame by frame.
//! - [`KeptMaps`]: what the network said of a video, kept in a file for other settings of what comes after it.
//! - [`Comparison`]: measures the settings that withhold what does not last, side by side; [`Pool`] joins several
//!   recordings.
//! - [`VideoScorer`]: takes both frame by frame, in memory that does not grow with the video, and measures them at
//!   several persistence settings at once.
//!
//! Measures and their names: per-polyp sensitivity (found in at least one frame), per-frame sensitivity and
//! specificity, first-detection time, false positives per minute (Bisschops et al. 2019; Lux et al. 2022), and the
//! temporal flicker of the mask. Two rules decide them, both options and both printed: what counts as a hit
//! ([`HitRule`]), and which regions of successive frames are the same thing ([`LinkRule`]).

mod alarms;
mod confirmed;
mod curve;
mod detections;
mod frame_map;
mod kept;
mod link;
mod object;
mod pool;
mod region;
mod report;
mod rules;
mod score;
mod sets;
mod truth;
mod voc;

pub use alarms::{AlarmCounts, MORE_THAN_FRAMES};
pub use confirmed::Comparison;
pub use curve::curve;
pub use detections::{Detections, FrameDetections};
pub use frame_map::FrameMap;
pub use kept::{FIRST_LINE as KEPT_FIRST_LINE, KeptMaps, entry as kept_entry};
pub use link::Linker;
pub use object::TruthObject;
pub use pool::{Pool, Pooled};
pub use region::{Bounds, Region, Run};
pub use report::{
    ConfirmFigures, FrameTotals, GateCounts, PersistenceFigures, PolypFigures, PooledFigures, PooledSetting,
    VideoFigures, VideoReport,
};
pub use rules::{HitRule, LinkRule, VideoRules};
pub use score::{FrameJudgement, VideoScorer};
pub use sets::{Layout, Set};
pub use truth::{SPECK_PX, Truth};

#[cfg(test)]
mod edge_tests;
#[cfg(test)]
mod tests;
