//! One network for all starts of an element.
//!
//! In: a network that was built. Out: the same one at the next start, so that a pipeline that is stopped and started
//! does not build it again, and one that is stopped while it is built does not build two at once. A network that failed
//! is not kept, and in the state *null* none is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::engine::{Network, Route, Shape};
use crate::frame::{Mask, Picture};
use crate::lock::lock;
use crate::segment::{Segmenter, Spans};
use crate::worker::FrameAnalyzer;
use crate::{Error, Result};

/// Where a network waits for the next start; copies are the same cache.
#[derive(Clone, Default)]
pub struct NetworkCache {
    /// Locked for as long as one is built.
    network: Arc<Mutex<Option<Box<dyn Network>>>>,
    wanted: Arc<AtomicBool>,
}

impl NetworkCache {
    /// The element starts: networks are kept from now on.
    pub fn open(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// The element goes to *null*: what is there goes, and what is still at work will.
    pub fn close(&self) {
        self.wanted.store(false, Ordering::Relaxed);
        if let Ok(mut network) = self.network.try_lock() {
            *network = None;
        }
    }

    /// The network that is there, or one that is built now.
    ///
    /// # Errors
    /// What building it says.
    pub fn take(&self, build: impl FnOnce() -> Result<Box<dyn Network>>) -> Result<Returning> {
        let mut cache = lock(&self.network);
        let network = match cache.take() {
            Some(network) => network,
            None => build()?,
        };
        Ok(Returning { network: Some(network), cache: self.clone(), failed: Arc::default() })
    }
}

/// A network that goes back to its cache when it is done with.
pub struct Returning {
    network: Option<Box<dyn Network>>,
    cache: NetworkCache,
    failed: Arc<AtomicBool>,
}

impl Returning {
    /// True from the beginning of a frame until it succeeded: a network that is dropped meanwhile is not kept.
    pub fn failed(&self) -> Arc<AtomicBool> {
        self.failed.clone()
    }

    fn network(&self) -> Option<&dyn Network> {
        self.network.as_deref()
    }
}

impl Network for Returning {
    fn shape(&self) -> Shape {
        // It is there until it is dropped.
        self.network().map_or(Shape { height: 0, width: 0, classes: 0 }, Network::shape)
    }

    fn run(&mut self, input: &[f32], logits: &mut [f32]) -> Result<()> {
        match &mut self.network {
            Some(network) => network.run(input, logits),
            None => Err(Error::internal("the network is gone")),
        }
    }

    fn describe(&self) -> String {
        self.network().map_or_else(String::new, Network::describe)
    }

    fn route(&mut self) -> Route<'_> {
        match &mut self.network {
            Some(network) => network.route(),
            None => Route::Planes,
        }
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        let kept = self.cache.wanted.load(Ordering::Relaxed) && !self.failed.load(Ordering::Relaxed);
        // A cache that is locked has another network on its way.
        if kept && let Ok(mut cache) = self.cache.network.try_lock() {
            *cache = self.network.take();
        }
    }
}

/// An analyzer that says while its network is at work.
pub struct Careful {
    pub segmenter: Segmenter,
    pub failed: Arc<AtomicBool>,
}

impl FrameAnalyzer for Careful {
    fn analyse(&mut self, picture: &Picture, mask: &mut Mask) -> Result<Spans> {
        self.failed.store(true, Ordering::Relaxed);
        let spans = self.segmenter.segment(picture, mask)?;
        self.failed.store(false, Ordering::Relaxed);
        Ok(spans)
    }

    fn set_threshold(&mut self, threshold: f64) {
        self.segmenter.set_threshold(threshold);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counted;

    impl Network for Counted {
        fn shape(&self) -> Shape {
            Shape { height: 32, width: 32, classes: 1 }
        }
        fn run(&mut self, _: &[f32], _: &mut [f32]) -> Result<()> {
            Ok(())
        }
        fn describe(&self) -> String {
            "counted".into()
        }
        fn route(&mut self) -> Route<'_> {
            Route::Planes
        }
    }

    #[test]
    fn a_network_is_built_once_unless_it_failed_or_nobody_wants_it() {
        let cache = NetworkCache::default();
        let mut built = 0;
        let mut take = |cache: &NetworkCache| {
            let network = cache.take(|| {
                built += 1;
                Ok(Box::new(Counted) as Box<dyn Network>)
            });
            (network.unwrap(), built)
        };
        cache.open();
        let (first, n) = take(&cache);
        assert_eq!((n, first.describe().as_str(), first.shape().width), (1, "counted", 32));
        drop(first);
        let (second, n) = take(&cache);
        assert_eq!(n, 1, "the same one");
        second.failed().store(true, Ordering::Relaxed);
        drop(second);
        let (third, n) = take(&cache);
        assert_eq!(n, 2, "one that failed is not kept");
        cache.close();
        drop(third);
        cache.open();
        let (fourth, n) = take(&cache);
        assert_eq!(n, 3, "in the state null none is kept");
        drop(fourth);
        cache.close();
        assert!(lock(&cache.network).is_none());
    }
}
