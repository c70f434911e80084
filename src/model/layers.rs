//! Convolutions, normalisations and pools with PyTorch's meaning, out of what candle has.
//!
//! In and out: `[batch, channels, height, width]`.

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::{BatchNorm, Conv2d, Conv2dConfig, ModuleT, VarBuilder};

/// PyTorch's default of `BatchNorm2d`.
pub(super) const BATCH_NORM_EPS: f64 = 1e-5;

/// `Conv2d(bias=False)` with "same" padding for odd kernels.
pub(super) fn conv(cin: usize, cout: usize, kernel: usize, stride: usize, vb: VarBuilder) -> Result<Conv2d> {
    let config = Conv2dConfig { stride, padding: kernel / 2, ..Default::default() };
    candle_nn::conv2d_no_bias(cin, cout, kernel, config, vb)
}

pub(super) fn batch_norm(channels: usize, vb: VarBuilder) -> Result<BatchNorm> {
    candle_nn::batch_norm(channels, BATCH_NORM_EPS, vb)
}

/// Batch-norm with its running statistics: `γ (x − μ) / √(σ² + ε) + β`.
pub(super) fn normalise(x: &Tensor, norm: &BatchNorm) -> Result<Tensor> {
    norm.forward_t(x, false)
}

/// `Sequential(Conv2d(cin, cout, 3, padding=1), BatchNorm2d, ReLU)`, keys `.0` and `.1`; the convolution has a bias.
#[derive(Debug)]
pub(super) struct ConvNormRelu {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvNormRelu {
    pub(super) fn new(cin: usize, cout: usize, vb: VarBuilder) -> Result<Self> {
        let config = Conv2dConfig { padding: 1, ..Default::default() };
        Ok(Self {
            conv: candle_nn::conv2d(cin, cout, 3, config, vb.pp("0"))?,
            norm: batch_norm(cout, vb.pp("1"))?,
        })
    }
}

impl Module for ConvNormRelu {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        normalise(&self.conv.forward(x)?, &self.norm)?.relu()
    }
}

/// Zeros around the last two dimensions. candle's pools know no padding.
pub(super) fn pad(x: &Tensor, by: usize) -> Result<Tensor> {
    x.pad_with_zeros(2, by, by)?.pad_with_zeros(3, by, by)
}

/// `AvgPool2d(3, stride, padding=1)`, the padding counted.
pub(super) fn average_pool3(x: &Tensor, stride: usize) -> Result<Tensor> {
    pad(x, 1)?.avg_pool2d_with_stride(3, stride)
}

/// `MaxPool2d(3, 2, padding=1)` of values that are not negative (right after a ReLU), where a zero border changes nothing.
pub(super) fn max_pool3(x: &Tensor) -> Result<Tensor> {
    pad(x, 1)?.max_pool2d_with_stride(3, 2)
}

/// `AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)`; network inputs are multiples of 32, so that
/// every window is whole.
pub(super) fn shortcut_pool(x: &Tensor, stride: usize) -> Result<Tensor> {
    if stride == 1 { Ok(x.clone()) } else { x.avg_pool2d(stride) }
}

/// Bilinear resize with `align_corners=False` to `like`'s size; the identity, at no cost, where sizes agree.
pub(super) fn resize_like(x: &Tensor, like: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = like.dims4()?;
    resize(x, h, w)
}

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
