//! Where a training step is calculated: `--device` flows in, this machine's cores or a card flow out.

#[cfg(not(feature = "cuda"))]
use crate::Error;
use crate::Result;
use crate::engine::DeviceChoice;
use crate::training::passes::Passes;

/// A card and its name.
pub type Card = (Box<dyn Passes<f32>>, String);

/// The card that was asked for, the first one where the fastest was, or none: this machine's cores.
///
/// # Errors
/// A card that was asked for and cannot be had.
pub fn card(device: DeviceChoice) -> Result<Option<Card>> {
    match device {
        DeviceChoice::Cpu => Ok(None),
        DeviceChoice::Cuda(n) => open(n).map(Some),
        DeviceChoice::Auto => {
            Ok(open(0).inspect_err(|e| tracing::debug!("training goes by the processor: {e}")).ok())
        }
    }
}

#[cfg(feature = "cuda")]
fn open(ordinal: usize) -> Result<Card> {
    crate::training::gpu::open(ordinal)
}

#[cfg(not(feature = "cuda"))]
fn open(ordinal: usize) -> Result<Card> {
    Err(Error::usage(format!("--device cuda:{ordinal}: this program was built without CUDA"))
        .remedy("build it with `make cuda`, or use --device cpu"))
}
