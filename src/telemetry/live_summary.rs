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
    /// Masks that workers finished.
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
    /// Nanoseconds since the session began.
    pub at_ns: u64,
    /// The state before: `warm_up`, `active`, `degraded` or `bypass`; the same as `to` where only the reason has
    /// changed.
    pub from: String,
    /// The state from then on.
    pub to: String,
    /// Why, in the word programs read, such as `too_slow`.
    pub reason: String,
}

/// Resident set of the process in bytes, looked at once a second; 0 where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Memory {
    /// When it was first looked at.
    pub start: u64,
    /// The largest that was seen.
    pub max: u64,
    /// When it was last looked at.
    pub end: u64,
}

/// What is drawn besides the masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LiveMarks {
    /// The square that shows the state, in source pixels; null where it is not drawn or no picture came.
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
    /// Size of its files.
    pub bytes: u64,
    /// Why it ended by itself or could not be completed; null if its owner ended it.
    pub reason: Option<String>,
}

/// An output that ended before the session did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Unfinished {
    /// Where it was written to.
    pub path: String,
    /// Why it ended, in a sentence.
    pub reason: String,
}

/// The end of a live session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct LiveSummary {
    /// Pipeline file or source.
    pub input: String,
    /// Device and precision of the network; `none` without one.
    pub engine: String,
    /// (height, width) of the network's input.
    pub network_size: [usize; 2],
    /// The machine it ran on.
    pub machine: Machine,
    /// All frames of the session; but `late` counts from the end of the warm-up.
    pub frames: LiveCounts,
    /// Source's pad to sink's pad.
    pub video_delay_us: Distribution,
    /// Capture of a frame to the arrival at the sink of the first picture that carries its mask.
    pub annotation_delay_us: Distribution,
    /// Age of the mask on each frame that shows one.
    pub mask_age_us: Distribution,
    /// Stage name → time of a frame in it; stages that no frame went through are left out.
    pub stages_us: BTreeMap<String, Distribution>,
    /// `mailbox`, `mask_slot`.
    pub queues_us: BTreeMap<String, Distribution>,
    /// In order; of more than 10,000 the last ones.
    pub state_changes: Vec<StateChangeRecord>,
    /// Frames shown in each state.
    pub frames_in_state: BTreeMap<String, u64>,
    /// Where something is drawn besides the masks.
    pub marks: LiveMarks,
    /// Memory of the whole process.
    pub rss_bytes: Memory,
    /// Processor time of the whole process over the session, as cores busy on average.
    pub cpu_cores: f64,
    /// Length of the session.
    pub elapsed_ms: f64,
    /// Timestamps that repeated, ran backwards or jumped ahead by more than a second.
    pub timestamp_jumps: u64,
    /// How often the size or the layout of the picture changed.
    pub format_changes: u64,
    /// Why the source gave no picture at the end; `None` if it did.
    pub source_fault: Option<String>,
    /// Starts of workers after a failure, of all workers together.
    pub worker_restarts: u64,
    /// Telemetry events that found no room.
    pub events_lost: u64,
    /// How what does not last was withheld at the end, and the numbers behind it.
    pub confirm: String,
    /// The setting's name with its numbers, in a sentence.
    pub confirm_words: String,
    /// Tracks seen, and those of them that were confirmed.
    pub tracks: u64,
    /// Tracks that lasted long enough to be shown.
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
