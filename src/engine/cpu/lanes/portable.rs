//! Plain Rust for any processor: what the other paths are tested against, and what runs where none of them can.

use super::{Dot, Lanes, Storage, bf16_bits, bf16_value, float_sums};
use crate::engine::cpu::storage::quantised;

const N: usize = 8;

/// f32 without any particular instruction.
#[derive(Clone, Copy)]
pub(crate) struct PortableF32;

/// bf16 storage, f32 arithmetic: the measure of the `vdpbf16ps` kernels; too slow to be offered.
#[derive(Clone, Copy)]
pub(crate) struct PortableBf16;

macro_rules! words {
    () => {
        type Words = [u32; N];

        #[inline(always)]
        unsafe fn words(p: *const u32) -> [u32; N] {
            // SAFETY: the caller's promise: `p` is valid for every lane.
            unsafe { p.cast::<[u32; N]>().read_unaligned() }
        }
        #[inline(always)]
        unsafe fn splat_word(p: *const u32) -> [u32; N] {
            // SAFETY: the caller's promise: `p` is valid for a word.
            [unsafe { p.read_unaligned() }; N]
        }
    };
}

macro_rules! integer_sums {
    () => {
        type Sums = [i32; N];

        #[inline(always)]
        unsafe fn no_sums() -> [i32; N] {
            [0; N]
        }
        #[inline(always)]
        unsafe fn load_sums(p: *const f32) -> [i32; N] {
            // SAFETY: the caller's promise: `p` is valid for every lane.
            unsafe { p.cast::<[i32; N]>().read_unaligned() }
        }
        #[inline(always)]
        unsafe fn store_sums(p: *mut f32, s: [i32; N]) {
            // SAFETY: the caller's promise: `p` is valid for every lane.
            unsafe { p.cast::<[i32; N]>().write_unaligned(s) }
        }
    };
}

macro_rules! arithmetic {
    () => {
        type Vector = [f32; N];
        const COUNT: usize = N;
        const VECTORS: usize = 2;

        fn pixels(_vectors: usize) -> usize {
            6
        }

        #[inline(always)]
        unsafe fn zero() -> [f32; N] {
            [0.0; N]
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> [f32; N] {
            [x; N]
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> [f32; N] {
            // SAFETY: the caller's promise: `p` is valid for every lane.
            unsafe { p.cast::<[f32; N]>().read_unaligned() }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: [f32; N]) {
            // SAFETY: the caller's promise: `p` is valid for every lane.
            unsafe { p.cast::<[f32; N]>().write_unaligned(v) }
        }
        #[inline(always)]
        unsafe fn load_part(p: *const f32, n: usize) -> [f32; N] {
            let mut v = [0.0; N];
            for i in 0..n.min(N) {
                // SAFETY: the caller's promise: `p` is valid for the first `n` lanes.
                v[i] = unsafe { *p.add(i) };
            }
            v
        }
        #[inline(always)]
        unsafe fn add(a: [f32; N], b: [f32; N]) -> [f32; N] {
            let mut v = a;
            for i in 0..N {
                v[i] += b[i];
            }
            v
        }
        #[inline(always)]
        unsafe fn sub(a: [f32; N], b: [f32; N]) -> [f32; N] {
            let mut v = a;
            for i in 0..N {
                v[i] -= b[i];
            }
            v
        }
        #[inline(always)]
        unsafe fn mul(a: [f32; N], b: [f32; N]) -> [f32; N] {
            let mut v = a;
            for i in 0..N {
                v[i] *= b[i];
            }
            v
        }
        #[inline(always)]
        unsafe fn max(a: [f32; N], b: [f32; N]) -> [f32; N] {
            let mut v = a;
            for i in 0..N {
                v[i] = if a[i] > b[i] { a[i] } else { b[i] };
            }
            v
        }
        #[inline(always)]
        unsafe fn abs(a: [f32; N]) -> [f32; N] {
            a.map(f32::abs)
        }
        #[inline(always)]
        unsafe fn sum(a: [f32; N]) -> f32 {
            ((a[0] + a[1]) + (a[2] + a[3])) + ((a[4] + a[5]) + (a[6] + a[7]))
        }
        #[inline(always)]
        unsafe fn prefetch(_p: *const u8) {}
        words!();
        #[inline(always)]
        unsafe fn read(p: *const Self::Elem) -> [f32; N] {
            // SAFETY: the caller's promise: `p` is valid for every lane.
            unsafe { Self::read_part(p, N) }
        }
        #[inline(always)]
        unsafe fn write(p: *mut Self::Elem, v: [f32; N]) {
            // SAFETY: the caller's promise: `p` is valid for every lane.
            unsafe { Self::write_part(p, v, N) }
        }
    };
}

impl Lanes for PortableF32 {
    type Elem = f32;
    const STORAGE: Storage = Storage::F32;
    arithmetic!();

    float_sums!([f32; N]);
    #[inline(always)]
    unsafe fn fma(a: [f32; N], b: [f32; N], c: [f32; N]) -> [f32; N] {
        let mut v = c;
        for i in 0..N {
            v[i] += a[i] * b[i];
        }
        v
    }

    #[inline(always)]
    unsafe fn dot(c: [f32; N], a: [u32; N], b: [u32; N]) -> [f32; N] {
        let mut v = c;
        for i in 0..N {
            v[i] += f32::from_bits(a[i]) * f32::from_bits(b[i]);
        }
        v
    }
    #[inline(always)]
    unsafe fn read_part(p: *const f32, n: usize) -> [f32; N] {
        // SAFETY: the caller's promise: `p` is valid for the first `n` lanes.
        unsafe { Self::load_part(p, n) }
    }
    #[inline(always)]
    unsafe fn write_part(p: *mut f32, v: [f32; N], n: usize) {
        for i in 0..n.min(N) {
            // SAFETY: the caller's promise: `p` is valid for the first `n` lanes.
            unsafe { *p.add(i) = v[i] };
        }
    }
}

impl Lanes for PortableBf16 {
    type Elem = u16;
    const STORAGE: Storage = Storage::Bf16;
    arithmetic!();

    float_sums!([f32; N]);
    #[inline(always)]
    unsafe fn fma(a: [f32; N], b: [f32; N], c: [f32; N]) -> [f32; N] {
        let mut v = c;
        for i in 0..N {
            v[i] += a[i] * b[i];
        }
        v
    }

    #[inline(always)]
    unsafe fn dot(c: [f32; N], a: [u32; N], b: [u32; N]) -> [f32; N] {
        let mut v = c;
        for i in 0..N {
            // The instruction's own order: the odd elements first.
            v[i] += f32::from_bits(a[i] & 0xffff_0000) * f32::from_bits(b[i] & 0xffff_0000);
            v[i] += f32::from_bits(a[i] << 16) * f32::from_bits(b[i] << 16);
        }
        v
    }
    #[inline(always)]
    unsafe fn read_part(p: *const u16, n: usize) -> [f32; N] {
        let mut v = [0.0; N];
        for i in 0..n.min(N) {
            // SAFETY: the caller's promise: `p` is valid for the first `n` lanes.
            v[i] = bf16_value(unsafe { *p.add(i) });
        }
        v
    }
    #[inline(always)]
    unsafe fn write_part(p: *mut u16, v: [f32; N], n: usize) {
        for i in 0..n.min(N) {
            // SAFETY: the caller's promise: `p` is valid for the first `n` lanes.
            unsafe { *p.add(i) = bf16_bits(v[i]) };
        }
    }
}

/// u8 activations, i8 weights, i32 sums: the measure of the integer kernels.
#[derive(Clone, Copy)]
pub(crate) struct PortableI8;

impl Lanes for PortableI8 {
    type Elem = u8;
    const STORAGE: Storage = Storage::U8;
    const SCALED: bool = true;
    arithmetic!();

    /// Rounded once, as the processors' own instruction does: what is stored must not depend on the path.
    #[inline(always)]
    unsafe fn fma(a: [f32; N], b: [f32; N], c: [f32; N]) -> [f32; N] {
        let mut v = c;
        for i in 0..N {
            v[i] = a[i].mul_add(b[i], c[i]);
        }
        v
    }
    integer_sums!();
    #[inline(always)]
    unsafe fn summed(s: [i32; N]) -> [f32; N] {
        s.map(|x| x as f32)
    }
    #[inline(always)]
    unsafe fn dot(c: [i32; N], a: [u32; N], b: [u32; N]) -> [i32; N] {
        let mut v = c;
        for i in 0..N {
            let (a, b) = (a[i].to_le_bytes(), b[i].to_le_bytes());
            for k in 0..4 {
                v[i] = v[i].wrapping_add(i32::from(a[k]) * i32::from(b[k] as i8));
            }
        }
        v
    }
    #[inline(always)]
    unsafe fn stored(v: [f32; N]) -> [f32; N] {
        v.map(quantised)
    }
    #[inline(always)]
    unsafe fn read_part(p: *const u8, n: usize) -> [f32; N] {
        let mut v = [0.0; N];
        for i in 0..n.min(N) {
            // SAFETY: the caller's promise: `p` is valid for the first `n` lanes.
            v[i] = f32::from(unsafe { *p.add(i) });
        }
        v
    }
    #[inline(always)]
    unsafe fn write_part(p: *mut u8, v: [f32; N], n: usize) {
        for i in 0..n.min(N) {
            // SAFETY: the caller's promise: `p` is valid for the first `n` lanes.
            unsafe { *p.add(i) = quantised(v[i]) as u8 };
        }
    }
}

/// Two i16 in a word, i32 sums: Winograd's transformed domain of the integer path.
#[derive(Clone, Copy)]
pub(crate) struct PortableI16;

impl Dot for PortableI16 {
    const LANES: usize = N;

    integer_sums!();
    words!();
    #[inline(always)]
    unsafe fn dot(c: [i32; N], a: [u32; N], b: [u32; N]) -> [i32; N] {
        let mut v = c;
        for i in 0..N {
            let low = i32::from(a[i] as u16 as i16) * i32::from(b[i] as u16 as i16);
            let high = i32::from((a[i] >> 16) as u16 as i16) * i32::from((b[i] >> 16) as u16 as i16);
            // The result fits; what is on the way to it need not.
            v[i] = v[i].wrapping_add(low).wrapping_add(high);
        }
        v
    }
}
