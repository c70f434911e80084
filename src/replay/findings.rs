//! What a recording's frames amount to: episodes, polyps and brief alarms.
//!
//! In: frame records in order, each with how long it is shown. Out: word of which polyp (or episode) the frame just
//! given shows best so far, and at the end all of them. The report of one recording ([`super::report`]) shows them with
//! pictures; here they stand alone, for recordings that are put together from parts.

use super::clock::Moment;
use super::episodes::EpisodeBuilder;
use super::polyps::{Found, PolypBuilder};
use super::record::{Episode, FrameRecord, PolypRecord};
use crate::tracks::Numbers;

/// What one frame did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// When it is shown, on a steady line from the first frame on.
    pub from_ns: u64,
    pub to_ns: u64,
    /// It is the best frame so far of these polyps; of the episode under way, number 0, where nothing is followed.
    pub best_of: Vec<u64>,
    /// The episode under way ended before this frame.
    pub episode_ended: bool,
}

/// A whole recording's findings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Total {
    pub episodes: Vec<Episode>,
    /// Where tracks were followed; in the order of their first alarm.
    pub polyps: Vec<PolypRecord>,
    /// Drawn for less than half a second in all.
    pub brief: Vec<PolypRecord>,
    pub length_ns: u64,
    pub first_pts_ns: u64,
    pub irregular_timestamps: u64,
}

/// Finds them in a stream of frames; memory holds what was found and what is under way.
#[derive(Debug)]
pub(crate) struct Findings {
    episodes: EpisodeBuilder,
    polyps: Option<PolypBuilder>,
    ended: Vec<Episode>,
    found: Vec<Found>,
}

impl Findings {
    /// `numbers`: how tracks were followed; none where every frame stands alone.
    pub fn new(numbers: Option<&Numbers>) -> Self {
        Self {
            episodes: EpisodeBuilder::default(),
            polyps: numbers.map(PolypBuilder::new),
            ended: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Takes the next frame, shown for `duration_ns` nanoseconds (0 where that is unknown).
    pub fn frame(&mut self, record: &FrameRecord, duration_ns: u64) -> Seen {
        let progress = self.episodes.frame(record, duration_ns);
        let episode_ended = progress.ended.is_some();
        self.ended.extend(progress.ended.map(|e| e.episode));
        let Moment { from_ns, to_ns, .. } = progress.moment;
        let best_of = match &mut self.polyps {
            Some(polyps) => polyps.frame(record, &progress.moment, &mut self.found),
            None if progress.best => vec![0],
            None => Vec::new(),
        };
        Seen { from_ns, to_ns, best_of, episode_ended }
    }

    /// Ends what is under way.
    pub fn finish(mut self) -> Total {
        self.ended.extend(self.episodes.finish().map(|e| e.episode));
        if let Some(polyps) = &mut self.polyps {
            self.found.extend(polyps.finish());
        }
        // Polyps end in another order than they begin.
        self.found.sort_by_key(|f| (f.confirmed_ns, f.record.polyp_id));
        let (mut polyps, mut brief) = (Vec::new(), Vec::new());
        for found in self.found {
            if found.is_brief() { &mut brief } else { &mut polyps }.push(found.record);
        }
        let clock = self.episodes.clock();
        Total {
            episodes: self.ended,
            polyps,
            brief,
            length_ns: clock.length_ns(),
            first_pts_ns: clock.first_pts_ns(),
            irregular_timestamps: clock.irregular(),
        }
    }
}
