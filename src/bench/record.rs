//! What a run came to.
//!
//! In: a live summary and the histograms behind it. Out: the record `bench pipeline --json` writes and `bench compare`
//! reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::distribution::{Distribution, Histogram};
use crate::telemetry::{LiveSummary, Machine};
use crate::{Error, Result, small_file};

/// Points of a curve in the file: enough to draw it.
const MOST_POINTS: usize = 200;
/// Stages in the order a frame passes them, queues among them.
pub(super) const ORDER: [&str; 12] = [
    "decode",
    "hand_over",
    "mailbox",
    "preprocess",
    "network",
    "tracks",
    "postprocess",
    "mask_slot",
    "motion",
    "composite",
    "encode",
    "sink",
];
pub(super) const DELAYS: [&str; 3] = ["video_delay", "annotation_delay", "mask_age"];

/// Two figures the percentiles hide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// p95 → p100: how much later than nearly all the last one was (max − p95).
    pub tail: f64,
    /// p10 → p90: how wide the usual is (p90 − p10).
    pub flatness: f64,
}

impl Shape {
    pub fn of(d: &Distribution) -> Self {
        Self { tail: d.max - d.p95, flatness: d.p90 - d.p10 }
    }
}

/// One run: the live summary and what the benchmark adds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunRecord {
    #[serde(flatten)]
    pub summary: LiveSummary,
    pub width_px: u32,
    pub height_px: u32,
    /// Frames before the measured ones.
    pub warm_up_frames: u64,
    /// `null`: as fast as possible.
    pub fps_target: Option<f64>,
    pub fps_achieved: f64,
    /// Frames whose own mask was not ready one period after capture, among them those never inferred; `null` where
    /// frames come as fast as possible.
    pub deadline_misses: Option<u64>,
    /// Tail and flatness of every distribution.
    pub shape_us: BTreeMap<String, Shape>,
    /// Share of values at or below each of some microseconds.
    pub cdf_us: BTreeMap<String, Vec<[f64; 2]>>,
    /// The sleep that was added, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slowed: Option<String>,
}

impl RunRecord {
    /// Every distribution that has a value, in microseconds: delays first, then stages and queues in the frame's order.
    pub fn distributions(&self) -> Vec<(&str, &Distribution)> {
        let s = &self.summary;
        let delays = DELAYS.into_iter().zip([&s.video_delay_us, &s.annotation_delay_us, &s.mask_age_us]);
        let mut all: Vec<(&str, &Distribution)> = delays.collect();
        let parts = || s.stages_us.iter().chain(&s.queues_us).map(|(n, d)| (n.as_str(), d));
        all.extend(ORDER.iter().filter_map(|name| parts().find(|p| p.0 == *name)));
        all.extend(parts().filter(|p| !ORDER.contains(&p.0)));
        all.retain(|d| d.1.count > 0);
        all
    }

    pub fn distribution(&self, name: &str) -> Option<&Distribution> {
        self.distributions().into_iter().find(|d| d.0 == name).map(|d| d.1)
    }

    /// Fills in what follows from the distributions.
    pub fn derive(&mut self) {
        self.shape_us = self.distributions().into_iter().map(|(n, d)| (n.to_owned(), Shape::of(d))).collect();
    }
}

/// A histogram's cumulative curve in microseconds, thinned to what a plot can show: the tail keeps its points.
pub fn thinned_us(histogram: &Histogram) -> Vec<[f64; 2]> {
    let all = histogram.cumulative();
    let last = all.last().copied();
    // Each further nine of the share takes as much room as the one before.
    let height = |share: f64| -(1.0 - share.min(0.9999)).log10() / 4.0;
    let mut kept: Vec<(u64, f64)> = Vec::new();
    let mut next = 0.0;
    for point in all {
        let at = height(point.1);
        if at >= next {
            kept.push(point);
            next = at + 1.0 / (MOST_POINTS - 3) as f64;
        }
    }
    if let Some(last) = last
        && kept.last() != Some(&last)
    {
        kept.push(last);
    }
    kept.into_iter().map(|(ns, share)| [ns as f64 / 1e3, share]).collect()
}

/// What `bench pipeline --json` writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PipelineReport {
    pub machine: Machine,
    pub runs: Vec<RunRecord>,
}

impl PipelineReport {
    /// Reads a file of `bench pipeline --json`.
    ///
    /// # Errors
    /// A file that cannot be read, holds something else, or no run.
    pub fn read(path: &std::path::Path) -> Result<Self> {
        let text = small_file::read_text(path, small_file::LARGE, "a result of `bench pipeline --json`")?;
        let foreign = || {
            Error::input(format!("{}: is no result of `bench pipeline --json`", path.display()))
                .remedy("give the file that command wrote")
        };
        let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| foreign().because(e))?;
        let runs = value.get("runs").and_then(|r| r.as_array()).ok_or_else(foreign)?;
        if !runs.iter().all(|r| r.get("fps_achieved").is_some() && r.get("stages_us").is_some()) {
            return Err(foreign());
        }
        let report: Self = serde_json::from_value(value).map_err(|e| foreign().because(e))?;
        if report.runs.is_empty() {
            return Err(Error::input(format!("{}: holds no run", path.display())).remedy("measure again"));
        }
        report.check_unmixed().map_err(|e| e.at(path.display()))?;
        Ok(report)
    }

    /// # Errors
    /// Paced runs among runs as fast as possible, several rates or sizes.
    pub fn check_unmixed(&self) -> Result<()> {
        let key = |r: &RunRecord| (r.fps_target.map(f64::to_bits), r.width_px, r.height_px);
        if self.runs.windows(2).any(|p| key(&p[0]) != key(&p[1])) {
            return Err(Error::usage("runs of different rates or sizes stand together")
                .remedy("keep each rate and size in a file of its own"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Nanos;

    #[test]
    fn a_curve_keeps_its_ends_and_its_order() {
        let mut h = Histogram::new();
        for i in 1..20_000u64 {
            h.record(Nanos(i * i));
        }
        let curve = thinned_us(&h);
        assert!((50..=MOST_POINTS).contains(&curve.len()), "{}", curve.len());
        assert!(curve.windows(2).all(|p| p[0][0] < p[1][0] && p[0][1] < p[1][1]));
        assert_eq!(curve.last().unwrap()[1], 1.0);
        assert!(thinned_us(&Histogram::new()).is_empty());
    }

    #[test]
    fn a_record_reads_back_with_every_key_of_the_live_summary() {
        let mut run = RunRecord { fps_target: Some(30.0), fps_achieved: 29.9, ..Default::default() };
        run.summary.frames.entered = 12;
        run.summary.video_delay_us =
            Distribution { count: 3, max: 9.0, p95: 4.0, p90: 3.0, p10: 1.0, ..Default::default() };
        run.summary.queues_us.insert("mailbox".into(), Distribution { count: 1, ..Default::default() });
        run.derive();
        assert_eq!(run.shape_us["video_delay"], Shape { tail: 5.0, flatness: 2.0 });
        let report = PipelineReport { runs: vec![run], ..Default::default() };
        let text = serde_json::to_string(&report).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, &text).unwrap();
        assert_eq!(PipelineReport::read(&path).unwrap(), report);
        assert!(text.contains("\"frames\":{\"in\":12") && text.contains("\"deadline_misses\":null"));
        std::fs::write(&path, "{\"runs\":[{\"frame_ms\":1}]}").unwrap();
        assert!(PipelineReport::read(&path).unwrap_err().to_string().contains("is no result of"));
    }

    #[test]
    fn paced_runs_and_runs_at_full_speed_never_stand_together() {
        let paced = RunRecord { fps_target: Some(30.0), ..Default::default() };
        let report = PipelineReport { runs: vec![paced, RunRecord::default()], ..Default::default() };
        assert!(report.check_unmixed().is_err());
    }
}
