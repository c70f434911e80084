//! When each operation runs and how long each value lives.
//!
//! In: a fused program. Out: waves of nodes that do not depend on one another, and the storages their values lie in:
//! which values share one (pieces of a concatenation, sums written over an operand) and from which wave to which it is
//! needed. An engine gives storages whose lifetimes do not overlap the same memory as far as its layout allows.
//!
//! A node runs in the first wave in which all it reads is there, but a part of the network begins after the part before
//! it has ended: reports name the parts, and an early start would gain nothing where every wave fills all threads.

use super::{Form, Op, Pool, Program, Value};
use crate::{Error, Result};

/// Where a value lies: a piece of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// In [`Schedule::storages`].
    pub storage: usize,
    /// In [`Storage::pieces`].
    pub piece: usize,
}

/// Memory for one value, or for several that lie channel behind channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Channels of each piece.
    pub pieces: Vec<usize>,
    /// Rows of a channel, in pixels.
    pub height: usize,
    /// Columns of a channel, in pixels.
    pub width: usize,
    /// What its numbers are: maps, or planes of f32.
    pub form: Form,
    /// First wave that writes it and last wave that reads or writes it.
    pub waves: (usize, usize),
    /// Whether some reader looks beyond the map's edge and wants zeros there.
    pub border: bool,
    /// Whether it holds the program's input, which is written before the first wave.
    pub input: bool,
}

impl Storage {
    /// Channels of all pieces.
    pub fn channels(&self) -> usize {
        self.pieces.iter().sum()
    }

    /// Channels before a piece.
    pub fn before(&self, piece: usize) -> usize {
        self.pieces[..piece].iter().sum()
    }
}

/// What an engine wants of a schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Pieces of one convolution's result lie in one storage, unless they belong to a concatenation.
    pub pieces_together: bool,
}

/// Waves and storages of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Nodes of each wave by their place in the program; concatenations, which are no work, are in none.
    pub waves: Vec<Vec<usize>>,
    /// Every memory that values of the program lie in.
    pub storages: Vec<Storage>,
    placements: Vec<Option<Placement>>,
}

impl Schedule {
    /// # Errors
    /// An operation that no engine has a kernel for (a pass did not find its pattern), a concatenation of something
    /// that cannot be written there: a network written down in a way that is not foreseen.
    pub fn new(program: &Program, wishes: Wishes) -> Result<Self> {
        let (waves, written) = waves(program)?;
        let readers = program.readers();
        let mut wave_of = vec![0; program.nodes().len()];
        for (wave, nodes) in waves.iter().enumerate() {
            for &node in nodes {
                wave_of[node] = wave;
            }
        }
        let mut space = Space {
            program,
            readers: &readers,
            wave_of: &wave_of,
            storages: Vec::new(),
            placements: vec![None; program.facts().len()],
        };
        space.concatenations()?;
        for nodes in &waves {
            for &node in nodes {
                space.node(node, wishes);
            }
        }
        let Space { mut storages, placements, .. } = space;
        for (index, placement) in placements.iter().enumerate() {
            let Some(placement) = placement else { continue };
            let storage = &mut storages[placement.storage];
            let last = readers[index]
                .iter()
                .filter(|&&r| !matches!(program.nodes()[r].op, Op::Concat { .. }))
                .map(|&r| wave_of[r])
                .fold(written[index], usize::max);
            storage.waves = (storage.waves.0.min(written[index]), storage.waves.1.max(last));
            storage.border |=
                readers[index].iter().any(|&r| looks_beyond(&program.nodes()[r].op, Value(index as u32)));
        }
        Ok(Self { waves, storages, placements })
    }

    /// Where a value lies; `None` for one that no node of this form writes.
    pub fn placement(&self, value: Value) -> Option<Placement> {
        self.placements[value.index()]
    }

    /// As [`Self::placement`].
    ///
    /// # Errors
    /// A value that nothing writes, which a well-formed program does not have.
    pub fn place(&self, value: Value) -> Result<Placement> {
        self.placement(value)
            .ok_or_else(|| Error::internal("the engine's program reads a value that nothing writes"))
    }
}

/// Waves, and for every value the wave that writes it.
fn waves(program: &Program) -> Result<(Vec<Vec<usize>>, Vec<usize>)> {
    let mut written = vec![0; program.facts().len()];
    let mut waves: Vec<Vec<usize>> = Vec::new();
    let (mut part, mut first) = ("", 0);
    for (i, node) in program.nodes().iter().enumerate() {
        if node.part != part {
            part = node.part;
            first = waves.len();
        }
        let reads = node.op.reads();
        let ready = reads.iter().map(|v| written[v.index()]).max();
        let wave = match &node.op {
            // Written piece by piece; no work of its own.
            Op::Concat { .. } => ready.unwrap_or(0),
            Op::Input { .. } => first,
            Op::Fused(_)
            | Op::Pool { .. }
            | Op::Subtract { .. }
            | Op::ResizeAdd { .. }
            | Op::Logits { .. }
            | Op::Enlarge { .. } => ready.map_or(first, |w| (w + 1).max(first)),
            Op::Conv { .. }
            | Op::Norm { .. }
            | Op::Relu { .. }
            | Op::Add { .. }
            | Op::Slice { .. }
            | Op::Resize { .. }
            | Op::Difference { .. } => {
                let name = node.op.writes().first().map_or("", |v| program.fact(*v).name.as_str());
                return Err(Error::internal(format!(
                    "{name}: the engines have no kernel for this operation alone"
                )));
            }
        };
        for value in node.op.writes() {
            written[value.index()] = wave;
        }
        if !matches!(node.op, Op::Concat { .. }) {
            if waves.len() <= wave {
                waves.resize(wave + 1, Vec::new());
            }
            waves[wave].push(i);
        }
    }
    Ok((waves, written))
}

/// Whether an operation reads pixels around the value's edge.
fn looks_beyond(op: &Op, value: Value) -> bool {
    match op {
        Op::Fused(conv) => conv.sources.iter().any(|s| s.of == value && s.weights.size > 1),
        Op::Pool { kind: Pool::Average3 { .. }, .. } => true,
        Op::Logits { weights, .. } => weights.size > 1,
        _ => false,
    }
}

/// Storages while they are given out.
struct Space<'a> {
    program: &'a Program,
    readers: &'a [Vec<usize>],
    wave_of: &'a [usize],
    storages: Vec<Storage>,
    placements: Vec<Option<Placement>>,
}

impl Space<'_> {
    fn storage(&mut self, like: Value, pieces: Vec<usize>) -> usize {
        let fact = self.program.fact(like);
        self.storages.push(Storage {
            pieces,
            height: fact.height,
            width: fact.width,
            form: fact.form,
            waves: (usize::MAX, 0),
            border: false,
            input: false,
        });
        self.storages.len() - 1
    }

    /// Operands of a concatenation are written where they are wanted.
    fn concatenations(&mut self) -> Result<()> {
        let program = self.program;
        let writers = program.writers();
        for node in program.nodes() {
            let Op::Concat { of, to } = &node.op else { continue };
            let pieces: Vec<usize> = of.iter().map(|v| program.fact(*v).channels).collect();
            let storage = self.storage(*to, pieces);
            self.placements[to.index()] = Some(Placement { storage, piece: 0 });
            for (piece, value) in of.iter().enumerate() {
                let written = writers[value.index()].map(|w| &program.nodes()[w].op);
                let here = matches!(written, Some(Op::Fused(_) | Op::Pool { .. }));
                if !here || self.placements[value.index()].is_some() {
                    return Err(Error::internal(format!(
                        "{}: the engines cannot write this value into a concatenation",
                        program.fact(*value).name
                    )));
                }
                self.placements[value.index()] = Some(Placement { storage, piece });
            }
        }
        Ok(())
    }

    /// Places what a node writes.
    fn node(&mut self, node: usize, wishes: Wishes) {
        let program = self.program;
        let op = &program.nodes()[node].op;
        if let Op::Fused(conv) = op {
            // Over the residual or the addend where this is their last reader: a pixel is read before it is written.
            if let ([out], Some(residual)) = (conv.outs.as_slice(), conv.residual) {
                self.in_place(node, residual, out.to);
            }
            if let Some((add, to)) = conv.also {
                self.in_place(node, add, to);
            }
            if wishes.pieces_together {
                self.together(conv.outs.iter().map(|o| o.to).collect());
            }
        }
        for value in op.writes() {
            if self.placements[value.index()].is_none() {
                let storage = self.storage(value, vec![program.fact(value).channels]);
                self.storages[storage].input = matches!(op, Op::Input { .. });
                self.placements[value.index()] = Some(Placement { storage, piece: 0 });
            }
        }
    }

    fn in_place(&mut self, node: usize, over: Value, to: Value) {
        let wave = self.wave_of[node];
        let last = self.readers[over.index()].iter().all(|&r| r == node || self.wave_of[r] < wave);
        let reads = &self.program.nodes()[node].op;
        // A source is read around the pixel that is written.
        let source = matches!(reads, Op::Fused(conv) if conv.sources.iter().any(|s| s.of == over));
        let free = self.placements[to.index()].is_none() && over != self.program.output();
        let Some(placement) = self.placements[over.index()] else { return };
        // Whole values only, or pieces that nobody reads as part of something larger.
        let concatenated = self.readers[over.index()]
            .iter()
            .any(|&r| matches!(self.program.nodes()[r].op, Op::Concat { .. }));
        let taken = self.placements.iter().enumerate().any(|(v, p)| {
            *p == Some(placement)
                && v != over.index()
                && self.readers[v].iter().any(|&r| r != node && self.wave_of[r] >= wave)
        });
        if last && free && !source && !concatenated && !taken {
            self.placements[to.index()] = Some(placement);
        }
    }

    /// One storage for values that have none yet.
    fn together(&mut self, values: Vec<Value>) {
        let values: Vec<Value> =
            values.into_iter().filter(|v| self.placements[v.index()].is_none()).collect();
        if values.len() < 2 {
            return;
        }
        let pieces = values.iter().map(|v| self.program.fact(*v).channels).collect();
        let storage = self.storage(values[0], pieces);
        for (piece, value) in values.into_iter().enumerate() {
            self.placements[value.index()] = Some(Placement { storage, piece });
        }
    }
}
