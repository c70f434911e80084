//! VGG-16's first convolutions, `features[:23]` of torchvision (Simonyan and Zisserman 2015): pictures flow in, the
//! maps of four stages flow out. Nothing here is trained.

use std::path::Path;

use super::super::ops::convolution::Convolve;
use super::super::parameters::{ParameterId, Parameters};
use super::super::tape::{Kernel, Record, Tail, Value};
use crate::model::checkpoint::foreign;
use crate::{Error, Result};

/// Output channels of each stage's convolutions; a 2x2 maximum stands between stages.
const STAGES: [&[usize]; 4] = [&[64, 64], &[128, 128], &[256, 256, 256], &[512, 512, 512]];

/// Keys and shapes in torchvision's layout, in order: `features.N.weight`, and `.bias` of the same number.
fn layout() -> Vec<(usize, usize, usize)> {
    let mut out = Vec::new();
    let (mut index, mut cin) = (0, 3);
    for stage in STAGES {
        for &cout in stage {
            out.push((index, cin, cout));
            cin = cout;
            // The convolution and its ReLU.
            index += 2;
        }
        index += 1;
    }
    out
}

/// See the module.
#[derive(Debug)]
pub struct Vgg<T> {
    parameters: Parameters<T>,
    kernels: Vec<(ParameterId, ParameterId)>,
}

impl<T: Convolve> Vgg<T> {
    /// Reads a file in torchvision's key layout, `.pth` or safetensors; what it holds beyond these layers is not read.
    ///
    /// # Errors
    /// Unreadable, of another network, not finite, by the key concerned.
    pub fn open(path: &Path) -> Result<Self> {
        let wanted: Vec<(String, Vec<usize>)> = layout()
            .into_iter()
            .flat_map(|(n, cin, cout)| {
                [
                    (format!("features.{n}.weight"), vec![cout, cin, 3, 3]),
                    (format!("features.{n}.bias"), vec![cout]),
                ]
            })
            .collect();
        let found = foreign::read(path, &wanted).map_err(|e| {
            e.remedy("give VGG-16 in torchvision's layout (features.0.weight …), .pth or safetensors")
        })?;
        let mut found = found.into_iter();
        Self::new(|key, shape| {
            found
                .next()
                .map(|values| {
                    debug_assert_eq!(values.len(), shape.iter().product::<usize>(), "{key}");
                    values.into_iter().map(|v| T::of(f64::from(v))).collect()
                })
                .ok_or_else(|| Error::internal(format!("{key} was not read")))
        })
    }

    /// With the values that `of` gives for each key and shape.
    pub fn new(mut of: impl FnMut(&str, &[usize]) -> Result<Vec<T>>) -> Result<Self> {
        let mut parameters = Parameters::new();
        let mut kernels = Vec::new();
        for (n, cin, cout) in layout() {
            let mut add = |leaf: &str, shape: &[usize]| {
                let key = format!("features.{n}.{leaf}");
                Ok::<_, Error>(parameters.insert(&key, shape, of(&key, shape)?, false))
            };
            kernels.push((add("weight", &[cout, cin, 3, 3])?, add("bias", &[cout])?));
        }
        Ok(Self { parameters, kernels })
    }

    /// Its kernels and biases; none of them is trained.
    pub fn parameters(&self) -> &Parameters<T> {
        &self.parameters
    }

    /// The four stages' maps of `x`, `[batch, 3, rows, columns]`.
    pub fn stages(&self, tape: &mut impl Record, x: Value) -> [Value; 4] {
        let mut kernels = self.kernels.iter();
        let mut x = x;
        let mut outs = Vec::with_capacity(4);
        for (i, stage) in STAGES.iter().enumerate() {
            if i > 0 {
                x = tape.max2(x);
            }
            for &(weight, bias) in kernels.by_ref().take(stage.len()) {
                let kernel = Kernel { weight, bias: Some(bias), stride: 1 };
                x = tape.convolution(x, kernel, Tail { relu: true, ..Tail::default() });
            }
            outs.push(x);
        }
        outs.try_into().expect("four stages")
    }
}
