//! AVX2 with FMA, AVX-512, and AVX-512 with bf16.

use std::arch::x86_64::*;

use super::{Dot, Lanes, Storage, float_sums};

/// AVX-512 F, BW, VL: f32.
#[derive(Clone, Copy)]
pub(crate) struct Avx512F32;

/// AVX-512 with BF16: activations and weights in bf16, products summed in f32.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Bf16;

/// AVX2 and FMA: f32.
#[derive(Clone, Copy)]
pub(crate) struct Avx2F32;

macro_rules! arithmetic512 {
    () => {
        type Vector = __m512;
        const COUNT: usize = 16;
        const VECTORS: usize = 4;

        fn pixels(vectors: usize) -> usize {
            // 32 registers: accumulators, one row of weights, one broadcast.
            match vectors {
                1 | 2 => 12,
                3 => 8,
                _ => 6,
            }
        }

        #[inline(always)]
        unsafe fn zero() -> __m512 {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe { _mm512_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> __m512 {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m512 {
            // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
            // instructions.
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m512) {
            // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
            // instructions.
            unsafe { _mm512_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn load_part(p: *const f32, n: usize) -> __m512 {
            // SAFETY: the caller's promise: `p` is valid for the first `n` lanes, and the processor has
            // these instructions.
            unsafe { _mm512_maskz_loadu_ps(mask16(n), p) }
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m512, b: __m512) -> __m512 {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m512, b: __m512) -> __m512 {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn max(a: __m512, b: __m512) -> __m512 {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe { _mm512_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn abs(a: __m512) -> __m512 {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe { _mm512_abs_ps(a) }
        }
        #[inline(always)]
        unsafe fn sum(a: __m512) -> f32 {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe { _mm512_reduce_add_ps(a) }
        }
        #[inline(always)]
        unsafe fn prefetch(p: *const u8) {
            // SAFETY: a prefetch reads nothing: any address will do.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        }
    };
}

#[inline(always)]
fn mask16(n: usize) -> u16 {
    ((1u32 << n.min(16)) - 1) as u16
}

impl Lanes for Avx512F32 {
    type Elem = f32;
    type Words = __m512;
    const STORAGE: Storage = Storage::F32;
    arithmetic512!();
    float_sums!(__m512);

    #[inline(always)]
    unsafe fn words(p: *const u32) -> __m512 {
        // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
        // instructions.
        unsafe { _mm512_loadu_ps(p.cast()) }
    }
    #[inline(always)]
    unsafe fn splat_word(p: *const u32) -> __m512 {
        // SAFETY: the caller's promise: `p` is valid for a word, and the processor has these instructions.
        unsafe { _mm512_set1_ps(*p.cast()) }
    }
    #[inline(always)]
    unsafe fn dot(c: __m512, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller's promise: the processor has these instructions.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn read(p: *const f32) -> __m512 {
        // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
        // instructions.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn read_part(p: *const f32, n: usize) -> __m512 {
        // SAFETY: the caller's promise: `p` is valid for the first `n` lanes, and the processor has these
        // instructions.
        unsafe { Self::load_part(p, n) }
    }
    #[inline(always)]
    unsafe fn write(p: *mut f32, v: __m512) {
        // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
        // instructions.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn write_part(p: *mut f32, v: __m512, n: usize) {
        // SAFETY: the caller's promise: `p` is valid for the first `n` lanes, and the processor has these
        // instructions.
        unsafe { _mm512_mask_storeu_ps(p, mask16(n), v) }
    }
}

impl Lanes for Avx512Bf16 {
    type Elem = u16;
    type Words = __m512i;
    const STORAGE: Storage = Storage::Bf16;
    arithmetic512!();
    float_sums!(__m512);

    #[inline(always)]
    unsafe fn words(p: *const u32) -> __m512i {
        // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
        // instructions.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn splat_word(p: *const u32) -> __m512i {
        // SAFETY: the caller's promise: `p` is valid for a word, and the processor has these instructions.
        unsafe { _mm512_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn dot(c: __m512, a: __m512i, b: __m512i) -> __m512 {
        // The same 64 bytes under the two names the intrinsics know them by.
        // SAFETY: the caller's promise: the processor has these instructions.
        unsafe {
            _mm512_dpbf16_ps(
                c,
                std::mem::transmute::<__m512i, __m512bh>(a),
                std::mem::transmute::<__m512i, __m512bh>(b),
            )
        }
    }
    #[inline(always)]
    unsafe fn read(p: *const u16) -> __m512 {
        // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
        // instructions.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn read_part(p: *const u16, n: usize) -> __m512 {
        // SAFETY: the caller's promise: `p` is valid for the first `n` lanes, and the processor has these
        // instructions.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask16(n), p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn write(p: *mut u16, v: __m512) {
        // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
        // instructions.
        unsafe {
            _mm256_storeu_si256(p.cast(), std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v)))
        }
    }
    #[inline(always)]
    unsafe fn write_part(p: *mut u16, v: __m512, n: usize) {
        // SAFETY: the caller's promise: `p` is valid for the first `n` lanes, and the processor has these
        // instructions.
        unsafe {
            let half = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v));
            _mm256_mask_storeu_epi16(p.cast(), mask16(n), half);
        }
    }
}

/// Lanes `0..n` set, of eight.
#[inline(always)]
unsafe fn mask8(n: usize) -> __m256i {
    // SAFETY: the caller's promise: the processor has these instructions.
    unsafe {
        _mm256_cmpgt_epi32(_mm256_set1_epi32(n.min(8) as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
    }
}

macro_rules! arithmetic256 {
    () => {
        type Vector = __m256;
        const COUNT: usize = 8;
        const VECTORS: usize = 2;

        fn pixels(_vectors: usize) -> usize {
            // 16 registers: 12 accumulators, 2 of weights, one broadcast.
            6
        }

        #[inline(always)]
        unsafe fn zero() -> __m256 {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe { _mm256_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> __m256 {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m256 {
            // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
            // instructions.
            unsafe { _mm256_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m256) {
            // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
            // instructions.
            unsafe { _mm256_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn load_part(p: *const f32, n: usize) -> __m256 {
            // SAFETY: the caller's promise: `p` is valid for the first `n` lanes, and the processor has
            // these instructions.
            unsafe { _mm256_maskload_ps(p, mask8(n)) }
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe { _mm256_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m256, b: __m256) -> __m256 {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe { _mm256_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m256, b: __m256) -> __m256 {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe { _mm256_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn max(a: __m256, b: __m256) -> __m256 {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe { _mm256_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn abs(a: __m256) -> __m256 {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
        }
        #[inline(always)]
        unsafe fn sum(a: __m256) -> f32 {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe {
                let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
            }
        }
        #[inline(always)]
        unsafe fn prefetch(p: *const u8) {
            // SAFETY: a prefetch reads nothing: any address will do.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        }
    };
}

impl Lanes for Avx2F32 {
    type Elem = f32;
    float_sums!(__m256);
    type Words = __m256;
    const STORAGE: Storage = Storage::F32;
    arithmetic256!();

    #[inline(always)]
    unsafe fn words(p: *const u32) -> __m256 {
        // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
        // instructions.
        unsafe { _mm256_loadu_ps(p.cast()) }
    }
    #[inline(always)]
    unsafe fn splat_word(p: *const u32) -> __m256 {
        // SAFETY: the caller's promise: `p` is valid for a word, and the processor has these instructions.
        unsafe { _mm256_set1_ps(*p.cast()) }
    }
    #[inline(always)]
    unsafe fn dot(c: __m256, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller's promise: the processor has these instructions.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn read(p: *const f32) -> __m256 {
        // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
        // instructions.
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn read_part(p: *const f32, n: usize) -> __m256 {
        // SAFETY: the caller's promise: `p` is valid for the first `n` lanes, and the processor has these
        // instructions.
        unsafe { Self::load_part(p, n) }
    }
    #[inline(always)]
    unsafe fn write(p: *mut f32, v: __m256) {
        // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
        // instructions.
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn write_part(p: *mut f32, v: __m256, n: usize) {
        // SAFETY: the caller's promise: `p` is valid for the first `n` lanes, and the processor has these
        // instructions.
        unsafe { _mm256_maskstore_ps(p, mask8(n), v) }
    }
}

/// AVX2: u8 activations, i8 weights, i32 sums. `vpmaddubsw` sums two products in 16 bits, and those of two words are
/// added in 16 bits, of which neither can overflow: weights are chosen so that no four that meet there pass 128
/// together (see `quantise`).
#[derive(Clone, Copy)]
pub(crate) struct Avx2I8;

macro_rules! integer256 {
    () => {
        type Words = __m256i;
        type Sums = __m256i;

        #[inline(always)]
        unsafe fn no_sums() -> __m256i {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe { _mm256_setzero_si256() }
        }
        #[inline(always)]
        unsafe fn load_sums(p: *const f32) -> __m256i {
            // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
            // instructions.
            unsafe { _mm256_loadu_si256(p.cast()) }
        }
        #[inline(always)]
        unsafe fn store_sums(p: *mut f32, s: __m256i) {
            // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
            // instructions.
            unsafe { _mm256_storeu_si256(p.cast(), s) }
        }
        #[inline(always)]
        unsafe fn words(p: *const u32) -> __m256i {
            // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
            // instructions.
            unsafe { _mm256_loadu_si256(p.cast()) }
        }
        #[inline(always)]
        unsafe fn splat_word(p: *const u32) -> __m256i {
            // SAFETY: the caller's promise: `p` is valid for a word, and the processor has these
            // instructions.
            unsafe { _mm256_set1_epi32(p.cast::<i32>().read_unaligned()) }
        }
    };
}

macro_rules! stored256 {
    () => {
        type Elem = u8;
        const STORAGE: Storage = Storage::U8;
        const SCALED: bool = true;

        #[inline(always)]
        unsafe fn summed(s: __m256i) -> __m256 {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe { _mm256_cvtepi32_ps(s) }
        }
        #[inline(always)]
        unsafe fn stored(v: __m256) -> __m256 {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe {
                // In this order NaN passes the minimum and becomes zero at the maximum.
                let v = _mm256_min_ps(_mm256_set1_ps(255.0), v);
                let v = _mm256_max_ps(v, _mm256_setzero_ps());
                _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v)
            }
        }
        #[inline(always)]
        unsafe fn read(p: *const u8) -> __m256 {
            // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
            // instructions.
            unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()))) }
        }
        #[inline(always)]
        unsafe fn read_part(p: *const u8, n: usize) -> __m256 {
            // Maps have room behind their last pixel, so that a whole vector may be read.
            // SAFETY: the caller's promise: `p` is valid for the first `n` lanes, and the processor has
            // these instructions.
            unsafe { _mm256_and_ps(Self::read(p), _mm256_castsi256_ps(mask8(n))) }
        }
        #[inline(always)]
        unsafe fn write(p: *mut u8, v: __m256) {
            // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
            // instructions.
            unsafe { _mm_storel_epi64(p.cast(), bytes8(Self::stored(v))) }
        }
        #[inline(always)]
        unsafe fn write_part(p: *mut u8, v: __m256, n: usize) {
            // SAFETY: the caller's promise: `p` is valid for the first `n` lanes, and the processor has
            // these instructions.
            unsafe {
                let mut bytes = [0u8; 16];
                _mm_storeu_si128(bytes.as_mut_ptr().cast(), bytes8(Self::stored(v)));
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), p, n.min(8));
            }
        }
    };
}

/// Eight whole numbers from 0 to 255 as bytes.
#[inline(always)]
unsafe fn bytes8(v: __m256) -> __m128i {
    // SAFETY: the caller's promise: the processor has these instructions.
    unsafe {
        let v = _mm256_cvtps_epi32(v);
        let words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
        _mm_packus_epi16(words, words)
    }
}

impl Lanes for Avx2I8 {
    arithmetic256!();
    integer256!();
    stored256!();

    #[inline(always)]
    unsafe fn dot(c: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the caller's promise: the processor has these instructions.
        unsafe {
            let pairs = _mm256_maddubs_epi16(a, b);
            _mm256_add_epi32(c, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }

    // Multiplications are what processors have least units for: three of them instead of four.
    const PAIRED: bool = true;
    #[inline(always)]
    unsafe fn dot2(c: __m256i, a: [__m256i; 2], b: [__m256i; 2]) -> __m256i {
        // SAFETY: the caller's promise: the processor has these instructions.
        unsafe {
            let pairs = _mm256_add_epi16(_mm256_maddubs_epi16(a[0], b[0]), _mm256_maddubs_epi16(a[1], b[1]));
            _mm256_add_epi32(c, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
}

/// AVX-VNNI: the same products and sums in one instruction of 256 bits.
#[derive(Clone, Copy)]
pub(crate) struct AvxVnniI8;

impl Lanes for AvxVnniI8 {
    arithmetic256!();
    integer256!();
    stored256!();

    #[inline(always)]
    unsafe fn dot(c: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the caller's promise: the processor has these instructions.
        unsafe { _mm256_dpbusd_avx_epi32(c, a, b) }
    }
}

/// Two i16 in a word, i32 sums: Winograd's transformed domain of the integer paths.
#[derive(Clone, Copy)]
pub(crate) struct Avx2I16;

impl Dot for Avx2I16 {
    integer256!();
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn dot(c: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the caller's promise: the processor has these instructions.
        unsafe { _mm256_add_epi32(c, _mm256_madd_epi16(a, b)) }
    }
}

/// AVX-512 with VNNI: u8 activations, i8 weights, i32 sums.
#[derive(Clone, Copy)]
pub(crate) struct Avx512VnniI8;

macro_rules! integer512 {
    () => {
        type Words = __m512i;
        type Sums = __m512i;

        #[inline(always)]
        unsafe fn no_sums() -> __m512i {
            // SAFETY: the caller's promise: the processor has these instructions.
            unsafe { _mm512_setzero_si512() }
        }
        #[inline(always)]
        unsafe fn load_sums(p: *const f32) -> __m512i {
            // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
            // instructions.
            unsafe { _mm512_loadu_si512(p.cast()) }
        }
        #[inline(always)]
        unsafe fn store_sums(p: *mut f32, s: __m512i) {
            // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
            // instructions.
            unsafe { _mm512_storeu_si512(p.cast(), s) }
        }
        #[inline(always)]
        unsafe fn words(p: *const u32) -> __m512i {
            // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
            // instructions.
            unsafe { _mm512_loadu_si512(p.cast()) }
        }
        #[inline(always)]
        unsafe fn splat_word(p: *const u32) -> __m512i {
            // SAFETY: the caller's promise: `p` is valid for a word, and the processor has these
            // instructions.
            unsafe { _mm512_set1_epi32(p.cast::<i32>().read_unaligned()) }
        }
    };
}

impl Lanes for Avx512VnniI8 {
    type Elem = u8;
    const STORAGE: Storage = Storage::U8;
    const SCALED: bool = true;
    arithmetic512!();
    integer512!();

    #[inline(always)]
    unsafe fn summed(s: __m512i) -> __m512 {
        // SAFETY: the caller's promise: the processor has these instructions.
        unsafe { _mm512_cvtepi32_ps(s) }
    }
    #[inline(always)]
    unsafe fn stored(v: __m512) -> __m512 {
        // SAFETY: the caller's promise: the processor has these instructions.
        unsafe {
            // In this order NaN passes the minimum and becomes zero at the maximum.
            let v = _mm512_min_ps(_mm512_set1_ps(255.0), v);
            let v = _mm512_max_ps(v, _mm512_setzero_ps());
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v)
        }
    }
    #[inline(always)]
    unsafe fn dot(c: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the caller's promise: the processor has these instructions.
        unsafe { _mm512_dpbusd_epi32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn read(p: *const u8) -> __m512 {
        // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
        // instructions.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn read_part(p: *const u8, n: usize) -> __m512 {
        // SAFETY: the caller's promise: `p` is valid for the first `n` lanes, and the processor has these
        // instructions.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask16(n), p.cast()))) }
    }
    #[inline(always)]
    unsafe fn write(p: *mut u8, v: __m512) {
        // SAFETY: the caller's promise: `p` is valid for every lane, and the processor has these
        // instructions.
        unsafe { _mm_storeu_si128(p.cast(), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(Self::stored(v)))) }
    }
    #[inline(always)]
    unsafe fn write_part(p: *mut u8, v: __m512, n: usize) {
        // SAFETY: the caller's promise: `p` is valid for the first `n` lanes, and the processor has these
        // instructions.
        unsafe {
            let bytes = _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(Self::stored(v)));
            _mm_mask_storeu_epi8(p.cast(), mask16(n), bytes);
        }
    }
}

/// Two i16 in a word with AVX-512 and VNNI.
#[derive(Clone, Copy)]
pub(crate) struct Avx512VnniI16;

impl Dot for Avx512VnniI16 {
    integer512!();
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn dot(c: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the caller's promise: the processor has these instructions.
        unsafe { _mm512_dpwssd_epi32(c, a, b) }
    }
}
