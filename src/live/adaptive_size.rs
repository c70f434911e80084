//! An analyzer that takes a smaller network when the machine has become slower than it was.
//!
//! In: pictures. Out: masks, within the annotation delay where any of the [`sizing`](super::sizing) sizes allows it.
//! The size chosen when the session began was measured on the machine as it was then; hours later another program or a
//! warm processor may have taken a third of it. It only ever becomes smaller: a size that goes up and down would make
//! polyps come and go.
//!
//! The smaller network is built by a thread of its own while the present one goes on: packing its weights takes seconds
//! on a machine that is just then overloaded, and a worker that does not answer for so long is taken for stalled.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crossbeam_channel::{Receiver, TryRecvError, bounded};

use super::sizing;
use crate::Result;
use crate::frame::{Mask, Nanos, Picture};
use crate::lock::lock;
use crate::segment::Spans;
use crate::worker::FrameAnalyzer;

/// Frames whose median decides: at least so many, and so many seconds of work (a browser that starts takes less); at
/// most so many.
const LEAST: usize = 30;
const WORK: Nanos = Nanos(5_000_000_000);
const MOST: usize = 600;

/// An analyzer that one thread builds and another one runs.
pub type Built = Box<dyn FrameAnalyzer + Send>;

/// Builds an analyzer whose network has square input of so many pixels a side.
pub type Build = dyn Fn(usize) -> Result<Built> + Send + Sync;

/// The input sizes of a session's workers. Each worker has its own: devices differ in speed.
///
/// They outlive the workers: one that is started anew begins with the size its predecessor had, and takes over the
/// network that was being built for it.
pub struct Sides(Vec<WorkerSize>);

/// What one worker runs.
struct WorkerSize {
    /// Pixels of a side of the network in use.
    side: AtomicUsize,
    pending: Mutex<Option<Pending>>,
}

/// A smaller network under construction.
struct Pending {
    side: usize,
    built: Receiver<Result<Built>>,
}

impl Sides {
    /// Every one of `workers` begins with the same side.
    pub fn new(workers: usize, side: usize) -> Self {
        let size = |_| WorkerSize { side: AtomicUsize::new(side), pending: Mutex::new(None) };
        Self((0..workers.max(1)).map(size).collect())
    }

    /// The smallest in use: what is said of the session.
    pub fn smallest(&self) -> usize {
        self.0.iter().map(|s| s.side.load(Ordering::Relaxed)).min().unwrap_or_default()
    }

    fn of(&self, worker: usize) -> &WorkerSize {
        &self.0[worker % self.0.len()]
    }
}

impl WorkerSize {
    /// Held for the length of a look; no thread builds or waits while it holds it.
    fn pending(&self) -> MutexGuard<'_, Option<Pending>> {
        lock(&self.pending)
    }

    /// The smaller network, once it is built; its side is the worker's from then on.
    fn take(&self) -> Option<Built> {
        let mut pending = self.pending();
        let Pending { side, built } = pending.as_ref()?;
        let (side, outcome) = match built.try_recv() {
            Err(TryRecvError::Empty) => return None,
            Ok(outcome) => (*side, outcome.map_err(|e| e.to_string())),
            Err(TryRecvError::Disconnected) => (*side, Err("its thread panicked".to_owned())),
        };
        *pending = None;
        match outcome {
            Ok(network) => {
                self.side.store(side, Ordering::Relaxed);
                tracing::info!("the network's input is {side}x{side} now");
                Some(network)
            }
            Err(e) => {
                tracing::warn!("the network of {side}x{side} cannot be built, the larger one stays: {e}");
                None
            }
        }
    }
}

/// See the module.
pub struct AdaptiveAnalyzer {
    inner: Built,
    build: Arc<Build>,
    sides: Arc<Sides>,
    worker: usize,
    /// What a frame may take beside everything else.
    limit: Nanos,
    /// Niceness of the thread that builds.
    nice: i32,
    recent: Vec<u64>,
    /// Their sum.
    spent: u64,
    threshold: Option<f64>,
}

impl AdaptiveAnalyzer {
    /// `limit`: what a frame may take, see [`sizing::beside`]. The worker's own network is built at once.
    ///
    /// # Errors
    /// As `build`.
    pub fn new(build: Arc<Build>, sides: Arc<Sides>, worker: usize, limit: Nanos, nice: i32) -> Result<Self> {
        let size = sides.of(worker);
        let inner = match size.take() {
            Some(inner) => inner,
            None => build(size.side.load(Ordering::Relaxed))?,
        };
        let recent = Vec::with_capacity(MOST);
        Ok(Self { inner, build, sides, worker, limit, nice, recent, spent: 0, threshold: None })
    }

    /// Forgets how long frames took: those of another network, or beside one being built, decide nothing.
    fn forget(&mut self) {
        self.recent.clear();
        self.spent = 0;
    }

    /// Looks at the last frames; has the next smaller network built if they were too slow.
    fn consider(&mut self) {
        self.recent.sort_unstable();
        let usual = self.recent[self.recent.len() / 2];
        self.forget();
        let size = self.sides.of(self.worker);
        if usual <= self.limit.0 {
            return;
        }
        let Some(smaller) = sizing::smaller(size.side.load(Ordering::Relaxed)) else { return };
        let mut pending = size.pending();
        if pending.is_some() {
            return;
        }
        let (done, built) = bounded(1);
        let (build, nice) = (self.build.clone(), self.nice);
        let thread = std::thread::Builder::new().name("worker-smaller".into()).spawn(move || {
            crate::priority::lower(nice);
            // Nobody listens any more where the session has ended.
            let _ = done.send(build(smaller));
        });
        match thread {
            Ok(_) => {
                tracing::info!(
                    "a frame took {:.1} ms: a network with an input of {smaller}x{smaller} is built",
                    usual as f64 / 1e6
                );
                *pending = Some(Pending { side: smaller, built });
            }
            Err(e) => tracing::warn!("a smaller network cannot be built: {e}"),
        }
    }
}

impl FrameAnalyzer for AdaptiveAnalyzer {
    fn analyse(&mut self, picture: &Picture, mask: &mut Mask) -> Result<Spans> {
        if let Some(inner) = self.sides.of(self.worker).take() {
            self.inner = inner;
            self.forget();
            if let Some(threshold) = self.threshold {
                self.inner.set_threshold(threshold);
            }
        }
        let spans = self.inner.analyse(picture, mask)?;
        let took = spans.preprocess.0 + spans.network.0 + spans.postprocess.0;
        self.recent.push(took);
        self.spent += took;
        let n = self.recent.len();
        if n == MOST || (n >= LEAST && self.spent >= WORK.0) {
            self.consider();
        }
        Ok(spans)
    }

    fn set_threshold(&mut self, threshold: f64) {
        self.threshold = Some(threshold);
        self.inner.set_threshold(threshold);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{PictureInfo, PixelFormat};

    struct Timed {
        side: usize,
        /// Thousandths of what the machine needed at first.
        slowness: Arc<AtomicUsize>,
    }

    impl FrameAnalyzer for Timed {
        fn analyse(&mut self, _: &Picture, _: &mut Mask) -> Result<Spans> {
            let ns = (self.side * self.side * 400 * self.slowness.load(Ordering::Relaxed) / 1000) as u64;
            Ok(Spans { network: Nanos(ns), ..Spans::default() })
        }

        fn set_threshold(&mut self, _: f64) {}
    }

    /// Analyzers that take no time and say how much they would have taken.
    fn timed(slowness: &Arc<AtomicUsize>) -> Arc<Build> {
        let slowness = slowness.clone();
        Arc::new(move |side| Ok(Box::new(Timed { side, slowness: slowness.clone() }) as Built))
    }

    fn frames(analyzer: &mut AdaptiveAnalyzer, n: usize) {
        let bytes = [0; 16];
        let picture = Picture::packed(PictureInfo::new(PixelFormat::Gray8, 4, 4), &bytes).unwrap();
        for _ in 0..n {
            analyzer.analyse(&picture, &mut Mask::default()).unwrap();
        }
    }

    /// Waits until what is being built has been built.
    fn settle(sides: &Sides) {
        for size in &sides.0 {
            let built = size.pending().as_ref().map(|c| c.built.clone());
            while built.as_ref().is_some_and(Receiver::is_empty) {
                std::thread::yield_now();
            }
        }
    }

    fn adapted(analyzer: &mut AdaptiveAnalyzer, sides: &Sides, n: usize) {
        for _ in 0..n {
            frames(analyzer, 1);
            settle(sides);
        }
    }

    // 352² needs 49.6 ms at first.
    const LIMIT: Nanos = Nanos(55_000_000);

    #[test]
    fn a_machine_that_slows_down_gets_a_smaller_network_and_keeps_it() {
        let slowness = Arc::new(AtomicUsize::new(1000));
        let sides = Arc::new(Sides::new(1, 352));
        let mut analyzer = AdaptiveAnalyzer::new(timed(&slowness), sides.clone(), 0, LIMIT, 0).unwrap();
        adapted(&mut analyzer, &sides, 400);
        assert_eq!(sides.smallest(), 352);
        slowness.store(1300, Ordering::Relaxed);
        adapted(&mut analyzer, &sides, 160);
        assert_eq!(sides.smallest(), 320);
        adapted(&mut analyzer, &sides, 400);
        assert_eq!(sides.smallest(), 320);
        slowness.store(1000, Ordering::Relaxed);
        adapted(&mut analyzer, &sides, 400);
        assert_eq!(sides.smallest(), 320);
        slowness.store(20_000, Ordering::Relaxed);
        adapted(&mut analyzer, &sides, 400);
        assert_eq!(sides.smallest(), 160);
    }

    /// However long it takes, and whoever asked for it.
    #[test]
    fn the_smaller_network_is_built_beside_the_present_one() {
        let slowness = Arc::new(AtomicUsize::new(1300));
        let (open, gate) = bounded::<()>(0);
        let inner = timed(&slowness);
        let build: Arc<Build> = Arc::new(move |side| {
            if side < 352 {
                let _ = gate.recv();
            }
            inner(side)
        });
        let sides = Arc::new(Sides::new(1, 352));
        let mut analyzer = AdaptiveAnalyzer::new(build.clone(), sides.clone(), 0, LIMIT, 0).unwrap();
        frames(&mut analyzer, 2000);
        assert_eq!(sides.smallest(), 352, "it is not built yet, and every frame was analysed");
        // The worker is given up meanwhile. Its successor does not begin again.
        drop(analyzer);
        let mut analyzer = AdaptiveAnalyzer::new(build, sides.clone(), 0, LIMIT, 0).unwrap();
        frames(&mut analyzer, 10);
        assert_eq!(sides.smallest(), 352);
        open.send(()).unwrap();
        settle(&sides);
        frames(&mut analyzer, 1);
        assert_eq!(sides.smallest(), 320);
    }

    #[test]
    fn each_worker_has_its_own_size() {
        let (slow, fast) = (Arc::new(AtomicUsize::new(1300)), Arc::new(AtomicUsize::new(1000)));
        let sides = Arc::new(Sides::new(2, 352));
        let mut first = AdaptiveAnalyzer::new(timed(&slow), sides.clone(), 0, LIMIT, 0).unwrap();
        let mut second = AdaptiveAnalyzer::new(timed(&fast), sides.clone(), 1, LIMIT, 0).unwrap();
        adapted(&mut first, &sides, 200);
        adapted(&mut second, &sides, 200);
        let side = |k: usize| sides.of(k).side.load(Ordering::Relaxed);
        assert_eq!((side(0), side(1), sides.smallest()), (320, 352, 320));
        // The second one's next step is from its own size.
        fast.store(1300, Ordering::Relaxed);
        adapted(&mut second, &sides, 200);
        assert_eq!((side(0), side(1)), (320, 320));
    }

    #[test]
    fn a_network_that_cannot_be_built_leaves_the_present_one() {
        let slowness = Arc::new(AtomicUsize::new(1300));
        let inner = timed(&slowness);
        let build: Arc<Build> = Arc::new(move |side| match side {
            352 => inner(side),
            320 => Err(crate::Error::machine("no memory")),
            _ => panic!("a defect"),
        });
        let sides = Arc::new(Sides::new(1, 352));
        let mut analyzer = AdaptiveAnalyzer::new(build, sides.clone(), 0, LIMIT, 0).unwrap();
        adapted(&mut analyzer, &sides, 500);
        assert_eq!(sides.smallest(), 352);
    }
}
