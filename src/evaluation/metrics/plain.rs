//! Every figure as its formula reads, on `f64` maps: the reference the fast paths are tested against, and the path of
//! floating-point predictions (apart from weighted F, whose plain form takes time quadratic in the picture).
//!
//! In: a probability per pixel and a mask. Out: [`Figures`].

use super::{Counts, Curve, Figures, Mask, Protocol, centroid_cut, curve_level, object_term, region_term};

/// The figures of an 8-bit map, every one from its formula. Takes time quadratic in the number of pixels.
pub fn figures_of_levels(protocol: Protocol, levels: &[u8], truth: &Mask) -> Figures {
    let p = probabilities(protocol, levels);
    let wfm = weighted_f(&p, truth);
    figures_with(protocol, &p, truth, wfm)
}

/// An 8-bit map as the protocol's probabilities: stretched to its own range, or divided by 255.
pub fn probabilities(protocol: Protocol, levels: &[u8]) -> Vec<f64> {
    let (min, max) = levels.iter().fold((u8::MAX, 0), |(lo, hi), &v| (lo.min(v), hi.max(v)));
    levels.iter().map(|&v| probability(protocol, v, min, max)).collect()
}

/// One level of a map whose levels run from `min` to `max`.
pub(super) fn probability(protocol: Protocol, level: u8, min: u8, max: u8) -> f64 {
    match protocol {
        Protocol::Published if max > min => f64::from(level - min) / f64::from(max - min),
        _ => f64::from(level) / 255.0,
    }
}

/// All figures but weighted F, which is handed in.
pub(super) fn figures_with(protocol: Protocol, p: &[f64], truth: &Mask, wfm: f64) -> Figures {
    let g = truth.pixels();
    let n = p.len() as f64;
    let at_least = |threshold: f64| {
        let mut counts = Counts::default();
        for (&p, &g) in p.iter().zip(g) {
            let hit = u64::from(p >= threshold);
            if g == 1 {
                counts.positive += 1;
                counts.tp += hit;
            } else {
                counts.negative += 1;
                counts.fp += hit;
            }
        }
        counts
    };
    let mae = p.iter().zip(g).map(|(&p, &g)| (p - f64::from(g)).abs()).sum::<f64>() / n;

    let mut inside = [0u64; 256];
    let mut outside = [0u64; 256];
    for (&p, &g) in p.iter().zip(g) {
        if g == 1 { inside[curve_level(p)] += 1 } else { outside[curve_level(p)] += 1 }
    }

    let (dice, iou, overlap, half, adaptive);
    match protocol {
        Protocol::Published => {
            let (mut pg, mut sum_p, mut sum_g) = (0.0, 0.0, 0.0);
            overlap = p.iter().zip(g).fold(Counts::default(), |mut c, (&p, &g)| {
                let (hit, gf) = (u64::from(p > 0.5), f64::from(g));
                pg += p * gf;
                sum_p += p;
                sum_g += gf;
                let g = u64::from(g);
                c.tp += hit * g;
                c.fp += hit * (1 - g);
                c.positive += g;
                c.negative += 1 - g;
                c
            });
            dice = (2.0 * pg + 1e-5) / (sum_p + sum_g + 1e-5);
            iou = overlap.iou_published();
            half = at_least(0.5);
            adaptive = at_least((2.0 * sum_p / n).min(1.0));
        }
        Protocol::Thresholded { threshold } => {
            overlap = at_least(threshold);
            (dice, iou) = overlap.overlap_binary();
            half = overlap;
            adaptive = overlap;
        }
    }
    Figures {
        dice,
        iou,
        wfm,
        sm: s_measure(p, truth),
        em: adaptive.e_measure(),
        mae,
        avg_f: adaptive.f(),
        ber: half.ber(),
        acc: half.accuracy(),
        intersection_px: overlap.tp,
        union_px: overlap.union(),
        truth_px: overlap.positive,
        predicted_px: overlap.predicted(),
        total_px: p.len() as u64,
        curve: Curve::from_levels(&inside, &outside),
    }
}

/// S-measure (Fan et al. 2017), α = 0.5.
pub fn s_measure(p: &[f64], truth: &Mask) -> f64 {
    let g = truth.pixels();
    let n = p.len() as f64;
    let mean_g = truth.area_px() as f64 / n;
    let mean_p = p.iter().sum::<f64>() / n;
    if mean_g == 0.0 {
        return 1.0 - mean_p;
    }
    if mean_g == 1.0 {
        return mean_p;
    }
    let object = |inside: u8| {
        let values: Vec<f64> = (p.iter().zip(g))
            .filter(|&(_, &g)| g == inside)
            .map(|(&p, _)| if inside == 1 { p } else { 1.0 - p })
            .collect();
        let (mean, variance) = mean_variance(&values);
        object_term(mean, variance.sqrt())
    };
    0.5 * (mean_g * object(1) + (1.0 - mean_g) * object(0)) + 0.5 * region(p, truth)
}

fn region(p: &[f64], truth: &Mask) -> f64 {
    let (w, h, g) = (truth.width(), truth.height(), truth.pixels());
    let (mut sum_x, mut sum_y) = (0, 0);
    for y in 0..h {
        for x in 0..w {
            sum_x += x as u64 * u64::from(g[y * w + x]);
            sum_y += y as u64 * u64::from(g[y * w + x]);
        }
    }
    let (cut_x, cut_y) = centroid_cut(sum_x, sum_y, truth.area_px());
    let mut score = 0.0;
    for rows in [0..cut_y, cut_y..h] {
        for columns in [0..cut_x, cut_x..w] {
            let (mut ps, mut gs) = (Vec::new(), Vec::new());
            for y in rows.clone() {
                for x in columns.clone() {
                    ps.push(p[y * w + x]);
                    gs.push(f64::from(g[y * w + x]));
                }
            }
            score += ps.len() as f64 / (w * h) as f64 * quarter(&ps, &gs);
        }
    }
    score
}

/// An empty quarter weighs nothing; a covariance of a single pixel is 0.
fn quarter(p: &[f64], g: &[f64]) -> f64 {
    if p.is_empty() {
        return 0.0;
    }
    let ((mean_p, var_p), (mean_g, var_g)) = (mean_variance(p), mean_variance(g));
    let covariance = p.iter().zip(g).map(|(p, g)| (p - mean_p) * (g - mean_g)).sum::<f64>()
        / (p.len() as f64 - 1.0).max(1.0);
    region_term(mean_p, mean_g, var_p, var_g, covariance)
}

/// Mean and population variance; a constant region has exactly its value and 0, whatever rounding says.
fn mean_variance(values: &[f64]) -> (f64, f64) {
    if values.iter().all(|v| *v == values[0]) {
        return (values.first().copied().unwrap_or(0.0), 0.0);
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n)
}

/// Side of the smoothing window of weighted F.
pub(super) const WINDOW: usize = 7;
/// Half of it.
pub(super) const REACH: usize = WINDOW / 2;

/// One axis of the normalised 7x7 Gaussian, σ = 5 (their outer product is the window).
pub(super) fn gaussian() -> [f64; WINDOW] {
    let mut taps = [0.0; WINDOW];
    for (i, tap) in taps.iter_mut().enumerate() {
        let x = i as f64 - REACH as f64;
        *tap = (-x * x / (2.0 * 25.0)).exp();
    }
    let sum: f64 = taps.iter().sum();
    taps.map(|t| t / sum)
}

/// Weight of an error outside the ground truth, at a squared distance from it.
pub(super) fn distance_weight(squared: i32) -> f64 {
    2.0 - (0.5f64.ln() / 5.0 * f64::from(squared).sqrt()).exp()
}

/// Weighted F-measure (Margolin et al. 2014), β = 1, as its formula reads.
pub fn weighted_f(p: &[f64], truth: &Mask) -> f64 {
    let (w, h, g) = (truth.width(), truth.height(), truth.pixels());
    if truth.is_empty() {
        return 0.0;
    }
    let nearest = super::distance::plain(truth);
    let error: Vec<f64> = p.iter().zip(g).map(|(&p, &g)| (p - f64::from(g)).abs()).collect();
    let taken: Vec<f64> = nearest.iter().map(|n| error[n.row as usize * w + n.column as usize]).collect();
    let taps = gaussian();
    let (mut weighted_inside, mut weighted_outside, mut inside) = (0.0, 0.0, 0.0);
    for y in 0..h {
        for x in 0..w {
            let at = y * w + x;
            if g[at] == 1 {
                let mut smoothed = 0.0;
                for (j, tap_y) in taps.iter().enumerate() {
                    for (i, tap_x) in taps.iter().enumerate() {
                        let (yy, xx) = ((y + j).wrapping_sub(REACH), (x + i).wrapping_sub(REACH));
                        if yy < h && xx < w {
                            smoothed += tap_y * tap_x * taken[yy * w + xx];
                        }
                    }
                }
                weighted_inside += smoothed.min(error[at]);
                inside += 1.0;
            } else {
                weighted_outside += error[at] * distance_weight(nearest[at].squared);
            }
        }
    }
    f_of_weights(inside, weighted_inside, weighted_outside)
}

/// From the size of the ground truth and the weighted errors inside and outside it.
pub(super) fn f_of_weights(inside: f64, weighted_inside: f64, weighted_outside: f64) -> f64 {
    let tp = inside - weighted_inside;
    let recall = 1.0 - weighted_inside / inside;
    let precision = tp / (1e-6 + tp + weighted_outside);
    2.0 * recall * precision / (1e-6 + recall + precision)
}
