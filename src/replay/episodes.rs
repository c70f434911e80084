//! Episodes: the stretches of a recording on which polyps are marked.
//!
//! In: frame records in order, each with how long it is shown. Out: [`Episode`]s as they end, and word of when the
//! frame just given is the best so far of the one under way, so that the caller can take its picture while it has it.
//!
//! *What an episode is.* It begins with a frame that has polyps and goes on as long as no gap longer than
//! [`GAP_TOLERANCE_NS`] opens between the end of one frame with polyps and the start of the next; it ends when its last
//! frame with polyps ends. A jump of the timestamps (backwards by more than 500 ms, ahead by more than 10 min) ends it
//! too: what lies between is unknown. Nothing is withheld: a single frame is an episode.
//!
//! *Its best frame* is the one where the network was surest: where the sum over the pixels inside polyps of (mean
//! probability − ½) is largest, that is the area weighted by how far its probability lies above a coin toss. A large
//! sure polyp beats a small sure one and a large doubtful one. Equals are settled by Σ area × mean probability, then by
//! the earlier frame.

use super::clock::{Clock, Moment};
use super::record::{Episode, FrameRecord};
use crate::frame::Polyp;

/// Gaps up to this long are joined (500 ms): the network losing a polyp for a moment does not make two of it.
pub const GAP_TOLERANCE_NS: u64 = 500_000_000;

/// An episode that ended, and where it lies on the report's own line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ended {
    /// In the recording's own timestamps.
    pub episode: Episode,
    /// Nanoseconds since the first frame: equal to the timestamps less the first one unless those are irregular.
    pub from_ns: u64,
    /// The end of its last frame, on the same line.
    pub to_ns: u64,
}

/// What one frame did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// An episode that this frame ended. It does not contain this frame.
    pub ended: Option<Ended>,
    /// This frame is the best so far of the episode under way: take its picture now.
    pub best: bool,
    pub(crate) moment: Moment,
}

/// How sure the network was of a frame; see the module's text.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(super) struct Surety {
    above_half: f64,
    mass: f64,
}

impl Surety {
    /// Less than that of any frame.
    pub const NONE: Self = Self { above_half: -1.0, mass: -1.0 };

    pub fn of<'a>(polyps: impl IntoIterator<Item = &'a Polyp>) -> Self {
        let mut s = Self { above_half: 0.0, mass: 0.0 };
        for p in polyps {
            let mean = f64::from(p.mean_probability);
            // A NaN would make every comparison false; it stands for no evidence.
            let mean = if mean.is_finite() { mean.clamp(0.0, 1.0) } else { 0.0 };
            s.above_half += p.area_px as f64 * (mean - 0.5).max(0.0);
            s.mass += p.area_px as f64 * mean;
        }
        s
    }

    /// Mean probability over so many pixels.
    pub fn mean_of(&self, area_px: u64) -> f32 {
        (self.mass / area_px.max(1) as f64) as f32
    }
}

#[derive(Clone, Copy, Debug)]
struct Open {
    ended: Ended,
    best: Surety,
}

/// Finds episodes in a stream of frames, in constant memory.
#[derive(Clone, Debug)]
pub struct EpisodeBuilder {
    tolerance_ns: u64,
    clock: Clock,
    open: Option<Open>,
}

impl Default for EpisodeBuilder {
    fn default() -> Self {
        Self::new(GAP_TOLERANCE_NS)
    }
}

impl EpisodeBuilder {
    /// Joins gaps of up to `tolerance_ns` nanoseconds.
    pub fn new(tolerance_ns: u64) -> Self {
        Self { tolerance_ns, clock: Clock::default(), open: None }
    }

    /// Takes the next frame, shown for `duration_ns` nanoseconds (0 where that is unknown). Allocates nothing.
    pub fn frame(&mut self, record: &FrameRecord, duration_ns: u64) -> Progress {
        let moment = self.clock.frame(record.pts_ns, duration_ns);
        let positive = !record.polyps.is_empty();
        // A frame without polyps ends the episode as soon as no later frame could still join it.
        let reach = if positive { moment.from_ns } else { moment.to_ns };
        let over = self
            .open
            .is_some_and(|o| moment.jumped || reach.saturating_sub(o.ended.to_ns) > self.tolerance_ns);
        let ended = if over { self.finish() } else { None };
        let best = positive && self.extend(record, moment);
        Progress { ended, best, moment }
    }

    /// Adds a frame with polyps; true if it is the best so far.
    fn extend(&mut self, record: &FrameRecord, moment: Moment) -> bool {
        let surety = Surety::of(&record.polyps);
        let end_ns = record.pts_ns.saturating_add(moment.to_ns - moment.from_ns);
        let mut open = self.open.unwrap_or(Open {
            ended: Ended {
                episode: Episode { start_ns: record.pts_ns, first_frame: record.frame, ..Episode::default() },
                from_ns: moment.from_ns,
                to_ns: moment.to_ns,
            },
            best: Surety::NONE,
        });
        let best = surety > open.best;
        let e = &mut open.ended.episode;
        if best {
            open.best = surety;
            let area: u64 = record.polyps.iter().map(|p| p.area_px).sum();
            e.best_frame = record.frame;
            e.best_pts_ns = record.pts_ns;
            e.best_area_px = record.area_px;
            e.best_mean_probability = surety.mean_of(area);
        }
        e.end_ns = e.end_ns.max(end_ns);
        e.last_frame = record.frame;
        e.frames += 1;
        e.max_probability = e.max_probability.max(record.max_probability);
        open.ended.to_ns = open.ended.to_ns.max(moment.to_ns);
        self.open = Some(open);
        best
    }

    /// Ends the episode under way, if there is one: to be called after the last frame.
    pub fn finish(&mut self) -> Option<Ended> {
        self.open.take().map(|o| o.ended)
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    /// A frame with one polyp of `area` pixels at `probability`, or none.
    fn record(frame: u64, pts_ms: u64, polyp: Option<(u64, f32)>) -> FrameRecord {
        let polyps: Vec<_> = polyp
            .into_iter()
            .map(|(area_px, mean_probability)| Polyp { area_px, mean_probability, ..Polyp::default() })
            .collect();
        FrameRecord {
            frame,
            pts_ns: pts_ms * MS,
            area_px: polyps.iter().map(|p| p.area_px).sum(),
            max_probability: polyps.first().map_or(0.1, |p| p.mean_probability),
            polyps,
            ..FrameRecord::default()
        }
    }

    /// Episodes of frames given as (pts in ms, duration in ms, has a polyp), as (start, end) in ms and frame counts.
    fn episodes(frames: &[(u64, u64, bool)]) -> Vec<(u64, u64, u64)> {
        let mut builder = EpisodeBuilder::default();
        let mut found = Vec::new();
        for (i, &(pts, duration, positive)) in frames.iter().enumerate() {
            let r = record(i as u64, pts, positive.then_some((100, 0.9)));
            found.extend(builder.frame(&r, duration * MS).ended);
        }
        found.extend(builder.finish());
        found.iter().map(|e| (e.episode.start_ns / MS, e.episode.end_ns / MS, e.episode.frames)).collect()
    }

    /// 25 frames a second; `#` marks a frame with a polyp.
    fn at_25_fps(pattern: &str) -> Vec<(u64, u64, bool)> {
        pattern.chars().enumerate().map(|(i, c)| (i as u64 * 40, 40, c == '#')).collect()
    }

    #[test]
    fn none_one_and_all() {
        assert_eq!(episodes(&at_25_fps("")), []);
        assert_eq!(episodes(&at_25_fps("....")), []);
        assert_eq!(episodes(&at_25_fps("..#.")), [(80, 120, 1)]);
        assert_eq!(episodes(&at_25_fps("####")), [(0, 160, 4)]);
    }

    #[test]
    fn gaps_up_to_the_tolerance_are_joined_and_longer_ones_are_not() {
        // 12 frames are 480 ms, 13 are 520.
        let gap = |n: usize| at_25_fps(&format!("##{}##", ".".repeat(n)));
        assert_eq!(episodes(&gap(12)), [(0, 640, 4)]);
        assert_eq!(episodes(&gap(13)), [(0, 80, 2), (600, 680, 2)]);
        // Exactly half a second, at 50 ms a frame.
        let exact: Vec<_> = (0..12).map(|i| (i * 50, 50, i == 0 || i == 11)).collect();
        assert_eq!(episodes(&exact), [(0, 600, 2)]);
    }

    #[test]
    fn an_episode_ends_as_soon_as_nothing_can_join_it() {
        let mut builder = EpisodeBuilder::default();
        let mut at = None;
        for i in 0..30 {
            let r = record(i, i * 40, (i == 0).then_some((9, 0.9)));
            if builder.frame(&r, 40 * MS).ended.is_some() {
                assert_eq!(at.replace(i), None);
            }
        }
        // It ended at 40 ms, so the frame that ends at 560 ms is the first beyond 540.
        assert_eq!(at, Some(13));
    }

    #[test]
    fn variable_frame_rates_go_by_time_and_not_by_count() {
        // One frame held for two seconds is one gap; a held frame with a polyp is none.
        assert_eq!(
            episodes(&[(0, 40, true), (40, 2000, false), (2040, 40, true)]),
            [(0, 40, 1), (2040, 2080, 1)]
        );
        assert_eq!(episodes(&[(0, 2000, true), (2000, 10, true)]), [(0, 2010, 2)]);
        // Frames missing altogether count by their timestamps.
        assert_eq!(episodes(&[(0, 40, true), (700, 40, true)]), [(0, 40, 1), (700, 740, 1)]);
        assert_eq!(episodes(&[(0, 40, true), (400, 40, true)]), [(0, 440, 2)]);
    }

    #[test]
    fn repeated_timestamps_neither_split_nor_stall() {
        assert_eq!(episodes(&[(0, 40, true), (0, 40, true), (40, 40, true)]), [(0, 80, 3)]);
        // All frames at zero: the gap still passes.
        let mut stuck = vec![(0, 40, false); 40];
        stuck[0].2 = true;
        stuck[39].2 = true;
        assert_eq!(episodes(&stuck), [(0, 40, 1), (0, 40, 1)]);
    }

    #[test]
    fn a_jump_ends_the_episode_so_that_none_ends_before_it_starts() {
        let hours = 26 * 3_600_000;
        assert_eq!(
            episodes(&[(90_000, 40, true), (90_040, 40, true), (0, 40, true), (40, 40, true)]),
            [(90_000, 90_080, 2), (0, 80, 2)]
        );
        assert_eq!(episodes(&[(0, 40, true), (hours, 40, true)]), [(0, 40, 1), (hours, hours + 40, 1)]);
        // A little backwards is jitter.
        assert_eq!(episodes(&[(0, 40, true), (80, 40, true), (40, 40, true)]), [(0, 120, 3)]);
    }

    #[test]
    fn the_best_frame_is_large_and_sure_and_said_when_it_comes() {
        let seen = [
            (Some((100, 0.9)), true),
            (Some((100, 0.8)), false),
            (Some((5000, 0.51)), true),   // 50 against 40
            (Some((400, 0.99)), true),    // 196
            (Some((9000, 0.515)), false), // 135
            (None, false),
            (Some((400, 0.99)), false), // no better: the earlier stays
        ];
        let mut builder = EpisodeBuilder::default();
        for (i, (polyp, best)) in seen.into_iter().enumerate() {
            let p = builder.frame(&record(i as u64, i as u64 * 40, polyp), 40 * MS);
            assert_eq!((p.best, p.ended), (best, None), "frame {i}");
        }
        let e = builder.finish().unwrap().episode;
        assert_eq!((e.best_frame, e.best_pts_ns, e.best_area_px), (3, 120 * MS, 400));
        assert_eq!((e.first_frame, e.last_frame, e.frames), (0, 6, 6));
        assert!((e.best_mean_probability - 0.99).abs() < 1e-6);
    }

    #[test]
    fn thresholds_below_a_half_and_nan_still_give_a_best_frame() {
        let mut builder = EpisodeBuilder::default();
        assert!(builder.frame(&record(0, 0, Some((10, f32::NAN))), 40 * MS).best);
        assert!(builder.frame(&record(1, 40, Some((10, 0.3))), 40 * MS).best);
        assert!(builder.frame(&record(2, 80, Some((10, 0.4))), 40 * MS).best);
        assert_eq!(builder.finish().unwrap().episode.best_frame, 2);
    }

    proptest! {
        /// Against the definition, applied to the whole recording at once.
        #[test]
        fn agrees_with_the_definition(
            frames in prop::collection::vec((1u64..900, any::<bool>(), 1u64..1000, 0.5f32..1.0), 0..60),
        ) {
            let mut pts = 0;
            let records: Vec<(FrameRecord, u64)> = frames
                .iter()
                .enumerate()
                .map(|(i, &(duration, positive, area, p))| {
                    let r = record(i as u64, pts, positive.then_some((area, p)));
                    pts += duration;
                    (r, duration * MS)
                })
                .collect();
            let mut expected: Vec<Vec<&(FrameRecord, u64)>> = Vec::new();
            for r in records.iter().filter(|r| !r.0.polyps.is_empty()) {
                match expected.last_mut() {
                    Some(e) if r.0.pts_ns <= e.last().map_or(0, |l| l.0.pts_ns + l.1) + GAP_TOLERANCE_NS => e.push(r),
                    _ => expected.push(vec![r]),
                }
            }
            let mut builder = EpisodeBuilder::default();
            let mut found: Vec<Ended> = Vec::new();
            let mut best = None;
            for (r, duration) in &records {
                let p = builder.frame(r, *duration);
                if let Some(e) = p.ended {
                    prop_assert_eq!(Some(e.episode.best_frame), best);
                    found.push(e);
                }
                best = if p.best { Some(r.frame) } else { best };
            }
            if let Some(e) = builder.finish() {
                prop_assert_eq!(Some(e.episode.best_frame), best);
                found.push(e);
            }
            prop_assert_eq!(found.len(), expected.len());
            for (f, e) in found.iter().zip(&expected) {
                let (first, last) = (e[0], e[e.len() - 1]);
                prop_assert_eq!(f.episode.start_ns, first.0.pts_ns);
                prop_assert_eq!(f.episode.end_ns, last.0.pts_ns + last.1);
                prop_assert_eq!(f.episode.frames, e.len() as u64);
                prop_assert_eq!(f.to_ns - f.from_ns, f.episode.end_ns - f.episode.start_ns);
            }
        }
    }
}
