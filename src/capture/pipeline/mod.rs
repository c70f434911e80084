//! Live pipelines described in files.
//!
//! In: a pipeline file, `--set` values, the name of a sink. Out: a running GStreamer pipeline around the overlay element,
//! and notices of what happens to it. What is wrong with a file is said before anything starts.

mod display;
mod file;
mod live;
mod parameter;

pub(super) use display::lower_ranks;
pub use file::{PipelineFile, Ready};
pub use live::{LivePipeline, Notice};
pub use parameter::Parameter;
