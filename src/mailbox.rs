//! The lock-free hand-over from the video path to the worker.
//!
//! In: jobs from one producer. Out: the same jobs to one or more takers, with counters. Two policies: *newest wins*
//! (live: an offered job replaces one not yet taken, and the producer never waits) and *lossless* (replay: every job is
//! taken, and the producer waits for room). What a job is, this module does not know.

// Nothing panics on a streaming thread.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, TryRecvError, TrySendError};

/// What becomes of a job when there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The oldest waiting job gives way.
    NewestWins,
    /// The producer waits.
    Lossless,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    superseded: AtomicU64,
    taken: AtomicU64,
}

/// How many jobs went which way since the mailbox was made. `sent = superseded + taken + waiting`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Offered by the producer.
    pub sent: u64,
    /// Replaced by a newer one before anybody took them.
    pub superseded: u64,
    /// Taken by a worker.
    pub taken: u64,
}

/// The producer's end.
#[derive(Debug)]
pub struct Outbox<T> {
    sender: Sender<T>,
    /// Held to take back what nobody took; only under [`Policy::NewestWins`], so that a lossless producer notices when
    /// every taker is gone.
    reclaim: Option<Receiver<T>>,
    takers: Arc<()>,
    counts: Arc<Counts>,
}

/// A taker's end; clones share the same jobs.
#[derive(Debug)]
pub struct Inbox<T> {
    receiver: Receiver<T>,
    _taker: Arc<()>,
    counts: Arc<Counts>,
}

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Self { receiver: self.receiver.clone(), _taker: self._taker.clone(), counts: self.counts.clone() }
    }
}

/// Every taker is gone; the job comes back.
#[derive(Debug, PartialEq, Eq)]
pub struct Disconnected<T>(pub T);

/// What a taker found.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken<T> {
    /// A job, from now on the taker's own.
    Job(T),
    /// Nothing within the time given.
    TimedOut,
    /// The producer is gone and every job has been taken.
    Closed,
}

/// A mailbox with room for `capacity` waiting jobs (at least 1).
///
/// ```
/// use polypscope::mailbox::{Policy, Taken, mailbox};
///
/// let (outbox, inbox) = mailbox(Policy::NewestWins, 1);
/// assert_eq!(outbox.offer("first"), Ok(None));
/// // Nobody has taken the first: it comes back, so that its buffers are used again.
/// assert_eq!(outbox.offer("second"), Ok(Some("first")));
/// assert_eq!(inbox.try_take(), Taken::Job("second"));
/// assert_eq!(outbox.traffic().superseded, 1);
/// ```
pub fn mailbox<T>(policy: Policy, capacity: usize) -> (Outbox<T>, Inbox<T>) {
    let (sender, receiver) = crossbeam_channel::bounded(capacity.max(1));
    let takers = Arc::new(());
    let counts = Arc::new(Counts::default());
    let reclaim = (policy == Policy::NewestWins).then(|| receiver.clone());
    let inbox = Inbox { receiver, _taker: takers.clone(), counts: counts.clone() };
    (Outbox { sender, reclaim, takers, counts }, inbox)
}

impl<T> Outbox<T> {
    /// Offers a job without ever waiting. Under [`Policy::NewestWins`] returns the job it replaced, whose buffers the
    /// producer reuses; under [`Policy::Lossless`] gives the job back when there is no room.
    pub fn offer(&self, job: T) -> Result<Option<T>, Disconnected<T>> {
        if Arc::strong_count(&self.takers) == 1 {
            return Err(Disconnected(job));
        }
        let mut job = job;
        let mut replaced = None;
        loop {
            match self.sender.try_send(job) {
                Ok(()) => {
                    self.counts.sent.fetch_add(1, Ordering::Relaxed);
                    return Ok(replaced);
                }
                Err(TrySendError::Disconnected(back)) => return Err(Disconnected(back)),
                Err(TrySendError::Full(back)) => {
                    let Some(reclaim) = &self.reclaim else { return Ok(Some(back)) };
                    job = back;
                    // A worker may have taken it in between: then there is room now.
                    if let Ok(old) = reclaim.try_recv() {
                        self.counts.superseded.fetch_add(1, Ordering::Relaxed);
                        replaced = Some(old);
                    }
                }
            }
        }
    }

    /// Hands a job over, waiting up to `patience` for room. `Ok(Some(job))`: still no room, try again.
    pub fn hand_over(&self, job: T, patience: Duration) -> Result<Option<T>, Disconnected<T>> {
        match self.sender.send_timeout(job, patience) {
            Ok(()) => {
                self.counts.sent.fetch_add(1, Ordering::Relaxed);
                Ok(None)
            }
            Err(SendTimeoutError::Timeout(job)) => Ok(Some(job)),
            Err(SendTimeoutError::Disconnected(job)) => Err(Disconnected(job)),
        }
    }

    /// How many jobs went which way so far.
    pub fn traffic(&self) -> Traffic {
        self.counts.traffic()
    }

    /// Jobs waiting now.
    pub fn waiting(&self) -> usize {
        self.sender.len()
    }
}

impl<T> Inbox<T> {
    /// Waits up to `patience` for a job.
    pub fn take(&self, patience: Duration) -> Taken<T> {
        match self.receiver.recv_timeout(patience) {
            Ok(job) => {
                self.counts.taken.fetch_add(1, Ordering::Relaxed);
                Taken::Job(job)
            }
            Err(RecvTimeoutError::Timeout) => Taken::TimedOut,
            Err(RecvTimeoutError::Disconnected) => Taken::Closed,
        }
    }

    /// A job if one is waiting.
    pub fn try_take(&self) -> Taken<T> {
        match self.receiver.try_recv() {
            Ok(job) => {
                self.counts.taken.fetch_add(1, Ordering::Relaxed);
                Taken::Job(job)
            }
            Err(TryRecvError::Empty) => Taken::TimedOut,
            Err(TryRecvError::Disconnected) => Taken::Closed,
        }
    }

    /// How many jobs went which way so far, of all takers together.
    pub fn traffic(&self) -> Traffic {
        self.counts.traffic()
    }
}

impl Counts {
    fn traffic(&self) -> Traffic {
        Traffic {
            sent: self.sent.load(Ordering::Relaxed),
            superseded: self.superseded.load(Ordering::Relaxed),
            taken: self.taken.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn the_newest_wins_and_the_old_one_comes_back() {
        let (outbox, inbox) = mailbox(Policy::NewestWins, 1);
        assert_eq!(outbox.offer(1), Ok(None));
        assert_eq!(outbox.offer(2), Ok(Some(1)));
        assert_eq!(outbox.offer(3), Ok(Some(2)));
        assert_eq!(inbox.take(NOW), Taken::Job(3));
        assert_eq!(inbox.take(NOW), Taken::TimedOut);
        assert_eq!(outbox.traffic(), Traffic { sent: 3, superseded: 2, taken: 1 });
    }

    #[test]
    fn lossless_gives_a_job_back_rather_than_lose_one() {
        let (outbox, inbox) = mailbox(Policy::Lossless, 2);
        assert_eq!(outbox.offer(1), Ok(None));
        assert_eq!(outbox.hand_over(2, NOW), Ok(None));
        assert_eq!(outbox.hand_over(3, Duration::from_millis(1)), Ok(Some(3)));
        assert_eq!(outbox.offer(3), Ok(Some(3)));
        assert_eq!(inbox.try_take(), Taken::Job(1));
        drop(outbox);
        assert_eq!(inbox.take(NOW), Taken::Job(2));
        assert_eq!(inbox.take(NOW), Taken::Closed);
    }

    #[test]
    fn a_producer_notices_that_every_taker_is_gone() {
        for policy in [Policy::NewestWins, Policy::Lossless] {
            let (outbox, inbox) = mailbox(policy, 1);
            let second = inbox.clone();
            drop(inbox);
            assert_eq!(outbox.offer(1), Ok(None));
            drop(second);
            assert_eq!(outbox.offer(2), Err(Disconnected(2)));
        }
    }

    #[test]
    fn counters_add_up_under_contention() {
        let (outbox, inbox) = mailbox(Policy::NewestWins, 1);
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let inbox = inbox.clone();
                std::thread::spawn(move || {
                    let mut last = None;
                    loop {
                        match inbox.take(Duration::from_secs(5)) {
                            Taken::Job(n) => {
                                assert!(last < Some(n), "jobs run backwards");
                                last = Some(n);
                            }
                            Taken::TimedOut => panic!("the producer stalled"),
                            Taken::Closed => break,
                        }
                    }
                })
            })
            .collect();
        for n in 0..20_000u64 {
            outbox.offer(n).expect("the workers live");
        }
        drop(outbox);
        for w in workers {
            w.join().expect("no worker panicked");
        }
        let t = inbox.traffic();
        assert_eq!(t.sent, 20_000);
        assert_eq!(t.sent, t.superseded + t.taken);
    }
}
