//! The pipeline under measurement: runs, what they come to, and what changed between two sets of them.
//!
//! In: settings of a run, and whoever carries it out. Out: records of runs as JSON, CSV, a table and a page; and a verdict
//! on two files of them. What is measured lives elsewhere: a run is a call that returns a [`RunRecord`].

mod compare;
#[cfg(feature = "video")]
mod lossless;
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
