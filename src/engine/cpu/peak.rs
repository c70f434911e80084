//! What the processor can do at most: multiply-accumulates on registers alone, the measure every kernel is held to.
//!
//! In: a path and a number of threads. Out: GFLOP/s of all of them together.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::isa::{Isa, Path};
use super::lanes::Lanes;

/// Independent sums: more than any processor's latency times its units.
const CHAINS: usize = 12;

/// `turns` rounds of [`CHAINS`] multiply-accumulates.
///
/// # Safety
/// See [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn multiply_accumulate<L: Lanes>(turns: usize) -> f32 {
    unsafe {
        // Small positive numbers in either format; sums neither overflow nor turn denormal.
        let word = if L::PER_WORD == 2 { 0x3c00_3c00 } else { 0.0078125f32.to_bits() };
        let word = std::hint::black_box(word);
        let factor = L::splat_word(&word);
        let mut sums = [L::zero(); CHAINS];
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = L::dot(*sum, factor, factor);
            }
        }
        let mut total = sums[0];
        for sum in &sums[1..] {
            total = L::add(total, *sum);
        }
        L::sum(total)
    }
}

/// Peak of `threads` threads at once over about `time`, in GFLOP/s; `None` where the processor lacks the path. Each thread's
/// best stretch of a few milliseconds counts, so that a passing disturbance lowers nothing.
pub fn peak_gflops(path: Path, threads: usize, time: Duration) -> Option<f64> {
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
    let flop = (TURNS * CHAINS * isa.lanes * isa.per_word * 2) as f64;
    let begin = Instant::now();
    let mut best: f64 = 0.0;
    while begin.elapsed() < time {
        let start = Instant::now();
        // SAFETY: `Path::isa` asked the processor.
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
        let peak = |p: Path| peak_gflops(p, 1, time);
        let plain = peak(Path::PortableF32).expect("always there");
        assert!(plain > 0.1);
        for path in Path::ALL {
            assert_eq!(peak(path).is_some(), path.is_available());
        }
    }
}
