//! How long things took: histograms of work and waiting, and what they say at the end.
//!
//! In: spans in nanoseconds, stamped by whoever did the work. Out: distributions with the percentiles of a latency
//! report, and a description of the machine they were measured on. Recording into a histogram allocates nothing.

#[cfg(feature = "video")]
pub mod collector;
pub mod event;
mod live_summary;
mod machine;

#[cfg(feature = "video")]
pub use collector::{Collector, CollectorSettings, SidecarLines, Snapshot};
pub use event::{Event, Events, Feed, feed};
pub use live_summary::{
    LiveCounts, LiveMarks, LiveSummary, Memory, RecordingRecord, StateChangeRecord, Unfinished,
};
pub use machine::{Machine, peak_rss_bytes, rss_bytes};

use crate::distribution::{Distribution, Histogram};

/// The stages a frame passes, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// What the reader waits until the source gives the frame.
    Decode,
    /// Passing the frame on to the worker, without the wait for room.
    HandOver,
    /// From the picture to the network's input.
    Preprocess,
    /// Running the network.
    Network,
    /// Following what was found over time.
    Tracks,
    /// From the logits to the mask and its regions.
    Postprocess,
    /// Drawing the mask on the picture.
    Composite,
    /// Giving the picture to the encoder, with the wait while that is busy with earlier ones.
    Encode,
}

impl Stage {
    /// Every stage, in the order frames pass them.
    pub const ALL: [Stage; 8] = [
        Stage::Decode,
        Stage::HandOver,
        Stage::Preprocess,
        Stage::Network,
        Stage::Tracks,
        Stage::Postprocess,
        Stage::Composite,
        Stage::Encode,
    ];

    /// The key in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Decode => "decode",
            Stage::HandOver => "hand_over",
            Stage::Preprocess => "preprocess",
            Stage::Network => "network",
            Stage::Tracks => "tracks",
            Stage::Postprocess => "postprocess",
            Stage::Composite => "composite",
            Stage::Encode => "encode",
        }
    }
}

/// One histogram a stage.
#[derive(Clone, Debug)]
pub struct StageHistograms([Histogram; Stage::ALL.len()]);

impl Default for StageHistograms {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Histogram::new()))
    }
}

impl StageHistograms {
    /// Counts one frame's time in a stage. Allocates nothing.
    pub fn record(&mut self, stage: Stage, span: crate::frame::Nanos) {
        self.0[stage as usize].record(span);
    }

    /// All times counted of a stage.
    pub fn get(&self, stage: Stage) -> &Histogram {
        &self.0[stage as usize]
    }

    /// Distributions in microseconds by stage name, in the stages' order; stages without a sample are left out.
    pub fn distributions_us(&self) -> Vec<(&'static str, Distribution)> {
        Stage::ALL
            .into_iter()
            .filter(|s| self.get(*s).count() > 0)
            .map(|s| (s.name(), self.get(s).distribution(1e-3)))
            .collect()
    }
}
