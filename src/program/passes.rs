//! Fusions: functions from program to program that leave what is computed as it is.
//!
//! In: a program as published. Out: the same network in fewer, larger operations that engines have kernels for. Values
//! keep their numbers and names through every pass, so that an engine's maps can be compared with the published ones by
//! name.
//!
//! Each pass looks for one pattern and rewrites it where it is safe: where what disappears has no other reader.

use super::{Fact, Form, FusedConv, Node, Op, Out, Program, Source, Terms, Value};

/// A named step from the published to the fused form.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// What tests and messages call it.
    pub name: &'static str,
    /// Rewrites a program in place.
    pub run: fn(&mut Program),
}

/// All passes in the order in which they run.
pub const PASSES: [Pass; 8] = [
    Pass { name: "identity_resizes", run: identity_resizes },
    Pass { name: "norms", run: norms },
    Pass { name: "residuals", run: residuals },
    Pass { name: "relus", run: relus },
    Pass { name: "resizes", run: resizes },
    Pass { name: "split_outputs", run: split_outputs },
    Pass { name: "addends", run: addends },
    Pass { name: "planar_output", run: planar_output },
];

/// The fused form that engines lower.
pub fn fuse(mut program: Program) -> Program {
    for pass in PASSES {
        (pass.run)(&mut program);
        debug_assert!(program.is_well_formed(), "after {}", pass.name);
    }
    program
}

/// The program while nodes are taken out of it and put in.
struct Rewrite<'a> {
    program: &'a mut Program,
    nodes: Vec<Option<Node>>,
    writers: Vec<Option<usize>>,
    readers: Vec<Vec<usize>>,
}

impl<'a> Rewrite<'a> {
    fn new(program: &'a mut Program) -> Self {
        let (writers, readers) = (program.writers(), program.readers());
        let nodes = std::mem::take(&mut program.nodes).into_iter().map(Some).collect();
        Self { program, nodes, writers, readers }
    }

    fn len(&self) -> usize {
        self.nodes.len()
    }

    fn op(&self, at: usize) -> Option<&Op> {
        self.nodes[at].as_ref().map(|n| &n.op)
    }

    /// How often a value is read, the caller of the program's output included.
    fn uses(&self, value: Value) -> usize {
        self.readers[value.index()].len() + usize::from(value == self.program.output)
    }

    /// The fused convolution whose whole result is this value, and where it stands.
    fn conv_of(&self, value: Value) -> Option<(usize, &FusedConv)> {
        let at = self.writers[value.index()]?;
        match self.op(at)? {
            Op::Fused(conv) if conv.outs.len() == 1 && conv.outs[0].to == value => Some((at, conv)),
            _ => None,
        }
    }

    /// Takes a node out; it no longer reads or writes anything.
    fn take(&mut self, at: usize) -> Option<Node> {
        let node = self.nodes[at].take()?;
        for v in node.op.reads() {
            self.readers[v.index()].retain(|&r| r != at);
        }
        for v in node.op.writes() {
            self.writers[v.index()] = None;
        }
        Some(node)
    }

    /// Puts a node into an empty place.
    fn put(&mut self, at: usize, node: Node) {
        for v in node.op.reads() {
            self.readers[v.index()].push(at);
        }
        for v in node.op.writes() {
            self.writers[v.index()] = Some(at);
        }
        self.nodes[at] = Some(node);
    }

    /// Changes a node in its place.
    fn change(&mut self, at: usize, change: impl FnOnce(&mut Op)) {
        if let Some(mut node) = self.take(at) {
            change(&mut node.op);
            self.put(at, node);
        }
    }
}

impl Drop for Rewrite<'_> {
    fn drop(&mut self) {
        self.program.nodes = std::mem::take(&mut self.nodes).into_iter().flatten().collect();
    }
}

/// A resize to the same size is no work: its readers read its source.
fn identity_resizes(program: &mut Program) {
    let mut r = Rewrite::new(program);
    for at in 0..r.len() {
        let Some(&Op::Resize { of, to }) = r.op(at) else { continue };
        if r.program.fact(of).size() != r.program.fact(to).size() || to == r.program.output {
            continue;
        }
        r.take(at);
        for reader in r.readers[to.index()].clone() {
            r.change(reader, |op| op.redirect(to, of));
        }
    }
}

/// A convolution becomes a fused one and takes the batch-norm behind it along.
fn norms(program: &mut Program) {
    let mut r = Rewrite::new(program);
    for at in 0..r.len() {
        let Some(Op::Conv { of, stride, weights, to }) = r.op(at) else { continue };
        let (of, stride, mut weights, mut to) = (*of, *stride, weights.clone(), *to);
        if let ([reader], 1) = (r.readers[to.index()].as_slice(), r.uses(to))
            && let Some(Op::Norm { at: norm, to: behind, .. }) = r.op(*reader)
        {
            weights.norm = Some(norm.clone());
            let (reader, behind) = (*reader, *behind);
            r.take(reader);
            to = behind;
        }
        let out = Out { channels: 0..weights.out, to };
        r.change(at, |op| {
            *op = Op::Fused(FusedConv {
                sources: vec![Source { of, stride, weights }],
                residual: None,
                relu: false,
                outs: vec![out],
                also: None,
                sum: None,
            });
        });
    }
}

/// An addition before the ReLU: of two convolutions, which become one over two sources, or of one and some other value.
fn residuals(program: &mut Program) {
    let mut r = Rewrite::new(program);
    for at in 0..r.len() {
        let Some(&Op::Add { a, b, to }) = r.op(at) else { continue };
        let linear = |value: Value| {
            r.conv_of(value)
                .filter(|(_, c)| !c.relu && c.residual.is_none() && r.uses(value) == 1)
                .map(|(at, c)| (at, c.clone()))
        };
        let (mut conv, taken) = match (linear(a), linear(b)) {
            (Some((i, mut first)), Some((j, second)))
                if a != b && first.sources.len() + second.sources.len() <= 2 =>
            {
                first.sources.extend(second.sources);
                (first, vec![i, j])
            }
            (Some((i, mut conv)), _) if a != b => {
                conv.residual = Some(b);
                (conv, vec![i])
            }
            (None, Some((i, mut conv))) => {
                conv.residual = Some(a);
                (conv, vec![i])
            }
            _ => continue,
        };
        for i in taken {
            r.take(i);
        }
        conv.outs[0].to = to;
        r.change(at, |op| *op = Op::Fused(conv));
    }
}

/// A ReLU behind a convolution.
fn relus(program: &mut Program) {
    let mut r = Rewrite::new(program);
    for at in 0..r.len() {
        let Some(&Op::Relu { of, to }) = r.op(at) else { continue };
        let Some((conv, _)) = r.conv_of(of).filter(|(_, c)| !c.relu && r.uses(of) == 1) else { continue };
        r.take(at);
        r.change(conv, |op| {
            if let Op::Fused(conv) = op {
                conv.relu = true;
                conv.outs[0].to = to;
            }
        });
    }
}

/// A resize into its only reader, an addition or a subtraction unit; and what a unit's multi-scale terms need beside
/// the maps: the sum over the channels of each operand, taken where the operand is written. Sum and resize commute, so
/// that it is taken at the operand's own size.
fn resizes(program: &mut Program) {
    let mut r = Rewrite::new(program);
    for at in 0..r.len() {
        let resized = |r: &Rewrite, value: Value| {
            let at = r.writers[value.index()]?;
            match r.op(at) {
                Some(Op::Resize { of, .. }) if r.uses(value) == 1 => Some((at, *of)),
                _ => None,
            }
        };
        match r.op(at) {
            Some(&Op::Add { a, b, to }) => {
                let (resize, coarse, fine) = match (resized(&r, a), resized(&r, b)) {
                    (Some((i, coarse)), _) => (i, coarse, b),
                    (None, Some((i, coarse))) => (i, coarse, a),
                    (None, None) => continue,
                };
                r.take(resize);
                r.change(at, |op| *op = Op::ResizeAdd { coarse, fine, to });
            }
            Some(Op::Difference { a, b, norms, to }) => {
                let (mut a, b, norms, to) = (*a, *b, norms.clone(), *to);
                if let Some((resize, coarse)) = resized(&r, a) {
                    r.take(resize);
                    a = coarse;
                }
                let terms = norms.map(|norms| Terms { norms, sums: [a, b].map(|v| channel_sum(&mut r, v)) });
                r.change(at, |op| *op = Op::Subtract { a, b, terms, to });
            }
            _ => {}
        }
    }
}

/// The plane with a value's channel sum: the one there is, or a new one, written by the value's own writer.
fn channel_sum(r: &mut Rewrite, of: Value) -> Value {
    let writer = r.writers[of.index()];
    let there = writer.and_then(|at| match r.op(at) {
        Some(Op::Fused(FusedConv { sum, .. }) | Op::Pool { sum, .. }) => *sum,
        _ => None,
    });
    if let Some(sum) = there {
        return sum;
    }
    let fact = r.program.fact(of);
    let plane = Fact { name: format!("{}.sum", fact.name), channels: 1, form: Form::Planes, ..fact.clone() };
    let plane = r.program.add_fact(plane);
    r.writers.push(None);
    r.readers.push(Vec::new());
    if let Some(at) = writer {
        r.change(at, |op| {
            if let Op::Fused(FusedConv { sum, .. }) | Op::Pool { sum, .. } = op {
                *sum = Some(plane);
            }
        });
    }
    plane
}

/// A convolution whose result is only read in slices writes the slices.
fn split_outputs(program: &mut Program) {
    let mut r = Rewrite::new(program);
    for at in 0..r.len() {
        let Some(Op::Fused(conv)) = r.op(at) else { continue };
        let [out] = conv.outs.as_slice() else { continue };
        let readers = r.readers[out.to.index()].clone();
        if conv.also.is_some() || out.to == r.program.output || readers.is_empty() {
            continue;
        }
        let slices: Option<Vec<Out>> = readers
            .iter()
            .map(|&reader| match r.op(reader) {
                Some(&Op::Slice { from, to, .. }) => {
                    Some(Out { channels: from..from + r.program.fact(to).channels, to })
                }
                _ => None,
            })
            .collect();
        let Some(mut slices) = slices else { continue };
        slices.sort_by_key(|s| s.channels.start);
        if slices.windows(2).any(|w| w[0].channels.end != w[1].channels.start) {
            continue;
        }
        for reader in readers {
            r.take(reader);
        }
        r.change(at, |op| {
            if let Op::Fused(conv) = op {
                conv.outs = slices;
            }
        });
    }
}

/// An addition behind a finished convolution: the convolution writes the sum besides its result, or instead of it.
fn addends(program: &mut Program) {
    let mut r = Rewrite::new(program);
    for at in 0..r.len() {
        let Some(&Op::Add { a, b, to }) = r.op(at) else { continue };
        let free =
            |value: Value, r: &Rewrite| r.conv_of(value).filter(|(_, c)| c.also.is_none()).map(|(at, _)| at);
        // The later of the two can read the other one.
        let place = |value: Value, r: &Rewrite| r.writers[value.index()];
        let (result, addend) = if place(a, &r) > place(b, &r) { (a, b) } else { (b, a) };
        let Some(conv) = free(result, &r).filter(|_| a != b) else { continue };
        r.take(at);
        let unread = r.uses(result) == 0;
        r.change(conv, |op| {
            if let Op::Fused(conv) = op {
                conv.also = Some((addend, to));
                if unread {
                    conv.outs.clear();
                }
            }
        });
    }
}

/// The last convolution writes planes of f32, and the last resize is the caller's.
fn planar_output(program: &mut Program) {
    let mut r = Rewrite::new(program);
    let output = r.program.output;
    let Some(at) = r.writers[output.index()] else { return };
    let Some(&Op::Resize { of, to }) = r.op(at) else { return };
    let Some((last, conv)) = r.conv_of(of) else { return };
    let plain = !conv.relu && conv.residual.is_none() && conv.also.is_none() && conv.sum.is_none();
    let [source] = conv.sources.as_slice() else { return };
    if !plain || source.stride != 1 || r.uses(of) != 1 {
        return;
    }
    let (from, weights) = (source.of, source.weights.clone());
    for value in [of, to] {
        r.program.facts[value.index()].form = Form::Planes;
    }
    r.change(last, |op| *op = Op::Logits { of: from, weights, to: of });
    r.change(at, |op| *op = Op::Enlarge { of, to });
}
