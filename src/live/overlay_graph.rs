//! The overlay element with its mailbox, workers, mask slot, telemetry and stamps, before any source or sink is chosen.
//!
//! In: how to build an analyzer, limits, style. Out: an element to put between a source and a sink, and the events of
//! what happens there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use gstreamer as gst;
use gstreamer::prelude::*;

use super::compositor::{Compositor, Tap, Wiring};
use super::controls::Controls;
use super::timestamps::Stamps;
use crate::Result;
use crate::analysis::{Ages, Analysis, FrameCopy, Parts};
use crate::capture::Marker;
use crate::frame::{Nanos, PictureInfo, Pts};
use crate::mailbox::{Inbox, Policy, Traffic, mailbox};
use crate::mask_slot::mask_slot;
use crate::overlay::Style;
use crate::safety::{Limits, Watch};
use crate::telemetry::event::{Event, Events, Feed, LeftEvent, feed};
use crate::worker::{Factory, SupervisorSettings, Workers};

/// What a session is made with.
#[derive(Clone)]
pub struct OverlayGraphSettings {
    /// How marks look.
    pub style: Style,
    /// Probability from which on a pixel is marked, as the controls begin with.
    pub threshold: f64,
    /// A mask older than this is not drawn.
    pub max_mask_age: Nanos,
    /// How many workers there are; 0: a picture without masks.
    pub workers: usize,
    /// How workers behave.
    pub supervisor: SupervisorSettings,
    /// Follow the picture's motion with masks that are some frames old.
    pub motion: bool,
    /// Marks alone go on, for a card that keys them over the signal.
    pub keyed: bool,
    /// Sees the buffers before and after the overlay; `None`: nobody does.
    pub tap: Option<Arc<dyn Tap>>,
}

impl Default for OverlayGraphSettings {
    fn default() -> Self {
        Self {
            style: Style::default(),
            threshold: 0.5,
            max_mask_age: Limits::default().max_mask_age,
            workers: 1,
            supervisor: SupervisorSettings::default(),
            motion: true,
            keyed: false,
            tap: None,
        }
    }
}

/// See the module. Dropping it ends the workers; the element then passes frames on with a state that says so.
pub struct OverlayGraph {
    marker: Marker,
    workers: Workers<Box<FrameCopy>>,
    inbox: Inbox<Box<FrameCopy>>,
    controls: Arc<Controls>,
    stamps: Arc<Stamps>,
    feed: Feed,
    period: Arc<AtomicU64>,
    /// What the whole pipeline reports, in nanoseconds.
    latency: Arc<AtomicU64>,
    epoch: Instant,
}

impl OverlayGraph {
    /// # Errors
    /// A GStreamer that does not start, threads that cannot be started.
    pub fn new(settings: OverlayGraphSettings, factory: Box<Factory>) -> Result<(Self, Events)> {
        crate::capture::init()?;
        let epoch = Instant::now();
        let (feed, events) = feed();
        let (outbox, inbox) = mailbox(Policy::NewestWins, 1);
        let (mask_sender, masks) = mask_slot(settings.workers);
        let controls = Arc::new(Controls::new(&settings.style, settings.threshold));
        let stamps = Arc::new(Stamps::default());
        let limits = Limits { max_mask_age: settings.max_mask_age, ..Limits::default() };
        let period = Arc::new(AtomicU64::new(limits.period.0));
        let threshold = {
            let controls = controls.clone();
            Box::new(move || controls.threshold())
        };
        let workers = Workers::start(
            settings.workers,
            factory,
            inbox.clone(),
            mask_sender,
            feed.clone(),
            threshold,
            settings.supervisor,
            period.clone(),
            epoch,
        )?;
        let marker = Marker::new(settings.keyed);
        let analysis = Analysis::new(Parts {
            outbox,
            masks,
            health: workers.health().to_vec(),
            watch: Watch::new(limits),
            motion: settings.motion,
            ages: Ages::Clock,
            epoch,
        });
        marker.set_hook(Box::new(Compositor::new(Wiring {
            analysis,
            controls: controls.clone(),
            style: settings.style,
            stamps: stamps.clone(),
            feed: feed.clone(),
            tap: settings.tap,
            period: period.clone(),
            epoch,
        })));
        let latency = Arc::new(AtomicU64::new(0));
        Ok((Self { marker, workers, inbox, controls, stamps, feed, period, latency, epoch }, events))
    }

    /// The element to put into a pipeline.
    pub fn overlay(&self) -> &gst::Element {
        self.marker.element()
    }

    /// The picture that comes in, once its caps are known.
    pub fn picture_info(&self) -> Option<PictureInfo> {
        self.marker.picture_info()
    }

    /// What a user may change while the session runs.
    pub fn controls(&self) -> &Arc<Controls> {
        &self.controls
    }

    /// Takes further events, for the same collector.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// When the session began: what all instants of its events count from.
    pub fn epoch(&self) -> Instant {
        self.epoch
    }

    /// Frames' ways through the mailbox. A frame a worker took and left for a newer one counts as superseded.
    pub fn traffic(&self) -> impl Fn() -> Traffic + Send + Sync + 'static {
        let (inbox, skipped) = (self.inbox.clone(), self.workers.skip_counter());
        move || {
            let t = inbox.traffic();
            let skipped = skipped.load(Ordering::Relaxed).min(t.taken);
            Traffic { sent: t.sent, superseded: t.superseded + skipped, taken: t.taken - skipped }
        }
    }

    /// Stamps what leaves the source at `entry` and what arrives at the sink at `exit`.
    pub fn watch_pads(&self, entry: &gst::Pad, exit: &gst::Pad) {
        self.entry_watcher()(entry);
        self.watch_exit(exit);
    }

    /// Stamps what leaves a source at the pad given.
    pub fn entry_watcher(&self) -> impl Fn(&gst::Pad) + 'static {
        let (stamps, epoch) = (self.stamps.clone(), self.epoch);
        move |pad| {
            let stamps = stamps.clone();
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                crate::priority::come_first();
                if let Some(pts) = info.buffer().and_then(|b| b.pts()) {
                    stamps.capture(Pts(pts.nseconds()), epoch.elapsed().into());
                }
                gst::PadProbeReturn::Ok
            });
        }
    }

    /// Looks at what arrives at the sink.
    pub fn watch_exit(&self, exit: &gst::Pad) {
        let epoch = self.epoch;
        let (stamps, feed) = (self.stamps.clone(), self.feed.clone());
        let (period, latency) = (self.period.clone(), self.latency.clone());
        exit.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            crate::priority::come_first();
            let at = Nanos::from(epoch.elapsed());
            let passed =
                info.buffer().and_then(|b| b.pts()).and_then(|pts| stamps.arrive(Pts(pts.nseconds())));
            if let Some(passed) = passed {
                let video_delay = Nanos(at.0.saturating_sub(passed.captured.0));
                let allowed = period.load(Ordering::Relaxed) + latency.load(Ordering::Relaxed);
                feed.post(Event::Left(LeftEvent {
                    frame: passed.frame,
                    at,
                    video_delay,
                    sink: Nanos(at.0.saturating_sub(passed.left_overlay.0)),
                    late: video_delay.0 > allowed,
                    annotation_delay: passed.first_mask.map(|c| Nanos(at.0.saturating_sub(c.0))),
                }));
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// The latency the whole pipeline reports.
    pub fn set_latency(&self, latency: Nanos) {
        self.latency.store(latency.0, Ordering::Relaxed);
    }
}
