//! The newest finished mask, from the workers to the video path.
//!
//! In: finished masks from any number of workers, in any order. Out: the newest one by frame, to the one thread that
//! composites. Neither side ever waits; a mask of an older frame never replaces a newer one, whichever was finished
//! first. Masks that were shown or overtaken go back to the workers, whose buffers they are.

// Nothing panics on a streaming thread.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError};

use crate::frame::{FrameId, Mask, Nanos};

/// A mask with the instants that its age and delay are measured from (since the session began).
#[derive(Debug, Default)]
pub struct FinishedMask {
    pub mask: Mask,
    /// When its frame left the source.
    pub captured: Nanos,
    /// When the worker put it into the slot.
    pub finished: Nanos,
}

impl FinishedMask {
    fn frame(&self) -> FrameId {
        self.mask.frame
    }

    /// Age at `now`, from its frame's capture.
    pub fn age(&self, now: Nanos) -> Nanos {
        Nanos(now.0.saturating_sub(self.captured.0))
    }
}

/// A worker's end.
#[derive(Clone, Debug)]
pub struct MaskSender {
    sender: Sender<Box<FinishedMask>>,
    /// Held to take back what the video path left lying.
    reclaim: Receiver<Box<FinishedMask>>,
    spent: Receiver<Box<FinishedMask>>,
    overtaken: Arc<AtomicU64>,
}

/// The video path's end.
#[derive(Debug)]
pub struct MaskReceiver {
    receiver: Receiver<Box<FinishedMask>>,
    bin: Sender<Box<FinishedMask>>,
    current: Option<Box<FinishedMask>>,
    /// It has come since anybody looked.
    fresh: bool,
}

/// A slot for `workers` workers.
pub fn mask_slot(workers: usize) -> (MaskSender, MaskReceiver) {
    // Each worker may have one mask lying there, so that none has to look at another's.
    let room = workers.max(1);
    let (sender, receiver) = crossbeam_channel::bounded(room);
    let (bin, spent) = crossbeam_channel::bounded(2 * room + 2);
    let mask_sender = MaskSender { sender, reclaim: receiver.clone(), spent, overtaken: Arc::default() };
    (mask_sender, MaskReceiver { receiver, bin, current: None, fresh: false })
}

impl MaskSender {
    /// An empty mask, with the buffers of one that is no longer shown if there is one.
    pub fn blank(&self) -> Box<FinishedMask> {
        self.spent.try_recv().unwrap_or_default()
    }

    /// Puts a mask into the slot. What it pushes out, because the video path has not looked for a while, is older.
    pub fn give(&self, mask: Box<FinishedMask>) {
        let mut mask = mask;
        loop {
            match self.sender.try_send(mask) {
                Ok(()) => return,
                Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(back)) => {
                    mask = back;
                    if let Ok(old) = self.reclaim.try_recv() {
                        self.overtaken.fetch_add(1, Ordering::Relaxed);
                        // The newer of the two goes on.
                        if old.frame() > mask.frame() {
                            mask = old;
                        }
                    }
                }
            }
        }
    }

    /// Masks that no frame ever showed because a newer one came first.
    pub fn overtaken(&self) -> u64 {
        self.overtaken.load(Ordering::Relaxed)
    }
}

impl MaskReceiver {
    /// The newest mask there is, and whether it has come since the last call.
    pub fn newest(&mut self) -> (Option<&FinishedMask>, bool) {
        while let Ok(mask) = self.receiver.try_recv() {
            self.keep(mask);
        }
        let fresh = std::mem::take(&mut self.fresh);
        (self.current.as_deref(), fresh)
    }

    /// The mask that was the newest when somebody asked last.
    pub fn current(&self) -> Option<&FinishedMask> {
        self.current.as_deref()
    }

    /// Waits up to `patience` for the mask of that frame or of a later one; says whether there is one. For those who
    /// want each frame's own: the video path of a live picture never waits.
    pub fn wait_for(&mut self, frame: FrameId, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.current.as_ref().is_none_or(|c| c.frame() < frame) {
            let Ok(mask) = self.receiver.recv_deadline(deadline) else { return false };
            self.keep(mask);
        }
        true
    }

    /// Of this mask and the one there is, the newer stays.
    fn keep(&mut self, mask: Box<FinishedMask>) {
        let newer = self.current.as_ref().is_none_or(|c| mask.frame() > c.frame());
        let spent = if newer {
            self.fresh = true;
            self.current.replace(mask)
        } else {
            Some(mask)
        };
        if let Some(spent) = spent {
            // A full bin means more masks than anybody needs; this one is freed.
            let _ = self.bin.try_send(spent);
        }
    }

    /// Forgets the mask: the stream it belongs to is over.
    pub fn clear(&mut self) {
        self.newest();
        if let Some(spent) = self.current.take() {
            let _ = self.bin.try_send(spent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(frame: u64) -> Box<FinishedMask> {
        let mut m = Box::<FinishedMask>::default();
        m.mask.frame = FrameId(frame);
        m
    }

    fn shown(mask_receiver: &mut MaskReceiver) -> Option<(u64, bool)> {
        let (mask, fresh) = mask_receiver.newest();
        mask.map(|m| (m.mask.frame.0, fresh))
    }

    #[test]
    fn a_mask_of_an_older_frame_never_replaces_a_newer_one() {
        let (mask_sender, mut mask_receiver) = mask_slot(2);
        assert_eq!(shown(&mut mask_receiver), None);
        mask_sender.give(mask(5));
        assert_eq!(shown(&mut mask_receiver), Some((5, true)));
        mask_sender.give(mask(4));
        assert_eq!(shown(&mut mask_receiver), Some((5, false)));
        mask_sender.give(mask(8));
        mask_sender.give(mask(7));
        assert_eq!(shown(&mut mask_receiver), Some((8, true)));
        assert_eq!(shown(&mut mask_receiver), Some((8, false)));
    }

    #[test]
    fn an_empty_slot_has_nothing_new() {
        let (_mask_sender, mut mask_receiver) = mask_slot(1);
        assert!(matches!(mask_receiver.newest(), (None, false)));
    }

    #[test]
    fn a_masks_age_is_counted_from_its_frames_capture() {
        let mask = FinishedMask { captured: Nanos(40), finished: Nanos(70), ..FinishedMask::default() };
        assert_eq!(mask.age(Nanos(100)), Nanos(60));
        // A clock that is read on another thread may be a little behind.
        assert_eq!(mask.age(Nanos(30)), Nanos(0));
    }

    #[test]
    fn the_newest_survives_a_video_path_that_does_not_look() {
        for order in [[1u64, 2, 3, 4, 5], [5, 4, 3, 2, 1], [2, 5, 1, 4, 3]] {
            let (mask_sender, mut mask_receiver) = mask_slot(2);
            for n in order {
                mask_sender.give(mask(n));
            }
            assert_eq!(shown(&mut mask_receiver), Some((5, true)), "{order:?}");
            assert_eq!(mask_sender.overtaken(), 3);
        }
    }

    #[test]
    fn waiting_ends_with_the_mask_of_the_frame_or_a_later_one() {
        let (mask_sender, mut mask_receiver) = mask_slot(1);
        mask_sender.give(mask(3));
        assert!(!mask_receiver.wait_for(FrameId(4), Duration::ZERO));
        mask_sender.give(mask(5));
        assert!(mask_receiver.wait_for(FrameId(4), Duration::ZERO));
        assert!(mask_receiver.wait_for(FrameId(5), Duration::ZERO), "it is there already");
        assert_eq!(shown(&mut mask_receiver), Some((5, true)));
        assert_eq!(shown(&mut mask_receiver), Some((5, false)));
    }

    #[test]
    fn whoever_waits_gets_what_comes_meanwhile() {
        let (mask_sender, mut mask_receiver) = mask_slot(1);
        let (begin, begun) = crossbeam_channel::bounded(1);
        let worker = std::thread::spawn(move || {
            begun.recv().expect("it is told to begin");
            // Later than a receiver looks that does not wait.
            (0..50).for_each(|_| std::thread::yield_now());
            mask_sender.give(mask(3));
        });
        begin.send(()).expect("it listens");
        assert!(mask_receiver.wait_for(FrameId(3), Duration::from_secs(60)));
        worker.join().expect("it does not panic");
    }

    #[test]
    fn buffers_come_back_to_the_workers() {
        let (mask_sender, mut mask_receiver) = mask_slot(1);
        let mut first = mask(1);
        first.mask.inside = vec![7; 100];
        let address = first.mask.inside.as_ptr();
        mask_sender.give(first);
        mask_receiver.newest();
        mask_sender.give(mask(2));
        mask_receiver.newest();
        assert_eq!(mask_sender.blank().mask.inside.as_ptr(), address);
        mask_receiver.clear();
        assert_eq!(shown(&mut mask_receiver), None);
    }

    #[test]
    fn two_workers_and_a_slow_reader_never_run_backwards() {
        let (mask_sender, mut mask_receiver) = mask_slot(2);
        let workers: Vec<_> = (0..2u64)
            .map(|k| {
                let mask_sender = mask_sender.clone();
                std::thread::spawn(move || {
                    for n in 0..5_000 {
                        let mut m = mask_sender.blank();
                        m.mask.frame = FrameId(2 * n + k);
                        mask_sender.give(m);
                    }
                })
            })
            .collect();
        let mut last = 0;
        while !workers.iter().all(|w| w.is_finished()) {
            if let Some((frame, _)) = shown(&mut mask_receiver) {
                assert!(frame >= last, "{frame} after {last}");
                last = frame;
            }
        }
        for w in workers {
            w.join().expect("no worker panicked");
        }
        assert_eq!(shown(&mut mask_receiver).map(|s| s.0), Some(9_999));
    }
}
