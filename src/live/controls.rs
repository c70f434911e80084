//! What a user may change while the picture runs.
//!
//! In: a key, a signal, the HTTP control. Out: values the video path and the worker read once a frame, without locks.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::overlay::Style;

/// Settings that change at run time, shared by everybody.
#[derive(Debug)]
pub struct Controls {
    on: AtomicBool,
    alpha: AtomicU32,
    threshold: AtomicU64,
}

impl Controls {
    /// Switched on, with this opacity and threshold.
    pub fn new(style: &Style, threshold: f64) -> Self {
        Self {
            on: AtomicBool::new(true),
            alpha: AtomicU32::new(style.alpha.to_bits()),
            threshold: AtomicU64::new(threshold.to_bits()),
        }
    }

    /// Whether marks are drawn.
    pub fn on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Says whether marks are drawn from the next frame on.
    pub fn switch(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// Turns on what is off and the other way round; returns what it is now.
    pub fn toggle(&self) -> bool {
        !self.on.fetch_xor(true, Ordering::Relaxed)
    }

    /// Opacity of the fill, 0–1.
    pub fn alpha(&self) -> f32 {
        f32::from_bits(self.alpha.load(Ordering::Relaxed))
    }

    /// Changes the opacity; values outside 0–1 are brought inside.
    pub fn set_alpha(&self, alpha: f32) {
        if alpha.is_nan() {
            return;
        }
        self.alpha.store(alpha.clamp(0.0, 1.0).to_bits(), Ordering::Relaxed);
    }

    /// Probability from which on a pixel is marked, 0–1.
    pub fn threshold(&self) -> f64 {
        f64::from_bits(self.threshold.load(Ordering::Relaxed))
    }

    /// Values outside 0–1 (exclusive) are brought inside.
    pub fn set_threshold(&self, threshold: f64) {
        if threshold.is_nan() {
            return;
        }
        self.threshold.store(threshold.clamp(1e-6, 1.0 - 1e-6).to_bits(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toggling_says_what_it_is_now() {
        let c = Controls::new(&Style::default(), 0.5);
        assert!(c.on());
        assert!(!c.toggle());
        assert!(!c.on());
        assert!(c.toggle());
        c.set_threshold(7.0);
        c.set_alpha(-1.0);
        assert!(c.threshold() < 1.0 && c.alpha() == 0.0);
    }
}
