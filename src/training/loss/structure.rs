//! Weighted BCE and weighted IoU: what the published code trains with.
//!
//! The weight of a pixel is `1 + 5 · |mean of the mask within 31x31 − mask|`, the padding counted: high at the edges of
//! polyps. The published code asks PyTorch for `reduce='none'`, which PyTorch reads as the plain mean: its BCE is not
//! weighted at all. [`Weighting::Published`] does the same, [`Weighting::PerPixel`] what was meant.

use rayon::prelude::*;

use super::super::real::Real;
use super::{Maps, probabilities, through_probabilities};

/// Side of the window that makes the weights.
const WINDOW: usize = 31;
const CONTRAST: f64 = 5.0;

/// How pixels count in the cross-entropy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// All alike, as the published code computes.
    #[default]
    Published,
    /// By their weight.
    PerPixel,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Structure {
    /// How pixels count in the cross-entropy; in the weighted IoU they always count by their weight.
    pub weighting: Weighting,
    /// Added for pictures whose mask is empty: this much times the mean of their most certain pixels' probability, of
    /// the likeliest 1 % of them. Teaches to stay silent; 0 as published.
    pub silence: f64,
}

impl Structure {
    /// The loss, averaged over pictures (and classes), and its gradient with respect to the logits.
    pub fn run<T: Real>(&self, maps: Maps, logits: &[T], labels: &[u8]) -> (f64, Vec<T>) {
        let Maps { batch, classes: k, .. } = maps;
        let px = maps.px();
        assert!(logits.len() == maps.len() && labels.len() == batch * px, "logits and labels of one size");
        let p = probabilities(maps, logits);
        let mut grad = vec![T::ZERO; logits.len()];
        let mut of_p = vec![T::ZERO; logits.len()];
        let pictures = grad
            .par_chunks_mut(k * px)
            .zip(of_p.par_chunks_mut(k * px))
            .zip(logits.par_chunks(k * px))
            .zip(p.par_chunks(k * px))
            .zip(labels.par_chunks(px));
        let losses: Vec<f64> = pictures
            .map(|((((grad, of_p), z), p), labels)| {
                let weights: Vec<Vec<f64>> = (0..k).map(|c| weights(labels, c, maps)).collect();
                let mut loss = self.cross_entropy(maps, z, p, labels, &weights, grad);
                for (c, weights) in weights.iter().enumerate() {
                    loss += overlap(maps, c, p, labels, weights, &mut of_p[c * px..][..px]);
                }
                if self.silence > 0.0 && labels.iter().all(|&l| l == 0) {
                    loss += self.loudest(maps, p, of_p);
                }
                loss
            })
            .collect();
        through_probabilities(maps, &p, &of_p, &mut grad);
        (losses.iter().sum::<f64>() / batch as f64, grad)
    }

    /// `Σ w · −log p(label)`, the weights adding up to one.
    fn cross_entropy<T: Real>(
        &self,
        maps: Maps,
        z: &[T],
        p: &[T],
        labels: &[u8],
        weights: &[Vec<f64>],
        grad: &mut [T],
    ) -> f64 {
        let (k, px) = (maps.classes, maps.px());
        let weight = |at: usize| match self.weighting {
            Weighting::Published => 1.0,
            Weighting::PerPixel => weights.iter().fold(0.0f64, |m, w| m.max(w[at])),
        };
        let total: f64 = (0..px).map(weight).sum();
        let mut loss = 0.0;
        for at in 0..px {
            let share = weight(at) / total;
            let z = |c: usize| z[c * px + at].wide();
            let most = (0..k).map(z).fold(0.0, |m: f64, z| if z > m || z.is_nan() { z } else { m });
            let sum = (0..k).map(|c| (z(c) - most).exp()).sum::<f64>() + (-most).exp();
            let label = usize::from(labels[at]);
            let own = if label == 0 { 0.0 } else { z(label - 1) };
            loss += share * (most + sum.ln() - own);
            for c in 0..k {
                let there = if label == c + 1 { 1.0 } else { 0.0 };
                let g = share * (p[c * px + at].wide() - there) / maps.batch as f64;
                grad[c * px + at] += T::of(g);
            }
        }
        loss
    }

    fn loudest<T: Real>(&self, maps: Maps, p: &[T], of_p: &mut [T]) -> f64 {
        let n = (p.len() / 100).max(1);
        let mut order: Vec<usize> = (0..p.len()).collect();
        order.select_nth_unstable_by(n - 1, |&a, &b| p[b].wide().total_cmp(&p[a].wide()));
        let share = self.silence / n as f64;
        order[..n].iter().for_each(|&at| of_p[at] += T::of(share / maps.batch as f64));
        order[..n].iter().map(|&at| share * p[at].wide()).sum()
    }
}

/// `1 − (I + 1) / (U − I + 1)` with weighted intersection and sum, as a share of the classes; adds the gradient.
fn overlap<T: Real>(
    maps: Maps,
    class: usize,
    p: &[T],
    labels: &[u8],
    weights: &[f64],
    of_p: &mut [T],
) -> f64 {
    let px = maps.px();
    let p = &p[class * px..][..px];
    let (mut both, mut sum) = (0.0, 0.0);
    for ((p, &label), w) in p.iter().zip(labels).zip(weights) {
        let there = usize::from(label) == class + 1;
        both += if there { w * p.wide() } else { 0.0 };
        sum += w * (p.wide() + f64::from(u8::from(there)));
    }
    let apart = sum - both + 1.0;
    let share = 1.0 / maps.classes as f64;
    let scale = share / maps.batch as f64;
    for ((to, &label), w) in of_p.iter_mut().zip(labels).zip(weights) {
        let inside = if usize::from(label) == class + 1 { *w } else { 0.0 };
        let slope = (inside * apart - (both + 1.0) * (w - inside)) / (apart * apart);
        *to += T::of(-slope * scale);
    }
    share * (1.0 - (both + 1.0) / apart)
}

/// The weight of each pixel for one class.
fn weights(labels: &[u8], class: usize, maps: Maps) -> Vec<f64> {
    let (h, w) = (maps.h, maps.w);
    let mask = |at: usize| u32::from(usize::from(labels[at]) == class + 1);
    // Counts above and left of each corner.
    let mut before = vec![0u32; (h + 1) * (w + 1)];
    for y in 0..h {
        let mut row = 0;
        for x in 0..w {
            row += mask(y * w + x);
            before[(y + 1) * (w + 1) + x + 1] = before[y * (w + 1) + x + 1] + row;
        }
    }
    let half = WINDOW / 2;
    let area = (WINDOW * WINDOW) as f64;
    let mut out = Vec::with_capacity(h * w);
    for y in 0..h {
        let (top, bottom) = (y.saturating_sub(half), (y + half + 1).min(h));
        for x in 0..w {
            let (left, right) = (x.saturating_sub(half), (x + half + 1).min(w));
            let at = |y: usize, x: usize| before[y * (w + 1) + x];
            let inside = at(bottom, right) + at(top, left) - at(top, right) - at(bottom, left);
            let mean = f64::from(inside) / area;
            out.push(1.0 + CONTRAST * (mean - f64::from(mask(y * w + x))).abs());
        }
    }
    out
}
