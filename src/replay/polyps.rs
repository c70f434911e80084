//! Polyps: what was followed over time, joined across short gaps.
//!
//! In: frame records in order, with the tracks of each. Out: [`PolypRecord`]s as nothing can join them any more, and
//! word of which of them the frame just given shows best so far.
//!
//! *What a polyp is* the filter decides ([`crate::tracks`]): a track that was confirmed, and every later one that was
//! confirmed where that one would lie by then, no longer than a stated gap after it ended, or that is much smaller and
//! lies close beside it. A polyp begins, *tentatively*, with the first frame on which its first track was seen,
//! although nothing was drawn then.
//!
//! What is drawn for less than half a second in all is told apart: a brief alarm.
//!
//! *Its best frame* is the drawn one where the network was surest of it, by the measure of [`super::episodes`].

use super::clock::Moment;
use super::episodes::Surety;
use super::record::{FrameRecord, PolypRecord};
use crate::frame::{TrackMark, TrackState};
use crate::tracks::Numbers;

/// What is drawn for less than this is an alarm but is not counted as a polyp: the shortest false alarm of clinical
/// studies, and less than a person needs to look at a polyp.
pub(super) const BRIEF_NS: u64 = 500_000_000;

/// One track on the report's own line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrackSpan {
    /// Its number in the frames' records.
    pub track_id: u64,
    /// Nanoseconds since the first frame: where it was first seen, where it was confirmed, where it was last drawn.
    pub from_ns: u64,
    /// Where the frame begins that confirmed it.
    pub confirmed_ns: u64,
    /// Where the last frame ends that it was drawn on.
    pub to_ns: u64,
}

/// A polyp, and where it lies on the report's own line.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The polyp as it stands in the summary.
    pub record: PolypRecord,
    /// Its tracks, in the order of their confirmation.
    pub spans: Vec<TrackSpan>,
    /// Where the frame begins that confirmed its first track, in nanoseconds since the first frame.
    pub confirmed_ns: u64,
    /// Where the last frame ends that it was drawn on.
    pub to_ns: u64,
}

impl Found {
    /// Whether it was drawn too briefly to be counted as a polyp.
    pub fn is_brief(&self) -> bool {
        self.to_ns - self.confirmed_ns < BRIEF_NS
    }
}

#[derive(Debug)]
struct Open {
    found: Found,
    best: Surety,
}

/// Joins tracks into polyps; memory holds those that can still go on.
#[derive(Debug)]
pub struct PolypBuilder {
    /// After so long nothing joins a polyp any more.
    gap_ns: u64,
    open: Vec<Open>,
    /// Tracks in view: number, where first seen.
    births: Vec<(u64, u64)>,
}

impl PolypBuilder {
    /// For tracks that were followed with these numbers, which say how long a polyp may still go on.
    pub fn new(numbers: &Numbers) -> Self {
        let ms = numbers.gap_ms + numbers.coast_ms + 1000.0;
        Self { gap_ns: (f64::from(ms) * 1e6) as u64, open: Vec::new(), births: Vec::new() }
    }

    /// Takes the next frame; `ended` gets what is over. Returns the polyps that this frame shows best so far.
    pub(super) fn frame(
        &mut self,
        record: &FrameRecord,
        moment: &Moment,
        ended: &mut Vec<Found>,
    ) -> Vec<u64> {
        let here = |id: u64| record.tracks.iter().any(|t| t.track_id == id && t.state != TrackState::Ended);
        for t in &record.tracks {
            if !self.births.iter().any(|(id, _)| *id == t.track_id) {
                self.births.push((t.track_id, moment.from_ns));
            }
        }
        let mut best = Vec::new();
        for t in &record.tracks {
            if let Some(polyp) = t.polyp_id
                && self.show(polyp, t, record, moment)
            {
                best.push(polyp);
            }
        }
        self.births.retain(|(id, _)| here(*id));
        let gap = self.gap_ns;
        let over = |o: &Open| {
            let last = o.found.spans.last().map_or(0, |s| s.track_id);
            !here(last) && (moment.jumped || moment.from_ns.saturating_sub(o.found.to_ns) > gap)
        };
        let mut i = 0;
        while i < self.open.len() {
            if over(&self.open[i]) {
                ended.push(self.open.remove(i).found);
            } else {
                i += 1;
            }
        }
        best
    }

    /// Adds a confirmed track's frame; true if it is the polyp's best so far.
    fn show(&mut self, polyp: u64, t: &TrackMark, record: &FrameRecord, moment: &Moment) -> bool {
        let from_ns =
            self.births.iter().find(|(id, _)| *id == t.track_id).map_or(moment.from_ns, |(_, at)| *at);
        let index = self.open.iter().position(|o| o.found.record.polyp_id == polyp).unwrap_or_else(|| {
            let record = PolypRecord {
                polyp_id: polyp,
                first_frame: t.first_frame,
                first_ns: t.first_pts_ns,
                confirmed_frame: record.frame,
                confirmed_ns: record.pts_ns,
                confirmed_after_ms: t.confirmed_after_ms.unwrap_or_default(),
                end_ns: record.pts_ns,
                last_frame: record.frame,
                ..PolypRecord::default()
            };
            let confirmed_ns = moment.from_ns;
            let found = Found { record, spans: Vec::new(), confirmed_ns, to_ns: confirmed_ns };
            self.open.push(Open { found, best: Surety::NONE });
            self.open.len() - 1
        });
        let open = &mut self.open[index];
        let p = &mut open.found.record;
        if !p.track_ids.contains(&t.track_id) {
            p.track_ids.push(t.track_id);
            let (confirmed_ns, to_ns) = (moment.from_ns, moment.from_ns);
            open.found.spans.push(TrackSpan { track_id: t.track_id, from_ns, confirmed_ns, to_ns });
        }
        if !t.drawn {
            return false;
        }
        if let Some(span) = open.found.spans.iter_mut().find(|s| s.track_id == t.track_id) {
            span.to_ns = moment.to_ns;
        }
        open.found.to_ns = moment.to_ns;
        // Two tracks of one polyp on one frame are one frame.
        p.frames += u64::from(p.frames == 0 || p.last_frame != record.frame);
        p.last_frame = record.frame;
        p.end_ns = p.end_ns.max(record.pts_ns.saturating_add(moment.to_ns - moment.from_ns));
        let regions = || record.polyps.iter().filter(|r| r.track_id == Some(t.track_id));
        let surety = Surety::of(regions());
        let better = regions().next().is_some() && surety > open.best;
        if better {
            open.best = surety;
            p.best_frame = record.frame;
            p.best_pts_ns = record.pts_ns;
            p.best_area_px = regions().map(|r| r.area_px).sum();
            p.best_mean_probability = surety.mean_of(p.best_area_px);
        }
        better
    }

    /// Ends everything that is under way, in the order of confirmation.
    pub fn finish(&mut self) -> Vec<Found> {
        self.births.clear();
        self.open.drain(..).map(|o| o.found).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Polyp, Rect};

    const MS: u64 = 1_000_000;

    fn mark(track: u64, polyp: Option<u64>, state: TrackState, first: u64) -> TrackMark {
        TrackMark {
            track_id: track,
            polyp_id: polyp,
            state,
            first_frame: first,
            first_pts_ns: first * 40 * MS,
            confirmed_after_ms: polyp.map(|_| 120.0),
            drawn: polyp.is_some() && state != TrackState::Ended,
            ..TrackMark::default()
        }
    }

    fn frame(n: u64, tracks: Vec<TrackMark>, area: u64) -> (FrameRecord, Moment) {
        let polyps = (tracks.iter().filter(|t| t.drawn))
            .map(|t| Polyp {
                bbox: Rect::new(0, 0, 9, 9),
                area_px: area,
                mean_probability: 0.9,
                track_id: Some(t.track_id),
                ..Polyp::default()
            })
            .collect();
        let record = FrameRecord { frame: n, pts_ns: n * 40 * MS, polyps, tracks, ..FrameRecord::default() };
        (record, Moment { from_ns: n * 40 * MS, to_ns: (n + 1) * 40 * MS, jumped: false })
    }

    #[test]
    fn tracks_of_one_polyp_are_joined_with_their_tentative_start() {
        use TrackState::{Confirmed, Ended, Tentative};
        let mut builder = PolypBuilder::new(&Numbers::BALANCED);
        let mut ended = Vec::new();
        let mut best = Vec::new();
        for n in 0..400 {
            let (mut tracks, mut area) = (Vec::new(), 100);
            match n {
                2..5 => tracks.push(mark(1, None, Tentative, 2)),
                5..20 => tracks.push(mark(1, Some(1), Confirmed, 2)),
                20 => tracks.push(mark(1, Some(1), Ended, 2)),
                30..33 => tracks.push(mark(3, None, Tentative, 30)),
                33..50 => tracks.push(mark(3, Some(1), Confirmed, 30)),
                _ => {}
            }
            if (10..60).contains(&n) {
                tracks.push(mark(2, Some(2), Confirmed, 10));
            }
            if n == 40 {
                area = 500;
            }
            let (record, moment) = frame(n, tracks, area);
            for polyp in builder.frame(&record, &moment, &mut ended) {
                best.push((polyp, n));
            }
        }
        assert!(builder.finish().is_empty(), "both are long over");
        assert_eq!(ended.iter().map(|f| f.record.polyp_id).collect::<Vec<_>>(), [1, 2]);
        let p = &ended[0];
        assert_eq!((p.record.first_frame, p.record.confirmed_frame, p.record.last_frame), (2, 5, 49));
        assert_eq!((p.record.frames, p.record.best_frame, p.record.best_area_px), (15 + 17, 40, 500));
        assert_eq!(p.record.track_ids, [1, 3]);
        let spans: Vec<_> =
            p.spans.iter().map(|s| (s.from_ns / MS, s.confirmed_ns / MS, s.to_ns / MS)).collect();
        assert_eq!(spans, [(80, 200, 800), (1200, 1320, 2000)]);
        assert_eq!(best, [(1, 5), (2, 10), (1, 40), (2, 40)]);
    }
}
