//! Surfaces seen close: in goes the seed, out come two square tiles that repeat without a seam, the mucosa of the wall
//! (vessel trees, mottling, fine relief) and that of polyps (pits and reddish network), each with its smaller copies.
//!
//! A texel is four bytes: blood (0 none, 255 a large vessel), pallor (128 is the mean), and the slope of the fine
//! relief in two directions (128 is flat, 127 steps are a slope of 1).

use super::noise::{Stream, lerp, sin_cos, smooth_step};

pub(crate) struct Tile {
    /// Side of the largest level, a power of two.
    pub side: usize,
    /// All levels one behind the other, the bytes of a texel from the lowest.
    texels: Vec<u32>,
    levels: usize,
}

impl Tile {
    fn new(side: usize, top: Vec<[u8; 4]>) -> Self {
        let mut texels: Vec<u32> = Vec::with_capacity(side * side * 4 / 3 + 64);
        texels.extend(top.into_iter().map(u32::from_le_bytes));
        let (mut n, mut above, mut levels) = (side, 0, 1);
        while n > 8 {
            for y in (0..n).step_by(2) {
                for x in (0..n).step_by(2) {
                    let at = above + y * n + x;
                    let p = [texels[at], texels[at + 1], texels[at + n], texels[at + n + 1]]
                        .map(u32::to_le_bytes);
                    texels.push(u32::from_le_bytes(std::array::from_fn(|c| {
                        ((p.iter().map(|t| u32::from(t[c])).sum::<u32>() + 2) / 4) as u8
                    })));
                }
            }
            above += n * n;
            n /= 2;
            levels += 1;
        }
        Self { side, texels, levels }
    }

    pub fn deepest(&self) -> i32 {
        self.levels as i32 - 1
    }

    /// Bilinear samples: of smaller copy number `level` (0 to [`Self::deepest`]), at coordinates in 256ths of that
    /// copy's texels, a texel's middle at its half. The slices are equally long.
    #[inline(always)]
    pub fn sample(&self, x: &[i32], y: &[i32], level: &[i32], out: &mut [u32]) {
        const PIECE: usize = 128;
        let whole = (self.side * self.side) as u32;
        let bits = self.side.trailing_zeros();
        let deepest = self.deepest() as u32;
        let texels = self.texels.as_slice();
        let pieces = x.chunks(PIECE).zip(y.chunks(PIECE)).zip(level.chunks(PIECE)).zip(out.chunks_mut(PIECE));
        let mut at = [[0u32; PIECE]; 4];
        let mut share = [[0u32; PIECE]; 2];
        for (((x, y), level), out) in pieces {
            let n = out.len();
            let (x, y, level) = (&x[..n], &y[..n], &level[..n]);
            for k in 0..n {
                let l = (level[k] as u32).min(deepest);
                let width = 1u32 << (bits - l);
                let mask = width - 1;
                // Levels 0 to l - 1 have 4/3 (whole - width²) texels; dividing by 3 is multiplying by its inverse
                // modulo 2^32.
                let start = (whole - width * width).wrapping_mul(0xaaaa_aaab) * 4;
                let (px, py) = (x[k] - 128, y[k] - 128);
                (share[0][k], share[1][k]) = ((px & 255) as u32, (py & 255) as u32);
                let (x0, y0) = ((px >> 8) as u32 & mask, (py >> 8) as u32 & mask);
                let (x1, y1) = ((x0 + 1) & mask, (y0 + 1) & mask);
                let (top, low) = (start + y0 * width, start + y1 * width);
                at[0][k] = top + x0;
                at[1][k] = top + x1;
                at[2][k] = low + x0;
                at[3][k] = low + x1;
            }
            for list in &mut at {
                for a in &mut list[..n] {
                    // SAFETY: the level is at most the deepest, coordinates are masked to its width: the index lies in
                    // it. Checks would keep the loop from the processor's gather instruction and cost a tenth of a
                    // frame.
                    *a = unsafe { *texels.get_unchecked(*a as usize) };
                }
            }
            // Two bytes at a time in the halves of a word: each product stays below 2^16.
            let mix = |p: u32, q: u32, f: u32| ((p * (256 - f) + q * f) >> 8) & 0x00ff_00ff;
            let even = |p: u32| p & 0x00ff_00ff;
            let odd = |p: u32| (p >> 8) & 0x00ff_00ff;
            let [a, b, c, d] = &at;
            for k in 0..n {
                let (fx, fy) = (share[0][k], share[1][k]);
                let (a, b, c, d) = (a[k], b[k], c[k], d[k]);
                let e = mix(mix(even(a), even(b), fx), mix(even(c), even(d), fx), fy);
                let o = mix(mix(odd(a), odd(b), fx), mix(odd(c), odd(d), fx), fy);
                out[k] = e | (o << 8);
            }
        }
    }
}

/// Side of the wall's tile: around the colon and as far along it.
pub(crate) const WALL_SIDE: usize = 2048;
/// Side of the polyps' tile.
pub(crate) const POLYP_SIDE: usize = 512;
/// Texels per millimetre on a polyp.
pub(crate) const POLYP_TEXELS: f32 = 18.0;

/// A scalar field of `side`² values that repeats.
struct Field {
    side: usize,
    values: Vec<f32>,
}

impl Field {
    /// Sum of octaves of noise; the first has `cells` cells along the side, each next one twice as many and `fade` as
    /// strong.
    fn noise(side: usize, stream: Stream, cells: u32, octaves: u32, fade: f32) -> Self {
        let mut values = vec![0.0; side * side];
        let (mut n, mut strength) = (cells, 1.0);
        for octave in 0..octaves {
            let s = stream.child(u64::from(octave));
            let step = n as f32 / side as f32;
            for (y, row) in values.chunks_exact_mut(side).enumerate() {
                for (x, v) in row.iter_mut().enumerate() {
                    *v += strength * s.plane(x as f32 * step, y as f32 * step, n, n);
                }
            }
            n *= 2;
            strength *= fade;
        }
        Self { side, values }
    }

    /// Bilinear value at a position of a field `of` texels wide.
    fn at(&self, x: usize, y: usize, of: usize) -> f32 {
        let n = self.side;
        let k = of / n;
        let (x0, y0) = (x / k, y / k);
        let (fx, fy) = ((x % k) as f32 / k as f32, (y % k) as f32 / k as f32);
        let (x1, y1) = ((x0 + 1) % n, (y0 + 1) % n);
        let v = &self.values;
        lerp(lerp(v[y0 * n + x0], v[y0 * n + x1], fx), lerp(v[y1 * n + x0], v[y1 * n + x1], fx), fy)
    }
}

fn byte(v: f32) -> u8 {
    (v + 0.5).clamp(0.0, 255.0) as u8
}

/// Mucosa of the wall: submucosal vessels branch from trunks of 0.6 mm to twigs of 0.1 mm.
pub(crate) fn wall(seed: u64) -> Tile {
    let n = WALL_SIDE;
    let mut blood = vec![0u8; n * n];
    // Deep trunks are broad and pale, those near the surface thin and red.
    grow_vessels(&mut blood, n, Stream::new(seed, "deep vessels"), 26, 7.5, 0.34);
    grow_vessels(&mut blood, n, Stream::new(seed, "vessels"), 90, 4.4, 0.8);
    let density = Field::noise(128, Stream::new(seed, "vessel density"), 8, 2, 0.5);
    let mottle = Field::noise(512, Stream::new(seed, "mottle"), 8, 5, 0.62);
    let capillaries = Field::noise(1024, Stream::new(seed, "capillaries"), 128, 3, 0.8);
    let relief = Field::noise(1024, Stream::new(seed, "relief"), 64, 4, 0.42);
    let at = |x: usize, y: usize| relief.at(x & (n - 1), y & (n - 1), n);
    let mut top = Vec::with_capacity(n * n);
    for y in 0..n {
        for x in 0..n {
            let vessels = f32::from(blood[y * n + x]) * (0.62 + 0.75 * density.at(x, y, n)).clamp(0.12, 1.0);
            let fine = (capillaries.at(x, y, n) - 0.25).max(0.0) * 46.0;
            let slope = |a: f32, b: f32| 128.0 + (a - b) * 300.0;
            top.push([
                byte(vessels + fine),
                byte(128.0 + 62.0 * mottle.at(x, y, n)),
                byte(slope(at(x + 2, y), at(x + n - 2, y))),
                byte(slope(at(x, y + 2), at(x, y + n - 2))),
            ]);
        }
    }
    Tile::new(n, top)
}

/// Draws `count` trees; `width` is the trunk's half width in texels, `strength` its darkness.
fn grow_vessels(blood: &mut [u8], n: usize, stream: Stream, count: u64, width: f32, strength: f32) {
    struct Twig {
        x: f32,
        y: f32,
        heading: f32,
        width: f32,
        depth: u32,
    }
    let mut pending = Vec::new();
    for tree in 0..count {
        let s = stream.child(tree);
        let mut draws = 0;
        let mut draw = || {
            draws += 1;
            s.unit(draws)
        };
        pending.push(Twig {
            x: draw() * n as f32,
            y: draw() * n as f32,
            heading: draw(),
            width: width * (0.45 + 0.55 * draw()),
            depth: 0,
        });
        while let Some(mut twig) = pending.pop() {
            let reach = (55.0 + 130.0 * draw()) * (0.6 + twig.width * 0.3);
            let mut gone = 0.0;
            let mut turn = 0.0;
            while gone < reach && twig.width > 0.75 {
                stamp(
                    blood,
                    n,
                    twig.x,
                    twig.y,
                    twig.width,
                    strength * (0.45 + 0.55 * (twig.width / width).min(1.0)),
                );
                let step = (twig.width * 0.5).max(0.9);
                turn = turn * 0.86 + (draw() - 0.5) * 0.009;
                twig.heading += turn * step / (0.6 + 0.25 * twig.width);
                let (sin, cos) = sin_cos(f64::from(twig.heading));
                twig.x += cos as f32 * step;
                twig.y += sin as f32 * step;
                twig.width *= 1.0 - 0.0011 * step;
                gone += step;
            }
            if twig.width > 0.95 && twig.depth < 7 {
                let side = if draw() < 0.5 { 1.0 } else { -1.0 };
                let (major, minor) = (0.93, 0.58 + 0.25 * draw());
                for (share, angle) in [(major, -side * 0.045), (minor, side * (0.075 + 0.09 * draw()))] {
                    pending.push(Twig {
                        heading: twig.heading + angle,
                        width: twig.width * share,
                        depth: twig.depth + 1,
                        ..twig
                    });
                }
            }
        }
    }
}

/// One soft disc of blood.
fn stamp(blood: &mut [u8], n: usize, x: f32, y: f32, half_width: f32, strength: f32) {
    let reach = half_width + 1.5;
    let (x0, x1) = ((x - reach).floor() as i32, (x + reach).ceil() as i32);
    let (y0, y1) = ((y - reach).floor() as i32, (y + reach).ceil() as i32);
    let wrap = n as i32 - 1;
    for py in y0..=y1 {
        for px in x0..=x1 {
            let (dx, dy) = (px as f32 - x, py as f32 - y);
            let d = (dx * dx + dy * dy).sqrt();
            let v = strength * smooth_step(half_width + 1.2, half_width * 0.35 - 0.4, d) * 255.0;
            let cell = &mut blood[(py & wrap) as usize * n + (px & wrap) as usize];
            *cell = (*cell).max(v as u8);
        }
    }
}

/// Mucosa of polyps: round pits half a millimetre apart with a red network between, paler patches, coarser relief.
pub(crate) fn polyp(seed: u64) -> Tile {
    let n = POLYP_SIDE;
    let stream = Stream::new(seed, "pits");
    let cells = 48;
    let warp_x = Field::noise(128, Stream::new(seed, "pit warp x"), 8, 3, 0.6);
    let warp_y = Field::noise(128, Stream::new(seed, "pit warp y"), 8, 3, 0.6);
    let mottle = Field::noise(256, Stream::new(seed, "polyp mottle"), 4, 5, 0.7);
    let bumps = Field::noise(256, Stream::new(seed, "polyp relief"), 16, 3, 0.6);
    // Distance to the nearest and the second nearest of one random point a cell (Worley, SIGGRAPH 1996).
    let mut network = vec![0.0f32; n * n];
    let mut height = vec![0.0f32; n * n];
    for y in 0..n {
        for x in 0..n {
            let px = (x as f32) * cells as f32 / n as f32 + 1.1 * warp_x.at(x, y, n);
            let py = (y as f32) * cells as f32 / n as f32 + 1.1 * warp_y.at(x, y, n);
            let (cx, cy) = (px.floor() as i32, py.floor() as i32);
            let (mut first, mut second) = (9.0f32, 9.0f32);
            for gy in cy - 1..=cy + 1 {
                for gx in cx - 1..=cx + 1 {
                    let key = (gx.rem_euclid(cells) + gy.rem_euclid(cells) * cells) as u64;
                    let dx = gx as f32 + 0.15 + 0.7 * stream.unit(2 * key) - px;
                    let dy = gy as f32 + 0.15 + 0.7 * stream.unit(2 * key + 1) - py;
                    let d = (dx * dx + dy * dy).sqrt();
                    second = second.min(d.max(first));
                    first = first.min(d);
                }
            }
            network[y * n + x] = smooth_step(0.38, 0.0, second - first);
            height[y * n + x] = smooth_step(0.0, 0.5, second - first) * 0.10 + bumps.at(x, y, n) * 0.55;
        }
    }
    let mut top = Vec::with_capacity(n * n);
    for y in 0..n {
        for x in 0..n {
            let h = |x: usize, y: usize| height[(y & (n - 1)) * n + (x & (n - 1))];
            let m = mottle.at(x, y, n);
            top.push([
                byte(34.0 + 84.0 * network[y * n + x] * (0.5 + 0.5 * m) + 42.0 * m),
                byte(128.0 + 70.0 * m),
                byte(128.0 + 190.0 * (h(x + 1, y) - h(x + n - 1, y))),
                byte(128.0 + 190.0 * (h(x, y + 1) - h(x, y + n - 1))),
            ]);
        }
    }
    Tile::new(n, top)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One sample, written as plainly as can be.
    fn plain(tile: &Tile, x: i32, y: i32, level: usize) -> [u8; 4] {
        let n = (tile.side >> level) as i32;
        let start: usize = (0..level).map(|l| (tile.side >> l) * (tile.side >> l)).sum();
        let (fx, fy) = ((x - 128).rem_euclid(256) as u32, (y - 128).rem_euclid(256) as u32);
        let (x, y) = ((x - 128).div_euclid(256), (y - 128).div_euclid(256));
        let texel = |x: i32, y: i32| {
            tile.texels[start + (y.rem_euclid(n) * n + x.rem_euclid(n)) as usize].to_le_bytes().map(u32::from)
        };
        let (a, b, c, d) = (texel(x, y), texel(x + 1, y), texel(x, y + 1), texel(x + 1, y + 1));
        let mix = |p: u32, q: u32, f: u32| (p * (256 - f) + q * f) >> 8;
        std::array::from_fn(|k| mix(mix(a[k], b[k], fx), mix(c[k], d[k], fx), fy) as u8)
    }

    #[test]
    fn samples_equal_the_plain_reference_everywhere() {
        let tile = polyp(3);
        let s = Stream::new(1, "places");
        let n = 1000;
        let place = |k: u64| (0..n).map(|i| (s.bits(2 * i + k) as i32) >> 8).collect::<Vec<i32>>();
        let (x, y) = (place(0), place(1));
        let level: Vec<i32> =
            (0..n).map(|i| (s.bits(90_000 + i) % (tile.deepest() as u64 + 1)) as i32).collect();
        let mut out = vec![0; n as usize];
        tile.sample(&x, &y, &level, &mut out);
        for k in 0..n as usize {
            assert_eq!(out[k].to_le_bytes(), plain(&tile, x[k], y[k], level[k] as usize), "sample {k}");
        }
        // A level that is not there is the deepest.
        let mut one = [0];
        tile.sample(&[5], &[7], &[99], &mut one);
        assert_eq!(one[0].to_le_bytes(), plain(&tile, 5, 7, tile.deepest() as usize));
    }

    #[test]
    fn smaller_copies_keep_the_mean() {
        let tile = polyp(3);
        let blood =
            |texels: &[u32]| texels.iter().map(|t| f64::from(t & 0xff)).sum::<f64>() / texels.len() as f64;
        let (top, last) = (&tile.texels[..tile.side * tile.side], &tile.texels[tile.texels.len() - 64..]);
        assert!((blood(top) - blood(last)).abs() < 2.0);
        assert!(top.iter().any(|t| t & 0xff > 90) && top.iter().any(|t| t & 0xff < 30), "pits must show");
    }

    #[test]
    fn the_wall_has_vessels_and_plain_mucosa() {
        let tile = wall(5);
        let top = &tile.texels[..tile.side * tile.side];
        let red = top.iter().filter(|t| *t & 0xff > 110).count() as f64 / top.len() as f64;
        assert!((0.01..0.25).contains(&red), "{red}");
    }
}
