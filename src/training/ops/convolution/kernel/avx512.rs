//! The inner loops for AVX-512: a register holds a tile's row of pixels.

use std::arch::x86_64::{
    _mm256_add_ps, _mm256_castpd_ps, _mm512_castps_pd, _mm512_castps512_ps256, _mm512_extractf64x4_pd,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_storeu_ps,
};

use super::{DOT_COLUMNS, DOT_ROWS, LANES, ROWS};

super::transforms!("avx512f,avx512bw,avx512vl,fma");

#[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
pub unsafe fn tile(k: usize, a: *const f32, b: *const f32, out: *mut f32, stride: usize, start: *const f32) {
    // SAFETY: the caller's promise.
    unsafe { tiles(k, a, [b], [out], stride, start) }
}

/// Twelve sums: six would wait for each other, at four cycles a product and two products a cycle.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
pub unsafe fn pair(
    k: usize,
    a: *const f32,
    b: [*const f32; 2],
    out: [*mut f32; 2],
    stride: usize,
    start: *const f32,
) {
    // SAFETY: the caller's promise.
    unsafe { tiles(k, a, b, out, stride, start) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
unsafe fn tiles<const N: usize>(
    k: usize,
    mut a: *const f32,
    mut b: [*const f32; N],
    out: [*mut f32; N],
    stride: usize,
    start: *const f32,
) {
    // SAFETY: the lengths are the caller's promise.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); N]; ROWS];
        for (r, sums) in sums.iter_mut().enumerate() {
            for (sum, out) in sums.iter_mut().zip(out) {
                *sum = if start.is_null() {
                    _mm512_loadu_ps(out.add(r * stride))
                } else {
                    _mm512_set1_ps(*start.add(r))
                };
            }
        }
        for _ in 0..k {
            let x = b.map(|b| _mm512_loadu_ps(b));
            for (r, sums) in sums.iter_mut().enumerate() {
                let w = _mm512_set1_ps(*a.add(r));
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = _mm512_fmadd_ps(w, x, *sum);
                }
            }
            a = a.add(ROWS);
            b = b.map(|b| b.add(LANES));
        }
        for (r, sums) in sums.iter().enumerate() {
            for (sum, out) in sums.iter().zip(out) {
                _mm512_storeu_ps(out.add(r * stride), *sum);
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
pub unsafe fn dots(
    n: usize,
    rows: [*const f32; DOT_ROWS],
    columns: [*const f32; DOT_COLUMNS],
    sums: &mut [f32; 12],
) {
    // SAFETY: the caller's promise.
    unsafe { add_dots(n, rows, columns, std::slice::from_mut(sums)) }
}

/// Twenty-four sums: the input, which comes from the second-level cache, is read half as often.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
pub unsafe fn double_dots(
    n: usize,
    rows: [*const f32; 2 * DOT_ROWS],
    columns: [*const f32; DOT_COLUMNS],
    sums: &mut [[f32; 12]; 2],
) {
    // SAFETY: the caller's promise.
    unsafe { add_dots(n, rows, columns, sums) }
}

/// Three registers of the input, one of the gradient; `sums` has twelve for every [`DOT_ROWS`] rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
unsafe fn add_dots<const N: usize>(
    n: usize,
    rows: [*const f32; N],
    columns: [*const f32; DOT_COLUMNS],
    sums: &mut [[f32; 12]],
) {
    // SAFETY: whole registers end before `n`; the rest is read under a mask.
    unsafe {
        let mut s = [[_mm512_setzero_ps(); DOT_COLUMNS]; N];
        let mut p = 0;
        while p + LANES <= n {
            let x = columns.map(|c| _mm512_loadu_ps(c.add(p)));
            for (row, s) in rows.iter().zip(s.iter_mut()) {
                let g = _mm512_loadu_ps(row.add(p));
                for c in 0..DOT_COLUMNS {
                    s[c] = _mm512_fmadd_ps(g, x[c], s[c]);
                }
            }
            p += LANES;
        }
        if p < n {
            let mask = (1u16 << (n - p)) - 1;
            let x = columns.map(|c| _mm512_maskz_loadu_ps(mask, c.add(p)));
            for (row, s) in rows.iter().zip(s.iter_mut()) {
                let g = _mm512_maskz_loadu_ps(mask, row.add(p));
                for c in 0..DOT_COLUMNS {
                    s[c] = _mm512_fmadd_ps(g, x[c], s[c]);
                }
            }
        }
        for (s, sums) in s.as_chunks::<DOT_ROWS>().0.iter().zip(sums) {
            let half = |i: usize| {
                let s = s[i / DOT_COLUMNS][i % DOT_COLUMNS];
                let high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(s), 1));
                _mm256_add_ps(_mm512_castps512_ps256(s), high)
            };
            super::avx2::add_up(std::array::from_fn(half), sums);
        }
    }
}
