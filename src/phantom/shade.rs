//! Light and colour: a row of surfaces and the directions they are seen in go in, a row of colours comes out.
//!
//! The light sits at the scope's tip beside the lens, so brightness falls with the square of the distance, shadows are
//! narrow, and wet mucosa throws the light back wherever its relief faces the scope.

use super::raster::{DISTANCE, MATERIAL, NORMAL, OPENNESS, Surface, TEXEL};
use super::simd_dispatch::by_cpu;
use super::texture::Tile;

/// How a surface answers light. Colours are linear, per channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Material {
    /// Pale and deep end of the mottling.
    pub pale: [f32; 3],
    pub deep: [f32; 3],
    /// What a large vessel leaves of each channel.
    pub blood: [f32; 3],
    /// Strength of the relief.
    pub relief: f32,
    /// Strength of wet highlights.
    pub wet: f32,
    /// Takes the polyps' tile instead of the wall's.
    pub polyp_tile: bool,
    pub texels_per_mm: f32,
}

/// A row in the making, one value a pixel each, so that the arithmetic runs in vector registers.
pub(crate) struct Row {
    distance: Vec<f32>,
    normal: [Vec<f32>; 3],
    open: Vec<f32>,
    texel: [Vec<f32>; 2],
    own: Vec<f32>,
    /// Texture position in 256ths of the texels of copy `level`.
    place: [Vec<i32>; 2],
    level: Vec<i32>,
    sample: Vec<u32>,
    albedo: [Vec<f32>; 3],
    slope: [Vec<f32>; 2],
    wet: Vec<f32>,
    /// Stretches of one material: first pixel, one past the last, material (`None` where nothing is drawn).
    runs: Vec<(usize, usize, Option<usize>)>,
}

impl Row {
    pub fn new(width: usize) -> Self {
        let v = || vec![0.0; width];
        let i = || vec![0; width];
        Self {
            distance: v(),
            normal: [v(), v(), v()],
            open: v(),
            texel: [v(), v()],
            own: v(),
            place: [i(), i()],
            level: i(),
            sample: vec![0; width],
            albedo: [v(), v(), v()],
            slope: [v(), v()],
            wet: v(),
            runs: Vec::with_capacity(width),
        }
    }
}

/// Light of one frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Light {
    /// Automatic exposure: what the irradiance is multiplied with.
    pub exposure: f32,
    /// Pixels per radian, for the choice of the texture's copy.
    pub focal: f32,
}

/// Rays of a row: the unit directions' x, y and z.
pub(crate) type Rays<'a> = [&'a [f32]; 3];

/// Irradiance on an average surface seen square on, up to exposure: the same figure the exposure is measured with.
#[inline(always)]
pub(crate) fn irradiance(distance: f32, cosine: f32, openness: f32) -> f32 {
    let near = distance + 3.0;
    let direct = (cosine + 0.22).max(0.0) * (1.0 / 1.22) / (near * near);
    // Light thrown about in the tube: falls slower.
    direct * openness + openness * openness * 0.05 / (near * 9.0 + 60.0)
}

/// Colours of a row as 0x00BBGGRR.
pub(crate) fn shade(
    surfaces: &[Surface],
    rays: Rays<'_>,
    materials: &[Material],
    tiles: [&Tile; 2],
    light: Light,
    row: &mut Row,
    out: &mut [u32],
) {
    spread(surfaces, row);
    for k in 0..row.runs.len() {
        let (a, b, which) = row.runs[k];
        match which {
            None => darken(rays, row, a, b),
            Some(which) => {
                let m = &materials[which];
                let tile = tiles[usize::from(m.polyp_tile)];
                locate(rays, m, tile, light, row, a, b);
                sample(tile, row, a, b);
                colour(m, &materials[0], row, a, b);
            }
        }
    }
    illuminate(rays, light, row, out);
}

by_cpu! {
    /// From one record a pixel to one list a quantity, and where the material changes.
    fn spread(surfaces: &[Surface], row: &mut Row) {
        let n = surfaces.len();
        let [nx, ny, nz] = &mut row.normal;
        let [u, v] = &mut row.texel;
        let lists = [&mut row.distance, u, v, nx, ny, nz, &mut row.open, &mut row.own];
        let [distance, u, v, nx, ny, nz, open, own] = lists.map(|l| &mut l[..n]);
        row.runs.clear();
        let mut current = -2;
        let mut start = 0;
        let mut close = |from: usize, to: usize, which: i32| {
            if to > from {
                row.runs.push((from, to, usize::try_from(which).ok()));
            }
        };
        for (x, s) in surfaces.iter().enumerate() {
            distance[x] = s[DISTANCE];
            u[x] = s[TEXEL];
            v[x] = s[TEXEL + 1];
            nx[x] = s[NORMAL];
            ny[x] = s[NORMAL + 1];
            nz[x] = s[NORMAL + 2];
            open[x] = s[OPENNESS];
            own[x] = s[MATERIAL];
            let which = if s[DISTANCE] == f32::INFINITY { -1 } else { s[MATERIAL] as i32 };
            if which != current {
                close(start, x, current);
                (start, current) = (x, which);
            }
        }
        close(start, n, current);
    }
}

/// Past the end of what is drawn: the dark of the lumen.
fn darken(rays: Rays<'_>, row: &mut Row, a: usize, b: usize) {
    row.distance[a..b].fill(400.0);
    row.open[a..b].fill(0.3);
    for (list, v) in [(&mut row.wet, 0.0), (&mut row.own, 0.0)] {
        list[a..b].fill(v);
    }
    for (list, ray) in row.normal.iter_mut().zip(rays) {
        for (n, r) in list[a..b].iter_mut().zip(&ray[a..b]) {
            *n = -r;
        }
    }
    for (list, v) in row.albedo.iter_mut().zip([0.5, 0.3, 0.2]) {
        list[a..b].fill(v);
    }
    row.slope.iter_mut().for_each(|l| l[a..b].fill(0.0));
}

by_cpu! {
    /// Which of the texture's copies a pixel needs, and where in it.
    fn locate(rays: Rays<'_>, m: &Material, tile: &Tile, light: Light, row: &mut Row, a: usize, b: usize) {
        let n = b - a;
        let [rx, ry, rz] = rays.map(|r| &r[a..][..n]);
        let [nx, ny, nz] = [&row.normal[0][a..][..n], &row.normal[1][a..][..n], &row.normal[2][a..][..n]];
        let distance = &row.distance[a..][..n];
        let [u, v] = [&row.texel[0][a..][..n], &row.texel[1][a..][..n]];
        let [px, py] = &mut row.place;
        let (px, py) = (&mut px[a..][..n], &mut py[a..][..n]);
        let level = &mut row.level[a..][..n];
        let step = m.texels_per_mm / light.focal;
        let deepest = tile.deepest();
        for x in 0..n {
            // Texels a pixel steps over, squared: across the view, and along it by the slant.
            let cosine = -(nx[x] * rx[x] + ny[x] * ry[x] + nz[x] * rz[x]);
            let across = distance[x] * step;
            let squared = across * across / cosine.max(0.08) * 2.2;
            let l = (((squared.to_bits() >> 23) as i32 - 127) >> 1).clamp(0, deepest);
            // 2^(8 - level)
            let scale = f32::from_bits(((127 + 8 - l) as u32) << 23);
            level[x] = l;
            px[x] = (u[x] * scale) as i32;
            py[x] = (v[x] * scale) as i32;
        }
    }
}

by_cpu! {
    /// The texture itself: four texels from memory a pixel.
    fn sample(tile: &Tile, row: &mut Row, a: usize, b: usize) {
        let n = b - a;
        let [px, py] = [&row.place[0][a..][..n], &row.place[1][a..][..n]];
        tile.sample(px, py, &row.level[a..][..n], &mut row.sample[a..][..n]);
    }
}

by_cpu! {
    /// From texels to colour, relief and wetness.
    fn colour(m: &Material, wall: &Material, row: &mut Row, a: usize, b: usize) {
        let n = b - a;
        let texel = &row.sample[a..][..n];
        let own = &mut row.own[a..][..n];
        let [red, green, blue] = &mut row.albedo;
        let albedo = [&mut red[a..][..n], &mut green[a..][..n], &mut blue[a..][..n]];
        let [sx, sy] = &mut row.slope;
        let (sx, sy) = (&mut sx[a..][..n], &mut sy[a..][..n]);
        let wet = &mut row.wet[a..][..n];
        let relief = m.relief * (1.0 / 127.0);
        for x in 0..n {
            let t = texel[x];
            sx[x] = ((t >> 16) & 0xff) as i32 as f32 * relief - 128.0 * relief;
            sy[x] = (t >> 24) as i32 as f32 * relief - 128.0 * relief;
            let pallor = ((t >> 8) & 0xff) as i32 as f32 * (1.0 / 255.0);
            wet[x] = m.wet * ((pallor - 0.38) * 4.0).clamp(0.0, 1.4);
        }
        for (k, albedo) in albedo.into_iter().enumerate() {
            let (deep, pale, lost) = (m.deep[k], m.pale[k] - m.deep[k], 1.0 - m.blood[k]);
            for x in 0..n {
                let blood = (texel[x] & 0xff) as i32 as f32 * (1.0 / 255.0);
                let pallor = ((texel[x] >> 8) & 0xff) as i32 as f32 * (1.0 / 255.0);
                albedo[x] = (deep + pale * pallor) * (1.0 - blood * lost);
            }
            if m.polyp_tile {
                // The foot of an object is still the wall.
                let (deep, pale, lost) = (wall.deep[k], wall.pale[k] - wall.deep[k], 1.0 - wall.blood[k]);
                for x in 0..n {
                    let f = own[x] - own[x].floor();
                    let blood = (texel[x] & 0xff) as i32 as f32 * (1.0 / 255.0);
                    let pallor = ((texel[x] >> 8) & 0xff) as i32 as f32 * (1.0 / 255.0);
                    let foot = (deep + pale * pallor) * (1.0 - blood * lost);
                    albedo[x] = foot + (albedo[x] - foot) * f;
                }
            }
        }
    }
}

/// Lens to light guides in millimetres, in camera coordinates: two beside the lens, as scopes have.
const GUIDES: [[f32; 3]; 2] = [[-2.9, -0.9, 0.0], [2.5, -1.3, 0.0]];

by_cpu! {
    fn illuminate(rays: Rays<'_>, light: Light, row: &Row, out: &mut [u32]) {
        let n = out.len();
        let [rx, ry, rz] = rays.map(|r| &r[..n]);
        let distance = &row.distance[..n];
        let [nx, ny, nz] = [&row.normal[0][..n], &row.normal[1][..n], &row.normal[2][..n]];
        let open = &row.open[..n];
        let [ar, ag, ab] = [&row.albedo[0][..n], &row.albedo[1][..n], &row.albedo[2][..n]];
        let [sx, sy] = [&row.slope[0][..n], &row.slope[1][..n]];
        let wet = &row.wet[..n];
        for x in 0..n {
            let r = distance[x];
            let (dx, dy, dz) = (rx[x], ry[x], rz[x]);
            // Two directions across the normal (Duff et al., JCGT 2017, for normals that face the lens).
            let (a, b, c) = (nx[x], ny[x], nz[x]);
            let f = 1.0 / (1.0 - c).max(0.05);
            let g = a * b * f;
            let (u, v) = (sx[x], sy[x]);
            let px = a + u * (1.0 - a * a * f) + v * g;
            let py = b - u * g + v * (b * b * f - 1.0);
            let pz = c + u * a - v * b;
            let l = 1.0 / (px * px + py * py + pz * pz).sqrt();
            let (px, py, pz) = (px * l, py * l, pz * l);
            let mut cosine = 0.0;
            let mut gloss = 0.0f32;
            for guide in GUIDES {
                let (lx, ly, lz) = (guide[0] - dx * r, guide[1] - dy * r, guide[2] - dz * r);
                let inv = 1.0 / (lx * lx + ly * ly + lz * lz).sqrt();
                let (lx, ly, lz) = (lx * inv, ly * inv, lz * inv);
                cosine += 0.5 * (px * lx + py * ly + pz * lz);
                let (hx, hy, hz) = (lx - dx, ly - dy, lz - dz);
                let h = (px * hx + py * hy + pz * hz) / (hx * hx + hy * hy + hz * hz).sqrt();
                let spot = ((h - 0.9935) * (1.0 / 0.0048)).clamp(0.0, 1.0);
                let spot = spot * spot;
                gloss += spot * spot;
            }
            let near = r + 3.0;
            let o = open[x];
            // The lens darkens and the light guides' cone thins towards the border.
            let border = 0.30 + 0.70 * dz.max(0.0);
            let direct = (cosine + 0.22).max(0.0) * (1.0 / 1.22) / (near * near) * o;
            let thrown = o * o * 0.05 / (near * 9.0 + 60.0);
            let e = direct * border * light.exposure;
            let t = thrown * light.exposure;
            // Thrown light has been through blood and comes back red.
            let lin = [ar[x] * (e + t), ag[x] * (e + 0.72 * t), ab[x] * (e + 0.6 * t)];
            let shine = gloss * wet[x] * (0.05 + (e * 2.0).min(1.0));
            let mut word = 0u32;
            for (k, lin) in lin.into_iter().enumerate() {
                // Gamma 2, then a shoulder: the sensor clips, the processor softens it.
                let v = lin.sqrt();
                let over = (v - 0.72).max(0.0);
                let v = v.min(0.72) + over * 0.28 / (over * 0.62 + 0.28);
                // Processors deepen the shadows.
                let v = v * (0.44 + 0.62 * v) + shine;
                let byte = (v * 255.0).clamp(0.0, 255.0);
                // Adding 2^23 leaves the rounded integer in the low bits.
                word |= ((byte + 8_388_608.0).to_bits() & 0xff) << (8 * k);
            }
            out[x] = word;
        }
    }
}
