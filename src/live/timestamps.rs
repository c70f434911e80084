//! When each frame passed which place, found again by its timestamp.
//!
//! In: stamps from the source's pad and from the overlay element. Out: the same stamps to whoever sees the frame later.
//! Buffers are remade on the way (decoders, converters), their timestamps are not; so the timestamp is the key. A ring of
//! atomics: nobody waits, and what is overwritten is simply not found.

use std::sync::atomic::{AtomicU64, Ordering};

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
    pts: AtomicU64,
    captured: AtomicU64,
    frame: AtomicU64,
    left_overlay: AtomicU64,
    first_mask: AtomicU64,
}

/// The ring. Written by one thread per place (source pad, overlay), read by the sink's.
#[derive(Debug)]
pub struct Stamps {
    entries: Box<[Entry]>,
    next: AtomicU64,
}

impl Default for Stamps {
    fn default() -> Self {
        let entry = || Entry {
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
        e.pts.store(NONE, Ordering::Relaxed);
        e.captured.store(now.0, Ordering::Relaxed);
        e.frame.store(NONE, Ordering::Relaxed);
        e.first_mask.store(NONE, Ordering::Relaxed);
        e.pts.store(pts.0, Ordering::Release);
    }

    /// The newest entry of this timestamp.
    fn find(&self, pts: Pts) -> Option<&Entry> {
        let next = self.next.load(Ordering::Relaxed) as usize;
        (1..=ROOM)
            .map(|back| &self.entries[(next + ROOM - back) % ROOM])
            .find(|e| e.pts.load(Ordering::Acquire) == pts.0)
    }

    /// A frame reaches the overlay element: when it was captured. A frame without a stamp is stamped now.
    pub fn enter(&self, pts: Pts, now: Nanos) -> Nanos {
        match self.find(pts) {
            Some(e) if e.frame.load(Ordering::Relaxed) == NONE => Nanos(e.captured.load(Ordering::Relaxed)),
            // No stamp, or that of an earlier frame of the same timestamp.
            _ => {
                self.capture(pts, now);
                now
            }
        }
    }

    /// A frame leaves the overlay element.
    pub fn leave(&self, pts: Pts, frame: FrameId, now: Nanos, first_mask: Option<Nanos>) {
        if let Some(e) = self.find(pts) {
            e.left_overlay.store(now.0, Ordering::Relaxed);
            e.first_mask.store(first_mask.map_or(NONE, |n| n.0), Ordering::Relaxed);
            e.frame.store(frame.0, Ordering::Release);
        }
    }

    /// A frame arrives at the sink.
    pub fn arrive(&self, pts: Pts) -> Option<Passed> {
        let e = self.find(pts)?;
        let frame = e.frame.load(Ordering::Acquire);
        let first_mask = e.first_mask.load(Ordering::Relaxed);
        (frame != NONE).then(|| Passed {
            frame: FrameId(frame),
            captured: Nanos(e.captured.load(Ordering::Relaxed)),
            left_overlay: Nanos(e.left_overlay.load(Ordering::Relaxed)),
            first_mask: (first_mask != NONE).then_some(Nanos(first_mask)),
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
