//! Live pipelines described in files.
//!
//! In: a pipeline file, `--set` values, the name of a sink. Out: a running GStreamer pipeline around the overlay
//! element, and notices of what happens to it. What is wrong with a file is said before anything starts.

mod display;
mod fault;
mod file;
mod launch;
mod live;
mod parameter;
mod property;

pub(super) use display::lower_ranks;
pub use fault::{SourceCause, SourceFault};
pub use file::{PipelineFile, Ready};
pub use launch::Launch;
pub use live::{LivePipeline, Notice, SourceEnd};
pub use parameter::Parameter;
