//! Multiply-accumulates on registers alone: the kernel behind [`super::peak`].
//!
//! In: a number of rounds. Out: a sum, so that nothing is left out by the compiler.

use super::lanes::Lanes;
use super::storage::Storage;

/// Independent sums: more than any processor's latency times its units.
pub(crate) const CHAINS: usize = 12;

/// Words that no vector of them crosses a cache line.
#[repr(align(64))]
struct Aligned([u32; CHAINS * 16]);

/// What is multiplied with itself; its square is a power of two, so that sums are exact for a while.
pub(crate) fn factor(storage: Storage) -> f32 {
    match storage {
        Storage::U8 => 1.0,
        Storage::F32 | Storage::Bf16 => 0.0078125,
    }
}

/// `turns` rounds (an even number) of [`CHAINS`] multiply-accumulates.
///
/// # Safety
/// See [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn multiply_accumulate<L: Lanes>(turns: usize) -> f32 {
    // SAFETY: the caller's promise: the processor has these instructions. All memory that is read is a
    // local of this function.
    unsafe {
        // Small positive numbers in every format; sums neither overflow nor turn denormal.
        let word = L::STORAGE.word(|_| factor(L::STORAGE));
        let mut sums = [L::no_sums(); CHAINS];
        if L::SCALED {
            // Where product and sum are two instructions, factors must change and differ: else the compiler takes the
            // products out of the loop, or uses one for several sums.
            let words = std::hint::black_box(Aligned([word; CHAINS * 16]));
            for _ in 0..if L::PAIRED { turns / 2 } else { turns } {
                let factor = L::splat_word(&std::ptr::read_volatile(&word));
                // Of another place, so that no product is used twice.
                let other = L::splat_word(&std::ptr::read_volatile(&word));
                for (i, sum) in sums.iter_mut().enumerate() {
                    let word = L::words(words.0.as_ptr().add(i * L::COUNT));
                    *sum = if L::PAIRED {
                        let second = L::words(words.0.as_ptr().add((i + 1) % CHAINS * L::COUNT));
                        L::dot2(*sum, [factor, other], [word, second])
                    } else {
                        L::dot(*sum, factor, word)
                    };
                }
            }
        } else {
            let word = std::hint::black_box(word);
            let factor = L::splat_word(&word);
            for _ in 0..turns {
                for sum in &mut sums {
                    *sum = L::dot(*sum, factor, factor);
                }
            }
        }
        let mut total = L::zero();
        for sum in sums {
            total = L::add(total, L::summed(sum));
        }
        L::sum(total)
    }
}
