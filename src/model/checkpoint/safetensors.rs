//! Checkpoints as safetensors: f32, f16, bf16 kernels, or the compact form with I8 kernels and their scales.
//!
//! In: the bytes of a file. Out: parameters under the keys they have there; and back.

use std::borrow::Cow;
use std::collections::HashMap;

use ::safetensors::SafeTensors;
use ::safetensors::tensor::{Dtype, View, serialize};

use super::description::METADATA_KEY;
use super::source::{Fault, Source};
use super::values::{Kind, Stored, Values};

/// A safetensors file's header, and its values on demand.
pub(super) struct Archive<'a> {
    tensors: SafeTensors<'a>,
    description: Option<String>,
}

impl<'a> Archive<'a> {
    /// Whether the bytes start as a safetensors file does: the header's length, then a JSON object.
    pub fn recognise(bytes: &[u8]) -> bool {
        bytes.get(8) == Some(&b'{') && bytes[..8].iter().rev().take(4).all(|&b| b == 0)
    }

    pub fn open(bytes: &'a [u8]) -> Result<Self, Fault> {
        let corrupt = |e: ::safetensors::SafeTensorError| Fault::corrupt(e.to_string());
        // The reader wants the two to agree; where they do not, the file was most likely cut off on its way.
        let (_, metadata) = match SafeTensors::read_metadata(bytes) {
            Err(::safetensors::SafeTensorError::MetadataIncompleteBuffer) => {
                return Err(Fault::corrupt(format!(
                    "its {} bytes are not as many as its header promises: it was cut off or changed",
                    bytes.len()
                )));
            }
            other => other.map_err(corrupt)?,
        };
        let description = metadata.metadata().as_ref().and_then(|m| m.get(METADATA_KEY).cloned());
        Ok(Self { tensors: SafeTensors::deserialize(bytes).map_err(corrupt)?, description })
    }
}

/// Key of the scales of an I8 kernel.
fn scale_key(key: &str) -> String {
    format!("{key}.scale")
}

fn kind(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F64 => Some(Kind::F64),
        Dtype::F32 => Some(Kind::F32),
        Dtype::F16 => Some(Kind::F16),
        Dtype::BF16 => Some(Kind::Bf16),
        _ => None,
    }
}

impl Source for Archive<'_> {
    fn keys(&self) -> Vec<(String, Vec<usize>)> {
        let is_scale = |key: &str| {
            key.strip_suffix(".scale")
                .and_then(|k| self.tensors.tensor(k).ok())
                .is_some_and(|t| t.dtype() == Dtype::I8)
        };
        self.tensors
            .iter()
            .filter(|(key, _)| !is_scale(key))
            .map(|(key, t)| (key.to_owned(), t.shape().to_vec()))
            .collect()
    }

    fn load(&mut self, key: &str) -> Result<Stored, Fault> {
        let tensor = self.tensors.tensor(key).map_err(|e| Fault::at(key, e.to_string()))?;
        let shape = tensor.shape().to_vec();
        if let Some(kind) = kind(tensor.dtype()) {
            return Ok(Stored { shape, values: Values::from_le_bytes(kind, tensor.data()) });
        }
        if tensor.dtype() != Dtype::I8 {
            return Err(Fault::at(key, format!("is stored as {:?}, which no parameter is", tensor.dtype())));
        }
        let out = shape.first().copied().unwrap_or(0);
        let at = scale_key(key);
        let scale = self
            .tensors
            .tensor(&at)
            .map_err(|_| Fault::at(&at, format!("is missing, {key} needs it with the shape [{out}]")))?;
        if scale.dtype() != Dtype::F32 {
            return Err(Fault::at(&at, format!("is stored as {:?}, scales are F32", scale.dtype())));
        }
        if scale.shape() != [out] {
            return Err(Fault::at(
                &at,
                format!("has the shape {:?}, the network wants [{out}]", scale.shape()),
            ));
        }
        let Values::F32(scales) = Values::from_le_bytes(Kind::F32, scale.data()) else {
            unreachable!("f32 was asked for");
        };
        if let Some(c) = scales.iter().position(|s| !s.is_finite() || *s <= 0.0) {
            return Err(Fault::at(
                &at,
                format!("is {} at [{c}], a scale is finite and above zero", scales[c]),
            ));
        }
        let values = tensor.data().iter().map(|&b| b as i8).collect();
        Ok(Stored { shape, values: Values::I8 { values, scales } })
    }

    fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }
}

/// A tensor about to be written, in the bytes it will have.
struct Written {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Written {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// The bytes of a file: tensors in the format's own order (by type, then by key), so that the same parameters and
/// description always give the same file.
pub(super) fn write<'a>(
    parameters: impl IntoIterator<Item = (&'a str, Stored)>,
    description: String,
) -> Result<Vec<u8>, ::safetensors::SafeTensorError> {
    let mut tensors: Vec<(String, Written)> = Vec::new();
    for (key, Stored { shape, values }) in parameters {
        let (dtype, bytes) = match values {
            Values::F32(v) => (Dtype::F32, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Values::F16(v) => (Dtype::F16, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Values::Bf16(v) => (Dtype::BF16, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Values::I8 { values, scales } => {
                tensors.push((
                    scale_key(key),
                    Written {
                        dtype: Dtype::F32,
                        shape: vec![scales.len()],
                        bytes: scales.iter().flat_map(|x| x.to_le_bytes()).collect(),
                    },
                ));
                (Dtype::I8, values.iter().map(|&q| q as u8).collect())
            }
        };
        tensors.push((key.to_owned(), Written { dtype, shape, bytes }));
    }
    // One entry only: the crate writes a map of several in no fixed order.
    serialize(tensors, Some(HashMap::from([(METADATA_KEY.to_owned(), description)])))
}
