//! Which engine runs a checkpoint.
//!
//! In: what the user asked for (`--device`, `--precision`, `--threads`). Out: a [`Network`].

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device as CandleDevice};

use super::{Network, Reference};
use crate::model::Checkpoint;
use crate::{Error, Result};

/// Where the network runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    #[default]
    Auto,
    Cpu,
    /// The N-th CUDA device.
    Cuda(usize),
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "auto" => return Ok(Device::Auto),
            "cpu" => return Ok(Device::Cpu),
            "cuda" => return Ok(Device::Cuda(0)),
            _ => {}
        }
        s.strip_prefix("cuda:")
            .and_then(|n| n.parse().ok())
            .map(Device::Cuda)
            .ok_or_else(|| Error::usage(format!("{s:?} is not a device")).remedy("use auto, cpu or cuda:N"))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

/// What the network computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// The fastest the device has that keeps the mask.
    #[default]
    Auto,
    F32,
    Bf16,
    F16,
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "auto" => Ok(Precision::Auto),
            "f32" => Ok(Precision::F32),
            "bf16" => Ok(Precision::Bf16),
            "f16" => Ok(Precision::F16),
            _ => Err(Error::usage(format!("{s:?} is not a precision")).remedy("use auto, f32, bf16 or f16")),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Auto => "auto",
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        })
    }
}

/// How to run a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub device: Device,
    pub precision: Precision,
    /// Threads of the engine; all cores if `None`.
    pub threads: Option<usize>,
    /// Input (height, width); the checkpoint's own if `None`.
    pub size: Option<(usize, usize)>,
}

/// Builds the network for a device and precision.
///
/// # Errors
/// A device this build or machine does not have, a precision the device does not compute in, a size that is no multiple
/// of 32.
pub fn open(checkpoint: &Checkpoint, options: Options) -> Result<Box<dyn Network>> {
    let device = candle_device(options.device)?;
    let dtype = match (&device, options.precision) {
        (_, Precision::F32) | (CandleDevice::Cpu, Precision::Auto) => DType::F32,
        (CandleDevice::Cpu, p) => {
            return Err(Error::usage(format!("the CPU does not compute in {p}")).remedy("use --precision f32 or auto"));
        }
        (_, Precision::Bf16 | Precision::Auto) => DType::BF16,
        (_, Precision::F16) => DType::F16,
    };
    Ok(Box::new(Reference::new(checkpoint, device, dtype, options.size)?))
}

/// `auto` is the first CUDA device if this build and machine have one, else the CPU.
fn candle_device(device: Device) -> Result<CandleDevice> {
    match device {
        Device::Cpu => Ok(CandleDevice::Cpu),
        Device::Auto if !cfg!(feature = "cuda") => Ok(CandleDevice::Cpu),
        Device::Auto => Ok(CandleDevice::new_cuda(0).unwrap_or(CandleDevice::Cpu)),
        Device::Cuda(_) if !cfg!(feature = "cuda") => {
            Err(Error::machine(format!("{device}: this build has no CUDA"))
                .remedy("build with `--features cuda`, or use --device cpu"))
        }
        Device::Cuda(n) => CandleDevice::new_cuda(n).map_err(|e| {
            Error::machine(format!("{device}: cannot be used ({e})"))
                .remedy("run `polypscope doctor` to see the devices there are")
                .because(e)
        }),
    }
}
