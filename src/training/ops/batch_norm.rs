//! Batch-norm by the statistics of the batch, with the sum and the ReLU that follow it, as one operation.
//!
//! `y = relu(γ · (x − μ) / √(σ² + ε) + β + added)` over `[batch, channels, pixels]`, the statistics per channel over
//! batch and pixels (Ioffe and Szegedy 2015). Backward is the closed form
//! `dx = γ / √(σ² + ε) · (g − mean(g) − x̂ · mean(g · x̂))`; it keeps the input and two numbers per channel.

use rayon::prelude::*;

use super::super::real::{Real, squares_about, sum};

/// PyTorch's default of `BatchNorm2d`.
pub const EPSILON: f64 = 1e-5;

/// Weight of a new batch in the running statistics, PyTorch's default.
pub const MOMENTUM: f64 = 0.1;

/// What a batch's channels are like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Mean of each channel.
    pub mean: Vec<f64>,
    /// Biased, as it normalises.
    pub variance: Vec<f64>,
    /// Values of a channel.
    pub count: usize,
}

impl Statistics {
    /// Moves running statistics towards these; the running variance is unbiased, as in PyTorch.
    pub fn update<T: Real>(&self, running_mean: &mut [T], running_var: &mut [T]) {
        let unbiased = self.count as f64 / (self.count.max(2) - 1) as f64;
        let step = |old: &mut T, new: f64| *old = T::of((1.0 - MOMENTUM) * old.wide() + MOMENTUM * new);
        running_mean.iter_mut().zip(&self.mean).for_each(|(old, &new)| step(old, new));
        running_var.iter_mut().zip(&self.variance).for_each(|(old, &new)| step(old, new * unbiased));
    }

    fn inverse_deviation(&self, c: usize) -> f64 {
        1.0 / (self.variance[c] + EPSILON).sqrt()
    }
}

/// The planes of one channel, picture by picture.
fn planes<T>(values: &[T], channels: usize, px: usize, c: usize) -> impl Iterator<Item = &[T]> {
    values.chunks_exact(channels * px).map(move |picture| &picture[c * px..][..px])
}

/// Memory whose channels tasks write apart.
struct Apart<T>(*mut T);

// SAFETY: each task writes the planes of its own channel.
unsafe impl<T: Send> Send for Apart<T> {}
// SAFETY: tasks that share it write the planes of different channels, as `slice` asks of them.
unsafe impl<T: Send> Sync for Apart<T> {}

impl<T> Apart<T> {
    /// # Safety
    /// `at..at + len` lies in the memory and belongs to this task alone.
    unsafe fn slice<'a>(&self, at: usize, len: usize) -> &'a mut [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(at), len) }
    }
}

/// Writes `out` and returns the batch's statistics.
pub fn forward<T: Real>(
    x: &[T],
    px: usize,
    (gamma, beta): (&[T], &[T]),
    added: Option<&[T]>,
    relu: bool,
    out: &mut [T],
) -> Statistics {
    let channels = gamma.len();
    assert!(x.len() == out.len() && x.len().is_multiple_of(channels * px), "planes of a batch-norm");
    let count = x.len() / channels;
    let to = Apart(out.as_mut_ptr());
    let per_channel: Vec<(f64, f64)> = (0..channels)
        .into_par_iter()
        .map(|c| {
            let mean = planes(x, channels, px, c).map(sum).sum::<f64>() / count as f64;
            let centre = T::of(mean);
            let variance =
                planes(x, channels, px, c).map(|p| squares_about(p, centre)).sum::<f64>() / count as f64;
            let scale = gamma[c] * T::of(1.0 / (variance + EPSILON).sqrt());
            let shift = beta[c] - scale * centre;
            for (n, plane) in planes(x, channels, px, c).enumerate() {
                let at = (n * channels + c) * px;
                // SAFETY: this channel's plane of this picture.
                let out = unsafe { to.slice(at, px) };
                affine(plane, scale, shift, added.map(|a| &a[at..][..px]), relu, out);
            }
            (mean, variance)
        })
        .collect();
    let (mean, variance) = per_channel.into_iter().unzip();
    Statistics { mean, variance, count }
}

/// With the running statistics instead: evaluation, and parts of a network that are frozen.
pub fn fixed<T: Real>(
    x: &[T],
    px: usize,
    (gamma, beta): (&[T], &[T]),
    (running_mean, running_var): (&[T], &[T]),
    added: Option<&[T]>,
    relu: bool,
    out: &mut [T],
) {
    let channels = gamma.len();
    out.par_chunks_mut(px).zip(x.par_chunks(px)).enumerate().for_each(|(i, (out, plane))| {
        let c = i % channels;
        let scale = gamma[c].wide() / (running_var[c].wide() + EPSILON).sqrt();
        let shift = beta[c].wide() - scale * running_mean[c].wide();
        affine(plane, T::of(scale), T::of(shift), added.map(|a| &a[i * px..][..px]), relu, out);
    });
}

fn affine<T: Real>(plane: &[T], scale: T, shift: T, added: Option<&[T]>, relu: bool, out: &mut [T]) {
    match (added, relu) {
        (None, true) => {
            out.iter_mut().zip(plane).for_each(|(y, &x)| *y = (x * scale + shift).rectified());
        }
        (None, false) => out.iter_mut().zip(plane).for_each(|(y, &x)| *y = x * scale + shift),
        (Some(added), true) => {
            for ((y, &x), &a) in out.iter_mut().zip(plane).zip(added) {
                *y = (x * scale + shift + a).rectified();
            }
        }
        (Some(added), false) => {
            for ((y, &x), &a) in out.iter_mut().zip(plane).zip(added) {
                *y = x * scale + shift + a;
            }
        }
    }
}

/// Gradients of scale and shift.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<T> {
    /// Of the scale γ, for each channel.
    pub gamma: Vec<T>,
    /// Of the shift β, for each channel.
    pub beta: Vec<T>,
}

/// Backward of [`forward`]. `x` becomes its own gradient. `grad` is that of the output and becomes that of `added`: the
/// same, cut by the ReLU.
pub fn backward<T: Real>(
    x: &mut [T],
    px: usize,
    gamma: &[T],
    statistics: &Statistics,
    relu_output: Option<&[T]>,
    grad: &mut [T],
) -> Gradients<T> {
    let count = (x.len() / gamma.len()) as f64;
    let of = |c: usize| (statistics.mean[c], statistics.inverse_deviation(c));
    channels_back(x, px, gamma, of, relu_output, grad, |of_grad, of_products, inverse| {
        (of_grad / count, of_products / count * inverse)
    })
}

/// Backward of [`fixed`], in the same way: statistics that do not depend on the batch pass nothing on.
pub fn fixed_backward<T: Real>(
    x: &mut [T],
    px: usize,
    gamma: &[T],
    (running_mean, running_var): (&[T], &[T]),
    relu_output: Option<&[T]>,
    grad: &mut [T],
) -> Gradients<T> {
    let of = |c: usize| (running_mean[c].wide(), 1.0 / (running_var[c].wide() + EPSILON).sqrt());
    channels_back(x, px, gamma, of, relu_output, grad, |_, _, _| (0.0, 0.0))
}

/// `of`: mean and inverse deviation of a channel. `through`: level and slope that its statistics take off the gradient,
/// from the sums of the gradient and of its products with the normalised input, and the inverse deviation.
fn channels_back<T: Real>(
    x: &mut [T],
    px: usize,
    gamma: &[T],
    of: impl Fn(usize) -> (f64, f64) + Sync,
    relu_output: Option<&[T]>,
    grad: &mut [T],
    through: impl Fn(f64, f64, f64) -> (f64, f64) + Sync,
) -> Gradients<T> {
    let channels = gamma.len();
    let batch = x.len() / (channels * px);
    let (xs, gs) = (Apart(x.as_mut_ptr()), Apart(grad.as_mut_ptr()));
    let sums: Vec<(T, T)> = (0..channels)
        .into_par_iter()
        .map(|c| {
            let (mean, inverse) = of(c);
            let centre = T::of(mean);
            let (mut of_grad, mut of_products) = (0.0, 0.0);
            for n in 0..batch {
                let at = (n * channels + c) * px;
                // SAFETY: this channel's planes of this picture.
                let (x, g) = unsafe { (xs.slice(at, px), gs.slice(at, px)) };
                if let Some(y) = relu_output {
                    for (g, &y) in g.iter_mut().zip(&y[at..][..px]) {
                        *g = if y > T::ZERO { *g } else { T::ZERO };
                    }
                }
                of_grad += sum(g);
                of_products += products(x, centre, g);
            }
            of_products *= inverse;
            let scale = gamma[c].wide() * inverse;
            let (level, slope) = through(of_grad, of_products, inverse);
            // dx = scale · (g − level − slope · (x − centre))
            let (scale, level, slope) = (T::of(scale), T::of(level), T::of(slope));
            for n in 0..batch {
                let at = (n * channels + c) * px;
                // SAFETY: this channel's planes of this picture; those of the loop before are out of use.
                let (x, g) = unsafe { (xs.slice(at, px), gs.slice(at, px)) };
                for (x, &g) in x.iter_mut().zip(g.iter()) {
                    *x = scale * (g - level - slope * (*x - centre));
                }
            }
            (T::of(of_products), T::of(of_grad))
        })
        .collect();
    let (gamma, beta) = sums.into_iter().unzip();
    Gradients { gamma, beta }
}

/// Σ (x − centre) · g, as [`sum`].
fn products<T: Real>(x: &[T], centre: T, g: &[T]) -> f64 {
    let mut total = 0.0;
    for (x, g) in x.chunks(512).zip(g.chunks(512)) {
        let mut parts = [T::ZERO; 16];
        let (xs, x_rest) = x.as_chunks::<16>();
        let (gs, g_rest) = g.as_chunks::<16>();
        for (x, g) in xs.iter().zip(gs) {
            for ((part, &x), &g) in parts.iter_mut().zip(x).zip(g) {
                *part += (x - centre) * g;
            }
        }
        for ((part, &x), &g) in parts.iter_mut().zip(x_rest).zip(g_rest) {
            *part += (x - centre) * g;
        }
        total += parts.iter().map(|p| p.wide()).sum::<f64>();
    }
    total
}
