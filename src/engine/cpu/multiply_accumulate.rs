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
        // Factors that the compiler does not know and that change: it can neither take a product out of the loop nor use one
        // for several sums.
        let words = std::hint::black_box([word; CHAINS * 16]);
        let mut sums = [L::no_sums(); CHAINS];
        for _ in 0..turns {
            let factor = L::splat_word(&std::ptr::read_volatile(&word));
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = L::dot(*sum, factor, L::words(words.as_ptr().add(i * L::COUNT)));
            }
        }
        let mut total = L::zero();
        for sum in sums {
            total = L::add(total, L::summed(sum));
        }
        L::sum(total)
    }
}
