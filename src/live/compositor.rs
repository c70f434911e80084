//! What a live session does with one frame inside its element.
//!
//! In: a buffer on the streaming thread. Out: the buffer with its marks, a copy of the clean picture in the mailbox,
//! and a [`FrameEvent`] in the telemetry. [`Analysis`] hands over, follows the motion, takes the newest mask and judges
//! it; here it is drawn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use gstreamer as gst;
use gstreamer_video as gst_video;

use super::controls::Controls;
use super::timestamps::Stamps;
use crate::analysis::{Analysis, Stamp};
use crate::capture::{FrameHook, draw_as, draw_on, picture_info, picture_of};
use crate::frame::{FrameId, Mask, Nanos, Picture, PictureInfo, PictureMut, PixelFormat, Plane, Pts, Rect};
use crate::overlay::{Overlay, Style};
use crate::safety::{Reason, State, USUAL_PERIOD};
use crate::telemetry::event::{Event, Feed, FrameEvent, StateChange, StreamEvent};
use crate::{Error, Result};

/// Somebody who wants to see the buffers themselves: the recorder, a snapshot. Called on the streaming thread: must not
/// wait, and must not keep the buffer.
pub trait Tap: Send + Sync {
    /// What the next pictures are like.
    fn format(&self, _info: &gst_video::VideoInfo) {}
    /// The picture as it came.
    fn clean(&self, buffer: &gst::BufferRef, info: &gst_video::VideoInfo);
    /// The picture as it goes on, and what is shown on it.
    fn marked(&self, buffer: &gst::BufferRef, info: &gst_video::VideoInfo, shown: &Shown);
}

/// What a picture shows besides itself.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// Its number.
    pub frame: FrameId,
    /// The buffer's timestamp; where it has none, when it entered the overlay element.
    pub pts: Pts,
    /// The part of it that is analysed.
    pub view: Rect,
    /// The mask that is drawn, as it was found on its own frame.
    pub mask: Option<&'a Mask>,
}

/// Everything a compositor is connected to.
pub struct Wiring {
    /// Gives the masks.
    pub analysis: Analysis,
    pub controls: Arc<Controls>,
    pub style: Style,
    pub stamps: Arc<Stamps>,
    pub feed: Feed,
    pub tap: Option<Arc<dyn Tap>>,
    /// One frame of the source in nanoseconds, written when its caps are known; the workers read it.
    pub period: Arc<AtomicU64>,
    /// When the session began.
    pub epoch: Instant,
}

/// What of it the compositor keeps as it is.
struct Connected {
    controls: Arc<Controls>,
    stamps: Arc<Stamps>,
    feed: Feed,
    tap: Option<Arc<dyn Tap>>,
    period: Arc<AtomicU64>,
    epoch: Instant,
}

pub(super) struct Compositor {
    wiring: Connected,
    analysis: Analysis,
    overlay: Overlay,
    next: FrameId,
    last_pts: Option<Pts>,
    last_state: State,
    size: (u32, u32, PixelFormat),
    /// Our own code failed: the picture goes on clean until the next format.
    given_up: bool,
}

impl Compositor {
    pub(super) fn new(wiring: Wiring) -> Self {
        let Wiring { analysis, controls, style, stamps, feed, tap, period, epoch } = wiring;
        Self {
            overlay: Overlay::new(style),
            analysis,
            wiring: Connected { controls, stamps, feed, tap, period, epoch },
            next: FrameId(0),
            last_pts: None,
            last_state: State::WarmUp,
            size: (0, 0, PixelFormat::Gray8),
            given_up: false,
        }
    }

    fn now(&self) -> Nanos {
        self.wiring.epoch.elapsed().into()
    }

    fn post(&self, event: Event) {
        self.wiring.feed.post(event);
    }

    /// A frame enters: its number and its time.
    fn begin(&mut self, buffer: &gst::BufferRef) -> (FrameEvent, Nanos) {
        let entered = self.now();
        let frame = self.next;
        self.next = frame.next();
        let pts = Pts(buffer.pts().map_or(entered.0, |t| t.nseconds()));
        self.watch_clock(pts, frame, entered);
        let captured = self.wiring.stamps.enter(pts, entered);
        let mut event =
            FrameEvent { frame, pts, captured, entered, state: State::Bypass, ..Default::default() };
        if captured < entered {
            event.decode = Some(Nanos(entered.0 - captured.0));
        }
        (event, entered)
    }

    /// It leaves.
    fn end(&mut self, mut event: FrameEvent, entered: Nanos, first_mask: Option<Nanos>) {
        let left = self.now();
        event.element = Nanos(left.0 - entered.0);
        self.wiring.stamps.leave(event.pts, event.frame, left, first_mask);
        self.post(Event::Frame(event));
    }

    fn on_key(
        &mut self,
        buffer: &gst::BufferRef,
        info: &gst_video::VideoInfo,
        key: &mut gst::BufferRef,
        key_info: &gst_video::VideoInfo,
        event: &mut FrameEvent,
    ) -> Result<Option<Nanos>> {
        let canvas = PictureInfo::new(PixelFormat::Bgrx, key_info.width(), key_info.height());
        draw_as(key, key_info, canvas, |canvas| {
            let mut canvas = Some(canvas);
            let mut first = None;
            picture_of(buffer, info, |seen| {
                if let Some(canvas) = canvas.take() {
                    first = self.draw(Target::Key { seen: *seen, canvas }, event);
                }
                Ok(())
            })?;
            Ok(first)
        })
    }

    fn on_picture(
        &mut self,
        buffer: &mut gst::BufferRef,
        info: &gst_video::VideoInfo,
        event: &mut FrameEvent,
    ) -> Result<Option<Nanos>> {
        draw_on(buffer, info, |picture| Ok(self.draw(Target::InPlace(picture), event)))
    }

    /// Hands the picture over, then draws. Returns the capture of the mask's frame if it is shown for the first time.
    fn draw(&mut self, mut target: Target, event: &mut FrameEvent) -> Option<Nanos> {
        let stamp = Stamp { frame: event.frame, pts: event.pts, captured: event.captured };
        let controls = &self.wiring.controls;
        let found = self.analysis.step(&target.seen(), stamp, true, controls.on());
        (event.hand_over, event.motion, event.shown) = (found.hand_over, found.motion, found.shown);
        event.state = found.verdict.state;
        if let Some(from) = found.verdict.changed_from {
            self.last_state = found.verdict.state;
            self.wiring.feed.post(Event::State(StateChange {
                at: found.at,
                from,
                to: found.verdict.state,
                reason: found.verdict.reason,
            }));
        }
        self.overlay.set_alpha(controls.alpha());
        match &mut target {
            Target::InPlace(picture) => self.overlay.draw(picture, found.mask, found.verdict.state),
            Target::Key { canvas, .. } => self.overlay.draw_key(canvas, found.mask, found.verdict.state),
        }
        event.composite = found.since.elapsed().into();
        found.first
    }

    /// Counts timestamps that repeat, run backwards or jump by more than a second.
    fn watch_clock(&mut self, pts: Pts, frame: FrameId, now: Nanos) {
        let jumped = self.last_pts.is_some_and(|last| pts <= last || pts.0 - last.0 > 1_000_000_000);
        self.last_pts = Some(pts);
        if jumped {
            self.post(Event::Stream(StreamEvent::TimestampJump { at: now, frame }));
        }
    }
}

impl FrameHook for Compositor {
    fn format(&mut self, info: &gst_video::VideoInfo) {
        if let Some(tap) = &self.wiring.tap {
            tap.format(info);
        }
        let fps = info.fps();
        let period = match (fps.numer(), fps.denom()) {
            (n, d) if n > 0 && d > 0 => Nanos(1_000_000_000 * d as u64 / n as u64),
            _ => USUAL_PERIOD,
        };
        self.analysis.set_period(period);
        self.wiring.period.store(period.0, Ordering::Relaxed);
        self.given_up = false;
        if let Ok(picture) = picture_info(info, None) {
            let size = (picture.width, picture.height, picture.format);
            if self.size != size {
                if self.size.0 != 0 {
                    self.post(Event::Stream(StreamEvent::FormatChange {
                        at: self.now(),
                        width: size.0,
                        height: size.1,
                    }));
                }
                self.size = size;
                self.analysis.resize(size.0, size.1, self.next);
            }
        }
    }

    /// What is known of the stream's past is void.
    fn flushed(&mut self) {
        self.last_pts = None;
        self.analysis.restart(self.next);
    }

    fn panicked(&mut self) {
        self.given_up = true;
        let at = self.now();
        let from = std::mem::replace(&mut self.last_state, State::Bypass);
        self.post(Event::State(StateChange { at, from, to: State::Bypass, reason: Reason::Failed }));
    }

    fn in_place(&mut self, buffer: &mut gst::BufferRef, info: &gst_video::VideoInfo) -> Result<()> {
        let (mut event, entered) = self.begin(buffer);
        if let Some(tap) = &self.wiring.tap {
            tap.clean(buffer, info);
        }
        let mut first_mask = None;
        let drawn = if self.given_up {
            Ok(())
        } else {
            self.on_picture(buffer, info, &mut event).map(|first| first_mask = first)
        };
        if let Some(tap) = &self.wiring.tap {
            let mask = self.analysis.current().map(|m| &m.mask);
            let mask = mask.filter(|m| event.shown.is_some_and(|s| s.of == m.frame));
            tap.marked(
                buffer,
                info,
                &Shown { frame: event.frame, pts: event.pts, view: self.analysis.view(), mask },
            );
        }
        self.end(event, entered, first_mask);
        drawn
    }

    fn key(
        &mut self,
        buffer: &gst::BufferRef,
        info: &gst_video::VideoInfo,
        key: &mut gst::BufferRef,
        key_info: &gst_video::VideoInfo,
    ) -> Result<()> {
        let (mut event, entered) = self.begin(buffer);
        if let Some(tap) = &self.wiring.tap {
            // The card puts picture and marks together: this machine never has the marked picture, so both taps see the
            // clean one.
            tap.clean(buffer, info);
            tap.marked(
                buffer,
                info,
                &Shown { frame: event.frame, pts: event.pts, view: self.analysis.view(), mask: None },
            );
        }
        let mut first_mask = None;
        let drawn = if self.given_up {
            Err(Error::internal("the overlay gave up on this stream"))
        } else {
            self.on_key(buffer, info, key, key_info, &mut event).map(|first| first_mask = first)
        };
        self.end(event, entered, first_mask);
        drawn
    }
}

/// Where marks go.
enum Target<'a> {
    /// On the picture itself.
    InPlace(PictureMut<'a>),
    /// On a transparent picture of their own.
    Key { seen: Picture<'a>, canvas: PictureMut<'a> },
}

impl Target<'_> {
    /// The picture as the source gave it, until something is drawn.
    fn seen(&self) -> Picture<'_> {
        match self {
            Target::InPlace(picture) => as_read(picture),
            Target::Key { seen, .. } => *seen,
        }
    }
}

fn as_read<'a>(p: &'a PictureMut) -> Picture<'a> {
    Picture {
        info: p.info,
        planes: std::array::from_fn(|i| Plane { data: p.planes[i].data, stride: p.planes[i].stride }),
    }
}
