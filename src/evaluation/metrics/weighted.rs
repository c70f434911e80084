//! The fast path of weighted F (Margolin et al. 2014): linear-time distance, a table for its exponential, and a
//! separable Gaussian taken only where it is used, in the box around the ground truth.
//!
//! In: a mask and the probability of a pixel. Out: weighted F, β = 1. Reference: [`super::plain::weighted_f`].

use std::sync::OnceLock;

use super::Mask;
use super::distance::DistanceTransform;
use super::plain::{REACH, WINDOW, distance_weight, f_of_weights, gaussian};

/// Beyond this squared distance the weight is 2 to the last bit of an `f64`.
const FAR: i32 = 270 * 270;

/// `2 − exp(ln 0.5 / 5 d)` by squared distance.
fn weights() -> &'static [f64] {
    static TABLE: OnceLock<Vec<f64>> = OnceLock::new();
    TABLE.get_or_init(|| (0..=FAR).map(distance_weight).collect())
}

/// Working memory, kept from pair to pair.
#[derive(Debug, Default)]
pub(super) struct Weighted {
    distance: DistanceTransform,
    /// Error per pixel of the box around the ground truth, widened by the window's reach and kept within the picture;
    /// outside the ground truth, the error of the nearest pixel inside.
    taken: Vec<f64>,
    /// The same, smoothed along the rows: a column of the box without its margin per entry.
    rows: Vec<f64>,
}

/// A box, ends excluded.
#[derive(Clone, Copy)]
struct Bounds {
    x0: usize,
    y0: usize,
    x1: usize,
    y1: usize,
}

fn bounds(mask: &Mask) -> Option<Bounds> {
    let w = mask.width();
    let mut found: Option<Bounds> = None;
    for (y, row) in mask.pixels().chunks_exact(w).enumerate() {
        let Some(first) = row.iter().position(|&g| g == 1) else { continue };
        let last = row.iter().rposition(|&g| g == 1).unwrap_or(first);
        let b = found.get_or_insert(Bounds { x0: first, y0: y, x1: last + 1, y1: y + 1 });
        b.x0 = b.x0.min(first);
        b.x1 = b.x1.max(last + 1);
        b.y1 = y + 1;
    }
    found
}

impl Weighted {
    /// 0 for an empty mask.
    pub fn score(&mut self, truth: &Mask, p: impl Fn(usize) -> f64) -> f64 {
        let (w, h, g) = (truth.width(), truth.height(), truth.pixels());
        let Some(inner) = bounds(truth) else { return 0.0 };
        let outer = Bounds {
            x0: inner.x0.saturating_sub(REACH),
            y0: inner.y0.saturating_sub(REACH),
            x1: (inner.x1 + REACH).min(w),
            y1: (inner.y1 + REACH).min(h),
        };
        let (table, pitch) = (weights(), outer.x1 - outer.x0);
        self.taken.clear();
        self.distance.prepare(truth);

        // Along the rows: the weighted error outside is summed, errors in the box are kept.
        let mut outside = 0.0;
        for y in 0..h {
            let row = y * w;
            let within = (outer.y0..outer.y1).contains(&y);
            let taken = &mut self.taken;
            let mut row_sum = 0.0;
            self.distance.row(y, |from, to, site| {
                let own = site.row as usize * w + site.column as usize;
                let inside_row = g[own] == 1;
                debug_assert!(inside_row);
                for x in from..to {
                    let at = row + x;
                    if g[at] == 0 {
                        let error = p(at);
                        if error > 0.0 {
                            let dx = x as i32 - site.column;
                            let squared = (dx * dx + site.vertical_squared).min(FAR);
                            row_sum += error * table[squared as usize];
                        }
                    }
                }
                if within {
                    let error = 1.0 - p(own);
                    let kept = from.max(outer.x0)..to.min(outer.x1);
                    taken.extend(kept.map(|x| if g[row + x] == 1 { 1.0 - p(row + x) } else { error }));
                }
            });
            outside += row_sum;
        }

        // Smoothing, zero beyond the picture: along the rows of the widened box, then down its columns.
        let taps = gaussian();
        let width = inner.x1 - inner.x0;
        self.rows.clear();
        for line in self.taken.chunks_exact(pitch) {
            self.rows.extend((inner.x0..inner.x1).map(|x| {
                let mut sum = 0.0;
                for (i, tap) in taps.iter().enumerate() {
                    let xx = (x + i).wrapping_sub(REACH);
                    if xx < w {
                        sum += tap * line[xx - outer.x0];
                    }
                }
                sum
            }));
        }
        let mut inside = 0.0;
        let mut area = 0u64;
        for y in inner.y0..inner.y1 {
            let mut row_sum = 0.0;
            for x in inner.x0..inner.x1 {
                let at = y * w + x;
                if g[at] == 0 {
                    continue;
                }
                area += 1;
                let mut smoothed = 0.0;
                for j in 0..WINDOW {
                    let yy = (y + j).wrapping_sub(REACH);
                    if yy < h {
                        smoothed += taps[j] * self.rows[(yy - outer.y0) * width + x - inner.x0];
                    }
                }
                row_sum += smoothed.min(1.0 - p(at));
            }
            inside += row_sum;
        }
        f_of_weights(area as f64, inside, outside)
    }
}
