//! One line of a live session's JSON lines.
//!
//! In: an event. Out: the object that stands for it. Times end in `_ns` (since the session began) or `_us`.

use serde::Serialize;

use crate::frame::{Gate, Nanos, TrackMark};
use crate::telemetry::event::{Event, FrameEvent, LeftEvent, MaskEvent, StreamEvent};

/// A line: a frame that entered the video path, one that arrived at the sink, a finished mask, or a change.
#[derive(Debug, Serialize)]
#[serde(untagged)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) enum Line {
    Frame(FrameLine),
    Left(LeftLine),
    Mask(MaskLine),
    Occurrence(Occurrence),
}

/// A frame has passed the overlay.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FrameLine {
    frame: u64,
    pts_ns: u64,
    captured_ns: u64,
    state: &'static str,
    /// The frame whose mask is drawn on it; null where none is.
    mask_of_frame: Option<u64>,
    mask_age_us: Option<f64>,
    /// Pixels of the mask that is drawn.
    area_px: u64,
    timings_us: FrameTimings,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FrameTimings {
    /// From the source's pad to the overlay; null without a stamp.
    decode: Option<f64>,
    hand_over: f64,
    motion: f64,
    composite: f64,
}

/// A frame has arrived at the sink.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct LeftLine {
    /// Its number.
    left: u64,
    at_ns: u64,
    video_delay_us: f64,
    /// Where it is the first to show a mask.
    annotation_delay_us: Option<f64>,
    /// After its deadline.
    late: bool,
}

/// A worker has finished a mask.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MaskLine {
    /// The number of its frame.
    mask: u64,
    finished_ns: u64,
    area_px: u64,
    polyps: u32,
    max_probability: f32,
    /// The first few of what is followed, also what is not drawn.
    tracks: Vec<TrackMark>,
    tentative_tracks: u32,
    confirmed_tracks: u32,
    /// Why its frame starts no track.
    gate: Option<Gate>,
    timings_us: MaskTimings,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MaskTimings {
    /// Waiting for the worker.
    mailbox: f64,
    preprocess: f64,
    network: f64,
    tracks: f64,
    postprocess: f64,
}

/// Something else has happened.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) enum Occurrence {
    StateChange { at_ns: u64, from: &'static str, to: &'static str, reason: &'static str },
    TimestampJump { at_ns: u64, frame: u64 },
    FormatChange { at_ns: u64, width_px: u32, height_px: u32 },
    SourceLost { at_ns: u64 },
    SourceBack { at_ns: u64 },
    WorkerRestart { at_ns: u64, worker: u32, attempt: u32 },
}

/// Tenths of a microsecond.
fn us(n: Nanos) -> f64 {
    (n.as_micros_f64() * 10.0).round() / 10.0
}

impl Line {
    pub(crate) fn new(event: &Event) -> Self {
        match event {
            Event::Frame(e) => Line::Frame(FrameLine::new(e)),
            Event::Left(e) => Line::Left(LeftLine::new(e)),
            Event::Mask(e) => Line::Mask(MaskLine::new(e)),
            Event::State(e) => Line::Occurrence(Occurrence::StateChange {
                at_ns: e.at.0,
                from: e.from.name(),
                to: e.to.name(),
                reason: e.reason.name(),
            }),
            Event::Stream(e) => Line::Occurrence(match *e {
                StreamEvent::TimestampJump { at, frame } => {
                    Occurrence::TimestampJump { at_ns: at.0, frame: frame.0 }
                }
                StreamEvent::FormatChange { at, width, height } => {
                    Occurrence::FormatChange { at_ns: at.0, width_px: width, height_px: height }
                }
                StreamEvent::SourceLost { at } => Occurrence::SourceLost { at_ns: at.0 },
                StreamEvent::SourceBack { at } => Occurrence::SourceBack { at_ns: at.0 },
                StreamEvent::WorkerRestart { at, worker, attempt } => {
                    Occurrence::WorkerRestart { at_ns: at.0, worker, attempt }
                }
            }),
        }
    }
}

impl FrameLine {
    fn new(e: &FrameEvent) -> Self {
        Self {
            frame: e.frame.0,
            pts_ns: e.pts.0,
            captured_ns: e.captured.0,
            state: e.state.name(),
            mask_of_frame: e.shown.map(|s| s.of.0),
            mask_age_us: e.shown.map(|s| us(s.age)),
            area_px: e.shown.map_or(0, |s| s.area_px),
            timings_us: FrameTimings {
                decode: e.decode.map(us),
                hand_over: us(e.hand_over),
                motion: us(e.motion),
                composite: us(e.composite),
            },
        }
    }
}

impl LeftLine {
    fn new(e: &LeftEvent) -> Self {
        Self {
            left: e.frame.0,
            at_ns: e.at.0,
            video_delay_us: us(e.video_delay),
            annotation_delay_us: e.annotation_delay.map(us),
            late: e.late,
        }
    }
}

impl MaskLine {
    fn new(e: &MaskEvent) -> Self {
        Self {
            mask: e.frame.0,
            finished_ns: e.finished.0,
            area_px: e.area_px,
            polyps: e.polyps,
            max_probability: e.max_probability,
            tracks: e.followed.marks().to_vec(),
            tentative_tracks: e.followed.tentative,
            confirmed_tracks: e.followed.confirmed,
            gate: e.followed.gate,
            timings_us: MaskTimings {
                mailbox: us(e.waited),
                preprocess: us(e.preprocess),
                network: us(e.network),
                tracks: us(e.tracks),
                postprocess: us(e.postprocess),
            },
        }
    }
}
