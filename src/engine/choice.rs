//! Which engine to build: device, precision, threads, input size, as a command line names them.
//!
//! In: [`Options`] and a checkpoint. Out: a [`Network`] for this machine.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device as CandleDevice};

use super::cpu::{Cpu, Path, Settings};
use super::{Network, Reference};
use crate::model::Checkpoint;
use crate::{Error, Result};

/// Where the network runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The fastest there is.
    #[default]
    Auto,
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
    /// The fastest the machine has that keeps the mask: bf16 where the processor has it, else f32.
    #[default]
    Auto,
    F32,
    Bf16,
    /// On GPUs only.
    F16,
}

impl Precision {
    pub const fn name(self) -> &'static str {
        match self {
            Precision::Auto => "auto",
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        }
    }

    /// What the CPU engine can run here, slowest first.
    pub fn of_this_cpu() -> Vec<Precision> {
        let mut list = vec![Precision::F32];
        if Path::best_bf16().is_some() {
            list.push(Precision::Bf16);
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
        [Precision::Auto, Precision::F32, Precision::Bf16, Precision::F16]
            .into_iter()
            .find(|p| p.name() == s)
            .ok_or_else(|| {
                Error::usage(format!("unknown precision {s:?}")).remedy("use auto, f32, bf16 or f16")
            })
    }
}

/// What to build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub device: DeviceChoice,
    pub precision: Precision,
    /// Threads in all, the caller's included; `None` takes all the machine has.
    pub threads: Option<usize>,
    /// (height, width) of the network's input; `None` takes the checkpoint's.
    pub size: Option<(usize, usize)>,
    /// Niceness of the engine's own threads; 0 leaves it, higher yields to the video path. The calling thread's own is its
    /// owner's business.
    pub nice: i32,
}

/// Builds the network for this machine.
///
/// # Errors
/// A device or precision the machine does not have, a size that is not a multiple of 32.
pub fn open(checkpoint: &Checkpoint, options: Options) -> Result<Box<dyn Network>> {
    match cuda_device(options.device)? {
        Some(device) => Ok(Box::new(open_cuda(checkpoint, device, options)?)),
        None => Ok(Box::new(open_cpu(checkpoint, options)?)),
    }
}

/// The GPU to use; `None` for the CPU. `auto` takes the first GPU if this build and machine have one.
fn cuda_device(choice: DeviceChoice) -> Result<Option<CandleDevice>> {
    match choice {
        DeviceChoice::Cpu => Ok(None),
        DeviceChoice::Auto if !cfg!(feature = "cuda") => Ok(None),
        DeviceChoice::Auto => Ok(CandleDevice::new_cuda(0).ok()),
        DeviceChoice::Cuda(_) if !cfg!(feature = "cuda") => {
            Err(Error::machine(format!("{choice}: this build has no CUDA"))
                .remedy("build with `--features cuda`, or use --device cpu"))
        }
        DeviceChoice::Cuda(n) => CandleDevice::new_cuda(n).map(Some).map_err(|e| {
            Error::machine(format!("{choice}: cannot be used ({e})"))
                .remedy("run `polypscope doctor` to see the devices there are")
                .because(e)
        }),
    }
}

/// candle's own network on a GPU.
fn open_cuda(checkpoint: &Checkpoint, device: CandleDevice, options: Options) -> Result<Reference> {
    let dtype = match options.precision {
        Precision::F32 => DType::F32,
        // candle's f16 convolutions accumulate in f16, its bf16 ones in f32.
        Precision::Bf16 | Precision::Auto => DType::BF16,
        Precision::F16 => DType::F16,
    };
    Reference::new(checkpoint, device, dtype, options.size)
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
    let path = match precision {
        Precision::Auto => Path::best_bf16().unwrap_or_else(Path::best_f32),
        Precision::F32 => Path::best_f32(),
        Precision::Bf16 => Path::best_bf16().ok_or_else(|| {
            Error::machine("this processor has no bf16 instructions (AVX512_BF16)")
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
        for p in [Precision::Auto, Precision::F32, Precision::Bf16, Precision::F16] {
            assert_eq!(p.to_string().parse::<Precision>().expect("own name"), p);
        }
        for d in [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Cuda(3)] {
            assert_eq!(d.to_string().parse::<DeviceChoice>().expect("own name"), d);
        }
        assert!("fp8".parse::<Precision>().is_err());
        assert!("cuda:x".parse::<DeviceChoice>().is_err());
    }
}
