//! Weights and inputs out of a counter-based generator that any language can repeat: the one golden.safetensors was
//! made with. Every value is a function of the tensor's name and the element's index.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use polypscope::model::{Architecture, Checkpoint, checkpoint::Description, parameters};

/// `u(name, i)` in [0, 1) for `i` in `0..n`.
pub fn uniform(name: &str, n: usize) -> impl Iterator<Item = f32> {
    let h = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ b as u64).wrapping_mul(0x100_0000_01b3));
    (1..=n as u64).map(move |i| {
        let mut z = h.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f32 * 2f32.powi(-24)
    })
}

fn signed(name: &str, n: usize) -> impl Iterator<Item = f32> {
    uniform(name, n).map(|u| 2.0 * u - 1.0)
}

fn tensor(key: &str, shape: &[usize]) -> Vec<f32> {
    let n = shape.iter().product();
    let (module, leaf) = key.rsplit_once('.').expect("keys have a dot");
    if shape.len() == 4 {
        let scale = (6.0 / (shape[1] * shape[2] * shape[3]) as f64).sqrt() as f32;
        return signed(key, n).map(|s| s * scale).collect();
    }
    let shared = match module {
        "conv_3.norm" => Some((240f32, 180f32 * 180.0)),
        "conv_5.norm" => Some((640f32, 480f32 * 480.0)),
        _ => None,
    };
    match leaf {
        "weight" => {
            let scale = if module.ends_with(".bn3") { 0.25 } else { 1.0 };
            uniform(key, n).map(|u| (0.75 + 0.5 * u) * scale).collect()
        }
        "bias" => signed(key, n).map(|s| 0.1 * s).collect(),
        "running_mean" => match shared {
            Some((mean, _)) => signed(key, n).map(|s| mean * (1.0 + 0.1 * s)).collect(),
            None => signed(key, n).map(|s| 0.1 * s).collect(),
        },
        "running_var" => {
            let scale = match shared {
                Some((_, var)) => var,
                None if module.contains(".bns.") || !module.starts_with("resnet") => 4.0,
                None => 1.0,
            };
            uniform(key, n).map(|u| (0.75 + 0.5 * u) * scale).collect()
        }
        _ => panic!("unknown parameter {key}"),
    }
}

/// Every parameter of the network.
pub fn tensors(architecture: Architecture) -> HashMap<String, Tensor> {
    parameters(architecture)
        .into_iter()
        .map(|p| {
            let t = Tensor::from_vec(tensor(&p.key, &p.shape), p.shape, &Device::Cpu).unwrap();
            (p.key, t)
        })
        .collect()
}

pub fn var_builder(architecture: Architecture) -> VarBuilder<'static> {
    VarBuilder::from_tensors(tensors(architecture), DType::F32, &Device::Cpu)
}

pub fn checkpoint(architecture: Architecture) -> Checkpoint {
    Checkpoint::from_tensors(Description::published("generated", architecture), tensors(architecture))
        .unwrap()
}

/// `[1, 3, h, w]`, already normalised.
pub fn input(h: usize, w: usize) -> Tensor {
    let mut v: Vec<f32> = signed(&format!("input.{h}x{w}"), 3 * h * w).map(|s| 0.5 * s).collect();
    for y in 0..h {
        for x in 0..w {
            let (xf, yf) = (x as f32, y as f32);
            v[y * w + x] += (xf / 17.0).sin() + (yf / 23.0).cos();
            v[h * w + y * w + x] += ((xf + yf) / 31.0).sin();
            v[2 * h * w + y * w + x] += ((xf - yf) / 13.0).cos();
        }
    }
    Tensor::from_vec(v, (1, 3, h, w), &Device::Cpu).unwrap()
}
