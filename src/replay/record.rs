//! What a replay leaves behind for other programs: one line a frame, one summary a run.
//!
//! In: masks and stage times. Out: `frames.jsonl` and `summary.json`, whose keys others rely on: they are not renamed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::capture::Loss;
use crate::distribution::Distribution;
use crate::frame::{Gate, Polyp, Rect, TrackMark};
use crate::telemetry::Machine;
use crate::tracks::Numbers;

/// One line of `frames.jsonl`. A frame that cannot be decoded has no line, and keeps its number: the next line's is
/// higher.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FrameRecord {
    /// Its number, from 0; a frame without a picture has one too, so numbers may be left out.
    pub frame: u64,
    /// Its timestamp in nanoseconds, as the recording has it.
    pub pts_ns: u64,
    /// `active`: the frame carries its own mask.
    pub state: String,
    /// Pixels inside polyps.
    pub area_px: u64,
    /// Largest probability anywhere in the field of view, 0–1.
    pub max_probability: f32,
    /// Connected regions of its mask, largest first.
    pub polyps: Vec<Polyp>,
    /// Everything followed on this frame, also what is not drawn; none with `--confirm off`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tracks: Vec<TrackMark>,
    /// Why this frame starts no track.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// Stage name → microseconds this frame took in it.
    pub timings_us: BTreeMap<String, f64>,
}

/// A stretch of frames with polyps on them.
///
/// Times are the recording's own timestamps; see [`episodes`](super::episodes) for what makes an episode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Episode {
    /// Timestamp of its first frame.
    pub start_ns: u64,
    /// When its last frame ends.
    pub end_ns: u64,
    /// The frame where the network was surest.
    pub best_frame: u64,
    /// Timestamp of that frame.
    pub best_pts_ns: u64,
    /// Pixels inside polyps on the best frame.
    pub best_area_px: u64,
    /// Mean of the probability over those pixels, 0–1.
    pub best_mean_probability: f32,
    /// Largest probability of any pixel on any of its frames, 0–1.
    pub max_probability: f32,
    /// The first frame with polyps.
    pub first_frame: u64,
    /// The last frame with polyps.
    pub last_frame: u64,
    /// How many of the frames from first to last have polyps; the others lie in gaps short enough to be joined.
    pub frames: u64,
}

/// What was followed as one polyp; see [`polyps`](super::polyps) for what makes one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PolypRecord {
    /// From 1, the same through the whole recording.
    pub polyp_id: u64,
    /// In the order of their confirmation.
    pub track_ids: Vec<u64>,
    /// Where it was first seen, before anything was drawn.
    pub first_frame: u64,
    /// Timestamp of that frame.
    pub first_ns: u64,
    /// Where it was first drawn, and how long that took: what the setting withholds.
    pub confirmed_frame: u64,
    /// Timestamp of that frame.
    pub confirmed_ns: u64,
    /// Milliseconds from its first track's first frame to its confirmation.
    pub confirmed_after_ms: f64,
    /// When its last drawn frame ends.
    pub end_ns: u64,
    /// The last frame it is drawn on.
    pub last_frame: u64,
    /// Frames it is drawn on.
    pub frames: u64,
    /// The drawn frame where the network was surest of it.
    pub best_frame: u64,
    /// Timestamp of that frame.
    pub best_pts_ns: u64,
    /// Its pixels there, and the mean of the probability over them, 0–1.
    pub best_area_px: u64,
    /// Mean of the probability over its pixels there, 0–1.
    pub best_mean_probability: f32,
}

/// Mean time from a polyp's first sight to its first alarm; none without a polyp.
pub fn first_alarm_after_ms(polyps: &[PolypRecord]) -> Option<f64> {
    let delays: f64 = polyps.iter().map(|p| p.confirmed_after_ms).sum();
    (!polyps.is_empty()).then(|| delays / polyps.len() as f64)
}

/// How what does not last was withheld.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Confirmation {
    /// `off`, `sensitive`, `balanced` or `quiet`.
    pub setting: String,
    /// Null where nothing is withheld.
    pub numbers: Option<Numbers>,
    /// Frames that started no track, by reason.
    pub gated_frames: BTreeMap<String, u64>,
    /// Tracks seen, and those of them that were confirmed.
    pub tracks: u64,
    /// Tracks that lasted long enough to be shown.
    pub confirmed_tracks: u64,
}

/// How many frames a replay has taken and given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FrameCounts {
    /// Pictures that the source gave, without those that were lost.
    pub read: u64,
    /// Frames that were analysed, and written to all that was asked for.
    pub written: u64,
}

/// Where we draw besides the polyps themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Marks {
    /// The declared status rectangle; null when there is none.
    pub status_rect: Option<Rect>,
}

/// `summary.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Summary {
    /// The recording or the folder of pictures, as it was named.
    pub input: String,
    /// The annotated video, as it was named; empty where none is written.
    pub output: String,
    /// The checkpoint's name.
    pub checkpoint: String,
    /// SHA-256 of its file in lower-case hexadecimal; empty where it is not known.
    pub checkpoint_sha256: String,
    /// Device and precision the network ran with.
    pub engine: String,
    /// The machine it ran on.
    pub machine: Machine,
    /// Source picture in pixels, and its pixel layout.
    pub width_px: u32,
    /// Rows of the source picture.
    pub height_px: u32,
    /// The pixel layout as in GStreamer's caps, such as `I420`.
    pub format: String,
    /// Probability from which on a pixel is marked, 0–1.
    pub threshold: f64,
    /// Last field of view analysed.
    pub field_of_view: Rect,
    /// How many frames were read, and how many written.
    pub frames: FrameCounts,
    /// How long the recording is, and its mean frame rate over that time; filled by the report.
    pub duration_ms: f64,
    /// Frames written for each second of the recording; 0 where it has no length.
    pub fps: f64,
    /// Timestamps that repeated, ran backwards or jumped; filled by the report.
    pub irregular_timestamps: u64,
    /// Why the output does not cover the whole input; null if it does.
    pub partial_reason: Option<String>,
    /// Whether the output does not cover the whole input.
    pub partial: bool,
    /// What could not be read as it was recorded, in the order of the recording.
    #[serde(default)]
    pub losses: Vec<Loss>,
    /// Frames that have a number but no picture.
    #[serde(default)]
    pub lost_frames: u64,
    /// What became of the sound, in a sentence.
    pub audio: String,
    /// Where something is drawn besides the polyps.
    pub marks: Marks,
    /// How what does not last was withheld: another delay than that of the annotation, `first_alarm_after_ms` apart.
    #[serde(default)]
    pub confirm: Confirmation,
    /// Tracks joined across short gaps; none with `--confirm off`. Filled by the report.
    #[serde(default)]
    pub polyps: Vec<PolypRecord>,
    /// The same, drawn for less than half a second: alarms, too short to be counted as polyps.
    #[serde(default)]
    pub brief_alarms: Vec<PolypRecord>,
    /// From a polyp's first sight to its first alarm, in milliseconds; filled by the report.
    #[serde(default)]
    pub first_alarm_after_ms: Option<f64>,
    /// Filled by the report, like the stages.
    pub episodes: Vec<Episode>,
    /// Stage name → time of a frame in it; stages that did not take place are left out.
    pub stages_us: BTreeMap<String, Distribution>,
    /// `mailbox`: waiting for the worker.
    #[serde(default)]
    pub queues_us: BTreeMap<String, Distribution>,
    /// How long the replay took.
    pub elapsed_ms: f64,
    /// Largest resident set of the process up to then; 0 where the system does not say.
    pub peak_rss_bytes: u64,
}
