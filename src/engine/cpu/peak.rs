//! What the processor can do at most: multiply-accumulates on registers alone, the measure every kernel is held to.
//!
//! In: a path and a number of threads. Out: GFLOP/s of all of them together.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::kernel_set::{Isa, KernelSet};
use super::multiply_accumulate::CHAINS;

/// Peak of `threads` threads at once over about `time`, in GFLOP/s; `None` where the processor lacks the path. Each thread's
/// best stretch of a few milliseconds counts, so that a passing disturbance lowers nothing.
pub fn peak_gflops(path: KernelSet, threads: usize, time: Duration) -> Option<f64> {
    let isa = path.isa()?;
    let together = Barrier::new(threads);
    let total = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    together.wait();
                    best_stretch(isa, time)
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().unwrap_or(0.0)).sum()
    });
    Some(total)
}

fn best_stretch(isa: &Isa, time: Duration) -> f64 {
    const TURNS: usize = 400_000;
    let flop = (TURNS * CHAINS * isa.lanes * isa.storage.per_word() * 2) as f64;
    let begin = Instant::now();
    let mut best: f64 = 0.0;
    while begin.elapsed() < time {
        let start = Instant::now();
        // SAFETY: `KernelSet::isa` asked the processor.
        std::hint::black_box(unsafe { (isa.peak)(std::hint::black_box(TURNS)) });
        best = best.max(flop / start.elapsed().as_secs_f64() / 1e9);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_a_peak_and_vectors_beat_plain_code() {
        let time = Duration::from_millis(30);
        let peak = |p: KernelSet| peak_gflops(p, 1, time);
        let plain = peak(KernelSet::PortableF32).expect("always there");
        assert!(plain > 0.1);
        for path in KernelSet::FLOAT.into_iter().chain(KernelSet::INTEGER) {
            assert_eq!(peak(path).is_some(), path.is_available());
        }
    }
}
