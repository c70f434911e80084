//! Multiply-accumulates on registers alone: the kernel behind [`super::peak`].
//!
//! In: a number of rounds. Out: a sum, so that nothing is left out by the compiler.

use super::lanes::Lanes;

/// Independent sums: more than any processor's latency times its units.
pub(crate) const CHAINS: usize = 12;

/// `turns` rounds of [`CHAINS`] multiply-accumulates.
///
/// # Safety
/// See [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn multiply_accumulate<L: Lanes>(turns: usize) -> f32 {
    unsafe {
        // Small positive numbers in either format; sums neither overflow nor turn denormal.
        let word = L::STORAGE.word(|_| 0.0078125);
        let word = std::hint::black_box(word);
        let factor = L::splat_word(&word);
        let mut sums = [L::no_sums(); CHAINS];
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = L::dot(*sum, factor, factor);
            }
        }
        let mut total = L::zero();
        for sum in sums {
            total = L::add(total, L::summed(sum));
        }
        L::sum(total)
    }
}
