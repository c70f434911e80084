//! How a session stands, for the terminal, the page and Prometheus.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::telemetry::{Distribution, LiveCounts, Memory, StateChangeRecord};

/// One second of the charts; `None` where nothing was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// Its begin, in seconds since the session began.
    pub at_s: f64,
    pub fps: f64,
    pub video_delay_p99_ms: Option<f64>,
    pub annotation_delay_p99_ms: Option<f64>,
    pub mask_age_p99_ms: Option<f64>,
}

/// Figures since the session's warm-up, and the last minutes second by second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot {
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
}
