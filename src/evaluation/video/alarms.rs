//! How long false detections last: the false ones of each frame flow in, counts by the definitions of the field flow
//! out.
//!
//! What counts as a false alarm decides the figure: one system's specificity is 93.2, 98.6 or 99.8 % when an alarm must
//! last 0.5, 1 or 2 s (Holzwanger et al., Endoscopy 2021;53:937); another's alarms were counted when they lasted more
//! than six frames. So all are counted side by side.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use super::link::Linker;
use super::region::Bounds;
use super::rules::LinkRule;

/// More frames than these in a row are an alarm by the definition that counts frames.
pub const MORE_THAN_FRAMES: u64 = 6;

/// False alarms by each definition. The times are from an alarm's first frame to the end of its last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmCounts {
    /// Frames on which something is marked that is no polyp.
    pub marked_frames: u64,
    /// Alarms, however short.
    pub runs: u64,
    /// Alarms that were marked on more than [`MORE_THAN_FRAMES`] successive frames.
    pub more_than_6_frames: u64,
    /// Alarms that lasted half a second or longer.
    pub at_least_500_ms: u64,
    /// Alarms that lasted a second or longer.
    pub at_least_1000_ms: u64,
    /// Alarms that lasted two seconds or longer.
    pub at_least_2000_ms: u64,
}

impl AlarmCounts {
    /// Each count with its name, in the order of the table.
    pub fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("marked frames", self.marked_frames),
            ("alarms", self.runs),
            ("> 6 frames", self.more_than_6_frames),
            (">= 0.5 s", self.at_least_500_ms),
            (">= 1 s", self.at_least_1000_ms),
            (">= 2 s", self.at_least_2000_ms),
        ]
    }
}

impl AddAssign for AlarmCounts {
    fn add_assign(&mut self, o: Self) {
        self.marked_frames += o.marked_frames;
        self.runs += o.runs;
        self.more_than_6_frames += o.more_than_6_frames;
        self.at_least_500_ms += o.at_least_500_ms;
        self.at_least_1000_ms += o.at_least_1000_ms;
        self.at_least_2000_ms += o.at_least_2000_ms;
    }
}

#[derive(Clone, Copy, Debug)]
struct Run {
    id: u64,
    first_ms: f64,
    last_ms: f64,
    /// The end of its last frame, once the next one has come.
    end_ms: f64,
    /// Frames in a row up to the last one, and the most there were.
    row: u64,
    most: u64,
    last_frame: u64,
}

/// Counts alarms along one video.
#[derive(Clone, Debug)]
pub(super) struct Alarms {
    linker: Linker,
    gap_ms: f64,
    open: Vec<Run>,
    closed: AlarmCounts,
    frames: u64,
}

impl Alarms {
    /// An alarm goes on while two frames that are marked begin no more than `gap_ms` apart.
    pub fn new(rule: LinkRule, gap_ms: f64) -> Self {
        Self {
            linker: Linker::new(rule, gap_ms, 1),
            gap_ms,
            open: Vec::new(),
            closed: AlarmCounts::default(),
            frames: 0,
        }
    }

    /// The false detections of the next frame; `period_ms`: how long a frame lasts in the mean, so far.
    pub fn frame(&mut self, now_ms: f64, period_ms: f64, boxes: &[Bounds]) {
        self.frames += 1;
        let gap = self.gap_ms;
        // A frame ends where the next one begins, unless frames were lost between them.
        for r in self.open.iter_mut().filter(|r| r.last_frame + 1 == self.frames) {
            r.end_ms = now_ms.min(r.last_ms + period_ms);
        }
        let closed = &mut self.closed;
        self.open.retain(|r| {
            let goes_on = now_ms - r.last_ms <= gap + 1e-6;
            if !goes_on {
                *closed += counts(r, r.end_ms);
            }
            goes_on
        });
        self.closed.marked_frames += u64::from(!boxes.is_empty());
        for id in self.linker.frame(now_ms, boxes) {
            let frame = self.frames;
            match self.open.iter_mut().find(|r| r.id == id) {
                Some(r) => {
                    if r.last_frame != frame {
                        r.row = if r.last_frame + 1 == frame { r.row + 1 } else { 1 };
                    }
                    r.most = r.most.max(r.row);
                    (r.last_ms, r.last_frame) = (now_ms, frame);
                }
                None => self.open.push(Run {
                    id,
                    first_ms: now_ms,
                    last_ms: now_ms,
                    end_ms: now_ms,
                    row: 1,
                    most: 1,
                    last_frame: frame,
                }),
            }
        }
    }

    /// All so far, as if the video ended here.
    pub fn counts(&self, period_ms: f64) -> AlarmCounts {
        let mut all = self.closed;
        for r in &self.open {
            let end = if r.last_frame == self.frames { r.last_ms + period_ms } else { r.end_ms };
            all += counts(r, end);
        }
        all
    }
}

fn counts(r: &Run, end_ms: f64) -> AlarmCounts {
    // Timestamps are no whole milliseconds.
    let lasted = end_ms - r.first_ms + 1e-6;
    AlarmCounts {
        marked_frames: 0,
        runs: 1,
        more_than_6_frames: u64::from(r.most > MORE_THAN_FRAMES),
        at_least_500_ms: u64::from(lasted >= 500.0),
        at_least_1000_ms: u64::from(lasted >= 1000.0),
        at_least_2000_ms: u64::from(lasted >= 2000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_definition_counts_its_own() {
        let here = Bounds { x0: 10, y0: 10, x1: 20, y1: 20 };
        let there = Bounds { x0: 80, y0: 10, x1: 90, y1: 20 };
        let mut a = Alarms::new(LinkRule::default(), 200.0);
        // 25 frames a second: one frame; seven in a row; six, a gap of three frames, six (600 ms in all); 26; 50
        // elsewhere.
        let pattern = "#....................#######..............######...######..............\
                       ##########################..............";
        let mut n = 0.0;
        for c in pattern.chars() {
            let boxes = [here];
            a.frame(n * 40.0, 40.0, &boxes[..usize::from(c == '#')]);
            n += 1.0;
        }
        for _ in 0..50 {
            a.frame(n * 40.0, 40.0, &[there]);
            n += 1.0;
        }
        let c = a.counts(40.0);
        assert_eq!(c.marked_frames, 1 + 7 + 12 + 26 + 50);
        assert_eq!((c.runs, c.more_than_6_frames), (5, 3));
        assert_eq!((c.at_least_500_ms, c.at_least_1000_ms, c.at_least_2000_ms), (3, 2, 1));
        assert_eq!(c.named()[3], (">= 0.5 s", 3));
    }

    #[test]
    fn two_places_at_once_are_two_alarms_of_the_same_frames() {
        let at = |x| Bounds { x0: x, y0: 0, x1: x + 10, y1: 10 };
        let mut a = Alarms::new(LinkRule::default(), 200.0);
        for n in 0..20 {
            a.frame(f64::from(n) * 40.0, 40.0, &[at(0), at(100)]);
        }
        let c = a.counts(40.0);
        assert_eq!((c.marked_frames, c.runs, c.at_least_500_ms), (20, 2, 2));
    }

    #[test]
    fn an_alarm_goes_on_after_exactly_the_gap_and_not_after_a_longer_one() {
        let here = [Bounds { x0: 0, y0: 0, x1: 10, y1: 10 }];
        // Thirds of a millisecond add up to whole ones only nearly.
        for (apart_ms, runs) in [(0.1 + 0.2 + 199.7, 1), (200.0, 1), (200.01, 2)] {
            let mut a = Alarms::new(LinkRule::default(), 200.0);
            a.frame(0.0, 40.0, &here);
            a.frame(apart_ms, 40.0, &here);
            assert_eq!(a.counts(40.0).runs, runs, "{apart_ms}");
        }
    }
}
