//! Phantom polyps on healthy mucosa: rendered once, cut out with their masks, pasted with the colours of where they
//! land.
//!
//! A stand-in for polyps of a hospital that has only healthy frames yet. It teaches a shape and its shading, not what
//! polyps look like; how much it is worth is for validation to say.

use super::super::random::Random;
use super::canvas::Canvas;
use crate::Result;
use crate::phantom::{Phantom, Preset, Settings, Truth, View};

/// Side of the frames polyps are cut out of.
const SIDE: u32 = 384;
/// Polyps smaller than this many pixels show nothing.
const SMALLEST: u64 = 900;

struct Cutout {
    w: usize,
    h: usize,
    rgb: Vec<[f32; 3]>,
    inside: Vec<f32>,
    /// Mean colour around the polyp.
    around: [f32; 3],
}

/// Polyps ready to be pasted.
pub struct Phantoms(Vec<Cutout>);

impl std::fmt::Debug for Phantoms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} phantom polyps", self.0.len())
    }
}

impl Phantoms {
    /// Renders until `count` polyps were seen (or a few colons are through).
    ///
    /// # Errors
    /// No memory for a phantom.
    pub fn render(count: usize, seed: u64) -> Result<Self> {
        let mut out = Vec::new();
        for colon in 0..8 {
            let settings = Settings {
                seed: seed.wrapping_add(colon),
                width: SIDE,
                height: SIDE,
                frames: 1800,
                preset: Preset::Calm,
                view: View::Full,
                polyps_per_minute: Some(12.0),
                ..Settings::default()
            };
            let mut phantom = Phantom::new(settings)?;
            let mut rgb = vec![0; (3 * SIDE * SIDE) as usize];
            let mut truth = Truth::new(SIDE, SIDE);
            for frame in (0..1800).step_by(45) {
                phantom.render(frame, &mut rgb, &mut truth)?;
                for polyp in &truth.polyps {
                    let [x, y, w, h] = polyp.bbox;
                    let whole = x > 2 && y > 2 && x + w < SIDE - 2 && y + h < SIDE - 2;
                    if whole && polyp.area_px >= SMALLEST {
                        out.push(cut(&rgb, &truth.mask, polyp.id, [x, y, w, h].map(|v| v as usize)));
                    }
                }
                if out.len() >= count {
                    return Ok(Self(out));
                }
            }
        }
        Ok(Self(out))
    }

    /// Polyps that were cut out.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none: then nothing is pasted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Pastes one somewhere, turned and scaled; the labels get class 1 there.
    pub fn paste(&self, canvas: &mut Canvas, random: &mut Random) {
        if self.0.is_empty() {
            return;
        }
        let polyp = &self.0[random.below(self.0.len())];
        let size = random.between(0.12, 0.45) * canvas.side() / polyp.w.max(polyp.h) as f64;
        let (sin, cos) = random.between(0.0, std::f64::consts::TAU).sin_cos();
        let cx = random.between(0.2, 0.8) * canvas.w as f64;
        let cy = random.between(0.2, 0.8) * canvas.h as f64;
        let at = cy as usize * canvas.w + cx as usize;
        let ground = canvas.rgb[at];
        // Not into the dark.
        if ground.iter().sum::<f32>() < 0.35 {
            return;
        }
        let gain: [f32; 3] = std::array::from_fn(|c| (ground[c] / polyp.around[c].max(0.05)).clamp(0.4, 2.5));
        for y in 0..canvas.h {
            for x in 0..canvas.w {
                let (dx, dy) = (x as f64 + 0.5 - cx, y as f64 + 0.5 - cy);
                let px = (dx * cos + dy * sin) / size + polyp.w as f64 / 2.0;
                let py = (dy * cos - dx * sin) / size + polyp.h as f64 / 2.0;
                if px < 0.0 || py < 0.0 || px >= polyp.w as f64 || py >= polyp.h as f64 {
                    continue;
                }
                let from = py as usize * polyp.w + px as usize;
                let share = polyp.inside[from];
                let to = y * canvas.w + x;
                for c in 0..3 {
                    let v = (polyp.rgb[from][c] * gain[c]).min(1.0);
                    canvas.rgb[to][c] += share * (v - canvas.rgb[to][c]);
                }
                if share > 0.5 {
                    canvas.labels[to] = 1;
                }
            }
        }
    }
}

/// A polyp with a margin; its edge is soft over two pixels.
fn cut(rgb: &[u8], mask: &[u8], id: u8, [x0, y0, w, h]: [usize; 4]) -> Cutout {
    let side = SIDE as usize;
    let (x0, y0, w, h) = (x0 - 2, y0 - 2, w + 4, h + 4);
    let at = |x: usize, y: usize| (y0 + y) * side + x0 + x;
    let hard = |x: usize, y: usize| f32::from(u8::from(mask[at(x, y)] == id));
    let mut inside = vec![0f32; w * h];
    for y in 1..h - 1 {
        for x in 1..w - 1 {
            let sum: f32 = (0..9).map(|i| hard(x + i % 3 - 1, y + i / 3 - 1)).sum();
            inside[y * w + x] = sum / 9.0;
        }
    }
    let mut pixels = Vec::with_capacity(w * h);
    let (mut sum, mut count) = ([0f32; 3], 0f32);
    for y in 0..h {
        for x in 0..w {
            let pixel: [f32; 3] = std::array::from_fn(|c| f32::from(rgb[3 * at(x, y) + c]) / 255.0);
            if mask[at(x, y)] == 0 {
                sum.iter_mut().zip(pixel).for_each(|(s, v)| *s += v);
                count += 1.0;
            }
            pixels.push(pixel);
        }
    }
    Cutout { w, h, rgb: pixels, inside, around: sum.map(|s| s / count.max(1.0)) }
}
