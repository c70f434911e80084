//! The multi-scale term of a subtraction unit, `g_k`: a k×k convolution whose weights are all one, batch-norm and ReLU.
//!
//! In: the sum of a map over its channels. Out: one map for each channel.
//!
//! All weights being one, every output channel of that convolution is the same plane, `S_k = box_k(Σ_c z_c)`. So a unit
//! needs one channel sum and two box sums on a single plane for each operand: half of the published network's
//! arithmetic is multiplication by one, and is not done here. The sums reach thousands and stay in f32.

use candle_core::{DType, Result, Tensor};
use candle_nn::VarBuilder;

use super::layers::BATCH_NORM_EPS;

/// `g_k` on an already summed plane.
#[derive(Debug)]
pub struct BoxNorm {
    /// `[1, 1, k, k]` of ones, f32.
    ones: Tensor,
    /// The batch-norm folded into `α_c · S + β_c`, `[1, channels, 1, 1]`, f32.
    alpha: Tensor,
    beta: Tensor,
    kernel: usize,
}

impl BoxNorm {
    /// Keys `weight|bias|running_mean|running_var` below `vb`.
    ///
    /// # Errors
    /// A key that is missing or has another shape.
    pub fn new(kernel: usize, channels: usize, vb: VarBuilder) -> Result<Self> {
        let get = |key: &str| vb.get(channels, key)?.to_dtype(DType::F32);
        let std = (get("running_var")? + BATCH_NORM_EPS)?.sqrt()?;
        let alpha = (get("weight")? / std)?;
        let beta = (get("bias")? - (get("running_mean")? * &alpha)?)?;
        Ok(Self {
            ones: Tensor::ones((1, 1, kernel, kernel), DType::F32, vb.device())?,
            alpha: alpha.reshape((1, channels, 1, 1))?,
            beta: beta.reshape((1, channels, 1, 1))?,
            kernel,
        })
    }

    /// From the channel sum `[B, 1, H, W]` in f32 to `[B, channels, H, W]` in f32.
    ///
    /// # Errors
    /// Whatever the device says.
    pub fn forward(&self, sum: &Tensor) -> Result<Tensor> {
        let boxed = sum.conv2d(&self.ones, self.kernel / 2, 1, 1, 1)?;
        boxed.broadcast_mul(&self.alpha)?.broadcast_add(&self.beta)?.relu()
    }
}
