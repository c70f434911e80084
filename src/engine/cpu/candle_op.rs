//! One fused convolution as a candle operation: `ReLU(scale · (weights ∗ x) + shift)` in one pass.
//!
//! In: an f32 tensor `[batch, channels, height, width]` on the CPU. Out: the same shape with the layer's channels. The
//! whole network does not go through here (see the module above): this lets any candle graph use the kernels, and tests
//! and benchmarks reach them one by one. Tensors are turned into the kernels' layout and back, one pass each.

use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

use super::assemble::{Assembly, Finish, Method, Source};
use super::kernel_set::KernelSet;
use super::maps::Map;
use super::pack::Layer;
use super::plan::Plan;
use super::thread_pool::ThreadPool;
use crate::{Error, Result};

/// How a 3x3 convolution of stride 1 multiplies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// What the engine would take.
    #[default]
    Best,
    /// By the definition: 9 multiplications for each output pixel and input channel.
    Direct,
    /// F(2x2, 3x3): 16 multiplications for 36.
    Winograd2,
    /// F(4x4, 3x3): 36 multiplications for 144.
    Winograd4,
}

/// What a [`FusedConv`] computes and how.
#[derive(Clone, Copy, Debug)]
pub struct FusedConvSettings {
    /// Instruction set and precision of the kernels; the processor must have it.
    pub path: KernelSet,
    /// Threads in all, the caller's included; 0 counts as 1.
    pub threads: usize,
    /// For 3x3 convolutions of stride 1; all others multiply by the definition.
    pub algorithm: Algorithm,
    /// 1 or 2. Padding is half the kernel.
    pub stride: usize,
    /// Whether negative results become 0.
    pub relu: bool,
    /// Height and width of the input; multiples of the stride.
    pub size: (usize, usize),
}

/// A convolution of one size with its batch-norm and ReLU, ready to run. See the module.
pub struct FusedConv {
    pool: Mutex<ThreadPool<Plan>>,
    source: Map,
    target: Map,
    cin: usize,
    macs: u64,
}

impl FusedConv {
    /// `weights` are `[out, in, k, k]` with k 1 or 3; `scale` and `shift` one value an output channel.
    ///
    /// # Errors
    /// Shapes that do not fit one another, a path this processor lacks.
    pub fn new(weights: &Tensor, scale: &[f32], shift: &[f32], settings: FusedConvSettings) -> Result<Self> {
        let isa = settings.path.isa().ok_or_else(|| {
            Error::machine(format!("this processor cannot run the {} kernels", settings.path))
        })?;
        let (out, cin, kernel, across) = weights.dims4()?;
        let FusedConvSettings { stride, size: (h, w), .. } = settings;
        let fits = kernel == across
            && matches!(kernel, 1 | 3)
            && matches!(stride, 1 | 2)
            && scale.len() == out
            && shift.len() == out
            && h > 0
            && w > 0
            && h % stride == 0
            && w % stride == 0;
        if !fits {
            return Err(Error::usage(format!(
                "no fused convolution of weights {:?}, stride {stride}, {} scales, {} shifts, input {w}x{h}",
                weights.dims(),
                scale.len(),
                shift.len()
            )));
        }
        let layer = Layer {
            out,
            cin,
            kernel,
            weights: weights.flatten_all()?.to_vec1()?,
            scale: scale.to_vec(),
            shift: shift.to_vec(),
        };
        let threads = settings.threads.max(1);
        let mut assembly = Assembly::new(isa, threads);
        let source = assembly.map(h, w, cin.next_multiple_of(2), 1);
        let size = (h / stride, w / stride);
        let target = assembly.map(size.0, size.1, out, 0);
        let finish = Finish { relu: settings.relu, ..Finish::relu_to(target.view(), out) };
        let method = match settings.algorithm {
            Algorithm::Best => Method::Best,
            Algorithm::Direct => Method::Direct,
            Algorithm::Winograd2 => Method::Winograd(2),
            Algorithm::Winograd4 => Method::Winograd(4),
        };
        assembly.conv_by(method, &[(Source { stride, ..Source::of(&source) }, &layer)], size, finish);
        assembly.wave();
        let macs = layer.macs() * (size.0 * size.1) as u64;
        Ok(Self {
            pool: Mutex::new(ThreadPool::new(assembly.finish(), threads, 0)?),
            source,
            target,
            cin,
            macs,
        })
    }

    /// Multiply-accumulates of one image.
    pub fn macs(&self) -> u64 {
        self.macs
    }

    /// Runs once more over the last input: for benchmarks of the kernel alone.
    ///
    /// # Errors
    /// A kernel that failed.
    pub fn again(&self) -> Result<()> {
        self.lock().frame(|_| ())
    }

    fn lock(&self) -> MutexGuard<'_, ThreadPool<Plan>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every (y, x, channel) of a map with its place in planes.
fn places(map: &Map, channels: usize) -> impl Iterator<Item = (usize, isize, isize, usize)> {
    let (h, w) = (map.geometry.height, map.geometry.width);
    (0..channels).flat_map(move |c| {
        (0..h).flat_map(move |y| (0..w).map(move |x| ((c * h + y) * w + x, y as isize, x as isize, c)))
    })
}

impl CustomOp1 for FusedConv {
    fn name(&self) -> &'static str {
        "fused-conv"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (batch, channels, height, width) = layout.shape().dims4()?;
        let (from, to) = (self.source.geometry, self.target.geometry);
        if (channels, height, width) != (self.cin, from.height, from.width) {
            candle_core::bail!(
                "fused-conv: built for [_, {}, {}, {}], not {:?}",
                self.cin,
                from.height,
                from.width,
                layout.shape()
            );
        }
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("fused-conv: the input is not contiguous");
        };
        let values = &storage.as_slice::<f32>()?[start..end];
        let mut pool = self.lock();
        let mut out = vec![0f32; batch * to.channels * to.height * to.width];
        let images = values.chunks_exact(channels * height * width);
        for (image, result) in images.zip(out.chunks_exact_mut(to.channels * to.height * to.width)) {
            for (i, y, x, c) in places(&self.source, channels) {
                // SAFETY: inside the map; the pool is ours and idle.
                unsafe {
                    let at = self.source.view().channel(c).bytes_at(y, x).cast_mut();
                    from.storage.write(at, image[i]);
                }
            }
            pool.frame(|_| ()).map_err(candle_core::Error::wrap)?;
            for (i, y, x, c) in places(&self.target, to.channels) {
                // SAFETY: inside the map; the frame has ended and the pool is ours.
                result[i] = unsafe { to.storage.read(self.target.view().channel(c).bytes_at(y, x)) };
            }
        }
        Ok((CpuStorage::F32(out), Shape::from((batch, to.channels, to.height, to.width))))
    }
}
