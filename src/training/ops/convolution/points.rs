//! The transforms of Winograd's F(4x4, 3x3): pixels of sixteen tiles flow in, their 36 points flow out, and back.
//!
//! Plain Rust that is compiled once for any processor and once for AVX2, and gives the same bits: the
//! kernels call it. Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, arXiv
//! 1509.09308.

/// Values that all kernels work on at once.
pub const LANES: usize = 16;

/// Output pixels of a tile along each axis, and pixels under it.
pub const TILE: usize = 4;
pub const SIDE: usize = TILE + 2;
pub const POINTS: usize = SIDE * SIDE;

/// One value of each tile of a strip.
pub type Lane = [f32; LANES];

/// `G g Gᵀ`
pub fn kernel_points(taps: &[f32; 9]) -> [f32; POINTS] {
    let axis = |g: [f32; 3]| {
        let (even, odd) = (g[0] + g[2], g[1]);
        let (far, half) = (g[0] + 4.0 * g[2], 2.0 * g[1]);
        [g[0] / 4.0, -(even + odd) / 6.0, -(even - odd) / 6.0, (far + half) / 24.0, (far - half) / 24.0, g[2]]
    };
    let columns: [[f32; SIDE]; 3] = std::array::from_fn(|x| axis([taps[x], taps[3 + x], taps[6 + x]]));
    let mut out = [0f32; POINTS];
    for y in 0..SIDE {
        out[y * SIDE..][..SIDE].copy_from_slice(&axis([columns[0][y], columns[1][y], columns[2][y]]));
    }
    out
}

/// `Gᵀ m G`: the adjoint of [`kernel_points`].
pub fn kernel_taps(points: &[f32; POINTS]) -> [f32; 9] {
    let axis = |m: [f32; SIDE]| {
        let (even, odd) = (m[1] + m[2], m[1] - m[2]);
        let (far, half) = (m[3] + m[4], m[3] - m[4]);
        [m[0] / 4.0 - even / 6.0 + far / 24.0, half / 12.0 - odd / 6.0, far / 6.0 - even / 6.0 + m[5]]
    };
    let rows: [[f32; 3]; SIDE] = std::array::from_fn(|y| axis(std::array::from_fn(|x| points[y * SIDE + x])));
    let mut out = [0f32; 9];
    for x in 0..3 {
        let column = axis(std::array::from_fn(|y| rows[y][x]));
        (out[x], out[3 + x], out[6 + x]) = (column[0], column[1], column[2]);
    }
    out
}

#[inline(always)]
fn map<const N: usize, const M: usize>(of: [&Lane; N], f: impl Fn([f32; N]) -> [f32; M]) -> [Lane; M] {
    let mut out = [[0f32; LANES]; M];
    for l in 0..LANES {
        let values = f(std::array::from_fn(|i| of[i][l]));
        for (out, v) in out.iter_mut().zip(values) {
            out[l] = v;
        }
    }
    out
}

/// `Bᵀ d`
#[inline(always)]
fn input_axis(d: [f32; SIDE]) -> [f32; SIDE] {
    let (even, odd) = (d[4] - 4.0 * d[2], d[3] - 4.0 * d[1]);
    let (near, twice) = (d[4] - d[2], 2.0 * (d[3] - d[1]));
    [
        4.0 * d[0] - 5.0 * d[2] + d[4],
        even + odd,
        even - odd,
        near + twice,
        near - twice,
        4.0 * d[1] - 5.0 * d[3] + d[5],
    ]
}

/// `Aᵀ m`
#[inline(always)]
fn output_axis(m: [f32; SIDE]) -> [f32; TILE] {
    let (even, odd) = (m[1] + m[2], m[1] - m[2]);
    let (far, half) = (m[3] + m[4], m[3] - m[4]);
    [m[0] + even + far, odd + 2.0 * half, even + 4.0 * far, odd + 8.0 * half + m[5]]
}

/// `A y`
#[inline(always)]
fn gradient_axis(y: [f32; TILE]) -> [f32; SIDE] {
    let (even, odd) = (y[0] + y[2], y[1] + y[3]);
    let (far, half) = (y[0] + 4.0 * y[2], 2.0 * y[1] + 8.0 * y[3]);
    [y[0], even + odd, even - odd, far + half, far - half, y[3]]
}

/// Splits `4 · tiles` pixels of a row into its four phases; pixels behind its end are zero.
#[inline(always)]
pub fn split(row: &[f32], lane: usize, tiles: usize, phases: [&mut Lane; TILE]) {
    let [p0, p1, p2, p3] = phases;
    let whole = tiles.min(row.len() / TILE);
    for (i, four) in row.as_chunks::<TILE>().0[..whole].iter().enumerate() {
        p0[lane + i] = four[0];
        p1[lane + i] = four[1];
        p2[lane + i] = four[2];
        p3[lane + i] = four[3];
    }
    if whole < tiles {
        for (phase, v) in [p0, p1, p2].into_iter().zip(&row[whole * TILE..]) {
            phase[lane + whole] = *v;
        }
    }
}

/// Puts the pixels under `tiles` tiles into their lanes: `phases[row][column of the tile][lane]`. The first tile's
/// output begins at column `x`; its pixels one before that.
#[inline(always)]
pub fn input_rows(
    rows: [Option<&[f32]>; SIDE],
    x: usize,
    lane: usize,
    tiles: usize,
    phases: &mut [[Lane; SIDE]; SIDE],
) {
    for (row, phases) in rows.into_iter().zip(phases) {
        let Some(row) = row else { continue };
        let [p0, p1, p2, p3, p4, p5] = phases;
        // Columns x .. x + 4 tiles are the phases 1, 2, 3 and 4; the last of a tile is the next one's first.
        split(&row[x..], lane, tiles, [&mut *p1, &mut *p2, &mut *p3, &mut *p4]);
        let end = lane + tiles;
        p0[lane] = if x > 0 { row[x - 1] } else { 0.0 };
        p0[lane + 1..end].copy_from_slice(&p4[lane..end - 1]);
        p5[lane..end - 1].copy_from_slice(&p1[lane + 1..end]);
        p5[end - 1] = row.get(x + tiles * TILE).copied().unwrap_or(0.0);
    }
}

/// One axis after the other, point by point to `out[point · stride..]`.
///
/// # Safety
/// A lane may be written at each of them.
#[inline(always)]
unsafe fn to_points<const N: usize>(
    pixels: &[[Lane; N]; N],
    axis: impl Fn([f32; N]) -> [f32; SIDE] + Copy,
    out: *mut f32,
    stride: usize,
) {
    let mut half = [[[0f32; LANES]; N]; SIDE];
    for x in 0..N {
        let column = map(std::array::from_fn(|y| &pixels[y][x]), axis);
        for y in 0..SIDE {
            half[y][x] = column[y];
        }
    }
    for (y, row) in half.iter().enumerate() {
        let points = map(std::array::from_fn(|x| &row[x]), axis);
        for (x, point) in points.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { *out.add((y * SIDE + x) * stride).cast::<Lane>() = *point };
        }
    }
}

/// `Bᵀ d B`
///
/// # Safety
/// As [`to_points`].
#[inline(always)]
pub unsafe fn input(phases: &[[Lane; SIDE]; SIDE], out: *mut f32, stride: usize) {
    // SAFETY: the caller's promise.
    unsafe { to_points(phases, input_axis, out, stride) }
}

/// `A y Aᵀ`
///
/// # Safety
/// As [`to_points`].
#[inline(always)]
pub unsafe fn gradient(pixels: &[[Lane; TILE]; TILE], out: *mut f32, stride: usize) {
    // SAFETY: the caller's promise.
    unsafe { to_points(pixels, gradient_axis, out, stride) }
}

/// `Aᵀ m A` of the points at `from[point · stride..]`: rows of pixels, the tiles beside each other.
#[inline(always)]
pub fn output(from: &[f32], stride: usize, pixels: &mut [[f32; TILE * LANES]; TILE]) {
    let mut half = [[[0f32; LANES]; SIDE]; TILE];
    for x in 0..SIDE {
        let points: [&Lane; SIDE] = std::array::from_fn(|y| {
            from[(y * SIDE + x) * stride..].first_chunk().expect("a lane of every point")
        });
        let column = map(points, output_axis);
        for y in 0..TILE {
            half[y][x] = column[y];
        }
    }
    for (row, pixels) in half.iter().zip(pixels) {
        let [a, b, c, d] = map(std::array::from_fn(|x| &row[x]), output_axis);
        for (l, four) in pixels.as_chunks_mut::<TILE>().0.iter_mut().enumerate() {
            *four = [a[l], b[l], c[l], d[l]];
        }
    }
}
