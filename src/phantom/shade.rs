//! Light and colour: a row of surfaces and the directions they are seen in go in, a row of colours comes out.
//!
//! The light sits at the scope's tip beside the lens, so brightness falls with the square of the distance, shadows are
//! narrow, and wet mucosa throws the light back wherever its relief faces the scope.

use super::noise::lerp;
use super::raster::{DISTANCE, MATERIAL, NORMAL, OPENNESS, Surface, TEXEL};
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
#[derive(Default)]
pub(crate) struct Row {
    distance: Vec<f32>,
    normal: [Vec<f32>; 3],
    open: Vec<f32>,
    albedo: [Vec<f32>; 3],
    slope: [Vec<f32>; 2],
    wet: Vec<f32>,
}

impl Row {
    pub fn new(width: usize) -> Self {
        let v = || vec![0.0; width];
        Self {
            distance: v(),
            normal: [v(), v(), v()],
            open: v(),
            albedo: [v(), v(), v()],
            slope: [v(), v()],
            wet: v(),
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
#[inline(always)]
pub(crate) fn shade(
    surfaces: &[Surface],
    rays: Rays<'_>,
    materials: &[Material],
    tiles: [&Tile; 2],
    light: Light,
    row: &mut Row,
    out: &mut [u32],
) {
    gather(surfaces, rays, materials, tiles, light, row);
    illuminate(rays, light, row, out);
}

/// Texture and material of every pixel.
#[inline(always)]
fn gather(
    surfaces: &[Surface],
    rays: Rays<'_>,
    materials: &[Material],
    tiles: [&Tile; 2],
    light: Light,
    row: &mut Row,
) {
    let n = surfaces.len();
    let [rx, ry, rz] = rays.map(|r| &r[..n]);
    let distance = &mut row.distance[..n];
    let [nx, ny, nz] = &mut row.normal;
    let (nx, ny, nz) = (&mut nx[..n], &mut ny[..n], &mut nz[..n]);
    let open = &mut row.open[..n];
    let [ar, ag, ab] = &mut row.albedo;
    let (ar, ag, ab) = (&mut ar[..n], &mut ag[..n], &mut ab[..n]);
    let [sx, sy] = &mut row.slope;
    let (sx, sy) = (&mut sx[..n], &mut sy[..n]);
    let wet = &mut row.wet[..n];
    let per_focal = 1.0 / light.focal;
    for x in 0..n {
        let s = &surfaces[x];
        if s[DISTANCE] == f32::INFINITY {
            // Past the end of what is drawn: the dark of the lumen.
            (distance[x], open[x], wet[x]) = (400.0, 0.3, 0.0);
            (nx[x], ny[x], nz[x]) = (-rx[x], -ry[x], -rz[x]);
            (ar[x], ag[x], ab[x], sx[x], sy[x]) = (0.5, 0.3, 0.2, 0.0, 0.0);
            continue;
        }
        let which = s[MATERIAL] as usize;
        let own = s[MATERIAL] - which as f32;
        let m = &materials[which];
        let tile = tiles[usize::from(m.polyp_tile)];
        // Texels a pixel steps over, squared: across the view, and along it by the slant.
        let cosine = -(s[NORMAL] * rx[x] + s[NORMAL + 1] * ry[x] + s[NORMAL + 2] * rz[x]);
        let step = s[DISTANCE] * per_focal * m.texels_per_mm;
        let squared = step * step / cosine.max(0.08) * 1.25;
        let level = (((squared.to_bits() >> 23) as i32 - 127) >> 1).clamp(0, tile.deepest());
        let t = tile.sample(s[TEXEL], s[TEXEL + 1], level);
        let blood = t[0] * (1.0 / 255.0);
        let pallor = t[1] * (1.0 / 255.0);
        let c: [f32; 3] =
            std::array::from_fn(|k| lerp(m.deep[k], m.pale[k], pallor) * (1.0 - blood * (1.0 - m.blood[k])));
        // The foot of an object is still the wall.
        let wall = &materials[0];
        let mixed = if m.polyp_tile {
            std::array::from_fn(|k| lerp(0.46 * (wall.pale[k] + wall.deep[k]), c[k], own))
        } else {
            c
        };
        (distance[x], open[x]) = (s[DISTANCE], s[OPENNESS]);
        (nx[x], ny[x], nz[x]) = (s[NORMAL], s[NORMAL + 1], s[NORMAL + 2]);
        (ar[x], ag[x], ab[x]) = (mixed[0], mixed[1], mixed[2]);
        let relief = m.relief * (1.0 / 127.0);
        (sx[x], sy[x]) = ((t[2] - 128.0) * relief, (t[3] - 128.0) * relief);
        wet[x] = m.wet * ((pallor - 0.38) * 4.0).clamp(0.0, 1.4);
    }
}

/// Lens to light guides in millimetres, in camera coordinates: two beside the lens, as scopes have.
const GUIDES: [[f32; 3]; 2] = [[-2.9, -0.9, 0.0], [2.5, -1.3, 0.0]];

#[inline(always)]
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
            let v = v * (0.5 + 0.55 * v) + shine;
            let byte = (v * 255.0).clamp(0.0, 255.0);
            // Adding 2^23 leaves the rounded integer in the low bits.
            word |= ((byte + 8_388_608.0).to_bits() & 0xff) << (8 * k);
        }
        out[x] = word;
    }
}
