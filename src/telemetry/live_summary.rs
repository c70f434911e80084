//! What a live session comes to, as `live --summary` and `bench pipeline` write it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Machine;
use crate::distribution::Distribution;
use crate::frame::Rect;

/// How many frames went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LiveCounts {
    /// Entered the video path.
    #[serde(rename = "in")]
    pub entered: u64,
    /// Arrived at the sink.
    pub out: u64,
    pub inferred: u64,
    /// Offered to the worker but replaced by a newer frame.
    pub superseded: u64,
    /// Entered the video path, never left it.
    pub dropped: u64,
    /// Left it after their deadline.
    pub late: u64,
}

/// One change of the safety state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StateChangeRecord {
    pub at_ns: u64,
    pub from: String,
    pub to: String,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Memory {
    pub start: u64,
    pub max: u64,
    pub end: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LiveMarks {
    pub status_rect: Option<Rect>,
}

/// What became of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RecordingRecord {
    /// Folder and beginning of its files' names.
    pub path: String,
    /// `raw`, `annotated` or `both`.
    pub what: String,
    /// Frames in its files, of all tracks.
    pub frames: u64,
    /// Frames that are not in its files, although it was to hold them.
    pub lost: u64,
    pub bytes: u64,
    /// Why it ended by itself or could not be completed; null if its owner ended it.
    pub reason: Option<String>,
}

/// An output that ended before the session did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Unfinished {
    pub path: String,
    pub reason: String,
}

/// The end of a live session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct LiveSummary {
    /// Pipeline file or source.
    pub input: String,
    pub engine: String,
    /// (height, width) of the network's input.
    pub network_size: [usize; 2],
    pub machine: Machine,
    pub frames: LiveCounts,
    /// Source's pad to sink's pad.
    pub video_delay_us: Distribution,
    /// Capture of a frame to the arrival at the sink of the first picture that carries its mask.
    pub annotation_delay_us: Distribution,
    /// Age of the mask on each frame that shows one.
    pub mask_age_us: Distribution,
    pub stages_us: BTreeMap<String, Distribution>,
    /// `mailbox`, `mask_slot`.
    pub queues_us: BTreeMap<String, Distribution>,
    pub state_changes: Vec<StateChangeRecord>,
    /// Frames shown in each state.
    pub frames_in_state: BTreeMap<String, u64>,
    pub marks: LiveMarks,
    pub rss_bytes: Memory,
    /// Processor time of the whole process over the session, as cores busy on average.
    pub cpu_cores: f64,
    pub elapsed_ms: f64,
    pub timestamp_jumps: u64,
    pub format_changes: u64,
    /// Why the source gave no picture at the end; `None` if it did.
    pub source_fault: Option<String>,
    pub worker_restarts: u64,
    /// Telemetry events that found no room.
    pub events_lost: u64,
    /// How what does not last was withheld at the end, and the numbers behind it.
    pub confirm: String,
    pub confirm_words: String,
    /// Tracks seen, and those of them that were confirmed.
    pub tracks: u64,
    pub confirmed_tracks: u64,
    /// Masks of frames that started no track, by reason.
    pub gated_masks: BTreeMap<String, u64>,
    /// From a track's first sight to its confirmation, apart from the annotation delay.
    pub first_alarm_us: Distribution,
    /// Every recording of the session, in order.
    pub recordings: Vec<RecordingRecord>,
    /// JSON lines and traces that ended by themselves.
    pub unfinished: Vec<Unfinished>,
}

impl LiveSummary {
    /// Whether something that was to be written ended by itself.
    pub fn is_partial(&self) -> bool {
        !self.unfinished.is_empty() || self.recordings.iter().any(|r| r.reason.is_some())
    }
}
