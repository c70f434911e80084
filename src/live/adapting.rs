//! An analyst that takes a smaller network when the machine has become slower than it was.
//!
//! In: pictures. Out: masks, within the annotation delay where any of the [`sizing`](super::sizing) sizes allows it. The size
//! chosen when the session began was measured on the machine as it was then; hours later another program or a warm
//! processor may have taken a third of it. It only ever becomes smaller: a size that goes up and down would make polyps
//! come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::sizing;
use crate::Result;
use crate::frame::{Mask, Nanos, Picture};
use crate::worker::{Analyst, Spans};

/// Frames whose median decides: at least so many, and so many seconds of work (a browser that starts takes less); at most
/// so many.
const LEAST: usize = 30;
const WORK: Nanos = Nanos(5_000_000_000);
const MOST: usize = 600;

/// Builds an analyst whose network has square input of so many pixels a side.
pub type Build = dyn Fn(usize) -> Result<Box<dyn Analyst>> + Send + Sync;

/// See the module.
pub struct Adapting {
    inner: Box<dyn Analyst>,
    build: Arc<Build>,
    /// The side in use; workers that are started anew begin with it.
    side: Arc<AtomicUsize>,
    /// What a frame may take beside everything else.
    limit: Nanos,
    recent: Vec<u64>,
    /// Their sum.
    spent: u64,
    threshold: Option<f64>,
}

impl Adapting {
    /// `limit`: what a frame may take, see [`sizing::beside`]. The side's own network is built at once.
    ///
    /// # Errors
    /// As `build`.
    pub fn new(build: Arc<Build>, side: Arc<AtomicUsize>, limit: Nanos) -> Result<Self> {
        let inner = build(side.load(Ordering::Relaxed))?;
        Ok(Self { inner, build, side, limit, recent: Vec::with_capacity(MOST), spent: 0, threshold: None })
    }

    /// Looks at the last frames; takes the next smaller network if they were too slow.
    fn consider(&mut self) {
        self.recent.sort_unstable();
        let usual = self.recent[self.recent.len() / 2];
        self.recent.clear();
        self.spent = 0;
        let side = self.side.load(Ordering::Relaxed);
        if usual <= self.limit.0 {
            return;
        }
        let Some(smaller) = sizing::smaller(side) else { return };
        match (self.build)(smaller) {
            Ok(inner) => {
                self.inner = inner;
                if let Some(threshold) = self.threshold {
                    self.inner.set_threshold(threshold);
                }
                self.side.store(smaller, Ordering::Relaxed);
                tracing::info!(
                    "a frame took {:.1} ms: the network's input is {smaller}x{smaller} now",
                    usual as f64 / 1e6
                );
            }
            Err(e) => {
                tracing::warn!("the network of {smaller}x{smaller} cannot be built, {side}x{side} stays: {e}")
            }
        }
    }
}

impl Analyst for Adapting {
    fn analyse(&mut self, picture: &Picture, mask: &mut Mask) -> Result<Spans> {
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

    impl Analyst for Timed {
        fn analyse(&mut self, _: &Picture, _: &mut Mask) -> Result<Spans> {
            let ns = (self.side * self.side * 400 * self.slowness.load(Ordering::Relaxed) / 1000) as u64;
            Ok(Spans { network: Nanos(ns), ..Spans::default() })
        }

        fn set_threshold(&mut self, _: f64) {}
    }

    #[test]
    fn a_machine_that_slows_down_gets_a_smaller_network_and_keeps_it() {
        let slowness = Arc::new(AtomicUsize::new(1000));
        let theirs = slowness.clone();
        let build: Arc<Build> =
            Arc::new(move |side| Ok(Box::new(Timed { side, slowness: theirs.clone() }) as Box<dyn Analyst>));
        let side = Arc::new(AtomicUsize::new(352));
        // 352² needs 49.6 ms at first.
        let mut analyst = Adapting::new(build, side.clone(), Nanos(55_000_000)).unwrap();
        let bytes = [0; 16];
        let picture = Picture::packed(PictureInfo::new(PixelFormat::Gray8, 4, 4), &bytes).unwrap();
        let mut frames = |n: usize| {
            for _ in 0..n {
                analyst.analyse(&picture, &mut Mask::default()).unwrap();
            }
        };
        frames(400);
        assert_eq!(side.load(Ordering::Relaxed), 352);
        slowness.store(1300, Ordering::Relaxed);
        frames(160);
        assert_eq!(side.load(Ordering::Relaxed), 320);
        frames(400);
        assert_eq!(side.load(Ordering::Relaxed), 320);
        slowness.store(1000, Ordering::Relaxed);
        frames(400);
        assert_eq!(side.load(Ordering::Relaxed), 320);
        slowness.store(20_000, Ordering::Relaxed);
        frames(400);
        assert_eq!(side.load(Ordering::Relaxed), 160);
    }
}
