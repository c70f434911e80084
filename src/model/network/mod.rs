//! The published networks, each written down once.
//!
//! In: an [`Architecture`] and an input size. Out: a [`Program`] in the published form, from which everything else
//! follows: candle's network, the list of a checkpoint's parameters, the engines' plans, training.

mod m2snet;
mod res2net;

#[cfg(test)]
pub(crate) use res2net::features;

use super::{Architecture, Variant};
use crate::program::Program;

/// Channels of every decoder map.
const CHANNELS: usize = 64;

/// The network for an input of `height` x `width` pixels, multiples of 32.
pub fn program(architecture: Architecture, (height, width): (usize, usize)) -> Program {
    let scales = match architecture.variant {
        Variant::M2SNet => Some(["conv_3.norm", "conv_5.norm"]),
        Variant::MSNet => None,
    };
    m2snet::program(scales, architecture.classes, (height, width))
}
