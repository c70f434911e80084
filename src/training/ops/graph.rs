//! The operations as nodes of candle's own graph, forward and backward, f32 and f64, on a processor.
//!
//! In: contiguous tensors. Out: tensors that `backward` of candle goes through, which has no gradient for any of these
//! resizes and pools, and a slow one for convolutions. The trainer itself walks a [`super::super::tape`], which adds
//! gradients up in place and gives maps up early; these are for networks built of candle's parts.

use std::sync::Mutex;

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor, bail,
};

use super::batch_norm::{self, Statistics};
use super::convolution::{Convolve, Geometry};
use super::{pool, resize};

fn slice<'a, T: Convolve>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&T::cpu_storage_as_slice(storage)?[start..end]),
        None => bail!("a training operation wants contiguous tensors"),
    }
}

/// Runs `work` on a tensor's values.
fn with<T: Convolve, R>(tensor: &Tensor, work: impl FnOnce(&[T]) -> Result<R>) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => work(slice(cpu, layout)?),
        _ => bail!("a training operation runs on a processor"),
    }
}

/// Calls a generic function with the precision of a tensor.
macro_rules! by_precision {
    ($dtype:expr, $call:ident::<_>($($argument:expr),*)) => {
        match $dtype {
            DType::F32 => $call::<f32>($($argument),*),
            DType::F64 => $call::<f64>($($argument),*),
            other => bail!("a training operation in {other:?}"),
        }
    };
}

fn geometry(x: &Shape, w: &Shape, stride: usize) -> Result<Geometry> {
    let ((batch, cin, h, width), (cout, wcin, kernel, side)) = (x.dims4()?, w.dims4()?);
    if wcin != cin || kernel != side || kernel % 2 == 0 {
        bail!("a kernel {w:?} for planes {x:?}");
    }
    Ok(Geometry { batch, cin, h, w: width, cout, kernel, stride })
}

/// `Conv2d(bias=False)` with "same" padding: planes and kernel.
#[derive(Clone, Copy, Debug)]
pub struct Convolution {
    /// Pixels from one window to the next, in both directions.
    pub stride: usize,
}

impl CustomOp2 for Convolution {
    fn name(&self) -> &'static str {
        "training-convolution"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        fn run<T: Convolve>(
            g: Geometry,
            x: &CpuStorage,
            xl: &Layout,
            w: &CpuStorage,
            wl: &Layout,
        ) -> Result<CpuStorage> {
            let mut out = vec![T::ZERO; g.output_len()];
            T::convolution(&g).forward(slice(x, xl)?, slice(w, wl)?, None, &mut out);
            Ok(T::to_cpu_storage_owned(out))
        }
        let g = geometry(l1.shape(), l2.shape(), self.stride)?;
        let out = by_precision!(s1.dtype(), run::<_>(g, s1, l1, s2, l2))?;
        Ok((out, (g.batch, g.cout, g.out_h(), g.out_w()).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        fn run<T: Convolve>(
            g: Geometry,
            x: &Tensor,
            w: &Tensor,
            grad: &Tensor,
        ) -> Result<(Option<Tensor>, Option<Tensor>)> {
            let grad = grad.contiguous()?;
            let (mut dx, mut dw) = (vec![T::ZERO; g.input_len()], vec![T::ZERO; g.weight_len()]);
            let passes = T::convolution(&g);
            with(&grad, |grad| {
                with(w, |w| {
                    passes.backward_input(w, grad, &mut dx);
                    Ok(())
                })?;
                with(x, |x| {
                    passes.backward_weight(x, grad, &mut dw);
                    Ok(())
                })
            })?;
            Ok((
                Some(Tensor::from_vec(dx, x.shape(), x.device())?),
                Some(Tensor::from_vec(dw, w.shape(), w.device())?),
            ))
        }
        let g = geometry(x.shape(), w.shape(), self.stride)?;
        by_precision!(x.dtype(), run::<_>(g, x, w, grad))
    }
}

/// Batch-norm by the batch's statistics, with or without a ReLU: planes, scale and shift.
#[derive(Debug, Default)]
pub struct BatchNorm {
    /// Whether negative results become 0.
    pub relu: bool,
    /// Of the last pass, for backward and for the running statistics.
    pub statistics: Mutex<Statistics>,
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "training-batch-norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        fn run<T: Convolve>(
            op: &BatchNorm,
            px: usize,
            [x, gamma, beta]: [(&CpuStorage, &Layout); 3],
        ) -> Result<CpuStorage> {
            let x = slice::<T>(x.0, x.1)?;
            let mut out = vec![T::ZERO; x.len()];
            let affine = (slice(gamma.0, gamma.1)?, slice(beta.0, beta.1)?);
            let of = batch_norm::forward(x, px, affine, None, op.relu, &mut out);
            *op.statistics.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = of;
            Ok(T::to_cpu_storage_owned(out))
        }
        let (_, _, h, w) = l1.shape().dims4()?;
        let out = by_precision!(s1.dtype(), run::<_>(self, h * w, [(s1, l1), (s2, l2), (s3, l3)]))?;
        Ok((out, l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        fn run<T: Convolve>(
            op: &BatchNorm,
            [x, gamma, beta, out, grad]: [&Tensor; 5],
        ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
            let (_, _, h, w) = x.dims4()?;
            let copy = |t: &Tensor| with(&t.contiguous()?, |v: &[T]| Ok(v.to_vec()));
            let (mut dx, mut g) = (copy(x)?, copy(grad)?);
            let of = op.statistics.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            let gradients = with(gamma, |gamma: &[T]| {
                with(out, |y: &[T]| {
                    Ok(batch_norm::backward(&mut dx, h * w, gamma, &of, op.relu.then_some(y), &mut g))
                })
            })?;
            let made = |v: Vec<T>, like: &Tensor| Tensor::from_vec(v, like.shape(), like.device()).map(Some);
            Ok((made(dx, x)?, made(gradients.gamma, gamma)?, made(gradients.beta, beta)?))
        }
        by_precision!(x.dtype(), run::<_>(self, [x, gamma, beta, out, grad]))
    }
}

/// Operations of one map that keep its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reshape {
    /// Bilinear, `align_corners = false`, to rows and columns.
    Resize(usize, usize),
    /// `MaxPool2d(3, 2, padding=1)`
    Max3,
    /// `AvgPool2d(3, stride, padding=1)`, the padding counted.
    Average3 {
        /// 1 or 2.
        stride: usize,
    },
    /// `AvgPool2d(2, 2)`
    Average2,
}

impl Reshape {
    fn size(self, (h, w): (usize, usize)) -> (usize, usize) {
        match self {
            Self::Resize(h, w) => (h, w),
            Self::Max3 => pool::size3((h, w), 2),
            Self::Average3 { stride } => pool::size3((h, w), stride),
            Self::Average2 => (h / 2, w / 2),
        }
    }

    fn forward<T: Convolve>(self, x: &[T], size: (usize, usize), out: &mut [T]) {
        match self {
            Self::Resize(h, w) => resize::forward(x, size, (h, w), None, out),
            Self::Max3 => pool::max3(x, size, out, &mut vec![0; out.len()]),
            Self::Average3 { stride } => pool::average3(x, size, stride, out),
            Self::Average2 => pool::average2(x, size, out),
        }
    }

    fn backward<T: Convolve>(self, x: &[T], size: (usize, usize), grad: &[T], out: &mut [T]) {
        match self {
            Self::Resize(h, w) => resize::backward(grad, size, (h, w), out),
            Self::Max3 => {
                // Found again: cheaper than keeping it for a pass that may never come.
                let mut places = vec![0; grad.len()];
                pool::max3(x, size, &mut vec![T::ZERO; grad.len()], &mut places);
                pool::max3_backward(grad, &places, size, out);
            }
            Self::Average3 { stride } => pool::average3_backward(grad, size, stride, out),
            Self::Average2 => pool::average2_backward(grad, size, out),
        }
    }
}

impl CustomOp1 for Reshape {
    fn name(&self) -> &'static str {
        "training-reshape"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        fn run<T: Convolve>(op: Reshape, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
            let (b, c, h, w) = layout.shape().dims4()?;
            let (oh, ow) = op.size((h, w));
            let mut out = vec![T::ZERO; b * c * oh * ow];
            op.forward(slice::<T>(x, layout)?, (h, w), &mut out);
            Ok((T::to_cpu_storage_owned(out), (b, c, oh, ow).into()))
        }
        by_precision!(storage.dtype(), run::<_>(*self, storage, layout))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        fn run<T: Convolve>(op: Reshape, x: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
            let (_, _, h, w) = x.dims4()?;
            let mut out = vec![T::ZERO; x.elem_count()];
            with(&grad.contiguous()?, |g: &[T]| {
                with(x, |x| {
                    op.backward(x, (h, w), g, &mut out);
                    Ok(())
                })
            })?;
            Tensor::from_vec(out, x.shape(), x.device()).map(Some)
        }
        by_precision!(x.dtype(), run::<_>(*self, x, grad))
    }
}
