//! How a session stands, for the terminal, the page and Prometheus.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::distribution::Distribution;
use crate::frame::{Gate, Nanos, TrackMark};
use crate::telemetry::{LiveCounts, Memory, StateChangeRecord};

/// One second of the charts; `None` where nothing was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Point {
    /// Its begin, in seconds since the session began.
    pub at_s: f64,
    /// Frames a second that entered the video path.
    pub fps: f64,
    /// 99th percentile of the video delay, from the source's pad to the sink's.
    pub video_delay_p99_ms: Option<f64>,
    /// 99th percentile of the annotation delay, from a frame's capture to the first picture with its mask at the
    /// sink.
    pub annotation_delay_p99_ms: Option<f64>,
    /// 99th percentile of the age of the masks that were drawn.
    pub mask_age_p99_ms: Option<f64>,
}

/// Bounds of the counts: finest where the limits lie (5.75 ms of video delay, 33 ms of a frame, 120 ms of annotation
/// delay).
pub const BOUNDS: [Nanos; 18] = [
    Nanos(100_000),
    Nanos(250_000),
    Nanos(500_000),
    Nanos(1_000_000),
    Nanos(2_000_000),
    Nanos(4_000_000),
    Nanos(5_750_000),
    Nanos(8_000_000),
    Nanos(12_000_000),
    Nanos(16_700_000),
    Nanos(25_000_000),
    Nanos(33_400_000),
    Nanos(50_000_000),
    Nanos(75_000_000),
    Nanos(100_000_000),
    Nanos(120_000_000),
    Nanos(200_000_000),
    Nanos(500_000_000),
];

/// How many spans of one kind lie between the [`BOUNDS`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted {
    /// `video_delay`, `annotation_delay`, `mask_age`, `stage` or `queue`.
    pub metric: &'static str,
    /// Which stage or queue; empty for delays.
    pub of: &'static str,
    /// One more than there are bounds.
    pub counts: Vec<u64>,
    /// All these spans together, in seconds.
    pub sum_s: f64,
}

/// Figures since the session's warm-up, and the last minutes second by second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// Counts by length of each delay, stage and queue, for Prometheus.
    #[serde(skip)]
    pub counted: Vec<Counted>,
    /// When it was made, in seconds since the session began.
    pub at_s: f64,
    /// `warm_up`, `active`, `degraded` or `bypass`.
    pub state: String,
    /// Why, in the word programs read.
    pub reason: String,
    /// Why, in the words people read.
    pub reason_words: String,
    /// The source gives no picture, and is started anew.
    pub source_lost: bool,
    /// All frames since the session began; but `late` counts from the end of the warm-up.
    pub frames: LiveCounts,
    /// From the source's pad to the sink's.
    pub video_delay_us: Distribution,
    /// From a frame's capture to the arrival at the sink of the first picture that carries its mask.
    pub annotation_delay_us: Distribution,
    /// Age of the mask on each frame that shows one.
    pub mask_age_us: Distribution,
    /// Stage name → time of a frame in it; stages that no frame went through are left out.
    pub stages_us: BTreeMap<String, Distribution>,
    /// `mailbox`: frames waiting for a worker; `mask_slot`: masks waiting for a frame.
    pub queues_us: BTreeMap<String, Distribution>,
    /// State → frames shown in it, since the session began.
    pub frames_in_state: BTreeMap<String, u64>,
    /// Since the session began.
    pub state_changes: u64,
    /// Newest first.
    pub last_changes: Vec<StateChangeRecord>,
    /// Starts of workers after a failure, of all workers together.
    pub worker_restarts: u64,
    /// Timestamps that repeated, ran backwards or jumped ahead by more than a second.
    pub timestamp_jumps: u64,
    /// Events that found no room, and which no figure here has.
    pub events_lost: u64,
    /// Memory of the whole process.
    pub rss_bytes: Memory,
    /// The last five minutes, oldest second first.
    pub points: Vec<Point>,
    /// What is followed over time, as of the last mask: the first few, those that are shown before those that are not
    /// yet.
    pub tracks: Vec<TrackMark>,
    /// Tracks that are not shown yet, as of the last mask.
    pub tentative_tracks: u64,
    /// Since the session began.
    pub confirmed_tracks: u64,
    /// Why the last analysed frame starts no track.
    pub gate: Option<Gate>,
    /// The same, to people.
    pub gate_words: Option<String>,
    /// Masks of frames that started no track, by reason.
    pub gated_masks: BTreeMap<String, u64>,
    /// From a track's first sight to its confirmation: what the setting withholds, apart from the annotation delay.
    pub first_alarm_us: Distribution,
}
