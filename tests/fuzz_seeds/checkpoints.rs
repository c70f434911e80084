//! Checkpoints in every container and precision, of a few tensors each, and their descriptions.

use std::collections::HashMap;

use half::{bf16, f16};
use polypscope::model::checkpoint::Description;
use polypscope::model::{Architecture, Variant};
use safetensors::tensor::{Dtype, View, serialize};

use super::targets::checkpoint::{TENSORS, WRAPPER};
use super::torch_file::{self, Object, TorchTensor};
use super::{Seed, root, seed};

/// A tensor about to be written.
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        (&self.bytes).into()
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

fn values(shape: &[usize]) -> Vec<f32> {
    (0..shape.iter().product::<usize>()).map(|i| i as f32 * 0.25 - 1.0).collect()
}

fn bytes_of(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    match dtype {
        Dtype::F64 => values.iter().flat_map(|x| f64::from(*x).to_le_bytes()).collect(),
        Dtype::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        Dtype::BF16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
        Dtype::I8 => values.iter().map(|x| *x as i8 as u8).collect(),
        _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

/// Kernels in a precision, everything else in f32; I8 kernels with their scales.
fn safetensors_of(kernels: Dtype, description: Option<String>) -> Vec<u8> {
    let mut tensors = Vec::new();
    for (key, shape) in TENSORS {
        let dtype = if shape.len() == 4 { kernels } else { Dtype::F32 };
        if dtype == Dtype::I8 {
            let scales = [shape[0]];
            let bytes = bytes_of(Dtype::F32, &vec![0.5; shape[0]]);
            tensors
                .push((format!("{key}.scale"), Tensor { dtype: Dtype::F32, shape: scales.to_vec(), bytes }));
        }
        let bytes = bytes_of(dtype, &values(shape));
        tensors.push((key.to_owned(), Tensor { dtype, shape: shape.to_vec(), bytes }));
    }
    let metadata = description.map(|text| HashMap::from([("polypscope.description".to_owned(), text)]));
    serialize(tensors, metadata).expect("it can be written")
}

/// Two frames with known maps, of one class and of two.
fn frames() -> Vec<u8> {
    let tensor = |dtype, shape: &[usize], size: usize| Tensor {
        dtype,
        shape: shape.to_vec(),
        bytes: vec![0; size * shape.iter().product::<usize>()],
    };
    let tensors = [
        ("a.rgb", tensor(Dtype::U8, &[32, 32, 3], 1)),
        ("a.output1", tensor(Dtype::F32, &[8, 8], 4)),
        ("a.logits", tensor(Dtype::F32, &[4, 4], 4)),
        ("b.rgb", tensor(Dtype::U8, &[32, 64, 3], 1)),
        ("b.output1", tensor(Dtype::F32, &[2, 8, 16], 4)),
        ("b.logits", tensor(Dtype::F32, &[2, 2, 4], 4)),
    ];
    serialize(tensors, None).expect("it can be written")
}

/// A state dict whose tensors are made by `tensor`.
fn state(before: &str, tensor: impl Fn(&[usize]) -> TorchTensor) -> Object {
    let items = TENSORS.map(|(key, shape)| (format!("{before}{key}"), Object::Tensor(tensor(shape))));
    Object::StateDict(items.into())
}

pub fn files() -> Vec<Seed> {
    let f32s = |shape: &[usize]| TorchTensor::f32(shape, &values(shape));
    let f64s = |shape: &[usize]| TorchTensor {
        class: "DoubleStorage",
        bytes: bytes_of(Dtype::F64, &values(shape)),
        ..TorchTensor::f32(shape, &[])
    };
    // Stored the other way round, as channels_last and transposed tensors are.
    let turned = |shape: &[usize]| {
        let stride = (0..shape.len()).map(|d| shape[..d].iter().product()).collect();
        TorchTensor { stride: Some(stride), parameter: true, ..f32s(shape) }
    };
    let within = |state: Object| {
        Object::Dict(vec![
            ("epoch".to_owned(), Object::Int(3)),
            ("args".to_owned(), Object::Instance("argparse", "Namespace")),
            ("state_dict".to_owned(), state),
        ])
    };
    let half = |shape: &[usize]| TorchTensor::f16(shape, &values(shape));
    let brain = |shape: &[usize]| TorchTensor::bf16(shape, &values(shape));
    let objects = [
        ("f32", state("", f32s)),
        ("f16", state("", half)),
        ("bf16", state(WRAPPER, brain)),
        ("f64", state("", f64s)),
        ("turned", state("", turned)),
        ("training", within(state(WRAPPER, f32s))),
    ];
    let torch = objects.iter().flat_map(|(name, object)| {
        [
            seed(&format!("{name}.pth"), torch_file::zip(object)),
            seed(&format!("{name}-before-1.6.pth"), torch_file::legacy(object)),
        ]
    });
    let description = serde_json::to_string(&Description::published("seed", Architecture::default()));
    let forms = [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64, Dtype::I8];
    let safe = forms.map(|form| seed(&format!("{form:?}.safetensors"), safetensors_of(form, None)));
    let described = safetensors_of(Dtype::I8, Some(description.expect("it is JSON")));
    torch
        .chain(safe)
        .chain([seed("described.safetensors", described), seed("frames.safetensors", frames())])
        .collect()
}

pub fn descriptions() -> Vec<Seed> {
    let published = |variant, classes| {
        let description = Description::published("seed", Architecture { variant, classes });
        serde_json::to_vec_pretty(&description).expect("it is JSON")
    };
    let shipped = std::fs::read(root().join("weights/m2snet-polyp.json")).expect("the shipped description");
    vec![
        seed("shipped.json", shipped),
        seed("m2snet.json", published(Variant::M2SNet, 1)),
        seed("msnet.json", published(Variant::MSNet, 3)),
    ]
}
