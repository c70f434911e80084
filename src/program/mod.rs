//! A network as data: which operations, over which values, with which parameters of the checkpoint.
//!
//! In: what a network's builder says (`model::network`), operation by operation, as published. Out: a [`Program`] in
//! single assignment: every value is written by one node, and nodes stand in an order in which they may run. A program
//! holds no pointer, no layout, no number format and no device.
//!
//! Data flow: builder → program as published → [`passes`] fuse operations, each a function from program to program →
//! [`schedule`] computes waves and lifetimes → an engine lowers the result to its own kernels. candle runs the
//! published form (`model::M2SNet`), [`interpret`] runs every form in f64 and is what passes and engines are tested
//! against.

mod builder;
pub mod interpret;
pub mod passes;
pub mod schedule;
mod text;

pub use builder::Builder;
pub use passes::{Pass, fuse};
pub use schedule::{Placement, Schedule, Storage};
pub use text::stages;

use std::ops::Range;

/// Number of a value in its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(u32);

impl Value {
    /// Its place in [`Program::facts`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// How a value is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// An activation map in the engine's storage type.
    Map,
    /// Planes of f32 at any precision: channel sums (which reach thousands) and logits.
    Planes,
}

/// What is known of a value before anything runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The published module whose output it is, as its parameters' keys name it, or what it is derived from.
    pub name: String,
    /// Planes of the value; of logits, classes.
    pub channels: usize,
    /// Pixels.
    pub height: usize,
    /// Pixels.
    pub width: usize,
    /// Whether it is a map or planes of f32.
    pub form: Form,
}

impl Fact {
    /// Height and width.
    pub const fn size(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    /// Numbers in all channels.
    pub const fn len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Whether one of its dimensions is 0.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How much an operation's rounding shows in the mask, which decides the algorithms that low precisions may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Errors made here are amplified by all that follows: the stem. Where storage is integers, its convolutions stay
    /// in f32.
    Delicate,
    /// Errors made here are amplified by what follows: the backbone.
    Sensitive,
    /// Errors made here hardly show: the decoder.
    Forgiving,
}

/// A convolution's parameters by the checkpoint's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Key of the kernel `[out, cin, size, size]`.
    pub kernel: String,
    /// Key of the bias `[out]`.
    pub bias: Option<String>,
    /// Module of the batch-norm behind it; its keys are `NORM.weight`, `.bias`, `.running_mean` and `.running_var`.
    pub norm: Option<String>,
    /// Output channels.
    pub out: usize,
    /// Input channels.
    pub cin: usize,
    /// Rows and columns of the kernel, odd; the padding is `size / 2` zeros.
    pub size: usize,
}

/// A pool's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Maximum of 3x3, stride 2, padding 1 (left out).
    Max3,
    /// Average of 3x3, padding 1 of zeros, counted.
    Average3 {
        /// 1 or 2.
        stride: usize,
    },
    /// Average of 2x2, stride 2; sizes are even.
    Average2,
}

/// One summand of a fused convolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The map that is convolved.
    pub of: Value,
    /// Pixels from one window to the next, in both directions.
    pub stride: usize,
    /// Kernel, bias and batch-norm.
    pub weights: Weights,
}

/// Where some of a fused convolution's channels go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Out {
    /// Which of the result's channels.
    pub channels: Range<usize>,
    /// The value that they become.
    pub to: Value,
}

/// One or two convolutions whose results are summed, with everything elementwise behind them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FusedConv {
    /// What is convolved and summed: one, or two of the same output size.
    pub sources: Vec<Source>,
    /// Added before the ReLU.
    pub residual: Option<Value>,
    /// Whether negative values of the sum become 0.
    pub relu: bool,
    /// The result, whole or in pieces; empty where only `also` is read.
    pub outs: Vec<Out>,
    /// (addend, destination): `destination = addend + result`.
    pub also: Option<(Value, Value)>,
    /// One plane: the sum over the result's channels.
    pub sum: Option<Value>,
}

/// What a subtraction unit with multi-scale terms needs beside its operands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Modules of the batch-norms behind the 3x3 and the 5x5 sum.
    pub norms: [String; 2],
    /// Channel sums of the two operands.
    pub sums: [Value; 2],
}

/// One operation. The second group is made by [`passes`] only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The caller's picture, normalised R, G, B.
    Input {
        /// The value that holds it.
        to: Value,
    },
    /// A convolution with "same" padding.
    Conv {
        /// The map that is convolved.
        of: Value,
        /// Pixels from one window to the next, in both directions.
        stride: usize,
        /// Kernel, and bias where it has one; its `norm` is `None` until a pass fuses both into [`Op::Fused`].
        weights: Weights,
        /// The result.
        to: Value,
    },
    /// Batch-norm with its running statistics; `at` is its module.
    Norm {
        /// The map that is normalised.
        of: Value,
        /// Module whose keys are `AT.weight`, `.bias`, `.running_mean` and `.running_var`.
        at: String,
        /// The result.
        to: Value,
    },
    /// `max(0, of)`.
    Relu {
        /// The map that is cut at 0.
        of: Value,
        /// The result.
        to: Value,
    },
    /// `a + b`, number by number.
    Add {
        /// One summand.
        a: Value,
        /// The other, of the same shape.
        b: Value,
        /// The result.
        to: Value,
    },
    /// Channels from `from` on, as many as `to` has.
    Slice {
        /// The map that channels are taken from.
        of: Value,
        /// First channel that is taken.
        from: usize,
        /// The result.
        to: Value,
    },
    /// All channels of several maps behind one another.
    Concat {
        /// The maps, of one size, in the order of their channels.
        of: Vec<Value>,
        /// The result.
        to: Value,
    },
    /// `sum`, which a pass adds, is a plane with the sum over the channels.
    Pool {
        /// The map that the window moves over.
        of: Value,
        /// What is made of a window, and its stride.
        kind: Pool,
        /// The result.
        to: Value,
        /// The plane of sums, where somebody reads it.
        sum: Option<Value>,
    },
    /// Bilinear, `align_corners=False`, to the size of `to`.
    Resize {
        /// The map that is resized.
        of: Value,
        /// The result.
        to: Value,
    },
    /// A subtraction unit before its convolution: `|a − b|`, and with `norms` `+ Σ |g_k(a) − g_k(b)|` for k = 3 and 5,
    /// where `g_k(z) = ReLU(norm_k(conv_k(z)))` and all weights of `conv_k` are one.
    Difference {
        /// One operand.
        a: Value,
        /// The other, of the same shape.
        b: Value,
        /// Modules of the batch-norms behind the 3x3 and the 5x5 sum; `None` for MSNet, which has no such terms.
        norms: Option<[String; 2]>,
        /// The result.
        to: Value,
    },

    /// Convolutions with everything elementwise behind them.
    Fused(FusedConv),
    /// [`Op::Difference`] of `a`, resized to the size of `b`, and `b`.
    Subtract {
        /// The operand that is resized.
        a: Value,
        /// The operand whose size the result has.
        b: Value,
        /// What the multi-scale terms need; `None` where the unit has none.
        terms: Option<Terms>,
        /// The result.
        to: Value,
    },
    /// `resize(coarse) + fine`.
    ResizeAdd {
        /// The map that is resized.
        coarse: Value,
        /// The map whose size the result has.
        fine: Value,
        /// The result.
        to: Value,
    },
    /// The last convolution, straight into f32 planes.
    Logits {
        /// The map that is convolved.
        of: Value,
        /// Its kernel and bias.
        weights: Weights,
        /// The planes, smaller than the input.
        to: Value,
    },
    /// Those planes resized to the input's size, for the caller.
    Enlarge {
        /// The planes of [`Op::Logits`].
        of: Value,
        /// The logits at the input's size.
        to: Value,
    },
}

/// References to everything an operation reads, shared with `iter` and mutable with `iter_mut`.
macro_rules! operands {
    ($op:expr, $iter:ident) => {
        match $op {
            Op::Input { .. } => vec![],
            Op::Conv { of, .. }
            | Op::Norm { of, .. }
            | Op::Relu { of, .. }
            | Op::Slice { of, .. }
            | Op::Pool { of, .. }
            | Op::Resize { of, .. }
            | Op::Logits { of, .. }
            | Op::Enlarge { of, .. } => vec![of],
            Op::Add { a, b, .. } | Op::Difference { a, b, .. } => vec![a, b],
            Op::Concat { of, .. } => of.$iter().collect(),
            Op::Fused(FusedConv { sources, residual, also, .. }) => {
                let mut list: Vec<_> = sources.$iter().map(|Source { of, .. }| of).collect();
                list.extend(residual.$iter());
                list.extend(also.$iter().map(|(add, _)| add));
                list
            }
            Op::Subtract { a, b, terms, .. } => {
                let mut list = vec![a, b];
                list.extend(terms.$iter().flat_map(|Terms { sums, .. }| sums.$iter()));
                list
            }
            Op::ResizeAdd { coarse, fine, .. } => vec![coarse, fine],
        }
    };
}

impl Op {
    /// Values it reads, each once.
    pub fn reads(&self) -> Vec<Value> {
        let mut list: Vec<Value> = operands!(self, iter).into_iter().copied().collect();
        list.sort_unstable();
        list.dedup();
        list
    }

    /// Values it writes.
    pub fn writes(&self) -> Vec<Value> {
        match self {
            Op::Input { to }
            | Op::Conv { to, .. }
            | Op::Norm { to, .. }
            | Op::Relu { to, .. }
            | Op::Add { to, .. }
            | Op::Slice { to, .. }
            | Op::Concat { to, .. }
            | Op::Resize { to, .. }
            | Op::Difference { to, .. }
            | Op::Subtract { to, .. }
            | Op::ResizeAdd { to, .. }
            | Op::Logits { to, .. }
            | Op::Enlarge { to, .. } => vec![*to],
            Op::Pool { to, sum, .. } => [*to].into_iter().chain(*sum).collect(),
            Op::Fused(conv) => {
                let mut list: Vec<Value> = conv.outs.iter().map(|o| o.to).collect();
                list.extend(conv.also.map(|(_, to)| to));
                list.extend(conv.sum);
                list
            }
        }
    }

    /// Reads `new` wherever it read `old`.
    fn redirect(&mut self, old: Value, new: Value) {
        operands!(self, iter_mut).into_iter().filter(|v| **v == old).for_each(|v| *v = new);
    }
}

/// An operation in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Part of the network, for reports. A part's nodes are scheduled before the next part's.
    pub part: &'static str,
    /// Which algorithms a low precision may use here.
    pub rounding: Rounding,
    /// What is read, computed and written.
    pub op: Op,
}

/// A network for one input size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    facts: Vec<Fact>,
    nodes: Vec<Node>,
    output: Value,
}

impl Program {
    /// Of every value that was ever named, also of those no node of this form writes any more.
    pub fn facts(&self) -> &[Fact] {
        &self.facts
    }

    /// What is known of one value.
    pub fn fact(&self, value: Value) -> &Fact {
        &self.facts[value.index()]
    }

    /// Every value, in the order of [`Self::facts`].
    pub fn values(&self) -> impl Iterator<Item = Value> + use<> {
        (0..self.facts.len() as u32).map(Value)
    }

    /// In an order in which they may run.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The same with another [`Rounding`] everywhere.
    #[cfg(test)]
    pub(crate) fn with_rounding(mut self, rounding: Rounding) -> Self {
        self.nodes.iter_mut().for_each(|node| node.rounding = rounding);
        self
    }

    /// The logits, `[classes, height, width]`.
    pub const fn output(&self) -> Value {
        self.output
    }

    /// For every value the nodes that read it. The program's output has one reader more than this says: the caller.
    pub fn readers(&self) -> Vec<Vec<usize>> {
        let mut readers = vec![Vec::new(); self.facts.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            for value in node.op.reads() {
                readers[value.index()].push(i);
            }
        }
        readers
    }

    /// For every value the node that writes it.
    pub fn writers(&self) -> Vec<Option<usize>> {
        let mut writers = vec![None; self.facts.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            for value in node.op.writes() {
                writers[value.index()] = Some(i);
            }
        }
        writers
    }

    /// Every convolution's parameters, in order.
    pub fn weights(&self) -> impl Iterator<Item = &Weights> {
        self.nodes.iter().flat_map(|n| match &n.op {
            Op::Conv { weights, .. } | Op::Logits { weights, .. } => vec![weights],
            Op::Fused(conv) => conv.sources.iter().map(|s| &s.weights).collect(),
            _ => vec![],
        })
    }

    /// Multiply-accumulates that the mathematics asks for.
    pub fn macs(&self) -> u64 {
        let of = |w: &Weights, to: &Fact| (w.out * w.cin * w.size * w.size * to.height * to.width) as u64;
        self.nodes
            .iter()
            .map(|n| match &n.op {
                Op::Conv { weights, to, .. } | Op::Logits { weights, to, .. } => of(weights, self.fact(*to)),
                Op::Fused(conv) => match n.op.writes().first() {
                    Some(to) => conv.sources.iter().map(|s| of(&s.weights, self.fact(*to))).sum(),
                    None => 0,
                },
                _ => 0,
            })
            .sum()
    }

    fn add_fact(&mut self, fact: Fact) -> Value {
        self.facts.push(fact);
        Value(self.facts.len() as u32 - 1)
    }

    /// Whether every value is written once, before it is read, and the output is written. Passes are tested with it.
    pub fn is_well_formed(&self) -> bool {
        let mut written = vec![false; self.facts.len()];
        for node in &self.nodes {
            if node.op.reads().iter().any(|v| !written[v.index()]) {
                return false;
            }
            for value in node.op.writes() {
                if std::mem::replace(&mut written[value.index()], true) {
                    return false;
                }
            }
        }
        written[self.output.index()]
    }
}
