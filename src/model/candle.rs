//! The published network run by candle: slow, straightforward, the measure of every engine.
//!
//! In: the program of [`super::network`], parameters under their published keys, `[batch, 3, H, W]`. Out: logits
//! `[batch, classes, H, W]`. Each operation of the program is candle's own; nothing is fused.

use std::collections::HashMap;

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::{BatchNorm, Conv2d, Conv2dConfig, VarBuilder};

use super::Architecture;
use super::box_norm::BoxNorm;
use super::layers::{average_pool2, average_pool3, batch_norm, max_pool3, normalise, resize};
use super::network;
use crate::program::{Op, Pool, Program, Value, Weights};

/// M²SNet or MSNet with its parameters on a device.
#[derive(Debug)]
pub struct M2SNet {
    architecture: Architecture,
    /// By the kernel's key.
    convs: HashMap<String, Conv2d>,
    /// By module.
    norms: HashMap<String, BatchNorm>,
    /// Of the multi-scale terms, by module.
    boxes: HashMap<String, BoxNorm>,
}

impl M2SNet {
    /// Reads every parameter under its published key.
    ///
    /// # Errors
    /// A key that is missing or has another shape; [`super::Checkpoint::open`] reports those in the user's words before
    /// this is reached.
    pub fn new(architecture: Architecture, vb: VarBuilder) -> Result<Self> {
        let program = network::program(architecture, SMALLEST);
        let mut net =
            Self { architecture, convs: HashMap::new(), norms: HashMap::new(), boxes: HashMap::new() };
        for node in program.nodes() {
            match &node.op {
                Op::Conv { stride, weights, .. } => {
                    net.convs.insert(weights.kernel.clone(), conv(weights, *stride, &vb)?);
                }
                Op::Norm { at, to, .. } => {
                    let channels = program.fact(*to).channels;
                    net.norms.insert(at.clone(), batch_norm(channels, vb.pp(at))?);
                }
                Op::Difference { norms: Some(norms), to, .. } => {
                    let channels = program.fact(*to).channels;
                    for (at, kernel) in norms.iter().zip([3, 5]) {
                        if !net.boxes.contains_key(at) {
                            net.boxes.insert(at.clone(), BoxNorm::new(kernel, channels, vb.pp(at))?);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(net)
    }

    /// Which of the two networks, and for how many classes.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Logits at the input's size.
    ///
    /// # Errors
    /// A size that is not a multiple of 32; whatever the device says.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_observed(x, &mut |_, _| Ok(()))
    }

    /// As [`Self::forward`], showing every value of the program by its name as it arises: what golden values and
    /// node-wise comparisons with the engines are taken from.
    ///
    /// # Errors
    /// As [`Self::forward`], and what `see` returns.
    pub fn forward_observed(
        &self,
        x: &Tensor,
        see: &mut dyn FnMut(&str, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let (_, _, h, w) = x.dims4()?;
        if h == 0 || w == 0 || h % 32 != 0 || w % 32 != 0 {
            candle_core::bail!("input size {w}x{h} is not a multiple of 32");
        }
        let program = network::program(self.architecture, (h, w));
        let mut left: Vec<usize> = program.readers().iter().map(Vec::len).collect();
        let mut values: Vec<Option<Tensor>> = vec![None; left.len()];
        for node in program.nodes() {
            let result = self.run(&program, &node.op, x, &values)?;
            // A map is dropped with its last reader.
            for value in node.op.reads() {
                left[value.index()] -= 1;
                if left[value.index()] == 0 {
                    values[value.index()] = None;
                }
            }
            for value in node.op.writes() {
                see(&program.fact(value).name, &result)?;
                values[value.index()] = Some(result.clone());
            }
        }
        values[program.output().index()].take().ok_or_else(|| missing(&program, program.output()))
    }

    fn run(&self, program: &Program, op: &Op, x: &Tensor, values: &[Option<Tensor>]) -> Result<Tensor> {
        let get = |v: &Value| values[v.index()].as_ref().ok_or_else(|| missing(program, *v));
        match op {
            Op::Input { .. } => Ok(x.clone()),
            Op::Conv { of, weights, .. } => found(&self.convs, &weights.kernel)?.forward(get(of)?),
            Op::Norm { of, at, .. } => normalise(get(of)?, found(&self.norms, at)?),
            Op::Relu { of, .. } => get(of)?.relu(),
            Op::Add { a, b, .. } => get(a)? + get(b)?,
            Op::Slice { of, from, to } => get(of)?.narrow(1, *from, program.fact(*to).channels)?.contiguous(),
            Op::Concat { of, .. } => {
                let of: Vec<&Tensor> = of.iter().map(get).collect::<Result<_>>()?;
                Tensor::cat(&of, 1)
            }
            Op::Pool { of, kind, .. } => match kind {
                Pool::Max3 => max_pool3(get(of)?),
                Pool::Average3 { stride } => average_pool3(get(of)?, *stride),
                Pool::Average2 => average_pool2(get(of)?),
            },
            Op::Resize { of, to } => {
                let (h, w) = program.fact(*to).size();
                resize(get(of)?, h, w)
            }
            Op::Difference { a, b, norms, .. } => {
                let boxes: Vec<&BoxNorm> =
                    norms.iter().flatten().map(|at| found(&self.boxes, at)).collect::<Result<_>>()?;
                difference(get(a)?, get(b)?, &boxes)
            }
            Op::Fused(_)
            | Op::Subtract { .. }
            | Op::ResizeAdd { .. }
            | Op::Logits { .. }
            | Op::Enlarge { .. } => candle_core::bail!("candle runs the published form of a program only"),
        }
    }
}

/// A size at which a program can be written down where only its parameters matter.
pub(super) const SMALLEST: (usize, usize) = (32, 32);

/// A convolution with "same" padding.
fn conv(weights: &Weights, stride: usize, vb: &VarBuilder) -> Result<Conv2d> {
    let Weights { out, cin, size, .. } = *weights;
    let config = Conv2dConfig { stride, padding: size / 2, ..Default::default() };
    let bias = match &weights.bias {
        Some(key) => Some(vb.get(out, key)?),
        None => None,
    };
    Ok(Conv2d::new(vb.get((out, cin, size, size), &weights.kernel)?, bias, config))
}

/// A subtraction unit before its convolution. The sums over channels reach thousands and stay in f32 at any precision.
fn difference(a: &Tensor, b: &Tensor, boxes: &[&BoxNorm]) -> Result<Tensor> {
    let plain = (a - b)?.abs()?;
    if boxes.is_empty() {
        return Ok(plain);
    }
    let sum = |z: &Tensor| z.to_dtype(DType::F32)?.sum_keepdim(1);
    let (sa, sb) = (sum(a)?, sum(b)?);
    let mut total = plain.to_dtype(DType::F32)?;
    for scale in boxes {
        total = (total + (scale.forward(&sa)? - scale.forward(&sb)?)?.abs()?)?;
    }
    total.to_dtype(b.dtype())
}

fn found<'a, T>(map: &'a HashMap<String, T>, key: &str) -> Result<&'a T> {
    map.get(key).ok_or_else(|| candle_core::Error::Msg(format!("{key}: no such parameter was loaded")))
}

fn missing(program: &Program, value: Value) -> candle_core::Error {
    candle_core::Error::Msg(format!("{}: read before it was written", program.fact(value).name))
}
