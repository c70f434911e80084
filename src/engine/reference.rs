//! The plain candle network behind the [`Network`] trait: slow, straightforward, the measure of every faster engine.

use candle_core::{DType, Device, Tensor};

use super::{Network, Route, Shape};
use crate::model::{Checkpoint, M2SNet, frame_bytes};
use crate::{Error, Result, memory};

/// [`M2SNet`] run by candle, one frame at a time.
pub struct Reference {
    network: M2SNet,
    device: Device,
    dtype: DType,
    shape: Shape,
}

impl Reference {
    /// Builds the network from a checkpoint on a device. `size` is (height, width), the checkpoint's own if `None`.
    pub fn new(
        checkpoint: &Checkpoint,
        device: Device,
        dtype: DType,
        size: Option<(usize, usize)>,
    ) -> Result<Self> {
        let shape = Shape::of(checkpoint, size)?;
        if matches!(device, Device::Cpu) {
            memory::afford(
                &format!("candle's network at an input of {}x{} pixels", shape.width, shape.height),
                frame_bytes(shape.height, shape.width, shape.classes),
                |_| "choose a smaller input size".to_owned(),
            )?;
        }
        let network = M2SNet::new(checkpoint.architecture(), checkpoint.var_builder(dtype, &device)?)?;
        Ok(Self { network, device, dtype, shape })
    }
}

impl Network for Reference {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn run(&mut self, input: &[f32], logits: &mut [f32]) -> Result<()> {
        let Shape { height, width, .. } = self.shape;
        if input.len() != self.shape.input_len() || logits.len() != self.shape.logits_len() {
            return Err(Error::internal("network: a buffer of the wrong length was handed over"));
        }
        let x = Tensor::from_slice(input, (1, 3, height, width), &self.device)?.to_dtype(self.dtype)?;
        let y = self.network.forward(&x)?.to_dtype(DType::F32)?.flatten_all()?.to_device(&Device::Cpu)?;
        logits.copy_from_slice(&y.to_vec1::<f32>()?);
        Ok(())
    }

    fn describe(&self) -> String {
        let device = match &self.device {
            Device::Cpu => "cpu".to_owned(),
            other => format!("{:?}", other.location()).to_lowercase(),
        };
        format!("candle reference, {device}, {:?}", self.dtype).to_lowercase()
    }

    fn route(&mut self) -> Route<'_> {
        Route::Planes
    }
}
