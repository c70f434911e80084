//! Workers that are started anew when they fail.
//!
//! In: the newest frame from the mailbox. Out: masks into the slot, and how each worker is, for the video path. Each
//! worker is a thread that builds its own [`FrameAnalyzer`] (which owns the device), so that whatever breaks goes with
//! the thread. A supervising thread replaces a worker that ended or does not answer, with a growing pause in between.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::frames::{FrameAnalyzer, Job, Policy, panicked, work};
use crate::frame::{Mask, Nanos};
use crate::mailbox::Inbox;
use crate::mask_slot::{FinishedMask, MaskSender};
use crate::safety::{Reason, WorkerHealth};
use crate::segment::Spans;
use crate::telemetry::event::{Event, Feed, Followed, MaskEvent, StreamEvent};
use crate::{Error, Fault, Result};

/// The probability from which on a pixel is marked, asked once a frame: the user may change it while the session runs.
pub type Threshold = dyn Fn() -> f64 + Send + Sync;

/// Builds worker `k`'s analyzer, in the thread that will run it.
pub type Factory = dyn Fn(usize) -> Result<Box<dyn FrameAnalyzer>> + Send + Sync;

/// A live frame, copied, waiting to be analysed.
pub trait LiveJob: Job {
    /// When it left the source, since the session began.
    fn captured(&self) -> Nanos;
    /// When it was put into the mailbox, since the session began.
    fn offered(&self) -> Nanos;
    /// Called when the worker is done with it: its buffers go back where they came from.
    fn recycle(self);
}

/// Aimed at, from a frame's capture to its mask on screen, unless the user says otherwise.
pub const ANNOTATION_BUDGET: Nanos = Nanos(120_000_000);

/// How workers behave.
#[derive(Clone, Copy, Debug)]
pub struct SupervisorSettings {
    /// First pause before a new start; doubles up to `longest_pause`.
    pub pause: Duration,
    /// The pause does not grow beyond this.
    pub longest_pause: Duration,
    /// A worker that takes this long over one frame is given up and replaced. Long, since it may merely be starved by
    /// other programs: it runs only where a processor would idle.
    pub patience: Duration,
    /// Aimed at: from a frame's capture to its mask on screen. A frame that would miss it is left for the next one.
    pub annotation_budget: Nanos,
    /// Niceness of the worker's thread: above 0 it yields to the video path.
    pub nice: i32,
}

impl Default for SupervisorSettings {
    fn default() -> Self {
        Self {
            pause: Duration::from_millis(250),
            longest_pause: Duration::from_millis(1500),
            patience: Duration::from_secs(5),
            annotation_budget: ANNOTATION_BUDGET,
            nice: 0,
        }
    }
}

/// What all workers of a session share.
struct Shared<J> {
    inbox: Inbox<J>,
    mask_sender: MaskSender,
    feed: Feed,
    threshold: Box<Threshold>,
    factory: Box<Factory>,
    supervisor: SupervisorSettings,
    epoch: Instant,
    stop: AtomicBool,
    /// Frames taken and left because they were too old to be in time.
    skipped: Arc<AtomicU64>,
    /// One frame of the source in nanoseconds.
    period: Arc<AtomicU64>,
}

impl<J> Shared<J> {
    fn now(&self) -> Nanos {
        self.epoch.elapsed().into()
    }
}

/// The workers of a session. They end when it is dropped.
pub struct Workers<J: LiveJob> {
    shared: Arc<Shared<J>>,
    health: Vec<Arc<WorkerHealth>>,
    supervisors: Vec<JoinHandle<()>>,
}

impl<J: LiveJob> Workers<J> {
    /// Starts `count` workers (none: a picture without a network). `period`: one frame of the source in nanoseconds, as
    /// it stands at any time; `epoch`: when the session began.
    ///
    /// # Errors
    /// Threads that cannot be started.
    pub fn start(
        count: usize,
        factory: Box<Factory>,
        inbox: Inbox<J>,
        mask_sender: MaskSender,
        feed: Feed,
        threshold: Box<Threshold>,
        supervisor: SupervisorSettings,
        period: Arc<AtomicU64>,
        epoch: Instant,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            inbox,
            mask_sender,
            feed,
            threshold,
            factory,
            supervisor,
            epoch,
            stop: AtomicBool::new(false),
            skipped: Arc::default(),
            period,
        });
        let health: Vec<_> = (0..count).map(|_| Arc::new(WorkerHealth::default())).collect();
        let mut workers = Self { shared, health, supervisors: Vec::new() };
        for k in 0..workers.health.len() {
            let (shared, health) = (workers.shared.clone(), workers.health[k].clone());
            let thread = std::thread::Builder::new()
                .name(format!("supervisor-{k}"))
                .spawn(move || supervise(&shared, &health, k))
                .map_err(|e| Error::machine("a worker's supervisor cannot be started").because(e))?;
            workers.supervisors.push(thread);
        }
        Ok(workers)
    }

    /// For the video path to read.
    pub fn health(&self) -> &[Arc<WorkerHealth>] {
        &self.health
    }

    /// Frames a worker took and left because their masks would have come too late.
    pub fn skip_counter(&self) -> Arc<AtomicU64> {
        self.shared.skipped.clone()
    }
}

impl<J: LiveJob> Drop for Workers<J> {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for s in self.supervisors.drain(..) {
            let _ = s.join();
        }
    }
}

/// How often the supervisor looks.
const LOOK: Duration = Duration::from_millis(20);
/// Workers that hang are left behind, each with the memory of its network; this many at most.
pub const MAX_HUNG_WORKERS: usize = 2;

/// Keeps one worker running until the session ends.
fn supervise<J: LiveJob>(shared: &Arc<Shared<J>>, health: &Arc<WorkerHealth>, k: usize) {
    let mut hanging: Vec<JoinHandle<()>> = Vec::new();
    let mut pause = shared.supervisor.pause;
    let mut running = start_worker(shared, health, k);
    while !shared.stop.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK);
        hanging.retain(|w| !w.is_finished());
        let now = shared.now();
        let ended = running.as_ref().is_none_or(|w| w.thread.is_finished());
        let stalled = health.busy(now).is_some_and(|b| b.0 > shared.supervisor.patience.as_nanos() as u64);
        if !ended && !stalled {
            if health.fault().is_none() && health.usual().is_some() {
                pause = shared.supervisor.pause;
            }
            continue;
        }
        if stalled && !ended {
            if hanging.len() >= MAX_HUNG_WORKERS {
                continue;
            }
            if let Some(worker) = running.take() {
                worker.given_up.store(true, Ordering::Relaxed);
                tracing::warn!(
                    "worker {k} has not answered for {:?}; another is started",
                    shared.supervisor.patience
                );
                hanging.push(worker.thread);
            }
            health.fail(Reason::Stalled);
        }
        if !sleep(shared, pause) {
            break;
        }
        pause = (pause * 2).min(shared.supervisor.longest_pause);
        let attempt = health.restarted();
        shared.feed.post(Event::Stream(StreamEvent::WorkerRestart {
            at: shared.now(),
            worker: k as u32,
            attempt,
        }));
        running = start_worker(shared, health, k);
    }
    // A worker that hangs is not waited for: the process is about to end, or the session lets go of it.
    let deadline = Instant::now() + Duration::from_secs(3);
    if let Some(w) = running {
        while !w.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        w.given_up.store(true, Ordering::Relaxed);
    }
}

/// Sleeps unless the session ends; says whether it goes on.
fn sleep<J>(shared: &Shared<J>, span: Duration) -> bool {
    let end = Instant::now() + span;
    while Instant::now() < end {
        if shared.stop.load(Ordering::Relaxed) {
            return false;
        }
        std::thread::sleep(LOOK.min(end.saturating_duration_since(Instant::now())));
    }
    !shared.stop.load(Ordering::Relaxed)
}

struct Running {
    thread: JoinHandle<()>,
    /// Set when another has taken its place: it must touch nothing any more.
    given_up: Arc<AtomicBool>,
}

fn start_worker<J: LiveJob>(
    shared: &Arc<Shared<J>>,
    health: &Arc<WorkerHealth>,
    k: usize,
) -> Option<Running> {
    let given_up = Arc::new(AtomicBool::new(false));
    let (shared, health, mine) = (shared.clone(), health.clone(), given_up.clone());
    std::thread::Builder::new()
        .name(format!("worker-{k}"))
        .spawn(move || {
            crate::priority::lower(shared.supervisor.nice);
            let outcome = catch_unwind(AssertUnwindSafe(|| run(&shared, &health, &mine, k)))
                .unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
            if let Err(e) = outcome
                && !mine.load(Ordering::Relaxed)
            {
                health.fail(reason_of(&e));
                tracing::warn!("worker {k}: {e}");
            }
        })
        .map(|thread| Running { thread, given_up })
        .map_err(|e| tracing::warn!("worker {k} cannot be started: {e}"))
        .ok()
}

/// One worker, from building its analyzer to the end of the session or its first failure.
fn run<J: LiveJob>(shared: &Shared<J>, health: &WorkerHealth, given_up: &AtomicBool, k: usize) -> Result<()> {
    let mut analyzer = (shared.factory)(k)?;
    let mut policy = NewestInTime {
        shared,
        health,
        given_up,
        k,
        recent: Recent::default(),
        threshold: f64::NAN,
        start: Nanos(0),
    };
    work(&shared.inbox, analyzer.as_mut(), &mut policy)
}

/// Leaves frames whose masks would come too late, gives masks to the video path and tells it how the worker is. Ends
/// with the first error: the supervisor then starts another worker.
struct NewestInTime<'a, J> {
    shared: &'a Shared<J>,
    health: &'a WorkerHealth,
    given_up: &'a AtomicBool,
    k: usize,
    recent: Recent,
    threshold: f64,
    /// When it began the frame it works on.
    start: Nanos,
}

impl<J: LiveJob> Policy<J, dyn FrameAnalyzer> for NewestInTime<'_, J> {
    type Out = Box<FinishedMask>;

    const PATIENCE: Duration = Duration::from_millis(100);

    fn goes_on(&self) -> bool {
        !self.shared.stop.load(Ordering::Relaxed) && !self.given_up.load(Ordering::Relaxed)
    }

    fn begin(&mut self, job: J, analyzer: &mut dyn FrameAnalyzer) -> Option<(J, Self::Out)> {
        self.start = self.shared.now();
        if too_old(self.shared, self.start, job.captured(), self.recent.usual()) {
            self.shared.skipped.fetch_add(1, Ordering::Relaxed);
            job.recycle();
            return None;
        }
        let wanted = (self.shared.threshold)();
        if self.threshold != wanted {
            self.threshold = wanted;
            analyzer.set_threshold(wanted);
        }
        self.health.begin(self.start);
        Some((job, self.shared.mask_sender.blank()))
    }

    fn mask(out: &mut Self::Out) -> &mut Mask {
        &mut out.mask
    }

    fn end(&mut self, job: J, mut out: Self::Out, outcome: Result<Spans>) -> ControlFlow<Result<()>> {
        let (captured, offered) = (job.captured(), job.offered());
        // Whatever comes next: a buffer that is lost is lost for the session.
        job.recycle();
        if self.given_up.load(Ordering::Relaxed) {
            return ControlFlow::Break(Ok(()));
        }
        let spans = match outcome {
            Ok(spans) => spans,
            Err(e) => return ControlFlow::Break(Err(e)),
        };
        let finished = self.shared.now();
        self.recent.add(Nanos(finished.0 - self.start.0));
        self.shared.feed.post(Event::Mask(MaskEvent {
            frame: out.mask.frame,
            captured,
            waited: Nanos(self.start.0.saturating_sub(offered.0)),
            preprocess: spans.preprocess,
            network: spans.network,
            tracks: spans.tracks,
            postprocess: spans.postprocess,
            finished,
            area_px: out.mask.area_px,
            polyps: out.mask.polyps.len() as u32,
            max_probability: out.mask.max_probability,
            worker: self.k as u32,
            followed: Followed::new(&out.mask.tracks, out.mask.gate),
        }));
        out.captured = captured;
        out.finished = finished;
        self.shared.mask_sender.give(out);
        self.health.done(self.recent.usual().unwrap_or_default());
        ControlFlow::Continue(())
    }
}

/// Whether the mask of a frame of this age would be shown after the budget, while that of the next one would not: then
/// the worker waits for that one. A mask is shown with the first frame after it is done, up to a period later.
fn too_old<J>(shared: &Shared<J>, now: Nanos, captured: Nanos, usual: Option<Nanos>) -> bool {
    let Some(usual) = usual else { return false };
    let period = shared.period.load(Ordering::Relaxed);
    let age = now.0.saturating_sub(captured.0);
    let rest = usual.0 + usual.0 / 8 + period;
    let budget = shared.supervisor.annotation_budget.0;
    // Where even a new frame would miss it, waiting would only lose frames.
    rest + period / 8 < budget && age + rest > budget
}

/// What the video path is told of a worker's failure.
fn reason_of(e: &Error) -> Reason {
    match e.fault() {
        Some(Fault::NotANumber) => Reason::NotANumber,
        Some(Fault::DeviceLost) => Reason::DeviceLost,
        Some(Fault::OutOfMemory) => Reason::OutOfMemory,
        Some(Fault::Panicked) => Reason::Panicked,
        None => Reason::Failed,
    }
}

/// The last few durations, for their median.
#[derive(Default)]
struct Recent {
    spans: [u64; 15],
    count: usize,
}

impl Recent {
    fn add(&mut self, span: Nanos) {
        self.spans[self.count % self.spans.len()] = span.0;
        self.count += 1;
    }

    fn usual(&self) -> Option<Nanos> {
        let n = self.count.min(self.spans.len());
        if n == 0 {
            return None;
        }
        let mut sorted = self.spans;
        let sorted = &mut sorted[..n];
        sorted.sort_unstable();
        Some(Nanos(sorted[n / 2]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By its cause; its words may say what they like.
    #[test]
    fn a_failures_reason_does_not_depend_on_its_sentence() {
        let said = "CUDA is out of memory and its output is not a number";
        assert_eq!(reason_of(&Error::inference(said)), Reason::Failed);
        for (fault, reason) in [
            (Fault::NotANumber, Reason::NotANumber),
            (Fault::DeviceLost, Reason::DeviceLost),
            (Fault::OutOfMemory, Reason::OutOfMemory),
            (Fault::Panicked, Reason::Panicked),
        ] {
            assert_eq!(reason_of(&Error::inference("x").caused_by(fault).at("frame 1")), reason);
        }
        assert_eq!(reason_of(&panicked(&"oh")), Reason::Panicked);
        assert_eq!(
            reason_of(&crate::postprocess::check_finite(&[f32::NAN]).unwrap_err()),
            Reason::NotANumber
        );
    }
}
