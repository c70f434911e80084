//! A device that also convolves: one pass of a convolution flows in, a launch flows out.

use crate::Result;
use crate::engine::cuda::{Address, Device};
#[cfg(test)]
use crate::engine::cuda::{Kernel, Launch, Train, TrainConv};
use crate::training::ops::convolution::Geometry;

/// Which of a convolution's three products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Pass {
    /// Writes the output.
    Forward,
    /// Writes the input's gradient from the output's.
    Input,
    /// Adds to the weights' gradient.
    Weights,
}

/// Addresses of a convolution's maps or of their gradients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operands {
    pub(super) input: Address,
    pub(super) weights: Address,
    pub(super) output: Address,
}

/// See the module.
pub(super) trait Card: Device + Send {
    fn convolve(&mut self, pass: Pass, geometry: &Geometry, operands: Operands) -> Result<()>;

    /// Memory of a map, often asked for.
    fn take(&mut self, bytes: usize) -> Result<Address> {
        self.allocate(bytes)
    }

    /// Gives it back; what was launched before still has it.
    fn give(&mut self, at: Address) -> Result<()> {
        self.release(at)
    }
}

#[cfg(test)]
impl Card for crate::engine::cuda::Emulated {
    fn convolve(&mut self, pass: Pass, geometry: &Geometry, operands: Operands) -> Result<()> {
        plain(self, pass, geometry, operands)
    }
}

/// Convolutions by their definition, on any device: the reference.
#[cfg(test)]
pub(super) fn plain(
    device: &mut (impl Device + ?Sized),
    pass: Pass,
    g: &Geometry,
    o: Operands,
) -> Result<()> {
    let (kernel, count) = match pass {
        Pass::Forward => (Train::Conv, g.output_len()),
        Pass::Input => (Train::ConvInput, g.input_len()),
        Pass::Weights => (Train::ConvWeights, g.weight_len()),
    };
    let params = TrainConv {
        input: o.input,
        weights: o.weights,
        output: o.output,
        count: count as u32,
        batch: g.batch as i32,
        inputs: g.cin as i32,
        height: g.h as i32,
        width: g.w as i32,
        outputs: g.cout as i32,
        out_height: g.out_h() as i32,
        out_width: g.out_w() as i32,
        kernel: g.kernel as i32,
        stride: g.stride as i32,
    };
    device.launch(&Launch::each(Kernel::Train(kernel), count, params))
}
