//! The connected regions of a map: numbers per pixel flow in, regions with their extent, area and peak flow out, and a
//! number for each pixel that says which region it belongs to. Buffers are kept from map to map.

use crate::frame::components::{Components, Neighbourhood};

/// A rectangle of map pixels, ends excluded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Box2 {
    pub x0: u32,
    pub y0: u32,
    pub x1: u32,
    pub y1: u32,
}

impl Box2 {
    pub fn is_empty(&self) -> bool {
        self.x0 >= self.x1 || self.y0 >= self.y1
    }

    /// The smallest around both.
    pub fn union(&self, o: &Self) -> Self {
        if self.is_empty() {
            return *o;
        }
        if o.is_empty() {
            return *self;
        }
        Self { x0: self.x0.min(o.x0), y0: self.y0.min(o.y0), x1: self.x1.max(o.x1), y1: self.y1.max(o.y1) }
    }

    /// Larger by `margin` each way, within `w` by `h`.
    pub fn grown(&self, margin: u32, w: usize, h: usize) -> Self {
        Self {
            x0: self.x0.saturating_sub(margin),
            y0: self.y0.saturating_sub(margin),
            x1: (self.x1 + margin).min(w as u32),
            y1: (self.y1 + margin).min(h as u32),
        }
    }

    pub fn diagonal(&self) -> f32 {
        ((self.x1 - self.x0) as f32).hypot((self.y1 - self.y0) as f32)
    }

    pub fn centre(&self) -> (f32, f32) {
        ((self.x0 + self.x1) as f32 / 2.0, (self.y0 + self.y1) as f32 / 2.0)
    }
}

/// One connected region (8-neighbourhood) of the pixels at or above the lower level.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Region {
    pub bounds: Box2,
    pub area: u32,
    /// Pixels at or above the marking level.
    pub solid: u32,
    pub peak: f32,
    /// How far its pixels lie above the marking level, each counting up to a limit.
    pub mass: f32,
    /// Sums of x, y, x², y² and xy over its pixels.
    moments: [f64; 5],
}

impl Region {
    /// How sure the network is of what it marks: mean height of the marked pixels above the marking level.
    pub fn sureness(&self) -> f32 {
        if self.solid == 0 { 0.0 } else { self.mass / self.solid as f32 }
    }

    /// Its area over that of the ellipse that has the same second moments: 1 for an ellipse of any axes and direction,
    /// less for arcs, forks and what has holes. Pictures that are squeezed one way do not change it.
    pub fn roundness(&self) -> f32 {
        let n = f64::from(self.area);
        if n <= 0.0 {
            return 0.0;
        }
        let [x, y, xx, yy, xy] = self.moments.map(|m| m / n);
        // A pixel is a square, not a point.
        let (vx, vy, c) = (xx - x * x + 1.0 / 12.0, yy - y * y + 1.0 / 12.0, xy - x * y);
        let ellipse = 4.0 * std::f64::consts::PI * (vx * vy - c * c).max(1e-9).sqrt();
        (n / ellipse) as f32
    }
}

/// Numbers a pixel can carry; regions beyond it are left out.
const MOST: usize = u16::MAX as usize - 1;

#[derive(Debug, Default)]
pub(super) struct Regions {
    components: Components,
    /// Which pixels reach the lower level.
    inside: Vec<u8>,
    pub list: Vec<Region>,
    /// Of each pixel: its region's place in `list` plus 1, or 0.
    pub labels: Vec<u16>,
    width: usize,
}

impl Regions {
    /// Room for every map of this size, so that no later one allocates.
    pub fn reserve(&mut self, width: usize, height: usize) {
        self.width = width;
        let most = width.div_ceil(2) * height;
        self.components = Components::with_room(most);
        self.inside.clear();
        self.inside.resize(width * height, 0);
        self.labels.clear();
        self.labels.resize(width * height, 0);
        self.list.clear();
        self.list.reserve(most.min(MOST));
    }

    /// Finds the regions of values at or above `low`; `level` is the marking level, `most` what a pixel adds to a mass
    /// at most. A value that is not a number belongs to no region.
    pub fn find(&mut self, map: &[f32], low: f32, level: f32, most: f32) {
        let w = self.width.max(1);
        for (run, _) in self.components.runs() {
            let row = run.y as usize * w;
            self.labels[row + run.x0 as usize..row + run.x1 as usize].fill(0);
        }
        for (inside, v) in self.inside.iter_mut().zip(map) {
            *inside = u8::from(*v >= low);
        }
        self.components.label(self.inside.chunks_exact(w), Neighbourhood::Eight);
        self.list.clear();
        let count = self.components.count().min(MOST);
        self.list.resize(count, Region { peak: f32::NEG_INFINITY, ..Region::default() });
        for (run, number) in self.components.runs() {
            let Some(region) = self.list.get_mut(number) else { continue };
            let (y, x0, x1) = (run.y as u32, run.x0 as u32, run.x1 as u32);
            let span = y as usize * w + x0 as usize..y as usize * w + x1 as usize;
            self.labels[span.clone()].fill(number as u16 + 1);
            region.bounds = region.bounds.union(&Box2 { x0, y0: y, x1, y1: y + 1 });
            region.area += x1 - x0;
            let (n, row, a, b) = (f64::from(x1 - x0), f64::from(y), f64::from(x0), f64::from(x1));
            let sum = n * (a + b - 1.0) / 2.0;
            // Squares of all whole numbers below k add up to (k - 1) k (2k - 1) / 6.
            let squares = |k: f64| (k - 1.0) * k * (2.0 * k - 1.0) / 6.0;
            let added = [sum, n * row, squares(b) - squares(a), n * row * row, sum * row];
            region.moments.iter_mut().zip(added).for_each(|(m, v)| *m += v);
            // Sums of eight that do not wait for each other.
            let (mut peaks, mut masses) = ([f32::NEG_INFINITY; 8], [0f32; 8]);
            for eight in map[span].chunks(8) {
                for ((peak, mass), &v) in peaks.iter_mut().zip(&mut masses).zip(eight) {
                    *peak = if v > *peak { v } else { *peak };
                    *mass += (v - level).clamp(0.0, most);
                    region.solid += u32::from(v >= level);
                }
            }
            region.peak = peaks.into_iter().fold(region.peak, f32::max);
            region.mass += masses.into_iter().sum::<f32>();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The plain way: flood each region from its first pixel.
    fn flooded(map: &[f32], w: usize, low: f32) -> Vec<(Box2, u32)> {
        let h = map.len() / w;
        let mut seen = vec![false; map.len()];
        let mut out = Vec::new();
        for start in 0..map.len() {
            if seen[start] || map[start].is_nan() || map[start] < low {
                continue;
            }
            let (mut bounds, mut area, mut stack) = (Box2::default(), 0, vec![start]);
            seen[start] = true;
            while let Some(i) = stack.pop() {
                let (x, y) = (i % w, i / w);
                area += 1;
                bounds =
                    bounds.union(&Box2 { x0: x as u32, y0: y as u32, x1: x as u32 + 1, y1: y as u32 + 1 });
                for ny in y.saturating_sub(1)..(y + 2).min(h) {
                    for nx in x.saturating_sub(1)..(x + 2).min(w) {
                        let n = ny * w + nx;
                        if !seen[n] && map[n] >= low {
                            seen[n] = true;
                            stack.push(n);
                        }
                    }
                }
            }
            out.push((bounds, area));
        }
        out
    }

    #[test]
    fn ellipses_are_round_and_arcs_are_not() {
        let roundness = |inside: &dyn Fn(f64, f64) -> bool| {
            let map: Vec<f32> = (0..80 * 80)
                .map(|i| f32::from(u8::from(inside((i % 80) as f64 - 40.0, (i / 80) as f64 - 40.0))))
                .collect();
            let mut regions = Regions::default();
            regions.reserve(80, 80);
            regions.find(&map, 0.5, 0.5, 3.0);
            assert_eq!(regions.list.len(), 1);
            regions.list[0].roundness()
        };
        for (a, b, turn) in [(12.0f64, 12.0f64, 0.0f64), (20.0, 9.0, 0.6), (25.0, 6.0, 2.0)] {
            let r = roundness(&|x, y| {
                let (u, v) = (x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin());
                (u / a).powi(2) + (v / b).powi(2) <= 1.0
            });
            assert!((0.98..1.01).contains(&r), "{a} {b} {turn}: {r}");
        }
        // A half one, as at the edge of the picture, is nearly as round; a fold is not.
        let half = roundness(&|x, y| x.hypot(y) <= 20.0 && y >= 0.0);
        assert!((0.92..0.97).contains(&half), "{half}");
        let arc = roundness(&|x, y| (22.0..30.0).contains(&x.hypot(y)) && y >= 0.0);
        assert!(arc < 0.75, "{arc}");
    }

    proptest! {
        #[test]
        fn regions_are_those_of_a_flood(values in prop::collection::vec(prop::option::weighted(0.4, 0f32..2.0), 19 * 21), second in any::<bool>()) {
            let map: Vec<f32> = values.iter().map(|v| v.unwrap_or(f32::NAN)).collect();
            let mut regions = Regions::default();
            regions.reserve(19, 21);
            if second {
                regions.find(&vec![1.0; 19 * 21], 0.5, 1.0, 3.0);
            }
            regions.find(&map, 0.0, 1.0, 3.0);
            let found: Vec<_> = regions.list.iter().map(|r| (r.bounds, r.area)).collect();
            let mut plain = flooded(&map, 19, 0.0);
            let mut sorted = found.clone();
            let key = |r: &(Box2, u32)| (r.0.y0, r.0.x0, r.0.y1, r.0.x1, r.1);
            plain.sort_by_key(key);
            sorted.sort_by_key(key);
            prop_assert_eq!(sorted, plain);
            for (i, label) in regions.labels.iter().enumerate() {
                prop_assert_eq!(*label > 0, map[i] >= 0.0);
            }
        }
    }
}
