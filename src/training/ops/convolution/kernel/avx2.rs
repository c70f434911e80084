//! The inner loops for AVX2 with FMA.

use std::arch::x86_64::{
    __m256, __m256i, _mm_add_ps, _mm_storeu_ps, _mm256_broadcast_ss, _mm256_castps256_ps128,
    _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_hadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_maskload_ps, _mm256_setzero_ps, _mm256_storeu_ps,
};

use super::{DOT_COLUMNS, DOT_ROWS, LANES, ROWS};

super::transforms!("avx2,fma");

/// Sixteen registers: twelve sums, two of pixels, two of weights.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn tile(
    k: usize,
    mut a: *const f32,
    mut b: *const f32,
    out: *mut f32,
    stride: usize,
    start: *const f32,
) {
    // SAFETY: the lengths are the caller's promise.
    unsafe {
        let mut s = [[_mm256_setzero_ps(); 2]; ROWS];
        for (r, s) in s.iter_mut().enumerate() {
            *s = if start.is_null() {
                let at = out.add(r * stride);
                [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))]
            } else {
                [_mm256_broadcast_ss(&*start.add(r)); 2]
            };
        }
        for _ in 0..k {
            let x = [_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8))];
            for (r, s) in s.iter_mut().enumerate() {
                let w = _mm256_broadcast_ss(&*a.add(r));
                s[0] = _mm256_fmadd_ps(w, x[0], s[0]);
                s[1] = _mm256_fmadd_ps(w, x[1], s[1]);
            }
            a = a.add(ROWS);
            b = b.add(LANES);
        }
        for (r, s) in s.iter().enumerate() {
            let at = out.add(r * stride);
            _mm256_storeu_ps(at, s[0]);
            _mm256_storeu_ps(at.add(8), s[1]);
        }
    }
}

/// Twelve sums, three registers of the input, one of the gradient.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn dots(
    n: usize,
    rows: [*const f32; DOT_ROWS],
    columns: [*const f32; DOT_COLUMNS],
    sums: &mut [f32; 12],
) {
    const TAIL: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: whole registers end before `n`; the rest is read under a mask.
    unsafe {
        let mut s = [[_mm256_setzero_ps(); DOT_COLUMNS]; DOT_ROWS];
        let mut p = 0;
        while p + 8 <= n {
            let x = columns.map(|c| _mm256_loadu_ps(c.add(p)));
            for (row, s) in rows.iter().zip(s.iter_mut()) {
                let g = _mm256_loadu_ps(row.add(p));
                for c in 0..DOT_COLUMNS {
                    s[c] = _mm256_fmadd_ps(g, x[c], s[c]);
                }
            }
            p += 8;
        }
        if p < n {
            let mask: __m256i = _mm256_loadu_si256(TAIL.as_ptr().add(8 - (n - p)).cast());
            let x = columns.map(|c| _mm256_maskload_ps(c.add(p), mask));
            for (row, s) in rows.iter().zip(s.iter_mut()) {
                let g = _mm256_maskload_ps(row.add(p), mask);
                for c in 0..DOT_COLUMNS {
                    s[c] = _mm256_fmadd_ps(g, x[c], s[c]);
                }
            }
        }
        add_up(std::array::from_fn(|i| s[i / DOT_COLUMNS][i % DOT_COLUMNS]), sums);
    }
}

/// Adds each register's eight values to its sum.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub fn add_up(parts: [__m256; 12], sums: &mut [f32; 12]) {
    for (four, sums) in parts.as_chunks::<4>().0.iter().zip(sums.as_chunks_mut::<4>().0) {
        let pairs = [_mm256_hadd_ps(four[0], four[1]), _mm256_hadd_ps(four[2], four[3])];
        let quads = _mm256_hadd_ps(pairs[0], pairs[1]);
        let whole = _mm_add_ps(_mm256_castps256_ps128(quads), _mm256_extractf128_ps(quads, 1));
        let mut out = [0f32; 4];
        // SAFETY: four values.
        unsafe { _mm_storeu_ps(out.as_mut_ptr(), whole) };
        for (sum, x) in sums.iter_mut().zip(out) {
            *sum += x;
        }
    }
}
