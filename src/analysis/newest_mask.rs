//! The newest mask on the frame that passes.
//!
//! In: a picture and its [`Stamp`]. Out: [`Found`]. Steps, in order: hand a copy over, follow the motion, take the
//! newest mask, judge its age, move it. Nothing is allocated once the picture's size is known.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::frame_pool::{FrameCopy, FramePool};
use crate::frame::{FrameId, Mask, Nanos, Picture, PictureInfo, Pts, Rect};
use crate::mailbox::Outbox;
use crate::mask_slot::{FinishedMask, MaskReceiver};
use crate::motion::{Mover, Tracker};
use crate::safety::{Verdict, Watch, WorkerHealth};
use crate::telemetry::event::ShownMask;
use crate::worker::MAX_HUNG_WORKERS;

/// How old a mask is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ages {
    /// By the clock, from its frame's capture to now: for sources that deliver at their own pace.
    Clock,
    /// By the clock or by the timestamps, whichever says more: for streams that may run faster than they would be
    /// shown.
    ClockAndStream,
    /// By the timestamps alone: where frames wait for their masks, the clock says nothing.
    Stream,
}

/// What an analysis is connected to.
pub struct Parts {
    pub outbox: Outbox<Box<FrameCopy>>,
    pub masks: MaskReceiver,
    pub health: Vec<Arc<WorkerHealth>>,
    pub watch: Watch,
    /// Whether masks are moved along with the picture.
    pub motion: bool,
    pub ages: Ages,
    /// When the session began: all instants count from then.
    pub epoch: Instant,
}

/// A frame's number and times.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    pub frame: FrameId,
    pub pts: Pts,
    /// When it left the source.
    pub captured: Nanos,
}

/// What is known on a frame.
pub struct Found<'a> {
    pub at: Nanos,
    pub verdict: Verdict,
    /// The mask as it lies on this frame, if there is one that may be shown.
    pub mask: Option<&'a Mask>,
    pub shown: Option<ShownMask>,
    /// Capture of the mask's frame, if this is the first frame to show it.
    pub first: Option<Nanos>,
    /// Copying the picture for the worker and offering the copy.
    pub hand_over: Nanos,
    /// Estimating its motion.
    pub motion: Nanos,
    /// When all that was done.
    pub since: Instant,
}

/// See the module. One thread, the video path's, uses it.
pub struct Analysis {
    parts: Parts,
    copies: FramePool,
    tracker: Option<Tracker>,
    mover: Mover,
    /// Part of the picture that moves.
    view: Rect,
    /// Masks of frames before this one are of a stream that is over.
    oldest: FrameId,
}

impl Analysis {
    pub fn new(parts: Parts) -> Self {
        // One for each worker and for each that may hang with its own, one that waits, one being filled.
        let room = parts.health.len().max(1) * (1 + MAX_HUNG_WORKERS) + 2;
        Self {
            copies: FramePool::new(room, parts.epoch),
            tracker: (parts.motion && !parts.health.is_empty()).then(Tracker::new),
            mover: Mover::default(),
            view: Rect::default(),
            oldest: FrameId(0),
            parts,
        }
    }

    /// The mask that was the newest on the frame before.
    pub fn current(&self) -> Option<&FinishedMask> {
        self.parts.masks.current()
    }

    /// Now, since the session began.
    pub fn now(&self) -> Nanos {
        self.parts.epoch.elapsed().into()
    }

    /// The part of the picture that the newest mask was made from.
    pub fn view(&self) -> Rect {
        self.view
    }

    /// The source's frame period, once its caps are known.
    pub fn set_period(&mut self, period: Nanos) {
        self.parts.watch.set_period(period);
    }

    /// From which age on a mask is not shown.
    pub fn set_max_mask_age(&mut self, age: Nanos) {
        self.parts.watch.set_max_mask_age(age);
    }

    /// Whether masks are moved along with the picture, from the next frame on.
    pub fn follow_motion(&mut self, on: bool) {
        if on != self.tracker.is_some() {
            self.tracker = (on && !self.parts.health.is_empty()).then(Tracker::new);
        }
    }

    /// Pictures of another size or layout follow, `next` is the first of them.
    pub fn resize(&mut self, width: u32, height: u32, next: FrameId) {
        self.parts.masks.clear();
        self.view = Rect::full(width, height);
        self.oldest = next;
    }

    /// What is known of the stream's past is void; `next` is its first frame from now on.
    pub fn restart(&mut self, next: FrameId) {
        self.parts.masks.clear();
        self.oldest = next;
        if let Some(tracker) = &mut self.tracker {
            tracker.restart();
        }
    }

    /// Offers a copy of the picture; a copy that it replaces is reused. How long it took.
    pub fn hand_over(&mut self, picture: &Picture, stamp: Stamp) -> Nanos {
        let start = Instant::now();
        if self.parts.health.is_empty() {
            return Nanos(0);
        }
        if let Some(copy) = self.copies.copy(picture, stamp.frame, stamp.pts, stamp.captured) {
            match self.parts.outbox.offer(copy) {
                Ok(Some(replaced)) => self.copies.give_back(replaced),
                Ok(None) => {}
                Err(nobody) => self.copies.give_back(nobody.0),
            }
        }
        start.elapsed().into()
    }

    /// Waits up to `patience` until the mask of that frame, or of a later one, is there; says whether it is.
    pub fn wait_for(&mut self, frame: FrameId, patience: Duration) -> bool {
        self.parts.masks.wait_for(frame, patience)
    }

    /// Every worker has failed, or answers no more.
    pub fn is_lost(&self) -> bool {
        !self.parts.health.is_empty() && self.parts.health.iter().all(|h| h.fault().is_some())
    }

    /// The whole of a frame: `analysed` offers it to the workers, `on` lets masks be shown.
    pub fn step(&mut self, picture: &Picture, stamp: Stamp, analysed: bool, on: bool) -> Found<'_> {
        let hand_over = if analysed { self.hand_over(picture, stamp) } else { Nanos(0) };
        self.look(picture, stamp, on, hand_over)
    }

    /// As [`Analysis::step`], of a frame that was handed over already.
    pub fn look(&mut self, picture: &Picture, stamp: Stamp, on: bool, hand_over: Nanos) -> Found<'_> {
        let start = Instant::now();
        let mut motion = Nanos(0);
        if let Some(tracker) = &mut self.tracker {
            tracker.observe(stamp.frame, picture, self.view);
            motion = start.elapsed().into();
        }
        let since = Instant::now();
        let (newest, fresh) = self.parts.masks.newest();
        let newest = newest.filter(|m| m.mask.frame >= self.oldest);
        let at = Nanos::from(self.parts.epoch.elapsed());
        let ages = self.parts.ages;
        let apart = |m: &FinishedMask| Nanos(stamp.pts.0.abs_diff(m.mask.pts.0));
        let age_of = |m: &FinishedMask| match ages {
            Ages::Clock => m.age(at),
            Ages::ClockAndStream => m.age(at).max(apart(m)),
            Ages::Stream => apart(m),
        };
        let verdict = self.parts.watch.step(at, &self.parts.health, newest.map(age_of), on);
        let Some(m) = newest.filter(|m| verdict.draw && fits(&m.mask, &picture.info)) else {
            return Found { at, verdict, mask: None, shown: None, first: None, hand_over, motion, since };
        };
        // Where the motion is not known, the mask stays where it was.
        let moved = match &mut self.tracker {
            Some(tracker) => self.mover.run(tracker, &m.mask),
            None => None,
        };
        self.view = m.mask.field_of_view;
        let shown = ShownMask {
            of: m.mask.frame,
            age: age_of(m),
            first: fresh,
            moved: moved.is_some(),
            area_px: m.mask.area_px,
            in_slot: Nanos(at.0.saturating_sub(m.finished.0)),
        };
        let first = fresh.then_some(m.captured);
        let mask = Some(moved.unwrap_or(&m.mask));
        Found { at, verdict, mask, shown: Some(shown), first, hand_over, motion, since }
    }
}

/// A mask of another picture size is not shown.
fn fits(mask: &Mask, info: &PictureInfo) -> bool {
    (mask.width, mask.height) == (info.width, info.height)
}
