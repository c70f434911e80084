//! The measures themselves: detections and truth of one frame after the other flow in, a [`VideoReport`] flows out.
//!
//! Memory holds the last frame's regions and a record per polyp, whatever the length of the video.

use std::collections::BTreeMap;

use super::alarms::Alarms;
use super::detections::FrameDetections;
use super::link::Linker;
use super::object::TruthObject;
use super::region::{Bounds, Region};
use super::report::{FrameTotals, PersistenceFigures, PolypFigures, VideoFigures, VideoReport};
use super::rules::VideoRules;
use crate::distribution::Distribution;
use crate::{Error, Result};

/// A jump of more than this between two frames is a fault of the timestamps.
const LONGEST_PERIOD_MS: f64 = 5000.0;

/// What one frame came to, with every detection shown at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameJudgement {
    /// Number of the frame, from 0.
    pub frame: u64,
    /// Since the first frame.
    pub time_ms: f64,
    /// Whether there was truth to judge by.
    pub judged: bool,
    /// Detections, without those of fewer than [`VideoRules::min_area_px`] pixels.
    pub detections: usize,
    /// Detections that hit no polyp.
    pub false_positives: usize,
    /// The polyps in view. Those of a frame without identities are counted apart from identities, from 1.
    pub polyps: Vec<u64>,
    /// Those of them that were hit.
    pub hit: Vec<u64>,
}

/// Ascending, each once.
fn distinct(ids: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut ids: Vec<u64> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Measures one video at all persistence settings at once.
#[derive(Debug)]
pub struct VideoScorer {
    rules: VideoRules,
    clock: Clock,
    totals: FrameTotals,
    /// Numbers polyps whose truth has no identities.
    linker: Linker,
    /// All detections of the frame before, with their ages in frames.
    previous: Vec<(Region, u32)>,
    truth_before: Option<Region>,
    truth_flicker: Mean,
    settings: Vec<Setting>,
    polyps: BTreeMap<u64, Seen>,
}

/// Set in the numbers that the linker gives to polyps without an identity, which no identity may have.
const NAMELESS: u64 = 1 << 63;

/// Time that only runs forward, whatever the timestamps do.
#[derive(Debug, Default)]
struct Clock {
    last_pts_ns: Option<u64>,
    now_ms: f64,
    period_ms: f64,
    irregular: u64,
    sum_ms: f64,
    steps: u64,
}

impl Clock {
    fn tick(&mut self, pts_ns: u64) {
        if let Some(last) = self.last_pts_ns {
            let step = pts_ns as f64 / 1e6 - last as f64 / 1e6;
            if step > 0.0 && step <= LONGEST_PERIOD_MS {
                self.period_ms = step;
                self.sum_ms += step;
                self.steps += 1;
            } else {
                self.irregular += 1;
            }
            self.now_ms += self.period_ms;
        }
        self.last_pts_ns = Some(pts_ns);
    }

    /// Mean frame period; 0 for a single frame.
    fn mean_ms(&self) -> f64 {
        if self.steps == 0 { 0.0 } else { self.sum_ms / self.steps as f64 }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    fn add(&mut self, v: f64) {
        self.sum += v;
        self.count += 1;
    }

    fn get(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// When a polyp was in view.
#[derive(Clone, Copy, Debug)]
struct Seen {
    first_frame: u64,
    last_frame: u64,
    first_ms: f64,
    frames: u64,
}

/// What one persistence setting makes of the video.
#[derive(Debug)]
struct Setting {
    frames: u32,
    with_hit: u64,
    without_detection: u64,
    appearances: u64,
    appearances_hit: u64,
    /// Per polyp: frames hit, time of the first hit, whether it was hit on the last frame it was in view, and that
    /// frame.
    hits: BTreeMap<u64, Hits>,
    switches: u64,
    alarms: Linker,
    lasting: Alarms,
    false_positives: u64,
    last_alarm: u64,
    false_positive_regions: u64,
    shown_before: Option<Region>,
    flicker: Mean,
}

#[derive(Clone, Copy, Debug)]
struct Hits {
    frames: u64,
    first_ms: Option<f64>,
    last: (u64, bool),
}

impl VideoScorer {
    /// # Errors
    /// Rules that mean nothing.
    pub fn new(rules: VideoRules) -> Result<Self> {
        rules.validate()?;
        let mut persistence = rules.persistence.clone();
        persistence.push(1);
        persistence.sort_unstable();
        persistence.dedup();
        let settings = persistence.into_iter().map(|k| Setting::new(k, &rules)).collect();
        Ok(Self {
            linker: Linker::new(rules.link, rules.link_gap_ms, 1),
            rules,
            clock: Clock::default(),
            totals: FrameTotals::default(),
            previous: Vec::new(),
            truth_before: None,
            truth_flicker: Mean::default(),
            settings,
            polyps: BTreeMap::new(),
        })
    }

    /// Takes the next frame. `truth`: the polyps in view, `None` if nobody knows.
    ///
    /// # Errors
    /// Truth that gives some polyps of a frame an identity and others none, or one identity twice.
    pub fn frame(
        &mut self,
        detected: FrameDetections,
        truth: Option<&[TruthObject]>,
    ) -> Result<FrameJudgement> {
        self.clock.tick(detected.pts_ns);
        let now = self.clock.now_ms;
        let frame = detected.frame;
        let aged = self.age(detected.regions);
        let Some(truth) = truth else {
            self.totals.unjudged += 1;
            self.truth_before = None;
            for setting in &mut self.settings {
                setting.shown_before = None;
            }
            let judgement =
                FrameJudgement { frame, time_ms: now, detections: aged.len(), ..FrameJudgement::default() };
            self.previous = aged;
            return Ok(judgement);
        };
        let ids = self.identities(frame, truth, now)?;

        self.totals.judged += 1;
        if truth.is_empty() {
            self.totals.without_polyp += 1;
        } else {
            self.totals.with_polyp += 1;
        }
        for &id in &ids {
            let seen = self.polyps.entry(id).or_insert(Seen {
                first_frame: frame,
                last_frame: frame,
                first_ms: now,
                frames: 0,
            });
            // Several boxes may be one polyp (link all): a frame counts once.
            seen.frames += u64::from(seen.frames == 0 || seen.last_frame != frame);
            seen.last_frame = frame;
        }

        // Which detections hit which polyps does not depend on the setting.
        let hits: Vec<Vec<usize>> = aged
            .iter()
            .map(|(region, _)| (0..truth.len()).filter(|&t| self.rules.hit.hits(region, &truth[t])).collect())
            .collect();
        for setting in &mut self.settings {
            setting.frame(frame, now, self.clock.mean_ms(), &aged, &hits, &ids);
        }
        let whole = Region::union(truth.iter().map(|t| &t.region));
        flicker(&mut self.truth_flicker, &mut self.truth_before, whole);
        let judgement = FrameJudgement {
            frame,
            time_ms: now,
            judged: true,
            detections: aged.len(),
            false_positives: hits.iter().filter(|h| h.is_empty()).count(),
            polyps: distinct(ids.iter().map(|id| id & !NAMELESS)),
            hit: distinct(hits.iter().flatten().map(|&t| ids[t] & !NAMELESS)),
        };
        self.previous = aged;
        Ok(judgement)
    }

    /// How many frames in a row each detection has been there: one more than the oldest it overlaps in the frame
    /// before.
    fn age(&self, regions: Vec<Region>) -> Vec<(Region, u32)> {
        regions
            .into_iter()
            .filter(|r| r.area_px() >= self.rules.min_area_px.max(1))
            .map(|region| {
                let oldest = (self.previous.iter())
                    .filter(|(before, _)| before.bounds().intersection(&region.bounds()) > 0)
                    .map(|(_, age)| *age)
                    .max();
                (region, oldest.unwrap_or(0).saturating_add(1))
            })
            .collect()
    }

    fn identities(&mut self, frame: u64, truth: &[TruthObject], now: f64) -> Result<Vec<u64>> {
        let named: Vec<u64> = truth.iter().filter_map(|t| t.id).collect();
        if named.is_empty() {
            let boxes: Vec<Bounds> = truth.iter().map(|t| t.region.bounds()).collect();
            return Ok(self.linker.frame(now, &boxes).into_iter().map(|id| id | NAMELESS).collect());
        }
        if let Some(id) = named.iter().find(|id| **id & NAMELESS != 0) {
            return Err(Error::input(format!("truth, frame {frame}: {id} is no identity"))
                .remedy("number the polyps from 1 on"));
        }
        let mut sorted = named.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if named.len() != truth.len() || sorted.len() != named.len() {
            return Err(Error::input(format!("truth, frame {frame}: identities are missing or repeated"))
                .remedy("give every polyp of a frame an identity of its own, or none"));
        }
        Ok(named)
    }

    /// The measures so far.
    pub fn report(&self) -> VideoReport {
        let period = self.clock.mean_ms();
        let judged_ms = self.totals.judged as f64 * period;
        let minutes = judged_ms / 60_000.0;
        let in_view_minutes = self.totals.with_polyp as f64 * period / 60_000.0;
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let per_minute = |count: u64, minutes: f64| (minutes > 0.0).then(|| count as f64 / minutes);
        let persistence: Vec<PersistenceFigures> = self
            .settings
            .iter()
            .map(|s| {
                let delays: Vec<f64> = (s.hits.iter())
                    .filter_map(|(id, hits)| Some(hits.first_ms? - self.polyps.get(id)?.first_ms))
                    .collect();
                let found = delays.len() as u64;
                let figures = VideoFigures {
                    per_polyp_sensitivity: share(found, self.polyps.len() as u64),
                    per_frame_sensitivity: share(s.with_hit, self.totals.with_polyp),
                    per_frame_specificity: share(s.without_detection, self.totals.without_polyp),
                    first_detection_ms: (found > 0).then(|| delays.iter().sum::<f64>() / found as f64),
                    false_positives_per_minute: per_minute(s.false_positives, minutes),
                    false_alarms: s.lasting.counts(period),
                    flicker: s.flicker.get(),
                    flicker_pairs: s.flicker.count,
                    polyps_found: found,
                    per_appearance_sensitivity: share(s.appearances_hit, s.appearances),
                    switches_per_minute: per_minute(s.switches, in_view_minutes),
                    false_positives: s.false_positives,
                    false_positive_regions: s.false_positive_regions,
                    first_detection: distribution(delays),
                };
                PersistenceFigures { frames: s.frames, delay_ms: f64::from(s.frames - 1) * period, figures }
            })
            .collect();
        let at_once = &self.settings[0];
        // Those without a name are numbered behind those with one.
        let named = self.polyps.keys().copied().filter(|id| id & NAMELESS == 0).max().unwrap_or(0);
        let per_polyp = (self.polyps.iter())
            .map(|(&id, seen)| {
                let hits = at_once.hits.get(&id);
                PolypFigures {
                    id: if id & NAMELESS == 0 { id } else { named + (id & !NAMELESS) },
                    first_frame: seen.first_frame,
                    last_frame: seen.last_frame,
                    frames: seen.frames,
                    hit_frames: hits.map_or(0, |h| h.frames),
                    first_detection_ms: hits.and_then(|h| h.first_ms).map(|ms| ms - seen.first_ms),
                }
            })
            .collect();
        VideoReport {
            polyps: self.polyps.len() as u64,
            figures: persistence[0].figures.clone(),
            persistence,
            confirm: Vec::new(),
            gates: BTreeMap::new(),
            flicker_truth: self.truth_flicker.get(),
            frames: FrameTotals { irregular_timestamps: self.clock.irregular, ..self.totals },
            judged_ms,
            per_polyp,
            rules: self.rules.sentences(),
        }
    }
}

impl Setting {
    fn new(frames: u32, rules: &VideoRules) -> Self {
        let link = if rules.link == super::LinkRule::All { super::LinkRule::default() } else { rules.link };
        Self {
            frames,
            with_hit: 0,
            without_detection: 0,
            appearances: 0,
            appearances_hit: 0,
            hits: BTreeMap::new(),
            switches: 0,
            alarms: Linker::new(link, rules.link_gap_ms, 1),
            lasting: Alarms::new(link, rules.alarm_gap_ms),
            false_positives: 0,
            last_alarm: 0,
            false_positive_regions: 0,
            shown_before: None,
            flicker: Mean::default(),
        }
    }

    /// `hits`: per detection, the numbers of the polyps (places in `ids`) it hits.
    fn frame(
        &mut self,
        frame: u64,
        now: f64,
        period: f64,
        aged: &[(Region, u32)],
        hits: &[Vec<usize>],
        ids: &[u64],
    ) {
        let shown: Vec<usize> = (0..aged.len()).filter(|&d| aged[d].1 >= self.frames).collect();

        let hit_ids = distinct(shown.iter().flat_map(|&d| hits[d].iter().map(|&t| ids[t])));
        let in_view = distinct(ids.iter().copied());
        if in_view.is_empty() {
            self.without_detection += u64::from(shown.is_empty());
        } else {
            self.with_hit += u64::from(!hit_ids.is_empty());
        }
        self.appearances += in_view.len() as u64;
        self.appearances_hit += hit_ids.len() as u64;
        for id in in_view {
            let is_hit = hit_ids.binary_search(&id).is_ok();
            let entry =
                self.hits.entry(id).or_insert(Hits { frames: 0, first_ms: None, last: (frame, false) });
            entry.frames += u64::from(is_hit);
            if is_hit && entry.first_ms.is_none() {
                entry.first_ms = Some(now);
            }
            // A first frame, and one after a time out of view, switches nothing.
            if entry.last.0 + 1 == frame && entry.last.1 != is_hit {
                self.switches += 1;
            }
            entry.last = (frame, is_hit);
        }

        let false_ones: Vec<Bounds> =
            shown.iter().filter(|&&d| hits[d].is_empty()).map(|&d| aged[d].0.bounds()).collect();
        self.false_positive_regions += false_ones.len() as u64;
        self.lasting.frame(now, period, &false_ones);
        for alarm in self.alarms.frame(now, &false_ones) {
            // Numbers ascend, so a larger one than any before is a new alarm.
            if alarm > self.last_alarm {
                self.last_alarm = alarm;
                self.false_positives += 1;
            }
        }

        let mask = Region::union(shown.iter().map(|&d| &aged[d].0));
        flicker(&mut self.flicker, &mut self.shown_before, mask);
    }
}

/// Adds 1 − IoU of a mask and the one before, unless both are empty.
fn flicker(mean: &mut Mean, before: &mut Option<Region>, now: Region) {
    if let Some(before) = before
        && !(before.is_empty() && now.is_empty())
    {
        mean.add(1.0 - before.iou(&now));
    }
    *before = Some(now);
}

/// Exact percentiles (the smallest value that so many do not exceed) of a few values.
fn distribution(mut values: Vec<f64>) -> Distribution {
    if values.is_empty() {
        return Distribution::default();
    }
    values.sort_by(f64::total_cmp);
    let n = values.len();
    // In whole numbers: 99.9 % of 1000 is 999, and in floating-point numbers a little more.
    let at = |per_mille: usize| values[(per_mille * n).div_ceil(1000).clamp(1, n) - 1];
    let mean = values.iter().sum::<f64>() / n as f64;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n as f64;
    Distribution {
        count: n as u64,
        mean,
        stddev: variance.sqrt(),
        min: values[0],
        p10: at(100),
        p50: at(500),
        p90: at(900),
        p95: at(950),
        p99: at(990),
        p999: at(999),
        max: values[n - 1],
    }
}
