//! A worker's sign of life, read by the video path without waiting.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::Reason;
use crate::frame::Nanos;

/// What a worker says of itself. Instants are since the session began.
#[derive(Debug, Default)]
pub struct WorkerHealth {
    /// When it began the frame it works on; 0 while it waits for one.
    busy_since: AtomicU64,
    /// Median of what a frame takes; 0 until the first.
    usual: AtomicU64,
    /// Index into [`Reason::ALL`] plus one; 0 while all is well.
    fault: AtomicU8,
    restarts: AtomicU32,
}

impl WorkerHealth {
    /// It begins to work on a frame.
    pub fn begin(&self, now: Nanos) {
        self.busy_since.store(now.0.max(1), Ordering::Relaxed);
    }

    /// The frame is done, and with it whatever was wrong before.
    pub fn done(&self, usual: Nanos) {
        self.usual.store(usual.0, Ordering::Relaxed);
        self.fault.store(0, Ordering::Relaxed);
        self.busy_since.store(0, Ordering::Relaxed);
    }

    /// Nothing to do.
    pub fn idle(&self) {
        self.busy_since.store(0, Ordering::Relaxed);
    }

    /// It cannot go on.
    pub fn fail(&self, reason: Reason) {
        let index = Reason::ALL.iter().position(|r| *r == reason).unwrap_or(0);
        self.fault.store(index as u8 + 1, Ordering::Relaxed);
        self.busy_since.store(0, Ordering::Relaxed);
    }

    /// Counts a new start of the worker; returns how many there were with this one.
    pub fn restarted(&self) -> u32 {
        self.restarts.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// New starts so far.
    pub fn restarts(&self) -> u32 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Why it cannot go on; `None` while all is well.
    pub fn fault(&self) -> Option<Reason> {
        let n = self.fault.load(Ordering::Relaxed);
        (n > 0).then(|| Reason::ALL[usize::from(n - 1) % Reason::ALL.len()])
    }

    /// How long it has been at its present frame.
    pub fn busy(&self, now: Nanos) -> Option<Nanos> {
        match self.busy_since.load(Ordering::Relaxed) {
            0 => None,
            since => Some(Nanos(now.0.saturating_sub(since))),
        }
    }

    /// What a frame usually takes.
    pub fn usual(&self) -> Option<Nanos> {
        match self.usual.load(Ordering::Relaxed) {
            0 => None,
            n => Some(Nanos(n)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_are_counted_from_one() {
        let health = WorkerHealth::default();
        assert_eq!((health.restarts(), health.restarted(), health.restarted()), (0, 1, 2));
        assert_eq!(health.restarts(), 2);
    }
}
