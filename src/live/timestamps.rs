//! When each frame passed which place, found again by its timestamp.
//!
//! In: stamps from the source's pad and from the overlay element. Out: the same stamps to whoever sees the frame later.
//! Buffers are remade on the way (decoders, converters), their timestamps are not; so the timestamp is the key. A ring
//! of atomics: nobody waits, and what is overwritten is simply not found. Each entry counts how often it was written,
//! and the count is odd while somebody writes: so what is read is of one frame even where the ring comes round in the
//! middle of it.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::frame::{FrameId, Nanos, Pts};

/// Frames on their way at any time: two seconds at 120 frames a second.
const ROOM: usize = 256;

/// No frame, no time.
const NONE: u64 = u64::MAX;

/// What is known of a frame that has passed the overlay element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    pub frame: FrameId,
    pub captured: Nanos,
    pub left_overlay: Nanos,
    /// Capture of the frame whose mask this one shows for the first time.
    pub first_mask: Option<Nanos>,
}

#[derive(Debug)]
struct Entry {
    /// Twice the number of times that it was written; odd while it is.
    version: AtomicU64,
    pts: AtomicU64,
    captured: AtomicU64,
    frame: AtomicU64,
    left_overlay: AtomicU64,
    first_mask: AtomicU64,
}

/// What an entry holds, all of one frame.
#[derive(Clone, Copy)]
struct Stamp {
    version: u64,
    captured: u64,
    frame: u64,
    left_overlay: u64,
    first_mask: u64,
}

impl Entry {
    /// Its stamp, if it is of this timestamp and nobody writes it meanwhile.
    fn read(&self, pts: Pts) -> Option<Stamp> {
        let version = self.version.load(Ordering::Acquire);
        if version % 2 == 1 || self.pts.load(Ordering::Relaxed) != pts.0 {
            return None;
        }
        let stamp = Stamp {
            version,
            captured: self.captured.load(Ordering::Relaxed),
            frame: self.frame.load(Ordering::Relaxed),
            left_overlay: self.left_overlay.load(Ordering::Relaxed),
            first_mask: self.first_mask.load(Ordering::Relaxed),
        };
        // Whoever saw a part of a later stamp sees here that its writing had begun.
        fence(Ordering::Acquire);
        (self.version.load(Ordering::Relaxed) == version).then_some(stamp)
    }

    /// Calls `write`, unless somebody has written it since `version` or writes it now.
    fn write(&self, version: u64, write: impl FnOnce(&Self)) {
        let free = version.is_multiple_of(2)
            && self
                .version
                .compare_exchange(version, version + 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
        if free {
            fence(Ordering::Release);
            write(self);
            self.version.store(version + 2, Ordering::Release);
        }
    }
}

/// The ring. Written at the source's pad and in the overlay element, read at the sink's pad.
#[derive(Debug)]
pub struct Stamps {
    entries: Box<[Entry]>,
    next: AtomicU64,
}

impl Default for Stamps {
    fn default() -> Self {
        let entry = || Entry {
            version: AtomicU64::new(0),
            pts: AtomicU64::new(NONE),
            captured: AtomicU64::new(0),
            frame: AtomicU64::new(NONE),
            left_overlay: AtomicU64::new(0),
            first_mask: AtomicU64::new(NONE),
        };
        Self { entries: (0..ROOM).map(|_| entry()).collect(), next: AtomicU64::new(0) }
    }
}

impl Stamps {
    /// A frame leaves the source.
    pub fn capture(&self, pts: Pts, now: Nanos) {
        let slot = self.next.fetch_add(1, Ordering::Relaxed) as usize % ROOM;
        let e = &self.entries[slot];
        e.write(e.version.load(Ordering::Relaxed), |e| {
            e.pts.store(pts.0, Ordering::Relaxed);
            e.captured.store(now.0, Ordering::Relaxed);
            e.frame.store(NONE, Ordering::Relaxed);
            e.left_overlay.store(0, Ordering::Relaxed);
            e.first_mask.store(NONE, Ordering::Relaxed);
        });
    }

    /// The newest entry of this timestamp.
    fn find(&self, pts: Pts) -> Option<(&Entry, Stamp)> {
        let next = self.next.load(Ordering::Relaxed) as usize;
        (1..=ROOM)
            .map(|back| &self.entries[(next + ROOM - back) % ROOM])
            .find_map(|e| Some((e, e.read(pts)?)))
    }

    /// A frame reaches the overlay element: when it was captured. A frame without a stamp is stamped now.
    pub fn enter(&self, pts: Pts, now: Nanos) -> Nanos {
        match self.find(pts) {
            Some((_, stamp)) if stamp.frame == NONE => Nanos(stamp.captured),
            // No stamp, or that of an earlier frame of the same timestamp.
            _ => {
                self.capture(pts, now);
                now
            }
        }
    }

    /// A frame leaves the overlay element.
    pub fn leave(&self, pts: Pts, frame: FrameId, now: Nanos, first_mask: Option<Nanos>) {
        if let Some((e, stamp)) = self.find(pts) {
            e.write(stamp.version, |e| {
                e.left_overlay.store(now.0, Ordering::Relaxed);
                e.first_mask.store(first_mask.map_or(NONE, |n| n.0), Ordering::Relaxed);
                e.frame.store(frame.0, Ordering::Relaxed);
            });
        }
    }

    /// A frame arrives at the sink.
    pub fn arrive(&self, pts: Pts) -> Option<Passed> {
        let (_, stamp) = self.find(pts)?;
        (stamp.frame != NONE).then(|| Passed {
            frame: FrameId(stamp.frame),
            captured: Nanos(stamp.captured),
            left_overlay: Nanos(stamp.left_overlay),
            first_mask: (stamp.first_mask != NONE).then_some(Nanos(stamp.first_mask)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_followed_by_its_timestamp() {
        let s = Stamps::default();
        s.capture(Pts(40), Nanos(7));
        assert_eq!(s.arrive(Pts(40)), None);
        assert_eq!(s.enter(Pts(40), Nanos(9)), Nanos(7));
        s.leave(Pts(40), FrameId(3), Nanos(11), Some(Nanos(2)));
        let passed = s.arrive(Pts(40)).expect("it passed");
        assert_eq!(passed.frame, FrameId(3));
        assert_eq!(
            (passed.captured, passed.left_overlay, passed.first_mask),
            (Nanos(7), Nanos(11), Some(Nanos(2)))
        );
        assert_eq!(s.arrive(Pts(41)), None);
    }

    #[test]
    fn repeated_timestamps_and_missing_stamps_are_stamped_on_entry() {
        let s = Stamps::default();
        assert_eq!(s.enter(Pts(0), Nanos(5)), Nanos(5));
        s.leave(Pts(0), FrameId(0), Nanos(6), None);
        assert_eq!(s.enter(Pts(0), Nanos(50)), Nanos(50));
        s.leave(Pts(0), FrameId(1), Nanos(51), None);
        assert_eq!(s.arrive(Pts(0)).map(|p| (p.frame, p.captured)), Some((FrameId(1), Nanos(50))));
    }

    #[test]
    fn old_frames_are_forgotten() {
        let s = Stamps::default();
        for n in 0..ROOM as u64 + 1 {
            s.capture(Pts(n), Nanos(n));
            s.leave(Pts(n), FrameId(n), Nanos(n), None);
        }
        assert_eq!(s.arrive(Pts(0)), None);
        assert!(s.arrive(Pts(1)).is_some());
    }
}
