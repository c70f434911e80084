//! A convolution's parameters with everything linear behind it: batch-norms folded into a scale and a shift.
//!
//! In: a checkpoint's tensors by key. Out: [`Layer`]s, which each engine packs its own way.
//!
//! The scale stays out of the weights: it is applied to finished sums, where it costs nothing (a multiply-add instead
//! of an add). Weights stored as I8 are therefore exact in bf16 and f16.

use crate::Result;
use crate::model::Checkpoint;
use crate::program::Weights;

/// PyTorch's default.
const BATCH_NORM_EPS: f32 = 1e-5;

/// `scale · x + shift` per channel.
pub(crate) struct Affine {
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
}

impl Affine {
    /// A batch-norm's running statistics, keys `at.weight` and so on.
    pub(crate) fn norm(checkpoint: &Checkpoint, at: &str) -> Result<Self> {
        let get = |leaf: &str| checkpoint.values(&format!("{at}.{leaf}"));
        let (weight, bias) = (get("weight")?, get("bias")?);
        let (mean, var) = (get("running_mean")?, get("running_var")?);
        let scale: Vec<f32> = weight.iter().zip(&var).map(|(w, v)| w / (v + BATCH_NORM_EPS).sqrt()).collect();
        let shift = bias.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        Ok(Self { scale, shift })
    }
}

/// A convolution with everything linear behind it: `scale · (weights ∗ x) + shift`.
pub(crate) struct Layer {
    pub(crate) out: usize,
    pub(crate) cin: usize,
    pub(crate) kernel: usize,
    /// `[out][cin][kernel][kernel]`, unscaled.
    pub(crate) weights: Vec<f32>,
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
}

impl Layer {
    /// What a program's convolution names.
    ///
    /// # Errors
    /// A parameter the checkpoint does not have.
    pub(crate) fn load(checkpoint: &Checkpoint, of: &Weights) -> Result<Self> {
        let Weights { kernel, bias, norm, out, cin, size } = of;
        let (out, cin, size) = (*out, *cin, *size);
        // Stored as I8, the weights are small integers, exact in any format, and their scale joins the batch-norm's.
        let (weights, mut scale) = match checkpoint.kernel_i8(kernel) {
            Some((values, scales)) => (values.iter().map(|&v| f32::from(v)).collect(), scales.to_vec()),
            None => (checkpoint.values(kernel)?, vec![1.0; out]),
        };
        let mut shift = match bias {
            Some(key) => checkpoint.values(key)?,
            None => vec![0.0; out],
        };
        if let Some(at) = norm {
            let norm = Affine::norm(checkpoint, at)?;
            for o in 0..out {
                scale[o] *= norm.scale[o];
                shift[o] = shift[o] * norm.scale[o] + norm.shift[o];
            }
        }
        Ok(Self { out, cin, kernel: size, weights, scale, shift })
    }

    /// Moves the scale into the weights.
    pub(crate) fn fold(&mut self) {
        let each = self.cin * self.kernel * self.kernel;
        for (o, weights) in self.weights.chunks_exact_mut(each).enumerate() {
            for w in weights {
                *w *= self.scale[o];
            }
            self.scale[o] = 1.0;
        }
    }

    /// Multiply-accumulates for one output pixel.
    pub(crate) fn macs(&self) -> u64 {
        (self.out * self.cin * self.kernel * self.kernel) as u64
    }
}
