//! Convolutions, normalisations and pools with PyTorch's meaning, out of what candle has.
//!
//! In and out: `[batch, channels, height, width]`.

use candle_core::{DType, Result, Tensor};
use candle_nn::{BatchNorm, ModuleT, VarBuilder};

/// PyTorch's default of `BatchNorm2d`.
pub(super) const BATCH_NORM_EPS: f64 = 1e-5;

pub(super) fn batch_norm(channels: usize, vb: VarBuilder) -> Result<BatchNorm> {
    candle_nn::batch_norm(channels, BATCH_NORM_EPS, vb)
}

/// Batch-norm with its running statistics: `γ (x − μ) / √(σ² + ε) + β`.
pub(super) fn normalise(x: &Tensor, norm: &BatchNorm) -> Result<Tensor> {
    norm.forward_t(x, false)
}

/// Zeros around the last two dimensions. candle's pools know no padding.
pub(super) fn pad(x: &Tensor, by: usize) -> Result<Tensor> {
    x.pad_with_zeros(2, by, by)?.pad_with_zeros(3, by, by)
}

/// `AvgPool2d(3, stride, padding=1)`, the padding counted.
pub(super) fn average_pool3(x: &Tensor, stride: usize) -> Result<Tensor> {
    pad(x, 1)?.avg_pool2d_with_stride(3, stride)
}

/// `MaxPool2d(3, 2, padding=1)` of values that are not negative (right after a ReLU), where a zero border changes
/// nothing.
pub(super) fn max_pool3(x: &Tensor) -> Result<Tensor> {
    pad(x, 1)?.max_pool2d_with_stride(3, 2)
}

/// `AvgPool2d(2, 2)` of maps with even sides.
pub(super) fn average_pool2(x: &Tensor) -> Result<Tensor> {
    x.avg_pool2d(2)
}

/// Bilinear resize with `align_corners=False`; the identity, at no cost, where sizes agree.
pub(super) fn resize(x: &Tensor, h: usize, w: usize) -> Result<Tensor> {
    let (_, _, xh, xw) = x.dims4()?;
    if (xh, xw) == (h, w) {
        return Ok(x.clone());
    }
    if x.dtype() == DType::F32 {
        return x.upsample_bilinear2d(h, w, false);
    }
    // candle interpolates in f32 only.
    x.to_dtype(DType::F32)?.upsample_bilinear2d(h, w, false)?.to_dtype(x.dtype())
}
