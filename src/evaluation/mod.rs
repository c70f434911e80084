//! Accuracy, measured: predictions and ground truth flow in, the field's figures flow out.
//!
//! - [`metrics`]: the ten figures of the polyp-segmentation literature for one pair of maps, and over a set.
//! - [`images`]: folders of masks and predictions, scored on all cores.
//! - [`video`]: the clinical measures of a detection aid.

pub mod images;
pub mod metrics;
pub mod video;
