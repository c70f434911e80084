//! The inner loops of a convolution: packed panels flow in, sums of products flow out.
//!
//! Two kernels carry the products of all three passes. [`Kernels::tile`] multiplies a panel of [`ROWS`] output channels
//! by a panel of [`LANES`] pixels (forward, and the input's gradient), [`Kernels::pair`] by two of them.
//! [`Kernels::dots`] takes twelve dot products over pixels at once (the weights' gradient), [`Kernels::double_dots`]
//! twenty-four, for which nothing has to be transposed. Each exists in plain Rust, for AVX2 with FMA and for AVX-512.
//! The transforms of Winograd's algorithm are plain Rust, compiled for each.

/// The transforms of [`super::points`], compiled for some features of a processor.
#[cfg(target_arch = "x86_64")]
macro_rules! transforms {
    ($features:literal) => {
        use super::super::points::{self, Lane, SIDE, TILE};

        #[target_feature(enable = $features)]
        pub fn input_rows(
            rows: [Option<&[f32]>; SIDE],
            x: usize,
            lane: usize,
            tiles: usize,
            phases: &mut [[Lane; SIDE]; SIDE],
        ) {
            points::input_rows(rows, x, lane, tiles, phases);
        }

        #[target_feature(enable = $features)]
        pub fn split(row: &[f32], lane: usize, tiles: usize, phases: [&mut Lane; TILE]) {
            points::split(row, lane, tiles, phases);
        }

        #[target_feature(enable = $features)]
        pub unsafe fn input_transform(phases: &[[Lane; SIDE]; SIDE], out: *mut f32, stride: usize) {
            // SAFETY: the caller's promise.
            unsafe { points::input(phases, out, stride) }
        }

        #[target_feature(enable = $features)]
        pub unsafe fn gradient_transform(pixels: &[[Lane; TILE]; TILE], out: *mut f32, stride: usize) {
            // SAFETY: the caller's promise.
            unsafe { points::gradient(pixels, out, stride) }
        }

        #[target_feature(enable = $features)]
        pub fn output_transform(from: &[f32], stride: usize, pixels: &mut [[f32; TILE * LANES]; TILE]) {
            points::output(from, stride, pixels);
        }
    };
}
#[cfg(target_arch = "x86_64")]
use transforms;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod plain;

pub use super::points::LANES;
use super::points::{Lane, SIDE, TILE};

/// Output channels of a tile.
pub const ROWS: usize = 6;

/// Rows of the output's gradient that one call of [`Kernels::dots`] reads.
pub const DOT_ROWS: usize = 4;
/// Rows of the input that it reads.
pub const DOT_COLUMNS: usize = 3;

/// `k`, panel `[k][ROWS]`, panel `[k][LANES]`, output, its row stride, what to add to each row (null: what is there).
type Tile = unsafe fn(usize, *const f32, *const f32, *mut f32, usize, *const f32);
/// The same for two panels of pixels and two outputs.
type Pair = unsafe fn(usize, *const f32, [*const f32; 2], [*mut f32; 2], usize, *const f32);
/// Number of pixels, rows of the gradient, rows of the input, sums to add to.
type Dots = unsafe fn(usize, [*const f32; DOT_ROWS], [*const f32; DOT_COLUMNS], &mut [f32; 12]);

/// The same for twice as many rows of the gradient.
type DoubleDots =
    unsafe fn(usize, [*const f32; 2 * DOT_ROWS], [*const f32; DOT_COLUMNS], &mut [[f32; 12]; 2]);

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
    /// Where there are registers enough for two tiles, and for twice the rows.
    pair: Option<Pair>,
    double_dots: Option<DoubleDots>,
    input_rows: InputRows,
    split: Split,
    input_transform: InputTransform,
    gradient_transform: GradientTransform,
    output_transform: OutputTransform,
}

/// A set of kernels from a module that has a function for each.
macro_rules! kernels_of {
    ($from:ident) => {
        Kernels {
            tile: $from::tile,
            dots: $from::dots,
            pair: None,
            double_dots: None,
            input_rows: $from::input_rows,
            split: $from::split,
            input_transform: $from::input_transform,
            gradient_transform: $from::gradient_transform,
            output_transform: $from::output_transform,
        }
    };
}

impl Kernels {
    /// The fastest that run here.
    pub fn best() -> Self {
        Self::sets().find_map(|(_, kernels)| kernels).expect("plain Rust runs everywhere")
    }

    /// Every set and what its processor must have, the fastest first; none where this one does not have it. Plain Rust
    /// is the last.
    pub fn sets() -> impl Iterator<Item = (&'static str, Option<Self>)> {
        #[cfg(target_arch = "x86_64")]
        let vectors = {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl");
            let wide = Kernels {
                pair: Some(avx512::pair),
                double_dots: Some(avx512::double_dots),
                ..kernels_of!(avx512)
            };
            [("AVX-512", avx512.then_some(wide)), ("AVX2 with FMA", avx2.then_some(kernels_of!(avx2)))]
        };
        #[cfg(not(target_arch = "x86_64"))]
        let vectors = [("AVX-512", None), ("AVX2 with FMA", None)];
        vectors.into_iter().chain([("plain Rust", Some(kernels_of!(plain)))])
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

    /// Two tiles of the same output channels, each as [`Kernels::tile`].
    ///
    /// # Safety
    /// As there, for both panels of pixels and both outputs, which do not overlap.
    #[inline]
    pub unsafe fn pair(
        &self,
        k: usize,
        a: *const f32,
        b: [*const f32; 2],
        out: [*mut f32; 2],
        stride: usize,
        start: *const f32,
    ) {
        // SAFETY: the caller promises both tiles' lengths, and the kernels are chosen by what the processor has.
        unsafe {
            match self.pair {
                Some(pair) => pair(k, a, b, out, stride, start),
                None => b.into_iter().zip(out).for_each(|(b, out)| self.tile(k, a, b, out, stride, start)),
            }
        }
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
        // SAFETY: the caller promises `n` values behind every pointer, and the kernels are chosen by what the processor
        // has.
        unsafe { (self.dots)(n, rows, columns, sums) }
    }

    /// [`Kernels::dots`] of the first and of the second half of the rows.
    ///
    /// # Safety
    /// As there.
    #[inline]
    pub unsafe fn double_dots(
        &self,
        n: usize,
        rows: [*const f32; 2 * DOT_ROWS],
        columns: [*const f32; DOT_COLUMNS],
        sums: &mut [[f32; 12]; 2],
    ) {
        // SAFETY: the caller promises `n` values behind every pointer, and the kernels are chosen by what the processor
        // has.
        unsafe {
            match self.double_dots {
                Some(dots) => dots(n, rows, columns, sums),
                None => {
                    let halves = rows.as_chunks().0.iter().zip(sums);
                    halves.for_each(|(rows, sums)| self.dots(n, *rows, columns, sums));
                }
            }
        }
    }

    /// See [`super::points::input_rows`].
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

    /// See [`super::points::split`].
    #[inline]
    pub fn split(&self, row: &[f32], lane: usize, tiles: usize, phases: [&mut Lane; TILE]) {
        // SAFETY: the kernels are chosen by what the processor has; nothing else is asked of the caller.
        unsafe { (self.split)(row, lane, tiles, phases) }
    }

    /// See [`super::points::input`].
    ///
    /// # Safety
    /// As there.
    #[inline]
    pub unsafe fn input_transform(&self, phases: &[[Lane; SIDE]; SIDE], out: *mut f32, stride: usize) {
        // SAFETY: the caller promises room for a lane at every point, and the kernels are chosen by what the processor
        // has.
        unsafe { (self.input_transform)(phases, out, stride) }
    }

    /// See [`super::points::gradient`].
    ///
    /// # Safety
    /// As there.
    #[inline]
    pub unsafe fn gradient_transform(&self, pixels: &[[Lane; TILE]; TILE], out: *mut f32, stride: usize) {
        // SAFETY: the caller promises room for a lane at every point, and the kernels are chosen by what the processor
        // has.
        unsafe { (self.gradient_transform)(pixels, out, stride) }
    }

    /// See [`super::points::output`].
    #[inline]
    pub fn output_transform(&self, from: &[f32], stride: usize, pixels: &mut [[f32; TILE * LANES]; TILE]) {
        // SAFETY: the kernels are chosen by what the processor has; nothing else is asked of the caller.
        unsafe { (self.output_transform)(from, stride, pixels) }
    }
}
