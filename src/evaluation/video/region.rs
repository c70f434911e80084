//! A set of pixels as runs along rows: masks, boxes and outlines flow in; areas, overlaps and components flow out.

use crate::frame::components::{Components, Neighbourhood, runs_of_row};
use crate::{Error, Result};

pub use crate::frame::components::Run;

/// No picture has a side as long.
pub(super) const LONGEST_SIDE: u32 = 1 << 15;

/// No frame shows more polyps. Each box becomes the rows it covers.
pub(super) const MOST_BOXES: usize = 1000;

/// Smallest box around a region: `x0..x1` by `y0..y1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// First column.
    pub x0: i32,
    /// First row.
    pub y0: i32,
    /// The column behind the last.
    pub x1: i32,
    /// The row behind the last.
    pub y1: i32,
}

impl Bounds {
    /// Pixels in it; 0 where an end does not lie behind its beginning.
    pub fn area(&self) -> u64 {
        (self.x1 - self.x0).max(0) as u64 * (self.y1 - self.y0).max(0) as u64
    }

    /// The pixels of a box (`[x0, y0, x1, y1]`) within a picture of `width` by `height`: each side at the nearest pixel
    /// edge, and one pixel where that would leave none.
    pub fn of_pixels([x0, y0, x1, y1]: [f64; 4], width: f64, height: f64) -> Self {
        let side = |a: f64, b: f64, end: f64| {
            let within = |v: f64| v.round().clamp(0.0, end) as i32;
            let (from, to) = (within(a), within(b));
            if from < to {
                return (from, to);
            }
            let at = f64::midpoint(a, b).floor().clamp(0.0, (end - 1.0).max(0.0)) as i32;
            (at, at + 1)
        };
        let ((x0, x1), (y0, y1)) = (side(x0, x1, width), side(y0, y1, height));
        Self { x0, y0, x1, y1 }
    }

    /// (x, y) of its middle, where whole numbers are pixel edges: that of a single pixel is at .5.
    pub fn centre(&self) -> (f64, f64) {
        (f64::from(self.x0 + self.x1) / 2.0, f64::from(self.y0 + self.y1) / 2.0)
    }

    /// Length from corner to corner, in pixels.
    pub fn diagonal(&self) -> f64 {
        f64::from(self.x1 - self.x0).hypot(f64::from(self.y1 - self.y0))
    }

    /// Pixels in both.
    pub fn intersection(&self, other: &Self) -> u64 {
        let common = Self {
            x0: self.x0.max(other.x0),
            y0: self.y0.max(other.y0),
            x1: self.x1.min(other.x1),
            y1: self.y1.min(other.y1),
        };
        common.area()
    }

    /// Intersection over union; 0 for two empty boxes.
    pub fn iou(&self, other: &Self) -> f64 {
        ratio(self.intersection(other), self.area() + other.area())
    }
}

/// Intersection over union from the intersection and the sum of both areas.
fn ratio(intersection: u64, areas: u64) -> f64 {
    if areas == 0 { 0.0 } else { intersection as f64 / (areas - intersection) as f64 }
}

/// A set of pixels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Region {
    /// Ascending by row, then column; apart from each other within a row.
    runs: Vec<Run>,
    area_px: u64,
    bounds: Bounds,
    /// Mean of the pixels' coordinates.
    centroid: (f64, f64),
}

impl Region {
    /// From runs in any order, overlapping or not.
    pub fn from_runs(mut runs: Vec<Run>) -> Self {
        runs.retain(|r| r.x1 > r.x0);
        runs.sort_unstable();
        let mut merged: Vec<Run> = Vec::with_capacity(runs.len());
        for run in runs {
            match merged.last_mut() {
                Some(last) if last.y == run.y && run.x0 <= last.x1 => last.x1 = last.x1.max(run.x1),
                _ => merged.push(run),
            }
        }
        let mut out = Self { runs: merged, ..Self::default() };
        let (mut sum_x, mut sum_y) = (0.0, 0.0);
        for (i, r) in out.runs.iter().enumerate() {
            let n = (r.x1 - r.x0) as u64;
            out.area_px += n;
            sum_x += n as f64 * (f64::from(r.x0 + r.x1 - 1) / 2.0);
            sum_y += n as f64 * f64::from(r.y);
            let b = &mut out.bounds;
            if i == 0 {
                *b = Bounds { x0: r.x0, y0: r.y, x1: r.x1, y1: r.y + 1 };
            } else {
                *b = Bounds { x0: b.x0.min(r.x0), y0: b.y0, x1: b.x1.max(r.x1), y1: r.y + 1 };
            }
        }
        if out.area_px > 0 {
            out.centroid = (sum_x / out.area_px as f64, sum_y / out.area_px as f64);
        }
        out
    }

    /// A filled box.
    pub fn from_bounds(b: Bounds) -> Self {
        Self::from_runs((b.y0..b.y1).map(|y| Run { y, x0: b.x0, x1: b.x1 }).collect())
    }

    /// The pixels of a row-major map for which `inside` says yes, shifted by an offset.
    pub fn from_map<T: Copy>(
        width: usize,
        map: &[T],
        (dx, dy): (i32, i32),
        inside: impl Fn(T) -> bool,
    ) -> Self {
        let mut runs = Vec::new();
        for (y, row) in map.chunks_exact(width.max(1)).enumerate() {
            runs_of_row(y as i32 + dy, row, &inside, |r| {
                runs.push(Run { x0: r.x0 + dx, x1: r.x1 + dx, ..r })
            });
        }
        Self::from_runs(runs)
    }

    /// A closed polygon of pixel centres with everything inside it, its own line included: what an outline encloses.
    /// The polygon may not cross itself.
    pub fn from_outline(points: &[[i32; 2]]) -> Self {
        let mut runs = Vec::new();
        let Some((y0, y1)) = points.iter().fold(None, |range, p| match range {
            None => Some((p[1], p[1])),
            Some((lo, hi)) => Some((p[1].min(lo), p[1].max(hi))),
        }) else {
            return Self::default();
        };
        let edges = || points.iter().zip(points.iter().cycle().skip(1));
        // The line itself.
        for (a, b) in edges() {
            let (a, b) = if a[1] <= b[1] { (a, b) } else { (b, a) };
            if a[1] == b[1] {
                runs.push(Run { y: a[1], x0: a[0].min(b[0]), x1: a[0].max(b[0]) + 1 });
                continue;
            }
            let slope = f64::from(b[0] - a[0]) / f64::from(b[1] - a[1]);
            for y in a[1]..=b[1] {
                let at = |y: f64| {
                    f64::from(a[0]) + slope * (y.clamp(f64::from(a[1]), f64::from(b[1])) - f64::from(a[1]))
                };
                let (x0, x1) = if slope.abs() <= 1.0 {
                    let x = at(f64::from(y)).round() as i32;
                    (x, x)
                } else {
                    let (u, v) = (at(f64::from(y) - 0.5), at(f64::from(y) + 0.5));
                    (u.min(v).ceil() as i32, u.max(v).floor() as i32)
                };
                runs.push(Run { y, x0, x1: x1 + 1 });
            }
        }
        // Even-odd inside it; each edge owns its upper end, so a vertex is counted once.
        let mut crossings = Vec::new();
        for y in y0..=y1 {
            crossings.clear();
            for (a, b) in edges() {
                let (a, b) = if a[1] <= b[1] { (a, b) } else { (b, a) };
                if a[1] <= y && y < b[1] {
                    let t = f64::from(y - a[1]) / f64::from(b[1] - a[1]);
                    crossings.push(f64::from(a[0]) + t * f64::from(b[0] - a[0]));
                }
            }
            crossings.sort_by(f64::total_cmp);
            for pair in crossings.chunks_exact(2) {
                runs.push(Run { y, x0: pair[0].ceil() as i32, x1: pair[1].floor() as i32 + 1 });
            }
        }
        Self::from_runs(runs)
    }

    /// All pixels of some regions.
    pub fn union<'a>(regions: impl IntoIterator<Item = &'a Region>) -> Self {
        Self::from_runs(regions.into_iter().flat_map(|r| r.runs.iter().copied()).collect())
    }

    /// Its pixels: ascending by row, then column; apart from each other within a row.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Number of its pixels.
    pub fn area_px(&self) -> u64 {
        self.area_px
    }

    /// The smallest box around it; all zeros for an empty region.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Mean of the pixels' coordinates.
    pub fn centroid(&self) -> (f64, f64) {
        self.centroid
    }

    /// Whether it has no pixel.
    pub fn is_empty(&self) -> bool {
        self.area_px == 0
    }

    /// Whether the pixel in column `x` and row `y` belongs to it.
    pub fn contains(&self, x: i32, y: i32) -> bool {
        let after = self.runs.partition_point(|r| (r.y, r.x0) <= (y, x));
        after > 0 && {
            let r = self.runs[after - 1];
            r.y == y && x < r.x1
        }
    }

    /// Pixels in both.
    pub fn intersection(&self, other: &Self) -> u64 {
        if self.bounds.intersection(&other.bounds) == 0 {
            return 0;
        }
        let (mut a, mut b) = (self.runs.as_slice(), other.runs.as_slice());
        let mut sum = 0;
        while let (Some(i), Some(j)) = (a.first(), b.first()) {
            if i.y == j.y {
                sum += (i.x1.min(j.x1) - i.x0.max(j.x0)).max(0) as u64;
            }
            if (i.y, i.x1) <= (j.y, j.x1) { a = &a[1..] } else { b = &b[1..] }
        }
        sum
    }

    /// Intersection over union; 0 for two empty regions.
    pub fn iou(&self, other: &Self) -> f64 {
        ratio(self.intersection(other), self.area_px + other.area_px)
    }
}

/// The connected components (8-neighbourhood) of a row-major binary map, in reading order, shifted by an offset.
///
/// # Errors
/// The number of pixels is no multiple of the width.
pub fn components(width: usize, map: &[u8], (dx, dy): (i32, i32)) -> Result<Vec<Region>> {
    if width == 0 || !map.len().is_multiple_of(width) {
        return Err(Error::internal(format!("a mask of {} pixels has no rows of {width}", map.len())));
    }
    let mut found = Components::default();
    found.label(map.chunks_exact(width), Neighbourhood::Eight);
    let mut parts: Vec<Vec<Run>> = vec![Vec::new(); found.count()];
    for (run, number) in found.runs() {
        parts[number].push(Run { y: run.y + dy, x0: run.x0 + dx, x1: run.x1 + dx });
    }
    Ok(parts.into_iter().map(Region::from_runs).collect())
}
