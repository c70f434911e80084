//! The inner loops of a convolution: packed panels flow in, sums of products flow out.
//!
//! Two kernels carry the products of all three passes. [`Kernels::tile`] multiplies a panel of [`ROWS`] output channels by a panel of
//! [`LANES`] pixels (forward, and the input's gradient). [`Kernels::dots`] takes twelve dot products over pixels at once
//! (the weights' gradient), for which nothing has to be transposed. Each exists in plain Rust and for AVX2 with FMA. The transforms of Winograd's algorithm are
//! plain Rust, compiled for both.

pub use super::points::LANES;
use super::points::{self, Lane, SIDE, TILE};

/// Output channels of a tile.
pub const ROWS: usize = 6;

/// Rows of the output's gradient that one call of [`Kernels::dots`] reads.
pub const DOT_ROWS: usize = 4;
/// Rows of the input that it reads.
pub const DOT_COLUMNS: usize = 3;

/// `k`, panel `[k][ROWS]`, panel `[k][LANES]`, output, its row stride, what to add to each row (null: what is there).
type Tile = unsafe fn(usize, *const f32, *const f32, *mut f32, usize, *const f32);
/// Number of pixels, rows of the gradient, rows of the input, sums to add to.
type Dots = unsafe fn(usize, [*const f32; DOT_ROWS], [*const f32; DOT_COLUMNS], &mut [f32; 12]);

/// Rows under some tiles, the first tile's column, its lane, the number of tiles, where their pixels go.
type InputRows = unsafe fn([Option<&[f32]>; SIDE], usize, usize, usize, &mut [[Lane; SIDE]; SIDE]);
type Split = unsafe fn(&[f32], usize, usize, [&mut Lane; TILE]);
type InputTransform = unsafe fn(&[[Lane; SIDE]; SIDE], *mut f32, usize);
type GradientTransform = unsafe fn(&[[Lane; TILE]; TILE], *mut f32, usize);
type OutputTransform = unsafe fn(&[f32], usize, &mut [[f32; TILE * LANES]; TILE]);

/// The kernels of this processor.
#[derive(Clone, Copy)]
pub struct Kernels {
    tile: Tile,
    dots: Dots,
    input_rows: InputRows,
    split: Split,
    input_transform: InputTransform,
    gradient_transform: GradientTransform,
    output_transform: OutputTransform,
}

impl Kernels {
    /// The fastest that run here.
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            return Self {
                tile: avx2::tile,
                dots: avx2::dots,
                input_rows: avx2::input_rows,
                split: avx2::split,
                input_transform: avx2::input_transform,
                gradient_transform: avx2::gradient_transform,
                output_transform: avx2::output_transform,
            };
        }
        Self::plain()
    }

    /// Plain Rust, on any processor.
    pub fn plain() -> Self {
        Self {
            tile: plain_tile,
            dots: plain_dots,
            input_rows: points::input_rows,
            split: points::split,
            input_transform: points::input,
            gradient_transform: points::gradient,
            output_transform: points::output,
        }
    }

    /// `out[r][0..LANES] = start[r] + Σ a[i][r] · b[i][..]`; without `start`, added to what `out` holds.
    ///
    /// # Safety
    /// `a` holds `k · ROWS` values, `b` `k · LANES`, `start` `ROWS` or is null, and `out` may be read and written at
    /// `ROWS` rows of `LANES` values, `stride` apart.
    #[inline]
    pub unsafe fn tile(
        &self,
        k: usize,
        a: *const f32,
        b: *const f32,
        out: *mut f32,
        stride: usize,
        start: *const f32,
    ) {
        // SAFETY: the caller's promise; the kernels are chosen by what the processor has.
        unsafe { (self.tile)(k, a, b, out, stride, start) }
    }

    /// `sums[3 r + c] += Σ rows[r][p] · columns[c][p]` over `n` pixels.
    ///
    /// # Safety
    /// Every pointer may be read at `n` values.
    #[inline]
    pub unsafe fn dots(
        &self,
        n: usize,
        rows: [*const f32; DOT_ROWS],
        columns: [*const f32; DOT_COLUMNS],
        sums: &mut [f32; 12],
    ) {
        // SAFETY: as above.
        unsafe { (self.dots)(n, rows, columns, sums) }
    }

    /// See [`points::input_rows`].
    #[inline]
    pub fn input_rows(
        &self,
        rows: [Option<&[f32]>; SIDE],
        x: usize,
        lane: usize,
        tiles: usize,
        phases: &mut [[Lane; SIDE]; SIDE],
    ) {
        // SAFETY: the kernels are chosen by what the processor has; nothing else is asked of the caller.
        unsafe { (self.input_rows)(rows, x, lane, tiles, phases) }
    }

    /// See [`points::split`].
    #[inline]
    pub fn split(&self, row: &[f32], lane: usize, tiles: usize, phases: [&mut Lane; TILE]) {
        // SAFETY: as above.
        unsafe { (self.split)(row, lane, tiles, phases) }
    }

    /// See [`points::input`].
    ///
    /// # Safety
    /// As there.
    #[inline]
    pub unsafe fn input_transform(&self, phases: &[[Lane; SIDE]; SIDE], out: *mut f32, stride: usize) {
        // SAFETY: the caller's promise, and as above.
        unsafe { (self.input_transform)(phases, out, stride) }
    }

    /// See [`points::gradient`].
    ///
    /// # Safety
    /// As there.
    #[inline]
    pub unsafe fn gradient_transform(&self, pixels: &[[Lane; TILE]; TILE], out: *mut f32, stride: usize) {
        // SAFETY: as above.
        unsafe { (self.gradient_transform)(pixels, out, stride) }
    }

    /// See [`points::output`].
    #[inline]
    pub fn output_transform(&self, from: &[f32], stride: usize, pixels: &mut [[f32; TILE * LANES]; TILE]) {
        // SAFETY: as above.
        unsafe { (self.output_transform)(from, stride, pixels) }
    }
}

unsafe fn plain_tile(
    k: usize,
    a: *const f32,
    b: *const f32,
    out: *mut f32,
    stride: usize,
    start: *const f32,
) {
    // SAFETY: the lengths are the caller's promise.
    unsafe {
        let mut sums = [[0f32; LANES]; ROWS];
        for (r, row) in sums.iter_mut().enumerate() {
            for (l, sum) in row.iter_mut().enumerate() {
                *sum = if start.is_null() { *out.add(r * stride + l) } else { *start.add(r) };
            }
        }
        for i in 0..k {
            let lanes = &*b.add(i * LANES).cast::<[f32; LANES]>();
            for (r, row) in sums.iter_mut().enumerate() {
                let weight = *a.add(i * ROWS + r);
                for (sum, x) in row.iter_mut().zip(lanes) {
                    *sum += weight * x;
                }
            }
        }
        for (r, row) in sums.iter().enumerate() {
            for (l, sum) in row.iter().enumerate() {
                *out.add(r * stride + l) = *sum;
            }
        }
    }
}

unsafe fn plain_dots(
    n: usize,
    rows: [*const f32; DOT_ROWS],
    columns: [*const f32; DOT_COLUMNS],
    sums: &mut [f32; 12],
) {
    // Eight partial sums, as the vector kernels have them: one long sum in f32 would lose more.
    let mut parts = [[0f32; 8]; 12];
    for p in 0..n {
        for (r, row) in rows.iter().enumerate() {
            // SAFETY: `p` is below `n`, which the caller promises.
            let g = unsafe { *row.add(p) };
            for (c, column) in columns.iter().enumerate() {
                // SAFETY: as above.
                parts[DOT_COLUMNS * r + c][p % 8] += g * unsafe { *column.add(p) };
            }
        }
    }
    for (sum, parts) in sums.iter_mut().zip(parts) {
        *sum += parts.iter().sum::<f32>();
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256, __m256i, _mm_add_ps, _mm_storeu_ps, _mm256_broadcast_ss, _mm256_castps256_ps128,
        _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_hadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
        _mm256_maskload_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    };

    use super::{DOT_COLUMNS, DOT_ROWS, LANES, Lane, ROWS, SIDE, TILE, points};

    #[target_feature(enable = "avx2,fma")]
    pub fn input_rows(
        rows: [Option<&[f32]>; SIDE],
        x: usize,
        lane: usize,
        tiles: usize,
        phases: &mut [[Lane; SIDE]; SIDE],
    ) {
        points::input_rows(rows, x, lane, tiles, phases);
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn split(row: &[f32], lane: usize, tiles: usize, phases: [&mut Lane; TILE]) {
        points::split(row, lane, tiles, phases);
    }

    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn input_transform(phases: &[[Lane; SIDE]; SIDE], out: *mut f32, stride: usize) {
        // SAFETY: the caller's promise.
        unsafe { points::input(phases, out, stride) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn gradient_transform(pixels: &[[Lane; TILE]; TILE], out: *mut f32, stride: usize) {
        // SAFETY: the caller's promise.
        unsafe { points::gradient(pixels, out, stride) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn output_transform(from: &[f32], stride: usize, pixels: &mut [[f32; TILE * LANES]; TILE]) {
        points::output(from, stride, pixels);
    }

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
            let flat: [__m256; 12] = std::array::from_fn(|i| s[i / DOT_COLUMNS][i % DOT_COLUMNS]);
            for (four, sums) in flat.as_chunks::<4>().0.iter().zip(sums.as_chunks_mut::<4>().0) {
                let pairs = [_mm256_hadd_ps(four[0], four[1]), _mm256_hadd_ps(four[2], four[3])];
                let quads = _mm256_hadd_ps(pairs[0], pairs[1]);
                let whole = _mm_add_ps(_mm256_castps256_ps128(quads), _mm256_extractf128_ps(quads, 1));
                let mut out = [0f32; 4];
                _mm_storeu_ps(out.as_mut_ptr(), whole);
                for (sum, x) in sums.iter_mut().zip(out) {
                    *sum += x;
                }
            }
        }
    }
}
