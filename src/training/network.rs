//! The published network in training: its program interpreted over a tape.
//!
//! In: a checkpoint's parameters, planes `[batch, 3, rows, columns]`. Out: logits on the tape; parameters go back into
//! a checkpoint under their keys. A convolution, its norm, a sum and a ReLU behind it become one operation of the tape,
//! and so do a resize and the sum behind it; subtraction units keep their order, since they move shared running
//! statistics.

use std::collections::HashMap;

use candle_core::{Device, Tensor};

use super::parameters::{ParameterId, Parameters};
use super::real::Real;
use super::tape::{Kernel, Norm, Planes, Record, Tail, Value};
use crate::model::checkpoint::Description;
use crate::model::{Architecture, Checkpoint, Role, parameters, program};
use crate::program::{Op, Pool, Program, Value as Name};
use crate::{Error, Result};

/// Sides of the two all-ones convolutions, in the order of a unit's norms.
const SIDES: [usize; 2] = [3, 5];

/// A checkpoint's parameters, all of them trained but the running statistics.
///
/// # Errors
/// Whatever the checkpoint says of a key.
pub fn parameters_of<T: Real>(checkpoint: &Checkpoint) -> Result<Parameters<T>> {
    let mut out = Parameters::new();
    for p in parameters(checkpoint.architecture()) {
        let values = checkpoint.values(&p.key)?.into_iter().map(|v| T::of(f64::from(v))).collect();
        out.insert(&p.key, &p.shape, values, !is_running(&p.key));
    }
    Ok(out)
}

fn is_running(key: &str) -> bool {
    key.ends_with(".running_mean") || key.ends_with(".running_var")
}

/// The parameters as a checkpoint of that description.
///
/// # Errors
/// A value that is not finite, by its key.
pub fn checkpoint_of<T: Real>(description: Description, parameters: &Parameters<T>) -> Result<Checkpoint> {
    let mut tensors = HashMap::with_capacity(parameters.len());
    for (_, p) in parameters.iter() {
        let values: Vec<f32> = p.values.iter().map(|v| v.wide() as f32).collect();
        tensors.insert(p.key.clone(), Tensor::from_vec(values, p.shape.as_slice(), &Device::Cpu)?);
    }
    Checkpoint::from_tensors(description, tensors)
}

/// Parameters of a network that has learnt nothing: kernels by He et al. 2015 (normal, by the number of outputs, as the
/// published code), biases zero, norms the identity. The same seed gives the same.
pub fn fresh<T: Real>(architecture: Architecture, seed: u64) -> Parameters<T> {
    let mut random = super::random::Random::new(seed);
    let mut out = Parameters::new();
    for p in parameters(architecture) {
        let n: usize = p.shape.iter().product();
        let values = match (p.role, p.key.rsplit('.').next()) {
            (Role::Kernel, _) => {
                let deviation = (2.0 / (p.shape[0] * p.shape[2] * p.shape[3]) as f64).sqrt();
                (0..n).map(|_| T::of(deviation * random.normal())).collect()
            }
            (Role::Norm, Some("weight" | "running_var")) => vec![T::ONE; n],
            _ => vec![T::ZERO; n],
        };
        out.insert(&p.key, &p.shape, values, !is_running(&p.key));
    }
    out
}

/// One network over parameters that hold its keys.
pub struct Network {
    architecture: Architecture,
    norms: HashMap<String, Norm>,
    kernels: HashMap<String, ParameterId>,
}

impl Network {
    /// # Errors
    /// A key the network has and the parameters lack.
    pub fn new<T: Real>(architecture: Architecture, parameters: &Parameters<T>) -> Result<Self> {
        let mut out = Self { architecture, norms: HashMap::new(), kernels: HashMap::new() };
        let id = |key: String| {
            parameters.id(&key).ok_or_else(|| Error::internal(format!("{key}: no such parameter")))
        };
        for node in program(architecture, (32, 32)).nodes() {
            let mut norm = |at: &str| {
                out.norms.insert(
                    at.to_owned(),
                    Norm {
                        weight: id(format!("{at}.weight"))?,
                        bias: id(format!("{at}.bias"))?,
                        running_mean: id(format!("{at}.running_mean"))?,
                        running_var: id(format!("{at}.running_var"))?,
                    },
                );
                Ok::<_, Error>(())
            };
            match &node.op {
                Op::Norm { at, .. } => norm(at)?,
                Op::Difference { norms: Some(norms), .. } => {
                    norms.iter().try_for_each(|at| norm(at))?;
                }
                Op::Conv { weights, .. } => {
                    for key in std::iter::once(&weights.kernel).chain(&weights.bias) {
                        out.kernels.insert(key.clone(), id(key.clone())?);
                    }
                }
                _ => {}
            }
        }
        Ok(out)
    }

    /// Which of the two networks, and for how many classes.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Logits `[batch, classes, rows, columns]` of normalised planes whose sides are multiples of 32.
    pub fn forward(&self, tape: &mut impl Record, x: Value) -> Value {
        let Planes { h, w, .. } = tape.planes(x);
        assert!(h % 32 == 0 && w % 32 == 0 && h > 0 && w > 0, "an input of {w}x{h} is no multiple of 32");
        let program = program(self.architecture, (h, w));
        let mut run =
            Run { network: self, program: &program, plan: Plan::of(&program), values: HashMap::new() };
        for (i, node) in program.nodes().iter().enumerate() {
            run.node(i, &node.op, tape, x);
        }
        run.values[&program.output()]
    }
}

/// Which operations are done together with a later one.
struct Plan {
    /// By node: done by the node that reads it.
    absorbed: Vec<bool>,
    /// The node that writes a value.
    writers: HashMap<Name, usize>,
}

impl Plan {
    fn of(program: &Program) -> Self {
        let nodes = program.nodes();
        let writers: HashMap<Name, usize> = nodes
            .iter()
            .enumerate()
            .flat_map(|(i, n)| n.op.writes().into_iter().map(move |v| (v, i)))
            .collect();
        let readers = program.readers();
        let single = |v: &Name| readers[v.index()].len() == 1 && *v != program.output();
        let mut absorbed = vec![false; nodes.len()];
        for node in nodes {
            match &node.op {
                // Only a convolution has a norm behind it in these networks.
                Op::Norm { of, .. } if single(of) => absorbed[writers[of]] = true,
                Op::Relu { of, .. } if single(of) => {
                    let at = writers[of];
                    match &nodes[at].op {
                        Op::Norm { of, .. } if absorbed[writers[of]] => absorbed[at] = true,
                        Op::Add { a, .. } => {
                            let norm = writers[a];
                            if single(a)
                                && let Op::Norm { of, .. } = &nodes[norm].op
                                && absorbed[writers[of]]
                            {
                                absorbed[at] = true;
                                absorbed[norm] = true;
                            }
                        }
                        _ => {}
                    }
                }
                Op::Add { a, .. } if single(a) && matches!(nodes[writers[a]].op, Op::Resize { .. }) => {
                    absorbed[writers[a]] = true;
                }
                _ => {}
            }
        }
        Self { absorbed, writers }
    }
}

struct Run<'a> {
    network: &'a Network,
    program: &'a Program,
    plan: Plan,
    values: HashMap<Name, Value>,
}

impl Run<'_> {
    fn writer(&self, value: Name) -> &Op {
        &self.program.nodes()[self.plan.writers[&value]].op
    }

    fn node(&mut self, i: usize, op: &Op, tape: &mut impl Record, x: Value) {
        if self.plan.absorbed[i] {
            return;
        }
        let get = |v: &Name| self.values[v];
        let (to, value) = match op {
            Op::Input { to } => (to, x),
            Op::Conv { to, .. } | Op::Norm { to, .. } => (to, self.convolution(*to, None, false, tape)),
            Op::Relu { of, to } => {
                let value = match self.writer(*of) {
                    Op::Norm { .. } => self.convolution(*of, None, true, tape),
                    Op::Add { a, b, .. } => self.convolution(*a, Some(get(b)), true, tape),
                    other => unreachable!("a ReLU behind {other:?}: no published network has one"),
                };
                (to, value)
            }
            Op::Add { a, b, to } => {
                let value = match self.writer(*a) {
                    Op::Resize { of, .. } if !self.values.contains_key(a) => {
                        tape.resize(get(of), self.program.fact(*to).size(), Some(get(b)))
                    }
                    _ => tape.sum(&[get(a), get(b)]),
                };
                (to, value)
            }
            Op::Slice { of, from, to } => (to, tape.slice(get(of), *from, self.program.fact(*to).channels)),
            Op::Concat { of, to } => {
                let of: Vec<Value> = of.iter().map(get).collect();
                (to, tape.concat(&of))
            }
            Op::Pool { of, kind, to, .. } => {
                let value = match kind {
                    Pool::Max3 => tape.max3(get(of)),
                    Pool::Average3 { stride } => tape.average3(get(of), *stride),
                    Pool::Average2 => tape.average2(get(of)),
                };
                (to, value)
            }
            Op::Resize { of, to } => (to, tape.resize(get(of), self.program.fact(*to).size(), None)),
            Op::Difference { a, b, norms, to } => {
                let norms: Vec<(usize, Norm)> = (norms.iter().flatten())
                    .zip(SIDES)
                    .map(|(at, side)| (side, self.network.norms[at]))
                    .collect();
                (to, tape.subtraction(get(a), get(b), &norms))
            }
            other => unreachable!("{other:?} is made by passes, and the published form has none"),
        };
        self.values.insert(*to, value);
    }

    /// The convolution that ends in `value`, with its norm if it has one.
    fn convolution(&self, value: Name, added: Option<Value>, relu: bool, tape: &mut impl Record) -> Value {
        let (conv, norm) = match self.writer(value) {
            Op::Norm { of, at, .. } => (self.writer(*of), Some(self.network.norms[at])),
            conv => (conv, None),
        };
        let Op::Conv { of, stride, weights, .. } = conv else {
            unreachable!("a norm behind {conv:?}: no published network has one");
        };
        let kernel = Kernel {
            weight: self.network.kernels[&weights.kernel],
            bias: weights.bias.as_ref().map(|key| self.network.kernels[key]),
            stride: *stride,
        };
        tape.convolution(self.values[of], kernel, Tail { norm, added, relu })
    }
}
