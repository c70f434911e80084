//! What came of a unit: the object that makes its result stand.
//!
//! In: the segments of a recording, in order. Out: its findings as one object. Tracks and polyps are numbered through
//! the whole recording, and a polyp that was in view where a segment had to end is joined to what it was before.

use serde::{Deserialize, Serialize};

use super::segment::{Cost, Segment};
use crate::capture::{Loss, lost_frames};
use crate::frame::{Rect, TrackMark, TrackState};
use crate::replay::findings::Findings;
use crate::replay::record::{Episode, FrameRecord, PolypRecord};
use crate::tracks::Numbers;

/// A recording's course in so many pieces.
pub(super) const COURSE: usize = 120;

/// Outcomes keep this many of a recording's losses; all are counted.
const MOST_LOSSES: usize = 100;

/// Slowest frames kept of a unit.
const SLOWEST: usize = 5;

/// How much of a recording its result covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// All of the recording was read.
    Whole,
    /// Not all of the recording could be read.
    Partial,
    /// None of it could.
    #[default]
    Unreadable,
}

impl Ending {
    /// As it stands in JSON and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Partial => "partial",
            Self::Unreadable => "unreadable",
        }
    }
}

/// The result itself: the same for everybody who computes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Found {
    pub ending: Ending,
    /// Why it is not whole; names no file.
    pub reason: Option<String>,
    pub frames: u64,
    pub lost_frames: u64,
    pub losses: Vec<Loss>,
    pub width: u32,
    pub height: u32,
    /// The last field of view.
    pub view: Rect,
    pub first_pts_ns: u64,
    pub length_ns: u64,
    pub irregular_timestamps: u64,
    pub positive_frames: u64,
    pub tracks: u64,
    pub polyps: Vec<PolypRecord>,
    pub brief: Vec<PolypRecord>,
    pub episodes: Vec<Episode>,
    /// Each of [`COURSE`] pieces of its length: the largest probability, in tenths, as a digit; `.` where there is no
    /// frame.
    pub course: String,
}

/// How it was computed: another one for everybody.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub tries: u32,
    /// Segments that were begun after a kill.
    pub resumes: u32,
    pub elapsed_ms: f64,
    pub resume_ms: f64,
    pub engine: String,
    pub cpu: String,
    pub stages_ms: Vec<(String, f64)>,
    /// Frame, milliseconds, and of those in the network.
    pub slowest: Vec<(u64, f64, f64)>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// 1: this form of the object.
    pub polypscope_outcome: u32,
    /// The unit's key.
    pub key: String,
    /// The result itself.
    pub found: Found,
    /// How it was computed.
    pub run: Run,
    /// Try and number of the segments with its frames.
    pub round: u32,
    /// How many segments hold its frames.
    pub segments: usize,
}

impl Outcome {
    /// Of a recording that cannot be read at all.
    pub(super) fn unreadable(key: &str, round: u32, reason: String) -> Self {
        let found = Found { reason: Some(reason), ..Found::default() };
        let run = Run { tries: round, ..Run::default() };
        Self { polypscope_outcome: 1, key: key.to_owned(), found, run, round, segments: 0 }
    }
}

/// Puts segments together, frame by frame.
pub(super) struct Assembly {
    joins: Joins,
    findings: Findings,
    found: Found,
    run: Run,
    course: Course,
    segments: usize,
}

impl Assembly {
    pub fn new(numbers: Option<&Numbers>) -> Self {
        Self {
            joins: Joins::new(numbers),
            findings: Findings::new(numbers),
            found: Found::default(),
            run: Run::default(),
            course: Course::default(),
            segments: 0,
        }
    }

    /// Takes the next frame of the segment under way, and numbers its tracks through the recording.
    pub fn frame(&mut self, record: &mut FrameRecord, duration_ns: u64) {
        self.joins.number(record);
        let seen = self.findings.frame(record, duration_ns);
        self.found.frames += 1;
        self.found.positive_frames += u64::from(!record.polyps.is_empty());
        self.course.add(seen.from_ns, seen.to_ns, record.max_probability);
    }

    /// The segment under way is over.
    pub fn segment(&mut self, segment: &Segment) {
        let tail = &segment.tail;
        self.joins.cut(tail.forced);
        self.segments += 1;
        (self.found.width, self.found.height, self.found.view) = (tail.width, tail.height, tail.view);
        self.cost(&tail.cost);
        if let Some(end) = &tail.end {
            self.found.ending = if end.partial.is_some() { Ending::Partial } else { Ending::Whole };
            self.found.reason.clone_from(&end.partial);
            self.found.lost_frames = lost_frames(&end.losses);
            self.found.losses = end.losses.iter().take(MOST_LOSSES).copied().collect();
        }
    }

    fn cost(&mut self, cost: &Cost) {
        let run = &mut self.run;
        run.elapsed_ms += cost.elapsed_ms;
        run.resume_ms += cost.resume_ms;
        run.resumes += u32::from(cost.resume_ms > 0.0);
        run.engine.clone_from(&cost.engine);
        run.cpu.clone_from(&cost.cpu);
        for (stage, ms) in &cost.stages_ms {
            match run.stages_ms.iter_mut().find(|(s, _)| s == stage) {
                Some((_, sum)) => *sum += ms,
                None => run.stages_ms.push((stage.clone(), *ms)),
            }
        }
        run.slowest.extend_from_slice(&cost.slowest);
        run.slowest.sort_by(|a, b| b.1.total_cmp(&a.1));
        run.slowest.truncate(SLOWEST);
    }

    pub fn finish(mut self, key: &str, round: u32) -> Outcome {
        let total = self.findings.finish();
        self.found.first_pts_ns = total.first_pts_ns;
        self.found.length_ns = total.length_ns;
        self.found.irregular_timestamps = total.irregular_timestamps;
        self.found.tracks = self.joins.tracks.last;
        self.found.polyps = total.polyps;
        self.found.brief = total.brief;
        self.found.episodes = total.episodes;
        self.found.course = self.course.digits(total.length_ns);
        self.run.tries = round;
        Outcome {
            polypscope_outcome: 1,
            key: key.to_owned(),
            found: self.found,
            run: self.run,
            round,
            segments: self.segments,
        }
    }
}

/// Numbers that begin anew with every segment, made to run on.
#[derive(Default)]
struct Numbering {
    /// What was given out before this segment.
    base: u64,
    /// The largest given out.
    last: u64,
}

impl Numbering {
    fn number(&mut self, local: u64) -> u64 {
        let number = self.base + local;
        self.last = self.last.max(number);
        number
    }
}

/// Tracks and polyps through the whole recording.
pub(super) struct Joins {
    tracks: Numbering,
    polyps: Numbering,
    /// So long after a forced cut a polyp may be the one from before it.
    gap_ns: u64,
    /// Polyps in view where the segment before had to end, not taken up again yet.
    open: Vec<(u64, Rect)>,
    cut_pts_ns: u64,
    /// This segment's polyps that are one from before: their own number, and the number they have.
    joined: Vec<(u64, u64)>,
    /// Polyps of this segment seen so far.
    known: Vec<u64>,
    last: Vec<(u64, Rect)>,
    last_pts_ns: u64,
}

impl Joins {
    pub fn new(numbers: Option<&Numbers>) -> Self {
        Self {
            tracks: Numbering::default(),
            polyps: Numbering::default(),
            gap_ns: numbers.map_or(0, |n| (f64::from(n.gap_ms) * 1e6) as u64),
            open: Vec::new(),
            cut_pts_ns: 0,
            joined: Vec::new(),
            known: Vec::new(),
            last: Vec::new(),
            last_pts_ns: 0,
        }
    }

    pub fn number(&mut self, record: &mut FrameRecord) {
        for t in &mut record.tracks {
            let local = t.polyp_id;
            if let Some(id) = local
                && !self.known.contains(&id)
            {
                self.known.push(id);
                self.take_up(id, t, record.pts_ns);
            }
            t.track_id = self.tracks.number(t.track_id);
            t.polyp_id = local.map(|id| match self.joined.iter().find(|(own, _)| *own == id) {
                Some((_, before)) => *before,
                None => self.polyps.number(id),
            });
        }
        for p in &mut record.polyps {
            p.track_id = p.track_id.map(|id| self.tracks.number(id));
        }
        self.last.clear();
        let in_view = record.tracks.iter().filter(|t| t.state != TrackState::Ended);
        self.last.extend(in_view.filter_map(|t| Some((t.polyp_id?, t.bbox))));
        self.last_pts_ns = record.pts_ns;
    }

    /// Whether a polyp that begins here is one that was in view at the cut: the one it covers most of.
    fn take_up(&mut self, id: u64, t: &TrackMark, pts_ns: u64) {
        let near = t.first_pts_ns >= self.cut_pts_ns && pts_ns.saturating_sub(self.cut_pts_ns) <= self.gap_ns;
        if !near {
            return;
        }
        let overlap = |r: &Rect| r.intersect(&t.bbox).area();
        let best = self
            .open
            .iter()
            .enumerate()
            .map(|(i, (_, r))| (overlap(r), i))
            .max_by_key(|(a, i)| (*a, std::cmp::Reverse(*i)));
        if let Some((area, at)) = best
            && area > 0
        {
            self.joined.push((id, self.open.remove(at).0));
        }
    }

    pub fn cut(&mut self, forced: bool) {
        self.open = if forced { std::mem::take(&mut self.last) } else { Vec::new() };
        self.cut_pts_ns = self.last_pts_ns;
        self.last.clear();
        self.known.clear();
        self.joined.clear();
        self.tracks.base = self.tracks.last;
        self.polyps.base = self.polyps.last;
    }
}

/// The largest probability over time, in pieces that grow with the recording.
#[derive(Default)]
struct Course {
    pieces: Vec<f32>,
    width_ns: u64,
}

impl Course {
    const MOST: usize = 4 * COURSE;

    fn add(&mut self, from_ns: u64, to_ns: u64, probability: f32) {
        if self.width_ns == 0 {
            self.width_ns = 1 << 24;
        }
        let last_ns = to_ns.max(from_ns + 1) - 1;
        while last_ns / self.width_ns >= Self::MOST as u64 {
            let halves: Vec<f32> =
                self.pieces.chunks(2).map(|p| p.iter().copied().fold(-1.0, f32::max)).collect();
            self.pieces = halves;
            self.width_ns *= 2;
        }
        let (first, last) = ((from_ns / self.width_ns) as usize, (last_ns / self.width_ns) as usize);
        if self.pieces.len() <= last {
            self.pieces.resize(last + 1, -1.0);
        }
        let probability = if probability.is_finite() { probability.clamp(0.0, 1.0) } else { 0.0 };
        self.pieces[first..=last].iter_mut().for_each(|p| *p = p.max(probability));
    }

    fn digits(&self, length_ns: u64) -> String {
        if self.pieces.is_empty() || length_ns == 0 {
            return String::new();
        }
        let at = |piece: usize| (u128::from(length_ns) * piece as u128 / COURSE as u128) as u64;
        (0..COURSE)
            .map(|piece| {
                let first = (at(piece) / self.width_ns) as usize;
                let last = ((at(piece + 1).max(at(piece) + 1) - 1) / self.width_ns) as usize;
                let pieces = self.pieces.get(first..=last.min(self.pieces.len() - 1)).unwrap_or_default();
                let most = pieces.iter().copied().fold(-1.0, f32::max);
                match most {
                    m if m < 0.0 => '.',
                    m => char::from(b'0' + ((m * 10.0) as u8).min(9)),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Polyp;

    const MS: u64 = 1_000_000;

    fn frame(n: u64, tracks: &[(u64, Option<u64>, u64, Rect)]) -> FrameRecord {
        let marks = |&(track_id, polyp_id, first, bbox): &(u64, Option<u64>, u64, Rect)| TrackMark {
            track_id,
            polyp_id,
            bbox,
            first_frame: first,
            first_pts_ns: first * 40 * MS,
            state: if polyp_id.is_some() { TrackState::Confirmed } else { TrackState::Tentative },
            drawn: polyp_id.is_some(),
            ..TrackMark::default()
        };
        let tracks: Vec<_> = tracks.iter().map(marks).collect();
        let polyps = tracks.iter().filter(|t| t.drawn).map(|t| Polyp {
            bbox: t.bbox,
            area_px: 10,
            mean_probability: 0.9,
            track_id: Some(t.track_id),
            ..Polyp::default()
        });
        FrameRecord {
            frame: n,
            pts_ns: n * 40 * MS,
            polyps: polyps.collect(),
            tracks,
            ..FrameRecord::default()
        }
    }

    #[test]
    fn a_polyp_in_view_at_a_forced_cut_stays_one_polyp() {
        let (here, there) = (Rect::new(10, 10, 40, 40), Rect::new(200, 10, 40, 40));
        let run = |forced: bool, after: Rect| {
            let mut assembly = Assembly::new(Some(&Numbers::BALANCED));
            let mut ids = Vec::new();
            for n in 0..100 {
                // After the cut numbers begin anew, and it takes some frames until the polyp is confirmed again.
                let mut record = match n {
                    0..50 => frame(n, &[(3, Some(2), 0, here), (4, None, 30, there)]),
                    50..54 => frame(n, &[(1, None, 50, after)]),
                    _ => frame(n, &[(1, Some(1), 50, after)]),
                };
                assembly.frame(&mut record, 40 * MS);
                ids.push((record.tracks[0].track_id, record.tracks[0].polyp_id));
                if n == 49 {
                    let tail = super::super::segment::Tail { forced, ..Default::default() };
                    assembly.segment(&Segment { best_frames: Vec::new(), tail });
                }
            }
            (ids[0], ids[99], assembly.finish("k", 1).found)
        };
        let (before, after, found) = run(true, Rect::new(14, 12, 40, 40));
        assert_eq!((before, after), ((3, Some(2)), (5, Some(2))), "tracks go on counting from 4");
        assert_eq!(found.polyps.len(), 1);
        assert_eq!((found.polyps[0].track_ids.clone(), found.polyps[0].frames), (vec![3, 5], 96));
        assert_eq!((found.tracks, found.frames), (5, 100));
        // Elsewhere in the picture, or where nothing was cut, it is another.
        assert_eq!(run(true, there).2.polyps.len(), 2);
        let (_, after, found) = run(false, here);
        assert_eq!((after, found.polyps.len()), ((5, Some(3)), 2));
    }

    #[test]
    fn the_course_keeps_its_peaks() {
        for frames in [1u64, 100, 100_000] {
            let mut course = Course::default();
            for n in 0..frames {
                course.add(n * 40 * MS, (n + 1) * 40 * MS, if n == frames / 2 { 0.95 } else { 0.12 });
            }
            let digits = course.digits(frames * 40 * MS);
            assert_eq!(digits.len(), COURSE);
            assert!(digits.contains('9') && !digits.contains('.'), "{digits}");
            assert!(frames == 1 || digits.matches('9').count() < 5, "{digits}");
        }
        assert_eq!(Course::default().digits(5), "");
    }
}
