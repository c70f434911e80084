//! A GPU whose convolutions are cuDNN's, in TF32 with sums in f32.
//!
//! In: one pass of a convolution. Out: a call of the library, by the algorithm that was fastest of those it proposed
//! when it was first asked for that pass of that size. cuDNN is looked for when it is wanted, not by the linker.

use std::collections::HashMap;
use std::ffi::c_void;
use std::mem::MaybeUninit;

use cudarc::cudnn::result::{self, CudnnError};
use cudarc::cudnn::sys;

use super::card::{Card, Operands, Pass};
use crate::engine::cuda::{Address, Device, Gpu, Launch};
use crate::training::ops::convolution::Geometry;
use crate::{Error, Result};

/// Algorithms of a pass that are tried.
const TRIED: usize = 4;
/// Memory an algorithm may want, bytes.
const WORKSPACE: usize = 2 << 30;

#[derive(Clone, Copy)]
enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    Input(sys::cudnnConvolutionBwdDataAlgo_t),
    Weights(sys::cudnnConvolutionBwdFilterAlgo_t),
}

#[derive(Clone, Copy)]
struct Choice {
    algorithm: Algorithm,
    math: sys::cudnnMathType_t,
    workspace: usize,
}

/// A pass of one size, ready to be called.
struct Ready {
    input: sys::cudnnTensorDescriptor_t,
    output: sys::cudnnTensorDescriptor_t,
    weights: sys::cudnnFilterDescriptor_t,
    convolution: sys::cudnnConvolutionDescriptor_t,
    choice: Choice,
}

impl Drop for Ready {
    fn drop(&mut self) {
        // SAFETY: made in `Cudnn::ready` and used by nobody else.
        unsafe {
            let _ = result::destroy_tensor_descriptor(self.input);
            let _ = result::destroy_tensor_descriptor(self.output);
            let _ = result::destroy_filter_descriptor(self.weights);
            let _ = result::destroy_convolution_descriptor(self.convolution);
        }
    }
}

/// See the module.
pub(super) struct Cudnn {
    ready: HashMap<(Pass, Geometry), Ready>,
    handle: sys::cudnnHandle_t,
    workspace: (Address, usize),
    gpu: Gpu,
}

// SAFETY: handles and descriptors belong to a context, not to a thread; every use makes the context current first.
unsafe impl Send for Cudnn {}

impl Cudnn {
    /// # Errors
    /// What [`Gpu::open`] says; no cuDNN.
    pub(super) fn open(ordinal: usize) -> Result<Self> {
        let gpu = Gpu::open(ordinal)?;
        // SAFETY: the library is NVIDIA's own; opening it has no other effect.
        if !unsafe { sys::is_culib_present() } {
            return Err(Error::machine("training on a GPU wants cuDNN 9, which was not found")
                .remedy("install cuDNN and name its folder in LD_LIBRARY_PATH, or use --device cpu"));
        }
        gpu.bind()?;
        let handle = result::create_handle().map_err(|e| failed("cannot be started", e))?;
        // From here on `Drop` cleans up.
        let out = Self { ready: HashMap::new(), handle, workspace: (0, 0), gpu };
        // SAFETY: both are alive, the stream as long as `gpu`.
        unsafe { result::set_stream(handle, out.gpu.stream().cast()) }
            .map_err(|e| failed("does not take the stream", e))?;
        Ok(out)
    }

    /// One line for cards and logs.
    pub(super) fn describe(&self) -> String {
        format!("{}, cuDNN {}", self.gpu.name(), result::get_version())
    }

    fn workspace(&mut self, bytes: usize) -> Result<()> {
        if bytes > self.workspace.1 {
            if self.workspace.0 != 0 {
                self.gpu.release(std::mem::take(&mut self.workspace.0))?;
            }
            self.workspace = (self.gpu.allocate(bytes)?, bytes);
        }
        Ok(())
    }

    /// Describes a pass and chooses its algorithm.
    fn ready(&mut self, pass: Pass, g: &Geometry, operands: Operands) -> Result<Ready> {
        use sys::cudnnDataType_t::CUDNN_DATA_FLOAT as FLOAT;
        use sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW as NCHW;
        let n = |v: usize| v as i32;
        let (pad, stride) = (n(g.kernel / 2), n(g.stride));
        let describe = || -> std::result::Result<Ready, CudnnError> {
            let ready = Ready {
                input: result::create_tensor_descriptor()?,
                output: result::create_tensor_descriptor()?,
                weights: result::create_filter_descriptor()?,
                convolution: result::create_convolution_descriptor()?,
                choice: Choice {
                    algorithm: Algorithm::Forward(
                        sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
                    ),
                    math: sys::cudnnMathType_t::CUDNN_DEFAULT_MATH,
                    workspace: 0,
                },
            };
            let input = [n(g.batch), n(g.cin), n(g.h), n(g.w)];
            let output = [n(g.batch), n(g.cout), n(g.out_h()), n(g.out_w())];
            let kernel = [n(g.cout), n(g.cin), n(g.kernel), n(g.kernel)];
            // SAFETY: all descriptors were just made.
            unsafe {
                result::set_tensor4d_descriptor(ready.input, NCHW, FLOAT, input)?;
                result::set_tensor4d_descriptor(ready.output, NCHW, FLOAT, output)?;
                result::set_filter4d_descriptor(ready.weights, FLOAT, NCHW, kernel)?;
                let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
                let conv = ready.convolution;
                result::set_convolution2d_descriptor(conv, pad, pad, stride, stride, 1, 1, mode, FLOAT)?;
                // TF32 is among what the default allows.
                result::set_convolution_math_type(conv, sys::cudnnMathType_t::CUDNN_DEFAULT_MATH)?;
            }
            Ok(ready)
        };
        let mut ready = describe().map_err(|e| failed("does not take a convolution", e))?;
        let proposed = self.proposed(pass, &ready)?;
        if proposed.is_empty() {
            return Err(Error::inference(format!("cuDNN has no algorithm for {pass:?} of {g:?}"))
                .remedy("use --device cpu"));
        }
        // Weights' gradients are added up: trials go elsewhere.
        let scratch = if pass == Pass::Weights { self.gpu.allocate(g.weight_len() * 4)? } else { 0 };
        let trial = if scratch != 0 { Operands { weights: scratch, ..operands } } else { operands };
        let mut fastest: Option<(f32, Choice)> = None;
        for choice in proposed.into_iter().take(TRIED) {
            self.workspace(choice.workspace)?;
            ready.choice = choice;
            let events = self.gpu.events(2)?;
            // The first run loads the kernel. What cannot run is not chosen.
            if self.call(pass, &ready, trial).is_err() {
                continue;
            }
            self.gpu.record(&events, 0)?;
            self.call(pass, &ready, trial)?;
            self.gpu.record(&events, 1)?;
            self.gpu.synchronize()?;
            let time = self.gpu.between(&events, 0, 1)?;
            if fastest.is_none_or(|(best, _)| time < best) {
                fastest = Some((time, choice));
            }
        }
        if scratch != 0 {
            self.gpu.release(scratch)?;
        }
        let (_, choice) = fastest.ok_or_else(|| {
            Error::inference(format!("no algorithm of cuDNN's runs for {pass:?} of {g:?}"))
                .remedy("use --device cpu")
        })?;
        ready.choice = choice;
        Ok(ready)
    }

    /// What the library would take, the likely fastest first.
    fn proposed(&self, pass: Pass, r: &Ready) -> Result<Vec<Choice>> {
        const MOST: usize = 8;
        let refused = |e| failed("proposes no algorithm", e);
        let fits = |c: &Choice| c.workspace <= WORKSPACE;
        let mut count = 0;
        macro_rules! ask {
            ($kind:ty, $call:path, $algorithm:path, $($descriptor:expr),*) => {{
                let mut found = [const { MaybeUninit::<$kind>::uninit() }; MOST];
                // SAFETY: descriptors are alive, and there is room for as many answers as are asked for.
                unsafe {
                    $call(self.handle, $($descriptor),*, MOST as i32, &mut count, found.as_mut_ptr().cast())
                }
                .map_err(refused)?;
                let found = found.iter().take(count.max(0) as usize);
                // SAFETY: so many were written.
                let found = found.map(|f| unsafe { f.assume_init_ref() });
                let good = found.filter(|f| f.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS);
                let choice = |f: &$kind| Choice {
                    algorithm: $algorithm(f.algo),
                    math: f.mathType,
                    workspace: f.memory,
                };
                good.map(choice).filter(fits).collect()
            }};
        }
        Ok(match pass {
            Pass::Forward => ask!(
                sys::cudnnConvolutionFwdAlgoPerf_t,
                result::get_convolution_forward_algorithm,
                Algorithm::Forward,
                r.input,
                r.weights,
                r.convolution,
                r.output
            ),
            Pass::Input => ask!(
                sys::cudnnConvolutionBwdDataAlgoPerf_t,
                result::get_convolution_backward_data_algorithm,
                Algorithm::Input,
                r.weights,
                r.output,
                r.convolution,
                r.input
            ),
            Pass::Weights => ask!(
                sys::cudnnConvolutionBwdFilterAlgoPerf_t,
                result::get_convolution_backward_filter_algorithm,
                Algorithm::Weights,
                r.input,
                r.output,
                r.convolution,
                r.weights
            ),
        })
    }

    fn call(&self, pass: Pass, r: &Ready, o: Operands) -> Result<()> {
        self.gpu.bind()?;
        let one = 1f32;
        let add = if pass == Pass::Weights { 1f32 } else { 0f32 };
        let (alpha, beta) =
            (std::ptr::from_ref(&one).cast::<c_void>(), std::ptr::from_ref(&add).cast::<c_void>());
        let at = |a: Address| a as *mut c_void;
        let (work, bytes) = (at(self.workspace.0), r.choice.workspace);
        let (x, y, w) = (at(o.input), at(o.output), at(o.weights));
        // SAFETY: the descriptors are those of the maps, which are as long as these say; the workspace is long enough.
        unsafe {
            result::set_convolution_math_type(r.convolution, r.choice.math).and_then(|()| {
                match r.choice.algorithm {
                    Algorithm::Forward(algorithm) => result::convolution_forward(
                        self.handle,
                        alpha,
                        r.input,
                        x,
                        r.weights,
                        w,
                        r.convolution,
                        algorithm,
                        work,
                        bytes,
                        beta,
                        r.output,
                        y,
                    ),
                    Algorithm::Input(algorithm) => result::convolution_backward_data(
                        self.handle,
                        alpha,
                        r.weights,
                        w,
                        r.output,
                        y,
                        r.convolution,
                        algorithm,
                        work,
                        bytes,
                        beta,
                        r.input,
                        x,
                    ),
                    Algorithm::Weights(algorithm) => result::convolution_backward_filter(
                        self.handle,
                        alpha,
                        r.input,
                        x,
                        r.output,
                        y,
                        r.convolution,
                        algorithm,
                        work,
                        bytes,
                        beta,
                        r.weights,
                        w,
                    ),
                }
            })
        }
        .map_err(|e| failed("a convolution failed", e))
    }
}

fn failed(what: &str, e: CudnnError) -> Error {
    Error::inference(format!("cuDNN: {what} ({:?})", e.0)).remedy("check the card with nvidia-smi").because(e)
}

impl Drop for Cudnn {
    fn drop(&mut self) {
        if self.gpu.bind().is_ok() {
            let _ = self.gpu.synchronize();
            self.ready.clear();
            // SAFETY: made in `open`, used by nobody any more.
            unsafe {
                let _ = result::destroy_handle(self.handle);
            }
        }
    }
}

impl Device for Cudnn {
    fn allocate(&mut self, bytes: usize) -> Result<Address> {
        self.gpu.allocate(bytes)
    }

    fn release(&mut self, at: Address) -> Result<()> {
        self.gpu.release(at)
    }

    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<()> {
        self.gpu.upload(to, bytes)
    }

    fn download(&mut self, from: Address, bytes: &mut [u8]) -> Result<()> {
        self.gpu.download(from, bytes)
    }

    fn launch(&mut self, launch: &Launch) -> Result<()> {
        self.gpu.launch(launch)
    }

    fn time(&mut self, launches: &[Launch]) -> Result<Option<Vec<f32>>> {
        self.gpu.time(launches)
    }

    fn processors(&self) -> usize {
        self.gpu.processors()
    }
}

impl Card for Cudnn {
    fn convolve(&mut self, pass: Pass, geometry: &Geometry, operands: Operands) -> Result<()> {
        let key = (pass, *geometry);
        if !self.ready.contains_key(&key) {
            let ready = self.ready(pass, geometry, operands)?;
            self.ready.insert(key, ready);
        }
        let ready = &self.ready[&key];
        self.call(pass, ready, operands)
    }

    fn take(&mut self, bytes: usize) -> Result<Address> {
        self.gpu.allocate_in_order(bytes)
    }

    fn give(&mut self, at: Address) -> Result<()> {
        self.gpu.release_in_order(at)
    }
}
