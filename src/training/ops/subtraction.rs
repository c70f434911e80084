//! A subtraction unit before its convolution, the all-ones convolutions collapsed:
//! `out = |a − b| + Σ_k |g_k(a) − g_k(b)|`, `g_k(z)_c = relu(γ_c · ẑ_k + β_c)`.
//!
//! With all weights one, every output channel of a `k x k` convolution is the same plane, the sums over channels and
//! window: `A_k = box_k(Σ_c a_c)`. Training keeps that form, for the statistics of a plane repeated 64 times are the
//! plane's own. So `ẑ_k` is one plane a picture, normalised over the batch; γ and β are those of the shared norm of
//! `conv_k`, and its running statistics move twice a unit, first by `a`, then by `b`.

use rayon::prelude::*;

use super::super::real::{Real, squares_about, sum};
use super::batch_norm::{EPSILON, Statistics};

/// One all-ones convolution: its side, and scale and shift of its norm.
#[derive(Clone, Copy, Debug)]
pub struct Scale<'a, T> {
    /// Rows and columns of the window, odd.
    pub side: usize,
    /// Scale of the norm, for each channel.
    pub gamma: &'a [T],
    /// Shift of the norm, for each channel.
    pub beta: &'a [T],
}

/// Batch statistics or running ones.
#[derive(Clone, Copy, Debug)]
pub enum Norms<'a, T> {
    /// Mean and variance of the batch's own planes.
    Batch,
    /// Running mean and variance of each scale.
    Fixed(&'a [(&'a [T], &'a [T])]),
}

/// The planes of one scale and operand.
#[derive(Clone, Debug)]
struct Plane<T> {
    /// `[batch, pixels]`, normalised; with running statistics less [`centre`].
    values: Vec<T>,
    inverse: T,
}

/// What backward needs beside the operands.
#[derive(Clone, Debug)]
pub struct Saved<T> {
    /// For each scale: those of `a` and of `b`.
    planes: Vec<[Plane<T>; 2]>,
}

/// Statistics of one scale, of `a` and of `b`, each of a plane: the same for every channel.
pub type ScaleStatistics = [Statistics; 2];

/// Sum over channels, picture by picture.
fn channel_sums<T: Real>(x: &[T], channels: usize, px: usize) -> Vec<T> {
    let mut out = vec![T::ZERO; x.len() / channels];
    out.par_chunks_mut(px).zip(x.par_chunks(channels * px)).for_each(|(out, picture)| {
        for plane in picture.chunks_exact(px) {
            out.iter_mut().zip(plane).for_each(|(sum, &v)| *sum += v);
        }
    });
    out
}

/// Sums over windows of `side`, zeros outside: its own adjoint.
fn box_sums<T: Real>(x: &[T], (h, w): (usize, usize), side: usize) -> Vec<T> {
    let half = side / 2;
    let mut out = vec![T::ZERO; x.len()];
    out.par_chunks_mut(h * w).zip(x.par_chunks(h * w)).for_each(|(out, plane)| {
        let mut wide = vec![T::ZERO; h * w];
        for (row, wide) in plane.chunks_exact(w).zip(wide.chunks_exact_mut(w)) {
            for (x, to) in wide.iter_mut().enumerate() {
                *to = row[x.saturating_sub(half)..(x + half + 1).min(w)].iter().copied().sum();
            }
        }
        for (y, line) in out.chunks_exact_mut(w).enumerate() {
            for row in y.saturating_sub(half)..(y + half + 1).min(h) {
                line.iter_mut().zip(&wide[row * w..][..w]).for_each(|(to, &v)| *to += v);
            }
        }
    });
    out
}

/// What becomes of a plane in one channel before the ReLU: `factor · plane + shift`.
#[derive(Clone, Copy, Debug)]
struct Affine<T> {
    factor: T,
    shift: T,
    /// How γ is in both: `factor = γ · inverse`, `shift = β − factor · off`.
    inverse: f64,
    off: f64,
}

/// What is taken off a plane that running statistics normalise: their mean, so that the sums of its products with small
/// gradients are sums of small numbers. The channels' means are one number, but for files that others wrote.
fn centre<T: Real>(running_mean: &[T]) -> T {
    running_mean[0]
}

/// For each scale, for each channel.
fn affine_forms<T: Real>(scales: &[Scale<T>], norms: Norms<T>, channels: usize) -> Vec<Vec<Affine<T>>> {
    let form = |k: usize, scale: &Scale<T>, c: usize| match norms {
        Norms::Batch => Affine { factor: scale.gamma[c], shift: scale.beta[c], inverse: 1.0, off: 0.0 },
        Norms::Fixed(running) => {
            let (mean, variance) = running[k];
            let inverse = 1.0 / (variance[c].wide() + EPSILON).sqrt();
            let off = mean[c].wide() - centre(mean).wide();
            let factor = scale.gamma[c].wide() * inverse;
            Affine { factor: T::of(factor), shift: T::of(scale.beta[c].wide() - factor * off), inverse, off }
        }
    };
    let of = |(k, scale)| (0..channels).map(|c| form(k, scale, c)).collect();
    scales.iter().enumerate().map(of).collect()
}

/// Writes `out`; operands have `channels` planes of `(h, w)` a picture. The statistics are per scale, for batch norms.
pub fn forward<T: Real>(
    a: &[T],
    b: &[T],
    channels: usize,
    (h, w): (usize, usize),
    scales: &[Scale<T>],
    norms: Norms<T>,
    out: &mut [T],
) -> (Saved<T>, Vec<ScaleStatistics>) {
    let px = h * w;
    assert!(a.len() == b.len() && a.len() == out.len(), "operands of a subtraction");
    let mut statistics = Vec::with_capacity(scales.len());
    let sums =
        if scales.is_empty() { [vec![], vec![]] } else { [a, b].map(|x| channel_sums(x, channels, px)) };
    // Per scale and operand a plane; with running statistics each channel has its own affine form of it.
    let mut planes = Vec::with_capacity(scales.len());
    for (k, scale) in scales.iter().enumerate() {
        let boxes = [0, 1].map(|i| box_sums(&sums[i], (h, w), scale.side));
        let made = boxes.map(|mut values| match norms {
            Norms::Batch => {
                let count = values.len();
                let mean = sum(&values) / count as f64;
                let centre = T::of(mean);
                let variance = squares_about(&values, centre) / count as f64;
                let inverse = T::of(1.0 / (variance + EPSILON).sqrt());
                values.iter_mut().for_each(|v| *v = (*v - centre) * inverse);
                let of = Statistics { mean: vec![mean; channels], variance: vec![variance; channels], count };
                (Plane { values, inverse }, of)
            }
            Norms::Fixed(running) => {
                let centre = centre(running[k].0);
                values.iter_mut().for_each(|v| *v -= centre);
                (Plane { values, inverse: T::ONE }, Statistics::default())
            }
        });
        let [(pa, sa), (pb, sb)] = made;
        planes.push([pa, pb]);
        statistics.push([sa, sb]);
    }
    let affine = affine_forms(scales, norms, channels);
    out.par_chunks_mut(px).enumerate().for_each(|(i, out)| {
        let (n, c) = (i / channels, i % channels);
        let (a, b) = (&a[i * px..][..px], &b[i * px..][..px]);
        for ((to, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *to = (a - b).magnitude();
        }
        for ([pa, pb], affine) in planes.iter().zip(&affine) {
            let Affine { factor, shift, .. } = affine[c];
            let (pa, pb) = (&pa.values[n * px..][..px], &pb.values[n * px..][..px]);
            for ((to, &a), &b) in out.iter_mut().zip(pa).zip(pb) {
                *to += ((factor * a + shift).rectified() - (factor * b + shift).rectified()).magnitude();
            }
        }
    });
    (Saved { planes }, statistics)
}

/// Gradients of one scale's norm.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleGradients<T> {
    /// Of the scale γ, for each channel.
    pub gamma: Vec<T>,
    /// Of the shift β, for each channel.
    pub beta: Vec<T>,
}

/// Backward of [`forward`]. Adds the operands' gradients to `da` and `db`.
pub fn backward<T: Real>(
    a: &[T],
    b: &[T],
    channels: usize,
    (h, w): (usize, usize),
    scales: &[Scale<T>],
    norms: Norms<T>,
    saved: &Saved<T>,
    grad: &[T],
    da: &mut [T],
    db: &mut [T],
) -> Vec<ScaleGradients<T>> {
    let px = h * w;
    let whole = channels * px;
    // The gradients of each picture's planes, and its share in those of scale and shift; sums over pictures follow in
    // their order.
    struct Part<T> {
        /// For each scale: of `a` and `b`.
        planes: Vec<[Vec<T>; 2]>,
        /// For each scale, for each channel: of factor and shift.
        norms: Vec<Vec<(f64, f64)>>,
    }
    let affine = affine_forms(scales, norms, channels);
    let parts: Vec<Part<T>> = (da.par_chunks_mut(whole).zip(db.par_chunks_mut(whole)))
        .enumerate()
        .map(|(n, (da, db))| {
            let at = n * whole;
            let mut part = Part {
                planes: scales.iter().map(|_| [vec![T::ZERO; px], vec![T::ZERO; px]]).collect(),
                norms: scales.iter().map(|_| Vec::with_capacity(channels)).collect(),
            };
            let mut products = vec![T::ZERO; px];
            let mut levels = vec![T::ZERO; px];
            for c in 0..channels {
                let here = at + c * px;
                let g = &grad[here..][..px];
                let operands = a[here..][..px].iter().zip(&b[here..][..px]);
                let outs = da[c * px..][..px].iter_mut().zip(&mut db[c * px..][..px]);
                for (((&a, &b), (da, db)), &g) in operands.zip(outs).zip(g) {
                    let s = g * (a - b).sign();
                    *da += s;
                    *db -= s;
                }
                for (k, affine) in affine.iter().enumerate() {
                    let Affine { factor, shift, .. } = affine[c];
                    let [pa, pb] = &saved.planes[k];
                    let (pa, pb) = (&pa.values[n * px..][..px], &pb.values[n * px..][..px]);
                    let [ga, gb] = &mut part.planes[k];
                    for p in 0..px {
                        let (ya, yb) = (factor * pa[p] + shift, factor * pb[p] + shift);
                        let s = g[p] * (ya.rectified() - yb.rectified()).sign();
                        let ua = if ya > T::ZERO { s } else { T::ZERO };
                        let ub = if yb > T::ZERO { s } else { T::ZERO };
                        ga[p] += factor * ua;
                        gb[p] -= factor * ub;
                        products[p] = ua * pa[p] - ub * pb[p];
                        levels[p] = ua - ub;
                    }
                    part.norms[k].push((sum(&products), sum(&levels)));
                }
            }
            part
        })
        .collect();

    let mut gradients = Vec::with_capacity(scales.len());
    // Through the norms of the planes and the windows back to every channel.
    let mut back = [vec![T::ZERO; a.len() / channels], vec![T::ZERO; a.len() / channels]];
    for (k, scale) in scales.iter().enumerate() {
        let (mut gamma, mut beta) = (vec![0.0; channels], vec![0.0; channels]);
        for part in &parts {
            for (c, &(of_factor, of_shift)) in part.norms[k].iter().enumerate() {
                let Affine { inverse, off, .. } = affine[k][c];
                gamma[c] += inverse * (of_factor - off * of_shift);
                beta[c] += of_shift;
            }
        }
        let typed = |v: Vec<f64>| v.into_iter().map(T::of).collect();
        gradients.push(ScaleGradients { gamma: typed(gamma), beta: typed(beta) });
        for (i, back) in back.iter_mut().enumerate() {
            let plane = &saved.planes[k][i];
            let mut g: Vec<T> = parts.iter().flat_map(|part| part.planes[k][i].iter().copied()).collect();
            if matches!(norms, Norms::Batch) {
                let count = g.len() as f64;
                let level = sum(&g) / count;
                let with: Vec<T> = g.iter().zip(&plane.values).map(|(&g, &v)| g * v).collect();
                let slope = sum(&with) / count;
                let (level, slope) = (T::of(level), T::of(slope));
                for (g, &v) in g.iter_mut().zip(&plane.values) {
                    *g = plane.inverse * (*g - level - slope * v);
                }
            }
            let spread = box_sums(&g, (h, w), scale.side);
            back.iter_mut().zip(&spread).for_each(|(to, &v)| *to += v);
        }
    }
    if !scales.is_empty() {
        for (out, back) in [da, db].into_iter().zip(&back) {
            out.par_chunks_mut(px).enumerate().for_each(|(i, plane)| {
                let from = &back[i / channels * px..][..px];
                plane.iter_mut().zip(from).for_each(|(to, &v)| *to += v);
            });
        }
    }
    gradients
}
