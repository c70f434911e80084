//! The fast path of 8-bit predictions: one pass counts levels inside and outside the ground truth in each quarter of
//! the picture, and every figure but weighted F is read off those histograms.
//!
//! In: 8-bit map and mask. Out: [`Figures`]. Reference: [`super::plain::figures_of_levels`].

use super::weighted::Weighted;
use super::{
    Counts, Curve, Figures, Mask, Protocol, centroid_cut, curve_level, object_term, plain, region_term,
};

/// Pixels per level, outside and inside the ground truth.
type Histogram = [[u64; 256]; 2];

pub(super) fn score(protocol: Protocol, levels: &[u8], truth: &Mask, weighted: &mut Weighted) -> Figures {
    let (cut_x, cut_y) = cut(truth);
    let quarters = count(levels, truth, cut_x, cut_y);
    let mut all: Histogram = [[0; 256]; 2];
    for quarter in &quarters {
        for side in 0..2 {
            for level in 0..256 {
                all[side][level] += quarter[side][level];
            }
        }
    }
    let used = |level: &usize| all[0][*level] + all[1][*level] > 0;
    let min = (0..256).find(used).unwrap_or(0) as u8;
    let max = (0..256).rev().find(used).unwrap_or(0) as u8;
    let mut p = [0.0; 256];
    for level in min..=max {
        p[usize::from(level)] = plain::probability(protocol, level, min, max);
    }

    let [negative, positive] = all.each_ref().map(|side| side.iter().sum::<u64>());
    let n = (positive + negative) as f64;
    let counts = |hit: &dyn Fn(f64) -> bool| {
        let count =
            |side: usize| (0..256).filter(|&level| hit(p[level])).map(|level| all[side][level]).sum::<u64>();
        Counts { tp: count(1), fp: count(0), positive, negative }
    };
    let sum = |side: usize| (0..256).map(|level| all[side][level] as f64 * p[level]).sum::<f64>();
    let (sum_out, sum_in) = (sum(0), sum(1));
    let mae = (sum_out + (positive as f64 - sum_in)) / n;

    let (dice, iou, overlap, half, adaptive);
    match protocol {
        Protocol::Published => {
            let sum_p = sum_in + sum_out;
            dice = (2.0 * sum_in + 1e-5) / (sum_p + positive as f64 + 1e-5);
            overlap = counts(&|p| p > 0.5);
            iou = overlap.iou_published();
            half = counts(&|p| p >= 0.5);
            let threshold = adaptive_threshold(&all, min, max, n);
            adaptive = counts(&|p| p >= threshold);
        }
        Protocol::Thresholded { threshold } => {
            overlap = counts(&|p| p >= threshold);
            (dice, iou) = overlap.overlap_binary();
            half = overlap;
            adaptive = overlap;
        }
    }

    let mut inside = [0u64; 256];
    let mut outside = [0u64; 256];
    for level in 0..256 {
        inside[curve_level(p[level])] += all[1][level];
        outside[curve_level(p[level])] += all[0][level];
    }

    let sm = if positive == 0 {
        1.0 - sum_out / n
    } else if negative == 0 {
        sum_in / n
    } else {
        let scale = Scale::of(protocol, min, max);
        let share = positive as f64 / n;
        let object = |side: usize| {
            let (mean, variance) = scale.mean_variance(&all[side]);
            object_term(if side == 1 { mean } else { 1.0 - mean }, variance.sqrt())
        };
        let region: f64 = quarters.iter().map(|quarter| scale.quarter(quarter, n)).sum();
        0.5 * (share * object(1) + (1.0 - share) * object(0)) + 0.5 * region
    };

    Figures {
        dice,
        iou,
        wfm: weighted.score(truth, |at| p[usize::from(levels[at])]),
        sm,
        em: adaptive.e_measure(),
        mae,
        avg_f: adaptive.f(),
        ber: half.ber(),
        acc: half.accuracy(),
        intersection_px: overlap.tp,
        union_px: overlap.union(),
        truth_px: positive,
        predicted_px: overlap.predicted(),
        total_px: levels.len() as u64,
        curve: Curve::from_levels(&inside, &outside),
    }
}

/// `min(1, 2 mean(p))`.
fn adaptive_threshold(all: &Histogram, min: u8, max: u8, n: f64) -> f64 {
    let scale = Scale::of(Protocol::Published, min, max);
    let sum: u64 = (0..256).map(|level| (all[0][level] + all[1][level]) * level as u64).sum();
    (2.0 * (sum as f64 / n - scale.offset) / scale.range).min(1.0)
}

/// The S-measure's cut, from row sums.
fn cut(truth: &Mask) -> (usize, usize) {
    let (w, area) = (truth.width(), truth.area_px());
    if area == 0 {
        return (w, truth.height());
    }
    let (mut sum_x, mut sum_y) = (0u64, 0u64);
    for (y, row) in truth.pixels().chunks_exact(w).enumerate() {
        let (mut count, mut x_sum) = (0u32, 0u32);
        // A row of 32767 pixels sums to less than 2³⁰.
        for (x, &g) in row.iter().enumerate() {
            count += u32::from(g);
            x_sum += x as u32 * u32::from(g);
        }
        sum_x += u64::from(x_sum);
        sum_y += y as u64 * u64::from(count);
    }
    centroid_cut(sum_x, sum_y, area)
}

/// Histograms of the four quarters, in reading order.
fn count(levels: &[u8], truth: &Mask, cut_x: usize, cut_y: usize) -> [Histogram; 4] {
    let (w, g) = (truth.width(), truth.pixels());
    let mut quarters = [[[0u64; 256]; 2]; 4];
    // Two counters in turn, since neighbours often share a level and a counter can only be bumped every few cycles.
    let mut turns = [[0u32; 512]; 2];
    for (rows, lower) in [(0..cut_y.min(truth.height()), 0), (cut_y.min(truth.height())..truth.height(), 2)] {
        for (columns, right) in [(0..cut_x.min(w), 0), (cut_x.min(w)..w, 1)] {
            // A 32-bit counter holds the whole of a picture of 32767 pixels a side.
            turns.iter_mut().for_each(|t| t.fill(0));
            for y in rows.clone() {
                let range = y * w + columns.start..y * w + columns.end;
                let (levels, g) = (&levels[range.clone()], &g[range]);
                let (l2, g2) = (levels.chunks_exact(2), g.chunks_exact(2));
                for (&level, &g) in l2.remainder().iter().zip(g2.remainder()) {
                    turns[0][usize::from(level) | usize::from(g & 1) << 8] += 1;
                }
                for (l, g) in l2.zip(g2) {
                    turns[0][usize::from(l[0]) | usize::from(g[0] & 1) << 8] += 1;
                    turns[1][usize::from(l[1]) | usize::from(g[1] & 1) << 8] += 1;
                }
            }
            for side in 0..2 {
                for level in 0..256 {
                    let at = side << 8 | level;
                    quarters[lower + right][side][level] = u64::from(turns[0][at]) + u64::from(turns[1][at]);
                }
            }
        }
    }
    quarters
}

/// `p = (level − offset) / range`, for statistics taken in integers.
struct Scale {
    offset: f64,
    range: f64,
}

impl Scale {
    fn of(protocol: Protocol, min: u8, max: u8) -> Self {
        match protocol {
            Protocol::Published if max > min => Self { offset: f64::from(min), range: f64::from(max - min) },
            _ => Self { offset: 0.0, range: 255.0 },
        }
    }

    /// Mean and population variance of p, from exact sums of the levels.
    fn mean_variance(&self, histogram: &[u64; 256]) -> (f64, f64) {
        let (count, sum, squares) = moments(histogram);
        let n = count as f64;
        let spread = u128::from(count) * u128::from(squares) - u128::from(sum) * u128::from(sum);
        ((sum as f64 / n - self.offset) / self.range, spread as f64 / (n * n * self.range * self.range))
    }

    /// Weighted region term of one quarter; an empty quarter weighs nothing.
    fn quarter(&self, quarter: &Histogram, picture: f64) -> f64 {
        let (count_in, sum_in, _) = moments(&quarter[1]);
        let mut both = quarter[0];
        for level in 0..256 {
            both[level] += quarter[1][level];
        }
        let (count, sum, _) = moments(&both);
        if count == 0 {
            return 0.0;
        }
        let n = count as f64;
        let (mean_p, var_p) = self.mean_variance(&both);
        let mean_g = count_in as f64 / n;
        let var_g = count_in as f64 * (count - count_in) as f64 / (n * n);
        // N² times the population covariance of level and ground truth, exactly.
        let joint = i128::from(count) * i128::from(sum_in) - i128::from(sum) * i128::from(count_in);
        let covariance = joint as f64 / (n * (n - 1.0).max(1.0) * self.range);
        n / picture * region_term(mean_p, mean_g, var_p, var_g, covariance)
    }
}

/// Count, sum and sum of squares of the levels.
fn moments(histogram: &[u64; 256]) -> (u64, u64, u64) {
    histogram.iter().enumerate().fold((0, 0, 0), |(count, sum, squares), (level, &n)| {
        let level = level as u64;
        (count + n, sum + n * level, squares + n * level * level)
    })
}
