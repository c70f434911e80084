//! Surfaces seen close: in goes the seed, out come two square tiles that repeat without a seam, the mucosa of the wall
//! (vessel trees, mottling, fine relief) and that of polyps (pits and reddish network), each with its smaller copies.
//!
//! A texel is four bytes: blood (0 none, 255 a large vessel), pallor (128 is the mean), and the slope of the fine relief
//! in two directions (128 is flat, 127 steps are a slope of 1).

use super::noise::{Stream, lerp, sin_cos, smooth_step};

pub(crate) struct Tile {
    /// Side of the largest level, a power of two.
    pub side: usize,
    /// All levels one behind the other, the bytes of a texel from the lowest.
    texels: Vec<u32>,
    /// Where each level begins.
    starts: Vec<usize>,
}

impl Tile {
    fn new(side: usize, top: Vec<[u8; 4]>) -> Self {
        let mut texels: Vec<u32> = Vec::with_capacity(side * side * 4 / 3 + 64);
        texels.extend(top.into_iter().map(u32::from_le_bytes));
        let mut starts = vec![0];
        let mut n = side;
        while n > 8 {
            let above = starts[starts.len() - 1];
            starts.push(texels.len());
            for y in (0..n).step_by(2) {
                for x in (0..n).step_by(2) {
                    let at = above + y * n + x;
                    let p = [texels[at], texels[at + 1], texels[at + n], texels[at + n + 1]].map(u32::to_le_bytes);
                    texels.push(u32::from_le_bytes(std::array::from_fn(|c| {
                        ((p.iter().map(|t| u32::from(t[c])).sum::<u32>() + 2) / 4) as u8
                    })));
                }
            }
            n /= 2;
        }
        Self { side, texels, starts }
    }

    pub fn deepest(&self) -> i32 {
        self.starts.len() as i32 - 1
    }

    /// Bilinear sample of smaller copy number `level` (at most [`Self::deepest`]), at coordinates in 256ths of that copy's
    /// texels, a texel's middle at its half.
    #[inline(always)]
    pub fn sample(&self, x: i32, y: i32, level: usize) -> u32 {
        let n = self.side >> level;
        let texels = &self.texels[self.starts[level]..][..n * n];
        let (x, y) = (x - 128, y - 128);
        let (fx, fy) = ((x & 255) as u32, (y & 255) as u32);
        let mask = n - 1;
        let (x0, y0) = ((x >> 8) as usize & mask, (y >> 8) as usize & mask);
        let (x1, y1) = ((x0 + 1) & mask, (y0 + 1) & mask);
        // SAFETY: `n` is a power of two, coordinates are masked to 0..n, and the slice has n² texels; four more checks a
        // pixel would cost a tenth of a frame.
        let texel = |x: usize, y: usize| unsafe { *texels.get_unchecked(y * n + x) };
        let (a, b, c, d) = (texel(x0, y0), texel(x1, y0), texel(x0, y1), texel(x1, y1));
        // Two bytes at a time in the halves of a word: each product stays below 2^16.
        let mix = |p: u32, q: u32, f: u32| ((p * (256 - f) + q * f) >> 8) & 0x00ff_00ff;
        let even = |p: u32| p & 0x00ff_00ff;
        let odd = |p: u32| (p >> 8) & 0x00ff_00ff;
        let e = mix(mix(even(a), even(b), fx), mix(even(c), even(d), fx), fy);
        let o = mix(mix(odd(a), odd(b), fx), mix(odd(c), odd(d), fx), fy);
        e | (o << 8)
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
    /// Sum of octaves of noise; the first has `cells` cells along the side, each next one twice as many and `fade` as strong.
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
        lerp(
            lerp(v[y0 * n + x0], v[y0 * n + x1], fx),
            lerp(v[y1 * n + x0], v[y1 * n + x1], fx),
            fy,
        )
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
                stamp(blood, n, twig.x, twig.y, twig.width, strength * (0.45 + 0.55 * (twig.width / width).min(1.0)));
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
                byte(34.0 + 62.0 * network[y * n + x] * (0.5 + 0.5 * m) + 30.0 * m),
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

    #[test]
    fn tiles_repeat_and_their_copies_keep_the_mean() {
        let tile = polyp(3);
        for i in 0..200 {
            let (u, v) = (i * 1873 + 256_000, i * 797 + 180_000);
            for level in 0..=tile.deepest() as usize {
                let n = (tile.side >> level) as i32 * 256;
                assert_eq!(tile.sample(u, v, level), tile.sample(u + 2 * n, v - n, level), "level {level}");
            }
        }
        let blood = |texels: &[u32]| texels.iter().map(|t| f64::from(t & 0xff)).sum::<f64>() / texels.len() as f64;
        let (top, last) = (&tile.texels[..tile.starts[1]], &tile.texels[tile.starts[tile.starts.len() - 1]..]);
        assert!((blood(top) - blood(last)).abs() < 2.0);
        assert!(top.iter().any(|t| t & 0xff > 120) && top.iter().any(|t| t & 0xff < 40), "pits must show");
    }

    #[test]
    fn a_sample_lies_between_its_neighbours() {
        let tile = Tile::new(16, (0..256).map(|k| [(k % 16) as u8 * 10, (k / 16) as u8 * 10, 7, 255]).collect());
        // The middle of texel 3, 5; and a quarter of the way to the next in both directions.
        assert_eq!(tile.sample(3 * 256 + 128, 5 * 256 + 128, 0).to_le_bytes(), [30, 50, 7, 255]);
        let t = tile.sample(3 * 256 + 192, 5 * 256 + 192, 0).to_le_bytes();
        assert!((i32::from(t[0]) - 32).abs() <= 1 && (i32::from(t[1]) - 52).abs() <= 1, "{t:?}");
    }

    #[test]
    fn the_wall_has_vessels_and_plain_mucosa() {
        let tile = wall(5);
        let top = &tile.texels[..tile.starts[1]];
        let red = top.iter().filter(|t| *t & 0xff > 110).count() as f64 / top.len() as f64;
        assert!((0.01..0.25).contains(&red), "{red}");
    }
}
