//! The report of a replay: `frames.jsonl`, `summary.json` and `report.html`.
//!
//! In: the records of all frames in order, a picture of the best frame of each polyp (of each episode, where nothing is
//! followed over time), and the run's own figures. Out:
//! three files for their owner only, all at once or none. Frames stream through; what is kept of them is bounded: the
//! timeline's bins, the episodes, and [`MOST_THUMBNAILS`] thumbnails.

mod page;
mod staging;
pub(crate) mod text;
mod thumbnail;
mod timeline;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::staging::Staging;
use self::thumbnail::Jpeg;
use self::timeline::Timeline;
use super::episodes::{Ended, EpisodeBuilder};
use super::polyps::{Found, PolypBuilder, TrackSpan};
use super::record::{Episode, FrameRecord, PolypRecord, Summary, first_alarm_after_ms};
use crate::frame::{Polyp, Rect};
use crate::telemetry::StageHistograms;
use crate::tracks::Numbers;
use crate::{Error, Result};

pub(crate) use self::page::STYLE;
pub use self::thumbnail::{LONGEST_SIDE, Thumbnail};

/// File with one line a frame, a [`FrameRecord`] each.
pub const FRAMES: &str = "frames.jsonl";
/// File with the [`Summary`].
pub const SUMMARY: &str = "summary.json";
/// File for people, which needs no other file.
pub const PAGE: &str = "report.html";

/// The longest polyps or episodes, this many of them, keep a thumbnail; a report with more says so.
pub const MOST_THUMBNAILS: usize = 200;

/// Points of outlines kept for a thumbnail.
const MOST_POINTS: usize = 600;

/// A report being written. Dropped without [`Report::finish`], it leaves nothing behind.
pub struct Report {
    lines: JsonLines,
    frames: u64,
    positive: u64,
    surest: Option<Surest>,
    builder: EpisodeBuilder,
    timeline: Timeline,
    episodes: Vec<Episode>,
    /// Where tracks are followed, they are shown instead of the episodes.
    polyps: Option<PolypBuilder>,
    /// Polyps too short to be counted.
    brief: Vec<PolypRecord>,
    /// What the page shows: polyps, or else episodes.
    shown: Vec<Shown>,
    /// Those that have a thumbnail, shortest on top.
    pictured: BinaryHeap<Reverse<(u64, usize)>>,
    /// The best sight so far of what is under way: of the episode, or of each polyp by its number.
    pending: Vec<(u64, Sight)>,
    /// Last: its drop removes the folder that the file above lies in.
    staging: Staging,
}

/// What was seen at a best frame.
#[derive(Clone)]
struct Sight {
    thumbnail: Thumbnail,
    outlines: Vec<Vec<[i32; 2]>>,
}

/// An episode or a polyp as the page shows it.
#[derive(Clone, Debug)]
struct Shown {
    /// Of a polyp: what it would be as an episode, from its first alarm on.
    ended: Ended,
    polyp: Option<(PolypRecord, Vec<TrackSpan>)>,
    picture: Option<Pictured>,
}

#[derive(Clone, Debug)]
struct Pictured {
    jpeg: Jpeg,
    view: Rect,
    /// In source pixels.
    outlines: Vec<Vec<[i32; 2]>>,
}

/// The frame with the largest probability of all.
#[derive(Clone, Copy, Debug)]
struct Surest {
    frame: u64,
    pts_ns: u64,
    probability: f32,
}

/// Everything the page shows.
struct Contents<'a> {
    summary: &'a Summary,
    stages: &'a StageHistograms,
    timeline: &'a Timeline,
    /// Polyps if `followed`, else episodes.
    episodes: &'a [Shown],
    followed: bool,
    /// Frames with polyps.
    positive: u64,
    surest: Option<Surest>,
    /// What position 0 of the timeline is called, and where it ends.
    first_pts_ns: u64,
    length_ns: u64,
    /// Where it ends with what is known to be missing after the last frame.
    whole_ns: u64,
}

impl Report {
    /// Prepares to write a report into `dir`, made (0700) if it is not there.
    ///
    /// Without `force`, a report that is already there is refused now, before any work; with it, the old report stays
    /// until [`Report::finish`] replaces it.
    pub fn create(dir: &Path, force: bool) -> Result<Self> {
        let staging = Staging::new(dir, &[FRAMES, SUMMARY, PAGE], force)?;
        let lines = JsonLines::new(staging.create(FRAMES)?, staging.place(FRAMES));
        Ok(Self {
            lines,
            frames: 0,
            positive: 0,
            surest: None,
            builder: EpisodeBuilder::default(),
            timeline: Timeline::default(),
            episodes: Vec::new(),
            polyps: None,
            brief: Vec::new(),
            shown: Vec::new(),
            pictured: BinaryHeap::new(),
            pending: Vec::new(),
            staging,
        })
    }

    /// The frames' tracks are shown, as polyps, instead of episodes.
    pub fn follow(&mut self, numbers: &Numbers) {
        self.polyps = Some(PolypBuilder::new(numbers));
    }

    /// Adds the next frame, shown for `duration_ns` nanoseconds (0 where that is unknown).
    ///
    /// `thumbnail` is called only when this frame is the best so far of its episode. It should return the clean
    /// picture's field of view at [`Thumbnail::size`]; `None` leaves an earlier one of the episode in place.
    pub fn frame(
        &mut self,
        record: &FrameRecord,
        duration_ns: u64,
        thumbnail: &mut dyn FnMut() -> Option<Thumbnail>,
    ) -> Result<()> {
        self.lines.write(record)?;
        let progress = self.builder.frame(record, duration_ns);
        self.episodes.extend(progress.ended.map(|e| e.episode));
        if let Some(builder) = &mut self.polyps {
            let mut over = Vec::new();
            let best = builder.frame(record, &progress.moment, &mut over);
            over.into_iter().for_each(|found| self.close_polyp(found));
            if !best.is_empty()
                && let Some(thumbnail) = thumbnail()
            {
                for polyp in best {
                    let sight =
                        Sight { thumbnail: thumbnail.clone(), outlines: outlines(record, Some(polyp)) };
                    self.keep(polyp, sight);
                }
            }
        } else {
            if let Some(ended) = progress.ended {
                self.close(0, ended, None);
            }
            if progress.best
                && let Some(thumbnail) = thumbnail()
            {
                self.keep(0, Sight { thumbnail, outlines: outlines(record, None) });
            }
        }
        self.frames += 1;
        self.positive += u64::from(!record.polyps.is_empty());
        if record.max_probability.is_finite()
            && self.surest.is_none_or(|s| record.max_probability > s.probability)
        {
            let (frame, pts_ns, probability) = (record.frame, record.pts_ns, record.max_probability);
            self.surest = Some(Surest { frame, pts_ns, probability });
        }
        let m = progress.moment;
        self.timeline.add(m.from_ns, m.to_ns, record.frame, record.area_px, record.max_probability);
        Ok(())
    }

    fn keep(&mut self, of: u64, sight: Sight) {
        self.pending.retain(|(who, _)| *who != of);
        self.pending.push((of, sight));
    }

    fn close_polyp(&mut self, found: Found) {
        let p = &found.record;
        if found.is_brief() {
            self.pending.retain(|(who, _)| *who != p.polyp_id);
            self.brief.push(found.record);
            return;
        }
        let episode = Episode {
            start_ns: p.confirmed_ns,
            end_ns: p.end_ns,
            best_frame: p.best_frame,
            best_pts_ns: p.best_pts_ns,
            best_area_px: p.best_area_px,
            best_mean_probability: p.best_mean_probability,
            max_probability: p.best_mean_probability,
            first_frame: p.confirmed_frame,
            last_frame: p.last_frame,
            frames: p.frames,
        };
        let ended = Ended { episode, from_ns: found.confirmed_ns, to_ns: found.to_ns };
        self.close(p.polyp_id, ended, Some((found.record.clone(), found.spans)));
    }

    /// Keeps an episode or a polyp, and its picture if it is among the longest.
    fn close(&mut self, of: u64, ended: Ended, polyp: Option<(PolypRecord, Vec<TrackSpan>)>) {
        let length = ended.to_ns - ended.from_ns;
        let mut picture = None;
        let sight = self.pending.iter().position(|(who, _)| *who == of).map(|i| self.pending.remove(i).1);
        if let Some(sight) = sight {
            let full = self.pictured.len() >= MOST_THUMBNAILS;
            let shortest = self.pictured.peek().map(|p| p.0);
            if !full || shortest.is_some_and(|(shortest, _)| length > shortest) {
                let view = sight.thumbnail.view;
                picture =
                    sight.thumbnail.encode().map(|jpeg| Pictured { jpeg, view, outlines: sight.outlines });
            }
            if picture.is_some() {
                if full && let Some(Reverse((_, index))) = self.pictured.pop() {
                    self.shown[index].picture = None;
                }
                self.pictured.push(Reverse((length, self.shown.len())));
            }
        }
        self.shown.push(Shown { ended, polyp, picture });
    }

    /// Writes what remains and moves all files to their places.
    ///
    /// Fills the summary's `episodes`, `stages_us`, `duration_ms`, `fps` and `irregular_timestamps`, and returns it.
    /// Set `partial` and `partial_reason` for a recording that was not replayed to its end: the page says so.
    ///
    /// On failure nothing is published, and what was there stays.
    pub fn finish(mut self, mut summary: Summary, stages: &StageHistograms) -> Result<Summary> {
        let last = self.builder.finish();
        self.episodes.extend(last.map(|e| e.episode));
        match self.polyps.as_mut().map(PolypBuilder::finish) {
            Some(found) => found.into_iter().for_each(|f| self.close_polyp(f)),
            None => last.into_iter().for_each(|ended| self.close(0, ended, None)),
        }
        // Polyps end in another order than they begin.
        self.shown.sort_by_key(|s| s.ended.from_ns);
        self.lines.finish()?;
        let clock = self.builder.clock();
        let length_ns = clock.length_ns();
        summary.duration_ms = length_ns as f64 / 1e6;
        summary.fps = if length_ns > 0 { self.frames as f64 * 1e9 / length_ns as f64 } else { 0.0 };
        summary.irregular_timestamps = clock.irregular();
        summary.episodes.clone_from(&self.episodes);
        summary.polyps = self.shown.iter().filter_map(|s| Some(s.polyp.as_ref()?.0.clone())).collect();
        self.brief.sort_by_key(|p| p.confirmed_ns);
        summary.brief_alarms.clone_from(&self.brief);
        summary.first_alarm_after_ms = first_alarm_after_ms(&summary.polyps);
        summary.stages_us =
            stages.distributions_us().into_iter().map(|(name, d)| (name.to_owned(), d)).collect();

        let mut json = serde_json::to_vec_pretty(&summary)
            .map_err(|e| Error::internal(format!("{SUMMARY}: cannot be put into JSON ({e})")))?;
        json.push(b'\n');
        self.write(SUMMARY, &json)?;
        let page = page::page(&Contents {
            summary: &summary,
            stages,
            timeline: &self.timeline,
            episodes: &self.shown,
            followed: self.polyps.is_some(),
            positive: self.positive,
            surest: self.surest,
            first_pts_ns: clock.first_pts_ns(),
            length_ns,
            whole_ns: whole_ns(&summary, clock.first_pts_ns(), length_ns),
        });
        self.write(PAGE, page.as_bytes())?;
        self.staging.publish()?;
        Ok(summary)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut file = self.staging.create(name)?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(|e| Error::write(&self.staging.place(name), e))
    }
}

/// Where the recording would have ended, as far as its losses tell.
fn whole_ns(summary: &Summary, first_pts_ns: u64, length_ns: u64) -> u64 {
    // Where timestamps jump, the timeline is another than theirs.
    if summary.irregular_timestamps > 0 {
        return length_ns;
    }
    let ends = summary.losses.iter().map(|l| l.until_ns.unwrap_or(l.at_ns).saturating_sub(first_pts_ns));
    ends.max().unwrap_or(0).max(length_ns)
}

/// The outlines of a frame's polyps, or of one of them, thinned to what a thumbnail can show.
pub(crate) fn outlines(record: &FrameRecord, of: Option<u64>) -> Vec<Vec<[i32; 2]>> {
    let tracks = || record.tracks.iter().filter(|t| of.is_none() || t.polyp_id == of).map(|t| t.track_id);
    let wanted = |p: &&Polyp| of.is_none() || tracks().any(|id| p.track_id == Some(id));
    let points: usize = record.polyps.iter().filter(wanted).map(|p| p.contour.len()).sum();
    let step = points.div_ceil(MOST_POINTS).max(1);
    record
        .polyps
        .iter()
        .filter(wanted)
        .take(MOST_POINTS / 4)
        .map(|p| p.contour.iter().step_by(step).copied().collect::<Vec<_>>())
        .filter(|c| c.len() > 2)
        .collect()
}

/// One JSON object a line.
struct JsonLines {
    out: BufWriter<File>,
    /// What the user will know the file as.
    place: PathBuf,
}

impl JsonLines {
    fn new(file: File, place: PathBuf) -> Self {
        Self { out: BufWriter::with_capacity(1 << 16, file), place }
    }

    fn write(&mut self, value: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut self.out, value)
            .map_err(io::Error::from)
            .and_then(|()| self.out.write_all(b"\n"))
            .map_err(|e| Error::write(&self.place, e))
    }

    fn finish(&mut self) -> Result<()> {
        self.out
            .flush()
            .and_then(|()| self.out.get_ref().sync_all())
            .map_err(|e| Error::write(&self.place, e))
    }
}

#[cfg(test)]
mod tests;
