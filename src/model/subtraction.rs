//! The multi-scale subtraction unit.
//!
//! In: two 64-channel maps, `a` at the coarser or the same size. Out: 64 channels at `b`'s size:
//! `conv( |a↑ − b| + |g₃(a↑) − g₃(b)| + |g₅(a↑) − g₅(b)| )`, where `g_k` is a k×k convolution whose weights are all one,
//! batch-norm and ReLU.
//!
//! All weights being one, every output channel of that convolution is the same plane, `S_k = box_k(Σ_c z_c)`. So a unit
//! needs one channel sum and two box sums on a single plane for each operand: half of the published network's
//! arithmetic is multiplication by one, and is not done here. The sums reach thousands and stay in f32.

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::VarBuilder;

use super::layers::{BATCH_NORM_EPS, ConvNormRelu, resize_like};

pub(crate) const CHANNELS: usize = 64;

/// `g_k`: an all-ones k×k convolution of 64 channels to 64, batch-norm, ReLU, on an already summed plane.
#[derive(Debug)]
pub struct BoxNorm {
    /// `[1, 1, k, k]` of ones, f32.
    ones: Tensor,
    /// The batch-norm folded into `α_c · S + β_c`, `[1, 64, 1, 1]`, f32.
    alpha: Tensor,
    beta: Tensor,
    kernel: usize,
}

impl BoxNorm {
    /// Keys `norm.weight|bias|running_mean|running_var` below `vb`.
    pub fn new(kernel: usize, vb: VarBuilder) -> Result<Self> {
        let vb = vb.pp("norm");
        let get = |key: &str| vb.get(CHANNELS, key)?.to_dtype(DType::F32);
        let std = (get("running_var")? + BATCH_NORM_EPS)?.sqrt()?;
        let alpha = (get("weight")? / std)?;
        let beta = (get("bias")? - (get("running_mean")? * &alpha)?)?;
        Ok(Self {
            ones: Tensor::ones((1, 1, kernel, kernel), DType::F32, vb.device())?,
            alpha: alpha.reshape((1, CHANNELS, 1, 1))?,
            beta: beta.reshape((1, CHANNELS, 1, 1))?,
            kernel,
        })
    }

    /// From the channel sum `[B, 1, H, W]` in f32 to `[B, 64, H, W]` in f32.
    pub fn forward(&self, sum: &Tensor) -> Result<Tensor> {
        let boxed = sum.conv2d(&self.ones, self.kernel / 2, 1, 1, 1)?;
        boxed.broadcast_mul(&self.alpha)?.broadcast_add(&self.beta)?.relu()
    }
}

/// One of the ten units: its own convolution, and the multi-scale terms all units share (none in MSNet).
#[derive(Debug)]
pub struct Subtraction {
    conv: ConvNormRelu,
}

impl Subtraction {
    pub fn new(vb: VarBuilder) -> Result<Self> {
        Ok(Self { conv: ConvNormRelu::new(CHANNELS, CHANNELS, vb)? })
    }

    /// The unit, convolution included.
    pub fn forward(&self, a: &Tensor, b: &Tensor, scales: &[BoxNorm]) -> Result<Tensor> {
        self.conv.forward(&difference(a, b, scales)?)
    }
}

/// The unit before its convolution.
pub fn difference(a: &Tensor, b: &Tensor, scales: &[BoxNorm]) -> Result<Tensor> {
    let a = resize_like(a, b)?;
    let plain = (&a - b)?.abs()?;
    if scales.is_empty() {
        return Ok(plain);
    }
    let sum = |z: &Tensor| z.to_dtype(DType::F32)?.sum_keepdim(1);
    let (sa, sb) = (sum(&a)?, sum(b)?);
    let mut total = plain.to_dtype(DType::F32)?;
    for scale in scales {
        total = (total + (scale.forward(&sa)? - scale.forward(&sb)?)?.abs()?)?;
    }
    total.to_dtype(b.dtype())
}
