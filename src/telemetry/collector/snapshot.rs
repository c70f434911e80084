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
    pub fps: f64,
    pub video_delay_p99_ms: Option<f64>,
    pub annotation_delay_p99_ms: Option<f64>,
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
    pub sum_s: f64,
}

/// Figures since the session's warm-up, and the last minutes second by second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// Counts by length of each delay, stage and queue, for Prometheus.
    #[serde(skip)]
    pub counted: Vec<Counted>,
    pub at_s: f64,
    pub state: String,
    pub reason: String,
    pub reason_words: String,
    pub source_lost: bool,
    pub frames: LiveCounts,
    pub video_delay_us: Distribution,
    pub annotation_delay_us: Distribution,
    pub mask_age_us: Distribution,
    pub stages_us: BTreeMap<String, Distribution>,
    pub queues_us: BTreeMap<String, Distribution>,
    pub frames_in_state: BTreeMap<String, u64>,
    pub state_changes: u64,
    /// Newest first.
    pub last_changes: Vec<StateChangeRecord>,
    pub worker_restarts: u64,
    pub timestamp_jumps: u64,
    pub events_lost: u64,
    pub rss_bytes: Memory,
    pub points: Vec<Point>,
    /// What is followed over time, as of the last mask: the first few, those that are shown before those that are not yet.
    pub tracks: Vec<TrackMark>,
    pub tentative_tracks: u64,
    /// Since the session began.
    pub confirmed_tracks: u64,
    /// Why the last analysed frame starts no track.
    pub gate: Option<Gate>,
    pub gate_words: Option<String>,
    /// Masks of frames that started no track, by reason.
    pub gated_masks: BTreeMap<String, u64>,
    /// From a track's first sight to its confirmation: what the setting withholds, apart from the annotation delay.
    pub first_alarm_us: Distribution,
}
