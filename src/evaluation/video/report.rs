//! What measuring a video says: figures flow in, JSON and lines of text flow out.

use std::collections::BTreeMap;

use serde::Serialize;

use super::alarms::AlarmCounts;
use crate::distribution::Distribution;
use crate::tracks::Numbers;

/// The measures of one persistence setting. `None` (JSON `null`) where nothing defines one.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VideoFigures {
    /// Share of the polyps found in at least one frame.
    pub per_polyp_sensitivity: Option<f64>,
    /// Share of the frames with a polyp on which one is hit.
    pub per_frame_sensitivity: Option<f64>,
    /// Share of the frames without a polyp on which nothing is detected.
    pub per_frame_specificity: Option<f64>,
    /// From a polyp's first frame to its first hit: mean over the polyps found.
    pub first_detection_ms: Option<f64>,
    /// False positives (detections that hit no polyp, linked over time) per minute of judged video.
    pub false_positives_per_minute: Option<f64>,
    /// False alarms by the definitions in use.
    pub false_alarms: AlarmCounts,
    /// Mean of 1 − intersection over union of the masks of successive frames.
    pub flicker: Option<f64>,
    /// Pairs of frames in that mean.
    pub flicker_pairs: u64,
    /// Polyps found.
    pub polyps_found: u64,
    /// Share of all (polyp, frame) pairs that are hit.
    pub per_appearance_sensitivity: Option<f64>,
    /// Times a polyp in view changed between hit and missed, per minute that one was in view.
    pub switches_per_minute: Option<f64>,
    /// False positives in all: what is counted per minute above.
    pub false_positives: u64,
    /// Detections that hit no polyp, frame by frame.
    pub false_positive_regions: u64,
    /// Times from a polyp's first frame to its first hit, in ms, over the polyps found.
    pub first_detection: Distribution,
}

/// Those of [`VideoFigures`] that several recordings have together: what counts alone can be added for. `None` (JSON
/// `null`) where nothing defines one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PooledFigures {
    /// Share of the polyps found in at least one frame.
    pub per_polyp_sensitivity: Option<f64>,
    /// Share of the frames with a polyp on which one is hit.
    pub per_frame_sensitivity: Option<f64>,
    /// Share of the frames without a polyp on which nothing is detected.
    pub per_frame_specificity: Option<f64>,
    /// From a polyp's first frame to its first alarm: mean over the polyps found.
    pub first_detection_ms: Option<f64>,
    /// False alarms by the definitions in use.
    pub false_alarms: AlarmCounts,
    /// Mean of 1 − intersection over union of the masks of successive frames.
    pub flicker: Option<f64>,
    /// Pairs of frames in that mean.
    pub flicker_pairs: u64,
    /// Polyps found.
    pub polyps_found: u64,
}

impl From<&VideoFigures> for PooledFigures {
    fn from(f: &VideoFigures) -> Self {
        Self {
            per_polyp_sensitivity: f.per_polyp_sensitivity,
            per_frame_sensitivity: f.per_frame_sensitivity,
            per_frame_specificity: f.per_frame_specificity,
            first_detection_ms: f.first_detection_ms,
            false_alarms: f.false_alarms,
            flicker: f.flicker,
            flicker_pairs: f.flicker_pairs,
            polyps_found: f.polyps_found,
        }
    }
}

/// One setting of the filter, by the measures that several recordings have together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PooledSetting {
    /// The setting as it was asked for (`balanced`, or with numbers changed).
    pub name: String,
    /// `None`: nothing is withheld, or the name is of a setting that this version does not know.
    pub numbers: Option<Numbers>,
    /// The measures under this setting.
    #[serde(flatten)]
    pub figures: PooledFigures,
}

impl From<&ConfirmFigures> for PooledSetting {
    fn from(r: &ConfirmFigures) -> Self {
        Self { name: r.name.clone(), numbers: r.numbers, figures: (&r.figures).into() }
    }
}

/// One line of the persistence table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PersistenceFigures {
    /// Frames in a row that must hold a detection before it shows.
    pub frames: u32,
    /// What that costs: a detection shows so much later.
    pub delay_ms: f64,
    /// The measures under this setting.
    #[serde(flatten)]
    pub figures: VideoFigures,
}

/// One setting of the filter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConfirmFigures {
    /// The setting as it was asked for (`balanced`, or with numbers changed).
    pub name: String,
    /// `None`: nothing is withheld.
    pub numbers: Option<Numbers>,
    /// `first_detection_ms` is the first alarm: with the time that the setting withholds.
    #[serde(flatten)]
    pub figures: VideoFigures,
    /// Each polyp under this setting.
    pub per_polyp: Vec<PolypFigures>,
}

/// Frames that start no track, for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GateCounts {
    /// Judged frames for which this was the reason.
    pub frames: u64,
    /// Those of them with a polyp in view: what the gate may cost.
    pub with_polyp: u64,
}

/// How many frames were judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FrameTotals {
    /// Frames with truth: what all measures are of.
    pub judged: u64,
    /// Judged frames with a polyp in view.
    pub with_polyp: u64,
    /// Judged frames without one.
    pub without_polyp: u64,
    /// Frames the truth does not speak of.
    pub unjudged: u64,
    /// Frames whose timestamp did not follow the one before it; the last good frame period stood in.
    pub irregular_timestamps: u64,
}

/// One polyp, with every detection shown at once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PolypFigures {
    /// Its identity in the truth; where there is none, its number in the order of appearance, from 1.
    pub id: u64,
    /// Number of the first frame it is in view, from 0.
    pub first_frame: u64,
    /// Number of the last frame it is in view.
    pub last_frame: u64,
    /// Frames it is in view.
    pub frames: u64,
    /// Frames on which a detection hits it.
    pub hit_frames: u64,
    /// From its first frame to its first hit; `None` if it is never hit.
    pub first_detection_ms: Option<f64>,
}

/// The measures of a video.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VideoReport {
    /// Polyps in the truth.
    pub polyps: u64,
    /// With every detection shown at once (persistence 1).
    #[serde(flatten)]
    pub figures: VideoFigures,
    /// A line for each setting, ascending in frames; the first is 1.
    pub persistence: Vec<PersistenceFigures>,
    /// The settings of `--confirm`, side by side; empty where there are no maps to filter.
    pub confirm: Vec<ConfirmFigures>,
    /// By the gate's name; empty where there are no maps to filter.
    pub gates: BTreeMap<&'static str, GateCounts>,
    /// The truth's own change from frame to frame, measured as flicker: what motion alone explains.
    pub flicker_truth: Option<f64>,
    /// How many frames were judged, and how many could not be.
    pub frames: FrameTotals,
    /// Judged frames times the mean frame period.
    pub judged_ms: f64,
    /// A line for each polyp, ascending by `id`.
    pub per_polyp: Vec<PolypFigures>,
    /// The rules behind the figures, as sentences.
    pub rules: Vec<String>,
}

impl VideoReport {
    /// The settings of `--confirm`, as several recordings' are shown.
    pub fn settings(&self) -> Vec<PooledSetting> {
        self.confirm.iter().map(PooledSetting::from).collect()
    }

    /// For people: counts, a table over the persistence settings, a line a polyp, the rules.
    pub fn text(&self) -> String {
        let mut out = format!(
            "{} polyps; {} frames judged ({} with a polyp, {} without), {:.1} s",
            self.polyps,
            self.frames.judged,
            self.frames.with_polyp,
            self.frames.without_polyp,
            self.judged_ms / 1e3
        );
        if self.frames.unjudged > 0 {
            out.push_str(&format!("; {} frames without truth", self.frames.unjudged));
        }
        if self.frames.irregular_timestamps > 0 {
            out.push_str(&format!("; {} irregular timestamps", self.frames.irregular_timestamps));
        }
        out.push_str("\n\n");
        out.push_str(
            "persistence   delay  per-polyp  per-frame  specificity  first detection  false pos.  flicker  switches\n\
             frames           ms  sens.      sens.                    ms (mean)        per min              per min\n",
        );
        for p in &self.persistence {
            let f = &p.figures;
            out.push_str(&format!(
                "{:<11}  {:>6.0}  {}  {}  {}  {}  {}  {}  {}\n",
                p.frames,
                p.delay_ms,
                number(f.per_polyp_sensitivity, 9, 3),
                number(f.per_frame_sensitivity, 9, 3),
                number(f.per_frame_specificity, 11, 3),
                number(f.first_detection_ms, 15, 0),
                number(f.false_positives_per_minute, 10, 2),
                number(f.flicker, 7, 3),
                number(f.switches_per_minute, 8, 1),
            ));
        }
        if let Some(truth) = self.flicker_truth {
            out.push_str(&format!("truth's own flicker {truth:.3}\n"));
        }
        out.push_str(&table(&self.settings(), self.judged_ms / 60_000.0, 1));
        let closed: Vec<String> = (self.gates.iter().filter(|(_, c)| c.frames > 0))
            .map(|(name, c)| format!("{name} {} ({} with a polyp)", c.frames, c.with_polyp))
            .collect();
        if !closed.is_empty() {
            out.push_str(&format!("frames that start no track: {}\n", closed.join(", ")));
        }
        out.push('\n');
        for p in &self.per_polyp {
            let found = match p.first_detection_ms {
                Some(ms) => format!("hit on {}, first after {ms:.0} ms", p.hit_frames),
                None => "never hit".into(),
            };
            out.push_str(&format!(
                "polyp {}: frames {}–{}, in view on {}, {found}\n",
                p.id, p.first_frame, p.last_frame, p.frames
            ));
        }
        out.push('\n');
        for rule in &self.rules {
            out.push_str(&format!("{rule}\n"));
        }
        out
    }
}

fn number(v: Option<f64>, width: usize, digits: usize) -> String {
    match v {
        Some(v) => format!("{v:>width$.digits$}"),
        None => format!("{:>width$}", "–"),
    }
}

/// The settings side by side, of `minutes` of judged video in so many recordings; nothing if there are none.
pub(super) fn table(rows: &[PooledSetting], minutes: f64, recordings: u64) -> String {
    let Some(widest) = rows.iter().map(|r| r.name.chars().count()).max() else { return String::new() };
    let widest = widest.max("confirm".len());
    let mut out = format!(
        "\n{:<widest$}  per-polyp  per-frame  specificity  first alarm  flicker  false alarms per minute | per recording\n\
         {:<widest$}  sens.      sens.                    ms (mean)          ",
        "confirm", ""
    );
    for (name, _) in AlarmCounts::default().named() {
        out.push_str(&format!("  {name:>15}"));
    }
    out.push('\n');
    for PooledSetting { name, figures: f, .. } in rows {
        out.push_str(&format!(
            "{name:<widest$}  {}  {}  {}  {}  {}",
            number(f.per_polyp_sensitivity, 9, 3),
            number(f.per_frame_sensitivity, 9, 3),
            number(f.per_frame_specificity, 11, 3),
            number(f.first_detection_ms, 11, 0),
            number(f.flicker, 7, 3),
        ));
        for (_, count) in f.false_alarms.named() {
            let per_minute = (minutes > 0.0).then(|| count as f64 / minutes);
            let each = count as f64 / recordings.max(1) as f64;
            out.push_str(&format!("  {} | {each:>5.1}", number(per_minute, 7, 2)));
        }
        out.push('\n');
    }
    out
}
