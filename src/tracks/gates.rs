//! Whether a picture can prove anything: a reduced grey picture and a few colours of it flow in, features and the gate
//! that they close flow out.
//!
//! A network is asked about every frame, and answers also where there is nothing to see: on a smear of mucosa, through
//! bubbles, on the wall of the room. What is marked there starts no track.

use serde::Serialize;

use crate::frame::colour::RowReader;
use crate::frame::{Gate, Layout, Picture, Rect};

/// Rows of the picture that colours are read from, and places of each row.
const ROWS: usize = 32;
const PLACES: usize = 48;
/// Colours are counted in so many steps a channel.
const STEPS: usize = 4;
const BINS: usize = STEPS * STEPS * STEPS;

/// What the gates look at. All are shares or ratios, none has a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Features {
    /// Fine detail over coarse, in the direction that has less of it.
    pub sharpness: f32,
    /// Standard deviation of the grey levels.
    pub contrast: f32,
    /// Bright dots much above their surroundings.
    pub glints: f32,
    /// Places that are white.
    pub white: f32,
    /// Lit places of the colours of tissue.
    pub tissue: f32,
    /// Lit places.
    pub lit: f32,
    /// Mean saturation of the lit places.
    pub saturation: f32,
}

/// Limits behind the gates; see benches/README.md for what each costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Blurred below this sharpness.
    pub sharpness: f32,
    /// Bubbles or water from this share of glints.
    pub glints: f32,
    /// Over-exposed from this share of white.
    pub white: f32,
    /// Outside the body below this share of tissue.
    pub tissue: f32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { sharpness: 0.16, glints: 0.05, white: 0.25, tissue: 0.2 }
    }
}

impl Features {
    /// The first gate that is closed.
    pub fn gate(&self, limits: &Limits) -> Option<Gate> {
        if self.white >= limits.white {
            return Some(Gate::OverExposed);
        }
        // A picture without any colour says nothing about where it was taken.
        if self.lit >= 0.15 && self.saturation >= 0.03 && self.tissue < limits.tissue {
            return Some(Gate::OutsideBody);
        }
        if self.glints >= limits.glints {
            return Some(Gate::Bubbles);
        }
        (self.sharpness < limits.sharpness).then_some(Gate::Blurred)
    }
}

/// Colours of a picture at a grid of places. Buffers are kept.
#[derive(Debug, Default)]
pub(super) struct Colours {
    now: Vec<u32>,
    before: Vec<u32>,
    counted: u32,
    counted_before: u32,
}

impl Colours {
    /// Fills the features that need colour; a picture without colour leaves them as they are.
    pub fn look(&mut self, picture: &Picture, view: Rect, out: &mut Features) {
        std::mem::swap(&mut self.now, &mut self.before);
        self.counted_before = self.counted;
        self.now.resize(BINS, 0);
        self.now.fill(0);
        self.counted = 0;
        if view.is_empty() {
            return;
        }
        let grey = matches!(picture.info.format.layout(), Layout::Gray);
        let reader = RowReader::new(*picture);
        let rows = reader.rows();
        let last = rows.count(picture.info.height as usize).saturating_sub(1);
        let (mut white, mut lit, mut tissue, mut saturation) = (0u32, 0u32, 0u32, 0f32);
        for k in 0..ROWS {
            let line = view.y as usize + (2 * k + 1) * view.h as usize / (2 * ROWS);
            let line = (line / rows.step()).min(last);
            for i in 0..PLACES {
                let mut rgb = [0; 3];
                reader.rgb(line, view.x as usize + (2 * i + 1) * view.w as usize / (2 * PLACES), &mut rgb);
                let [r, g, b] = rgb;
                let step = |v: u8| usize::from(v) * STEPS / 256;
                self.now[(step(r) * STEPS + step(g)) * STEPS + step(b)] += 1;
                self.counted += 1;
                let (most, least) = (r.max(g).max(b), r.min(g).min(b));
                white += u32::from(least >= 240);
                if most < 40 {
                    continue;
                }
                lit += 1;
                let s = f32::from(most - least) / f32::from(most);
                saturation += s;
                // From the red of mucosa to the brown and green of narrow-band light; cloth is blue, a room is grey.
                tissue += u32::from(s >= 0.15 && b < r.max(g));
            }
        }
        if grey {
            return;
        }
        let share = |n: u32, of: u32| if of == 0 { 0.0 } else { n as f32 / of as f32 };
        out.white = share(white, self.counted);
        out.lit = share(lit, self.counted);
        out.tissue = share(tissue, lit);
        out.saturation = if lit == 0 { 0.0 } else { saturation / lit as f32 };
    }

    /// How much of the colours has changed since the picture before, 0 to 1.
    pub fn changed(&self) -> f32 {
        if self.counted == 0 || self.counted != self.counted_before {
            return 0.0;
        }
        let sum: u32 = self.now.iter().zip(&self.before).map(|(a, b)| a.abs_diff(*b)).sum();
        sum as f32 / (2 * self.counted) as f32
    }

    pub fn restart(&mut self) {
        self.counted = 0;
        self.counted_before = 0;
    }
}

/// Fills the features of a small grey picture (row by row).
pub(super) fn detail(pixels: &[u8], w: usize, h: usize, out: &mut Features) {
    const FAR: usize = 4;
    if w < 4 * FAR || h < 4 * FAR || pixels.len() < w * h {
        return;
    }
    let (mut fine_x, mut fine_y, mut far_x, mut far_y) = (0u32, 0u32, 0u32, 0u32);
    let (mut sum, mut squares, mut n, mut glints) = (0u64, 0u64, 0u32, 0u32);
    for y in FAR..h - FAR {
        let row = &pixels[y * w..(y + 1) * w];
        let (up, down) = (&pixels[(y - 1) * w..y * w], &pixels[(y + 1) * w..(y + 2) * w]);
        let (over, under) = (&pixels[(y - FAR) * w..][..w], &pixels[(y + FAR) * w..][..w]);
        for x in FAR..w - FAR {
            let c = i32::from(row[x]);
            let (l, r) = (i32::from(row[x - 1]), i32::from(row[x + 1]));
            let (u, d) = (i32::from(up[x]), i32::from(down[x]));
            let (ll, rr) = (i32::from(row[x - FAR]), i32::from(row[x + FAR]));
            let (uu, dd) = (i32::from(over[x]), i32::from(under[x]));
            fine_x += (2 * c - l - r).unsigned_abs();
            fine_y += (2 * c - u - d).unsigned_abs();
            far_x += (2 * c - ll - rr).unsigned_abs();
            far_y += (2 * c - uu - dd).unsigned_abs();
            // Brighter than all around it, and much brighter than a little further off.
            let around = (i32::from(row[x - 2])
                + i32::from(row[x + 2])
                + i32::from(pixels[(y - 2) * w + x])
                + i32::from(pixels[(y + 2) * w + x]))
                / 4;
            glints += u32::from(c > around + 30 && c >= l && c >= r && c >= u && c >= d);
            sum += c as u64;
            squares += (c * c) as u64;
            n += 1;
        }
    }
    // One grey level is what rounding leaves of nothing.
    let ratio = |fine: u32, far: u32| (fine as f32 - 0.4 * n as f32).max(0.0) / (far as f32).max(n as f32);
    out.sharpness = ratio(fine_x, far_x).min(ratio(fine_y, far_y));
    let mean = sum as f64 / f64::from(n);
    out.contrast = (squares as f64 / f64::from(n) - mean * mean).max(0.0).sqrt() as f32;
    out.glints = glints as f32 / n as f32;
}
