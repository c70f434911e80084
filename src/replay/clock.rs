//! One steady clock for recordings whose timestamps are not steady.
//!
//! In: presentation timestamps and durations as the source gave them. Out: positions on a line that starts at zero and
//! never runs backwards. Where timestamps are regular a position is the timestamp less the first one.

/// Timestamps that run back by no more than this are jitter, not a cut (500 ms).
const JITTER_NS: u64 = 500_000_000;

/// Timestamps that run ahead by no more than this are time without pictures, not a cut (10 min). A wrapped or rebased
/// clock jumps by hours.
const LONGEST_STEP_NS: u64 = 600_000_000_000;

/// How long a frame is shown when neither its duration nor an earlier step tells (40 ms).
const USUAL_NS: u64 = 40_000_000;

/// Where a frame lies on the steady line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    pub from_ns: u64,
    pub to_ns: u64,
    /// The timestamps jump between the frame before and this one: what lies between is unknown.
    pub jumped: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Clock {
    last: Option<(u64, Moment)>,
    /// Position less timestamp since the last jump.
    offset: i128,
    first_pts: u64,
    step: Option<u64>,
    irregular: u64,
}

impl Clock {
    /// Places the next frame. A duration of 0 or of more than ten minutes counts as unknown: the last regular step
    /// stands in for it.
    pub fn frame(&mut self, pts_ns: u64, duration_ns: u64) -> Moment {
        let known = (1..=LONGEST_STEP_NS).contains(&duration_ns);
        let Some((last_pts, last)) = self.last else {
            self.first_pts = pts_ns;
            self.offset = -i128::from(pts_ns);
            let to_ns = if known { duration_ns } else { USUAL_NS };
            return self.keep(pts_ns, Moment { from_ns: 0, to_ns, jumped: false });
        };
        let mut jumped = false;
        let earliest = if pts_ns > last_pts && pts_ns - last_pts <= LONGEST_STEP_NS {
            self.step = Some(pts_ns - last_pts);
            last.from_ns
        } else {
            self.irregular += 1;
            if pts_ns > last_pts || last_pts - pts_ns > JITTER_NS {
                jumped = true;
                self.offset = i128::from(last.to_ns) - i128::from(pts_ns);
            }
            last.to_ns
        };
        let target = u64::try_from(i128::from(pts_ns) + self.offset).unwrap_or(0);
        let from_ns = target.max(earliest);
        let shown = if known { duration_ns } else { self.step.unwrap_or(USUAL_NS) };
        self.keep(pts_ns, Moment { from_ns, to_ns: from_ns.saturating_add(shown), jumped })
    }

    fn keep(&mut self, pts_ns: u64, moment: Moment) -> Moment {
        self.last = Some((pts_ns, moment));
        moment
    }

    /// The first frame's timestamp: what position 0 is called.
    pub fn first_pts_ns(&self) -> u64 {
        self.first_pts
    }

    /// From the first frame's start to the last one's end.
    pub fn length_ns(&self) -> u64 {
        self.last.map_or(0, |(_, m)| m.to_ns)
    }

    /// Timestamps that repeated, ran backwards or jumped.
    pub fn irregular(&self) -> u64 {
        self.irregular
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    fn positions(pts_ms: &[u64]) -> (Vec<u64>, Clock) {
        let mut clock = Clock::default();
        let p = pts_ms.iter().map(|t| clock.frame(t * MS, 40 * MS).from_ns / MS).collect();
        (p, clock)
    }

    #[test]
    fn regular_timestamps_are_their_own_positions_whatever_their_rate() {
        let (p, clock) = positions(&[5000, 5040, 5100, 9000, 9001]);
        assert_eq!(p, [0, 40, 100, 4000, 4001]);
        assert_eq!((clock.first_pts_ns(), clock.length_ns(), clock.irregular()), (5000 * MS, 4041 * MS, 0));
    }

    #[test]
    fn repeats_take_time_but_leave_no_drift() {
        let (p, clock) = positions(&[0, 0, 40, 80, 80, 120, 160]);
        assert_eq!(p, [0, 40, 40, 80, 120, 120, 160]);
        assert_eq!(clock.irregular(), 2);
        // A source that has no timestamps at all still advances.
        assert_eq!(positions(&[0; 4]).0, [0, 40, 80, 120]);
    }

    #[test]
    fn jumps_are_cuts_and_the_line_goes_on() {
        let mut clock = Clock::default();
        clock.frame(1000 * MS, 40 * MS);
        let wrapped = clock.frame(95_443_717 * MS, 40 * MS);
        assert_eq!(wrapped, Moment { from_ns: 40 * MS, to_ns: 80 * MS, jumped: true });
        let back = clock.frame(0, 40 * MS);
        assert_eq!(back, Moment { from_ns: 80 * MS, to_ns: 120 * MS, jumped: true });
        assert!(!clock.frame(40 * MS, 40 * MS).jumped);
    }

    #[test]
    fn unknown_durations_take_the_last_step() {
        let mut clock = Clock::default();
        assert_eq!(clock.frame(0, 0).to_ns, 40 * MS);
        assert_eq!(clock.frame(20 * MS, u64::MAX).to_ns, 40 * MS);
    }

    proptest! {
        #[test]
        fn the_line_never_runs_backwards(frames in prop::collection::vec((any::<u64>(), any::<u64>()), 1..50)) {
            let mut clock = Clock::default();
            let mut before = 0;
            for (pts, duration) in frames {
                let m = clock.frame(pts, duration);
                prop_assert!(m.from_ns >= before && m.to_ns > m.from_ns);
                before = m.from_ns;
            }
        }
    }
}
