//! Every parameter of the network, by its published key: what a checkpoint must hold.
//!
//! In: an [`Architecture`]. Out: keys, shapes and roles, in the network's order, read off its program.

use std::collections::HashSet;

use super::candle::SMALLEST;
use super::{Architecture, network};
use crate::program::{Op, Program};

/// What a parameter is for; decides how it may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Convolution kernel `[out, in, kh, kw]`: may be stored in half precision or as I8 with a scale per output
    /// channel.
    Kernel,
    /// Convolution bias `[out]`.
    Bias,
    /// Batch-norm scale, shift, running mean or running variance `[channels]`.
    Norm,
}

/// One tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its key in the published checkpoint, such as `resnet.conv1.0.weight`.
    pub key: String,
    /// Its dimensions, in PyTorch's order.
    pub shape: Vec<usize>,
    /// Kernel, bias, or part of a batch-norm.
    pub role: Role,
}

/// All parameters of the network, 577 for M²SNet.
pub fn parameters(architecture: Architecture) -> Vec<Parameter> {
    of_program(&network::program(architecture, SMALLEST))
}

/// All parameters of a program in its published form.
pub(crate) fn of_program(program: &Program) -> Vec<Parameter> {
    let mut list = List { parameters: Vec::with_capacity(600), norms: HashSet::new() };
    for node in program.nodes() {
        match &node.op {
            Op::Conv { weights, .. } => {
                let (key, shape) =
                    (weights.kernel.clone(), vec![weights.out, weights.cin, weights.size, weights.size]);
                list.parameters.push(Parameter { key, shape, role: Role::Kernel });
                if let Some(key) = &weights.bias {
                    list.parameters.push(Parameter {
                        key: key.clone(),
                        shape: vec![weights.out],
                        role: Role::Bias,
                    });
                }
            }
            Op::Norm { at, to, .. } => list.norm(at, program.fact(*to).channels),
            Op::Difference { norms: Some(norms), to, .. } => {
                norms.iter().for_each(|at| list.norm(at, program.fact(*to).channels));
            }
            _ => {}
        }
    }
    list.parameters
}

struct List {
    parameters: Vec<Parameter>,
    /// The multi-scale terms of all units share theirs.
    norms: HashSet<String>,
}

impl List {
    fn norm(&mut self, at: &str, channels: usize) {
        if self.norms.insert(at.to_owned()) {
            for leaf in ["weight", "bias", "running_mean", "running_var"] {
                self.parameters.push(Parameter {
                    key: format!("{at}.{leaf}"),
                    shape: vec![channels],
                    role: Role::Norm,
                });
            }
        }
    }
}
