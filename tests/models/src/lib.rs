//! Models of the hand-overs between threads: the mailbox, the mask slot and the stamps of live frames under loom, which
//! tries the orders of their steps and every value a relaxed read may give (all orders with up to two switches in the
//! middle of a thread, in which nearly all faults show); the engine's thread pool under shuttle, which tries many
//! thousands of orders (its atomics are sequentially consistent, as those of the pool are).
//!
//! In: the program's own files, see `build.rs`. Out: a failure with the order that leads to it. Run with `make models`.
#![cfg(test)]

mod frame {
    //! As much of the program's vocabulary as the files name.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
    pub struct FrameId(pub u64);
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
    pub struct Nanos(pub u64);
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
    pub struct Pts(pub u64);
    #[derive(Debug, Default)]
    pub struct Mask {
        pub frame: FrameId,
    }
}

mod priority {
    pub(crate) fn lower(_nice: i32) {}
}

#[derive(Debug)]
pub struct Error(#[allow(dead_code)] String);
type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    fn machine(what: &str) -> Self {
        Self(what.into())
    }
    fn inference(what: &str) -> Self {
        Self(what.into())
    }
    fn because(self, _: impl std::fmt::Debug) -> Self {
        self
    }
}

/// crossbeam's bounded channel as its users see it: each call is one step, which is what it promises. Its inside is not
/// ours to check. A step takes loom's lock, so that it is ordered like one.
#[allow(dead_code)]
mod channel {
    use std::collections::VecDeque;
    use std::time::Duration;

    use loom::sync::{Arc, Mutex};

    #[derive(Debug)]
    struct Inner<T> {
        waiting: VecDeque<T>,
        room: usize,
        senders: usize,
        receivers: usize,
    }
    #[derive(Debug)]
    pub struct Sender<T>(Arc<Mutex<Inner<T>>>);
    #[derive(Debug)]
    pub struct Receiver<T>(Arc<Mutex<Inner<T>>>);
    pub enum TrySendError<T> {
        Full(T),
        Disconnected(T),
    }
    pub enum SendTimeoutError<T> {
        Timeout(T),
        Disconnected(T),
    }
    pub enum TryRecvError {
        Empty,
        Disconnected,
    }
    pub enum RecvTimeoutError {
        Timeout,
        Disconnected,
    }

    pub fn bounded<T>(room: usize) -> (Sender<T>, Receiver<T>) {
        let inner = Inner { waiting: VecDeque::new(), room, senders: 1, receivers: 1 };
        let inner = Arc::new(Mutex::new(inner));
        (Sender(inner.clone()), Receiver(inner))
    }

    impl<T> Sender<T> {
        pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
            let mut inner = self.0.lock().unwrap();
            if inner.receivers == 0 {
                return Err(TrySendError::Disconnected(value));
            }
            if inner.waiting.len() >= inner.room {
                drop(inner);
                loom::thread::yield_now();
                return Err(TrySendError::Full(value));
            }
            inner.waiting.push_back(value);
            Ok(())
        }
        pub fn send_timeout(&self, value: T, _: Duration) -> Result<(), SendTimeoutError<T>> {
            self.try_send(value).map_err(|e| match e {
                TrySendError::Full(v) => SendTimeoutError::Timeout(v),
                TrySendError::Disconnected(v) => SendTimeoutError::Disconnected(v),
            })
        }
        pub fn len(&self) -> usize {
            self.0.lock().unwrap().waiting.len()
        }
    }

    impl<T> Receiver<T> {
        pub fn try_recv(&self) -> Result<T, TryRecvError> {
            let mut inner = self.0.lock().unwrap();
            match inner.waiting.pop_front() {
                Some(value) => Ok(value),
                None if inner.senders == 0 => Err(TryRecvError::Disconnected),
                None => {
                    drop(inner);
                    loom::thread::yield_now();
                    Err(TryRecvError::Empty)
                }
            }
        }
        pub fn recv_timeout(&self, _: Duration) -> Result<T, RecvTimeoutError> {
            self.try_recv().map_err(|e| match e {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            })
        }
        pub fn recv_deadline(&self, _: std::time::Instant) -> Result<T, RecvTimeoutError> {
            self.recv_timeout(Duration::ZERO)
        }
    }

    impl<T> Clone for Sender<T> {
        fn clone(&self) -> Self {
            self.0.lock().unwrap().senders += 1;
            Self(self.0.clone())
        }
    }
    impl<T> Clone for Receiver<T> {
        fn clone(&self) -> Self {
            self.0.lock().unwrap().receivers += 1;
            Self(self.0.clone())
        }
    }
    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.0.lock().unwrap().senders -= 1;
        }
    }
    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            self.0.lock().unwrap().receivers -= 1;
        }
    }
}

#[allow(dead_code)]
mod mailbox {
    include!(concat!(env!("OUT_DIR"), "/mailbox.rs"));
}
#[allow(dead_code)]
mod mask_slot {
    include!(concat!(env!("OUT_DIR"), "/mask_slot.rs"));
}
#[allow(dead_code)]
mod timestamps {
    include!(concat!(env!("OUT_DIR"), "/timestamps.rs"));
}
#[allow(dead_code)]
mod thread_pool {
    include!(concat!(env!("OUT_DIR"), "/thread_pool.rs"));
}

use std::time::Duration;

/// All orders with at most two switches away from a thread that could have gone on.
fn model(scenario: impl Fn() + Send + Sync + 'static) {
    let mut checker = loom::model::Builder::new();
    checker.preemption_bound = Some(2);
    checker.check(scenario);
}

use frame::{FrameId, Nanos, Pts};

/// The newest wins, nothing is taken twice or out of order, and every job is accounted for.
#[test]
fn mailbox_newest_wins() {
    use mailbox::{Policy, Taken, mailbox};
    model(|| {
        let (outbox, inbox) = mailbox(Policy::NewestWins, 1);
        let taker = loom::thread::spawn(move || {
            let mut taken = Vec::new();
            for _ in 0..3 {
                match inbox.take(Duration::ZERO) {
                    Taken::Job(job) => taken.push(job),
                    Taken::TimedOut => {}
                    Taken::Closed => break,
                }
            }
            (taken, inbox)
        });
        let mut replaced = Vec::new();
        for job in 0..3u32 {
            // A taker that is gone takes nothing any more; here it waits to be joined.
            replaced.extend(outbox.offer(job).expect("a taker is there"));
        }
        let (taken, inbox) = taker.join().unwrap();
        assert!(taken.is_sorted() && replaced.is_sorted());
        let mut left = Vec::new();
        while let Taken::Job(job) = inbox.try_take() {
            left.push(job);
        }
        // The newest is never the one that is lost.
        assert!(taken.contains(&2) || left == [2]);
        let traffic = outbox.traffic();
        assert_eq!(traffic.sent, 3);
        assert_eq!(traffic.superseded, replaced.len() as u64);
        assert_eq!(traffic.taken, (taken.len() + left.len()) as u64);
        let mut all = [taken, replaced, left].concat();
        all.sort();
        assert_eq!(all, [0, 1, 2]);
    });
}

#[test]
fn mailbox_two_takers_share_without_loss() {
    use mailbox::{Policy, Taken, mailbox};
    model(|| {
        let (outbox, inbox) = mailbox(Policy::Lossless, 2);
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let inbox = inbox.clone();
                loom::thread::spawn(move || match inbox.take(Duration::ZERO) {
                    Taken::Job(job) => Some(job),
                    _ => None,
                })
            })
            .collect();
        assert!(outbox.offer(1u32).unwrap().is_none());
        assert!(outbox.offer(2).unwrap().is_none());
        let mut all: Vec<_> = takers.into_iter().filter_map(|t| t.join().unwrap()).collect();
        while let Taken::Job(job) = inbox.try_take() {
            all.push(job);
        }
        all.sort();
        assert_eq!(all, [1, 2]);
    });
}

/// Two workers finish masks of different frames in any order: what the video path sees never runs back, and the newest
/// mask is what it ends with.
#[test]
fn mask_slot_never_runs_back() {
    use mask_slot::mask_slot;
    model(|| {
        let (sender, mut receiver) = mask_slot(2);
        let workers: Vec<_> = [[1u64, 4], [2, 3]]
            .into_iter()
            .map(|frames| {
                let sender = sender.clone();
                loom::thread::spawn(move || {
                    for frame in frames {
                        let mut mask = sender.blank();
                        mask.mask.frame = FrameId(frame);
                        sender.give(mask);
                    }
                })
            })
            .collect();
        let mut seen = Vec::new();
        for _ in 0..2 {
            if let (Some(mask), true) = receiver.newest() {
                seen.push(mask.mask.frame);
            }
        }
        workers.into_iter().for_each(|w| w.join().unwrap());
        if let (Some(mask), true) = receiver.newest() {
            seen.push(mask.mask.frame);
        }
        assert!(seen.windows(2).all(|w| w[0] < w[1]), "{seen:?}");
        assert_eq!(seen.last(), Some(&FrameId(4)), "{seen:?}");
    });
}

/// The overlay finds the capture's time, or stamps the frame itself.
#[test]
fn stamps_of_the_source_are_of_their_frame() {
    use timestamps::Stamps;
    model(|| {
        let stamps = loom::sync::Arc::new(Stamps::default());
        let source = stamps.clone();
        let source = loom::thread::spawn(move || {
            source.capture(Pts(10), Nanos(100));
            source.capture(Pts(20), Nanos(200));
        });
        let captured = stamps.enter(Pts(10), Nanos(150));
        assert!(captured == Nanos(100) || captured == Nanos(150), "{captured:?}");
        source.join().unwrap();
    });
}

/// The sink finds all that the overlay wrote, or nothing.
#[test]
fn stamps_of_the_overlay_are_found_whole() {
    use timestamps::Stamps;
    model(|| {
        let stamps = loom::sync::Arc::new(Stamps::default());
        stamps.capture(Pts(10), Nanos(100));
        let overlay = stamps.clone();
        let overlay = loom::thread::spawn(move || {
            overlay.leave(Pts(10), FrameId(7), Nanos(160), Some(Nanos(90)));
        });
        if let Some(passed) = stamps.arrive(Pts(10)) {
            assert_eq!((passed.frame, passed.left_overlay), (FrameId(7), Nanos(160)));
            assert_eq!((passed.captured, passed.first_mask), (Nanos(100), Some(Nanos(90))));
        }
        overlay.join().unwrap();
        assert!(stamps.arrive(Pts(10)).is_some());
    });
}

/// The ring comes round while an entry is read, with the same timestamp again (a file from its begin): what is found is
/// still of one frame.
#[test]
fn stamps_that_are_overwritten_are_not_mixed() {
    use timestamps::Stamps;
    model(|| {
        let stamps = loom::sync::Arc::new(Stamps::default());
        stamps.capture(Pts(10), Nanos(100));
        stamps.leave(Pts(10), FrameId(1), Nanos(101), Some(Nanos(99)));
        let source = stamps.clone();
        let source = loom::thread::spawn(move || {
            source.capture(Pts(20), Nanos(200));
            source.capture(Pts(10), Nanos(300));
            source.leave(Pts(10), FrameId(3), Nanos(301), None);
        });
        if let Some(passed) = stamps.arrive(Pts(10)) {
            let whole = (passed.captured, passed.frame, passed.left_overlay, passed.first_mask);
            assert!(
                whole == (Nanos(100), FrameId(1), Nanos(101), Some(Nanos(99)))
                    || whole == (Nanos(300), FrameId(3), Nanos(301), None),
                "{whole:?}"
            );
        }
        source.join().unwrap();
    });
}

/// The overlay's stamp does not fall on the frame that took the entry meanwhile.
#[test]
fn stamps_of_the_overlay_stay_with_their_frame() {
    use timestamps::Stamps;
    model(|| {
        let stamps = loom::sync::Arc::new(Stamps::default());
        stamps.capture(Pts(10), Nanos(100));
        let source = stamps.clone();
        let source = loom::thread::spawn(move || {
            source.capture(Pts(20), Nanos(200));
            source.capture(Pts(30), Nanos(300));
        });
        stamps.leave(Pts(10), FrameId(1), Nanos(101), None);
        source.join().unwrap();
        assert_eq!(stamps.arrive(Pts(20)), None);
        assert_eq!(stamps.arrive(Pts(30)), None);
    });
}

mod pool {
    use shuttle::sync::Arc;
    use shuttle::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use crate::thread_pool::{ThreadPool, Work};

    struct Counting {
        done: Arc<[AtomicUsize; 3]>,
        panics_at: Option<usize>,
    }

    const TASKS: [usize; 3] = [3, 1, 2];

    impl Work for Counting {
        fn waves(&self) -> Vec<usize> {
            TASKS.to_vec()
        }
        unsafe fn task(&self, wave: usize, _task: usize, _thread: usize) {
            // Every wave before is complete for this frame, and none after has begun.
            let frame = self.done[wave].load(SeqCst) / TASKS[wave];
            for earlier in 0..wave {
                assert_eq!(self.done[earlier].load(SeqCst), (frame + 1) * TASKS[earlier]);
            }
            for later in wave + 1..TASKS.len() {
                assert_eq!(self.done[later].load(SeqCst), frame * TASKS[later]);
            }
            let number = self.done[wave].fetch_add(1, SeqCst);
            assert!(self.panics_at != Some(wave * 100 + number), "told to");
        }
    }

    fn frames(threads: usize, panics_at: Option<usize>) {
        let done = Arc::new([const { AtomicUsize::new(0) }; 3]);
        let mut pool = ThreadPool::new(Counting { done: done.clone(), panics_at }, threads, 0).unwrap();
        for frame in 1..=2 {
            let mut after = Vec::new();
            let outcome = pool.frame(|wave| after.push(wave));
            assert_eq!(after, [0, 1, 2]);
            assert_eq!(outcome.is_err(), panics_at == Some(0) && frame == 1);
            for (wave, done) in done.iter().enumerate() {
                assert_eq!(done.load(SeqCst), frame * TASKS[wave]);
            }
        }
        // Threads that sleep are woken and end.
        drop(pool);
    }

    #[test]
    fn thread_pool_does_every_task_once_and_in_order() {
        shuttle::check_random(|| frames(3, None), 20_000);
        shuttle::check_pct(|| frames(3, None), 20_000, 3);
    }

    #[test]
    fn thread_pool_survives_a_panic_in_a_task() {
        shuttle::check_random(|| frames(2, Some(0)), 5_000);
    }
}
