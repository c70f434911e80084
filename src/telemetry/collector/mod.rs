//! What a live session comes to, while it runs and afterwards.
//!
//! In: events from the video path, the workers and the sink's pad. Out: a [`Snapshot`] once a second, JSON lines, a
//! trace, and a [`LiveSummary`] at the end. A thread of its own polls the events, so that no producer ever wakes
//! anybody.

mod figures;
mod line;
mod lines;
mod prometheus;
mod snapshot;
mod trace;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use figures::Figures;
#[cfg(test)]
#[cfg(feature = "video")]
pub(crate) use line::Line;
use lines::Lines;
pub use prometheus::{Format, exposition};
pub use snapshot::{BOUNDS, Counted, Point, Snapshot};
use trace::Trace;

use super::{Events, LiveSummary, Unfinished, rss_bytes};
use crate::frame::Nanos;
use crate::lock::lock;
use crate::mailbox::Traffic;
use crate::{Error, Result};

/// How often events are fetched.
const POLL: Duration = Duration::from_millis(50);
/// How often a snapshot is made: its percentiles walk through megabytes of counters.
const SNAPSHOT: Duration = Duration::from_millis(1000);

/// What is collected, and where it goes.
pub struct CollectorSettings {
    /// Frames captured earlier than this into the session are counted, but leave no figures: buffers and caches are
    /// cold.
    pub warm_up: Duration,
    /// `frames.jsonl`.
    pub lines: Option<PathBuf>,
    /// A Chrome trace.
    pub trace: Option<PathBuf>,
    /// Frames' ways through the mailbox.
    pub traffic: Box<dyn Fn() -> Traffic + Send + Sync>,
    /// When the session began.
    pub epoch: Instant,
}

struct Shared {
    figures: Mutex<Figures>,
    snapshot: Mutex<Arc<Snapshot>>,
    /// Where lines beside a recording go from now on, or that they end; `None`: as before.
    beside: Mutex<Option<Option<PathBuf>>>,
    /// Outputs that ended by themselves, known at the end.
    unfinished: Mutex<Vec<Unfinished>>,
    stop: AtomicBool,
    /// The session never came about: nothing of it is kept.
    discard: AtomicBool,
}

/// See the module.
pub struct Collector {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// Starts collecting.
    ///
    /// # Errors
    /// Files that cannot be written, a thread that cannot be started.
    pub fn start(events: Events, settings: CollectorSettings) -> Result<Self> {
        let mut lines = settings.lines.as_deref().map(Lines::create).transpose()?;
        let mut trace = settings.trace.as_deref().map(Trace::create).transpose()?;
        let figures = Figures::new(Nanos::from(settings.warm_up));
        let shared = Arc::new(Shared {
            figures: Mutex::new(figures),
            snapshot: Mutex::new(Arc::new(Snapshot::default())),
            beside: Mutex::new(None),
            unfinished: Mutex::default(),
            stop: AtomicBool::new(false),
            discard: AtomicBool::new(false),
        });
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("collector".into())
            .spawn(move || {
                let mut next_snapshot = Instant::now();
                let mut beside: Option<Lines> = None;
                loop {
                    // Looked at first: what was posted before the end is still fetched.
                    let last = theirs.stop.load(Ordering::Relaxed);
                    let turn = lock(&theirs.beside).take();
                    if let Some(Some(path)) = &turn {
                        let former = match Lines::beside(path) {
                            Ok(lines) => beside.replace(lines),
                            Err(e) => {
                                tracing::warn!("{e}; the recording has no lines beside it");
                                lock(&theirs.unfinished).push(Unfinished {
                                    path: path.display().to_string(),
                                    reason: e.to_string(),
                                });
                                beside.take()
                            }
                        };
                        lock(&theirs.unfinished).extend(former.and_then(Lines::finish));
                    }
                    {
                        let mut figures = lock(&theirs.figures);
                        for event in events.receiver.try_iter() {
                            figures.take(&event);
                            for lines in lines.iter_mut().chain(&mut beside) {
                                lines.take(&event);
                            }
                            if let Some(trace) = &mut trace {
                                trace.take(&event);
                            }
                        }
                        figures.traffic = (settings.traffic)();
                        figures.lost = events.lost();
                        figures.now = settings.epoch.elapsed().into();
                    }
                    if let Some(None) = turn {
                        // What was posted before the recording ended is in it.
                        lock(&theirs.unfinished).extend(beside.take().and_then(Lines::finish));
                    }
                    if last || Instant::now() >= next_snapshot {
                        next_snapshot = Instant::now() + SNAPSHOT;
                        let mut figures = lock(&theirs.figures);
                        figures.memory(rss_bytes());
                        figures.tick();
                        let snapshot = Arc::new(figures.snapshot());
                        *lock(&theirs.snapshot) = snapshot;
                        for lines in lines.iter_mut().chain(&mut beside) {
                            lines.flush();
                        }
                    }
                    if last {
                        break;
                    }
                    std::thread::sleep(POLL);
                }
                if theirs.discard.load(Ordering::Relaxed) {
                    lines.into_iter().for_each(Lines::discard);
                    trace.into_iter().for_each(Trace::discard);
                    return;
                }
                let ended = beside.and_then(Lines::finish).into_iter();
                let ended = ended.chain(lines.and_then(Lines::finish)).chain(trace.and_then(Trace::finish));
                lock(&theirs.unfinished).extend(ended);
            })
            .map_err(|e| Error::machine("the telemetry thread cannot be started").because(e))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        lock(&self.shared.snapshot).clone()
    }

    /// For others who want snapshots.
    pub fn reader(&self) -> impl Fn() -> Arc<Snapshot> + Send + Sync + Clone + 'static {
        let shared = self.shared.clone();
        move || lock(&shared.snapshot).clone()
    }

    /// For whoever records: lines beside a recording begin and end with it.
    pub fn beside(&self) -> SidecarLines {
        SidecarLines(self.shared.clone())
    }

    /// Keeps figures of frames captured from `from` on and before `until` (since the session began) only.
    pub fn measure(&self, from: Nanos, until: Nanos) {
        let mut figures = lock(&self.shared.figures);
        figures.warm_up = from;
        figures.until = until;
    }

    /// Waits until what was posted so far has been fetched.
    pub fn settle(&self) {
        std::thread::sleep(2 * POLL);
    }

    /// Histograms as they stand, by name; `mask_ready` is from a frame's capture to its own mask.
    pub fn histograms(&self) -> Vec<(String, crate::distribution::Histogram)> {
        lock(&self.shared.figures).histograms()
    }

    /// Ends, and says what it all came to. What the session's owner knows (input, engine, marks) is left empty.
    pub fn finish(mut self) -> LiveSummary {
        self.end();
        let unfinished = std::mem::take(&mut *lock(&self.shared.unfinished));
        LiveSummary { unfinished, ..lock(&self.shared.figures).summary() }
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Switches the JSON lines beside a recording on and off.
#[derive(Clone)]
pub struct SidecarLines(Arc<Shared>);

impl SidecarLines {
    /// From now on lines go here, a new file. One that cannot be made is warned of; the session goes on.
    pub fn begin(&self, path: PathBuf) {
        *lock(&self.0.beside) = Some(Some(path));
    }

    /// No more lines: the file is completed soon, with everything posted before.
    pub fn end(&self) {
        *lock(&self.0.beside) = Some(None);
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // Without `finish` there was no session; a panic is another matter.
        if self.thread.is_some() && !std::thread::panicking() {
            self.shared.discard.store(true, Ordering::Relaxed);
        }
        self.end();
    }
}
