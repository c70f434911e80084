//! A colon that does not exist: [`Settings`] go in, frames of a colonoscopy come out ([`Phantom::render`]), each with
//! its [`Truth`]: the mask of every polyp and the motion since the frame before.
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
//! A frame depends on the settings and its number alone, not on frames rendered before, nor on the number of threads.
//! The same settings give the same bytes on every machine whose `f32` and `f64` are IEEE 754 (x86-64, AArch64): nothing
//! but `+ - * /` and square roots is used, in a fixed order, without contraction to fused operations.
//!
//! How real it looks to a network that was trained on real frames only (the shipped checkpoint, threshold 0.5, eight
//! seeds of half a minute at 930x720, every 45th frame): all 14 polyps reach IoU 0.3 in some frame (the best frames
//! 0.93 to 0.99), 64 of 71 frames whose polyp covers 2000 pixels do; it marks something in 61 of 67 frames without a
//! polyp, as it does in all 48 frames of a real recording without one.
//!
//! What it is: a stand-in for demonstrations and for measuring things real recordings have no truth for. What it is
//! not: a substitute for patients' data in training or in any statement about clinical performance.

mod colon;
mod exposure;
mod lesion;
mod motion;
mod mucosa;
mod noise;
mod path;
mod processor;
mod raster;
mod settings;
mod shade;
mod simd_dispatch;
mod space;
mod texture;
mod truth;

use std::sync::Mutex;

use rayon::prelude::*;

use self::colon::{COLUMNS, Colon};
use self::exposure::Gauge;
use self::lesion::{OBJECT_COLUMNS, OBJECT_ROWS, Object};
use self::motion::Fit;
use self::path::{AHEAD, BEHIND, Plan};
use self::processor::{Field, Grain, MARGIN};
use self::raster::{Bands, DISTANCE, MATERIAL, NOTHING, Projected, Surface};
use self::shade::{Light, Material, Row};
use self::space::{Pose, Vec3, dot, length, scale, sub};
use self::texture::Tile;
use crate::lock::lock;
use crate::{Error, Result, memory};

pub use self::settings::{MAX_FRAMES, MAX_SIDE, MIN_SIDE, Preset, Settings, View};
pub use self::truth::{STILL, Truth, TruthWriter, VisiblePolyp};

/// Rows rendered at a time: their surfaces fit a core's second-level cache.
const BAND: u32 = 16;

/// Millimetres of colon before and behind the tip that are drawn with every vertex there is.
const FINE_AHEAD: f32 = 70.0;
const FINE_BEHIND: f32 = 14.0;

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

impl Phantom {
    /// Builds the colon: a second of work and some 70 MB at 1280x720, four times the pixels another 100.
    ///
    /// Fails with the sentence of [`Settings::validate`], or if there is no memory for it or the threads cannot be
    /// started.
    pub fn new(settings: Settings) -> Result<Self> {
        settings.validate()?;
        memory::afford(
            &format!("phantom: a picture of {}x{} pixels", settings.width, settings.height),
            settings.working_bytes(),
            |_| "choose a smaller size or fewer threads".to_owned(),
        )?;
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
        let stride = width + 2 * MARGIN;
        let rings = ((AHEAD + BEHIND) / colon::STEP) as usize + 32;
        Ok(Self {
            grain: Grain::new(settings.seed, width),
            projected: Vec::with_capacity(rings * COLUMNS + 24 * OBJECT_ROWS * OBJECT_COLUMNS),
            gauge: Gauge::new(width, height),
            picture: vec![0; stride * height],
            smeared: vec![0; stride * height],
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

    /// What this phantom was asked to be.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Presentation time of a frame.
    pub fn pts_ns(&self, index: u64) -> u64 {
        self.settings.rate.pts_ns(index)
    }

    /// Renders frame `index` into `rgb` (packed RGB, rows from the top, width · height · 3 bytes) and its truth.
    ///
    /// A looped phantom goes on for ever: frame `frames` shows what frame 0 showed, with the motion since the last
    /// frame. Fails if `rgb` or `truth` has the wrong size or a clip that is not looped has no such frame.
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
        let exposure = self.gauge.exposure(&self.field);
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
        let ring = |s: f32| ((s / colon::STEP).max(0.0) as usize).min(colon.rings() - 1) & !1;
        self.projected.clear();
        self.bands.clear();
        self.gauge.clear();
        let bands = &mut self.bands;
        // Fine where it shows, every second vertex far ahead and behind; the pieces overlap by a cell.
        let (behind, near, far) = (ring(s - BEHIND + 5.0), ring(s - FINE_BEHIND), ring(s + FINE_AHEAD));
        for (first, last, stride) in [(near, far, 1), (far - 2, ring(s + AHEAD), 2), (behind, near + 2, 2)] {
            let base = self.projected.len();
            let columns = (COLUMNS - 1) / stride + 1;
            for i in (first..=last).step_by(stride) {
                let ring = &colon.vertices[i * COLUMNS..(i + 1) * COLUMNS];
                self.projected.extend(ring.iter().step_by(stride).map(|v| Projected::new(v, pose, &lens)));
            }
            let rings = (last - first) / stride + 1;
            offer_grid(bands, &self.projected, base, rings, columns, |_| 0.0);
            self.gauge.offer_grid(&self.projected, base, rings, columns, 4 / stride);
        }
        for (k, object) in self.scene.objects.iter().enumerate() {
            let away = object.s - s;
            if !(-BEHIND..=AHEAD - 5.0).contains(&away) {
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
            self.gauge.offer_grid(&self.projected, base, OBJECT_ROWS, OBJECT_COLUMNS, 4);
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
        let strides = BAND as usize * (width + 2 * MARGIN);
        let pieces = self
            .picture
            .par_chunks_mut(strides)
            .zip(mask.par_chunks_mut(rows))
            .zip(self.fits.par_iter_mut())
            .enumerate();
        let job = |(band, ((picture, mask), fit)): (usize, ((&mut [u32], &mut [u8]), &mut Fit))| {
            let worker = &workers[rayon::current_thread_index().unwrap_or(0) % workers.len()];
            let mut worker = lock(worker);
            *fit = render_band(&shot, band, &mut worker, picture, mask);
        };
        match &self.pool {
            Some(pool) => pool.install(|| pieces.for_each(job)),
            None => {
                let pieces =
                    self.picture.chunks_mut(strides).zip(mask.chunks_mut(rows)).zip(self.fits.iter_mut());
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
        let strides = BAND as usize * (width + 2 * MARGIN);
        if smeared {
            let each = |(band, out): (usize, &mut [u32])| smear_band(&job, band, out);
            match &self.pool {
                Some(pool) => {
                    pool.install(|| self.smeared.par_chunks_mut(strides).enumerate().for_each(each))
                }
                None => self.smeared.chunks_mut(strides).enumerate().for_each(each),
            }
        }
        let job = Develop { picture: if smeared { &self.smeared } else { &self.picture }, ..job };
        let each = |(band, out): (usize, &mut [u8])| {
            let worker = &workers[rayon::current_thread_index().unwrap_or(0) % workers.len()];
            let mut worker = lock(worker);
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
        let (materials, ids) = mucosa::materials(seed, &objects);
        Self { colon, objects, gaze, materials, ids, tiles: [texture::wall(seed), texture::polyp(seed)] }
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

/// One band of the frame: surfaces, colours, mask, motion samples.
fn render_band(
    shot: &Shot<'_>,
    band: usize,
    worker: &mut Worker,
    picture: &mut [u32],
    mask: &mut [u8],
) -> Fit {
    let width = shot.width;
    let stride = width + 2 * MARGIN;
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
        let colours = &mut picture[line * stride..][..stride];
        let rays = [0, 1, 2].map(|k| &shot.rays[k][y * width + a..y * width + b]);
        shade::shade(
            surfaces,
            rays,
            &scene.materials,
            [&scene.tiles[0], &scene.tiles[1]],
            shot.light,
            &mut worker.row,
            &mut colours[MARGIN + a..MARGIN + b],
        );
        processor::spread_border(colours, a, b);
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

/// Adds where a pixel's surface was a frame ago.
fn sample_motion(shot: &Shot<'_>, s: &Surface, x: usize, y: usize, fit: &mut Fit) {
    if s[DISTANCE] == f32::INFINITY {
        return;
    }
    let k = y * shot.width + x;
    let d = [shot.rays[0][k], shot.rays[1][k], shot.rays[2][k]];
    let world = shot.pose.colon_point(scale(d, s[DISTANCE]));
    let Some(([px, py], _)) = shot.field.lens.project(shot.before.camera_point(world)) else {
        return;
    };
    if !shot.field.contains(px, py) {
        return;
    }
    let (cx, cy) = (0.5 * shot.width as f64, 0.5 * shot.field.spans.len() as f64);
    fit.add(f64::from(px) - cx, f64::from(py) - cy, [x as f64 + 0.5 - cx, y as f64 + 0.5 - cy]);
}

fn smear_band(job: &Develop<'_>, band: usize, out: &mut [u32]) {
    let stride = job.width + 2 * MARGIN;
    for (line, row) in out.chunks_exact_mut(stride).enumerate() {
        processor::smear(job.picture, stride, job.field, &job.smear, band * BAND as usize + line, row);
    }
}

fn finish_band(job: &Develop<'_>, band: usize, soft: &mut [[u32; 2]], out: &mut [u8]) {
    let stride = job.width + 2 * MARGIN;
    for (line, row) in out.chunks_exact_mut(job.width * 3).enumerate() {
        let y = band * BAND as usize + line;
        processor::finish(job.picture, stride, job.field, job.grain, job.frame, y, soft, row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_wide_kernels_agree_to_the_bit() {
        #[cfg(target_arch = "x86_64")]
        let wide = std::arch::is_x86_feature_detected!("avx2");
        #[cfg(not(target_arch = "x86_64"))]
        let wide = false;
        if !wide {
            return crate::skipped::skip("processor", "this processor has no AVX2");
        }
        let settings =
            Settings { width: 403, height: 301, preset: Preset::Fast, frames: 200, ..Settings::default() };
        let mut phantom = Phantom::new(settings).expect("settings");
        let mut shots =
            [(vec![0; 403 * 301 * 3], Truth::new(403, 301)), (vec![0; 403 * 301 * 3], Truth::new(403, 301))];
        for index in [0, 17, 120, 199] {
            for (plain, (rgb, truth)) in shots.iter_mut().enumerate() {
                simd_dispatch::PLAIN_ONLY.set(plain == 1);
                phantom.render(index, rgb, truth).expect("frame");
            }
            simd_dispatch::PLAIN_ONLY.set(false);
            assert!(shots[0] == shots[1], "frame {index}");
        }
    }
}
