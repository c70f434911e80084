//! Which engine to build: device, precision, threads, input size, as a command line names them.
//!
//! In: [`Options`] and a checkpoint. Out: a [`Network`] for this machine.

use std::fmt;
use std::str::FromStr;

#[cfg(feature = "cuda")]
use candle_core::DType;
#[cfg(feature = "candle-cuda")]
use candle_core::Device as CandleDevice;

use super::Network;
#[cfg(feature = "candle-cuda")]
use super::Reference;
use super::cpu::{Cpu, KernelSet, Settings};
use crate::error::Kind;
use crate::model::Checkpoint;
use crate::{Error, Result};

/// Where the network runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The fastest there is.
    #[default]
    Auto,
    /// The processor, with the fused engine.
    Cpu,
    /// An NVIDIA GPU by number.
    Cuda(usize),
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda(0)),
            _ => s.strip_prefix("cuda:").and_then(|n| n.parse().ok()).map(DeviceChoice::Cuda).ok_or_else(
                || Error::usage(format!("unknown device {s:?}")).remedy("use auto, cpu or cuda:N"),
            ),
        }
    }
}

/// In which number format the network computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// The fastest the device has that keeps the mask: f16 on a GPU; on a processor i8 for checkpoints that say how
    /// large their activations are, else bf16 where it has it and gains by it, else f32.
    #[default]
    Auto,
    /// 32-bit floating point; on a GPU candle's own network (feature `candle-cuda`).
    F32,
    /// 16-bit floating point with the range of f32: on processors with AVX512_BF16, on a GPU candle's own network too.
    Bf16,
    /// On GPUs only.
    F16,
    /// 8-bit integers, on processors only, for checkpoints that say how large their activations are.
    I8,
}

impl Precision {
    /// The name users type.
    pub const fn name(self) -> &'static str {
        match self {
            Precision::Auto => "auto",
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
            Precision::I8 => "i8",
        }
    }

    /// What the CPU engine takes for [`Precision::Auto`] here; any other is itself.
    pub fn on_this_cpu(self, checkpoint: &Checkpoint) -> Precision {
        match self {
            Precision::Auto => Self::of_this_cpu(checkpoint)
                .into_iter()
                .rfind(|p| match p {
                    Precision::I8 => KernelSet::i8_is_fastest(),
                    Precision::Bf16 => KernelSet::bf16_is_faster(),
                    _ => true,
                })
                .unwrap_or(Precision::F32),
            given => given,
        }
    }

    /// What the CPU engine can run here, slowest first.
    pub fn of_this_cpu(checkpoint: &Checkpoint) -> Vec<Precision> {
        let mut list = vec![Precision::F32];
        if KernelSet::best_bf16().is_some() {
            list.push(Precision::Bf16);
        }
        if KernelSet::best_i8().is_some() && !checkpoint.description().activations.is_empty() {
            list.push(Precision::I8);
        }
        list
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        [Precision::Auto, Precision::F32, Precision::Bf16, Precision::F16, Precision::I8]
            .into_iter()
            .find(|p| p.name() == s)
            .ok_or_else(|| {
                Error::usage(format!("unknown precision {s:?}")).remedy("use auto, f32, bf16, f16 or i8")
            })
    }
}

/// What to build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The processor or a GPU.
    pub device: DeviceChoice,
    /// The number format of maps and products.
    pub precision: Precision,
    /// Threads in all, the caller's included; `None` takes all the machine has.
    pub threads: Option<usize>,
    /// (height, width) of the network's input; `None` takes the checkpoint's.
    pub size: Option<(usize, usize)>,
    /// Whether a GPU is kept busy between frames, so that its clock does not fall.
    pub keep_warm: bool,
    /// Niceness of the engine's own threads; 0 leaves it, higher yields to the video path. The calling thread's own is
    /// its owner's business.
    pub nice: i32,
}

/// Builds the network for this machine.
///
/// # Errors
/// A device or precision the machine does not have, a size that is not a multiple of 32.
pub fn open(checkpoint: &Checkpoint, options: Options) -> Result<Box<dyn Network>> {
    match options.device {
        DeviceChoice::Cpu => Ok(Box::new(open_cpu(checkpoint, options)?)),
        DeviceChoice::Cuda(ordinal) => open_cuda(checkpoint, ordinal, options),
        DeviceChoice::Auto if cfg!(feature = "cuda") => match open_cuda(checkpoint, 0, options) {
            Ok(network) => Ok(network),
            // A machine without a usable GPU has a processor; anything else is the caller's to hear.
            Err(e) if e.kind() == Kind::Machine => {
                tracing::info!("no GPU is used: {e}");
                Ok(Box::new(open_cpu(checkpoint, options)?))
            }
            Err(e) => Err(e),
        },
        DeviceChoice::Auto => Ok(Box::new(open_cpu(checkpoint, options)?)),
    }
}

/// The fused engine in f16; candle's own network where another precision is asked for.
#[cfg(feature = "cuda")]
fn open_cuda(checkpoint: &Checkpoint, ordinal: usize, options: Options) -> Result<Box<dyn Network>> {
    let dtype = match options.precision {
        Precision::F16 | Precision::Auto => {
            let mut engine = super::cuda::Cuda::new(checkpoint, ordinal, options.size)?;
            engine.keep_warm(options.keep_warm)?;
            return Ok(Box::new(engine));
        }
        Precision::F32 => DType::F32,
        Precision::Bf16 => DType::BF16,
        Precision::I8 => {
            return Err(Error::usage("i8 is for processors").remedy("use --precision f16 or auto on a GPU"));
        }
    };
    #[cfg(feature = "candle-cuda")]
    return Ok(Box::new(open_candle(checkpoint, ordinal, dtype, options.size)?));
    #[cfg(not(feature = "candle-cuda"))]
    Err(Error::usage(format!(
        "{} on a GPU is candle's own network, which this build has not",
        dtype.as_str()
    ))
    .remedy("use --precision f16 or auto, or build with `--features candle-cuda`"))
}

/// candle's own network on a GPU: what the fused engine is compared with.
///
/// # Errors
/// A device that is not there, no memory.
#[cfg(feature = "candle-cuda")]
pub fn open_candle(
    checkpoint: &Checkpoint,
    ordinal: usize,
    dtype: DType,
    size: Option<(usize, usize)>,
) -> Result<Reference> {
    let device = CandleDevice::new_cuda(ordinal).map_err(|e| {
        Error::machine(format!("cuda:{ordinal}: cannot be used ({e})"))
            .remedy("run `polypscope doctor` to see the devices there are")
            .because(e)
    })?;
    Reference::new(checkpoint, device, dtype, size)
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(_: &Checkpoint, ordinal: usize, _: Options) -> Result<Box<dyn Network>> {
    Err(Error::machine(format!("cuda:{ordinal}: this build has no CUDA"))
        .remedy("build with `--features cuda`, or use --device cpu"))
}

/// The CPU engine, for those who want more of it than [`Network`] offers.
///
/// # Errors
/// As [`open`].
pub fn open_cpu(checkpoint: &Checkpoint, options: Options) -> Result<Cpu> {
    let Options { precision, threads, size, nice, .. } = options;
    if threads == Some(0) {
        return Err(Error::usage("--threads 0: the network needs at least one thread"));
    }
    let path = match precision.on_this_cpu(checkpoint) {
        Precision::Auto | Precision::F32 => KernelSet::best_f32(),
        Precision::Bf16 => KernelSet::best_bf16().ok_or_else(|| {
            Error::machine("this processor has no bf16 instructions (AVX512_BF16)")
                .remedy("use --precision f32 or auto")
        })?,
        Precision::I8 => KernelSet::best_i8().ok_or_else(|| {
            Error::machine("this processor has no kernels for 8-bit integers (AVX2)")
                .remedy("use --precision f32 or auto")
        })?,
        Precision::F16 => {
            return Err(
                Error::usage("f16 is for GPUs").remedy("use --precision bf16, f32 or auto on the CPU")
            );
        }
    };
    Cpu::new(checkpoint, Settings { path, threads, size, nice })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for p in [Precision::Auto, Precision::F32, Precision::Bf16, Precision::F16, Precision::I8] {
            assert_eq!(p.to_string().parse::<Precision>().expect("own name"), p);
        }
        for d in [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Cuda(3)] {
            assert_eq!(d.to_string().parse::<DeviceChoice>().expect("own name"), d);
        }
        assert!("fp8".parse::<Precision>().is_err());
        assert!("cuda:x".parse::<DeviceChoice>().is_err());
    }
}
