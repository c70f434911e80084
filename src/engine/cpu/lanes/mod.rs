//! Vectors of f32 and the two forms activations are stored in, one implementation for each instruction set.
//!
//! In: pointers into preallocated maps. Out: the arithmetic every kernel of this engine is written in, once,
//! generically.
//!
//! A *word* is 32 bits of an activation or weight along the reduction: one f32, or two neighbouring bf16. Kernels
//! multiply and accumulate word by word ([`Lanes::dot`]), so that the f32 and bf16 kernels are the same code.

use super::storage::{Storage, bf16_bits, bf16_value};

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use portable::{PortableBf16, PortableF32, PortableI8, PortableI16};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{
    Avx2F32, Avx2I8, Avx2I16, Avx512Bf16, Avx512F32, Avx512VnniI8, Avx512VnniI16, AvxVnniI8,
};

/// One instruction set with one storage form.
///
/// # Safety
/// Every function must be called on a processor that has the implementation's features, and from a function compiled
/// with them (else it is a slow call instead of an instruction). Pointers must be valid for the lanes they name.
pub(crate) trait Lanes: Copy + 'static {
    /// An activation or weight as stored: f32, or the bits of a bf16.
    type Elem: Copy + Default + 'static;
    /// `COUNT` values of f32.
    type Vector: Copy;
    /// `COUNT` words.
    type Words: Copy;
    /// `COUNT` running sums of products, 32 bits each: f32 where products are floating-point, integers where storage
    /// is.
    type Sums: Copy;

    /// Lanes of a vector.
    const COUNT: usize;
    /// Of maps and packed weights.
    const STORAGE: Storage;
    /// Vectors of output channels in one register tile.
    const VECTORS: usize;

    /// Most pixels of a register tile that is `vectors` wide: what the register file holds.
    fn pixels(vectors: usize) -> usize;

    unsafe fn zero() -> Self::Vector;
    unsafe fn splat(x: f32) -> Self::Vector;
    unsafe fn load(p: *const f32) -> Self::Vector;
    unsafe fn store(p: *mut f32, v: Self::Vector);
    /// The first `n` lanes, zeros behind them.
    unsafe fn load_part(p: *const f32, n: usize) -> Self::Vector;
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn sub(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a · b + c`.
    unsafe fn fma(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    unsafe fn max(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn abs(a: Self::Vector) -> Self::Vector;
    /// Sum over the lanes.
    unsafe fn sum(a: Self::Vector) -> f32;

    unsafe fn words(p: *const u32) -> Self::Words;
    unsafe fn splat_word(p: *const u32) -> Self::Words;
    unsafe fn no_sums() -> Self::Sums;
    /// Sums that wait in memory between two parts of a reduction, 32 bits each.
    unsafe fn load_sums(p: *const f32) -> Self::Sums;
    unsafe fn store_sums(p: *mut f32, s: Self::Sums);
    /// Sums as f32.
    unsafe fn summed(s: Self::Sums) -> Self::Vector;
    /// `c + Σ a · b` over the elements of each word.
    unsafe fn dot(c: Self::Sums, a: Self::Words, b: Self::Words) -> Self::Sums;
    /// Whether [`Lanes::dot2`] takes fewer instructions than two of `dot`.
    const PAIRED: bool = false;
    /// The products of two words that lie beside one another in the reduction: `dot(dot(c, a[0], b[0]), a[1], b[1])`.
    #[inline(always)]
    unsafe fn dot2(c: Self::Sums, a: [Self::Words; 2], b: [Self::Words; 2]) -> Self::Sums {
        // SAFETY: the caller's promise: the processor has these instructions.
        unsafe { Self::dot(Self::dot(c, a[0], b[0]), a[1], b[1]) }
    }

    /// `COUNT` stored elements as f32.
    unsafe fn read(p: *const Self::Elem) -> Self::Vector;
    unsafe fn read_part(p: *const Self::Elem, n: usize) -> Self::Vector;
    unsafe fn write(p: *mut Self::Elem, v: Self::Vector);
    unsafe fn write_part(p: *mut Self::Elem, v: Self::Vector, n: usize);

    /// Whether maps of f32 stand beside those in `STORAGE`, and stored integers have a scale.
    const SCALED: bool = false;

    /// What storing makes of a value: itself where storage is floating-point, else the nearest integer storage has.
    #[inline(always)]
    unsafe fn stored(v: Self::Vector) -> Self::Vector {
        v
    }

    /// Asks for a cache line ahead of its use; any address will do.
    unsafe fn prefetch(p: *const u8);
}

/// What a register tile needs of an instruction set: words, sums, and the product between them.
///
/// # Safety
/// As for [`Lanes`].
pub(crate) trait Dot: Copy + 'static {
    type Words: Copy;
    type Sums: Copy;
    /// Lanes of a vector.
    const LANES: usize;

    unsafe fn no_sums() -> Self::Sums;
    unsafe fn load_sums(p: *const f32) -> Self::Sums;
    unsafe fn store_sums(p: *mut f32, s: Self::Sums);
    unsafe fn words(p: *const u32) -> Self::Words;
    unsafe fn splat_word(p: *const u32) -> Self::Words;
    unsafe fn dot(c: Self::Sums, a: Self::Words, b: Self::Words) -> Self::Sums;
    /// See [`Lanes::PAIRED`].
    const PAIRED: bool = false;
    #[inline(always)]
    unsafe fn dot2(c: Self::Sums, a: [Self::Words; 2], b: [Self::Words; 2]) -> Self::Sums {
        // SAFETY: the caller's promise: the processor has these instructions.
        unsafe { Self::dot(Self::dot(c, a[0], b[0]), a[1], b[1]) }
    }
}

impl<L: Lanes> Dot for L {
    type Words = <L as Lanes>::Words;
    type Sums = <L as Lanes>::Sums;
    const LANES: usize = L::COUNT;
    const PAIRED: bool = <L as Lanes>::PAIRED;

    #[inline(always)]
    unsafe fn dot2(c: Self::Sums, a: [Self::Words; 2], b: [Self::Words; 2]) -> Self::Sums {
        // SAFETY: the caller's promise: the processor has these instructions.
        unsafe { <L as Lanes>::dot2(c, a, b) }
    }

    #[inline(always)]
    unsafe fn no_sums() -> Self::Sums {
        // SAFETY: the caller's promise: the processor has these instructions.
        unsafe { <L as Lanes>::no_sums() }
    }
    #[inline(always)]
    unsafe fn load_sums(p: *const f32) -> Self::Sums {
        // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
        // instructions.
        unsafe { <L as Lanes>::load_sums(p) }
    }
    #[inline(always)]
    unsafe fn store_sums(p: *mut f32, s: Self::Sums) {
        // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
        // instructions.
        unsafe { <L as Lanes>::store_sums(p, s) }
    }
    #[inline(always)]
    unsafe fn words(p: *const u32) -> Self::Words {
        // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
        // instructions.
        unsafe { <L as Lanes>::words(p) }
    }
    #[inline(always)]
    unsafe fn splat_word(p: *const u32) -> Self::Words {
        // SAFETY: the caller's promise: `p` is valid for a word, and the processor has these instructions.
        unsafe { <L as Lanes>::splat_word(p) }
    }
    #[inline(always)]
    unsafe fn dot(c: Self::Sums, a: Self::Words, b: Self::Words) -> Self::Sums {
        // SAFETY: the caller's promise: the processor has these instructions.
        unsafe { <L as Lanes>::dot(c, a, b) }
    }
}

/// Sums that are f32 are the vectors themselves.
macro_rules! float_sums {
    ($vector:ty) => {
        type Sums = $vector;

        #[inline(always)]
        unsafe fn no_sums() -> $vector {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe { Self::zero() }
        }
        #[inline(always)]
        unsafe fn load_sums(p: *const f32) -> $vector {
            // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
            // instructions.
            unsafe { Self::load(p) }
        }
        #[inline(always)]
        unsafe fn store_sums(p: *mut f32, s: $vector) {
            // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
            // instructions.
            unsafe { Self::store(p, s) }
        }
        #[inline(always)]
        unsafe fn summed(s: $vector) -> $vector {
            s
        }
    };
}
use float_sums;
