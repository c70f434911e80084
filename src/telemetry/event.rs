//! What happens to frames in the live pipeline, as small values that cross from its threads to the collector.
//!
//! In: stamps taken on the video path and in the worker. Out: [`Event`]s, `Copy` and of fixed size, so that posting one
//! allocates nothing. A [`Feed`] never waits: an event that finds no room is counted and lost, the frame goes on.

// Nothing panics on a streaming thread.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender};

use crate::frame::{FrameId, Gate, Nanos, Pts, TrackMark, TrackState};
use crate::safety::{Reason, State};

/// Events that can wait for the collector: several seconds of a fast pipeline.
const ROOM: usize = 8192;

/// All instants are [`Nanos`] since the session began (monotonic clock).
// Events are copied into room that is there already: a box would be an allocation on the thread that posts.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A frame has passed the overlay element.
    Frame(FrameEvent),
    /// A frame has arrived at the sink.
    Left(LeftEvent),
    /// A worker has finished a mask.
    Mask(MaskEvent),
    /// The safety state has changed, or its reason has.
    State(StateChange),
    /// The stream is not what it was, or a worker was started anew.
    Stream(StreamEvent),
}

/// A frame went through the overlay element.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FrameEvent {
    /// Its number.
    pub frame: FrameId,
    /// The buffer's timestamp; where it has none, when it entered the overlay element.
    pub pts: Pts,
    /// When it left the source.
    pub captured: Nanos,
    /// When it reached the overlay element.
    pub entered: Nanos,
    /// From the source to the overlay element, where the source delivers encoded video.
    pub decode: Option<Nanos>,
    /// Copying it for the worker and offering the copy.
    pub hand_over: Nanos,
    /// Estimating its motion.
    pub motion: Nanos,
    /// Moving the mask and drawing.
    pub composite: Nanos,
    /// The frame whose mask is on it, if any is.
    pub shown: Option<ShownMask>,
    /// What the safety state machine made of this frame.
    pub state: State,
    /// What it took of the processor besides: all of the element's work on this frame.
    pub element: Nanos,
}

/// The mask drawn on a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ShownMask {
    /// The frame it was made from.
    pub of: FrameId,
    /// From that frame's capture to this frame's compositing.
    pub age: Nanos,
    /// The first frame that shows this mask.
    pub first: bool,
    /// Whether it was moved along with the picture.
    pub moved: bool,
    /// Pixels inside polyps, on the frame it was made from.
    pub area_px: u64,
    /// How long it lay in the slot before this frame took it (counts where `first`).
    pub in_slot: Nanos,
}

/// A frame arrived at the sink.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LeftEvent {
    /// Its number, as the overlay element gave it.
    pub frame: FrameId,
    /// When it arrived.
    pub at: Nanos,
    /// From the source's pad to the sink's.
    pub video_delay: Nanos,
    /// From the overlay element to the sink: queues and conversion.
    pub sink: Nanos,
    /// After its deadline: one frame period plus the reported latency.
    pub late: bool,
    /// It carries the mask of this frame for the first time: capture of that frame to now is its annotation delay.
    pub annotation_delay: Option<Nanos>,
}

/// The worker finished a mask.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MaskEvent {
    /// The frame it was made from.
    pub frame: FrameId,
    /// When its frame left the source.
    pub captured: Nanos,
    /// How long the frame lay in the mailbox.
    pub waited: Nanos,
    /// From the source's picture to the network's input; short where the device converts pictures itself.
    pub preprocess: Nanos,
    /// Running the network, with the converting and enlarging that its device does.
    pub network: Nanos,
    /// Following what was found over time; 0 where every frame stands alone.
    pub tracks: Nanos,
    /// From the logits to the mask and its regions.
    pub postprocess: Nanos,
    /// When the worker was done; the mask goes into the slot next.
    pub finished: Nanos,
    /// Pixels inside polyps.
    pub area_px: u64,
    /// Connected regions of the mask.
    pub polyps: u32,
    /// Largest probability anywhere in the field of view, 0–1.
    pub max_probability: f32,
    /// Which worker.
    pub worker: u32,
    /// What is followed over time, as of this mask.
    pub followed: Followed,
}

/// Tracks that an event has room for: more than four polyps at once are no colon.
pub const MOST_MARKS: usize = 4;

/// What is followed over time, as of one mask.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Followed {
    marks: [TrackMark; MOST_MARKS],
    filled: u8,
    /// Tracks that are not shown yet.
    pub tentative: u32,
    /// Confirmed or coasting.
    pub confirmed: u32,
    /// Tracks that this frame confirmed, and how long that took each; see [`Self::marks`] for which.
    pub newly_confirmed: u32,
    /// The largest number of a track, whether it is among the marks or not.
    pub newest: u64,
    /// Why the frame starts no track.
    pub gate: Option<Gate>,
}

impl Followed {
    /// Keeps the first few: those that this frame confirmed, whose delay is measured once, then those that are shown,
    /// then those that are not yet.
    pub fn new(tracks: &[TrackMark], gate: Option<Gate>) -> Self {
        let mut out = Self { gate, ..Self::default() };
        let rank = |t: &TrackMark| match t.state {
            _ if t.is_newly_confirmed() => 0,
            TrackState::Tentative => 2,
            _ => 1,
        };
        for wanted in 0..3 {
            for t in tracks.iter().filter(|t| rank(t) == wanted) {
                out.newest = out.newest.max(t.track_id);
                match t.state {
                    TrackState::Tentative => out.tentative += 1,
                    TrackState::Confirmed | TrackState::Coasting => out.confirmed += 1,
                    TrackState::Ended => {}
                }
                out.newly_confirmed += u32::from(t.is_newly_confirmed());
                if let Some(place) = out.marks.get_mut(usize::from(out.filled)) {
                    *place = *t;
                    out.filled += 1;
                }
            }
        }
        out
    }

    /// At most [`MOST_MARKS`] tracks: those that this frame confirmed first, the tentative ones last.
    pub fn marks(&self) -> &[TrackMark] {
        &self.marks[..usize::from(self.filled)]
    }
}

/// The safety state changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StateChange {
    /// When it was noticed, while a frame was judged.
    pub at: Nanos,
    /// The state before; the same as `to` where only the reason has changed.
    pub from: State,
    /// The state from then on.
    pub to: State,
    /// Why that is the state.
    pub reason: Reason,
}

/// Something happened to the stream itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StreamEvent {
    /// Timestamps jumped or repeated.
    TimestampJump {
        /// When the frame entered the overlay element.
        at: Nanos,
        /// The first frame after the jump.
        frame: FrameId,
    },
    /// Size, layout or rate changed.
    FormatChange {
        /// When the first picture of the new kind was announced.
        at: Nanos,
        /// Pixels in a row, from then on.
        width: u32,
        /// Rows, from then on.
        height: u32,
    },
    /// The source gives no picture any more, and is started anew.
    SourceLost {
        /// When that was noticed.
        at: Nanos,
    },
    /// A source that was lost gives pictures again.
    SourceBack {
        /// When that was noticed.
        at: Nanos,
    },
    /// A worker was started anew.
    WorkerRestart {
        /// Which worker, from 0.
        worker: u32,
        /// When the new worker was about to start.
        at: Nanos,
        /// How often this worker has been started anew, from 1.
        attempt: u32,
    },
}

/// The producers' end; clones share the same collector.
#[derive(Clone, Debug)]
pub struct Feed {
    sender: Sender<Event>,
    lost: Arc<AtomicU64>,
}

/// The collector's end.
#[derive(Debug)]
pub struct Events {
    /// What was posted and not fetched yet, oldest first.
    pub receiver: Receiver<Event>,
    lost: Arc<AtomicU64>,
}

/// A feed and its collector's end.
pub fn feed() -> (Feed, Events) {
    feed_of(ROOM)
}

/// The same with room for so many events, for collectors that look with every frame.
pub fn feed_of(room: usize) -> (Feed, Events) {
    let (sender, receiver) = crossbeam_channel::bounded(room);
    let lost = Arc::new(AtomicU64::new(0));
    (Feed { sender, lost: lost.clone() }, Events { receiver, lost })
}

impl Feed {
    /// Posts an event without waiting. The collector polls, so that nobody has to be woken.
    pub fn post(&self, event: Event) {
        if self.sender.try_send(event).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Events {
    /// Events that found no room so far.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_tracks_those_that_are_shown_are_kept() {
        let mark = |track_id, state| TrackMark { track_id, state, ..TrackMark::default() };
        let mut tracks: Vec<_> = (1..9).map(|n| mark(n, TrackState::Tentative)).collect();
        tracks.push(mark(9, TrackState::Coasting));
        tracks.push(TrackMark {
            age_ms: 160.0,
            confirmed_after_ms: Some(160.0),
            ..mark(10, TrackState::Confirmed)
        });
        let f = Followed::new(&tracks, Some(Gate::Blurred));
        let kept = |f: &Followed| f.marks().iter().map(|t| t.track_id).collect::<Vec<_>>();
        assert_eq!(kept(&f), [10, 9, 1, 2]);
        assert_eq!((f.tentative, f.confirmed, f.newly_confirmed, f.newest), (8, 2, 1, 10));
        // The delay of a confirmation is said on one frame alone, so it is kept however many tracks are shown.
        let mut tracks: Vec<_> = (21..27).map(|n| mark(n, TrackState::Coasting)).collect();
        tracks.push(TrackMark {
            age_ms: 80.0,
            confirmed_after_ms: Some(80.0),
            ..mark(27, TrackState::Confirmed)
        });
        tracks.push(mark(28, TrackState::Tentative));
        let f = Followed::new(&tracks, None);
        assert_eq!(kept(&f), [27, 21, 22, 23]);
        assert_eq!((f.tentative, f.confirmed, f.newly_confirmed, f.newest), (1, 7, 1, 28));
    }

    #[test]
    fn a_feed_without_a_reader_loses_events_and_counts_them() {
        let (feed, events) = feed();
        for _ in 0..ROOM + 3 {
            feed.post(Event::Left(LeftEvent::default()));
        }
        assert_eq!((events.receiver.len(), events.lost()), (ROOM, 3));
        drop(events);
        feed.post(Event::Left(LeftEvent::default()));
    }
}
