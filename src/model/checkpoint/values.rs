//! One parameter as it is stored: its shape and its values in the file's own precision.
//!
//! In: typed values from a reader. Out: f32 values, a candle tensor, or the I8 values and scales as they are.

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};

use super::compact;

/// A parameter's values in the precision they came in, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
    /// One scale per output channel: `value = scale[out] · i8`.
    I8 {
        values: Vec<i8>,
        scales: Vec<f32>,
    },
}

/// A parameter: shape and values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub shape: Vec<usize>,
    pub values: Values,
}

impl Values {
    /// Little-endian bytes of a float type. `None` for a type no parameter comes in.
    pub fn from_le_bytes(kind: Kind, bytes: &[u8]) -> Self {
        fn each<const N: usize, T>(bytes: &[u8], one: impl Fn([u8; N]) -> T) -> Vec<T> {
            bytes.as_chunks::<N>().0.iter().map(|&b| one(b)).collect()
        }
        match kind {
            Kind::F64 => Values::F32(each(bytes, |b| f64::from_le_bytes(b) as f32)),
            Kind::F32 => Values::F32(each(bytes, f32::from_le_bytes)),
            Kind::F16 => Values::F16(each(bytes, f16::from_le_bytes)),
            Kind::Bf16 => Values::Bf16(each(bytes, bf16::from_le_bytes)),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Values::F32(v) => v.len(),
            Values::F16(v) => v.len(),
            Values::Bf16(v) => v.len(),
            Values::I8 { values, .. } => values.len(),
        }
    }
}

/// Float types a file may store parameters in; f64 is narrowed to f32 on reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    F64,
    F32,
    F16,
    Bf16,
}

impl Kind {
    pub const fn size(self) -> usize {
        match self {
            Kind::F64 => 8,
            Kind::F32 => 4,
            Kind::F16 | Kind::Bf16 => 2,
        }
    }
}

impl Stored {
    /// The values as f32, row-major.
    pub fn to_f32(&self) -> Vec<f32> {
        match &self.values {
            Values::F32(v) => v.clone(),
            Values::F16(v) => v.iter().map(|x| x.to_f32()).collect(),
            Values::Bf16(v) => v.iter().map(|x| x.to_f32()).collect(),
            Values::I8 { values, scales } => compact::dequantise(values, scales),
        }
    }

    /// The values on a device, rounded there to `dtype`.
    pub fn to_tensor(&self, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        Tensor::from_vec(self.to_f32(), self.shape.as_slice(), &Device::Cpu)?
            .to_dtype(dtype)?
            .to_device(device)
    }

    /// A candle tensor of a float type, taken off its device.
    pub fn from_tensor(t: &Tensor) -> candle_core::Result<Self> {
        let flat = t.flatten_all()?;
        let values = match t.dtype() {
            DType::F16 => Values::F16(flat.to_vec1()?),
            DType::BF16 => Values::Bf16(flat.to_vec1()?),
            _ => Values::F32(flat.to_dtype(DType::F32)?.to_vec1()?),
        };
        Ok(Self { shape: t.dims().to_vec(), values })
    }

    /// The first value that is NaN or infinite, with its index in each dimension.
    pub fn not_finite(&self) -> Option<(f32, Vec<usize>)> {
        let flat = match &self.values {
            Values::F32(v) => v.iter().position(|x| !x.is_finite()),
            Values::F16(v) => v.iter().position(|x| !x.is_finite()),
            Values::Bf16(v) => v.iter().position(|x| !x.is_finite()),
            // Integers are finite; the reader has checked the scales, but their product may still overflow.
            Values::I8 { values, scales } => {
                let per = values.len() / scales.len().max(1);
                values.iter().enumerate().position(|(i, &q)| !(scales[i / per] * f32::from(q)).is_finite())
            }
        }?;
        Some((self.at(flat), self.index(flat)))
    }

    /// The first value below zero, with its index in each dimension.
    pub fn negative(&self) -> Option<(f32, Vec<usize>)> {
        let flat = self.to_f32().iter().position(|&x| x < 0.0)?;
        Some((self.at(flat), self.index(flat)))
    }

    fn at(&self, flat: usize) -> f32 {
        match &self.values {
            Values::F32(v) => v[flat],
            Values::F16(v) => v[flat].to_f32(),
            Values::Bf16(v) => v[flat].to_f32(),
            Values::I8 { values, scales } => {
                let per = values.len() / scales.len().max(1);
                f32::from(values[flat]) * scales[flat / per]
            }
        }
    }

    fn index(&self, mut flat: usize) -> Vec<usize> {
        let mut index = vec![0; self.shape.len()];
        for (i, &n) in index.iter_mut().zip(&self.shape).rev() {
            *i = flat % n;
            flat /= n;
        }
        index
    }
}
