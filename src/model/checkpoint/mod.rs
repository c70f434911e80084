//! The network's parameters and their description.
//!
//! In: a checkpoint file in any of the forms we read. Out: parameters under their published keys, checked against the
//! network they claim to be.

mod description;

pub use description::{Description, Figures, Resize};

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

use super::{Architecture, parameters};
use crate::{Error, Result};

/// A network's parameters, complete and of the right shapes.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    description: Description,
    tensors: HashMap<String, Tensor>,
}

impl Checkpoint {
    /// Takes parameters already in memory, on the CPU.
    ///
    /// # Errors
    /// A parameter that is missing or has another shape, by its key.
    pub fn from_tensors(description: Description, mut tensors: HashMap<String, Tensor>) -> Result<Self> {
        let mut kept = HashMap::with_capacity(600);
        for p in parameters(description.architecture()) {
            let Some(t) = tensors.remove(&p.key) else {
                return Err(Error::input(format!("{}: {} is missing", description.name, p.key)));
            };
            if t.dims() != p.shape {
                return Err(Error::input(format!(
                    "{}: {} has the shape {:?}, the network wants {:?}",
                    description.name,
                    p.key,
                    t.dims(),
                    p.shape
                )));
            }
            kept.insert(p.key, t);
        }
        Ok(Self { description, tensors: kept })
    }

    pub fn description(&self) -> &Description {
        &self.description
    }

    pub fn architecture(&self) -> Architecture {
        self.description.architecture()
    }

    /// One parameter as f32, row-major.
    pub fn values(&self, key: &str) -> Result<Vec<f32>> {
        let t =
            self.tensors.get(key).ok_or_else(|| Error::internal(format!("no parameter is called {key}")))?;
        Ok(t.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }

    /// The parameters on a device, for the candle network.
    pub fn var_builder(&self, dtype: DType, device: &Device) -> Result<VarBuilder<'static>> {
        let mut moved = HashMap::with_capacity(self.tensors.len());
        for (key, t) in &self.tensors {
            moved.insert(key.clone(), t.to_device(device)?);
        }
        Ok(VarBuilder::from_tensors(moved, dtype, device))
    }
}
