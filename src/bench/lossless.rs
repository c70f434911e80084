//! A run as fast as every frame can be inferred: the replay policy, without an encoder.
//!
//! In: a phantom rendered ahead, or a recording. Out: the time of every stage and the rate reached.
//!
//! ```text
//! reader thread ─▶ mailbox (lossless) ─▶ worker thread ─▶ here: overlay, histograms
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use super::record::{RunRecord, thinned_us};
use super::settings::{RunSettings, Slow};
use crate::capture::{Ended, Facts, Frame, Next, PhantomSource, Recording, Source, Span};
use crate::distribution::Histogram;
use crate::engine::{Network, Pictures, Route};
use crate::frame::{Found, FrameId, Nanos, Picture, Pts, Rect, Shape};
use crate::mailbox::{Policy, mailbox};
use crate::memory;
use crate::overlay::{Overlay, Style};
use crate::phantom;
use crate::replay::reader;
use crate::safety::State;
use crate::segment::Segmenter;
use crate::telemetry::{LiveCounts, Machine, Memory, Stage, StageHistograms, rss_bytes};
use crate::worker::{self, Finished};
use crate::{Error, Result};

/// Frames waiting at each hand-over, as in a replay.
const ROOM: usize = 2;
/// Frames of a phantom kept in memory: two seconds.
const LOOP: u64 = 60;

/// Carries out one run. `segmenter` builds the network as the user asked for it, given what wraps it.
///
/// # Errors
/// A stage that cannot be slowed here, a source that ends too early, whatever fails on the way.
pub fn run(
    settings: &RunSettings,
    segmenter: &mut dyn FnMut(&dyn Fn(Box<dyn Network>) -> Box<dyn Network>) -> Result<Segmenter>,
    stop: &Arc<AtomicBool>,
) -> Result<RunRecord> {
    settings.validate()?;
    let slow = |stage| settings.slow.filter(|s| s.stage == stage).map(|s| s.by);
    if let Some(Slow { stage, .. }) = settings.slow
        && !matches!(stage, Stage::Decode | Stage::Network | Stage::Composite)
    {
        return Err(Error::usage(format!("--slow {}: not a stage this run can slow", stage.name()))
            .remedy("slow decode, network or composite"));
    }
    let by = slow(Stage::Network);
    let segmenter = segmenter(&|network| match by {
        Some(by) => Box::new(Slowed { network, by }),
        None => network,
    })?;
    let engine = segmenter.describe();
    let shape = segmenter.network().shape();
    let source = open(settings)?;
    let input = source.path().display().to_string();
    let source = Box::new(Slowly { source, by: slow(Stage::Decode) });

    let (outbox, inbox) = mailbox(Policy::Lossless, ROOM);
    let (done, finished) = crossbeam_channel::bounded(ROOM);
    let (sound, _) = crossbeam_channel::unbounded();
    let halt = Arc::new(AtomicBool::new(false));
    let reader = reader::spawn(source, outbox, sound, halt.clone())?;
    let worker = worker::spawn(segmenter, inbox, done)?;

    let mut measured = Measured::new(settings, slow(Stage::Composite));
    let outcome = loop {
        if stop.load(Ordering::Relaxed) {
            break Err(Error::input("interrupted before the run was complete"));
        }
        match finished.recv_timeout(Duration::from_millis(100)) {
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break Ok(()),
            Ok(Err(e)) => break Err(e),
            Ok(Ok(frame)) => {
                if let Err(e) = measured.frame(frame) {
                    break Err(e);
                }
            }
        }
    };
    halt.store(true, Ordering::Relaxed);
    drop(finished);
    let _ = worker.join();
    let read = reader.join().map_err(|_| Error::internal("the reading thread panicked"))?;
    outcome?;
    let read = read?;
    if measured.seen < settings.total() {
        return Err(Error::input(format!(
            "{input}: ended after {} of {} frames",
            read.frames,
            settings.total()
        ))
        .remedy("choose fewer --frames"));
    }
    Ok(measured.record(settings, input, engine, shape))
}

fn open(settings: &RunSettings) -> Result<Box<dyn Source>> {
    if let Some(file) = &settings.file {
        let facts = Facts::discover(file)?;
        let inner = Box::new(Recording::open(facts, Span::default(), None)?);
        return Ok(Box::new(First { inner, left: settings.total() }));
    }
    let phantom = phantom::Settings {
        seed: settings.seed,
        width: settings.size.0,
        height: settings.size.1,
        frames: LOOP.min(settings.total()),
        preset: settings.preset,
        looped: true,
        threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
        ..Default::default()
    };
    let (w, h) = settings.size;
    memory::afford(
        &format!("a phantom of {} frames of {w}x{h} pixels", phantom.frames),
        phantom.working_bytes() + phantom.frames * u64::from(w) * u64::from(h) * 3,
        |_| "choose a smaller --size".to_owned(),
    )?;
    let mut source = PhantomSource::new(phantom)?;
    let name = PathBuf::from(format!("phantom {} (seed {})", settings.preset, settings.seed));
    let mut frames = Vec::new();
    while let Next::Frame(frame) = source.next()? {
        frames.push(frame);
    }
    Ok(Box::new(Circle { frames, name, next: 0, total: settings.total() }))
}

/// Frames in memory, round and round.
struct Circle {
    frames: Vec<Frame>,
    name: PathBuf,
    next: u64,
    total: u64,
}

impl Source for Circle {
    fn next(&mut self) -> Result<Next> {
        let asked = Instant::now();
        let frame = self.frames.get((self.next % self.frames.len().max(1) as u64) as usize);
        let Some(frame) = frame.filter(|_| self.next < self.total) else {
            return Ok(Next::Ended(Ended::default()));
        };
        let n = self.next;
        self.next += 1;
        let mut frame = frame.clone();
        frame.id = FrameId(n);
        frame.pts = Pts(n * frame.duration.unwrap_or_default().0);
        frame.decode = asked.elapsed().into();
        Ok(Next::Frame(frame))
    }

    fn path(&self) -> &Path {
        &self.name
    }

    fn expected_frames(&self) -> Option<u64> {
        Some(self.total)
    }

    fn fps(&self) -> Option<f64> {
        None
    }
}

/// The first frames of a recording.
struct First {
    inner: Box<dyn Source>,
    left: u64,
}

impl Source for First {
    fn next(&mut self) -> Result<Next> {
        if self.left == 0 {
            return Ok(Next::Ended(Ended::default()));
        }
        let next = self.inner.next()?;
        if matches!(next, Next::Frame(_)) {
            self.left -= 1;
        }
        Ok(next)
    }

    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn expected_frames(&self) -> Option<u64> {
        Some(self.left)
    }

    fn fps(&self) -> Option<f64> {
        self.inner.fps()
    }
}

/// A source that takes its time.
struct Slowly {
    source: Box<dyn Source>,
    by: Option<Duration>,
}

impl Source for Slowly {
    fn next(&mut self) -> Result<Next> {
        let mut next = self.source.next()?;
        if let (Some(by), Next::Frame(frame)) = (self.by, &mut next) {
            let start = Instant::now();
            std::thread::sleep(by);
            frame.decode = Nanos(frame.decode.0 + Nanos::from(start.elapsed()).0);
        }
        Ok(next)
    }

    fn path(&self) -> &Path {
        self.source.path()
    }

    fn expected_frames(&self) -> Option<u64> {
        self.source.expected_frames()
    }

    fn fps(&self) -> Option<f64> {
        self.source.fps()
    }
}

/// A network that takes its time.
pub(super) struct Slowed {
    pub network: Box<dyn Network>,
    pub by: Duration,
}

impl Network for Slowed {
    fn shape(&self) -> Shape {
        self.network.shape()
    }

    fn run(&mut self, input: &[f32], logits: &mut [f32]) -> Result<()> {
        std::thread::sleep(self.by);
        self.network.run(input, logits)
    }

    fn describe(&self) -> String {
        self.network.describe()
    }

    fn route(&mut self) -> Route<'_> {
        match self.network.route() {
            Route::Planes => Route::Planes,
            Route::Pictures(_) => Route::Pictures(self),
        }
    }
}

impl Pictures for Slowed {
    fn run_picture(
        &mut self,
        picture: &Picture,
        view: Rect,
        level: f32,
        logits: &mut [f32],
        inside: &mut [u8],
    ) -> Result<Found> {
        std::thread::sleep(self.by);
        match self.network.route() {
            Route::Pictures(network) => network.run_picture(picture, view, level, logits, inside),
            Route::Planes => Err(Error::internal("network: a picture was handed to one that takes planes")),
        }
    }
}

/// What the measured frames came to.
struct Measured {
    overlay: Overlay,
    stages: StageHistograms,
    mailbox: Histogram,
    warm_up: u64,
    frames: u64,
    slow: Option<Duration>,
    seen: u64,
    size: (u32, u32),
    /// End of the last frame of the warm-up, and processor time until then.
    began: (Instant, f64),
    ended: (Instant, f64),
    rss: Memory,
}

impl Measured {
    fn new(settings: &RunSettings, slow: Option<Duration>) -> Self {
        let now = (Instant::now(), cpu_seconds());
        Self {
            overlay: Overlay::new(Style::default()),
            stages: StageHistograms::default(),
            mailbox: Histogram::new(),
            warm_up: settings.warm_up,
            frames: settings.frames,
            slow,
            seen: 0,
            size: (0, 0),
            began: now,
            ended: now,
            rss: Memory::default(),
        }
    }

    fn frame(&mut self, finished: Finished<Frame>) -> Result<()> {
        let Finished { job: mut frame, mask, spans, waited } = finished;
        let start = Instant::now();
        frame.draw(|picture| self.overlay.draw(picture, Some(&mask), State::Active))?;
        if let Some(by) = self.slow {
            std::thread::sleep(by);
        }
        let composite: Nanos = start.elapsed().into();
        self.seen += 1;
        if self.seen <= self.warm_up {
            self.began = (Instant::now(), cpu_seconds());
            return Ok(());
        }
        if self.seen > self.warm_up + self.frames {
            return Ok(());
        }
        if self.rss.start == 0 {
            self.rss.start = rss_bytes();
            let info = frame.picture_info()?;
            self.size = (info.width, info.height);
        }
        for (stage, span) in [
            (Stage::Decode, frame.decode),
            (Stage::HandOver, frame.hand_over),
            (Stage::Preprocess, spans.preprocess),
            (Stage::Network, spans.network),
            (Stage::Postprocess, spans.postprocess),
            (Stage::Composite, composite),
        ] {
            self.stages.record(stage, span);
        }
        self.mailbox.record(waited);
        if self.seen.is_multiple_of(16) {
            self.rss.max = self.rss.max.max(rss_bytes());
        }
        self.ended = (Instant::now(), cpu_seconds());
        Ok(())
    }

    fn record(mut self, settings: &RunSettings, input: String, engine: String, shape: Shape) -> RunRecord {
        self.rss.end = rss_bytes();
        self.rss.max = self.rss.max.max(self.rss.start).max(self.rss.end);
        let elapsed = (self.ended.0 - self.began.0).as_secs_f64().max(1e-9);
        let mut run = RunRecord {
            width_px: self.size.0,
            height_px: self.size.1,
            warm_up_frames: settings.warm_up,
            fps_target: None,
            fps_achieved: self.frames as f64 / elapsed,
            deadline_misses: None,
            slowed: settings.slow.map(|s| format!("{}={} ms", s.stage.name(), s.by.as_secs_f64() * 1e3)),
            ..Default::default()
        };
        let s = &mut run.summary;
        s.input = input;
        s.engine = engine;
        s.network_size = [shape.height, shape.width];
        s.machine = Machine::detect();
        s.frames = LiveCounts {
            entered: self.frames,
            out: self.frames,
            inferred: self.frames,
            ..Default::default()
        };
        s.stages_us = self.stages.distributions_us().into_iter().map(|(n, d)| (n.to_owned(), d)).collect();
        s.queues_us.insert("mailbox".to_owned(), self.mailbox.distribution(1e-3));
        s.rss_bytes = self.rss;
        s.cpu_cores = (self.ended.1 - self.began.1) / elapsed;
        s.elapsed_ms = elapsed * 1e3;
        for stage in Stage::ALL {
            let histogram = self.stages.get(stage);
            if histogram.count() > 0 {
                run.cdf_us.insert(stage.name().to_owned(), thinned_us(histogram));
            }
        }
        run.cdf_us.insert("mailbox".to_owned(), thinned_us(&self.mailbox));
        run.derive();
        run
    }
}

/// Processor time of this process so far, of all its threads.
fn cpu_seconds() -> f64 {
    // SAFETY: `rusage` is plain numbers, for which zeros are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is ours to write.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{PictureInfo, PixelFormat};

    /// Takes pictures, as an engine on a GPU does.
    struct OfPictures;

    impl Network for OfPictures {
        fn shape(&self) -> Shape {
            Shape { height: 32, width: 32, classes: 1 }
        }

        fn run(&mut self, _: &[f32], _: &mut [f32]) -> Result<()> {
            Err(Error::internal("planes"))
        }

        fn describe(&self) -> String {
            "pictures".into()
        }

        fn route(&mut self) -> Route<'_> {
            Route::Pictures(self)
        }
    }

    impl Pictures for OfPictures {
        fn run_picture(
            &mut self,
            _: &Picture,
            _: Rect,
            _: f32,
            _: &mut [f32],
            inside: &mut [u8],
        ) -> Result<Found> {
            inside.fill(1);
            Ok(Found { area: 16, top: 0.0, extent: crate::frame::Extent::default() })
        }
    }

    /// What is slowed is what would have run: the wrapper takes what the wrapped network takes.
    #[test]
    fn a_slowed_network_keeps_its_route() {
        let mut slowed = Slowed { network: Box::new(OfPictures), by: Duration::from_millis(5) };
        let bytes = [0; 16];
        let picture = Picture::packed(PictureInfo::new(PixelFormat::Gray8, 4, 4), &bytes).unwrap();
        let (start, mut inside) = (Instant::now(), [0; 16]);
        let Route::Pictures(network) = slowed.route() else { panic!("planes") };
        network.run_picture(&picture, Rect::new(0, 0, 4, 4), 0.0, &mut [], &mut inside).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(5) && inside == [1; 16]);

        struct OfPlanes;
        impl Network for OfPlanes {
            fn shape(&self) -> Shape {
                OfPictures.shape()
            }
            fn run(&mut self, _: &[f32], _: &mut [f32]) -> Result<()> {
                Ok(())
            }
            fn describe(&self) -> String {
                "planes".into()
            }
            fn route(&mut self) -> Route<'_> {
                Route::Planes
            }
        }
        let mut slowed = Slowed { network: Box::new(OfPlanes), by: Duration::ZERO };
        assert!(matches!(slowed.route(), Route::Planes));
    }
}
