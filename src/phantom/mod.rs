//! A colon that does not exist: [`Settings`] go in, frames of a colonoscopy come out ([`Phantom::render`]), each with its
//! [`Truth`]: the mask of every polyp and the motion since the frame before.
//!
//! ```text
//! settings ─▶ path (where the scope goes) ─▶ colon, lesion (what is there) ─▶ texture
//!                    │ pose of a frame                │ vertices
//!                    └──────────▶ raster ◀────────────┘
//!                                   │ surface, normal, texel of every pixel
//!                                 shade ─▶ processor (blur, grain, text) ─▶ RGB
//!                                   └────▶ truth
//! ```
//!
//! A frame depends on the settings and its number alone, not on frames rendered before, nor on the number of threads. The
//! same settings give the same bytes on every machine whose `f32` and `f64` are IEEE 754 (x86-64, AArch64): nothing but
//! `+ - * /` and square roots is used, in a fixed order, without contraction to fused operations.
//!
//! What it is: a stand-in for demonstrations and for measuring things real recordings have no truth for. What it is not: a
//! substitute for patients' data in training or in any statement about clinical performance.

mod colon;
mod lesion;
mod noise;
mod path;
mod processor;
mod raster;
mod settings;
mod shade;
mod space;
mod texture;
mod truth;

use std::sync::Mutex;

use rayon::prelude::*;

use self::colon::{COLUMNS, Colon};
use self::lesion::{OBJECT_COLUMNS, OBJECT_ROWS, Object, Shape};
use self::noise::Stream;
use self::path::{AHEAD, Plan};
use self::processor::{Field, Grain};
use self::raster::{
    Bands, DISTANCE, MATERIAL, NORMAL, NOTHING, OPENNESS, Projected, Span, Surface, Triangle,
};
use self::shade::{Light, Material, Row};
use self::space::{Pose, Vec3, dot, length, scale, sub};
use self::texture::{POLYP_TEXELS, Tile};
use crate::{Error, Result};

pub use self::settings::{MAX_FRAMES, MAX_SIDE, MIN_SIDE, Preset, Rate, Settings, View};
pub use self::truth::{STILL, Truth, TruthWriter, VisiblePolyp};

/// Rows rendered at a time: their surfaces fit a core's second-level cache.
const BAND: u32 = 16;

/// A phantom ready to render; build once, ask for any frame.
pub struct Phantom {
    settings: Settings,
    plan: Plan,
    scene: Scene,
    field: Field,
    /// Unit direction of every pixel, x, y and z apart.
    rays: [Vec<f32>; 3],
    grain: Grain,
    pool: Option<rayon::ThreadPool>,
    // Everything below is scratch, kept so that a frame allocates nothing.
    projected: Vec<Projected>,
    bands: Bands,
    gauge: Gauge,
    picture: Vec<u32>,
    smeared: Vec<u32>,
    fits: Vec<Fit>,
    workers: Vec<Mutex<Worker>>,
}

/// All that is the same in every frame.
struct Scene {
    colon: Colon,
    objects: Vec<Object>,
    /// Middles of the polyps and their distances along: what the scope looks at and keeps clear of.
    gaze: Vec<(Vec3, f32)>,
    /// 0 the wall; 2k + 1 and 2k + 2 the foot and the body of object k.
    materials: Vec<Material>,
    /// Polyp id of every material.
    ids: Vec<u8>,
    tiles: [Tile; 2],
}

/// What one thread needs for a band.
struct Worker {
    surfaces: Vec<Surface>,
    row: Row,
    soft: Vec<[u32; 2]>,
}

/// The low-resolution look at a frame by which the exposure is set.
struct Gauge {
    width: usize,
    spans: Vec<Span>,
    vertices: Vec<Projected>,
    triangles: Vec<Triangle>,
    pixels: Vec<Surface>,
    samples: Vec<f32>,
}

/// Sums of a least-squares fit of an affine map, about the middle of the frame.
#[derive(Clone, Copy, Default)]
struct Fit {
    /// Σ of 1, x, y, xx, xy, yy of the points before.
    from: [f64; 6],
    /// Σ of x', x'x, x'y and y', y'x, y'y.
    to: [[f64; 3]; 2],
}

impl Fit {
    fn add(&mut self, x: f64, y: f64, now: [f64; 2]) {
        for (sum, v) in self.from.iter_mut().zip([1.0, x, y, x * x, x * y, y * y]) {
            *sum += v;
        }
        for (sums, v) in self.to.iter_mut().zip(now) {
            for (sum, f) in sums.iter_mut().zip([1.0, x, y]) {
                *sum += v * f;
            }
        }
    }

    fn merge(&mut self, other: &Fit) {
        for (a, b) in self.from.iter_mut().zip(other.from) {
            *a += b;
        }
        for (a, b) in self.to.iter_mut().flatten().zip(other.to.iter().flatten()) {
            *a += b;
        }
    }

    /// The map, for coordinates with the origin `cx`, `cy` away; `None` if the points do not determine one.
    fn solve(&self, cx: f64, cy: f64) -> Option<[f64; 6]> {
        let [n, x, y, xx, xy, yy] = self.from;
        if n < 12.0 {
            return None;
        }
        // Inverse of the symmetric matrix [[n, x, y], [x, xx, xy], [y, xy, yy]] by cofactors.
        let c = [
            [xx * yy - xy * xy, xy * y - x * yy, x * xy - xx * y],
            [xy * y - x * yy, n * yy - y * y, x * y - n * xy],
            [x * xy - xx * y, x * y - n * xy, n * xx - x * x],
        ];
        let det = n * c[0][0] + x * c[0][1] + y * c[0][2];
        if det.abs() < 1e-9 * n * n * n {
            return None;
        }
        let mut m = [0.0; 6];
        for (row, t) in self.to.iter().enumerate() {
            let p: [f64; 3] =
                std::array::from_fn(|k| (c[k][0] * t[0] + c[k][1] * t[1] + c[k][2] * t[2]) / det);
            m[3 * row] = p[1];
            m[3 * row + 1] = p[2];
            m[3 * row + 2] = p[0];
        }
        m[2] += cx - m[0] * cx - m[1] * cy;
        m[5] += cy - m[3] * cx - m[4] * cy;
        Some(m)
    }
}

impl Phantom {
    /// Builds the colon: a second of work and some 50 MB, more for 4K frames.
    ///
    /// Fails with the sentence of [`Settings::validate`], or if the threads cannot be started.
    pub fn new(settings: Settings) -> Result<Self> {
        settings.validate()?;
        let (width, height) = (settings.width as usize, settings.height as usize);
        let plan = Plan::new(&settings);
        let scene = Scene::new(&settings, &plan);
        let field = Field::new(&settings);
        let mut rays = [vec![0.0; width * height], vec![0.0; width * height], vec![0.0; width * height]];
        for (y, &(a, b)) in field.spans.iter().enumerate() {
            for x in a..b {
                let d = field.lens.ray(x as f32 + 0.5, y as f32 + 0.5);
                for k in 0..3 {
                    rays[k][y * width + x as usize] = d[k];
                }
            }
        }
        let pool = match settings.threads {
            1 => None,
            n => Some(
                rayon::ThreadPoolBuilder::new()
                    .num_threads(n)
                    .thread_name(|k| format!("phantom-{k}"))
                    .build()
                    .map_err(|e| {
                        Error::machine(format!("phantom: {n} threads cannot be started ({e})"))
                            .remedy("ask for fewer threads")
                            .because(e)
                    })?,
            ),
        };
        let bands = Bands::new(settings.height, BAND, field.left, field.right);
        let worker = || Worker {
            surfaces: vec![NOTHING; width * BAND as usize],
            row: Row::new(width),
            soft: vec![[0; 2]; width + 2],
        };
        let rings = (AHEAD / colon::STEP) as usize + 32;
        Ok(Self {
            grain: Grain::new(settings.seed, width),
            projected: Vec::with_capacity(rings * COLUMNS + 24 * OBJECT_ROWS * OBJECT_COLUMNS),
            gauge: Gauge::new(&field, width, height),
            picture: vec![0; width * height],
            smeared: vec![0; width * height],
            fits: vec![Fit::default(); bands.count()],
            workers: (0..settings.threads).map(|_| Mutex::new(worker())).collect(),
            bands,
            pool,
            plan,
            scene,
            field,
            rays,
            settings,
        })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Presentation time of a frame.
    pub fn pts_ns(&self, index: u64) -> u64 {
        self.settings.rate.pts_ns(index)
    }

    /// Renders frame `index` into `rgb` (packed RGB, rows from the top, width · height · 3 bytes) and its truth.
    ///
    /// A looped phantom goes on for ever: frame `frames` shows what frame 0 showed, with the motion since the last frame.
    /// Fails if `rgb` or `truth` has the wrong size or a clip that is not looped has no such frame.
    pub fn render(&mut self, index: u64, rgb: &mut [u8], truth: &mut Truth) -> Result<()> {
        let (width, height) = (self.settings.width as usize, self.settings.height as usize);
        if rgb.len() != width * height * 3 {
            return Err(Error::internal(format!(
                "phantom frame {index}: the buffer holds {} bytes, {width}x{height} RGB needs {}",
                rgb.len(),
                width * height * 3
            )));
        }
        if (truth.width as usize, truth.height as usize) != (width, height)
            || truth.mask.len() != width * height
        {
            return Err(Error::internal(format!(
                "phantom frame {index}: the truth is made for {}x{}, the frames are {width}x{height}",
                truth.width, truth.height
            )));
        }
        if index >= self.settings.frames && !self.settings.looped {
            return Err(Error::usage(format!(
                "phantom frame {index}: the clip has {} frames",
                self.settings.frames
            ))
            .remedy("ask for more frames or for a looped clip"));
        }
        let frame = index % self.settings.frames;
        let (pose, s) = self.plan.pose(frame, &self.scene.colon, &self.scene.gaze);
        // Frame -1 of the first lap is taken from the path's own continuation only for the blur, never for the truth.
        let before = match (frame, self.settings.looped) {
            (0, true) => self.plan.pose(self.settings.frames - 1, &self.scene.colon, &self.scene.gaze).0,
            (0, false) => pose,
            _ => self.plan.pose(frame - 1, &self.scene.colon, &self.scene.gaze).0,
        };
        self.project(&pose, s);
        let exposure = self.gauge.exposure(&self.projected, &self.field);
        let light = Light { exposure, focal: self.field.lens.focal };
        self.draw(&pose, &before, light, &mut truth.mask);

        let (cx, cy) = (0.5 * width as f64, 0.5 * height as f64);
        let mut fit = Fit::default();
        self.fits.iter().for_each(|f| fit.merge(f));
        let motion = fit.solve(cx, cy).unwrap_or(STILL);
        truth.motion = if index == 0 { STILL } else { motion };
        truth.measure();
        self.develop(frame, &motion, rgb);
        Ok(())
    }

    /// Projects all that is near and sorts its triangles into bands.
    fn project(&mut self, pose: &Pose, s: f32) {
        let lens = self.field.lens;
        let colon = &self.scene.colon;
        let first = ((s - 12.0) / colon::STEP).max(0.0) as usize;
        let last = (((s + AHEAD) / colon::STEP) as usize).min(colon.rings() - 1);
        self.projected.clear();
        self.bands.clear();
        self.gauge.clear();
        let wall = &colon.vertices[first * COLUMNS..(last + 1) * COLUMNS];
        self.projected.extend(wall.iter().map(|v| Projected::new(v, pose, &lens)));
        let bands = &mut self.bands;
        let rings = last - first + 1;
        offer_grid(bands, &self.projected, 0, rings, COLUMNS, |_| 0.0);
        self.gauge.offer_grid(&self.projected, 0, rings, COLUMNS, 0.0);
        for (k, object) in self.scene.objects.iter().enumerate() {
            let away = object.s - s;
            if away < -30.0 || away > AHEAD - 5.0 {
                continue;
            }
            // Wholly behind the scope?
            let to = sub(object.middle, pose.at);
            if dot(to, pose.forward) < -object.reach - 0.2 * length(to) {
                continue;
            }
            let base = self.projected.len();
            self.projected.extend(object.vertices.iter().map(|v| Projected::new(v, pose, &lens)));
            let body = object.body_row;
            let foot = (2 * k + 1) as f32;
            offer_grid(bands, &self.projected, base, OBJECT_ROWS, OBJECT_COLUMNS, |row| {
                if row < body { foot } else { foot + 1.0 }
            });
            self.gauge.offer_grid(&self.projected, base, OBJECT_ROWS, OBJECT_COLUMNS, 0.0);
        }
    }

    /// Rasterises and shades all bands into `picture`, the mask and the sums of the motion fit.
    fn draw(&mut self, pose: &Pose, before: &Pose, light: Light, mask: &mut [u8]) {
        let width = self.settings.width as usize;
        let shot = Shot {
            projected: &self.projected,
            bands: &self.bands,
            scene: &self.scene,
            field: &self.field,
            rays: &self.rays,
            width,
            pose,
            before,
            light,
        };
        let workers = &self.workers;
        let rows = BAND as usize * width;
        let pieces = self
            .picture
            .par_chunks_mut(rows)
            .zip(mask.par_chunks_mut(rows))
            .zip(self.fits.par_iter_mut())
            .enumerate();
        let job = |(band, ((picture, mask), fit)): (usize, ((&mut [u32], &mut [u8]), &mut Fit))| {
            let worker = &workers[rayon::current_thread_index().unwrap_or(0) % workers.len()];
            let mut worker = worker.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *fit = render_band(&shot, band, &mut worker, picture, mask);
        };
        match &self.pool {
            Some(pool) => pool.install(|| pieces.for_each(job)),
            None => {
                let pieces =
                    self.picture.chunks_mut(rows).zip(mask.chunks_mut(rows)).zip(self.fits.iter_mut());
                pieces.enumerate().for_each(job);
            }
        }
    }

    /// From the picture to the frame that leaves the processor.
    fn develop(&mut self, frame: u64, motion: &[f64; 6], rgb: &mut [u8]) {
        let (width, height) = (self.settings.width as usize, self.settings.height as usize);
        let shutter = f64::from(self.plan.shutter());
        let mut smear = *motion;
        smear[0] -= 1.0;
        smear[4] -= 1.0;
        let smear = smear.map(|v| v * shutter);
        // Longest smear in the picture: at one of its corners.
        let longest = [(0.0, 0.0), (width as f64, 0.0), (0.0, height as f64), (width as f64, height as f64)]
            .into_iter()
            .map(|(x, y)| {
                let dx = smear[0] * x + smear[1] * y + smear[2];
                let dy = smear[3] * x + smear[4] * y + smear[5];
                (dx * dx + dy * dy).sqrt()
            })
            .fold(0.0, f64::max);
        let job =
            Develop { picture: &self.picture, width, field: &self.field, grain: &self.grain, frame, smear };
        let workers = &self.workers;
        let smeared = longest > 1.5;
        let rows = BAND as usize * width;
        if smeared {
            let each = |(band, out): (usize, &mut [u32])| smear_band(&job, band, out);
            match &self.pool {
                Some(pool) => pool.install(|| self.smeared.par_chunks_mut(rows).enumerate().for_each(each)),
                None => self.smeared.chunks_mut(rows).enumerate().for_each(each),
            }
        }
        let job = Develop { picture: if smeared { &self.smeared } else { &self.picture }, ..job };
        let each = |(band, out): (usize, &mut [u8])| {
            let worker = &workers[rayon::current_thread_index().unwrap_or(0) % workers.len()];
            let mut worker = worker.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            finish_band(&job, band, &mut worker.soft, out);
        };
        match &self.pool {
            Some(pool) => pool.install(|| rgb.par_chunks_mut(rows * 3).enumerate().for_each(each)),
            None => rgb.chunks_mut(rows * 3).enumerate().for_each(each),
        }
        if self.settings.view == View::Processor {
            let seconds = self.plan.time_of(frame) as u64;
            let mut seed = *b"SEED 00000";
            let mut rest = self.settings.seed;
            for digit in seed[5..].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            let time = processor::clock(seconds);
            processor::caption(
                rgb,
                width,
                height,
                &self.field,
                &[b"PHANTOM", b"NOT A PATIENT", b"", &seed, &time],
            );
        }
    }
}

/// Offers both triangles of every cell of a grid of vertices.
fn offer_grid(
    bands: &mut Bands,
    vertices: &[Projected],
    base: usize,
    rows: usize,
    columns: usize,
    material: impl Fn(usize) -> f32,
) {
    for row in 0..rows - 1 {
        let m = material(row);
        let start = (base + row * columns) as u32;
        for k in start..start + columns as u32 - 1 {
            let up = k + columns as u32;
            bands.offer(vertices, [k, k + 1, up], m);
            bands.offer(vertices, [k + 1, up + 1, up], m);
        }
    }
}

impl Scene {
    fn new(settings: &Settings, plan: &Plan) -> Self {
        let seed = settings.seed;
        let mut colon = Colon::new(seed, plan.millimetres);
        let objects = lesion::furnish(&mut colon, seed, &plan.polyps);
        let gaze = objects.iter().filter(|o| o.id > 0).map(|o| (o.middle, o.s)).collect();
        let (materials, ids) = materials(seed, &objects);
        Self { colon, objects, gaze, materials, ids, tiles: [texture::wall(seed), texture::polyp(seed)] }
    }
}

/// Colours of this patient and this processor.
fn materials(seed: u64, objects: &[Object]) -> (Vec<Material>, Vec<u8>) {
    let s = Stream::new(seed, "complexion");
    let mix = |a: [f32; 3], b: [f32; 3], f: f32| -> [f32; 3] {
        std::array::from_fn(|k| noise::lerp(a[k], b[k], f))
    };
    // From rose (one maker's white balance) to orange (another's).
    let warm = s.unit(0);
    let pale = mix([0.95, 0.50, 0.40], [0.97, 0.50, 0.25], warm);
    let deep = mix([0.78, 0.24, 0.18], [0.82, 0.27, 0.09], warm);
    let wall = Material {
        pale,
        deep,
        blood: mix([0.70, 0.26, 0.26], [0.66, 0.26, 0.22], s.unit(1)),
        relief: 0.30,
        wet: s.range(2, 0.75, 1.1),
        polyp_tile: false,
        texels_per_mm: colon::WALL_TEXELS,
    };
    let mut all = vec![wall];
    let mut ids = vec![0];
    for object in objects {
        let m = if object.shape == Shape::Residue {
            Material {
                pale: mix([0.86, 0.66, 0.16], [0.62, 0.42, 0.14], object.redness),
                deep: mix([0.66, 0.42, 0.06], [0.40, 0.24, 0.07], object.redness),
                blood: [0.6, 0.5, 0.4],
                relief: 0.9,
                wet: 0.5,
                polyp_tile: true,
                texels_per_mm: POLYP_TEXELS,
            }
        } else {
            let red = object.redness;
            Material {
                pale: mix(pale, mix([0.94, 0.42, 0.34], [0.95, 0.41, 0.22], warm), red),
                deep: mix(deep, mix([0.72, 0.13, 0.11], [0.74, 0.15, 0.07], warm), red),
                blood: [0.72, 0.34, 0.34],
                relief: 0.34,
                wet: 0.9,
                polyp_tile: true,
                texels_per_mm: POLYP_TEXELS,
            }
        };
        all.push(m);
        all.push(m);
        ids.push(0);
        ids.push(object.id);
    }
    (all, ids)
}

impl Gauge {
    /// Columns of the gauge's own small picture.
    const WIDTH: usize = 96;
    /// Every so many-th vertex is enough for it.
    const STRIDE: usize = 4;

    fn new(field: &Field, width: usize, height: usize) -> Self {
        let h = (Self::WIDTH * height / width).clamp(4, 4 * Self::WIDTH);
        let spans = vec![(0, Self::WIDTH as u32); h];
        let _ = field;
        Self {
            width: Self::WIDTH,
            pixels: vec![NOTHING; h * Self::WIDTH],
            samples: Vec::with_capacity(h * Self::WIDTH),
            vertices: Vec::with_capacity(16384),
            triangles: Vec::with_capacity(16384),
            spans,
        }
    }

    fn clear(&mut self) {
        self.vertices.clear();
        self.triangles.clear();
    }

    /// Takes every fourth vertex of a grid (its last row and column always).
    fn offer_grid(
        &mut self,
        projected: &[Projected],
        base: usize,
        rows: usize,
        columns: usize,
        material: f32,
    ) {
        let start = self.vertices.len() as u32;
        let last = |n: usize| (n - 1).div_ceil(Self::STRIDE);
        let (r, c) = (last(rows), last(columns));
        for i in 0..=r {
            for j in 0..=c {
                let k =
                    base + (i * Self::STRIDE).min(rows - 1) * columns + (j * Self::STRIDE).min(columns - 1);
                self.vertices.push(projected[k]);
            }
        }
        let step = c as u32 + 1;
        for i in 0..r as u32 {
            for j in 0..c as u32 {
                let k = start + i * step + j;
                self.triangles.push(Triangle { corners: [k, k + 1, k + step], material });
                self.triangles.push(Triangle { corners: [k + 1, k + step + 1, k + step], material });
            }
        }
    }

    /// Exposure at which the field of view is as bright as processors make it.
    fn exposure(&mut self, _projected: &[Projected], field: &Field) -> f32 {
        let rows = self.spans.len();
        let full = field.spans.len();
        // The gauge's pixels are squares as many frame pixels wide as fit the visible part.
        let pixel = ((field.right - field.left) as f32 / self.width as f32).max(full as f32 / rows as f32);
        let (left, inverse) = (field.left as f32, 1.0 / pixel);
        for v in &mut self.vertices {
            v.x = (v.x - left) * inverse;
            v.y *= inverse;
        }
        let vertices = &self.vertices;
        self.triangles.retain(|t| {
            let [a, b, c] = t.corners.map(|k| &vertices[k as usize]);
            a.seen() && b.seen() && c.seen() && (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x) > 0.0
        });
        self.pixels.fill(NOTHING);
        raster::fill(vertices, &self.triangles, &mut self.pixels, self.width, 0, &self.spans);
        self.samples.clear();
        for (k, s) in self.pixels.iter().enumerate() {
            let x = left + ((k % self.width) as f32 + 0.5) * pixel;
            let y = ((k / self.width) as f32 + 0.5) * pixel;
            if !field.contains(x, y) {
                continue;
            }
            let d = field.lens.ray(x, y);
            let e = if s[DISTANCE].is_finite() {
                let cosine = -(s[NORMAL] * d[0] + s[NORMAL + 1] * d[1] + s[NORMAL + 2] * d[2]);
                shade::irradiance(s[DISTANCE], cosine, s[OPENNESS])
            } else {
                0.0
            };
            self.samples.push(e * (0.3 + 0.7 * d[2].max(0.0)));
        }
        let n = self.samples.len().max(1) as f32;
        // Brightness grows with exposure: halve the interval (a factor of 2^20 wide) until it is known to a hundredth.
        let (mut low, mut high) = (4.0f32, 4.0e6f32);
        for _ in 0..11 {
            let middle = (low * high).sqrt();
            let mean = self.samples.iter().map(|e| (0.55 * e * middle).min(1.0).sqrt()).sum::<f32>() / n;
            if mean < 0.40 { low = middle } else { high = middle }
        }
        (low * high).sqrt()
    }
}

/// What all bands of a frame share.
struct Shot<'a> {
    projected: &'a [Projected],
    bands: &'a Bands,
    scene: &'a Scene,
    field: &'a Field,
    rays: &'a [Vec<f32>; 3],
    width: usize,
    pose: &'a Pose,
    before: &'a Pose,
    light: Light,
}

struct Develop<'a> {
    picture: &'a [u32],
    width: usize,
    field: &'a Field,
    grain: &'a Grain,
    frame: u64,
    smear: [f64; 6],
}

/// Compiles a function twice, plainly and with AVX2, and takes the second where the processor has it. Both do the same
/// arithmetic in the same order (AVX2 without FMA): the results are equal to the bit.
macro_rules! by_cpu {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$doc])*
        fn $name($($arg: $type),*) $(-> $out)? {
            #[inline(always)]
            fn plain($($arg: $type),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn wide($($arg: $type),*) $(-> $out)? {
                    plain($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has just been found to have AVX2.
                    return unsafe { wide($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    };
}

by_cpu! {
    /// One band of the frame: surfaces, colours, mask, motion samples.
    fn render_band(
        shot: &Shot<'_>,
        band: usize,
        worker: &mut Worker,
        picture: &mut [u32],
        mask: &mut [u8],
    ) -> Fit {
        let width = shot.width;
        let rows = mask.len() / width;
        let first = band as u32 * BAND;
        let spans = &shot.field.spans[first as usize..][..rows];
        for (line, &(a, b)) in spans.iter().enumerate() {
            worker.surfaces[line * width + a as usize..line * width + b as usize].fill(NOTHING);
        }
        raster::fill(shot.projected, shot.bands.list(band), &mut worker.surfaces, width, first, spans);
        mask.fill(0);
        let mut fit = Fit::default();
        let scene = shot.scene;
        for (line, &(a, b)) in spans.iter().enumerate() {
            let y = first as usize + line;
            let (a, b) = (a as usize, b as usize);
            let surfaces = &worker.surfaces[line * width + a..line * width + b];
            let rays = [0, 1, 2].map(|k| &shot.rays[k][y * width + a..y * width + b]);
            shade::shade(
                surfaces,
                rays,
                &scene.materials,
                [&scene.tiles[0], &scene.tiles[1]],
                shot.light,
                &mut worker.row,
                &mut picture[line * width + a..line * width + b],
            );
            for (m, s) in mask[line * width + a..line * width + b].iter_mut().zip(surfaces) {
                *m = scene.ids[s[MATERIAL] as usize];
            }
            if y % 8 == 4 {
                for x in (a.next_multiple_of(8) + 4..b).step_by(8) {
                    sample_motion(shot, &worker.surfaces[line * width + x], x, y, &mut fit);
                }
            }
        }
        fit
    }
}

/// Adds where a pixel's surface was a frame ago.
fn sample_motion(shot: &Shot<'_>, s: &Surface, x: usize, y: usize, fit: &mut Fit) {
    if s[DISTANCE] == f32::INFINITY {
        return;
    }
    let k = y * shot.width + x;
    let d = [shot.rays[0][k], shot.rays[1][k], shot.rays[2][k]];
    let world = shot.pose.out_of_camera(scale(d, s[DISTANCE]));
    let Some(([px, py], _)) = shot.field.lens.project(shot.before.into_camera(world)) else {
        return;
    };
    if !shot.field.contains(px, py) {
        return;
    }
    let (cx, cy) = (0.5 * shot.width as f64, 0.5 * shot.field.spans.len() as f64);
    fit.add(f64::from(px) - cx, f64::from(py) - cy, [x as f64 + 0.5 - cx, y as f64 + 0.5 - cy]);
}

by_cpu! {
    fn smear_band(job: &Develop<'_>, band: usize, out: &mut [u32]) {
        for (line, row) in out.chunks_exact_mut(job.width).enumerate() {
            processor::smear(job.picture, job.width, job.field, &job.smear, band * BAND as usize + line, row);
        }
    }
}

by_cpu! {
    fn finish_band(job: &Develop<'_>, band: usize, soft: &mut [[u32; 2]], out: &mut [u8]) {
        for (line, row) in out.chunks_exact_mut(job.width * 3).enumerate() {
            let y = band * BAND as usize + line;
            processor::finish(job.picture, job.width, job.field, job.grain, job.frame, y, soft, row);
        }
    }
}
