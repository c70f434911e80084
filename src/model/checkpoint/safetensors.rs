//! Checkpoints as safetensors: f32, f16, bf16 kernels, or the compact form with I8 kernels and their scales.
//!
//! In: the bytes of a file. Out: parameters under the keys they have there; and back.

use std::borrow::Cow;
use std::collections::HashMap;

use ::safetensors::tensor::{Dtype, Metadata, View, serialize};
use ::safetensors::{SafeTensorError, SafeTensors};

use super::budget::{Budget, LONGEST_INDEX, MOST_DIMENSIONS};
use super::description::METADATA_KEY;
use super::source::{Fault, Source};
use super::values::{Kind, Stored, Values};

/// What the crate builds of a header at most, in bytes: for each object (an entry and its place in two tables) and for
/// each value of a list or an object, which it keeps as a tree first.
const OBJECT: usize = 512;
const VALUE: usize = 192;

/// A safetensors file's header, and its values on demand.
pub(super) struct Archive<'a> {
    metadata: Metadata,
    /// What follows the header.
    values: &'a [u8],
}

/// One entry of the header, and its bytes.
pub(super) struct Entry<'s, 'a> {
    pub dtype: Dtype,
    pub shape: &'s [usize],
    pub data: &'a [u8],
}

impl<'a> Archive<'a> {
    /// Whether the bytes start as a safetensors file does: the header's length, then a JSON object.
    pub fn recognise(bytes: &[u8]) -> bool {
        bytes.get(8) == Some(&b'{') && bytes[..8].iter().rev().take(4).all(|&b| b == 0)
    }

    pub fn open(bytes: &'a [u8], budget: &mut Budget) -> Result<Self, Fault> {
        if let Some((length, rest)) = bytes.split_first_chunk() {
            let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
            if length > LONGEST_INDEX {
                return Err(Fault::corrupt(format!(
                    "its header has {length} bytes, none of these networks has more than {} MB",
                    LONGEST_INDEX >> 20
                )));
            }
            charge(&rest[..length.min(rest.len())], budget)?;
        }
        // The reader wants the two to agree; where they do not, the file was most likely cut off on its way.
        let (header, metadata) = match SafeTensors::read_metadata(bytes) {
            Err(SafeTensorError::MetadataIncompleteBuffer) => {
                return Err(Fault::corrupt(format!(
                    "its {} bytes are not as many as its header promises: it was cut off or changed",
                    bytes.len()
                )));
            }
            other => other.map_err(|e| Fault::corrupt(e.to_string()))?,
        };
        Ok(Self { metadata, values: &bytes[size_of::<u64>() + header..] })
    }

    /// Keys in the order of their values.
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    pub fn entry(&self, key: &str) -> Option<Entry<'_, 'a>> {
        let info = self.metadata.info(key)?;
        let (from, to) = info.data_offsets;
        Some(Entry { dtype: info.dtype, shape: &info.shape, data: self.values.get(from..to)? })
    }
}

/// Charges what parsing a header will build, before it is parsed.
fn charge(header: &[u8], budget: &mut Budget) -> Result<(), Fault> {
    // Names and texts, in the tree and in the tables.
    budget.charge(header.len(), 3)?;
    let (mut objects, mut values) = (0usize, 0usize);
    let (mut in_text, mut escaped) = (false, false);
    // Values of the list being read.
    let mut listed: Option<usize> = None;
    for &byte in header {
        if in_text {
            in_text = escaped || byte != b'"';
            escaped = byte == b'\\' && !escaped;
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'{' => objects += 1,
            b'[' => {
                values += 1;
                listed = Some(1);
            }
            b']' => listed = None,
            b',' => {
                values += 1;
                if let Some(count) = &mut listed {
                    *count += 1;
                    if *count > MOST_DIMENSIONS {
                        return Err(Fault::corrupt(format!(
                            "one of its tensors has more than {MOST_DIMENSIONS} dimensions"
                        )));
                    }
                }
            }
            _ => {}
        }
    }
    budget.charge(objects, OBJECT)?;
    Ok(budget.charge(values, VALUE)?)
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
            key.strip_suffix(".scale").and_then(|k| self.entry(k)).is_some_and(|e| e.dtype == Dtype::I8)
        };
        let mut names = self.names();
        names.retain(|key| !is_scale(key));
        let shape = |key: &str| self.entry(key).map_or_else(Vec::new, |e| e.shape.to_vec());
        names.into_iter().map(|key| (shape(&key), key)).map(|(shape, key)| (key, shape)).collect()
    }

    fn load(&mut self, key: &str) -> Result<Stored, Fault> {
        let tensor = self.entry(key).ok_or_else(|| Fault::at(key, "is missing"))?;
        let shape = tensor.shape.to_vec();
        if let Some(kind) = kind(tensor.dtype) {
            return Ok(Stored { shape, values: Values::from_le_bytes(kind, tensor.data) });
        }
        if tensor.dtype != Dtype::I8 {
            return Err(Fault::at(key, format!("is stored as {:?}, which no parameter is", tensor.dtype)));
        }
        let out = shape.first().copied().unwrap_or(0);
        let at = scale_key(key);
        let scale = self
            .entry(&at)
            .ok_or_else(|| Fault::at(&at, format!("is missing, {key} needs it with the shape [{out}]")))?;
        if scale.dtype != Dtype::F32 {
            return Err(Fault::at(&at, format!("is stored as {:?}, scales are F32", scale.dtype)));
        }
        if scale.shape != [out] {
            return Err(Fault::at(
                &at,
                format!("has the shape {:?}, the network wants [{out}]", scale.shape),
            ));
        }
        let Values::F32(scales) = Values::from_le_bytes(Kind::F32, scale.data) else {
            unreachable!("f32 was asked for");
        };
        if let Some(c) = scales.iter().position(|s| !s.is_finite() || *s <= 0.0) {
            return Err(Fault::at(
                &at,
                format!("is {} at [{c}], a scale is finite and above zero", scales[c]),
            ));
        }
        let values = tensor.data.iter().map(|&b| b as i8).collect();
        Ok(Stored { shape, values: Values::I8 { values, scales } })
    }

    fn description(&self) -> Option<&str> {
        self.metadata.metadata().as_ref()?.get(METADATA_KEY).map(String::as_str)
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
