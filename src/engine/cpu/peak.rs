//! What the processor can do at most: multiply-accumulates on registers alone, the measure every kernel is held to.
//!
//! In: a path and a number of threads. Out: GFLOP/s of all of them together.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::kernel_set::{Isa, KernelSet};
use super::multiply_accumulate::CHAINS;

/// Peak of `threads` threads at once over about `time`, in GFLOP/s; `None` where the processor lacks the path. Each
/// thread's best stretch of a few milliseconds counts, so that a passing disturbance lowers nothing.
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
    use super::super::multiply_accumulate::factor;
    use super::*;

    /// What the peak counts is computed: the kernel returns the sum of as many products as `best_stretch` credits it
    /// with. How fast it is belongs to the benches.
    #[test]
    fn every_path_computes_the_products_its_peak_counts() {
        const TURNS: usize = 1000;
        for path in KernelSet::FLOAT.into_iter().chain(KernelSet::INTEGER) {
            let Some(isa) = path.isa() else {
                crate::skipped::skip("processor", format_args!("this processor has no {path}"));
                continue;
            };
            let products = (TURNS * CHAINS * isa.lanes * isa.storage.per_word()) as f32;
            // SAFETY: `KernelSet::isa` asked the processor.
            let sum = unsafe { (isa.peak)(TURNS) };
            assert_eq!(sum, products * factor(isa.storage).powi(2), "{path}");
        }
    }
}
