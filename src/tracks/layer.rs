//! What is remembered of the outlines: values of a map that each belong to at most one track flow in, the same values
//! at places between pixels flow out.

use super::place::Place;
use super::regions::Box2;

/// How far from the marking level a value counts, in logits: a surer network moves no outline.
pub(super) const LIMIT: f32 = 3.0;
/// Below this is nothing. What is smoothed comes near to -[`LIMIT`] and never reaches it: a track would drag every
/// place where it was along.
pub(super) const NOTHING: f32 = 0.25 - LIMIT;
/// A place that was outside the former field of view.
pub(super) const UNKNOWN: f32 = f32::INFINITY;

/// Values around the marking level, each belonging to at most one track.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub place: Place,
    /// Logits less the marking level, within ±[`LIMIT`].
    pub values: Vec<f32>,
    /// Slot plus 1, or 0.
    pub owner: Vec<u8>,
}

impl Layer {
    pub fn make(&mut self, place: Place) {
        self.place = place;
        let n = place.w * place.h;
        self.values.clear();
        self.values.resize(n, -LIMIT);
        self.owner.clear();
        self.owner.resize(n, 0);
    }

    /// Nothing in the rectangle belongs to anyone any more.
    pub fn wipe(&mut self, b: &Box2) {
        let w = self.place.w;
        for y in b.y0..b.y1 {
            self.owner[y as usize * w + b.x0 as usize..y as usize * w + b.x1 as usize].fill(0);
        }
    }
}

/// One track's values of a layer with a pixel of nothing around them, so that sampling asks no pixel whose it is.
#[derive(Debug, Default)]
pub(super) struct Cutout {
    values: Vec<f32>,
    /// Its first column and row in the layer; -1 where the track reaches the layer's edge.
    x0: i64,
    y0: i64,
    w: usize,
    h: usize,
    layer: (usize, usize),
}

/// Places in a layer, in pixels, as whole numbers: exact sums along a row.
const ONE: f64 = (1u64 << 32) as f64;
const HALF: i64 = 1 << 31;

impl Cutout {
    /// Room for layers of this size.
    pub fn reserve(&mut self, w: usize, h: usize) {
        self.values.clear();
        self.values.reserve((w + 2) * (h + 2));
    }

    /// Takes what belongs to a track, within a rectangle of the layer.
    pub fn cut(&mut self, layer: &Layer, b: &Box2, owner: u8) {
        (self.x0, self.y0) = (i64::from(b.x0) - 1, i64::from(b.y0) - 1);
        (self.w, self.h) = ((b.x1 - b.x0) as usize + 2, (b.y1 - b.y0) as usize + 2);
        let width = layer.place.w;
        self.layer = (width, layer.place.h);
        self.values.clear();
        self.values.resize(self.w * self.h, -LIMIT);
        for (row, y) in self.values.chunks_exact_mut(self.w).skip(1).zip(b.y0..b.y1) {
            let from = y as usize * width + b.x0 as usize..y as usize * width + b.x1 as usize;
            let all = layer.values[from.clone()].iter().zip(&layer.owner[from]);
            for (out, (v, o)) in row[1..].iter_mut().zip(all) {
                *out = if *o == owner { *v } else { -LIMIT };
            }
        }
    }

    /// Values at the places from `at` on, each `step` further; bilinear, [`UNKNOWN`] outside the layer.
    pub fn row(&self, at: (f64, f64), step: (f64, f64), out: &mut [f32]) {
        let fixed = |v: f64| (v * ONE).round() as i64;
        let (mut x, mut y) = (fixed(at.0), fixed(at.1));
        let (step_x, step_y) = (fixed(step.0), fixed(step.1));
        let whole = |n: usize| (n as i64) << 32;
        let (width, height) = (whole(self.layer.0), whole(self.layer.1));
        let (right, bottom) = (width - whole(1), height - whole(1));
        let inside = |v: i64, end: i64| (v.wrapping_add(HALF) as u64) <= end as u64;
        // A line whose ends lie within a rectangle lies within it.
        let steps = out.len().saturating_sub(1) as i64;
        let last = |v: i64, step: i64| step.checked_mul(steps).and_then(|way| v.checked_add(way));
        let within = |v: i64, step: i64, end: i64| {
            (0..=end).contains(&v) && last(v, step).is_some_and(|v| (0..=end).contains(&v))
        };
        if within(x, step_x, right) && within(y, step_y, bottom) {
            for o in out {
                *o = self.between(x, y);
                x += step_x;
                y += step_y;
            }
            return;
        }
        for o in out {
            *o = if inside(x, width) && inside(y, height) {
                self.between(x.clamp(0, right), y.clamp(0, bottom))
            } else {
                UNKNOWN
            };
            x = x.wrapping_add(step_x);
            y = y.wrapping_add(step_y);
        }
    }

    /// The value at a place within the layer.
    #[inline(always)]
    fn between(&self, x: i64, y: i64) -> f32 {
        let part = |v: i64| ((v as u32) >> 8) as i32 as f32 * (1.0 / (1u32 << 24) as f32);
        // Left of the first column is beyond the last one, as far as the next line can tell.
        let (i, j) = (((x >> 32) - self.x0) as usize, ((y >> 32) - self.y0) as usize);
        if i >= self.w - 1 || j >= self.h - 1 {
            return -LIMIT;
        }
        let at = j * self.w + i;
        let (Some([a, b]), Some([c, d])) =
            (self.values.get(at..at + 2), self.values.get(at + self.w..at + self.w + 2))
        else {
            return -LIMIT;
        };
        let (fx, fy) = (part(x), part(y));
        let (top, low) = (a + (b - a) * fx, c + (d - c) * fx);
        top + (low - top) * fy
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::Rect;

    /// The plain way: of four pixels, those that are the track's.
    fn sampled(layer: &Layer, x: f64, y: f64, owner: u8) -> f32 {
        let (w, h) = (layer.place.w, layer.place.h);
        let (right, bottom) = ((w - 1) as f64, (h - 1) as f64);
        if !(x >= -0.5 && y >= -0.5 && x <= right + 0.5 && y <= bottom + 0.5) {
            return UNKNOWN;
        }
        let (x, y) = (x.clamp(0.0, right), y.clamp(0.0, bottom));
        let (xi, yi) = ((x as usize).min(w - 2), (y as usize).min(h - 2));
        let (fx, fy) = ((x - xi as f64) as f32, (y - yi as f64) as f32);
        let at = |i: usize| if layer.owner[i] == owner { layer.values[i] } else { -LIMIT };
        let i = yi * w + xi;
        let (top, low) = (at(i) + (at(i + 1) - at(i)) * fx, at(i + w) + (at(i + w + 1) - at(i + w)) * fx);
        top + (low - top) * fy
    }

    proptest! {
        #[test]
        fn a_row_is_what_its_places_are_one_by_one(
            (w, h) in (2usize..24, 2usize..24),
            pixels in prop::collection::vec((-3.0..3.0f32, 0u8..3), 24 * 24),
            at in (-6.0..30.0f64, -6.0..30.0f64),
            step in (-1.5..1.5f64, -1.5..1.5f64),
            whole in any::<bool>(),
        ) {
            let mut layer = Layer::default();
            layer.make(Place { view: Rect::new(0, 0, 1, 1), w, h });
            let mut spread = Box2::default();
            for i in 0..w * h {
                (layer.values[i], layer.owner[i]) = pixels[i];
                if layer.owner[i] == 1 {
                    let (x, y) = ((i % w) as u32, (i / w) as u32);
                    spread = spread.union(&Box2 { x0: x, y0: y, x1: x + 1, y1: y + 1 });
                }
            }
            let round = |v: f64| if whole { v.round() } else { v };
            let (at, step) = ((round(at.0), round(at.1)), (round(step.0), round(step.1)));
            let mut cutout = Cutout::default();
            cutout.cut(&layer, &spread, 1);
            let mut out = [0.0; 30];
            cutout.row(at, step, &mut out);
            for (k, v) in out.into_iter().enumerate() {
                let (x, y) = (at.0 + k as f64 * step.0, at.1 + k as f64 * step.1);
                // Where the field of view ends, the last digit decides.
                let ends = |v: f64, n: usize| (v + 0.5).abs() < 1e-6 || (v + 0.5 - n as f64).abs() < 1e-6;
                if !ends(x, w) && !ends(y, h) {
                    let wanted = sampled(&layer, x, y, 1);
                    prop_assert!(v == wanted || (v - wanted).abs() < 1e-4, "{x} {y}: {v} {wanted}");
                }
            }
        }
    }
}
