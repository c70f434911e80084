//! Enlarging and thresholding in one pass that only visits where something can be.
//!
//! In: `[classes, h, w]` logits, a level. Out: which pixels of the enlarged map reach it, their values, and the largest
//! value anywhere: what [`super::Upsampler`] followed by a comparison gives, to the bit. A bilinear sample is never
//! above the largest of its four neighbours by more than it is rounded, so cells whose corners all lie that far below
//! the level are skipped; in most frames that is nearly all of them.

use super::upsample::{Between, positions};
use crate::frame::{Extent, Found};

/// Rounding of a sample, in shares of the map's largest magnitude: a difference, a product and a sum along each axis,
/// each of values up to twice as large, come to ten half units in the last place at most.
const ROUNDING: f32 = 8.0 * f32::EPSILON;

/// Thresholds enlarged maps; keeps its tables while sizes stay the same.
#[derive(Debug, Default)]
pub struct Thresholder {
    key: (usize, usize, usize, usize),
    across: Vec<Between>,
    down: Vec<Between>,
    /// For each source column the first output column that lies at or behind it; one more for the end.
    columns: Vec<usize>,
    /// Two source rows at the target's width, from the stretch's first column on.
    rows: [Vec<f32>; 2],
    joined: Vec<f32>,
}

impl Thresholder {
    /// Writes 1 into `inside` (row-major at the target's size) where the enlarged map reaches `level`, else 0, and the
    /// map's values into `values`, there and around; elsewhere `values` is left alone. Logits are finite.
    pub fn run(
        &mut self,
        logits: &[f32],
        classes: usize,
        (h, w): (usize, usize),
        (target_h, target_w): (usize, usize),
        level: f32,
        inside: &mut [u8],
        values: &mut [f32],
    ) -> Found {
        self.prepare((h, w), (target_h, target_w));
        let mut joined = std::mem::take(&mut self.joined);
        let map: &[f32] = if classes == 1 {
            &logits[..h * w]
        } else {
            joined.clear();
            joined.extend_from_slice(&logits[..h * w]);
            for class in logits.chunks_exact(h * w).skip(1) {
                for (j, &l) in joined.iter_mut().zip(class) {
                    *j = j.max(l);
                }
            }
            &joined
        };
        // As integers, which order magnitudes alike and are compared many at once.
        let magnitude = f32::from_bits(map.iter().fold(0, |m, l| m.max(l.abs().to_bits())));
        let rounding = ROUNDING * magnitude;
        inside.fill(0);
        let mut found = Found { area: 0, top: f32::NEG_INFINITY, extent: Extent::default() };
        let mut extent = Extent { left: target_w, top: target_h, right: 0, bottom: 0 };
        self.visit(map, w, target_h, level - rounding, |y, first, row| {
            let at = y * target_w + first;
            let line = &mut inside[at..at + row.len()];
            values[at..at + row.len()].copy_from_slice(row);
            let (mut n, mut most) = (0u32, f32::NEG_INFINITY);
            for (o, &l) in line.iter_mut().zip(row) {
                let hit = l >= level;
                *o = u8::from(hit);
                n += u32::from(hit);
                most = if l > most { l } else { most };
            }
            found.top = found.top.max(most);
            if n > 0 {
                found.area += u64::from(n);
                let left = line.iter().position(|&o| o != 0).unwrap_or(0);
                let right = line.iter().rposition(|&o| o != 0).unwrap_or(0) + 1;
                extent.left = extent.left.min(first + left);
                extent.right = extent.right.max(first + right);
                extent.top = extent.top.min(y);
                extent.bottom = y + 1;
            }
        });
        if found.area > 0 {
            found.extent = extent;
        } else {
            // The largest sample is at least as large as the one nearest to the largest source value.
            let best = (0..h * w).fold(0, |b, i| if map[i] > map[b] { i } else { b });
            let nearest = |line: &[Between], i: usize| {
                let off = |b: &Between| (b.low as f32 + b.t - i as f32).abs();
                (0..line.len()).fold(0, |n, j| if off(&line[j]) < off(&line[n]) { j } else { n })
            };
            let (y, x) = (nearest(&self.down, best / w), nearest(&self.across, best % w));
            let bound = sample(map, w, self.down[y], self.across[x]);
            let mut top = bound;
            self.visit(map, w, target_h, bound - rounding, |_, _, row| {
                top = row.iter().fold(top, |m, &l| if l > m { l } else { m });
            });
            found.top = top;
        }
        self.joined = joined;
        found
    }

    /// Fills `values` with the enlarged map inside `extent`, for maps that were thresholded elsewhere.
    pub fn values_within(
        &mut self,
        logits: &[f32],
        classes: usize,
        (h, w): (usize, usize),
        (target_h, target_w): (usize, usize),
        extent: Extent,
        values: &mut [f32],
    ) {
        self.prepare((h, w), (target_h, target_w));
        for y in extent.top..extent.bottom {
            for x in extent.left..extent.right {
                let (down, across) = (self.down[y], self.across[x]);
                values[y * target_w + x] = if classes == 1 {
                    sample(&logits[..h * w], w, down, across)
                } else {
                    // Classes are joined before the enlargement.
                    let at = |r: usize, c: usize| {
                        (0..classes).fold(f32::NEG_INFINITY, |m, k| m.max(logits[(k * h + r) * w + c]))
                    };
                    let line = |r: usize| {
                        let (a, b) = (at(r, across.low), at(r, across.high));
                        a + (b - a) * across.t
                    };
                    let (a, b) = (line(down.low), line(down.high));
                    a + (b - a) * down.t
                };
            }
        }
    }

    /// Calls `each(y, first column, samples)` for every stretch of a row with a sample that has a neighbour of `level`
    /// or more.
    fn visit(
        &mut self,
        map: &[f32],
        w: usize,
        target_h: usize,
        level: f32,
        mut each: impl FnMut(usize, usize, &[f32]),
    ) {
        let [above, below] = &mut self.rows;
        let mut y = 0;
        while y < target_h {
            let (low, high) = (self.down[y].low, self.down[y].high);
            let end = y + self.down[y..].iter().take_while(|b| (b.low, b.high) == (low, high)).count();
            let (a, b) = (&map[low * w..(low + 1) * w], &map[high * w..(high + 1) * w]);
            let reaches = |c: &usize| a[*c] >= level || b[*c] >= level;
            if let (Some(first), Some(last)) = ((0..w).find(reaches), (0..w).rfind(reaches)) {
                // Samples between the column before the first and the one after the last.
                let from = self.columns[first.saturating_sub(1)];
                let to = self.columns[(last + 1).min(w)];
                let across = &self.across[from..to];
                for (line, out) in [(a, &mut *above), (b, &mut *below)] {
                    for (o, p) in out.iter_mut().zip(across) {
                        *o = line[p.low] + (line[p.high] - line[p.low]) * p.t;
                    }
                }
                let n = to - from;
                for (y, place) in (y..end).zip(&self.down[y..end]) {
                    let t = place.t;
                    let mut done = 0;
                    while done < n {
                        let mut part = [0f32; 256];
                        let m = (n - done).min(part.len());
                        let pair = above[done..done + m].iter().zip(&below[done..done + m]);
                        for (o, (a, b)) in part[..m].iter_mut().zip(pair) {
                            *o = a + (b - a) * t;
                        }
                        each(y, from + done, &part[..m]);
                        done += m;
                    }
                }
            }
            y = end;
        }
    }

    fn prepare(&mut self, (h, w): (usize, usize), (target_h, target_w): (usize, usize)) {
        let key = (h, w, target_h, target_w);
        if self.key == key {
            return;
        }
        self.key = key;
        positions(w, target_w, &mut self.across);
        positions(h, target_h, &mut self.down);
        self.columns.clear();
        for c in 0..w {
            self.columns.push(self.across.partition_point(|b| b.low < c));
        }
        self.columns.push(target_w);
        for row in &mut self.rows {
            row.resize(target_w, 0.0);
        }
    }
}

fn sample(map: &[f32], w: usize, y: Between, x: Between) -> f32 {
    let line = |r: usize| {
        let line = &map[r * w..(r + 1) * w];
        line[x.low] + (line[x.high] - line[x.low]) * x.t
    };
    let (a, b) = (line(y.low), line(y.high));
    a + (b - a) * y.t
}

#[cfg(test)]
mod tests {
    use super::super::Upsampler;
    use super::*;
    use proptest::prelude::*;

    fn plainly(
        logits: &[f32],
        classes: usize,
        size: (usize, usize),
        target: (usize, usize),
        level: f32,
    ) -> (Vec<u8>, Vec<f32>, Found) {
        let (mut inside, mut values) = (Vec::new(), Vec::new());
        let mut found = Found { area: 0, top: f32::NEG_INFINITY, extent: Extent::default() };
        let mut extent = Extent { left: usize::MAX, top: usize::MAX, right: 0, bottom: 0 };
        Upsampler::default().run(logits, classes, size, target, |y, row| {
            for (x, &l) in row.iter().enumerate() {
                values.push(l);
                inside.push(u8::from(l >= level));
                found.top = found.top.max(l);
                if l >= level {
                    found.area += 1;
                    extent.left = extent.left.min(x);
                    extent.right = extent.right.max(x + 1);
                    extent.top = extent.top.min(y);
                    extent.bottom = y + 1;
                }
            }
        });
        if found.area > 0 {
            found.extent = extent;
        }
        (inside, values, found)
    }

    fn map_of(classes: usize, (h, w): (usize, usize), seed: u32) -> Vec<f32> {
        let at = |i: u32| i.wrapping_mul(747796405).wrapping_add(seed).wrapping_mul(2891336453) >> 8;
        (1..=classes * h * w).map(|i| at(i as u32) as f32 / 1e6 - 8.0).collect()
    }

    /// Near a column's end a sample is rounded to above both of its neighbours; it may be the only one that reaches.
    #[test]
    fn a_sample_above_its_neighbours_is_found() {
        let (logits, level) = ([-6.521_993_f32, 5.084_602_4], 5.084_603);
        let (inside, _, found) = plainly(&logits, 1, (1, 2), (1, 98), level);
        assert!(logits.iter().all(|&l| l < level) && found.area > 0, "{found:?}");
        let (mut got, mut values) = (vec![9; 98], vec![0.0; 98]);
        assert_eq!(
            Thresholder::default().run(&logits, 1, (1, 2), (1, 98), level, &mut got, &mut values),
            found
        );
        assert_eq!(got, inside);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn finds_what_the_plain_steps_find(
            h in 1usize..12, w in 1usize..12, th in 1usize..40, tw in 1usize..600, classes in 1usize..4,
            level in -6f32..9.0, seed in any::<u32>(), exact in 0..3,
        ) {
            let logits = map_of(classes, (h, w), seed);
            // Often a level that a logit or a sample has to the bit.
            let level = match exact {
                0 => level,
                1 => logits[seed as usize % logits.len()],
                _ => plainly(&logits, classes, (h, w), (th, tw), level).1[seed as usize % (th * tw)],
            };
            let (inside, values, found) = plainly(&logits, classes, (h, w), (th, tw), level);
            let mut t = Thresholder::default();
            for _ in 0..2 {
                let (mut got, mut got_values) = (vec![9; th * tw], vec![f32::NAN; th * tw]);
                let result = t.run(&logits, classes, (h, w), (th, tw), level, &mut got, &mut got_values);
                prop_assert_eq!(result, found);
                prop_assert_eq!(&got, &inside);
                for (i, &o) in got.iter().enumerate() {
                    prop_assert!(o == 0 || got_values[i] == values[i]);
                }
                let mut again = vec![f32::NAN; th * tw];
                t.values_within(&logits, classes, (h, w), (th, tw), found.extent, &mut again);
                for (i, &o) in got.iter().enumerate() {
                    prop_assert!(o == 0 || again[i] == values[i]);
                }
            }
        }
    }

    /// A session keeps its thresholder while sizes, classes and maps change: nothing of the last may be left in it.
    #[test]
    fn what_was_kept_for_another_size_changes_nothing() {
        let mut kept = Thresholder::default();
        let sizes = [
            (1, (4, 5), (20, 30)),
            (3, (7, 3), (9, 11)),
            (2, (7, 3), (9, 600)),
            (3, (2, 9), (31, 8)),
            (1, (7, 3), (9, 11)),
            (3, (2, 9), (31, 9)),
        ];
        for (round, (classes, size, target)) in sizes.into_iter().enumerate() {
            let logits = map_of(classes, size, 7919 * round as u32);
            for level in [-2.0, 5.0, 100.0] {
                let (inside, values, found) = plainly(&logits, classes, size, target, level);
                let (mut got, mut got_values) = (vec![9; inside.len()], vec![f32::NAN; inside.len()]);
                let result = kept.run(&logits, classes, size, target, level, &mut got, &mut got_values);
                assert_eq!(result, found, "round {round}, {level}");
                assert_eq!(got, inside, "round {round}, {level}");
                let marked = |i: &usize| inside[*i] != 0;
                assert!(
                    (0..inside.len()).filter(marked).all(|i| got_values[i] == values[i]),
                    "round {round}"
                );
                let mut again = vec![f32::NAN; inside.len()];
                kept.values_within(&logits, classes, size, target, found.extent, &mut again);
                assert!((0..inside.len()).filter(marked).all(|i| again[i] == values[i]), "round {round}");
            }
        }
    }

    /// What makes it fast: samples between values that all lie below the level are not even computed.
    #[test]
    fn only_what_may_reach_the_level_is_visited() {
        let (size, target) = ((8, 10), (72, 90));
        for (x, y) in [(0, 0), (9, 7), (4, 3), (0, 5), (9, 2)] {
            let mut logits = vec![-5.0; 80];
            logits[y * 10 + x] = 3.0;
            let (mut inside, mut values) = (vec![9; 72 * 90], vec![f32::NAN; 72 * 90]);
            let found = Thresholder::default().run(&logits, 1, size, target, 0.0, &mut inside, &mut values);
            // The fifth of a value's nine samples a side lies on it.
            assert_eq!((found.top, values[(9 * y + 4) * 90 + 9 * x + 4]), (3.0, 3.0));
            for (i, value) in values.iter().enumerate() {
                let far = (i % 90).abs_diff(9 * x + 4) > 9 || (i / 90).abs_diff(9 * y + 4) > 9;
                assert!(!far || (value.is_nan() && inside[i] == 0), "sample {i} for ({x}, {y})");
            }
        }
    }

    /// Between a value and the next float, samples are rounded to one of the two: also the lower of two lines may be
    /// what reaches the level.
    #[test]
    fn a_level_that_is_reached_by_rounding_is_found() {
        let (low, high) = (1.0, f32::from_bits(1.0f32.to_bits() + 1));
        for logits in [[low, high], [high, low]] {
            for (size, target) in [((2, 1), (20, 3)), ((1, 2), (3, 20))] {
                let (inside, _, found) = plainly(&logits, 1, size, target, high);
                let (mut got, mut values) = (vec![9; 60], vec![f32::NAN; 60]);
                let result =
                    Thresholder::default().run(&logits, 1, size, target, high, &mut got, &mut values);
                // Half of the samples: more than those that lie beyond the higher value.
                assert_eq!((result.area, &got), (30, &inside), "{size:?}");
                assert_eq!(result, found, "{size:?}");
            }
        }
    }
}
