//! Everything under measurement: the network alone, the motion of masks, the whole pipeline, and what changed between
//! two sets of its runs.
//!
//! In: settings of a run. Out: records of runs as JSON, CSV, a table and a page; and a verdict on two files of them.
//! What is measured lives elsewhere.

mod compare;
pub(crate) mod engine;
#[cfg(feature = "video")]
mod lossless;
#[cfg(feature = "video")]
pub(crate) mod motion;
#[cfg(feature = "video")]
mod paced;
#[cfg(feature = "video")]
mod page;
mod record;
mod settings;
mod statistics;
mod table;

pub use compare::{Change, Comparison, Verdict, compare};
#[cfg(feature = "video")]
pub use lossless::run as run_lossless;
#[cfg(feature = "video")]
pub use paced::run as run_paced;
#[cfg(feature = "video")]
pub use page::page;
pub use record::{PipelineReport, RunRecord, Shape, thinned_us};
pub use settings::{Pace, RunSettings, Slow};
pub use table::{csv, table};
