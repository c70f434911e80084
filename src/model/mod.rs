//! The network as published, candle's form of it, and the files its parameters come in.
//!
//! In: an architecture, a checkpoint file. Out: the network as a [`crate::program::Program`], its parameters by key,
//! and [`M2SNet`], which candle runs: normalised RGB `[batch, 3, height, width]` to logits
//! `[batch, classes, height, width]`.
//!
//! M²SNet: Zhao et al., "M²SNet: Multi-scale in Multi-scale Subtraction Network for Medical Image Segmentation", 2023,
//! arXiv 2303.10894. MSNet: MICCAI 2021, arXiv 2108.05082. Backbone: Res2Net, Gao et al., TPAMI 2021, arXiv 1904.01169.
//! Paths of the `VarBuilder` are the published checkpoints' own keys.

mod box_norm;
mod candle;
pub mod checkpoint;
mod layers;
mod network;
mod parameters;

pub use box_norm::BoxNorm;
pub use candle::M2SNet;
pub use checkpoint::Checkpoint;
#[cfg(test)]
pub(crate) use network::features;
pub use network::program;
pub use parameters::{Parameter, Role, parameters};

use std::fmt;
use std::str::FromStr;

/// Largest side of a network's input, in pixels: far above what a video has to give.
pub const LARGEST_SIDE: usize = 4096;

/// Whether a network's input can have this many rows or columns: it is halved five times on its way.
pub const fn is_side(n: usize) -> bool {
    n > 0 && n.is_multiple_of(32) && n <= LARGEST_SIDE
}

/// Bytes the plain network takes for a frame on a processor, at most: the maps it holds at once, measured, and the
/// logits.
pub(crate) const fn frame_bytes(height: usize, width: usize, classes: usize) -> u64 {
    const MAPS_PER_PIXEL: u64 = 2000;
    (height * width) as u64 * (MAPS_PER_PIXEL + 8 * classes as u64)
}

/// Which of the two published networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// With the multi-scale terms of the subtraction units.
    M2SNet,
    /// The same without them.
    MSNet,
}

impl Variant {
    /// The name in descriptions and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Variant::M2SNet => "m2snet",
            Variant::MSNet => "msnet",
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Variant {
    type Err = crate::Error;

    fn from_str(s: &str) -> crate::Result<Self> {
        match s {
            "m2snet" => Ok(Variant::M2SNet),
            "msnet" => Ok(Variant::MSNet),
            _ => Err(crate::Error::usage(format!("unknown network {s:?}")).remedy("use m2snet or msnet")),
        }
    }
}

/// What the checkpoint must contain and what the network computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Architecture {
    /// Which of the two networks.
    pub variant: Variant,
    /// Maps the last convolution writes: 1 for a binary mask.
    pub classes: usize,
}

impl Default for Architecture {
    fn default() -> Self {
        Self { variant: Variant::M2SNet, classes: 1 }
    }
}
