//! Threads that work through a plan's waves together.
//!
//! In: waves of tasks. Out: all tasks of a wave done before the next begins. Every thread, the caller's included, walks
//! through all waves and takes tasks while there are any; nobody waits for a *thread*, only for tasks, so that one that
//! the system has put aside delays nothing but the task it holds. Who finds nothing to do spins for a few microseconds
//! and then sleeps: between frames the pool uses no processor time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::{Error, Result};

/// What a pool works through.
pub(crate) trait Work: Send + Sync + 'static {
    /// Number of tasks of each wave.
    fn waves(&self) -> Vec<usize>;

    /// Does one task.
    ///
    /// # Safety
    /// Called once for each task of a frame, after every task of the waves before; `thread` is held by one caller at a
    /// time.
    unsafe fn task(&self, wave: usize, task: usize, thread: usize);
}

/// A counter with a cache line of its own.
#[repr(align(128))]
#[derive(Default)]
struct Counter(AtomicU64);

struct Wave {
    tasks: u64,
    /// Tasks taken and done since the pool began. Counting on across frames, a thread that comes late can take nothing
    /// that is not its frame's.
    taken: Counter,
    done: Counter,
}

struct Shared<W> {
    work: W,
    waves: Vec<Wave>,
    /// Frames begun.
    frame: AtomicU64,
    shutdown: AtomicBool,
    failed: AtomicBool,
    asleep: AtomicUsize,
    sleep_lock: Mutex<()>,
    wake_up: Condvar,
}

/// Turns of the spin before a thread goes to sleep: 10 to 50 µs.
const SPINS: usize = 600;

impl<W: Work> Shared<W> {
    fn wait(&self, ready: impl Fn() -> bool) {
        for _ in 0..SPINS {
            if ready() {
                return;
            }
            std::hint::spin_loop();
        }
        let mut guard = self.sleep_lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.fetch_add(1, SeqCst);
        // Whoever makes `ready` true looks at `asleep` afterwards: one of the two sees the other.
        while !ready() {
            guard = self.wake_up.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.fetch_sub(1, SeqCst);
    }

    fn wake(&self) {
        if self.asleep.load(SeqCst) > 0 {
            drop(self.sleep_lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake_up.notify_all();
        }
    }

    /// Works through the waves of frame number `frame`, counted from zero; `after` is told when each wave ends.
    fn work_through(&self, frame: u64, thread: usize, mut after: impl FnMut(usize)) {
        for (number, wave) in self.waves.iter().enumerate() {
            let end = (frame + 1) * wave.tasks;
            let mut next = wave.taken.0.load(SeqCst);
            while next < end {
                match wave.taken.0.compare_exchange_weak(next, next + 1, SeqCst, SeqCst) {
                    Err(now) => next = now,
                    Ok(_) => {
                        let task = (next % wave.tasks) as usize;
                        // SAFETY: the ticket was taken once, earlier waves are done, `thread` is ours.
                        let done = catch_unwind(AssertUnwindSafe(|| unsafe {
                            self.work.task(number, task, thread)
                        }));
                        if done.is_err() {
                            self.failed.store(true, SeqCst);
                        }
                        if wave.done.0.fetch_add(1, SeqCst) + 1 == end {
                            self.wake();
                        }
                        next = wave.taken.0.load(SeqCst);
                    }
                }
            }
            self.wait(|| wave.done.0.load(SeqCst) >= end);
            after(number);
        }
    }
}

/// The threads of one plan; the caller of [`ThreadPool::frame`] is one of them.
pub(crate) struct ThreadPool<W: Work> {
    shared: Arc<Shared<W>>,
    threads: Vec<JoinHandle<()>>,
}

impl<W: Work> ThreadPool<W> {
    /// `threads` in all, `nice` the others' niceness (0 leaves it as it is; higher yields to other threads).
    pub(crate) fn new(work: W, threads: usize, nice: i32) -> Result<Self> {
        let waves = work
            .waves()
            .into_iter()
            .map(|n| Wave { tasks: n as u64, taken: Counter::default(), done: Counter::default() })
            .collect();
        let shared = Arc::new(Shared {
            work,
            waves,
            frame: AtomicU64::new(0),
            shutdown: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            asleep: AtomicUsize::new(0),
            sleep_lock: Mutex::new(()),
            wake_up: Condvar::new(),
        });
        let mut pool = Self { shared, threads: Vec::new() };
        for thread in 1..threads {
            let shared = pool.shared.clone();
            let handle = std::thread::Builder::new()
                .name(format!("engine-{thread}"))
                .spawn(move || {
                    crate::priority::lower(nice);
                    let mut seen = 0;
                    loop {
                        shared.wait(|| shared.frame.load(SeqCst) != seen || shared.shutdown.load(SeqCst));
                        if shared.shutdown.load(SeqCst) {
                            return;
                        }
                        // Frames missed are done: only the newest can still have tasks.
                        seen = shared.frame.load(SeqCst);
                        shared.work_through(seen - 1, thread, |_| ());
                    }
                })
                .map_err(|e| Error::machine("the engine's threads cannot be started").because(e))?;
            pool.threads.push(handle);
        }
        Ok(pool)
    }

    pub(crate) fn work(&self) -> &W {
        &self.shared.work
    }

    /// Does all waves once; returns when the last is done. `after` is told when each ends.
    pub(crate) fn frame(&mut self, after: impl FnMut(usize)) -> Result<()> {
        let frame = self.shared.frame.fetch_add(1, SeqCst);
        self.shared.wake();
        self.shared.work_through(frame, 0, after);
        if self.shared.failed.swap(false, SeqCst) {
            return Err(Error::inference("the engine failed inside a kernel"));
        }
        Ok(())
    }

    /// The same on the calling thread alone, so that `after` finds everything at rest.
    pub(crate) fn frame_alone(&mut self, mut after: impl FnMut(usize)) -> Result<()> {
        for (number, wave) in self.shared.waves.iter().enumerate() {
            for task in 0..wave.tasks {
                // SAFETY: `&mut self` and no new frame number: the other threads wait. Each task runs once, in order.
                let done = catch_unwind(AssertUnwindSafe(|| unsafe {
                    self.shared.work.task(number, task as usize, 0)
                }));
                if done.is_err() {
                    return Err(Error::inference("the engine failed inside a kernel"));
                }
            }
            after(number);
        }
        Ok(())
    }
}

impl<W: Work> Drop for ThreadPool<W> {
    fn drop(&mut self) {
        self.shared.shutdown.store(true, SeqCst);
        self.shared.wake();
        for handle in self.threads.drain(..) {
            // A thread's panics were caught task by task.
            let _ = handle.join();
        }
    }
}
