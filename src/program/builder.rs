//! Writing a network down, operation by operation.
//!
//! In: calls in the order of the published code, names being the checkpoint's module paths. Out: a [`Program`].

use super::{Fact, Form, Node, Op, Pool, Program, Rounding, Value, Weights};

/// A program under construction. Sizes follow from the operations.
#[derive(Debug)]
pub struct Builder {
    facts: Vec<Fact>,
    nodes: Vec<Node>,
    part: &'static str,
    rounding: Rounding,
}

impl Default for Builder {
    fn default() -> Self {
        Self { facts: Vec::new(), nodes: Vec::new(), part: "", rounding: Rounding::Sensitive }
    }
}

impl Builder {
    /// What follows belongs to this part of the network.
    pub fn part(&mut self, part: &'static str, rounding: Rounding) {
        self.part = part;
        self.rounding = rounding;
    }

    /// What is known of a value that was made before.
    pub fn fact(&self, value: Value) -> &Fact {
        &self.facts[value.index()]
    }

    fn value(&mut self, name: impl Into<String>, channels: usize, (height, width): (usize, usize)) -> Value {
        self.facts.push(Fact { name: name.into(), channels, height, width, form: Form::Map });
        Value(self.facts.len() as u32 - 1)
    }

    /// A value like another one.
    fn like(&mut self, name: impl Into<String>, value: Value) -> Value {
        let (channels, size) = (self.fact(value).channels, self.fact(value).size());
        self.value(name, channels, size)
    }

    fn push(&mut self, op: Op) {
        self.nodes.push(Node { part: self.part, rounding: self.rounding, op });
    }

    /// The picture: three channels.
    pub fn input(&mut self, height: usize, width: usize) -> Value {
        let to = self.value("input", 3, (height, width));
        self.push(Op::Input { to });
        to
    }

    /// Names a value after the module whose output it is, where that is not the operation's own.
    pub fn rename(&mut self, value: Value, name: &str) {
        name.clone_into(&mut self.facts[value.index()].name);
    }

    /// A convolution with "same" padding, module `at`: key `AT.weight`, with `bias` also `AT.bias`.
    pub fn conv(&mut self, of: Value, at: &str, out: usize, size: usize, stride: usize, bias: bool) -> Value {
        let from = self.fact(of);
        let (cin, (height, width)) = (from.channels, from.size());
        let weights = Weights {
            kernel: format!("{at}.weight"),
            bias: bias.then(|| format!("{at}.bias")),
            norm: None,
            out,
            cin,
            size,
        };
        let to = self.value(at, out, (height.div_ceil(stride), width.div_ceil(stride)));
        self.push(Op::Conv { of, stride, weights, to });
        to
    }

    /// Batch-norm, module `at`.
    pub fn norm(&mut self, of: Value, at: &str) -> Value {
        let to = self.like(at, of);
        self.push(Op::Norm { of, at: at.to_owned(), to });
        to
    }

    /// `max(0, of)`.
    pub fn relu(&mut self, of: Value, name: impl Into<String>) -> Value {
        let to = self.like(name, of);
        self.push(Op::Relu { of, to });
        to
    }

    /// `a + b`, of one size and as many channels each.
    pub fn add(&mut self, a: Value, b: Value, name: impl Into<String>) -> Value {
        debug_assert_eq!(self.fact(a).size(), self.fact(b).size());
        let to = self.like(name, a);
        self.push(Op::Add { a, b, to });
        to
    }

    /// Channels `from .. from + channels`.
    pub fn slice(&mut self, of: Value, from: usize, channels: usize, name: impl Into<String>) -> Value {
        let size = self.fact(of).size();
        let to = self.value(name, channels, size);
        self.push(Op::Slice { of, from, to });
        to
    }

    /// All channels behind one another; `of` is not empty.
    pub fn concat(&mut self, of: &[Value], name: impl Into<String>) -> Value {
        let channels = of.iter().map(|v| self.fact(*v).channels).sum();
        let size = of.first().map_or((0, 0), |v| self.fact(*v).size());
        let to = self.value(name, channels, size);
        self.push(Op::Concat { of: of.to_vec(), to });
        to
    }

    /// Maximum or average over a window; rows and columns become fewer by its stride, rounded up.
    pub fn pool(&mut self, of: Value, kind: Pool, name: impl Into<String>) -> Value {
        let stride = match kind {
            Pool::Max3 | Pool::Average2 => 2,
            Pool::Average3 { stride } => stride,
        };
        let from = self.fact(of);
        let (channels, height, width) =
            (from.channels, from.height.div_ceil(stride), from.width.div_ceil(stride));
        let to = self.value(name, channels, (height, width));
        self.push(Op::Pool { of, kind, to, sum: None });
        to
    }

    /// Bilinear, `align_corners=False`, to `(rows, columns)`.
    pub fn resize(&mut self, of: Value, size: (usize, usize), name: impl Into<String>) -> Value {
        let channels = self.fact(of).channels;
        let to = self.value(name, channels, size);
        self.push(Op::Resize { of, to });
        to
    }

    /// A subtraction unit before its convolution; `norms` are the modules of the batch-norms of its multi-scale terms.
    pub fn difference(
        &mut self,
        a: Value,
        b: Value,
        norms: Option<[&str; 2]>,
        name: impl Into<String>,
    ) -> Value {
        debug_assert_eq!(self.fact(a).size(), self.fact(b).size());
        let to = self.like(name, b);
        self.push(Op::Difference { a, b, norms: norms.map(|n| n.map(str::to_owned)), to });
        to
    }

    /// Ends the program; `output` is the value its caller gets.
    pub fn finish(self, output: Value) -> Program {
        let program = Program { facts: self.facts, nodes: self.nodes, output };
        debug_assert!(program.is_well_formed());
        program
    }
}
