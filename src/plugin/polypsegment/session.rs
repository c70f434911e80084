//! `polypsegment` from its start to its stop: a worker, and what is done with each frame.
//!
//! In: settings, then buffers on the streaming thread. Out: the same buffers with their metadata, and what is to be
//! told to the application, which the element does when its lock is free.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer_video as gst_video;

use super::figures::Figures;
use super::kept_network::{Careful, NetworkCache};
use super::mask_pixels::PixelWriter;
use super::settings::{Changing, Settings};
use crate::analysis::{Ages, Analysis, Found, FrameCopy, Parts, Stamp};
use crate::capture::{MASK, MaskEntry, Region, attach, picture_info, picture_of};
use crate::engine::{self, Options, Shape};
use crate::frame::{FrameId, Mask, Nanos, Picture, PixelFormat, Pts};
use crate::lock::lock;
use crate::mailbox::{Inbox, Policy, mailbox};
use crate::mask_slot::mask_slot;
use crate::model::Checkpoint;
use crate::preprocess::FieldOfView;
use crate::safety::{Limits, Reason, State, USUAL_PERIOD, Watch};
use crate::segment::{Segmenter, Spans};
use crate::telemetry::event::{Event, Events, StreamEvent, feed_of};
use crate::tracks::SharedFilter;
use crate::worker::{FrameAnalyzer, SupervisorSettings, Workers};
use crate::{Error, Result};

/// Builds the analyzer, in the worker's thread, which takes seconds.
pub type BuildAnalyzer = dyn Fn(&SharedFilter) -> Result<Box<dyn FrameAnalyzer>> + Send + Sync;

/// Events between two frames; more are counted as lost, which changes no picture.
const EVENTS: usize = 64;
/// The worker yields to the threads that carry pictures, but not to everything else: the machine is the application's.
const YIELDING: i32 = 10;
/// How soon a frame that waits for its mask notices a flush.
const LOOK: Duration = Duration::from_millis(10);
/// Longest wait for one mask before the worker is taken for lost, where frames wait.
const PATIENCE: Duration = Duration::from_secs(120);
/// Timestamps of frames that may be with the worker.
const REMEMBERED: usize = 64;

/// What the settings ask for, checked: everything that can be found wrong without building the network. `cache`: where
/// one may be that was built before for the same settings.
///
/// # Errors
/// A checkpoint that cannot be read; a device, field of view or input size that is none.
pub fn network(
    settings: &Settings,
    checkpoint: Checkpoint,
    cache: &NetworkCache,
) -> Result<Arc<BuildAnalyzer>> {
    let side = settings.input_size as usize;
    let size = (side > 0).then_some((side, side));
    Shape::of(&checkpoint, size)?;
    let view: FieldOfView = settings.field_of_view.parse()?;
    let options = Options {
        device: settings.device.parse()?,
        precision: settings.precision.into(),
        threads: (settings.threads > 0).then_some(settings.threads as usize),
        size,
        keep_warm: false,
        nice: nice(settings.sync),
    };
    let cache = cache.clone();
    cache.open();
    Ok(Arc::new(move |filter: &SharedFilter| {
        let network = cache.take(|| engine::open(&checkpoint, options))?;
        let failed = network.failed();
        let segmenter = Segmenter::new(Box::new(network), checkpoint.description(), view, None);
        let segmenter = segmenter.with_filter(filter.clone());
        Ok(Box::new(Careful { segmenter, failed }) as Box<dyn FrameAnalyzer>)
    }))
}

/// Where frames wait, the network is what they wait for.
fn nice(sync: bool) -> i32 {
    if sync { 0 } else { YIELDING }
}

/// What went wrong in the worker, in words: the video path itself is told a reason alone.
type Notes = Arc<Mutex<Option<String>>>;

struct Telling {
    inner: Box<dyn FrameAnalyzer>,
    notes: Notes,
}

impl FrameAnalyzer for Telling {
    fn analyse(&mut self, picture: &Picture, mask: &mut Mask) -> Result<Spans> {
        let frame = mask.frame;
        let done = self.inner.analyse(picture, mask);
        done.inspect_err(|e| *lock(&self.notes) = Some(format!("{frame}: {e}")))
    }

    fn set_threshold(&mut self, threshold: f64) {
        self.inner.set_threshold(threshold);
    }
}

/// What the application is to be told after a frame.
#[derive(Default)]
pub struct Told {
    /// From, to and why.
    pub change: Option<(State, State, Reason)>,
    /// What went wrong, in words.
    pub trouble: Option<String>,
    /// The answer to a LATENCY query is another one now.
    pub latency: bool,
    pub frame: u64,
}

/// Why a frame does not go on.
pub enum Stopped {
    Flushing,
    Failed(String),
}

/// A frame's own circumstances.
pub struct Passing {
    /// Of its timestamp; grows with every frame, whichever way the stream is played.
    pub running_time: Option<gst::ClockTime>,
    /// The sink was late with frames of this time.
    pub late: bool,
}

/// See the module.
pub struct Session {
    // Dropped in this order: without the mailbox's outbox the worker ends at once.
    analysis: Analysis,
    workers: Workers<Box<FrameCopy>>,
    inbox: Inbox<Box<FrameCopy>>,
    events: Events,
    filter: SharedFilter,
    pixels: PixelWriter,
    period: Arc<AtomicU64>,
    threshold: Arc<AtomicU64>,
    /// Where the user gives none.
    usual_threshold: f64,
    notes: Notes,
    next: FrameId,
    timestamps: [Option<gst::ClockTime>; REMEMBERED],
    size: (u32, u32, PixelFormat),
    sync: bool,
    latency: Arc<AtomicU64>,
}

impl Session {
    /// Starts the worker, which then builds its network. `latency`: what a LATENCY query is answered, kept by the
    /// element.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn start(
        settings: &Settings,
        build: Arc<BuildAnalyzer>,
        usual_threshold: f64,
        latency: Arc<AtomicU64>,
    ) -> Result<Self> {
        let epoch = Instant::now();
        let (feed, events) = feed_of(EVENTS);
        let (outbox, inbox) = mailbox(Policy::NewestWins, 1);
        let (mask_sender, masks) = mask_slot(1);
        let filter = SharedFilter::new(settings.confirm.into());
        let notes = Notes::default();
        let factory = {
            let (filter, notes) = (filter.clone(), notes.clone());
            move |_| {
                let built = build(&filter).inspect_err(|e| *lock(&notes) = Some(e.to_string()))?;
                Ok(Box::new(Telling { inner: built, notes: notes.clone() }) as Box<dyn FrameAnalyzer>)
            }
        };
        let limits = Limits { max_mask_age: settings.max_mask_age, ..Limits::default() };
        let period = Arc::new(AtomicU64::new(limits.period.0));
        let threshold = Arc::new(AtomicU64::new(usual_threshold.to_bits()));
        let mut supervisor =
            SupervisorSettings { nice: nice(settings.sync), ..SupervisorSettings::default() };
        if settings.sync {
            // Every frame is analysed, however old it is by then.
            supervisor.annotation_budget = Nanos(0);
            supervisor.patience = PATIENCE;
        }
        let asked = threshold.clone();
        let workers = Workers::start(
            1,
            Box::new(factory),
            inbox.clone(),
            mask_sender,
            feed,
            Box::new(move || f64::from_bits(asked.load(Ordering::Relaxed))),
            supervisor,
            period.clone(),
            epoch,
        )?;
        let analysis = Analysis::new(Parts {
            outbox,
            masks,
            health: workers.health().to_vec(),
            watch: Watch::new(limits),
            // A frame's own mask lies on it already.
            motion: settings.motion && !settings.sync,
            ages: if settings.sync { Ages::Stream } else { Ages::ClockAndStream },
            epoch,
        });
        Ok(Self {
            analysis,
            workers,
            inbox,
            events,
            filter,
            pixels: PixelWriter::default(),
            period,
            threshold,
            usual_threshold,
            notes,
            next: FrameId(0),
            timestamps: [None; REMEMBERED],
            size: (0, 0, PixelFormat::Gray8),
            sync: settings.sync,
            latency,
        })
    }

    /// The next pictures are of this format.
    pub fn format(&mut self, info: &gst_video::VideoInfo) {
        let fps = info.fps();
        let period = match (fps.numer(), fps.denom()) {
            (n, d) if n > 0 && d > 0 => Nanos(1_000_000_000 * d as u64 / n as u64),
            _ => USUAL_PERIOD,
        };
        self.analysis.set_period(period);
        self.period.store(period.0, Ordering::Relaxed);
        if let Ok(picture) = picture_info(info, None) {
            let size = (picture.width, picture.height, picture.format);
            if size != self.size {
                self.size = size;
                self.analysis.resize(size.0, size.1, self.next);
            }
        }
    }

    /// What is known of the stream's past is void.
    pub fn flushed(&mut self) {
        self.analysis.restart(self.next);
        self.filter.restart();
    }

    /// One frame: its metadata is attached.
    ///
    /// # Errors
    /// Only where frames wait for their masks: a flush, or a worker that failed.
    pub fn frame(
        &mut self,
        buffer: &mut gst::BufferRef,
        info: &gst_video::VideoInfo,
        passing: &Passing,
        settings: &Changing,
        interrupted: &AtomicBool,
        figures: &Mutex<Figures>,
    ) -> std::result::Result<Told, Stopped> {
        let began = Instant::now();
        self.apply(settings);
        let captured = self.analysis.now();
        let frame = self.next;
        self.next = frame.next();
        self.timestamps[frame.0 as usize % REMEMBERED] = buffer.pts();
        let pts = Pts(passing.running_time.map_or(captured.0, gst::ClockTime::nseconds));
        let stamp = Stamp { frame, pts, captured };
        let mut told = Told { frame: frame.0, ..Told::default() };
        let shed = passing.late && !self.sync;
        let failed = |e: Error| Stopped::Failed(e.to_string());
        let mut hand_over = Nanos(0);
        if self.sync {
            let analysis = &mut self.analysis;
            hand_over = picture_of(buffer, info, |p| Ok(analysis.hand_over(p, stamp))).map_err(failed)?;
            self.wait(frame, interrupted)?;
            let took = Nanos::from(began.elapsed()).0;
            if let Some(more) = longer(self.latency.load(Ordering::Relaxed), took) {
                self.latency.store(more, Ordering::Relaxed);
                told.latency = true;
            }
        }
        let (analysis, analysed) = (&mut self.analysis, !self.sync && !shed);
        let found = picture_of(buffer, info, |p| {
            let hand_over = if analysed { analysis.hand_over(p, stamp) } else { hand_over };
            Ok(analysis.look(p, stamp, true, hand_over))
        });
        let found = match found {
            Ok(found) => found,
            // A picture that cannot be read goes on without metadata.
            Err(e) => {
                told.trouble = Some(e.to_string());
                return Ok(told);
            }
        };
        if let Some(from) = found.verdict.changed_from {
            told.change = Some((from, found.verdict.state, found.verdict.reason));
            if found.verdict.state == State::Bypass {
                told.trouble = lock(&self.notes).take();
            }
        }
        let (with_mask, state, reason) = (found.mask.is_some(), found.verdict.state, found.verdict.reason);
        let outcome = annotate(buffer, &found, &mut self.pixels, &self.timestamps, self.size);
        if let Err(e) = outcome {
            told.trouble = Some(e.to_string());
        }
        self.count(figures, |f| {
            f.with_mask += u64::from(with_mask);
            f.shed += u64::from(shed);
            (f.state, f.reason) = (state, reason);
            f.element.record(began.elapsed().into());
        });
        Ok(told)
    }

    fn apply(&mut self, settings: &Changing) {
        self.analysis.set_max_mask_age(settings.max_mask_age);
        self.analysis.follow_motion(settings.motion && !self.sync);
        let confirm = settings.confirm.into();
        if self.filter.setting() != confirm {
            self.filter.choose(confirm);
        }
        let threshold = if settings.threshold > 0.0 { settings.threshold } else { self.usual_threshold };
        self.threshold.store(threshold.to_bits(), Ordering::Relaxed);
    }

    /// Until the frame's own mask is there.
    fn wait(&mut self, frame: FrameId, interrupted: &AtomicBool) -> std::result::Result<(), Stopped> {
        while !self.analysis.wait_for(frame, LOOK) {
            if interrupted.load(Ordering::Relaxed) {
                return Err(Stopped::Flushing);
            }
            if self.analysis.is_lost() {
                let said = lock(&self.notes).take();
                return Err(Stopped::Failed(said.unwrap_or_else(|| format!("{frame}: the worker failed"))));
            }
        }
        Ok(())
    }

    /// Counts the frame and whatever happened since the one before.
    fn count(&self, figures: &Mutex<Figures>, more: impl FnOnce(&mut Figures)) {
        let mut f = lock(figures);
        f.frames += 1;
        f.traffic = self.inbox.traffic();
        let skipped = self.workers.skip_counter().load(Ordering::Relaxed);
        f.traffic.superseded += skipped;
        for event in self.events.receiver.try_iter() {
            match event {
                Event::Mask(m) => {
                    f.masks.record(Nanos(m.finished.0.saturating_sub(m.captured.0)));
                    f.network.record(m.network);
                }
                Event::Stream(StreamEvent::WorkerRestart { attempt, .. }) => f.restarts = attempt,
                _ => {}
            }
        }
        more(&mut f);
    }
}

/// Attaches what was found.
fn annotate(
    buffer: &mut gst::BufferRef,
    found: &Found,
    pixels: &mut PixelWriter,
    timestamps: &[Option<gst::ClockTime>; REMEMBERED],
    (width, height, _): (u32, u32, PixelFormat),
) -> Result<()> {
    let mut entry = MaskEntry {
        picture: (width, height),
        state: Some((found.verdict.state, found.verdict.reason)),
        ..MaskEntry::default()
    };
    if let (Some(mask), Some(shown)) = (found.mask, found.shown) {
        entry.pixels = pixels.write(mask, !shown.moved)?;
        entry.view = mask.field_of_view;
        entry.frame = Some(shown.of.0);
        entry.pts = timestamps[shown.of.0 as usize % REMEMBERED];
        entry.age = shown.age;
        entry.moved = shown.moved;
        entry.area_px = mask.area_px;
        entry.max_probability = Some(mask.max_probability);
    }
    let regions: Vec<Region> = match found.mask {
        // A moved mask has no tracks of its own; its polyps are still named.
        Some(mask) => mask.polyps.iter().map(|p| Region::of(p, mask)).collect(),
        None => Vec::new(),
    };
    attach(buffer, MASK, &entry, &regions)
}

/// The latency to tell of from now on, where a frame took longer than was told. A little more than it took, so that not
/// every frame that takes longest so far is news.
fn longer(told: u64, took: u64) -> Option<u64> {
    (took > told).then_some(took + took / 4)
}

#[cfg(test)]
mod tests {
    use super::longer;

    #[test]
    fn only_a_frame_that_takes_longer_than_was_told_is_news() {
        assert_eq!(longer(0, 30_000_000), Some(37_500_000));
        assert_eq!(longer(37_500_000, 37_500_000), None);
        assert_eq!(longer(37_500_000, 37_500_004), Some(46_875_005));
    }
}
